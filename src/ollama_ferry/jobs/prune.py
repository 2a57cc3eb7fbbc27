"""Prune: what no model of a store names goes into the store's trash, and comes back from there until it is emptied."""

from __future__ import annotations

import os
import time
from collections.abc import Collection
from dataclasses import dataclass, field

from ollama_ferry.engine.run import Run
from ollama_ferry.errors import Damaged, NotFound
from ollama_ferry.files.disk import Disk, writing
from ollama_ferry.places.store.store import Store
from ollama_ferry.places.store.trash import open_trash, trash_path
from ollama_ferry.places.store.unnamed import UnnamedFile, digest_of, find_unnamed, named_blobs


@dataclass
class Pruned:
    """What a prune found, and did.

    Attributes:
        store: the store's folder.
        trash: the folder that files are put into.
        files: what no model names and may go, the largest first.
        kept: what no model names and stays all the same; each says why.
        moved: those that are in the trash now.
        back: the paths of what was put back.
        stay: the paths of what could not be put back, for their names are taken.
        in_trash: how many bytes are in the trash.
        emptied: how many bytes were removed for good.
    """

    store: str
    trash: str
    files: tuple[UnnamedFile, ...] = ()
    kept: tuple[UnnamedFile, ...] = ()
    moved: list[UnnamedFile] = field(default_factory=list)
    back: list[str] = field(default_factory=list)
    stay: list[str] = field(default_factory=list)
    in_trash: int = 0
    emptied: int = 0

    @property
    def size(self) -> int:
        """The bytes of what may go."""
        return sum(file.size for file in self.files)


def find(store: Store, *, now: float | None = None) -> Pruned:
    """Find out what a prune would put into the trash; nothing is changed.

    Args:
        store: the store.
        now: the time, in seconds since the epoch.

    Raises:
        NotPermitted: it can't be looked into.
    """
    with writing(store.root):
        found = find_unnamed(store, named_blobs(store), time.time() if now is None else now)
    return Pruned(
        str(store.root),
        trash_path(store),
        tuple(file for file in found if not file.keep),
        tuple(file for file in found if file.keep),
    )


def prune(
    store: Store,
    *,
    only: Collection[str] | None = None,
    disk: Disk | None = None,
    now: float | None = None,
    run: Run | None = None,
) -> Pruned:
    """Put into the trash what no model names.

    Args:
        store: the store.
        only: the paths of those that are meant, as a find tells them; None for all.
        disk: what is written through.
        now: the time, in seconds since the epoch.
        run: notified of what was done without.

    A server may give a blob a model in the moment between the look and the move: the manifests are read once more
    afterwards, and what they name by then is put back.

    Raises:
        AlreadyExists: another process writes into the store, or prunes it.
        NotPermitted: the store can't be written.
    """
    run = run or Run()
    if not find(store, now=now).files:
        return find(store, now=now)
    with open_trash(store, disk or Disk(), run.note) as trash:
        # Once more, now that no import is at work.
        done = find(store, now=now)
        done.moved = trash.put([file for file in done.files if only is None or file.path in only])
        named = named_blobs(store)
        if named.unread and any(digest_of(file.name) for file in done.moved):
            trash.take_back(lambda part, name: part == "blobs" and digest_of(name) is not None)
            raise Damaged(
                f"a manifest that can't be read has come meanwhile, and may name any blob: {named.unread[0]}",
                hint="Everything is where it was. Run `ollama-ferry doctor`, and prune when that is mended.",
            )
        trash.take_back(
            lambda part, name: part == "blobs" and (digest := digest_of(name)) is not None
            and digest.hex in named.digests
        )  # fmt: skip
        left = {(part, name) for part, names in trash.names().items() for name in names}
        done.moved = [file for file in done.moved if (file.part, file.name) in left]
    return done


def undo(store: Store, *, disk: Disk | None = None, run: Run | None = None) -> Pruned:
    """Put back all that is in the trash.

    Raises:
        NotFound: there is none.
    """
    done = _require_trash(store)
    with open_trash(store, disk or Disk(), (run or Run()).note) as trash:
        done.back, done.stay = trash.take_back()
    return done


def look_into_trash(store: Store) -> Pruned:
    """Find out what is in the trash; nothing is changed.

    Raises:
        NotFound: there is none.
    """
    done = _require_trash(store)
    for above, _, files in os.walk(done.trash):
        done.in_trash += sum(os.lstat(os.path.join(above, name)).st_size for name in files)
    return done


def empty(store: Store, *, disk: Disk | None = None, run: Run | None = None) -> Pruned:
    """Remove what is in the trash, for good.

    Raises:
        NotFound: there is none.
    """
    done = look_into_trash(store)
    with open_trash(store, disk or Disk(), (run or Run()).note) as trash:
        trash.empty()
    done.emptied, done.in_trash = done.in_trash, 0
    return done


def _require_trash(store: Store) -> Pruned:
    path = trash_path(store)
    if not os.path.lexists(path):
        raise NotFound(f"there is no trash in {store.root}", hint="Nothing was pruned there, or it was emptied since.")
    return Pruned(str(store.root), path)
