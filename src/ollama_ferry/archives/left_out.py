"""What an archive leaves out on purpose, because its target has it: said at its start, where a stream shows it first.

It stands in global PAX headers with nothing but a comment. See docs/archive-format.md.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from ollama_ferry.archives.tar import comment_header

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
    return comment_header(_TITLE + b"".join(b"%d %s\n" % (size, sha256.encode()) for sha256, size in blobs))
