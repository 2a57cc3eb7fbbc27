"""What of a store no model names: blobs, unfinished downloads, and what broken-off runs have left.

Nothing is counted as such that may be named by what can't be read, that may be of somebody who is at work, or that
another store may need.
"""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from ollama_ferry.engine.inspect import with_listed
from ollama_ferry.errors import FerryError
from ollama_ferry.files.folder import changed_at, entry_status, on_disk, open_file, read_at_most
from ollama_ferry.files.identity import as_started
from ollama_ferry.model.layout import MANIFEST_FOLDERS
from ollama_ferry.model.manifests import MANIFEST_LIMIT, Digest, Manifest
from ollama_ferry.model.strays import is_systems_own, may_be_stray
from ollama_ferry.places.store.layouts import files_below
from ollama_ferry.places.store.staging import STAGING, staging_folder
from ollama_ferry.places.store.store import Store

AT_WORK = 3600.0
"""How many seconds old a file is before it counts as one that nobody is working on; newer servers use the same."""

_BLOB = re.compile(r"sha256[-:]([0-9a-f]{64})")
_PARTIAL = re.compile(r"sha256-[0-9a-f]{64}(-partial(-[0-9]+)?|\.tmp)")
_ANY_DIGEST = re.compile(rb"sha256[:-]([0-9a-f]{64})")
# Another user's, who sends to the same store, has a number behind it.
_SSH_STAGING = re.compile(rf"{re.escape(STAGING)}-ssh(-[0-9]+)?")


@dataclass(frozen=True)
class UnnamedFile:
    """A file, or a folder of leftovers, that no model names.

    Attributes:
        part: the folder that it is in: ``blobs``, ``staging``, or ``root`` for the store's own.
        name: its name there.
        path: its path, for people.
        size: the bytes that it takes up.
        why: what it is.
        keep: why it stays all the same; empty where it may go.
        identity: device and inode.
    """

    part: str
    name: str
    path: str
    size: int
    why: str
    keep: str
    identity: tuple[int, int]


@dataclass
class Named:
    """What the manifests of a store name.

    Attributes:
        digests: the blobs, in hexadecimal digits.
        unread: the manifests that can't be read, which may name any.
    """

    digests: set[str] = field(default_factory=set)
    unread: list[str] = field(default_factory=list)


def named_blobs(store: Store) -> Named:
    """Find out which blobs the manifests of a store name, in both layouts and whatever their names.

    Raises:
        NotPermitted: the folders can't be read.
    """
    named = Named()
    with as_started():
        for layout in MANIFEST_FOLDERS:
            for _, path, beside in files_below(str(store.root / layout), (), count(), everything=True):
                _take(store, path, beside, named)
    return named


def _take(store: Store, path: str, beside: frozenset[str], named: Named) -> None:
    raw = b""
    try:
        with open_file(Path(path)) as file:
            raw = read_at_most(file, MANIFEST_LIMIT + 1)
        manifest = Manifest.parse(raw)
        named.digests |= {manifest.digest.hex, *(digest.hex for digest in manifest.listed)}
        named.digests |= {blob.digest.hex for blob in with_listed(manifest, store.blob_size, store).blobs}
    except (FerryError, OSError):
        named.digests |= {found.decode() for found in _ANY_DIGEST.findall(raw)}
        name = os.path.basename(path)
        if not is_systems_own(name) and not (raw and may_be_stray(name, beside)):
            named.unread.append(path)


