"""Send a blob's bytes into a connection, by the kernel alone where they lie in a file."""

from __future__ import annotations

import errno
import os
import select
import socket
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from ollama_ferry.engine.ports import Readable, extents_of
from ollama_ferry.errors import Damaged

# How much is read at once where bytes have to be read; a frame of an archive, which is then passed on uncopied.
_CHUNK = 1024 * 1024
# How much one call gives to the kernel: it sends what fits into the socket's buffer.
_MOST = 1 << 30
# Whether a timeout of the kernel's own can be set for what is sent; elsewhere its form is another.
_BLOCKS = sys.platform == "linux"
_STALLED = "the client took nothing for too long"
# What a file system or a socket answers that knows no sendfile.
_NO_SENDFILE = (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP)


class ClientGone(Exception):
    """The client has closed the connection, or takes nothing any more.

    Args:
        why: in a few words.
    """


def send_answer(connection: socket.socket, data: bytes) -> int:
    """Send bytes; the connection's timeout counts from the last byte that the client took.

    Returns:
        How many were sent: all.

    Raises:
        ClientGone: the client took no more.
    """
    view = memoryview(data)
    with _client_errors():
        while view:
            view = view[connection.send(view) :]
    return len(data)


def send_part(connection: socket.socket, data: Readable, offset: int, length: int) -> Iterator[int]:
    """Send some bytes of a blob; give the number of those sent so far now and then, and at last all of them.

    Args:
        connection: with a timeout, which counts from the last byte that the client took.
        data: the blob, opened at ``offset``.
        offset: where in it the part begins, for messages.
        length: of the part, in bytes.

    Raises:
        ClientGone: the client took no more.
        Damaged: the blob ends early.
        FerryError, OSError: it can't be read.
    """
    sent = 0
    while sent < length:
        extents = extents_of(data, length - sent) if hasattr(os, "sendfile") else ()
        for left in extents:
            while left.size:
                count = _send_file(connection, left.file.fileno(), left.offset, min(left.size, _MOST))
                if count is None:
                    count = send_answer(connection, left.read(_CHUNK))
                if count == 0:
                    raise Damaged(f"it ends at byte {offset + sent}, and should go on")
                left = left.behind(count)
                sent += count
                yield sent
        if not extents:
            chunk = data.read(min(_CHUNK, length - sent))
            if not chunk:
                raise Damaged(f"it ends at byte {offset + sent}, and should go on")
            sent += send_answer(connection, chunk)
            yield sent


def _send_file(connection: socket.socket, file: int, offset: int, count: int) -> int | None:
    """Send a piece of a file; None where that can't be done with this file."""
    while True:
        try:
            with _blocking(connection):
                return os.sendfile(connection.fileno(), file, offset, count)
        except BlockingIOError as error:
            if _BLOCKS:
                raise ClientGone(_STALLED) from error
            _wait_until_writable(connection)
        except OSError as error:
            if error.errno in _NO_SENDFILE:
                return None
            if isinstance(error, ConnectionError) or error.errno in (errno.ENOTCONN, errno.EBADF, errno.ETIMEDOUT):
                raise ClientGone("the client has gone") from error
            raise


@contextmanager
def _blocking(connection: socket.socket) -> Iterator[None]:
    """Let the kernel wait for the client, where it can be told for how long: one call then sends all of a blob.

    Otherwise each call sends what fits into the socket's buffer, and with twenty clients the interpreter's lock is
    handed around thousands of times a second.
    """
    timeout = connection.gettimeout()
    if not _BLOCKS or timeout is None:
        yield
        return
    seconds, fraction = divmod(timeout, 1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("@ll", int(seconds), int(fraction * 1e6)))
    connection.setblocking(True)
    try:
        yield
    finally:
        connection.settimeout(timeout)


def _wait_until_writable(connection: socket.socket) -> None:
    timeout = connection.gettimeout()
    with _client_errors():
        if hasattr(select, "poll"):
            poll = select.poll()
            poll.register(connection, select.POLLOUT)
            ready = bool(poll.poll(None if timeout is None else timeout * 1000))
        else:
            ready = bool(select.select([], [connection], [], timeout)[1])
    if not ready:
        raise ClientGone(_STALLED)


@contextmanager
def _client_errors() -> Iterator[None]:
    try:
        yield
    except TimeoutError as error:
        raise ClientGone(_STALLED) from error
    except (OSError, ValueError) as error:
        raise ClientGone("the client has gone") from error
