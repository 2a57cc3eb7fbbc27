"""A repository of a registry, to write models into."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor

from ollama_ferry.engine.ports import Readable
from ollama_ferry.errors import Damaged, FerryError, Remedy, Vanished
from ollama_ferry.model.manifests import Descriptor, Digest, Manifest
from ollama_ferry.model.names import ModelName
from ollama_ferry.places.registry.manifest_forms import DOCKER_TYPE, media_type, oci_form
from ollama_ferry.places.registry.manifests import manifest_under_tag
from ollama_ferry.places.registry.references import Reference
from ollama_ferry.registries.client import Client
from ollama_ferry.registries.retries import Tries
from ollama_ferry.registries.small_blobs import SMALL_AT_ONCE, SMALL_LIMIT, SmallUploads
from ollama_ferry.registries.uploads import has_blob, mount, read_whole, upload, upload_whole


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
        self._present: dict[tuple[Digest, int], bool] = {}
        self._small = SmallUploads(self._send_whole, client.run)

    def tagged(self, name: ModelName) -> bytes | None:
        """Return what is there under a model's tag, or None; no bytes for what is too large to be a model."""
        reference = Reference(self._client.registry, self._repository, self._tags[name])
        return manifest_under_tag(self._client, reference)

    def form(self, name: ModelName, manifest: Manifest) -> bytes:
        """Return the bytes that a model's manifest has here."""
        return oci_form(name, manifest) if self._oci else manifest.raw

    def missing(self, blobs: Iterable[Descriptor]) -> list[Descriptor]:
        """Find out about many blobs at once; return those that are not there."""
        unknown = [blob for blob in blobs if (blob.digest, blob.size) not in self._present]
        found = _side_by_side(lambda blob: has_blob(self._client, self._repository, blob), unknown)
        for blob, there in zip(unknown, found, strict=True):
            self._present[blob.digest, blob.size] = there
        return [blob for blob in unknown if not self._present[blob.digest, blob.size]]

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
        self._present.update(((blob.digest, blob.size), True) for blob in mounted)
        return mounted

    def has(self, blob: Descriptor) -> bool:
        """Return whether the repository has a blob."""
        key = (blob.digest, blob.size)
        if key not in self._present:
            self._small.wait()
        if key not in self._present:
            self._present[key] = has_blob(self._client, self._repository, blob)
        return self._present[key]

    def put(self, blob: Descriptor, data: Readable) -> None:
        """Send a blob, a small one soon; the registry checks its digest once more."""
        if blob.size <= min(SMALL_LIMIT, self._client.access.chunk_size):
            self._small.put(blob, read_whole(data, blob))
            return
        upload(self._client, self._repository, blob, data)
        self._present[blob.digest, blob.size] = True

    def tries(self) -> Tries:
        """Return a count of attempts at filling the repository."""
        return self._client.tries()

    def drain(self) -> None:
        """Wait until nothing of a failed attempt goes on; what was not there is asked for anew: others send it, too."""
        self._small.drain()
        self._present = {key: True for key, there in self._present.items() if there}

    def _send_whole(self, blob: Descriptor, content: bytes) -> None:
        upload_whole(self._client, self._repository, blob, content)
        self._present[blob.digest, blob.size] = True

    def publish_model(self, name: ModelName, manifest: Manifest) -> None:
        """Send a manifest's bytes, when all blobs that were put are there.

        Raises:
            Vanished: the registry has lost a blob meanwhile.
            Damaged: it has taken other bytes.
        """
        self._small.wait()
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
            if "BLOB_UNKNOWN" in error.message or "DIGEST_INVALID" in error.message:
                # Collected as rubbish while the others were sent; or not there yet, where another one sends it too.
                self._present.clear()
                raise Vanished(error.message, hint="Run the same command again.") from error
            if "MANIFEST_INVALID" in error.message and media_type(raw) == DOCKER_TYPE:
                # Only now, for a registry looks at a manifest when the blobs are there.
                error.hint = (
                    "It may take no manifests of Docker's type, which Ollama's models have (the blobs are there). Let "
                    'it take them; zot: "http": {"compat": ["docker2s2"]}.'
                )
                error.remedies = (Remedy("oci"),)
            raise
        with answer:
            said = answer.header("Docker-Content-Digest")
        if said.startswith("sha256:") and said != str(Digest.of(raw)):
            raise Damaged(f"{what}: it says that it has {said[:80]!r}, and was sent {Digest.of(raw)}")


def _side_by_side(ask: Callable[[Descriptor], bool], blobs: Iterable[Descriptor]) -> list[bool]:
    """Ask about several blobs at once; return the answers in their order."""
    threads = ThreadPoolExecutor(SMALL_AT_ONCE, thread_name_prefix="ask")
    try:
        return list(threads.map(ask, blobs))
    finally:
        # Where it is given up, the client's end ends those that still wait.
        threads.shutdown(wait=False, cancel_futures=True)
