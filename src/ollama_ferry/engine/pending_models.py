"""When a model is published: after the last blob that it needs."""

from __future__ import annotations

from collections.abc import Callable

from ollama_ferry.engine.events import ModelDone
from ollama_ferry.engine.plan import blobs_of, left_out_error
from ollama_ferry.engine.ports import Sink
from ollama_ferry.engine.run import Run
from ollama_ferry.errors import MissingBlob
from ollama_ferry.model.manifests import Descriptor, Digest, Manifest
from ollama_ferry.model.names import ModelName
from ollama_ferry.wording import exact_size


class PendingModels:
    """Manifests that wait for their blobs; each is published when it has the last one.

    Args:
        sink: where they go.
        run: notified of each.
        at_end: publish nothing before :meth:`publish_rest`: the sum over what passes by may come behind it.
    """

    def __init__(self, sink: Sink, run: Run, *, at_end: bool = False) -> None:
        self._at_end = at_end
        self.left_out: dict[Digest, Descriptor] = {}
        self.published: list[ModelName] = []
        self.published_blobs: set[Digest] = set()
        self._sink = sink
        self._run = run
        self._manifests: dict[ModelName, Manifest] = {}
        self._missing: dict[ModelName, dict[Digest, Descriptor]] = {}
        self._needed_by: dict[Digest, list[ModelName]] = {}

    def expect(self, name: ModelName, manifest: Manifest, is_present: Callable[[Descriptor], bool]) -> None:
        """Wait for those of a model's blobs that are not here."""
        missing = {blob.digest: blob for blob in blobs_of(name, manifest) if not is_present(blob)}
        self._manifests[name] = manifest
        self._missing[name] = missing
        for digest in missing:
            self._needed_by.setdefault(digest, []).append(name)
        if not missing and not self._at_end:
            self._publish(name)

    def arrived(self, digest: Digest, size: int | None = None) -> None:
        """Note that a blob is here; one of another size than the manifest says does not count."""
        for name in self._needed_by.get(digest, ()):
            missing = self._missing.get(name, {})
            if digest in missing and size in (None, missing[digest].size):
                del missing[digest]
                if not missing and not self._at_end:
                    self._publish(name)

    def publish_rest(self) -> None:
        """Publish all that waits, where the sink has had all along what did not arrive.

        Raises:
            MissingBlob: a blob is nowhere.
        """
        for name, missing in list(self._missing.items()):
            for blob in missing.values():
                if not self._sink.has(blob):
                    if blob.digest in self.left_out:
                        raise left_out_error(f"{name}: the archive", [blob])
                    raise MissingBlob(
                        f"{name}: its {blob.kind} blob {blob.digest} of {exact_size(blob.size)} is not in the archive, "
                        "nor was it here before",
                        hint="The archive is not whole: make it anew.",
                        digest=str(blob.digest),
                    )
            self._publish(name)

    def _publish(self, name: ModelName) -> None:
        manifest = self._manifests.pop(name)
        del self._missing[name]
        self._run.phase("waiting for the disk")
        self._sink.publish_model(name, manifest)
        self._run.phase()
        self.published.append(name)
        self.published_blobs.update(blob.digest for blob in manifest.blobs)
        self._run.notify(ModelDone(name))
