"""Blobs into a registry: what is there is not sent, what another repository has is mounted, a broken line is gone on.

Source: the OCI distribution specification 1.1, "Push", with ``GET`` on an upload's address for how far it has come, as
the distribution project has it.
"""

from __future__ import annotations

import re
import urllib.parse
from collections.abc import Callable, Iterable
from contextlib import suppress
from queue import Empty, Full, Queue
from threading import Thread
from typing import Protocol

from ollama_ferry.errors import Cancelled, Damaged, FerryError, NotFound, NotPermitted, Refused, Unreachable
from ollama_ferry.model.manifests import Descriptor
from ollama_ferry.registries.answers import Answer, ConnectionBroke
from ollama_ferry.registries.client import Client
from ollama_ferry.registries.upload_records import UploadRecord

_CHUNK = 1024 * 1024
# The largest chunk that a registry may insist on.
_LARGEST_CHUNK = 256 * 1024 * 1024
_BINARY = {"Content-Type": "application/octet-stream"}
_WAKE = 0.2
# Refusals that have nothing to do with how far an upload is: no such method, too large, no room.
_FINAL = frozenset((405, 413, 501, 507))
_LAST_WORDS = 1.0


class UploadLost(Unreachable):
    """The registry has forgotten what it got of a blob, so that the blob has to be sent from its start."""


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


def has_blob(client: Client, repository: str, blob: Descriptor) -> bool:
    """Return whether a repository has a blob, in its size where the registry tells it."""
    try:
        answer = client.ask(
            "HEAD",
            f"/v2/{repository}/blobs/{blob.digest}",
            scope=f"repository:{repository}:pull",
            what=f"looking for the blob {blob.digest} in {client.registry}/{repository}",
            accept=(200,),
        )
    except NotFound:
        return False
    with answer:
        text = answer.header("Content-Length")
        return not re.fullmatch(r"[0-9]{1,19}", text) or int(text) == blob.size


def mount(client: Client, repository: str, blob: Descriptor, others: Iterable[str]) -> bool:
    """Let a repository have a blob that another one of the same registry has; tell whether that was possible."""
    for other in others:
        session = _Session(client, repository, blob)
        try:
            if session.start(mount_from=other):
                return True
        except (NotPermitted, NotFound):
            # Only a shortcut is missed.
            continue
        session.give_up()
    return False


def upload(client: Client, repository: str, blob: Descriptor, data: _Readable) -> None:
    """Send a blob.

    Args:
        client: the registry.
        repository: where it goes.
        blob: its digest and size.
        data: its bytes; the last read, which gives none, raises where they are not those of the digest, and then
            nothing is published.

    Raises:
        UploadLost: it has to be sent from its start.
        Unreachable, NotPermitted, FerryError: the registry does not take it.
    """
    if blob.size <= client.access.chunk_size:
        upload_whole(client, repository, blob, read_whole(data, blob))
        return
    with UploadRecord(client.access.environ, client.registry, repository, str(blob.digest)) as record:
        session = _Session(client, repository, blob, record.note)
        if not session.resume(record.location):
            session.start()
        try:
            _skip(data, session.offset)
            with _Sender(session) as sender:
                while chunk := _read_full(data, session.chunk_size):
                    sender.feed(chunk)
            session.finish()
        except BaseException as error:
            # What the line or the user broke off, the next run goes on with.
            if isinstance(error, UploadLost) or not isinstance(error, Unreachable | Cancelled | KeyboardInterrupt):
                session.give_up()
                record.forget()
            raise
        record.forget()


def _skip(data: _Readable, count: int) -> None:
    """Read what the registry has already, so that it is hashed."""
    while count and (chunk := data.read(min(_CHUNK, count))):
        count -= len(chunk)


def read_whole(data: _Readable, blob: Descriptor) -> bytes:
    """Read a small blob to its end, where wrong bytes are reported."""
    content = _read_full(data, blob.size + 1)
    data.read(1)
    return content


def _read_full(data: _Readable, size: int) -> bytes:
    parts, count = [], 0
    while count < size and (chunk := data.read(min(_CHUNK, size - count))):
        parts.append(chunk)
        count += len(chunk)
    return b"".join(parts)


def upload_whole(client: Client, repository: str, blob: Descriptor, content: bytes) -> None:
    """Send a small blob by one request; it is in memory, so that it can be sent again. See :func:`upload`."""
    tries = client.tries()
    while True:
        session = _Session(client, repository, blob)
        session.start()
        try:
            session.finish(content)
            return
        except UploadLost as error:
            # Not lost once more in the end: that was tried often enough.
            tries.failed(Unreachable(error.message, hint=error.hint))


