"""Blobs out of a registry: by ranges, resumed where the line broke, several at once where a blob is big.

Source: ``GET /v2/<name>/blobs/<digest>`` of the OCI distribution specification, RFC 9110 for ranges, and
``server/download.go`` of Ollama for a redirect whose target is kept for all ranges of a blob. The bytes are not hashed
here: whoever reads them does.
"""

from __future__ import annotations

import re
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from queue import Empty, Full, Queue
from threading import Condition, Thread

from ollama_ferry.errors import Cancelled, Damaged, FerryError, MissingBlob, NotFound, Unreachable
from ollama_ferry.model.manifests import Descriptor
from ollama_ferry.registries.answers import Answer, ConnectionBroke
from ollama_ferry.registries.client import Client
from ollama_ferry.wording import exact_size

_CHUNK = 512 * 1024
_ANSWERED = frozenset((200, 206))
# From so many parts on, several are asked for at once.
_PARTS_FOR_STREAMS = 3
_WAKE = 0.2
# Chunks that wait while the disk is busy: 8 MiB.
_AHEAD = 16


@contextmanager
def open_blob(client: Client, repository: str, blob: Descriptor, offset: int = 0) -> Iterator[BlobReader]:
    """Open a blob's bytes from ``offset`` on.

    Args:
        client: the registry.
        repository: where the blob is.
        blob: its digest and size; an answer of another size is refused.
        offset: the first byte that is wanted.

    Raises:
        MissingBlob: the registry does not have it.
        Damaged: it has it in another size, or gives other bytes than were asked for.
        Unreachable, NotPermitted: it can't be had.
    """
    if blob.size <= offset:
        yield BlobReader(iter(()))
        return
    source = _Blob(client, repository, blob)
    parts = _parts(offset, blob.size, client.access.part_size)
    if client.access.streams < 2 or len(parts) < _PARTS_FOR_STREAMS:
        yield BlobReader(source.fetch(offset, blob.size))
        return
    first = source.ask_again_and_again(*parts[0])
    if first.status == 200:
        # It knows no ranges.
        yield BlobReader(source.fetch(offset, blob.size, first))
        return
    window = _Window(source, deque(parts[1:]))
    try:
        yield BlobReader(_first_and_rest(source, parts, first, window))
    finally:
        window.close()


def _first_and_rest(source: _Blob, parts: list[tuple[int, int]], first: Answer, window: _Window) -> Iterator[bytes]:
    """Give the first part, and see by that whether the line is so slow that several ranges at once are worth it."""
    yield from source.fetch(*parts[0], first)
    start, end = parts[0][1], parts[-1][1]
    if (start - parts[0][0]) >= source.seconds * source.client.access.fast_enough:
        yield from _read_ahead(source.fetch(start, end), source)
    else:
        yield from window.chunks()


def _read_ahead(chunks: Iterator[bytes], source: _Blob) -> Iterator[bytes]:
    """Give chunks that a thread of its own reads, so that the line is read while the disk is written."""
    waiting: Queue[bytes | BaseException | None] = Queue(_AHEAD)

    def put(item: bytes | BaseException | None) -> bool:
        while not source.stopped:
            try:
                waiting.put(item, timeout=_WAKE)
                return True
            except Full:
                continue
        return False

    def read() -> None:
        try:
            for chunk in chunks:
                if not put(chunk):
                    return
            put(None)
        except BaseException as error:  # noqa: BLE001 -- raised again by the reader
            put(error)

    # A daemon, as those of the ranges.
    Thread(target=read, name="ahead", daemon=True).start()
    while True:
        try:
            item = waiting.get(timeout=_WAKE)
        except Empty:
            source.client.run.check()
            continue
        if item is None:
            return
        if isinstance(item, BaseException):
            raise item
        yield item


