"""New names for models: one for the one model, or patterns that say which part of a name stays."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from ollama_ferry.errors import UsageError
from ollama_ferry.model.names import ModelName, matched_text


@dataclass(frozen=True)
class Renames:
    """Which names models get.

    Attributes:
        only: the name of the one model; None where there is none.
        rules: patterns with the names that take their place; the first that covers a model counts.
    """

    only: ModelName | None = None
    rules: tuple[tuple[str, str], ...] = ()

    @classmethod
    def parse(cls, texts: Iterable[str]) -> Renames:
        """Read ``NAME``, ``OLD=NEW``, or ``PATTERN=NEW``, where each ``*`` of NEW is what that of PATTERN stood for.

        Raises:
            UsageError, InvalidName: a text is none of them, or one new name would be given to several models.
        """
        only: ModelName | None = None
        rules = []
        for text in texts:
            old, found, new = text.partition("=")
            if not found:
                if only is not None:
                    raise UsageError(f"two names for one model: {only} and {text}")
                only = ModelName.parse(text)
                continue
            if old.count("*") != new.count("*") or not old or re.search(r"[?\[\]]", old + new):
                raise UsageError(
                    f"{text!r} does not say which part of a name stays: both sides need the same number of *",
                    hint="For example 'library/*=mine/*', or qwen3:8b=mine/qwen3:8b.",
                )
            ModelName.parse(new.replace("*", "x"))
            rules.append((old, new))
        if only is not None and rules:
            raise UsageError(f"{only} is for the one model, and goes with no OLD=NEW")
        return cls(only, tuple(rules))

    def __bool__(self) -> bool:
        return self.only is not None or bool(self.rules)

    def of(self, name: ModelName) -> ModelName | None:
        """Return a model's new name; None where it has none.

        Raises:
            InvalidName: what comes out is no name.
        """
        if self.only is not None:
            return self.only
        for old, new in self.rules:
            wanted = old if "*" in old else str(ModelName.parse(old))
            form = "(.*)".join(map(re.escape, wanted.split("*")))
            if found := re.fullmatch(form, matched_text(wanted, name), re.IGNORECASE):
                parts = iter(found.groups())
                return ModelName.parse("".join(next(parts) if char == "*" else char for char in new))
        return None
