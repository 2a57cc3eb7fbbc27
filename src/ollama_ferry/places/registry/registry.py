"""A registry as a place to read models from, and to write them to.

What names a model here is a :class:`ModelName`, and a reference says where that is in a registry: the two differ where
a repository has another depth than Ollama's names, or where a model gets another name on the way.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, closing

from ollama_ferry.engine.ports import Readable
from ollama_ferry.errors import CloudStub, Damaged, FerryError, ModelNotFound, NotFound, Vanished
from ollama_ferry.model.manifests import MANIFEST_LIMIT, Descriptor, Digest, Manifest, remote_host
from ollama_ferry.model.names import ModelName
from ollama_ferry.registries.answers import LineBroke
from ollama_ferry.registries.client import Client
from ollama_ferry.registries.downloads import open_blob
from ollama_ferry.registries.manifest_forms import DOCKER_TYPE, OCI_TYPE, media_type, oci_form, own_form
from ollama_ferry.registries.references import Reference
from ollama_ferry.registries.small_blobs import SMALL_AT_ONCE, SMALL_LIMIT, SmallBlobs, SmallUploads
from ollama_ferry.registries.uploads import blob_there, mount, read_whole, upload, upload_whole

# Ollama's registry is asked for the first by Ollama itself; the order says that nothing else is wanted more.
_ACCEPT = f"{DOCKER_TYPE}, {OCI_TYPE};q=0.9"
# Whatever may stand under a tag, for those who would replace it.
_ACCEPT_ANYTHING = (
    f"{DOCKER_TYPE}, {OCI_TYPE}, application/vnd.oci.image.index.v1+json, "
    "application/vnd.docker.distribution.manifest.list.v2+json, "
    "application/vnd.docker.distribution.manifest.v1+prettyjws, */*;q=0.1"
)
# Layers of a container image are file systems (OCI image specification, "Image Layer Filesystem Changeset").
_FILE_SYSTEM = ("application/vnd.docker.image.rootfs.", "application/vnd.oci.image.layer.")
_CONFIG_LIMIT = 1024 * 1024

Connect = Callable[[str], Client]
"""Returns the client for a registry, the same one each time; whoever gave it closes it."""


class RegistrySource:
    """Models of one registry or several.

    Args:
        references: where each model is; these are all that there is here.
        connect: gives the clients.
    """

    def __init__(self, references: Mapping[ModelName, Reference], connect: Connect) -> None:
        self.label = ", ".join(sorted({reference.registry for reference in references.values()}))
        self._references = dict(references)
        self._connect = connect
        self._manifests: dict[ModelName, Manifest] = {}
        # Which repository a blob is read from: a registry has them by repository.
        self._holders: dict[Digest, Reference] = {}
        self._small = SmallBlobs(self._whole)

    def close(self) -> None:
        """Fetch nothing more ahead."""
        self._small.close()

    def names(self) -> Iterator[ModelName]:
        """Give the models, sorted."""
        yield from sorted(self._references)

    def resolve(self, name: ModelName) -> ModelName:
        """Return the name, which has to be spelt as it was asked for."""
        self._reference(name)
        return name

    def manifest(self, name: ModelName) -> Manifest:
        """Return a model's manifest, whose time is now; it is asked for once."""
        if name not in self._manifests:
            reference = self._reference(name)
            manifest = fetch_manifest(self._connect(reference.registry), reference)
            if manifest is None:
                raise ModelNotFound(
                    f"there is no model {reference}",
                    hint="Look at the spelling; a registry may also say so to those who are not logged in.",
                    name=name,
                )
            for blob in manifest.blobs:
                self._holders.setdefault(blob.digest, reference)
            self._manifests[name] = manifest
        return self._manifests[name]

    def open(self, blob: Descriptor, offset: int = 0) -> AbstractContextManager[Readable]:
        """Open a blob, in the repository of a model that names it."""
        ahead = self._small.take(blob) if not offset else None
        if ahead is not None:
            return closing(io.BytesIO(ahead))
        return self._open(blob, offset)

    def expect(self, blobs: Iterable[Descriptor]) -> None:
        """Fetch small blobs ahead of their turn."""
        self._small.expect(blobs)

    def _whole(self, blob: Descriptor) -> bytes:
        with self._open(blob, 0) as data:
            return b"".join(iter(lambda: data.read(_CONFIG_LIMIT), b""))

    def _open(self, blob: Descriptor, offset: int) -> AbstractContextManager[Readable]:
        holder = self._holders.get(blob.digest) or next(iter(self._references.values()))
        return open_blob(self._connect(holder.registry), holder.repository, blob, offset)

    def require_blob(self, blob: Descriptor, name: ModelName | None = None) -> None:
        """Do nothing: a registry takes a manifest only with its blobs, and says so when asked for one that it lacks."""

    def blob_size(self, digest: Digest) -> int | None:
        """Return a blob's size as the manifests that were read give it."""
        for manifest in self._manifests.values():
            for blob in manifest.blobs:
                if blob.digest == digest:
                    return blob.size
        return None

    def where(self, digest: Digest) -> str:
        """Return the repository that has a blob, with the digest."""
        holder = self._holders.get(digest)
        return f"{holder.registry}/{holder.repository}@{digest}" if holder else str(digest)

    def require_whole(self, name: ModelName, manifest: Manifest) -> None:
        """Check that a model has weights."""
        host = self.remote_host(manifest)
        if host:
            raise CloudStub(f"{name} is a cloud model: it runs at {host} and has no weights")

    def remote_host(self, manifest: Manifest) -> str | None:
        """Return the host that a cloud stub names in its config; None for a model with weights."""
        config = manifest.config
        if config is None or config.size > _CONFIG_LIMIT:
            return None
        raw = self._whole(config)
        if Digest.of(raw) != config.digest:
            raise Damaged(f"{self.where(config.digest)}: its bytes have another digest", digest=str(config.digest))
        return remote_host(raw)

    def _reference(self, name: ModelName) -> Reference:
        try:
            return self._references[name]
        except KeyError:
            raise ModelNotFound(f"no model {name} was asked for in {self.label}", name=name) from None


