"""What an archive leaves out on purpose, because its target has it: said at its start, where a stream shows it first.

It stands in global PAX headers with nothing but a comment (POSIX.1-2017 ``pax``, "comment"), as ``git archive`` writes
them; every tar passes over these. See docs/archive-format.md.
"""

from __future__ import annotations

import re
import tarfile
from collections.abc import Iterator, Sequence

from ollama_ferry.archives.tar import BLOCK, padding

_TITLE = b"ollama-ferry leaves out\n"
_LINE = re.compile(rb"([0-9]{1,19}) ([0-9a-f]{64})\n")
# A header stays below 200 kB: readers bound what they take.
_IN_A_HEADER = 2000

LeftOutBlob = tuple[str, int]
"""The SHA-256 of a blob in hexadecimal, and its size in bytes."""


def left_out_headers(blobs: Sequence[LeftOutBlob]) -> bytes:
    """Return the tar headers that name the blobs; none where there are none."""
    return b"".join(_header(blobs[start : start + _IN_A_HEADER]) for start in range(0, len(blobs), _IN_A_HEADER))


def left_out_of(comment: bytes) -> Iterator[LeftOutBlob]:
    """Read the comment of a global header; one that is not ours names nothing."""
    if comment.startswith(_TITLE):
        for size, sha256 in _LINE.findall(comment[len(_TITLE) :]):
            yield sha256.decode(), int(size)


def _header(blobs: Sequence[LeftOutBlob]) -> bytes:
    text = _TITLE + b"".join(b"%d %s\n" % (size, sha256.encode()) for sha256, size in blobs)
    record = _record(b"comment=" + text)
    info = tarfile.TarInfo("pax_global_header")
    info.type = tarfile.XGLTYPE
    info.size = len(record)
    info.mode = 0o644
    header = info.tobuf(tarfile.USTAR_FORMAT, "ascii", "strict")
    assert len(header) == BLOCK  # noqa: S101 -- its name is short
    return header + record + padding(len(record))


def _record(keyed: bytes) -> bytes:
    """Return a PAX record: its own length in decimal digits, a blank, the key and value, a newline."""
    length = len(keyed) + 2
    while length != len(keyed) + 2 + len(str(length)):
        length = len(keyed) + 2 + len(str(length))
    return b"%d %s\n" % (length, keyed)
