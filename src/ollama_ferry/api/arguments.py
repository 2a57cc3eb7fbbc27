"""What the calls take, and how it is read; nothing heavy is loaded for that."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, ParamSpec, TypeAlias, TypeVar

from ollama_ferry.archives.kinds import Compression, Kind
from ollama_ferry.engine.events import StoreChosen
from ollama_ferry.errors import Remedy, UsageError
from ollama_ferry.wording import read_size

if TYPE_CHECKING:
    from ollama_ferry.engine.run import Run
    from ollama_ferry.jobs.select import Wanted
    from ollama_ferry.jobs.trust import Trust
    from ollama_ferry.model.renames import Renames
    from ollama_ferry.ollama.locate import Located

P = ParamSpec("P")
R = TypeVar("R")

PathLike: TypeAlias = "str | os.PathLike[str]"
Names: TypeAlias = "str | Iterable[str]"
"""One name or pattern of models, or several."""
Renaming: TypeAlias = "str | Iterable[str] | None"
"""A new name for the one model, or texts ``OLD=NEW``."""
StoreLike: TypeAlias = "str | os.PathLike[str] | Located | None"
"""A store's folder, or what ``find_store`` or ``find_target`` returned, or None to find it."""

COMPRESSIONS = tuple(compression.value for compression in Compression)
"""How hard archives are packed."""
SERVICE_MODELS = "/usr/share/ollama/.ollama/models"
"""Where Ollama's service on Linux keeps its models: the likeliest target."""
FORMATS = tuple(kind.value[1:] for kind in Kind)
"""The formats of archives that are written: their extensions without the first dot."""


def dry_run_of(job: Callable[P, R], name: str) -> Callable[P, R]:
    """Return the function that finds out what another one would do, by the same parameters."""

    @wraps(job)
    def plan(*args: P.args, **more: P.kwargs) -> R:
        more["dry_run"] = True
        return job(*args, **more)

    plan.__name__ = plan.__qualname__ = name
    plan.__doc__ = f"Find out what :func:`{job.__name__}` would do, and whether it can; nothing is written or sent."
    return plan


def texts_of(models: Names) -> list[str]:
    """Return names and patterns as a list."""
    return [models] if isinstance(models, str) else list(models)


def wanted_of(models: Names, *, everything: bool = False, exclude: Names = (), all_by_default: bool = False) -> Wanted:
    """Read which models are meant.

    Args:
        models: names and patterns.
        everything: all of the place; ``models`` stays empty.
        exclude: names and patterns of models that are not meant.
        all_by_default: whether nothing named means all.

    Raises:
        UsageError: models were named and all asked for, or neither.
    """
    from ollama_ferry.jobs.select import Wanted

    texts = tuple(texts_of(models))
    if everything and texts:
        raise UsageError("name models, or ask for all, and not both", remedies=[Remedy("everything")])
    if not everything and not texts and not all_by_default:
        raise UsageError("name models, or ask for all", remedies=[Remedy("everything")])
    return Wanted(texts, everything or not texts, tuple(texts_of(exclude)))


def paths_of(files: PathLike | Iterable[PathLike]) -> list[Path]:
    """Return paths as a list."""
    return [Path(files)] if isinstance(files, str | os.PathLike) else list(map(Path, files))


def renames_of(rename: Renaming) -> Renames:
    """Read new names.

    Raises:
        UsageError, InvalidName: a text is none.
    """
    from ollama_ferry.model.renames import Renames

    return Renames.parse([rename] if isinstance(rename, str) else rename or ())


def path_of(file: PathLike | None) -> Path | None:
    """Return a path, or None where there is none."""
    return Path(file) if file is not None else None


def rate_of(rate: int | str) -> int:
    """Read a rate in bytes a second: ``20M``, ``500k`` (powers of 1000); 0 is no limit.

    Raises:
        UsageError: it is none.
    """
    text = str(rate)
    found = read_size(text, 1000)
    if found is None:
        raise UsageError(f"{text!r} is no rate", hint="For example 20M, which is 20 million bytes a second.")
    if not found and text.strip() != "0":
        raise UsageError(f"the rate {text!r} is less than a byte a second")
    return found


def trust_of(
    lock: PathLike | None,
    signers: PathLike | None,
    *,
    archive: Path | None = None,
    part: bool = False,
    always: bool = True,
) -> Trust:
    """Read what models have to be.

    Args:
        lock: a file that names exactly the models; None for any.
        signers: a file of allowed signers; None takes that of ``OLLAMA_FERRY_SIGNERS`` in the environment.
        archive: the archive that may have its signature beside it.
        part: whether some of the models were asked for by name.
        always: whether the environment's file counts.

    Raises:
        NotFound, Damaged: the lock is not there, or is none.
        NotAsLocked: the lock is not signed as it has to be.
    """
    from ollama_ferry.jobs.trust import NO_TRUST, Trust, read_lock, signature_beside

    from_environment = os.environ.get("OLLAMA_FERRY_SIGNERS") or None
    allowed = path_of(signers if signers is not None else from_environment if always else None)
    if lock is not None:
        return Trust(read_lock(Path(lock), allowed), part=part)
    if allowed is None:
        return NO_TRUST
    return Trust(signers=allowed, signature=signature_beside(archive) if archive is not None else None, part=part)


def texts_or_locked(models: Names, trust: Trust) -> list[str]:
    """Return names and patterns as a list; where none is given, the names of the lock."""
    texts = texts_of(models)
    return texts or [str(name) for name in trust.lock.models] if trust.lock is not None else texts


def located_store(store: StoreLike, run: Run) -> Located:
    """Find the store to read from, and tell the observer which and why.

    Raises:
        StoreNotFound, NotPermitted: there is none, or it can't be read.
    """
    from ollama_ferry.ollama.candidates import this_system
    from ollama_ferry.ollama.locate import Located, locate

    if isinstance(store, Located):
        return store
    return _announced(locate(this_system(), path_of(store)), run)


def located_target(store: StoreLike, run: Run) -> Located:
    """Find the store to write into, which need not be there yet, and tell the observer which and why.

    Raises:
        StoreNotFound, NotPermitted: there is none and none was named, or it can't be looked into.
    """
    from ollama_ferry.ollama.candidates import this_system
    from ollama_ferry.ollama.locate import Located, locate_target

    if isinstance(store, Located):
        return store
    return _announced(locate_target(this_system(), path_of(store)), run)


def _announced(located: Located, run: Run) -> Located:
    for note in located.notes:
        run.note(note)
    run.notify(StoreChosen(located.root, located.why, located.others))
    return located
