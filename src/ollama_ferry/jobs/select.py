"""Turn what a user typed into models of a place."""

from __future__ import annotations

from dataclasses import dataclass

from ollama_ferry.engine.carried import Chosen, passed_over
from ollama_ferry.engine.inspect import meant, resolve
from ollama_ferry.engine.ports import Searchable
from ollama_ferry.errors import FerryError, InvalidName, ModelNotFound, NotPermitted, Remedy
from ollama_ferry.model.manifests import Manifest
from ollama_ferry.model.names import ModelName, is_id, is_pattern, match, printed_forms
from ollama_ferry.ollama.locate import Located
from ollama_ferry.places.store.store import Store


@dataclass(frozen=True)
class Wanted:
    """Which models a user asked for.

    Attributes:
        texts: names and patterns.
        everything: all models of the place; ``texts`` are empty then.
        exclude: names and patterns of models that are not meant, whatever else is said.
    """

    texts: tuple[str, ...] = ()
    everything: bool = False
    exclude: tuple[str, ...] = ()

    def excludes(self, name: ModelName) -> bool:
        """Tell whether a model is not meant."""
        return any(covers(text, name) for text in self.exclude)


def covers(text: str, name: ModelName, manifest: Manifest | None = None) -> bool:
    """Return whether a name or a pattern means a model, or an ID where its manifest is known."""
    if is_pattern(text):
        return bool(match(text, [name]))
    same = manifest is not None and is_id(text) and manifest.digest.hex.startswith(text.lower())
    return same or ModelName.parse(text).key == name.key


def select(located: Located, wanted: Wanted) -> Chosen:
    """Return the models of a store that a user asked for; see :func:`pick`.

    Args:
        located: the store, and the others on this machine, which are only mentioned.
        wanted: what was asked for.
    """
    store = Store(located.root)
    try:
        return pick(store, wanted)
    except ModelNotFound as error:
        if error.name or wanted.everything:
            _with_others(error, located)
        raise


def pick(place: Searchable, wanted: Wanted) -> Chosen:
    """Return the models of a place that a user asked for.

    Args:
        place: a store, an archive, a host.
        wanted: what was asked for.

    Raises:
        InvalidName, ModelNotFound: a name is none, or neither a name nor a pattern covers a model.
    """
    for text in wanted.exclude:
        if not is_pattern(text):
            ModelName.parse(text)
    chosen: set[ModelName] = set()
    in_full: set[ModelName] = set()
    for text in ("*",) if wanted.everything else wanted.texts:
        if not is_pattern(text):
            in_full.add(_named(place, text))
        elif found := match(text, place.names()):
            chosen.update(found)
        elif wanted.everything:
            raise ModelNotFound(f"there is no model in {place.label}")
        else:
            raise ModelNotFound(
                f"no model in {place.label} matches {text!r}",
                hint="`ollama-ferry list` shows what there is. Quote a pattern, lest the shell expand it.",
            )
    names = {name for name in chosen | in_full if not wanted.excludes(name)}
    if not names and chosen | in_full:
        raise ModelNotFound(f"every model of {place.label} that was asked for was excluded as well")
    # A pattern without letters means all, what has no name among it.
    whole = wanted.everything or any(not text.strip("*:/") for text in wanted.texts)
    return Chosen(tuple(sorted(names)), frozenset(in_full & names), passed_over(place) if whole else ())


def _named(place: Searchable, text: str) -> ModelName:
    try:
        return meant(place, text)
    except (InvalidName, ModelNotFound):
        for other in passed_over(place):
            if text in printed_forms(other.name):
                raise other.why from None
        raise


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