class BlobReader:
    """Bytes in order."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._rest = b""

    def read(self, size: int, /) -> bytes:
        """Give at most ``size`` bytes, and ``b""`` at the end."""
        if not self._rest:
            self._rest = next(self._chunks, b"")
        found, self._rest = self._rest[:size], self._rest[size:]
        return found


def _parts(start: int, end: int, size: int) -> list[tuple[int, int]]:
    return [(at, min(at + size, end)) for at in range(start, end, size)]


class _Blob:
    """A blob in a registry, and where it really lies, once that is known.

    Attributes:
        client: the registry.
        stopped: nobody wants more of it.
        seconds: how long its bytes were waited for, while nothing else was done.
    """

    def __init__(self, client: Client, repository: str, blob: Descriptor) -> None:
        self._repository = repository
        self._blob = blob
        self._path = f"/v2/{repository}/blobs/{blob.digest}"
        self._direct = ""
        self.client = client
        self.stopped = False
        self.seconds = 0.0

    @property
    def _what(self) -> str:
        return f"reading the blob {self._blob.digest} of {self.client.registry}/{self._repository}"

    def fetch(self, start: int, end: int, first: Answer | None = None) -> Iterator[bytes]:
        """Give the bytes from ``start`` to ``end``; whatever breaks is asked for again from where it broke.

        Args:
            start, end: the range, whose end is the first byte not in it.
            first: the answer to a request that was made already.
        """
        client = self.client
        position, tries, answer = start, client.tries(), first
        try:
            while position < end and not self.stopped:
                try:
                    if answer is None:
                        answer = self.ask(position, end)
                    began = time.monotonic()
                    chunk = answer.read(client.rate_limit.chunk(min(_CHUNK, end - position)))
                    self.seconds += time.monotonic() - began
                    if not chunk:
                        raise ConnectionBroke("the answer ended early")
                except ConnectionBroke as error:
                    if answer is not None:
                        answer.close()
                        answer = None
                    if self.stopped:
                        return
                    tries.failed(self._broken(position, error))
                    continue
                tries.succeeded()
                position += len(chunk)
                client.rate_limit.wait(len(chunk), client.run.cancel)
                yield chunk
        finally:
            if answer is not None:
                answer.close()

    def ask_again_and_again(self, start: int, end: int) -> Answer:
        """Ask for a range until there is an answer, whose body is at ``start``."""
        tries = self.client.tries()
        while True:
            try:
                return self.ask(start, end)
            except ConnectionBroke as error:
                tries.failed(self._broken(start, error))

    def _broken(self, position: int, error: ConnectionBroke) -> Unreachable:
        return self.client.unreachable(f"{self._what} failed after {position} bytes", str(error))

    def ask(self, start: int, end: int) -> Answer:
        """Ask for a range, and return the answer with its body at ``start``.

        Raises:
            ConnectionBroke: the line failed while bytes that are not wanted passed by.
        """
        headers = {"Range": f"bytes={start}-{end - 1}"}
        answer = self._ask(headers)
        try:
            if answer.status == 206:
                self._check_range(answer, start)
                return answer
            if answer.length not in (None, self._blob.size):
                raise self._other_size(answer.length)
            # No ranges here: what is there already passes by once more.
            while start:
                passed = len(answer.read(min(_CHUNK, start)))
                if not passed:
                    raise ConnectionBroke("the answer ended early")
                start -= passed
            return answer
        except BaseException:
            answer.close()
            raise

    def _ask(self, headers: dict[str, str]) -> Answer:
        client = self.client
        scope = f"repository:{self._repository}:pull"
        if self._direct:
            direct = self._direct
            try:
                return client.ask(
                    "GET", direct, scope="", what=self._what, accept=_ANSWERED, headers=headers, once=True
                )
            except (FerryError, ConnectionBroke) as error:
                # A signed address ends after a while, each storage says so in its own way; the registry gives another.
                if self._direct == direct:
                    self._direct = ""
                if isinstance(error, Cancelled | ConnectionBroke):
                    raise
        try:
            answer = client.ask("GET", self._path, scope=scope, what=self._what, accept=_ANSWERED, headers=headers)
        except NotFound as error:
            raise MissingBlob(
                f"{client.registry}/{self._repository} has no blob {self._blob.digest}",
                hint="The registry is not whole: push the model there again.",
                digest=str(self._blob.digest),
            ) from error
        if answer.origin != client.origin:
            self._direct = answer.url
        return answer

    def _check_range(self, answer: Answer, start: int) -> None:
        text = answer.header("Content-Range")
        found = re.fullmatch(r"bytes ([0-9]{1,19})-([0-9]{1,19})/([0-9]{1,19}|\*)", text)
        if not found or int(found[1]) != start or int(found[2]) < start:
            raise Damaged(
                f"{self._what}: asked for the bytes from {start} on, {answer.origin} gives {text[:100]!r}",
                digest=str(self._blob.digest),
            )
        if found[3] not in ("*", str(self._blob.size)):
            raise self._other_size(int(found[3]))

    def _other_size(self, size: int | None) -> Damaged:
        return Damaged(
            f"{self._what}: it has {exact_size(size or 0)} there, and the manifest says {exact_size(self._blob.size)}",
            hint="The registry is damaged: push the model there again.",
            digest=str(self._blob.digest),
        )


class _Part:
    """A range on its way, fetched by a thread of its own."""

    def __init__(self, source: _Blob, start: int, end: int, changed: Condition) -> None:
        self.chunks: deque[bytes] = deque()
        self.done = False
        self.error: BaseException | None = None
        self._changed = changed
        # A daemon: what hangs in a read when the copy is given up must not keep the process.
        thread = Thread(target=self._run, args=(source, start, end), name="range", daemon=True)
        thread.start()

    def _run(self, source: _Blob, start: int, end: int) -> None:
        try:
            for chunk in source.fetch(start, end):
                with self._changed:
                    self.chunks.append(chunk)
                    self._changed.notify_all()
        except BaseException as error:  # noqa: BLE001 -- raised by the reader
            self.error = error
        with self._changed:
            self.done = True
            self._changed.notify_all()


class _Window:
    """Several ranges of one blob at once, given in order; no more of them are in memory than are asked for at once."""

    def __init__(self, source: _Blob, parts: deque[tuple[int, int]]) -> None:
        self._source = source
        self._left = parts
        self._changed = Condition()
        self._parts: deque[_Part] = deque()

    def chunks(self) -> Iterator[bytes]:
        """Give the bytes in order."""
        while self._left and len(self._parts) < self._source.client.access.streams:
            self._next()
        while self._parts:
            part = self._parts[0]
            with self._changed:
                while not part.chunks and not part.done:
                    self._changed.wait(_WAKE)
                    self._source.client.run.check()
                chunk = part.chunks.popleft() if part.chunks else b""
            if chunk:
                yield chunk
                continue
            if part.error is not None:
                raise part.error
            self._parts.popleft()
            if self._left:
                self._next()

    def close(self) -> None:
        """Let the threads end."""
        self._source.stopped = True
        self._left.clear()
        self._parts.clear()

    def _next(self) -> None:
        start, end = self._left.popleft()
        self._parts.append(_Part(self._source, start, end, self._changed))
