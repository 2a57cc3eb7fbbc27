"""Which models get their names at a target: one rule for every job that writes models somewhere.

A name is free, or has the same model already, or another one, which is replaced only when that was asked for. Two
models never get one name, nor names that differ in letter case only.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sized
from dataclasses import dataclass
from typing import TypeVar

from ollama_ferry.errors import AlreadyExists, Remedy, UsageError
from ollama_ferry.model.manifests import Manifest
from ollama_ferry.model.names import ModelName

Source = TypeVar("Source", bound=Hashable)
Name = TypeVar("Name", bound=Hashable)


@dataclass(frozen=True)
class ExistingModel:
    """What a target has under a name.

    Attributes:
        same: it is the model that is to get the name.
        id: what the target calls it, shortened; empty where that is not known.
        replaceable: it may make way unasked.
    """

    same: bool
    id: str = ""
    replaceable: bool = False

    @classmethod
    def of(cls, found: Manifest | None, manifest: Manifest) -> ExistingModel | None:
        """Compare the manifest at a target with the one that comes."""
        return ExistingModel(found.raw == manifest.raw, found.digest.short) if found is not None else None


class Claims:
    """The names that models claim at one target.

    Args:
        target: what it is called in messages.
        replace: whether another model may be replaced.
        refuses: tells why a name can't be had there at all; an empty text where it can.
    """

    def __init__(self, target: str, *, replace: bool, refuses: Callable[[ModelName], str] = lambda name: "") -> None:
        self._target = target
        self._replace = replace
        self._refuses = refuses
        self._taken: dict[Hashable, object] = {}
        self._conflicts: list[str] = []
        self._impossible = 0
        self._remedies: dict[str, None] = {}

    def claim(self, source: object, name: object, key: Hashable, existing: ExistingModel | None) -> bool:
        """Decide on one model.

        Args:
            source: the model, as it is called where it comes from.
            name: the name that it would get.
            key: what tells names apart there, such as the name with its case folded.
            there: what has that name at the target.

        Returns:
            Whether it gets the name; it has it already where ``there`` is the same.
        """
        other = self._taken.setdefault(key, source)
        if other is not source:
            self._refuse(f"{other} and {source} would both become {name}: letter case does not count", "rename")
        elif existing is not None and not (existing.same or existing.replaceable or self._replace):
            known = f", as {existing.id}" if existing.id else ""
            self._refuse(f"{name} is in {self._target} already{known}, and is another one", "replace", "rename")
        elif isinstance(name, ModelName) and (why := self._refuses(name)):
            self._impossible += 1
            self._refuse(why, "rename")
        else:
            return True
        return False

    def raise_conflicts(self, done: str) -> None:
        """Raise where a model could not have its name.

        Args:
            done: what was done all the same, for the message.

        Raises:
            AlreadyExists: one of them, or several.
            UsageError: all of these are names that the target can't have.
        """
        if self._conflicts:
            raise (UsageError if self._impossible == len(self._conflicts) else AlreadyExists)(
                "; ".join(self._conflicts) + (f" ({done})" if done else ""),
                remedies=[Remedy(parameter) for parameter in (*self._remedies, "models")],
            )

    @property
    def conflicts(self) -> bool:
        """Whether a model could not have its name so far."""
        return bool(self._conflicts)

    def _refuse(self, what: str, *parameters: str) -> None:
        self._conflicts.append(what)
        self._remedies.update(dict.fromkeys(parameters))


def require_distinct(names: Iterable[tuple[Source, Name]]) -> None:
    """Check that no two models would get one name.

    Args:
        names: each model, and the name that it would get.

    Raises:
        UsageError: two would.
    """
    taken: dict[Name, Source] = {}
    for source, name in names:
        other = taken.setdefault(name, source)
        if other != source:
            raise UsageError(f"{other} and {source} would both become {name}", remedies=[Remedy("rename")])


def require_one(models: Sized, where: str) -> None:
    """Check that a new name is given to one model.

    Raises:
        UsageError: several would get it.
    """
    if len(models) > 1:
        raise UsageError(
            f"one new name was given, and several models of {where} were asked for", remedies=[Remedy("models")]
        )