class _Session:
    """One upload under way.

    Attributes:
        chunk_size: the bytes to send by one request.
        offset: how many bytes the registry has confirmed.
        client: the registry.

    Args:
        client, repository, blob: what goes where.
        note: told where the next bytes go, whenever that changes.
    """

    def __init__(
        self, client: Client, repository: str, blob: Descriptor, note: Callable[[str], None] | None = None
    ) -> None:
        self._note = note
        self.chunk_size = client.access.chunk_size
        self.offset = 0
        self.client = client
        self._repository = repository
        self._blob = blob
        self._scope = f"repository:{repository}:pull,push"
        self._location = ""

    @property
    def _what(self) -> str:
        return f"sending the blob {self._blob.digest} to {self.client.registry}/{self._repository}"

    def start(self, mount_from: str = "") -> bool:
        """Begin; tell whether the registry has taken the blob from another repository, which ends it."""
        path, scope = f"/v2/{self._repository}/blobs/uploads/", self._scope
        if mount_from:
            path += "?" + urllib.parse.urlencode({"mount": str(self._blob.digest), "from": mount_from})
            scope += f" repository:{mount_from}:pull"
        with self.client.ask("POST", path, scope=scope, what=self._what, accept=(201, 202)) as answer:
            if answer.status == 201:
                return True
            self._note_location(answer)
            least = answer.header("OCI-Chunk-Min-Length")
            if re.fullmatch(r"[0-9]{1,9}", least):
                self.chunk_size = min(max(self.chunk_size, int(least)), _LARGEST_CHUNK)
        return False

    def resume(self, location: str) -> bool:
        """Go on where an earlier run was broken off; tell whether the registry still knows of it."""
        if not location:
            return False
        try:
            if self.client.origin_at(location, self._what) != self.client.origin:
                return False
            self._location = location
            self._ask_how_far(1, self._blob.size)
        except FerryError:
            self._location = ""
            return False
        return True

    def send(self, chunk: bytes) -> None:
        """Send the next bytes; after a failure those of them that the registry lacks.

        Raises:
            UploadLost: the registry lacks bytes before these too.
        """
        start, tries = self.offset, self.client.tries()
        end = start + len(chunk)
        while self.offset < end:
            try:
                self._patch(memoryview(chunk)[self.offset - start :])
                # Some more is there: what failed before is no reason to give up.
                tries.succeeded()
            except (ConnectionBroke, _OutOfStep) as error:
                where = f"{self._what} failed after {self.offset} bytes"
                pause = error.pause if isinstance(error, ConnectionBroke) else 0.0
                tries.failed(self.client.unreachable(where, str(error)), pause)
                self._ask_how_far(start, end)
            except FerryError as error:
                raise _lost(error) from error

    def finish(self, content: bytes = b"") -> None:
        """Let the registry publish the blob, with its last bytes or with all of them.

        Raises:
            UploadLost: it does not.
        """
        joint = "&" if "?" in self._location else "?"
        url = f"{self._location}{joint}{urllib.parse.urlencode({'digest': str(self._blob.digest)})}"
        tries = self.client.tries()
        while True:
            try:
                self.client.ask(
                    "PUT",
                    url,
                    scope=self._scope,
                    what=self._what,
                    accept=(201, 204),
                    headers=_BINARY,
                    body=content,
                    once=True,
                ).close()
                return
            except ConnectionBroke as error:
                lost = UploadLost(f"{self._what}: {error}", hint="Run the same command again.")
                tries.failed(lost, error.pause)
                # The answer may be all that was lost.
                if has_blob(self.client, self._repository, self._blob):
                    return
                if content:
                    # How much of it has arrived is not known: it goes into an upload of its own.
                    raise lost from error
            except FerryError as error:
                raise _lost(error) from error

    def give_up(self) -> None:
        """Tell the registry that no more will come; whether it listens does not matter."""
        if self._location:
            with suppress(FerryError, ConnectionBroke):
                self.client.ask(
                    "DELETE", self._location, scope=self._scope, what=self._what, accept=(200, 202, 204), once=True
                ).close()

    def _patch(self, part: memoryview) -> None:
        headers = {**_BINARY, "Content-Range": f"{self.offset}-{self.offset + len(part) - 1}"}
        answer = self.client.ask(
            "PATCH",
            self._location,
            scope=self._scope,
            what=self._what,
            accept=(202, 204, 416),
            headers=headers,
            body=part,
            once=True,
        )
        with answer:
            if answer.status == 416:
                raise _OutOfStep("the registry has other bytes of it than were sent")
            self._note_location(answer)
            reached = _end_of(answer.header("Range"))
        if reached is not None and not self.offset <= reached <= self.offset + len(part):
            raise _OutOfStep("the registry has other bytes of it than were sent")
        self.offset = self.offset + len(part) if reached is None else reached

    def _ask_how_far(self, start: int, end: int) -> None:
        """Learn what of the last chunk has arrived."""
        try:
            answer = self.client.ask("GET", self._location, scope=self._scope, what=self._what, accept=(200, 202, 204))
        except FerryError as error:
            if isinstance(error, Unreachable):
                raise
            raise UploadLost(
                f"{self._what}: the registry has forgotten what it got", hint="Run the same command again."
            ) from error
        with answer:
            self._note_location(answer, required=False)
            reached = _end_of(answer.header("Range"))
        if reached is None or not start <= reached <= end:
            raise UploadLost(f"{self._what}: the registry has lost the line's end", hint="Run the same command again.")
        self.offset = reached

    def _note_location(self, answer: Answer, *, required: bool = True) -> None:
        """Keep where the next bytes go, which is on the registry itself and nowhere else."""
        text = answer.header("Location")
        if not text and not required:
            return
        client = self.client
        url = client.absolute(answer.url, text, self._what)
        parts = urllib.parse.urlsplit(url)
        if parts.scheme == "http" and not client.access.insecure and parts.netloc.lower() == client.registry.lower():
            # A proxy that ends TLS before a registry that does not know of it: a common slip, and mended by staying.
            url = parts._replace(scheme="https").geturl()
        if client.origin_at(url, self._what) != client.origin:
            raise Damaged(
                f"{self._what}: {client.registry} wants the bytes to be sent elsewhere, which is not done",
                hint="The registry, or a proxy before it, does not know under which name it is reached.",
            )
        self._location = url
        if self._note is not None:
            self._note(url)


