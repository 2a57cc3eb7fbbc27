"""Give a store a blob of another store on the same file system without copying it: both have the same blocks.

A reflink first, by which the two files are apart again as soon as one is written to; else a second name of one file.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress

from ollama_ferry.engine.ports import Readable
from ollama_ferry.files.disk import Disk
from ollama_ferry.files.draft import Draft, remove_if_there
from ollama_ferry.files.folder import Folder, open_folder
from ollama_ferry.files.lock import same_file
from ollama_ferry.model.manifests import Descriptor
from ollama_ferry.places.store.store import Store

_CHUNK = 1024 * 1024
# linux/fs.h: _IOW(0x94, 9, int)
_FICLONE = 0x40049409


def share(disk: Disk, source: Store, blob: Descriptor, data: Readable, folder: Folder, name: str) -> Draft | None:
    """Make a file that shares its blocks with a blob of another store; None where that can't be had here.

    Args:
        disk: the calls to write with.
        source: the other store.
        blob: the blob.
        data: its bytes, which are read to their end where it is shared; raises where they are wrong.
        folder, name: where the new file is made; what has its name makes way.
    """
    with source.open(blob) as file:
        # What is shared is this file, whatever has its path.
        found = os.fstat(file.fileno())
        draft = _reflink(disk, file.fileno(), folder, name) or _second_name(
            disk, source.where(blob.digest), found, folder, name
        )
        if draft is None:
            return None
        try:
            while data.read(_CHUNK):
                pass
            draft.size = found.st_size
        except BaseException:
            draft.discard()
            raise
    return draft


def _reflink(disk: Disk, fd: int, folder: Folder, name: str) -> Draft | None:
    try:
        import fcntl
    except ImportError:
        return None
    draft = Draft.create(disk, folder, name)
    try:
        fcntl.ioctl(draft.fd, _FICLONE, fd)
    except OSError:
        draft.discard()
        return None
    return draft


def _second_name(disk: Disk, source: str, found: os.stat_result, folder: Folder, name: str) -> Draft | None:
    """Give the file a second name; not where it would be another's, or not readable for everybody as blobs are."""
    if hasattr(os, "geteuid") and found.st_uid != os.geteuid():
        return None
    if os.name == "nt" or stat.S_IMODE(found.st_mode) != 0o644:
        return None
    with suppress(OSError), open_folder(os.path.dirname(os.path.realpath(source))) as theirs:
        remove_if_there(disk, folder, name)
        disk.link(theirs, os.path.basename(os.path.realpath(source)), folder, name)
        if not same_file(disk.status(folder, name), found):
            # Somebody has put another file in its place.
            remove_if_there(disk, folder, name)
            return None
        return Draft(disk, folder, name, disk.open(folder, name))
    return None
