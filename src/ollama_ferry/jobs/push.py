"""Push: models of a store or an archive to a registry, only what is missing there."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from ollama_ferry.engine.buffers import keep_freed_buffers
from ollama_ferry.engine.carried import Chosen, carried
from ollama_ferry.engine.copy import copy, plan
from ollama_ferry.engine.pinned import Pinned
from ollama_ferry.engine.plan import NotCarried, PlannedModel
from ollama_ferry.engine.ports import Inspectable, Source
from ollama_ferry.engine.run import Run
from ollama_ferry.errors import Vanished
from ollama_ferry.jobs.claims import Claims, ExistingModel, require_distinct, require_one
from ollama_ferry.model.manifests import Descriptor, Digest
from ollama_ferry.model.names import ModelName
from ollama_ferry.places.registry.manifest_forms import is_form_of
from ollama_ferry.places.registry.references import PushTarget, Reference
from ollama_ferry.places.registry.sink import RegistrySink
from ollama_ferry.registries.access import Access
from ollama_ferry.registries.client import Client
from ollama_ferry.registries.uploads import UploadLost


@dataclass(frozen=True)
class PushOptions:
    """How models are pushed.

    Attributes:
        rename: what the one model is called below the target, as ``repository[:tag]``; None keeps its own name.
        replace: whether a model of the same name and another content may be replaced.
        mount_from: repositories of the same registry that may have blobs already.
        oci: give manifests the form of OCI's type, for registries and tools that take no other.
    """

    rename: str | None = None
    replace: bool = False
    mount_from: tuple[str, ...] = ()
    oci: bool = False


@dataclass(frozen=True)
class PushedModel:
    """A model that is in the registry now.

    Attributes:
        name: its name here.
        reference: where it is there.
        manifest_digest: the SHA-256 of its manifest here.
        registry_digest: the SHA-256 of its manifest there: the same, unless it has another form there.
        was_there: it was there before, the same.
    """

    name: ModelName
    reference: Reference
    manifest_digest: Digest
    registry_digest: Digest
    was_there: bool


@dataclass
class Pushed:
    """What a push did, or would do.

    Attributes:
        target: the registry and the prefix.
        models: the models that are there now.
        blobs: the blobs that were sent, or would be.
        mounted: the blobs that the registry took from other repositories of its own.
        present: the blobs that were there.
        seconds: how long it took.
        not_carried: what was asked for by a pattern, or as all, and can't be carried.
    """

    target: str
    models: list[PushedModel] = field(default_factory=list)
    blobs: list[Descriptor] = field(default_factory=list)
    mounted: list[Descriptor] = field(default_factory=list)
    present: list[Descriptor] = field(default_factory=list)
    seconds: float = 0.0
    not_carried: tuple[NotCarried, ...] = ()

    @property
    def size(self) -> int:
        """The bytes that were sent."""
        return sum(blob.size for blob in self.blobs)


def push(
    source: Inspectable,
    chosen: Chosen | Iterable[ModelName],
    target: PushTarget,
    options: PushOptions,
    access: Access,
    *,
    dry_run: bool = False,
    run: Run | None = None,
) -> Pushed:
    """Push models to a registry, one repository after the other; a manifest follows its blobs.

    Args:
        source: where they are.
        chosen: the models, spelt as there; of names alone, each has to be pushed.
        target: where they go.
        options: how.
        access: how the registry is talked to.
        dry_run: find out what would be sent, and send nothing.
        run: notified of every step; a copy begins anew with each repository; stops it at the next chunk.

    Raises:
        AlreadyExists: another model is there under one of the names; nothing was sent.
        FerryError: it could not be done; models that were complete before stay.
    """
    run = run or Run()
    keep_freed_buffers()
    found = carried(source, Chosen.of(chosen))
    wanted = plan(Pinned(source, found.manifests), None, found.manifests).models
    places = _places(wanted, target, options)
    done = Pushed(str(target), not_carried=found.left_out)
    with Client(target.registry, access, run) as client:
        repositories = _repositories(wanted, places, client, oci=options.oci)
        _refuse_conflicts(repositories, places, options)
        known: dict[Digest, str] = {}
        pinned = Pinned(source, {model.name: model.manifest for model in wanted})
        for repository in repositories:
            if dry_run:
                repository.foretell(pinned, done)
            else:
                repository.fill(pinned, done, known, options, run)
            for model in repository.models:
                done.models.append(
                    PushedModel(
                        model.name,
                        places[model.name],
                        model.manifest.digest,
                        Digest.of(repository.sink.form(model.name, model.manifest)),
                        model in repository.were_there,
                    )
                )
                known.update((blob.digest, repository.name) for blob in model.manifest.blobs)
    done.models.sort(key=lambda model: model.name)
    done.seconds = run.seconds
    return done


@dataclass
class _Repository:
    """One repository of the registry, and the models that go there."""

    name: str
    sink: RegistrySink
    models: list[PlannedModel]
    were_there: list[PlannedModel] = field(default_factory=list)

    def foretell(self, source: Source, done: Pushed) -> None:
        """Find out what would be sent."""
        planned = plan(source, self.sink, [model.name for model in self.models])
        done.blobs += planned.blobs
        done.present += planned.present

    def fill(
        self,
        source: Source,
        done: Pushed,
        known: dict[Digest, str],
        options: PushOptions,
        run: Run,
    ) -> None:
        """Send what is missing."""
        names = [model.name for model in self.models if model not in self.were_there]
        present = [blob for model in self.were_there for blob in model.manifest.blobs]
        if not names:
            done.present += dict.fromkeys(present)
            return
        sent: dict[Digest, Descriptor] = {}
        mounted: list[Descriptor] = []
        tries = self.sink.tries()
        while True:
            missing = self.sink.missing(plan(source, None, names).blobs)
            # What was mounted and is not there after all has to be sent.
            if not tries.failures:
                others = {blob: [*options.mount_from, *filter(None, [known.get(blob.digest)])] for blob in missing}
                mounted = self.sink.mount(others)
            planned = plan(source, self.sink, names)
            # What the registry has lost, or what was tried in vain, is sent anew and counts once.
            sent.update((blob.digest, blob) for blob in planned.blobs)
            try:
                copy(planned, source, self.sink, run)
                break
            except (Vanished, UploadLost) as error:
                self.sink.drain()
                tries.failed(error)
                run.note(f"{error}; sending it again")
        mounted = [blob for blob in mounted if blob.digest not in sent]
        done.mounted += mounted
        done.blobs += sent.values()
        present += [blob for blob in planned.present if blob not in mounted and blob.digest not in sent]
        done.present += dict.fromkeys(present)


def _places(models: Iterable[PlannedModel], target: PushTarget, options: PushOptions) -> dict[ModelName, Reference]:
    names = [model.name for model in models]
    if options.rename is not None:
        require_one(names, "the store")
        return {name: target.place_as(options.rename) for name in names}
    places = {name: target.place(name) for name in names}
    require_distinct(places.items())
    return places


def _repositories(
    models: Iterable[PlannedModel], places: dict[ModelName, Reference], client: Client, *, oci: bool
) -> list[_Repository]:
    grouped: dict[str, list[PlannedModel]] = {}
    for model in models:
        grouped.setdefault(places[model.name].repository, []).append(model)
    return [
        _Repository(name, RegistrySink(client, name, {m.name: places[m.name].tag for m in group}, oci=oci), group)
        for name, group in sorted(grouped.items())
    ]


def _refuse_conflicts(
    repositories: list[_Repository], places: dict[ModelName, Reference], options: PushOptions
) -> None:
    """Look at what is there under the models' names.

    Raises:
        AlreadyExists: it is another model, and may not be replaced.
    """
    claims = Claims("the registry", replace=options.replace)
    for repository in repositories:
        for model in repository.models:
            reference = places[model.name]
            found = repository.sink.tagged(model.name)
            same = found == repository.sink.form(model.name, model.manifest)
            existing = None
            if found is not None:
                # Another form of the same model is no conflict, and is written anew.
                alike = same or is_form_of(found, model.name, model.manifest)
                existing = ExistingModel(alike, Digest.of(found).short if found else "")
            claimed = claims.claim(model.name, reference, reference, existing)
            if claimed and same:
                # A registry takes a manifest when it has all that this names: thousands of blobs need no look.
                repository.were_there.append(model)
    claims.raise_conflicts("nothing was sent")
