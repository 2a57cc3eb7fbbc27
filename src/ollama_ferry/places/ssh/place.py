"""A store on another host, over ssh, as a place to read models from and to write them to.

Nothing is installed there: scripts for a POSIX shell do the work (:mod:`ollama_ferry.places.ssh.scripts`). The
invariants of a store hold there too: a blob is hashed there before it gets its name, it waits beside ``blobs/`` until
its model is complete, and the manifest comes last.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from ollama_ferry.archives import tar
from ollama_ferry.engine.inspect import not_found
from ollama_ferry.engine.plan import Plan
from ollama_ferry.engine.ports import Readable, whose
from ollama_ferry.engine.run import Run
from ollama_ferry.errors import (
    Damaged,
    FerryError,
    MissingBlob,
    NoSpace,
    UsageError,
    Vanished,
)
from ollama_ferry.model.layout import NEWER_MANIFESTS, name_forms
from ollama_ferry.model.manifests import Descriptor, Digest, Manifest
from ollama_ferry.model.names import ModelName
from ollama_ferry.places.ssh import scripts, writing_scripts
from ollama_ferry.places.ssh.connection import Call, SshConnection
from ollama_ferry.places.ssh.lock import PATIENCE, HostLock
from ollama_ferry.places.ssh.survey import Survey, read_survey
from ollama_ferry.wording import exact_size, human_size

_CHUNK = 1024 * 1024
# Blobs up to this size travel together, as a tar, which is a round trip for many instead of one for each.
_SMALL = 1024 * 1024
_BATCH_COUNT = 500
_BATCH_BYTES = 16 * 1024 * 1024
# More would fill the line before anything is read from it.
_ASKED_AT_ONCE = 4000
_NUMBER = re.compile(r"[0-9]{1,18}")
# What a far disk needs beside the blobs.
_SPARE = 4 * 1024 * 1024


class SshPlace:
    """A store on a host.

    Args:
        line: the line to the host.
        root: the store's folder there; empty finds it as Ollama's defaults say.
        patience: after how many seconds without a heartbeat another send counts as dead.
    """

    def __init__(self, line: SshConnection, root: str = "", *, patience: int = PATIENCE) -> None:
        self.line = line
        self._patience = patience
        self.label = f"{line.host}:{root}" if root else line.host
        self._wanted_root = root
        self._survey: Survey | None = None
        self._lock: HostLock | None = None
        self._expected: deque[Descriptor] = deque()
        self._coming: _Coming | None = None
        self._call: Call | None = None
        self._batch: list[tuple[Descriptor, bytes]] = []
        self._batch_size = 0
        self._batches = 0

    def __enter__(self) -> SshPlace:
        return self

    def __exit__(self, kind: type[BaseException] | None = None, *_: object) -> None:
        self._stop_coming()
        lock, self._lock = self._lock, None
        if lock is not None:
            lock.release(at_once=kind is not None)

    def take_survey(self, names: Iterable[ModelName] | None = None) -> Survey:
        """Find out what is there, in one call.

        Args:
            names: whose manifests are wanted; None for all.

        Raises:
            FerryError: the host can't be reached, or has no store.
        """
        forms = (name_forms(name) for name in names or ())
        paths = ["*"] if names is None else ["/".join(parts) for found in forms for parts in found]
        with self.line.call(scripts.LOOK, [self._wanted_root, *paths, "."]) as call:
            call.end_of_data()
            if call.line() != "ferry 1":
                raise FerryError(
                    f"{self.line.host} says something else before it answers",
                    hint="Does a start-up file of its shell (.bashrc) print something? It may do so on terminals only.",
                )
            self._survey = read_survey(call)
        return self._survey

    @property
    def survey(self) -> Survey:
        """What was found by the latest :meth:`take_survey`, which is made if need be."""
        return self._survey or self.take_survey()

    @property
    def root(self) -> str:
        """The store's folder on the host."""
        return self.survey.root

    # -- Source

    def names(self) -> Iterator[ModelName]:
        """Give the models that are there, sorted."""
        yield from sorted(self.survey.names)

    def manifest(self, name: ModelName) -> Manifest:
        """Return a model's manifest."""
        try:
            return self.survey.manifests[name]
        except KeyError:
            if name in self.survey.names:
                raise Damaged(f"the manifest of {name} on {self.label} is damaged, or not readable") from None
            raise not_found(self, name) from None

    def expect(self, blobs: Iterable[Descriptor]) -> None:
        """Announce which blobs will be opened, in order: they then come in one stream."""
        self._expected = deque(blobs)

    @contextmanager
    def open(self, blob: Descriptor, offset: int = 0) -> Iterator[Readable]:
        """Open a blob's bytes."""
        if self.survey.blobs.get(blob.digest) is None:
            raise MissingBlob(f"the blob {blob.digest} is not on {self.label}", digest=str(blob.digest))
        coming = self._coming
        if coming is None or coming.next != blob or offset:
            self._stop_coming()
            wanted = [blob, *self._after(blob)]
            coming = self._coming = _Coming(self, wanted, offset)
        data = coming.begin()
        try:
            yield data
        except BaseException:
            self._stop_coming()
            raise
        if data.left:
            self._stop_coming()

    def blob_size(self, digest: Digest) -> int | None:
        """Return a blob's size in bytes, or None where it is not there."""
        return self.survey.blobs.get(digest)

    def where(self, digest: Digest) -> str:
        """Return a blob's path on the host."""
        return f"{self.root}/blobs/{digest.file_name}"

    def read_config(self, config: Descriptor) -> bytes | None:
        """Return nothing: a config is not read over the line for a list."""
        return None

    def not_whole(self, blob: Descriptor, name: ModelName | None, size: int | None) -> Damaged:
        """Return the error for a blob that is not there as it should be."""
        if size is None:
            return MissingBlob(f"{whose(blob, name)} is not on {self.label}", digest=str(blob.digest))
        return Damaged(
            f"{whose(blob, name)} has {exact_size(size)} on {self.label}, and the manifest says {exact_size(blob.size)}"
        )

    def hashes(self, blobs: Iterable[Descriptor]) -> Iterator[tuple[Descriptor, str]]:
        """Let the host hash blobs; give each with what it has found, or an empty text where it is missing."""
        wanted = list(blobs)
        parameters = [self.root, self.survey.staging, "", *(blob.digest.file_name for blob in wanted), "."]
        with self.line.call(scripts.HASH, parameters) as call:
            call.end_of_data()
            for blob in wanted:
                word, _, found = call.line().rpartition(" ")
                if word != f"hash {blob.digest.file_name}":
                    raise FerryError(f"{self.line.host} answered with something else than was asked for")
                yield blob, "" if found == "missing" else found
            call.expect_end()

    # -- Sink

    def lock(self, *, wait: bool = True, run: Run | None = None) -> HostLock:
        """Let no other send write into the store until this place is left; what is put does so by itself.

        Args:
            wait: whether to wait for another send.
            run: notified of whom it waits for, and ends the waiting.

        Raises:
            AlreadyExists: another send is at work, and ``wait`` is not set.
            FerryError: the store can't be written to.
            Cancelled: it was given up.
        """
        if self._lock is None:
            survey = self.survey
            if survey.newer_layout:
                raise UsageError(
                    f"{self.label}:{survey.root} has its manifests in {NEWER_MANIFESTS}, where a send can't write",
                    hint="Import an archive there, or let the server there pull from `ollama-ferry serve`.",
                )
            lock = HostLock(self.line, self.label, survey.root, survey.staging, patience=self._patience)
            lock.take(survey.read_staging, wait=wait, run=run)
            self._lock = lock
        return self._lock

    def has(self, blob: Descriptor) -> bool:
        """Return whether a blob is there with its size, published or waiting."""
        survey = self.survey
        return survey.blobs.get(blob.digest) == blob.size or survey.staged.get(blob.digest) == blob.size

    def abort(self) -> None:
        """End what is being sent, from any thread: the host may not be listening any more."""
        if self._call is not None:
            self._call.kill()

    def begun(self, blob: Descriptor) -> int:
        """Return how many bytes of a blob are there of an earlier run."""
        return min(self.survey.begun.get(blob.digest, 0), blob.size) if blob.size > _SMALL else 0

    def prepare(self, plan: Plan) -> None:
        """Check that the far disk takes what the plan moves."""
        survey = self.survey
        needed = plan.size - sum(survey.begun.get(blob.digest, 0) for blob in plan.blobs)
        if survey.free is not None and plan.blobs and survey.free < needed + _SPARE:
            raise NoSpace(
                f"sending needs {human_size(needed + _SPARE)} in {self.label}:{survey.root}, and "
                f"{human_size(survey.free)} are free",
                hint="Nothing was sent. Free some space there: ollama rm MODEL",
            )

    def put(self, blob: Descriptor, data: Readable) -> None:
        """Send a blob; what is there of it already is not sent again."""
        if blob.size <= _SMALL and self.survey.has_tar:
            content = b"".join(iter(lambda: data.read(_CHUNK), b""))
            self._batch.append((blob, content))
            self._batch_size += len(content)
            if len(self._batch) >= _BATCH_COUNT or self._batch_size >= _BATCH_BYTES:
                self._flush()
            return
        self.lock()
        begun = min(self.survey.begun.get(blob.digest, 0), blob.size)
        self.survey.begun.pop(blob.digest, None)
        self._send(blob, data, begun)
        self.survey.staged[blob.digest] = blob.size

    def publish_model(self, name: ModelName, manifest: Manifest) -> None:
        """Publish a model on the host: its blobs, then its manifest."""
        self._flush()
        survey = self.survey
        parameters = [
            *self.lock().head[:3],
            *sorted(f"{blob.digest.file_name} {blob.size}" for blob in manifest.blobs),
            ".",
            "/".join(name.parts[:-1]),
            name.tag,
            str(len(manifest.raw)),
        ]
        with self.line.call(writing_scripts.COMMIT, parameters) as call:
            call.send(manifest.raw)
            call.end_of_data()
            try:
                call.expect_end()
            except Vanished:
                self._survey = None
                raise
        for blob in manifest.blobs:
            survey.blobs[blob.digest] = blob.size
        survey.manifests[name] = manifest

    # -- inside

    def _send(self, blob: Descriptor, data: Readable, begun: int) -> None:
        parameters = [*self.lock().head, blob.digest.file_name, str(blob.size), str(begun)]
        with self.line.call(writing_scripts.PUT, parameters) as call:
            self._call = call
            passed = 0
            while chunk := data.read(_CHUNK):
                skipped = max(0, min(len(chunk), begun - passed))
                passed += len(chunk)
                call.send(memoryview(chunk)[skipped:])
            call.end_of_data()
            call.expect_end()

    def _flush(self) -> None:
        """Send the small blobs that wait, as one tar."""
        if not self._batch:
            return
        batch, self._batch, self._batch_size = self._batch, [], 0
        self._batches += 1
        parts: list[bytes] = []
        for blob, content in batch:
            parts += [tar.file_header(blob.digest.file_name, len(content), 0), content, tar.padding(len(content))]
        length = sum(map(len, parts))
        self._call_put("many", [f"batch-{self._batches}"], [*parts, tar.end(length)])
        for blob, _ in batch:
            self.survey.staged[blob.digest] = blob.size

    def _call_put(self, kind: str, more: list[str], data: Iterable[bytes]) -> None:
        with self.line.call(writing_scripts.PUT, [*self.lock().head, kind, *more]) as call:
            call.send(b"".join(data))
            call.end_of_data()
            call.expect_end()

    def _after(self, blob: Descriptor) -> list[Descriptor]:
        """Return what is expected behind a blob."""
        while self._expected:
            if self._expected.popleft() == blob:
                return list(self._expected)[:_ASKED_AT_ONCE]
        return []

    def _stop_coming(self) -> None:
        if self._coming is not None:
            self._coming.close()
            self._coming = None


