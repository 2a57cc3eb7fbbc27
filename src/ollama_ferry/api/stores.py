"""The stores of this machine: which is used, what it has, what is wrong with it."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from ollama_ferry.api.arguments import PathLike, StoreLike, located_store, located_target, path_of
from ollama_ferry.engine.events import Observer, ignore
from ollama_ferry.engine.run import Run
from ollama_ferry.files.folder import without_tilde

if TYPE_CHECKING:
    from ollama_ferry.doctor.machine import MachineReport
    from ollama_ferry.jobs.inventory import Inventory
    from ollama_ferry.jobs.prune import Pruned
    from ollama_ferry.model.names import ModelName
    from ollama_ferry.ollama.locate import Located
    from ollama_ferry.places.store.store import Store


def find_store(store: StoreLike = None, *, observer: Observer = ignore) -> Located:
    """Find the store to read from.

    Args:
        store: the models folder; None finds it as the commands do.
        observer: notified of which it is, and why.

    Returns:
        Its folder, why it is this one, and the others of this machine; every call takes it as ``store``.

    Raises:
        StoreNotFound, NotPermitted: there is none, or it can't be read.
    """
    return located_store(store, Run(observer))


def find_target(store: StoreLike = None, *, observer: Observer = ignore) -> Located:
    """Find the store to write into, as :func:`find_store`; one that is named need not be there yet.

    Raises:
        StoreNotFound, NotPermitted: there is none and none was named, or it can't be looked into.
    """
    return located_target(store, Run(observer))


def open_store(models: StoreLike = None) -> Store:
    """Return a store to read from.

    Args:
        models: the models folder; None finds it as the commands do.

    Raises:
        StoreNotFound, NotPermitted: there is none, or it can't be read.
    """
    from ollama_ferry.places.store.store import Store

    return Store(find_store(models).root)


def free_bytes(path: PathLike) -> int | None:
    """Return the free bytes on the disk where a file or folder is, or would be; None where nobody knows."""
    from ollama_ferry.files.disk import free_space

    folder = without_tilde(path).absolute()
    while not os.path.isdir(folder) and folder.parent != folder:
        folder = folder.parent
    return free_space(folder)


def has_model(text: str, store: StoreLike = None) -> bool:
    """Return whether a text means models of a store: a name of one that is there, or a pattern.

    Raises:
        StoreNotFound, NotPermitted: there is no store, or it can't be read.
    """
    from ollama_ferry.engine.inspect import meant
    from ollama_ferry.errors import InvalidName, ModelNotFound, UsageError
    from ollama_ferry.model.names import is_pattern

    if is_pattern(text):
        return True
    try:
        meant(open_store(store), text)
    except (InvalidName, ModelNotFound):
        return False
    except UsageError:
        # Several have this ID.
        return True
    return True


def covers_any(text: str, names: Iterable[ModelName]) -> bool:
    """Return whether a text means one of some models: a name, or a pattern."""
    from ollama_ferry.errors import InvalidName
    from ollama_ferry.jobs.select import covers
    from ollama_ferry.model.names import is_pattern

    try:
        return is_pattern(text) or any(covers(text, name) for name in names)
    except InvalidName:
        return False


def inventory(store: StoreLike = None) -> str:
    """Tell what a store has, for ``export(have=...)`` on another machine.

    Args:
        store: the models folder; None finds it as the command does.

    Returns:
        The text of the file: a line for each blob that a model here names and that is here with its size.

    Raises:
        StoreNotFound, NotPermitted: there is no store, or it can't be read.
    """
    return take_inventory(store).text


def take_inventory(store: StoreLike = None, *, observer: Observer = ignore) -> Inventory:
    """Tell what a store has, as :func:`inventory`, with the blobs and their sizes.

    Raises:
        StoreNotFound, NotPermitted: there is no store, or it can't be read.
    """
    from ollama_ferry.jobs.inventory import take_inventory as take
    from ollama_ferry.places.store.store import Store

    return take(Store(located_store(store, Run(observer)).root))


def doctor(store: PathLike | None = None, *, observer: Observer = ignore) -> MachineReport:
    """Find what is wrong with Ollama's models on this machine, as ``ollama-ferry doctor``; nothing is changed.

    Args:
        store: look into this store only; None looks into every one that is found.
        observer: notified of why something was decided.

    Returns:
        The stores that were found, and the findings, each with its severity and the lines that mend it.

    Raises:
        StoreNotFound: there is no store at all, or ``store`` is none.
    """
    from ollama_ferry.doctor.machine import check_machine
    from ollama_ferry.ollama.candidates import this_system
    from ollama_ferry.wording import shown

    system = this_system()
    Run(observer).explain(f"platform {system.platform}, home {shown(system.home)}")
    return check_machine(system, path_of(store))


def prune(
    store: StoreLike = None,
    *,
    yes: bool = False,
    undo: bool = False,
    empty: bool = False,
    only: Iterable[PathLike] | None = None,
    observer: Observer = ignore,
) -> Pruned:
    """List what no model of a store names, and put it into a trash folder on the same disk.

    Args:
        store: the models folder; None finds it as the command does.
        yes: do it; otherwise nothing is changed.
        undo: put back all that is in the trash instead.
        empty: empty the trash instead, for good, with ``yes``.
        only: the paths of the files that are meant, as a call without ``yes`` lists them; None for all.
        observer: called with the events of :mod:`ollama_ferry.engine.events`.

    Returns:
        What may go, what stays and why, and what was done.

    Raises:
        AlreadyExists: another process writes into the store, or prunes it.
        NotFound: there is no trash.
        NotPermitted: the store can't be looked into, or written.
    """
    from ollama_ferry.jobs import prune as job
    from ollama_ferry.places.store.store import Store

    run = Run(observer)
    place = Store(located_store(store, run).root)
    if undo:
        return job.undo(place, run=run)
    if empty:
        return job.empty(place, run=run) if yes else job.look_into_trash(place)
    paths = None if only is None else {os.fspath(path) for path in only}
    return job.prune(place, only=paths, run=run) if yes else job.find(place)


def as_owner(line: str, folder: PathLike) -> str:
    """Put before a shell line that changes a folder of a store what it takes: nothing, or ``sudo`` for somebody."""
    from ollama_ferry.doctor.advice import with_sudo

    return with_sudo(line, Path(folder))


def write_sample_store(folder: PathLike) -> list[ModelName]:
    """Write a small store to try things out with: two models that share 4 MB of weights.

    Args:
        folder: where it is made; it need not be there.

    Returns:
        The names of the models.
    """
    from ollama_ferry.jobs.sample import write_sample_store as write

    return write(Path(folder))
