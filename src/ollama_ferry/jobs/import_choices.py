"""Which models of an archive an import takes, and which names they get in the store."""

from __future__ import annotations

from collections.abc import Collection, Container
from dataclasses import KW_ONLY, dataclass, field, replace

from ollama_ferry.engine.plan import NotCarried, Plan
from ollama_ferry.errors import Remedy, UsageError
from ollama_ferry.jobs.claims import Claims, ExistingModel, require_one
from ollama_ferry.jobs.select import Wanted, covers
from ollama_ferry.jobs.trust import NO_TRUST, Trust
from ollama_ferry.model.manifests import Manifest
from ollama_ferry.model.names import ModelName, Spelling
from ollama_ferry.model.renames import Renames
from ollama_ferry.places.store.pulled import Pull, pulls_into
from ollama_ferry.places.store.store import Store


@dataclass(frozen=True)
class ImportOptions:
    """What is imported, and how.

    Attributes:
        only: names and patterns of the models to take; empty takes all.
        rename: the names that models get.
        replace: whether a model of the same name and another content may be replaced.
        pulling: it is a pull: what an earlier one put there may be replaced, and what this one does will be known.
        verify_existing: hash blobs that are here already before they count as here.
        lenient: take an archive that not every tar reads in the same way; what is published is hashed all the same.
        trust: what the models have to be.
        exclude: names and patterns of models that are not taken.
    """

    only: tuple[str, ...] = ()
    _: KW_ONLY
    rename: Renames = field(default_factory=Renames)
    replace: bool = False
    pulling: bool = False
    verify_existing: bool = False
    lenient: bool = False
    trust: Trust = NO_TRUST
    exclude: tuple[str, ...] = ()

    @property
    def wanted(self) -> Wanted:
        """What is asked for of a place that can be searched."""
        return Wanted(self.only, not self.only, self.exclude)


@dataclass(frozen=True)
class ImportedModel:
    """A model that is in the store now.

    Attributes:
        name: its name in the store.
        source: its name in the archive.
        manifest: its manifest.
        was_here: it was here before, whole and the same.
        replaced: the shortened ID of the model that had its name before; empty for none.
    """

    name: ModelName
    source: ModelName
    manifest: Manifest
    was_here: bool
    replaced: str = ""


@dataclass
class Choices:
    """Which models of an archive get which names in the store; decided one by one, as they are met.

    Attributes:
        store: the store.
        options: what is asked for.
        label: what the archive is called.
        nameless: models whose name is a stopgap.
        models: those that are in the store in the end.
    """

    store: Store
    options: ImportOptions
    label: str
    nameless: Collection[ModelName] = ()
    models: dict[ModelName, ImportedModel] = field(default_factory=dict)
    not_carried: list[NotCarried] = field(default_factory=list)
    required: set[ModelName] = field(default_factory=set)
    all_required: bool = True
    _asked_for: list[ModelName] = field(default_factory=list)
    _spelling: Spelling = field(init=False)
    _claims: Claims = field(init=False)
    _pulls: Container[Pull] = field(init=False)

    def __post_init__(self) -> None:
        self._spelling = Spelling(self.store.names())
        self._claims = Claims(str(self.store.root), replace=self.options.replace, refuses=self.store.refuses)
        self._pulls = pulls_into(self.store) if self.options.pulling else {}

    def wants(self, name: ModelName, manifest: Manifest | None = None) -> bool:
        """Return whether a model of a stream is asked for."""
        asked_for = not self.options.only or any(covers(text, name, manifest) for text in self.options.only)
        return asked_for and not self.options.wanted.excludes(name)

    def take(self, source: ModelName, manifest: Manifest, *, by_name: bool) -> ModelName | None:
        """Decide on a model that is asked for.

        Args:
            source: its name in the archive.
            manifest: its manifest.
            by_name: it was asked for itself, and not by a pattern, or as one of all.

        Returns:
            Its name in the store, spelt as a model that is there already; None where there is nothing to do, where
            it is in conflict with one that is there, or where it was left out, for the store can't have its name.

        Raises:
            UsageError: a second model would get the one new name, or it has none and gets none.
        """
        self._asked_for.append(source)
        if self.options.rename.only is not None:
            require_one(self._asked_for, self.label)
        renamed = self.options.rename.of(source)
        if renamed is None and source in self.nameless:
            raise UsageError(
                f"{self.label} has no name for its model {manifest.digest.short}, listed as {source}",
                remedies=[Remedy("rename"), *([Remedy("models")] if len(self.nameless) > 1 else [])],
            )
        name = self._spelling.of(renamed or source)
        if not by_name and (why := self.store.refuses(name)):
            error = UsageError(f"from {self.label}: {why}", remedies=[Remedy("rename"), Remedy("models")])
            self.not_carried.append(NotCarried(str(source), error))
            return None
        found = self.store.manifest_or_none(name)
        existing = ExistingModel.of(found, manifest)
        if existing is not None and found is not None:
            existing = replace(existing, replaceable=(name, found.digest) in self._pulls)
        if not self._claims.claim(source, name, name.key, existing):
            return None
        whole = (
            existing is not None
            and existing.same
            and not self.options.verify_existing
            and all(self.store.has(blob) for blob in manifest.blobs)
        )
        replaced = existing.id if existing is not None and not existing.same else ""
        self.models[name] = ImportedModel(name, source, manifest, was_here=whole, replaced=replaced)
        return None if whole else name

    def without_unchanged(self, planned: Plan) -> Plan:
        """Leave out models that are here, the same and whole, as it has turned out."""
        moving = {blob.digest for blob in planned.blobs}
        left = []
        for model in planned.models:
            existing = ExistingModel.of(self.store.manifest_or_none(model.name), model.manifest)
            if existing is not None and existing.same and not any(b.digest in moving for b in model.manifest.blobs):
                self.models[model.name] = replace(self.models[model.name], was_here=True)
            else:
                left.append(model)
        return replace(planned, models=tuple(left))

    def leave_out(self, planned: Plan) -> None:
        """Forget the models that a plan has left out in the end, for their blobs were damaged."""
        self.not_carried += planned.not_carried
        for lost in planned.not_carried:
            self.models.pop(ModelName.parse(lost.name), None)

    @property
    def conflicts(self) -> bool:
        """Whether a model could not be taken so far."""
        return self._claims.conflicts

    def refuse_conflicts(self, *, done: str) -> None:
        """Raise where a model could not be taken.

        Args:
            done: what was done all the same, for the message.

        Raises:
            AlreadyExists: one is there under its name, and is another one.
        """
        self._claims.raise_conflicts(f"from {self.label}: {done}" if done else f"from {self.label}")
