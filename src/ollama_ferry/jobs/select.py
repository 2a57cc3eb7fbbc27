"""Turn what a user typed into models of a store."""

from __future__ import annotations

from collections.abc import Iterable

from ollama_ferry.engine.inspect import meant, resolve
from ollama_ferry.engine.ports import Searchable
from ollama_ferry.errors import FerryError, ModelNotFound, NotPermitted, Remedy
from ollama_ferry.model.names import ModelName, is_pattern, match
from ollama_ferry.ollama.locate import Located
from ollama_ferry.places.store.store import Store


def select(located: Located, texts: Iterable[str], *, everything: bool = False) -> list[ModelName]:
    """Return the models that names and patterns mean, each once, sorted.

    Args:
        located: the store, and the others on this machine, which are only mentioned.
        texts: names and patterns.
        everything: take every model of the store; ``texts`` are not looked at.

    Raises:
        InvalidName, ModelNotFound: a name is none, or neither a name nor a pattern covers a model.
    """
    store = Store(located.root)
    if everything:
        found = list(store.names())
        if not found:
            raise _with_others(ModelNotFound(f"there is no model in {store.root}"), located)
        return found
    try:
        return pick(store, texts, str(store.root))
    except ModelNotFound as error:
        if error.name:
            _with_others(error, located)
        raise


def pick(place: Searchable, texts: Iterable[str], where: str) -> list[ModelName]:
    """Return the models of a place that names and patterns mean, each once, sorted.

    Args:
        place: a store, or an archive.
        texts: names and patterns.
        where: what the place is called in messages.

    Raises:
        InvalidName, ModelNotFound: a name is none, or neither a name nor a pattern covers a model.
    """
    chosen: set[ModelName] = set()
    for text in texts:
        if is_pattern(text):
            matched = match(text, place.names())
            if not matched:
                raise ModelNotFound(
                    f"no model in {where} matches {text!r}",
                    hint="`ollama-ferry list` shows what there is. Quote a pattern, lest the shell expand it.",
                )
            chosen.update(matched)
        else:
            chosen.add(meant(place, text))
    return sorted(chosen)


def _with_others(error: ModelNotFound, located: Located) -> ModelNotFound:
    """Add to an error what the stores that were not chosen have of what was looked for."""
    lines: list[str] = []
    remedies: list[Remedy] = []
    for other in located.others:
        try:
            if error.name:
                found = resolve(Store(other), ModelName.parse(error.name))
                lines.append(f"{found} is in another store: {other}")
            else:
                lines.append(f"There is another store: {other}")
        except NotPermitted:
            lines.append(f"There is another store, which only its owner or root can read: {other}")
        except FerryError:
            continue
        remedies.append(Remedy("store", str(other)))
    if lines:
        lines.append(f"({located.root} was chosen because {located.why}.)")
    error.hint = "\n".join(filter(None, [*lines, error.hint]))
    error.remedies = (*remedies, *error.remedies)
    return error