def _lost(error: FerryError) -> FerryError:
    """Return what a refusal in the middle of an upload means: mostly that the registry does not know of it any more."""
    if isinstance(error, NotFound) or (isinstance(error, Refused) and error.status not in _FINAL):
        return UploadLost(error.message, hint=error.hint or "Run the same command again.")
    return error


class _OutOfStep(Exception):
    """The registry and we have different ideas of how far an upload is."""


def _end_of(text: str) -> int | None:
    """Return how many bytes ``Range: 0-N`` tells; None where it does not.

    ``0-0`` is what the distribution project says of none at all, so it counts as none.
    """
    found = re.fullmatch(r"(?:bytes=)?0-([0-9]{1,19})", text)
    if not found:
        return None
    return int(found[1]) + 1 if int(found[1]) else 0


class _Sender:
    """Sends chunks on a thread of its own, so that the next one is read and hashed meanwhile."""

    def __init__(self, session: _Session) -> None:
        self._session = session
        self._chunks: Queue[bytes] = Queue(1)
        self._failure: BaseException | None = None
        self._stopped = False
        self._thread = Thread(target=self._run, name="upload", daemon=True)

    def __enter__(self) -> _Sender:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._stopped = kind is not None
        self._put(b"")
        if kind is not None:
            # What hangs in a line must not keep one who has had enough; the thread is a daemon.
            self._thread.join(_LAST_WORDS)
            return
        while self._thread.is_alive():
            self._thread.join(_WAKE)
            self._session.client.run.check()
        if self._failure is not None:
            raise self._failure

    def feed(self, chunk: bytes) -> None:
        """Send bytes soon; a failure of those before is raised here."""
        self._put(chunk)
        if self._failure is not None:
            raise self._failure

    def _put(self, chunk: bytes) -> None:
        while self._thread.is_alive():
            try:
                self._chunks.put(chunk, timeout=_WAKE)
                return
            except Full:
                continue

    def _run(self) -> None:
        try:
            while chunk := self._chunks.get():
                if self._stopped:
                    return
                self._session.send(chunk)
        except BaseException as error:  # noqa: BLE001 -- raised by feed() or at the end
            self._failure = error
            with suppress(Empty):
                self._chunks.get_nowait()