class RegistrySink:
    """One repository of a registry, which models are written into under tags.

    Args:
        client: the registry.
        repository: where in it.
        tags: the tag that each model gets.
        oci: give manifests the form of OCI's type.
    """

    def __init__(self, client: Client, repository: str, tags: Mapping[ModelName, str], *, oci: bool = False) -> None:
        self.label = f"{client.registry}/{repository}"
        self._client = client
        self._repository = repository
        self._tags = dict(tags)
        self._oci = oci
        self._there: dict[tuple[Digest, int], bool] = {}
        self._small = SmallUploads(self._send_whole, client.cancel)

    def tagged(self, name: ModelName) -> bytes | None:
        """Return what is there under a model's tag, or None; no bytes for what is too large to be a model."""
        reference = Reference(self._client.registry, self._repository, self._tags[name])
        try:
            found = _fetch(self._client, reference, _ACCEPT_ANYTHING)
        except Damaged:
            return b""
        return found[0] if found else None

    def form(self, name: ModelName, manifest: Manifest) -> bytes:
        """Return the bytes that a model's manifest has here."""
        return oci_form(name, manifest) if self._oci else manifest.raw

    def look(self, blobs: Iterable[Descriptor]) -> list[Descriptor]:
        """Find out about many blobs at once; return those that are not there."""
        unknown = [blob for blob in blobs if (blob.digest, blob.size) not in self._there]
        found = _side_by_side(lambda blob: blob_there(self._client, self._repository, blob), unknown)
        for blob, there in zip(unknown, found, strict=True):
            self._there[blob.digest, blob.size] = there
        return [blob for blob in unknown if not self._there[blob.digest, blob.size]]

    def mount(self, blobs: Mapping[Descriptor, Collection[str]]) -> list[Descriptor]:
        """Take blobs from other repositories of the registry where they are there.

        Args:
            blobs: for each the repositories that may have it.

        Returns:
            Those that were.
        """
        candidates = {blob: [other for other in others if other != self._repository] for blob, others in blobs.items()}
        asked = [blob for blob, others in candidates.items() if others]
        found = _side_by_side(lambda blob: mount(self._client, self._repository, blob, candidates[blob]), asked)
        mounted = [blob for blob, there in zip(asked, found, strict=True) if there]
        self._there.update(((blob.digest, blob.size), True) for blob in mounted)
        return mounted

    def has(self, blob: Descriptor) -> bool:
        """Tell whether the repository has a blob."""
        key = (blob.digest, blob.size)
        if key not in self._there:
            self._small.settle()
        if key not in self._there:
            self._there[key] = blob_there(self._client, self._repository, blob)
        return self._there[key]

    def put(self, blob: Descriptor, data: Readable) -> None:
        """Send a blob, a small one soon; the registry checks its digest once more."""
        if blob.size <= min(SMALL_LIMIT, self._client.access.chunk_size):
            self._small.put(blob, read_whole(data, blob))
            return
        upload(self._client, self._repository, blob, data)
        self._there[blob.digest, blob.size] = True

    def pause(self, failures: int) -> None:
        """Wait before another try, longer with each, and until nothing of this one goes on."""
        self._small.drain()
        self._client.pause(failures)

    def _send_whole(self, blob: Descriptor, content: bytes) -> None:
        upload_whole(self._client, self._repository, blob, content)
        self._there[blob.digest, blob.size] = True

    def commit(self, name: ModelName, manifest: Manifest) -> None:
        """Send a manifest's bytes, when all blobs that were put are there.

        Raises:
            Vanished: the registry has lost a blob meanwhile.
            Damaged: it has taken other bytes.
        """
        self._small.settle()
        raw = self.form(name, manifest)
        what = f"sending the manifest of {name} to {self.label}:{self._tags[name]}"
        try:
            answer = self._client.ask(
                "PUT",
                f"/v2/{self._repository}/manifests/{self._tags[name]}",
                scope=f"repository:{self._repository}:pull,push",
                what=what,
                accept=(200, 201, 202, 204),
                headers={"Content-Type": media_type(raw)},
                body=raw,
            )
        except FerryError as error:
            if "BLOB_UNKNOWN" in error.message:
                # Collected as rubbish while the others were sent.
                self._there.clear()
                raise Vanished(error.message, hint="Run the same command again.") from error
            if "MANIFEST_INVALID" in error.message and media_type(raw) == DOCKER_TYPE:
                # Only now, for a registry looks at a manifest when the blobs are there.
                error.hint = (
                    "It may take no manifests of Docker's type, which Ollama's models have: push again with --oci (the "
                    'blobs are there). Or let it take them; zot: "http": {"compat": ["docker2s2"]}.'
                )
            raise
        with answer:
            said = answer.header("Docker-Content-Digest")
        if said.startswith("sha256:") and said != str(Digest.of(raw)):
            raise Damaged(f"{what}: it says that it has {said[:80]!a}, and was sent {Digest.of(raw)}")


