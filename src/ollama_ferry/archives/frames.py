"""A stream cut into frames, packed by several threads, written in order by one more; or into a file as it is."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from ollama_ferry.archives.index import FRAME_LIMIT, Frames
from ollama_ferry.archives.packing import Frame, Packer, crc32
from ollama_ferry.engine.buffers import keep_freed_buffers
from ollama_ferry.engine.ports import CopiesItself, Readable, WrittenFile

WriteFrame = Callable[..., object]
"""Takes buffers, which must not change any more, and writes them one after the other."""

FRAME_SIZE = FRAME_LIMIT
"""The most bytes of the stream that one frame holds."""

# A frame below this is packed on the spot: handing it to a thread would take longer.
_INLINE = 32 * 1024


class FrameWriter:
    """Packs what it is given, frame by frame.

    Every call of :meth:`write` begins a new frame, so whoever writes decides where frames may be cut. Memory
    is bounded by the number of frames on their way, whatever the length of the stream.

    Args:
        write: takes the buffers of each frame in order; called from one thread, which is not the caller's.
        pack: turns bytes into a frame; called from several threads.
        threads: how many pack at once, at least 1.

    Attributes:
        frames: those that were written; all of them after :meth:`close`.
    """

    def __init__(self, write: WriteFrame, pack: Packer, *, threads: int) -> None:
        keep_freed_buffers()
        self._write = write
        self._pack = pack
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="pack")
        self.frames = Frames()
        self._frames: queue.Queue[tuple[Future[Frame] | Frame, int] | None] = queue.Queue(2 * threads + 2)
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._drain, name="write", daemon=True)
        self._thread.start()

    def write(self, data: bytes) -> None:
        """Add one frame of at most :data:`FRAME_SIZE` bytes, which must not change any more.

        Raises:
            OSError: an earlier frame could not be written.
        """
        self._raise_failure()
        if len(data) < _INLINE:
            self._frames.put((self._pack(data), len(data)))
        else:
            self._frames.put((self._pool.submit(self._pack, data), len(data)))

    def carry(self, data: Readable) -> None:
        """Add all of some bytes, which begin a frame and end one."""
        while chunk := data.read(FRAME_SIZE):
            self.write(chunk)

    def close(self) -> None:
        """Wait until everything is written.

        Raises:
            OSError: a frame could not be written.
        """
        self._stop()
        self._raise_failure()

    def abandon(self) -> None:
        """Stop, and write nothing more than is on its way; raises nothing."""
        self._failure = self._failure or InterruptedError("abandoned")
        self._stop()

    def _stop(self) -> None:
        if self._thread.is_alive():
            self._frames.put(None)
            self._thread.join()
        self._pool.shutdown(cancel_futures=True)

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _drain(self) -> None:
        # After a failure the queue is still emptied, so that nobody waits for a place in it.
        while (entry := self._frames.get()) is not None:
            if self._failure is not None:
                continue
            coming, unpacked = entry
            try:
                frame = coming.result() if isinstance(coming, Future) else coming
                self._write(*frame)
                packed = checksum = 0
                for buffer in frame:
                    packed += len(buffer)
                    checksum = crc32(buffer, checksum)
                self.frames.add(packed, unpacked, checksum)
            except BaseException as error:  # noqa: BLE001 -- raised again in the caller's thread
                self._failure = error


class UnpackedWriter:
    """Writes an archive that is not packed into a file, with the interface of :class:`FrameWriter`.

    There are no threads: the system copies what lies in files, and what is left to do is little.

    Args:
        file: what is written.
    """

    def __init__(self, file: WrittenFile) -> None:
        self._file = file
        self.frames = Frames()

    def write(self, data: bytes) -> None:
        """Add bytes."""
        self._file.write(data)

    def carry(self, data: Readable) -> None:
        """Add all of some bytes."""
        if isinstance(data, CopiesItself):
            data.copy_into(self._file)
            return
        while chunk := data.read(FRAME_SIZE):
            self._file.write(chunk)

    def close(self) -> None:
        """Do nothing: all is written."""

    def abandon(self) -> None:
        """Do nothing: nothing is on its way."""
