"""The least that a Python program can do for what export and import do, to see what of their time is ours.

``floor.py copy FROM TO``: the system copies, a thread hashes what lies in TO, then TO is synced.
``floor.py pack FROM TO``: frames of 1 MiB are packed by isal on two threads, a third hashes, and TO is synced.
``floor.py unpack FROM TO``: these are unpacked one by one ahead of the writer, hashed and synced.
``floor.py small FROM TO``: each file of a folder is hashed and written under another name, 48 are synced at a time, and
get their names when all are there.

No checks, no errors, no tar, no index: nothing that could be trusted.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

_STEP = 1 << 20
_HEAD = 8
_TOGETHER = 48


def copy(source: int, target: int) -> None:
    """Copy, and hash what was written."""
    size, done = os.fstat(source).st_size, hashlib.sha256()
    piece = memoryview(bytearray(128 * 1024))

    def hash_step(begin: int, end: int) -> None:
        for at in range(begin, end, len(piece)):
            part = piece[: end - at]
            os.preadv(target, [part], at)
            done.update(part)

    with ThreadPoolExecutor(1) as hasher:
        at = 0
        while at < size:
            count = os.copy_file_range(source, target, 2 * _STEP)
            hasher.submit(hash_step, at, at + count)
            at += count


def pack(source: int, target: int) -> None:
    """Pack and hash; a frame is its length in eight bytes, then deflate."""
    from isal import igzip_lib

    def frame(data: bytes) -> bytes:
        packed: bytes = igzip_lib.compress(data, 1, igzip_lib.COMP_DEFLATE, igzip_lib.MEM_LEVEL_EXTRA_LARGE)
        return packed

    chunks = iter(lambda: os.read(source, _STEP), b"")
    for packed in _ahead(frame, _hashed(chunks)):
        os.writev(target, [len(packed).to_bytes(_HEAD, "big"), packed])


def unpack(source: int, target: int) -> None:
    """Unpack what :func:`pack` has made."""
    from isal import igzip_lib

    def content(packed: bytes) -> bytes:
        data: bytes = igzip_lib.decompress(packed, igzip_lib.COMP_DEFLATE, 15, _STEP)
        return data

    frames = (os.read(source, int.from_bytes(head, "big")) for head in iter(lambda: os.read(source, _HEAD), b""))
    for data in _hashed(_ahead(content, frames)):
        os.write(target, data)


def small(source: str, target: str) -> None:
    """Write many small files so that none has its name before its bytes are safe."""
    libc = ctypes.CDLL(None, use_errno=True)
    os.makedirs(target)
    folder = os.open(target, os.O_RDONLY)
    written: list[tuple[str, str]] = []
    for name in os.listdir(source):
        with open(os.path.join(source, name), "rb", buffering=0) as file:
            content = file.read()
        digest = f"sha256-{hashlib.sha256(content).hexdigest()}"
        fd = os.open(os.path.join(target, f"{digest}.partial"), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        os.write(fd, content)
        os.close(fd)
        written.append((f"{digest}.partial", digest))
        if not len(written) % _TOGETHER:
            libc.syncfs(folder)
    libc.syncfs(folder)
    for partial, digest in written:
        os.rename(partial, digest, src_dir_fd=folder, dst_dir_fd=folder)
    os.fsync(folder)


def _hashed(chunks: Iterable[bytes]) -> Iterator[bytes]:
    done = hashlib.sha256()
    with ThreadPoolExecutor(1) as hasher:
        for chunk in chunks:
            hashing = hasher.submit(done.update, chunk)
            yield chunk
            hashing.result()


def _ahead(work: object, chunks: Iterable[bytes]) -> Iterator[bytes]:
    coming: deque[Future[bytes]] = deque()
    with ThreadPoolExecutor(2) as pool:
        for chunk in chunks:
            coming.append(pool.submit(work, chunk))  # type: ignore[arg-type]
            if len(coming) > 3:
                yield coming.popleft().result()
        while coming:
            yield coming.popleft().result()


def main() -> None:
    """Do one of them."""
    what, origin, made = sys.argv[1:]
    if what == "small":
        small(origin, made)
        return
    bytes(31 * 1024 * 1024)  # glibc keeps freed buffers from here on
    source = os.open(origin, os.O_RDONLY)
    target = os.open(made, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o644)
    {"copy": copy, "pack": pack, "unpack": unpack}[what](source, target)
    os.fsync(target)


if __name__ == "__main__":
    main()
