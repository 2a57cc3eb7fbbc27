"""What is served: chosen models under the paths that a pull can name, and the blobs that they name.

Source of the paths: the OCI distribution specification, and ``PullModel`` in ``server/images.go`` of Ollama, which asks
for ``/v2/<namespace>/<model>/manifests/<tag>`` whatever the host. A model's own host has no place in a path, so models
of different hosts must not meet in one.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

from ollama_ferry.engine.carried import Chosen, carried
from ollama_ferry.engine.inspect import leaves_out, require_whole
from ollama_ferry.engine.plan import NotCarried, blobs_of, left_out_error
from ollama_ferry.engine.ports import Inspectable, Readable
from ollama_ferry.errors import Damaged, MissingBlob, UsageError
from ollama_ferry.model.manifests import Descriptor, Digest, Manifest
from ollama_ferry.model.names import ModelName
from ollama_ferry.places.registry.manifest_forms import oci_form
from ollama_ferry.wording import exact_size

_LOCAL = "local"
_BEHIND_LOCAL = "-tag"


@dataclass(frozen=True)
class ServedModel:
    """A model, and where it is served.

    Attributes:
        name: its name in the place that it comes from.
        manifest: its own manifest, whose digest is its ID.
        repository: the path below ``/v2/``, for example ``library/deepseek-r1``.
        tag: the tag in that repository.
        form: the manifest of OCI's type that is served instead, with its own within; None serves its own.
    """

    name: ModelName
    manifest: Manifest
    repository: str
    tag: str
    form: Manifest | None = None

    @classmethod
    def of(cls, name: ModelName, manifest: Manifest, *, oci: bool = False) -> ServedModel:
        """Return a model under its own namespace, model and tag; its host is left out.

        Args:
            name: of the model.
            manifest: its own.
            oci: serve the form of OCI's type.

        Raises:
            UsageError: it has no such form.
        """
        form = Manifest.parse(oci_form(name, manifest)) if oci else None
        return cls(name, manifest, f"{name.namespace}/{name.model}", name.tag, form)

    @property
    def document(self) -> Manifest:
        """The manifest that is served, to the byte."""
        return self.form or self.manifest

    @property
    def path(self) -> str:
        """What a pull names behind the server's address: ``library/deepseek-r1:8b``."""
        return f"{self.repository}:{self.tag}"

    @property
    def path_for_ollama(self) -> str:
        """What ``ollama pull`` names: the path, but for a tag that it takes for a place.

        Source: ``internal/modelref`` of Ollama 0.33, which cuts ``:local`` off.
        """
        return f"{self.path}{_BEHIND_LOCAL}" if self.tag.lower() == _LOCAL else self.path


@dataclass
class _Repository:
    tags: dict[str, ServedModel] = field(default_factory=dict)
    tags_for_ollama: dict[str, ServedModel] = field(default_factory=dict)
    digests: dict[Digest, ServedModel] = field(default_factory=dict)
    blobs: dict[Digest, Descriptor] = field(default_factory=dict)


class ServedModels:
    """Looks up what a request asks for. Letter case does not count in repositories and tags, as with Ollama.

    It is made once and never changes: what the place gets later is not served, and what it loses is not found.

    Args:
        source: where the blobs are.
        models: what is served.

    Attributes:
        models: sorted by name.

    Raises:
        UsageError: two models would be served under one path.
        Damaged: a manifest contradicts itself.
    """

    def __init__(self, source: Inspectable, models: Iterable[ServedModel]) -> None:
        self.models = tuple(sorted(models, key=lambda model: model.name))
        self._source = source
        self._repositories: dict[str, _Repository] = {}
        for model in self.models:
            repository = self._repositories.setdefault(model.repository.lower(), _Repository())
            other = repository.tags.setdefault(model.tag.lower(), model)
            if other is not model:
                raise UsageError(
                    f"{other.name.path} and {model.name.path} would both be served as {model.path}",
                    hint="Name the models to serve, only one of these two; or serve the other on another port.",
                )
            if model.path_for_ollama != model.path:
                repository.tags_for_ollama[f"{_LOCAL}{_BEHIND_LOCAL}"] = model
            repository.digests.setdefault(model.document.digest, model)
            repository.blobs.update((blob.digest, blob) for blob in blobs_of(model.name, model.manifest))

    def model(self, repository: str, reference: str) -> ServedModel | None:
        """Return the model of a repository that a tag or a manifest's digest names; None where there is none."""
        found = self._repositories.get(repository.lower())
        if found is None:
            return None
        if ":" in reference:
            digest = _digest(reference)
            return found.digests.get(digest) if digest else None
        return found.tags.get(reference.lower()) or found.tags_for_ollama.get(reference.lower())

    def tags(self, repository: str) -> list[str] | None:
        """Return a repository's tags, sorted without regard to case; None where there is no such repository."""
        found = self._repositories.get(repository.lower())
        return [model.tag for _, model in sorted(found.tags.items())] if found else None

    def repositories(self) -> list[str]:
        """Return the repositories, sorted without regard to case, each as its first model spells it."""
        return [next(iter(found.tags.values())).repository for _, found in sorted(self._repositories.items())]

    def blob(self, repository: str, reference: str) -> Descriptor | None:
        """Return the blob of a digest if a model of that repository names it."""
        found, digest = self._repositories.get(repository.lower()), _digest(reference)
        return found.blobs.get(digest) if found and digest else None

    def require(self, blob: Descriptor) -> None:
        """Check that a blob is still there with its size.

        Raises:
            MissingBlob, Damaged: it is not.
        """
        size = self._source.blob_size(blob.digest)
        if size is None:
            raise MissingBlob(f"the blob {blob.digest} has gone since it is served")
        if size != blob.size:
            raise Damaged(f"the blob {blob.digest} has {exact_size(size)}, and should have {blob.size:,}")

    def open(self, blob: Descriptor, offset: int) -> AbstractContextManager[Readable]:
        """Open a blob's bytes from ``offset`` on."""
        return self._source.open(blob, offset)


def choose(place: Inspectable, chosen: Chosen, *, oci: bool = False) -> tuple[list[ServedModel], list[NotCarried]]:
    """Find the models that can be served.

    Args:
        place: where they are.
        chosen: which to serve; those that were named must be whole, others that are not are left out.
        oci: serve manifests of OCI's type.

    Raises:
        FerryError: a model that was named is not whole, or none is.
    """

    models: dict[ModelName, ServedModel] = {}

    def check(name: ModelName, manifest: Manifest) -> None:
        require_whole(place, name, manifest)
        models[name] = ServedModel.of(name, manifest, oci=oci)
        if lacking := [blob for blob in manifest.blobs if leaves_out(place, blob)]:
            raise left_out_error(f"{name}: {place.label}", lacking)

    found = carried(place, chosen, check=check)
    return [models[name] for name in found.manifests], list(found.left_out)


def _digest(text: str) -> Digest | None:
    try:
        return Digest.parse(text) if text.startswith("sha256:") else None
    except Damaged:
        return None
