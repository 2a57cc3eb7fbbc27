"""As whom this process works: root fills another user's store as that user.

What root writes by a path that somebody else may change, that user can turn elsewhere; what it writes as that user
can hurt nobody but them. The effective ids count for the whole process, all its threads, so there is one state of them
here, and :func:`as_started` and the calls that change files (:mod:`ollama_ferry.files.disk`) take turns.
"""

from __future__ import annotations

import os
import stat
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from ollama_ferry.errors import FerryError, NotPermitted

# Of a user without a name whose folder has the group of others; where that has a name, it is `nogroup`.
_NO_GROUP = 65534


@dataclass
class _Ids:
    """The process's effective ids, as far as they were changed here."""

    turn: threading.RLock = field(default_factory=threading.RLock)
    # For whom it works, and how many blocks ask for that; the ids that it began with.
    uid: int | None = None
    gid: int = 0
    groups: tuple[int, ...] = ()
    blocks: int = 0
    # How many blocks have taken the first ids back just now, one in another.
    taken_back: int = 0
    first_gid: int = 0
    first_groups: tuple[int, ...] = ()
    # What finds modules meanwhile.
    imports: object = None


_IDS = _Ids()

turn = _IDS.turn
"""Held while a path is used to change something, so that nobody else's :func:`as_started` makes root of that."""


def is_root() -> bool:
    """Return whether root runs this process, also where it works for somebody else just now."""
    return _IDS.uid is not None or (hasattr(os, "geteuid") and os.geteuid() == 0)


@contextmanager
def acting_as(uid: int, gid: int) -> Iterator[None]:
    """Work as another user while the block lasts, where root runs this process; for anybody else it does nothing.

    Blocks for the same user may lie in one another, on any threads. Who entered as root without need to change, for
    a file of root's, counts too.

    Args:
        uid: the user's number.
        gid: the group of what is written to; new files get it where the user is a member, see :func:`group_of`.

    Raises:
        NotPermitted: the system does not allow it.
        FerryError: the process works for another user just now.
    """
    if not is_root():
        yield
        return
    with turn:
        _enter(uid, gid)
    try:
        yield
    finally:
        with turn:
            _IDS.blocks -= 1
            if not _IDS.blocks:
                if _IDS.uid:
                    _take_back()
                    sys.meta_path[:] = [finder for finder in sys.meta_path if finder is not _IDS.imports]
                _IDS.uid = None


@contextmanager
def as_started() -> Iterator[None]:
    """Take back the ids that the process began with, to open what only they may read; nobody writes meanwhile."""
    if not _IDS.uid:
        yield
        return
    with turn:
        if not _IDS.uid:
            yield
            return
        if not _IDS.taken_back:
            _take_back()
        _IDS.taken_back += 1
        try:
            yield
        finally:
            _IDS.taken_back -= 1
            if not _IDS.taken_back:
                _give_up()


def group_of(uid: int, gid: int) -> int:
    """Return the group to act with for a user, in whose folder new files are to have a group.

    A folder may have root's group, or another one that its owner is no member of: who works with that group reaches
    what the owner does not.

    Args:
        uid: the user's number.
        gid: the folder's group.

    Returns:
        The folder's group, where the user is a member; else the user's first one. Who has no name here is known to be
        a member of none that has one: the folder's group is taken only where that has no name either.
    """
    import grp
    import pwd

    try:
        user = pwd.getpwuid(uid)
    except KeyError:
        with suppress(KeyError):
            gid = grp.getgrgid(gid) and _NO_GROUP
        return gid or _NO_GROUP
    return gid if gid in os.getgrouplist(user.pw_name, user.pw_gid) else user.pw_gid


def may_read(uid: int, found: os.stat_result) -> bool:
    """Return whether a user may read a file of this status, or may give themselves the right to."""
    if uid in (0, found.st_uid):
        return True
    in_group = found.st_gid in _groups_of(uid, -1)
    return bool(found.st_mode & (stat.S_IRGRP if in_group else stat.S_IROTH))


def _groups_of(uid: int, gid: int) -> tuple[int, ...]:
    """Return the numbers of all groups of a user; of one without a name, the one group given."""
    import pwd

    try:
        user = pwd.getpwuid(uid)
    except KeyError:
        return (gid,)
    return tuple({gid, *os.getgrouplist(user.pw_name, user.pw_gid)})


def _enter(uid: int, gid: int) -> None:
    if _IDS.blocks:
        if _IDS.uid != uid:
            raise FerryError(
                f"what belongs to user {uid} can't be written while something of user {_IDS.uid} is",
                hint="Do one after the other.",
            )
        _IDS.blocks += 1
        return
    if uid:
        from ollama_ferry.files.late_imports import LateImports

        _IDS.first_gid, _IDS.first_groups = os.getegid(), tuple(os.getgroups())
        _IDS.gid = group_of(uid, gid)
        _IDS.groups = _groups_of(uid, _IDS.gid)
    _IDS.uid = uid
    try:
        if uid:
            _give_up()
    except OSError as error:
        _take_back()
        _IDS.uid = None
        raise NotPermitted(
            f"root may not act as user {uid} here, to whom this belongs: {error.strerror}",
            hint=f"Run this as that user: sudo -u '#{uid}' ...",
        ) from error
    if uid:
        late = _IDS.imports = LateImports(as_started)
        sys.meta_path.insert(0, late)
    _IDS.blocks = 1


def _give_up() -> None:
    assert _IDS.uid is not None  # noqa: S101 -- whoever calls has looked
    # Some containers have no changing of groups; then there are none of root's to lose either.
    with suppress(PermissionError):
        os.setgroups(_IDS.groups)
    os.setegid(_IDS.gid)
    os.seteuid(_IDS.uid)


def _take_back() -> None:
    os.seteuid(0)
    os.setegid(_IDS.first_gid)
    with suppress(PermissionError):
        os.setgroups(_IDS.first_groups)