class _Coming:
    """Blobs that the host sends one after the other."""

    def __init__(self, place: SshPlace, blobs: list[Descriptor], offset: int) -> None:
        self._place = place
        self._blobs = deque(blobs)
        parameters = [place.root, place.survey.staging, ""]
        for number, blob in enumerate(blobs):
            parameters += [blob.digest.file_name, "0" if number else str(offset)]
        self._call = place.line.call(scripts.GET, [*parameters, "."])
        self._call.end_of_data()

    @property
    def next(self) -> Descriptor | None:
        return self._blobs[0] if self._blobs else None

    def begin(self) -> _Part:
        """Return the next blob's bytes."""
        blob = self._blobs.popleft()
        words = self._call.line().split(" ")
        if words[0] != "blob" or words[2:] != [blob.digest.file_name] or not _NUMBER.fullmatch(words[1]):
            raise MissingBlob(f"the blob {blob.digest} has gone from {self._place.label}", digest=str(blob.digest))
        return _Part(self._call, int(words[1]))

    def close(self) -> None:
        self._call.__exit__(KeyboardInterrupt, None, None)


class _Part:
    """So many bytes of a call's answer."""

    def __init__(self, call: Call, size: int) -> None:
        self.left = size
        self._call = call

    def read(self, size: int, /) -> bytes:
        if not self.left:
            return b""
        chunk = self._call.read(min(size, self.left))
        if not chunk:
            # The line has broken: what there is to be said of it comes as an error.
            self._call.line()
        self.left -= len(chunk)
        return chunk
