"""What imports and sends of ollama-ferry have left in a store that they did not finish in."""

from __future__ import annotations

import os
import re
from itertools import islice
from pathlib import Path

from ollama_ferry.doctor.advice import with_sudo
from ollama_ferry.doctor.contents import ENTRIES_AT_MOST, FolderSeen, visit_folder
from ollama_ferry.doctor.findings import Severity, age
from ollama_ferry.doctor.subject import HOUR, Subject
from ollama_ferry.files.mounts import mount_points
from ollama_ferry.places.ssh.scripts import STAGING as SSH_STAGING
from ollama_ferry.places.store.staging import MANIFEST_IN_WORK, STAGING
from ollama_ferry.shell_lines import removal
from ollama_ferry.wording import human_size


def check_leftovers(subject: Subject) -> None:
    """Tell what waits for an import or a send to be run again."""
    in_work = subject.store.manifests_folder / MANIFEST_IN_WORK
    _check(subject, STAGING, "An import by ollama-ferry", "Importing the same archive", [in_work])
    _check(subject, SSH_STAGING, "A send to this store over ssh", "The same send, run again,", [])


def _check(subject: Subject, name: str, what: str, again: str, more: list[Path]) -> None:
    # Where it is depends on whether blobs/ is a link, which may have changed since.
    folders = [*_named(subject.root, name), *_named(subject.store.blobs_folder, name)]
    paths = [*folders, *(str(path) for path in more if os.path.lexists(path))]
    if not paths:
        return
    seen = FolderSeen()
    for folder in folders:
        if not os.path.islink(folder):
            visit_folder(folder, seen)
    old = subject.now - seen.newest
    when = f", last written {age(old)} ago" if seen.newest else ""
    subject.add(
        Severity.WARNING if seen.size else Severity.NOTE,
        "leftovers",
        f"{what} was interrupted, or is at work: {human_size(seen.size)} wait{when}. {again} "
        f"{'again ' if name == STAGING else ''}resumes.",
        paths,
        [] if _at_work(seen, old) else _lines(subject, paths, seen),
    )


def _named(folder: Path, name: str) -> list[str]:
    """Return the entries of a folder that have a name, or that name with a user's number behind it."""
    wanted = re.compile(rf"{re.escape(name)}(-[0-9]+)?")
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.path for entry in islice(entries, ENTRIES_AT_MOST) if wanted.fullmatch(entry.name))
    except OSError:
        return []


def _at_work(seen: FolderSeen, old: float) -> bool:
    """Return whether somebody may be writing: it is less than an hour old, or one of the files is locked.

    Source: proc(5), ``/proc/locks``, whose sixth field ends with the inode's number.
    """
    if seen.newest and old < HOUR:
        return True
    try:
        with open("/proc/locks", encoding="ascii") as table:
            locked = {line.split()[5].rpartition(":")[2] for line in table if len(line.split()) > 5}
    except OSError:
        return False
    # The device is written in another way on some file systems.
    return any(str(inode) in locked for _, inode in seen.files)


def _lines(subject: Subject, paths: list[str], seen: FolderSeen) -> list[str]:
    """Return the lines that remove leftovers, or none where something else hangs on them."""
    apart = any(point.startswith(os.path.realpath(path)) for point in mount_points() for path in paths)
    safe = subject.advice.removable(paths)
    if apart or not seen.known or subject.advice.keeps(seen.files) or safe != paths:
        return []
    return ["# To give it up, if nothing is at work:", with_sudo(removal(safe, "-rf"), os.path.dirname(safe[0]))]
