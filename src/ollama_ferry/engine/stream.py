"""Copy what can only be read as a stream, as it passes by; by the rules of :mod:`ollama_ferry.engine.copy`."""

from __future__ import annotations

from collections.abc import Callable, Collection

from ollama_ferry.engine.copy import Copied
from ollama_ferry.engine.events import BlobDone, BlobStarted
from ollama_ferry.engine.pending_models import PendingModels
from ollama_ferry.engine.plan import left_out_error
from ollama_ferry.engine.ports import BlobEntry, LeavesOut, ModelEntry, Resumes, Sink, StreamSource
from ollama_ferry.engine.run import Run
from ollama_ferry.engine.verified import Verified
from ollama_ferry.errors import Damaged, UsageError
from ollama_ferry.model.manifests import Descriptor, Digest, Manifest
from ollama_ferry.model.names import ModelName

_CHUNK = 1024 * 1024

Choose = Callable[[ModelName, Manifest], ModelName | None]
"""Given a model that passes by, tells the name that it gets in the sink, or None where it is not wanted."""


def copy_stream(
    stream: StreamSource,
    sink: Sink,
    choose: Choose,
    run: Run | None = None,
    *,
    wanted: Collection[Digest] | None = None,
    everything: bool = False,
    pass_over: Callable[[Damaged], None] | None = None,
) -> Copied:
    """Copy models out of a stream, whose blobs may pass by before anybody knows who needs them.

    Args:
        stream: where they pass by.
        sink: where they go.
        choose: called once for each model; may raise.
        run: notified of every step but the amount, which the stream's own reads tell; stops the copy at the next chunk.
        wanted: the blobs to take, where that is known; None takes all that the sink lacks, and drops in the end those
            that no model has named.
        everything: every model will be chosen, so that what the stream leaves out has to be there from the start.
        pass_over: notified of a blob that is damaged; None ends the copy there.

    Raises:
        MissingBlob: a model's blob is neither in the stream nor in the sink.
        LeftOut: so it is, and the stream had said that it counts on the sink to have it.
        FerryError: what the stream, the sink or the check of a blob raised: nothing is published then, for a manifest
            is sure when the stream has come to its end. What has arrived stays with a sink that resumes.
    """
    run = run or Run()
    taken = _Taken(sink, run)
    for entry in stream.entries():
        run.check()
        if isinstance(entry, LeavesOut):
            taken.note_left_out(entry, everything=everything)
        elif isinstance(entry, ModelEntry):
            taken.expect(entry, choose)
        elif wanted is None or entry.blob.digest in wanted:
            taken.take(entry, pass_over)
    taken.pending.publish_rest()
    if wanted is None:
        taken.drop_unnamed()
    return taken.copied()


class _Taken:
    """What was taken out of a stream so far.

    Args:
        sink: where it goes.
        run: notified of each blob.
    """

    def __init__(self, sink: Sink, run: Run) -> None:
        self.pending = PendingModels(sink, run, at_end=True)
        self._sink = sink
        self._run = run
        self._moved: dict[Digest, Descriptor] = {}
        self._present: dict[Digest, Descriptor] = {}
        self._targets: set[ModelName] = set()

    def note_left_out(self, entry: LeavesOut, *, everything: bool) -> None:
        """Learn what the stream counts on the sink to have."""
        self.pending.left_out.update((blob.digest, blob) for blob in entry.blobs)
        if everything and (lacking := [blob for blob in entry.blobs if not self._sink.has(blob)]):
            raise left_out_error("the archive", lacking)

    def expect(self, entry: ModelEntry, choose: Choose) -> None:
        """Wait for the blobs of a model that is wanted."""
        target = choose(entry.name, entry.manifest)
        if target in self._targets:
            raise UsageError(f"two models of the stream would both become {target}")
        if target is not None:
            self._targets.add(target)
            self.pending.expect(target, entry.manifest, self._is_present)

    def take(self, entry: BlobEntry, pass_over: Callable[[Damaged], None] | None) -> None:
        """Take a blob that the sink lacks."""
        blob = entry.blob
        again = blob.digest in self._moved
        if not again and self._sink.has(blob):
            self._present[blob.digest] = blob
        else:
            try:
                self._put(entry, again=again)
            except Damaged as error:
                # What is wrong with the stream itself ends it; a blob's own bytes need not.
                if (pass_over is None and entry.certain) or error.digest != str(blob.digest):
                    raise
                if pass_over is not None:
                    pass_over(error)
                return
            self._moved[blob.digest] = blob
        self.pending.arrived(blob.digest, blob.size)

    def drop_unnamed(self) -> None:
        """Let go of blobs that no model has named."""
        if isinstance(self._sink, Resumes):
            for digest in self._moved.keys() - self.pending.published_blobs:
                self._sink.discard(self._moved.pop(digest))

    def copied(self) -> Copied:
        """Sum up."""
        return Copied(tuple(sorted(self.pending.published)), tuple(self._moved.values()), tuple(self._present.values()))

    def _put(self, entry: BlobEntry, *, again: bool) -> None:
        """Put a blob into the sink; one that comes again is of no use, and still has to be what it says."""
        with Verified(entry.blob, "the stream", self._run.unobserved()) as verified:
            verified.read_from(entry.data)
            if again:
                while verified.read(_CHUNK):
                    pass
            else:
                self._run.notify(BlobStarted(entry.blob))
                self._sink.put(entry.blob, verified)
            verified.confirm_end()
        if not again:
            self._run.notify(BlobDone(entry.blob))

    def _is_present(self, blob: Descriptor) -> bool:
        known = self._moved.get(blob.digest) or self._present.get(blob.digest)
        return known is not None and known.size == blob.size
