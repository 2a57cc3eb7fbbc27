"""What of a place can be carried: one rule for every job that takes models from somewhere.

What can't be carried is named and left out, and spoils nothing of the rest; what was asked for by name, and can't be,
is an error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from ollama_ferry.engine.inspect import require_whole
from ollama_ferry.engine.plan import NotCarried, blobs_of
from ollama_ferry.engine.ports import Inspectable, PassesOver, Searchable
from ollama_ferry.errors import Damaged, FerryError, ModelNotFound, NotPermitted
from ollama_ferry.model.manifests import Manifest
from ollama_ferry.model.names import ModelName


@dataclass(frozen=True)
class Chosen:
    """The models that somebody asked for, spelt as in the place.

    Attributes:
        names: all of them, each once, sorted.
        in_full: those that were named, and not only meant by a pattern or as all.
        left_out: what all of the place would mean as well, and is no model.
    """

    names: tuple[ModelName, ...]
    in_full: frozenset[ModelName] = frozenset()
    left_out: tuple[NotCarried, ...] = ()

    @classmethod
    def of(cls, models: Chosen | Iterable[ModelName]) -> Chosen:
        """Return what was chosen; of names alone, each was named."""
        if isinstance(models, Chosen):
            return models
        ordered = tuple(sorted(set(models)))
        return cls(ordered, frozenset(ordered))


@dataclass(frozen=True)
class Carried:
    """What of the models that somebody asked for can be carried.

    Attributes:
        manifests: the models that can.
        left_out: what can't.
    """

    manifests: dict[ModelName, Manifest]
    left_out: tuple[NotCarried, ...] = ()


def passed_over(place: Searchable) -> tuple[NotCarried, ...]:
    """Return what a place has where models are, and that is none that can be named."""
    if not isinstance(place, PassesOver):
        return ()
    return tuple(NotCarried(name, why) for name, why in place.passed_over())


def carried(
    place: Inspectable,
    chosen: Chosen,
    *,
    check: Callable[[ModelName, Manifest], None] | None = None,
    keep_going: bool | None = None,
) -> Carried:
    """Find out which of some models can be carried: whole, with weights, and readable. No blob is read but a config.

    Args:
        place: where they are.
        chosen: which.
        check: raises for a model that the job can't take for a reason of its own; None checks that it is whole.
        keep_going: whether damaged models are left out; None leaves out those that were not named in full.

    Raises:
        FerryError: one that was named can't be carried, or none can.
    """
    check = check or (lambda name, manifest: require_whole(place, name, manifest))
    found: dict[ModelName, Manifest] = {}
    left_out: list[NotCarried] = []
    first: FerryError | None = None
    for name in chosen.names:
        try:
            manifest = place.manifest(name)
            blobs_of(name, manifest)
            check(name, manifest)
        except NotPermitted:
            raise
        except ModelNotFound:
            # It was removed meanwhile.
            if name in chosen.in_full:
                raise
        except FerryError as error:
            kept = isinstance(error, Damaged) and keep_going is not None
            if not (keep_going if kept else name not in chosen.in_full):
                raise
            first = first or error
            left_out.append(NotCarried(str(name), error))
        else:
            found[name] = manifest
    if not found and first is not None:
        raise first
    return Carried(found, (*left_out, *chosen.left_out))