def _side_by_side(ask: Callable[[Descriptor], bool], blobs: Iterable[Descriptor]) -> list[bool]:
    """Ask about several blobs at once; return the answers in their order."""
    threads = ThreadPoolExecutor(SMALL_AT_ONCE, thread_name_prefix="ask")
    try:
        return list(threads.map(ask, blobs))
    finally:
        # Where it is given up, the client's end ends those that still wait.
        threads.shutdown(wait=False, cancel_futures=True)


def fetch_manifest(client: Client, reference: Reference) -> Manifest | None:
    """Ask a registry for a manifest; None where there is none.

    Raises:
        Damaged: it is not what its digest says, is too big, or is not a model's.
    """
    what = f"reading the manifest of {reference}"
    found = _fetch(client, reference, _ACCEPT)
    if found is None:
        return None
    raw, said = found
    wanted = str(reference.digest) if reference.digest else said if said.startswith("sha256:") else ""
    if wanted and wanted != f"sha256:{Digest.of(raw).hex}":
        raise Damaged(f"{what}: its bytes have the digest {Digest.of(raw)}, and the registry says {wanted[:80]!a}")
    try:
        manifest = Manifest.parse(own_form(raw), modified=time.time())
        _ = manifest.blobs
    except Damaged as error:
        raise Damaged(f"{what}: {error}", hint="Is it a model of Ollama's?") from error
    if not manifest.layers and manifest.config is None:
        # An index of several platforms, most likely: a model has none.
        raise Damaged(f"{what}: it names no layers, so it is no model", hint="Is it a model of Ollama's?")
    if manifest.layers and all(layer.media_type.startswith(_FILE_SYSTEM) for layer in manifest.layers):
        raise Damaged(
            f"{what}: it is a container image: all of its layers are file systems",
            hint="Is the name right? Images are for docker, podman or skopeo.",
        )
    return manifest


def _fetch(client: Client, reference: Reference, accept: str) -> tuple[bytes, str] | None:
    """Ask for what a reference names: its bytes, and the digest that the registry gives it; None for nothing.

    Raises:
        Damaged: it is too big for a manifest.
    """
    what = f"reading the manifest of {reference}"
    failures = 0
    while True:
        try:
            answer = client.ask(
                "GET",
                f"/v2/{reference.repository}/manifests/{reference.wanted}",
                scope=f"repository:{reference.repository}:pull",
                what=what,
                accept=(200,),
                headers={"Accept": accept},
            )
            with answer:
                said = answer.header("Docker-Content-Digest")
                length = answer.length
                raw = answer.read_whole(MANIFEST_LIMIT, "a manifest")
                if length is not None and len(raw) != length:
                    raise LineBroke("the answer ended early")
            return raw, said
        except NotFound:
            return None
        except LineBroke as error:
            failures += 1
            if failures >= client.access.patience.attempts:
                raise client.unreachable(what, str(error)) from error
            client.pause(failures)
        except Damaged as error:
            raise Damaged(
                error.message if error.message.startswith(what) else f"{what}: {error}", hint=error.hint
            ) from error
