"""Who may do what to a file, for any user: reckoned from owner, group, mode bits and access list."""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

READ, WRITE, PASS = 4, 2, 1
_ACL = "system.posix_acl_access"
# Linux, include/uapi/linux/posix_acl.h and posix_acl_xattr.h
_ACL_VERSION = 2
_ACL_USER_OBJ, _ACL_USER, _ACL_GROUP_OBJ, _ACL_GROUP, _ACL_MASK, _ACL_OTHER = 1, 2, 4, 8, 16, 32


@dataclass(frozen=True)
class User:
    """A user of this machine.

    Attributes:
        name: the login name, or the number where it has none.
        uid: the number.
        groups: the numbers of all its groups.
        group: the name or number of its first group.
        home: its home; None where it has none.
    """

    name: str
    uid: int
    groups: frozenset[int]
    group: str
    home: Path | None = None

    def may(self, status: os.stat_result, wanted: int, acl: bytes | None = None) -> bool:
        """Return whether this user may READ, WRITE and PASS (search, for a folder) as wanted.

        Args:
            status: of the file or folder.
            wanted: a sum of these three.
            acl: its access list as Linux keeps it in an extended attribute, where it has one.
        """
        if self.uid == 0:
            return True
        if self.uid == status.st_uid:
            return (status.st_mode >> 6) & wanted == wanted
        if acl:
            with suppress(struct.error):
                return self._listed(status, wanted, acl)
        shift = 3 if status.st_gid in self.groups else 0
        return (status.st_mode >> shift) & wanted == wanted

    def _listed(self, status: os.stat_result, wanted: int, acl: bytes) -> bool:
        """Look into an access list; the order of the rules is that of acl(5)."""
        (version,) = struct.unpack_from("<I", acl)
        if version != _ACL_VERSION:
            raise struct.error("another version")
        entries = list(struct.iter_unpack("<HHI", acl[4:]))
        mask = next((perm for tag, perm, _ in entries if tag == _ACL_MASK), 7)
        for tag, perm, number in entries:
            if tag == _ACL_USER and number == self.uid:
                return bool(perm & mask & wanted == wanted)
        of_groups = [
            perm
            for tag, perm, number in entries
            if (tag == _ACL_GROUP_OBJ and status.st_gid in self.groups) or (tag == _ACL_GROUP and number in self.groups)
        ]
        if of_groups:
            return any(perm & mask & wanted == wanted for perm in of_groups)
        return any(tag == _ACL_OTHER and perm & wanted == wanted for tag, perm, _ in entries)


def user_named(name: str, more_groups: list[str] | None = None) -> User | None:
    """Look a user up by name or number; None where there is none."""
    try:
        import grp
        import pwd
    except ImportError:
        return None
    try:
        entry = pwd.getpwuid(int(name)) if name.isdecimal() else pwd.getpwnam(name)
    except (KeyError, ValueError, OverflowError):
        return None
    groups = set(os.getgrouplist(entry.pw_name, entry.pw_gid))
    for group in more_groups or ():
        with suppress(KeyError):
            groups.add(grp.getgrnam(group).gr_gid)
    return User(entry.pw_name, entry.pw_uid, frozenset(groups), _group_name(entry.pw_gid), Path(entry.pw_dir))


def user_numbered(uid: int, gid: int) -> User:
    """Return the user that owns something; one without a name is known by number, with the group that it has there."""
    return user_named(str(uid)) or User(str(uid), uid, frozenset({gid}), _group_name(gid))


def access_list(path: str | Path) -> bytes | None:
    """Return a file's access list, where it has one beside its mode bits."""
    if hasattr(os, "getxattr"):
        with suppress(OSError):
            return bytes(os.getxattr(path, _ACL))
    return None


def impassable(path: Path, user: User) -> list[Path]:
    """Return the folders above a store, outermost first, that a user can't pass; links are followed.

    What this process can't look at is left out.
    """
    found: list[Path] = []
    for folder in _folders_above(path):
        try:
            status = os.stat(folder)
        except OSError:
            continue
        if stat.S_ISDIR(status.st_mode) and not user.may(status, PASS, access_list(folder)):
            found.append(folder)
    return found


def _folders_above(path: Path) -> Iterator[Path]:
    seen: set[Path] = set()
    for spelling in (path, Path(os.path.realpath(path))):
        for folder in reversed(spelling.parents):
            if folder not in seen:
                seen.add(folder)
                yield folder


def _group_name(gid: int) -> str:
    import grp

    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)