def find_unnamed(store: Store, named: Named, now: float) -> list[UnnamedFile]:
    """Find what no model names, the largest first.

    Args:
        store: the store.
        named: what its manifests name.
        now: the time, in seconds since the epoch.

    Raises:
        OSError: the blobs' folder can't be read.
    """
    blobs = str(store.blobs_folder)
    with as_started():
        entries = [(entry, entry_status(entry)) for entry in _entries(blobs)]
        linked = _linked_to(store, [entry for entry, status in entries if stat.S_ISLNK(status.st_mode)])
        others = _others(store)
    found: list[UnnamedFile] = []
    at_work = any(_PARTIAL.fullmatch(entry.name) and now - changed_at(status) < AT_WORK for entry, status in entries)
    at_work = at_work or any(now - newest < AT_WORK for _, _, _, newest in others)
    foreign = os.path.realpath(blobs) != os.path.join(os.path.realpath(store.root), "blobs")

    def add(part: str, name: str, path: str, status: os.stat_result, newest: float, size: int, why: str) -> None:
        keep = ""
        if now - newest < AT_WORK:
            keep = "less than an hour old: somebody may be at work"
        elif (status.st_dev, status.st_ino) in linked:
            keep = "a link of the store leads to it"
        elif part == "blobs" and foreign:
            keep = "the folder is behind a link: another store may use it too"
        elif why == _ORPHAN and at_work:
            keep = "a download or an import is at work, whose manifest may come yet"
        elif why == _ORPHAN and named.unread:
            keep = f"a manifest that can't be read may name it: {named.unread[0]}"
        found.append(UnnamedFile(part, name, path, size, why, keep, (status.st_dev, status.st_ino)))

    for entry, status in entries:
        if not stat.S_ISREG(status.st_mode):
            continue
        blob = _BLOB.fullmatch(entry.name)
        if blob and blob[1] not in named.digests:
            add("blobs", entry.name, entry.path, status, changed_at(status), status.st_size, _ORPHAN)
        elif _PARTIAL.fullmatch(entry.name):
            size = on_disk(status)
            add("blobs", entry.name, entry.path, status, changed_at(status), size, "an unfinished download")
    for part, path, size, newest in others:
        what = "what an import has left" if part == "staging" else "what a send to this store has left"
        add(part, os.path.basename(path), path, os.lstat(path), newest, size, what)
    return sorted(found, key=lambda one: (-one.size, one.path))


_ORPHAN = "a blob that no model names"


def _entries(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except FileNotFoundError:
        return []


def _linked_to(store: Store, links: list[os.DirEntry[str]]) -> set[tuple[int, int]]:
    """Return the files that links of ``blobs/`` and the manifests' folders lead to."""
    paths = [entry.path for entry in links]
    for layout in MANIFEST_FOLDERS:
        for above, folders, files in os.walk(store.root / layout):
            paths += [path for name in (*folders, *files) if os.path.islink(path := os.path.join(above, name))]
    found: set[tuple[int, int]] = set()
    for path in paths:
        try:
            status = os.stat(path)
        except OSError:
            continue
        found.add((status.st_dev, status.st_ino))
    return found


def _others(store: Store) -> list[tuple[str, str, int, float]]:
    """Return what broken-off runs have left: the part, the path, the bytes, and the newest time."""
    found: list[tuple[str, str, int, float]] = []
    staging = staging_folder(store)
    for entry in _entries(str(staging)) if staging.is_dir() and not staging.is_symlink() else ():
        status = entry_status(entry)
        if stat.S_ISREG(status.st_mode) and entry.name.startswith("sha256-"):
            found.append(("staging", entry.path, status.st_size, status.st_mtime))
    for part, folder in (("root", str(store.root)), ("blobs", str(store.blobs_folder))):
        for entry in _entries(folder):
            if _SSH_STAGING.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False):
                size, newest = 0, entry_status(entry).st_mtime
                for above, _, files in os.walk(entry.path):
                    for name in files:
                        status = os.lstat(os.path.join(above, name))
                        size, newest = size + status.st_size, max(newest, status.st_mtime)
                found.append((part, entry.path, size, newest))
    return found


def digest_of(name: str) -> Digest | None:
    """Return the digest that a blob's name is; None for any other name."""
    blob = _BLOB.fullmatch(name)
    return Digest(blob[1]) if blob else None
