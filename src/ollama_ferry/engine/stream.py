"""Copy what can only be read as a stream, as it passes by; by the rules of :mod:`ollama_ferry.engine.copy`."""

from __future__ import annotations

from collections.abc import Callable, Collection

from ollama_ferry.engine.commits import Commits
from ollama_ferry.engine.copy import Copied
from ollama_ferry.engine.events import BlobDone, BlobStarted
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
        run: told of every step but the amount, which the stream's own reads tell; stops the copy at the next chunk.
        wanted: the blobs to take, where that is known; None takes all that the sink lacks, and drops in the end those
            that no model has named.
        everything: every model will be chosen, so that what the stream leaves out has to be there from the start.
        pass_over: told of a blob that is damaged; None ends the copy there.

    Raises:
        MissingBlob: a model's blob is neither in the stream nor in the sink.
        LeftOut: so it is, and the stream had said that it counts on the sink to have it.
        FerryError: what the stream, the sink or the check of a blob raised: nothing is committed then, for a manifest
            is sure when the stream has come to its end. What has arrived stays with a sink that resumes.
    """
    run = run or Run()
    commits = Commits(sink, run, at_end=True)
    moved: dict[Digest, Descriptor] = {}
    present: dict[Digest, Descriptor] = {}
    targets: set[ModelName] = set()

    def is_here(blob: Descriptor) -> bool:
        known = moved.get(blob.digest) or present.get(blob.digest)
        return known is not None and known.size == blob.size

    for entry in stream.entries():
        run.check()
        if isinstance(entry, LeavesOut):
            commits.left_out.update((blob.digest, blob) for blob in entry.blobs)
            if everything and (lacking := [blob for blob in entry.blobs if not sink.has(blob)]):
                raise left_out_error("the archive", lacking)
        elif isinstance(entry, ModelEntry):
            target = choose(entry.name, entry.manifest)
            if target in targets:
                raise UsageError(f"two models of the stream would both become {target}")
            if target is not None:
                targets.add(target)
                commits.expect(target, entry.manifest, is_here)
        elif wanted is None or entry.blob.digest in wanted:
            blob = entry.blob
            if blob.digest not in moved and sink.has(blob):
                present[blob.digest] = blob
            else:
                try:
                    _take(entry, None if blob.digest in moved else sink, run)
                except Damaged as error:
                    # What is wrong with the stream itself ends it; a blob's own bytes need not.
                    if pass_over is None or error.digest != str(blob.digest):
                        raise
                    pass_over(error)
                    continue
                moved[blob.digest] = blob
            commits.arrived(blob.digest, blob.size)
    commits.settle()
    if wanted is None and isinstance(sink, Resumes):
        for digest in moved.keys() - commits.committed_blobs:
            sink.discard(moved.pop(digest))
    return Copied(tuple(sorted(commits.committed)), tuple(moved.values()), tuple(present.values()))


def _take(entry: BlobEntry, sink: Sink | None, run: Run) -> None:
    """Take a blob that passes by; without a sink only look whether it is what it says."""
    with Verified(entry.blob, "the stream", run.unobserved()) as verified:
        verified.follow(entry.data)
        if sink is None:
            while verified.read(_CHUNK):
                pass
        else:
            run.tell(BlobStarted(entry.blob))
            sink.put(entry.blob, verified)
        verified.confirm_end()
    if sink is not None:
        run.tell(BlobDone(entry.blob))
