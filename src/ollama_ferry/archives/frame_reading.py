"""Unpack the frames of an indexed archive, several at once, from any byte of the tar on."""

from __future__ import annotations

import io
import threading
import zlib
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, BinaryIO, cast
from weakref import WeakSet

from ollama_ferry.archives.index import Frames
from ollama_ferry.archives.packing import crc32
from ollama_ferry.archives.stored_frames import GZIP_HEADER, stored_extents
from ollama_ferry.archives.zstd_library import load_zstd
from ollama_ferry.engine.ports import Extent
from ollama_ferry.errors import Damaged, FerryError

Inflate = Callable[[bytes, int], bytes]
"""Unpacks one frame to exactly as many bytes as its index says, or raises."""


class FrameReader:
    """Reads parts of the unpacked tar. Frames ahead of the reader are unpacked by threads.

    Args:
        file: the archive; read under a lock, so that several parts may be read at once.
        frames: where the frames are.
        packing: ``gzip`` or ``zstd``.
        threads: how many unpack at once.
        keep: how many frames to keep for other parts that want the same ones: small files share frames, and several
            readers want the same ones at about the same time.
        exact: unpack as strictly as others do, though it takes longer.
    """

    def __init__(
        self, file: BinaryIO, frames: Frames, packing: str, *, threads: int, keep: int, exact: bool = False
    ) -> None:
        self._file = file
        self._frames = frames
        self._packing = packing
        # Who gives a verdict looks at the sums of frames too.
        self._in_place = file if isinstance(file, io.FileIO) and not exact else None
        self._inflate = inflater(packing, exact=exact)
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="unpack")
        self._ahead = threads + 1
        self._keep = keep
        self._kept: OrderedDict[int, Future[bytes]] = OrderedDict()
        self._kept_lock = threading.Lock()
        self._parts: WeakSet[FramePart] = WeakSet()

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown(cancel_futures=True)

    def part(self, offset: int, size: int, *, ahead: bool = True) -> FramePart:
        """Return some bytes of the unpacked tar, to be read in order.

        Args:
            offset: where they begin.
            size: how many they are.
            ahead: let frames be unpacked before they are asked for; not where most of them will be skipped.
        """
        # Each of many parts orders less ahead, lest their frames push each other out before they are read.
        with self._kept_lock:
            most = max(1, min(self._ahead, self._keep // (2 * (len(self._parts) + 1)))) if ahead else 1
            part = FramePart(self._order, self._stored, self._frames, offset, size, most)
            self._parts.add(part)
        return part

    def _order(self, number: int) -> Future[bytes]:
        with self._kept_lock:
            kept = self._kept.get(number)
            # What failed is tried again: a disk may recover.
            if kept is None or kept.cancelled() or (kept.done() and kept.exception() is not None):
                kept = self._kept[number] = self._pool.submit(self.frame, number)
            self._kept.move_to_end(number)
            if len(self._kept) > self._keep:
                self._kept.popitem(last=False)
            return kept

    def _stored(self, number: int) -> list[Extent]:
        """Return where a frame's content lies as it is; nothing where it has to be unpacked."""
        if self._in_place is None:
            return []
        begin, length, unpacked, _ = self._frames.place(number)
        return stored_extents(Extent(self._in_place, begin, length), self._packing, unpacked)

    def frame(self, number: int) -> bytes:
        """Return a frame, unpacked and checked.

        Raises:
            Damaged: it is not what the index says.
        """
        begin, length, unpacked, checksum = self._frames.place(number)
        with self._lock:
            self._file.seek(begin)
            packed = self._read(length)
        if crc32(packed) != checksum:
            raise Damaged(f"its frame {number} at byte {begin} is damaged")
        try:
            content = self._inflate(packed, unpacked)
        except _ERRORS as error:
            raise Damaged(f"its frame {number} at byte {begin} is damaged ({error})") from error
        if len(content) != unpacked:
            raise Damaged(f"its frame {number} at byte {begin} has another length than its index says")
        return content

    def _read(self, length: int) -> bytes:
        try:
            packed = self._file.read(length)
            while len(packed) < length and (more := self._file.read(length - len(packed))):
                packed += more
        except OSError as error:
            raise FerryError(
                f"reading the archive failed: {error.strerror or error}",
                hint="The disk or stick may be failing, or was pulled out; run the same command again.",
            ) from error
        return packed


class FramePart:
    """Some bytes of the unpacked tar, in order."""

    def __init__(
        self,
        order: Callable[[int], Future[bytes]],
        stored: Callable[[int], list[Extent]],
        frames: Frames,
        offset: int,
        size: int,
        ahead: int,
    ) -> None:
        self.position = offset
        self._begin = order
        self._stored = stored
        self._in_place = False
        self._frames = frames
        self._end = offset + size
        self._ahead = ahead
        self._next = frames.at(offset) if size else len(frames)
        self._coming: deque[tuple[int, Future[bytes]]] = deque()
        # A frame, and how much of it was given.
        self._frame_left = b""
        self._at = 0

    def read(self, size: int, /) -> bytes:
        """Give at most ``size`` bytes, and none only at the end.

        Raises:
            Damaged: a frame is not what the index says.
        """
        if self.position >= self._end:
            return b""
        if self._at == len(self._frame_left):
            self._order()
            number, coming = self._coming.popleft()
            # The old frame goes before the new one is waited for: a slow reader holds one, not two.
            self._frame_left, self._at = b"", 0
            self._frame_left = coming.result()
            self._at = self.position - self._frames.start(number)
        wanted = min(size, self._end - self.position, len(self._frame_left) - self._at)
        # A whole frame is often all that is asked for, and then it is not copied.
        whole = wanted == len(self._frame_left)
        chunk = self._frame_left if whole else self._frame_left[self._at : self._at + wanted]
        self._at += wanted
        self.position += wanted
        return chunk

    def extents(self, most: int) -> Sequence[Extent]:
        """Pass over bytes that lie in the archive's file as they are; see :mod:`ollama_ferry.engine.ports`."""
        self._in_place = True
        found: list[Extent] = []
        left = min(most, self._end - self.position)
        while left > 0 and not self._coming and self._at == len(self._frame_left):
            number = self._frames.at(self.position)
            passed = self.position - self._frames.start(number)
            stored = self._stored(number)
            if not stored:
                break
            for extent in stored:
                before = min(passed, extent.size)
                passed -= before
                size = min(extent.size - before, left)
                if size:
                    found.append(Extent(extent.file, extent.offset + before, size))
                    left -= size
                    self.position += size
            self._next = self._frames.at(self.position) if self.position < self._end else len(self._frames)
        return found

    def skip(self, count: int) -> None:
        """Pass over bytes; frames that lie between are not read.

        Raises:
            Damaged: there are not so many.
        """
        if count > self._end - self.position:
            raise Damaged(f"it ends {count - self._end + self.position} bytes early")
        if count <= len(self._frame_left) - self._at:
            self._at += count
            self.position += count
            return
        self._frame_left, self._at = b"", 0
        self.position += count
        wanted = self._frames.at(self.position) if self.position < self._end else len(self._frames)
        while self._coming and self._coming[0][0] < wanted:
            self._coming.popleft()[1].cancel()
        if not self._coming:
            self._next = wanted

    def _order(self) -> None:
        """Let frames be unpacked ahead of the reader."""
        while len(self._coming) < self._ahead and self._next < len(self._frames):
            if self._frames.start(self._next) >= self._end:
                break
            if self._coming and self._in_place and self._stored(self._next):
                # It will be asked where that one lies.
                break
            self._coming.append((self._next, self._begin(self._next)))
            self._next += 1


def inflater(packing: str, *, exact: bool = False) -> Inflate:
    """Choose what unpacks frames: for gzip isal, or zlib where that is missing, or has to be as strict as others are.

    A frame has to be one member and nothing else: what stood behind its end, readers without the index would take for
    another member. libdeflate does not tell where it ended.
    """
    if packing == "zstd":
        zstd = load_zstd("reading a .tar.zst")

        def inflate_zstd(packed: bytes, size: int) -> bytes:
            return _bounded(zstd.ZstdDecompressor(), packed, size)

        return inflate_zstd
    # isal takes codes that are not complete, at which zlib and most others give up.
    body = (None if exact else _isal()) or _inflate_zlib

    def inflate_gzip(packed: bytes, size: int) -> bytes:
        if packed[:10] != GZIP_HEADER or int.from_bytes(packed[-4:], "little") != size:
            raise ValueError("a frame of another form")
        content = body(packed, size)
        if crc32(content) != int.from_bytes(packed[-8:-4], "little"):
            raise ValueError("its CRC is wrong")
        return content

    return inflate_gzip


def _isal() -> Inflate | None:
    try:
        from isal import igzip_lib
    except ImportError:
        return None

    def inflate(packed: bytes, size: int) -> bytes:
        return _bounded(igzip_lib.IgzipDecompressor(igzip_lib.DECOMP_DEFLATE), packed[10:-8], size)

    return inflate


def _inflate_zlib(packed: bytes, size: int) -> bytes:
    decoder = zlib.decompressobj(-15)
    # One byte more than there should be: a frame that unpacks to more shows.
    content = decoder.decompress(packed[10:-8], size + 1)
    if not decoder.eof and not decoder.decompress(decoder.unconsumed_tail, 1) and not decoder.eof:
        raise ValueError("it does not end")
    if decoder.unused_data:
        raise ValueError("something follows its end")
    return content


def _bounded(decoder: Any, packed: bytes, size: int) -> bytes:
    """Unpack a frame with a decoder that may stop before it has given all."""
    parts = []
    left = size + 1
    data = packed
    while left > 0 and not decoder.eof:
        chunk = decoder.decompress(data, left)
        data = b""
        if not chunk and decoder.needs_input:
            break
        parts.append(chunk)
        left -= len(chunk)
    if not decoder.eof:
        raise ValueError("it does not end where it should")
    if decoder.unused_data:
        raise ValueError("something follows its end")
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _errors() -> tuple[type[Exception], ...]:
    found: list[type[Exception]] = [ValueError, OSError, EOFError, zlib.error, MemoryError, RuntimeError]
    try:
        from isal import igzip_lib

        # Its type stub says that this is an instance.
        found.append(cast("type[Exception]", igzip_lib.IsalError))
    except ImportError:
        pass
    try:
        found.append(load_zstd("reading").ZstdError)
    except FerryError:
        pass
    return tuple(found)


_ERRORS = _errors()
