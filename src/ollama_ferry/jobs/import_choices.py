"""Which models of an archive an import takes, and which names they get in the store."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from ollama_ferry.engine.plan import Plan
from ollama_ferry.errors import AlreadyExists, Damaged, UsageError
from ollama_ferry.model.manifests import Manifest
from ollama_ferry.model.names import ModelName, Spelling, is_pattern, match
from ollama_ferry.places.store.store import Store


@dataclass(frozen=True)
class ImportOptions:
    """What is imported, and how.

    Attributes:
        only: names and patterns of the models to take; empty takes all.
        rename: the name that the one model gets, or None.
        replace: whether a model of the same name and another content may be replaced.
        verify_existing: hash blobs that are here already before they count as here.
    """

    only: tuple[str, ...] = ()
    rename: ModelName | None = None
    replace: bool = False
    verify_existing: bool = False


@dataclass(frozen=True)
class ImportedModel:
    """A model that is in the store now.

    Attributes:
        name: its name in the store.
        source: its name in the archive.
        manifest: its manifest.
        was_here: it was here before, whole and the same.
    """

    name: ModelName
    source: ModelName
    manifest: Manifest
    was_here: bool


@dataclass
class Choices:
    """Which models of an archive get which names in the store; decided one by one, as they are met."""

    store: Store
    options: ImportOptions
    label: str
    models: dict[ModelName, ImportedModel] = field(default_factory=dict)
    conflicts: list[str] = field(default_factory=list)
    _spelling: Spelling = field(init=False)
    _keys: set[tuple[str, str, str, str]] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._spelling = Spelling(self.store.names())

    def wants(self, name: ModelName) -> bool:
        """Tell whether a model of a stream is asked for."""
        return not self.options.only or any(covers(text, name) for text in self.options.only)

    def take(self, source: ModelName, manifest: Manifest) -> ModelName | None:
        """Decide on a model that is asked for.

        Returns:
            Its name in the store, spelt as a model that is there already; None where there is nothing to do, or
            where it is in conflict with one that is there.

        Raises:
            UsageError: a second model would get the one new name.
        """
        if self.options.rename is not None and self.models:
            raise UsageError(
                f"--as names one model, and {self.label} has several that were asked for",
                hint="Name the one with --model.",
            )
        name = self._spelling.of(self.options.rename or source)
        if name.key in self._keys:
            self.conflicts.append(f"{source} and another model of {self.label} have names that differ in case only")
            return None
        self._keys.add(name.key)
        here = self._manifest_here(name)
        if here is not None and here.raw == manifest.raw:
            whole = not self.options.verify_existing and all(self.store.has(blob) for blob in manifest.blobs)
            self.models[name] = ImportedModel(name, source, manifest, was_here=whole)
            return None if whole else name
        if here is not None and not self.options.replace:
            self.conflicts.append(f"{name} is in {self.store.root} already, as {here.digest.short}, and is another one")
            return None
        self.models[name] = ImportedModel(name, source, manifest, was_here=False)
        return name

    def without_unchanged(self, planned: Plan) -> Plan:
        """Leave out models that are here, the same and whole, as it has turned out."""
        moving = {blob.digest for blob in planned.blobs}
        left = []
        for model in planned.models:
            here = self._manifest_here(model.name)
            if here is None or here.raw != model.manifest.raw or any(b.digest in moving for b in model.manifest.blobs):
                left.append(model)
            else:
                self.models[model.name] = replace(self.models[model.name], was_here=True)
        return replace(planned, models=tuple(left))

    def refuse_conflicts(self, *, done: str) -> None:
        """Raise where a model could not be taken.

        Args:
            done: what was done all the same, for the message.

        Raises:
            AlreadyExists: one is there under its name, and is another one.
        """
        if self.conflicts:
            raise AlreadyExists(
                f"{self.label}: " + "; ".join(self.conflicts) + (f" ({done})" if done else ""),
                hint="Replace what is there with --force, give it another name with --as, or take others with --model.",
            )

    def _is_here(self, name: ModelName) -> bool:
        return self.store.manifest_path(name).is_file()

    def _manifest_here(self, name: ModelName) -> Manifest | None:
        if not self._is_here(name):
            return None
        try:
            return self.store.manifest(name)
        except Damaged:
            # Nothing of value is replaced.
            return None


def covers(text: str, name: ModelName) -> bool:
    """Tell whether a name or pattern means a model."""
    return bool(match(text, [name])) if is_pattern(text) else ModelName.parse(text).key == name.key
