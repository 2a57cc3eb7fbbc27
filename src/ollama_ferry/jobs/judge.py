"""Look into several archives and folders before a byte of them is moved: what each is for, and whether all is there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ollama_ferry.archives.volumes.foreign import foreign_volumes
from ollama_ferry.engine.inspect import manifests_of
from ollama_ferry.engine.run import Run
from ollama_ferry.errors import Damaged, ModelNotFound, UsageError
from ollama_ferry.jobs.select import covers
from ollama_ferry.jobs.sources import open_contents
from ollama_ferry.model.names import ModelName, is_id
from ollama_ferry.wording import counted


@dataclass(frozen=True)
class JudgedArchive:
    """What one of several archives is for.

    Attributes:
        path: its file, or a folder.
        models: which of the models that were asked for it has, as they were asked for; empty for all.
        has_models: it has any; one that has none may still have blobs that another one lacks.
    """

    path: Path
    models: tuple[str, ...]
    has_models: bool


def judge_archives(
    paths: Sequence[Path], only: Sequence[str], *, one_name: bool = False, run: Run | None = None
) -> list[JudgedArchive]:
    """Tell what each of several archives is for.

    Args:
        paths: archives and folders; a further part of one that was split counts no more.
        only: names and patterns of models; none asks for all.
        one_name: one model is to get a new name.
        run: told where an archive has to be read to its end.

    Raises:
        ModelNotFound: none of them has a model that was asked for by name, or none has any.
        UsageError: a new name was given, and they have several models that were asked for.
        NotFound, NotPermitted: one is not there, or can't be read.
    """
    run = run or Run()
    judged: list[JudgedArchive] = []
    chosen: set[ModelName] = set()
    covered: set[str] = set()
    parts: set[Path] = set()
    for path in paths:
        if path in parts:
            continue
        parts.update(foreign_volumes(path))
        try:
            place = open_contents(path, run)
            names = set(place.names())
            # Only an ID needs them.
            manifests = manifests_of(place, names)[0] if any(map(is_id, only)) else {}
        except Damaged:
            # Whoever imports it says what is wrong, and the others may be whole.
            judged.append(JudgedArchive(path, tuple(only), has_models=True))
            covered.update(only)
            continue
        here = [text for text in only if any(covers(text, name, manifests.get(name)) for name in names)]
        covered.update(here)
        chosen |= {name for name in names if not only or any(covers(text, name, manifests.get(name)) for text in here)}
        judged.append(JudgedArchive(path, tuple(here), bool(names) and bool(here or not only)))
    label = ", ".join(map(str, paths[:4]))
    if missing := [text for text in only if text not in covered]:
        raise ModelNotFound(f"no model in {label} is called {', '.join(missing)}")
    if not any(one.has_models for one in judged):
        raise ModelNotFound(f"there is no model in {label}")
    if one_name and len(chosen) > 1:
        raise UsageError(f"one new name was given, and {counted(len(chosen), 'model')} of {label} were asked for")
    return judged
