"""Headers of a tar archive in GNU format.

Source: the GNU tar manual, "Basic Tar Format" and "GNU Extensions"; POSIX ``ustar``. Sizes of 8 GiB and more
are written in base 256 and long names in a ``././@LongLink`` entry, which GNU tar, bsdtar, BusyBox, 7-Zip
and Python read; PAX records would hide big sizes from BusyBox.
"""

from __future__ import annotations

import tarfile
from functools import cache

BLOCK = 512
_NAME_FIELD = 99
RECORD = 20 * BLOCK
"""What ``tar`` writes at a time; the archive is padded to it, as plain tar does."""

ALIGNED = 4096
"""Where files begin whose blocks file systems may share (Btrfs, XFS): on a border of their blocks, in bytes."""

OWNER = "ollama"
"""Owner and group by name: GNU tar as root looks the name up first, and Ollama's service has this user."""


CHECK = slice(495, 511)
"""Where a header has the first 16 bytes of its content's SHA-256, or zeros: GNU's format pads there."""


def file_header(name: str, size: int, mtime: int, check: bytes = b"") -> bytes:
    """Return the header blocks of a regular file of mode 0644.

    Args:
        name: the path inside the archive, ASCII.
        size: of the content in bytes, any size.
        mtime: in whole seconds since the epoch.
        check: the SHA-256 of the content, for a content that has no digest in its name.
    """
    header = _header(name, tarfile.REGTYPE, 0o644, size, mtime)
    if not check:
        return header
    blocks = bytearray(header)
    last = memoryview(blocks)[-BLOCK:]
    last[CHECK] = check[:16]
    last[148:156] = b" " * 8
    last[148:156] = b"%06o\0 " % sum(last)
    return bytes(blocks)


def folder_header(name: str, mtime: int) -> bytes:
    """Return the header blocks of a folder of mode 0755; ``name`` comes without the last slash."""
    return _header(name, tarfile.DIRTYPE, 0o755, 0, mtime)


def padding(size: int) -> bytes:
    """Return the zero bytes that fill a content of this size up to whole blocks."""
    return bytes(-size % BLOCK)


def end(position: int) -> bytes:
    """Return the two empty blocks that end an archive, padded to a whole record.

    Args:
        position: the length of the archive so far, in bytes.
    """
    length = 2 * BLOCK
    return bytes(length + (-(position + length)) % RECORD)


def comment_header(text: bytes) -> bytes:
    """Return a global PAX header with nothing but a comment, which every tar passes over; ``git archive`` writes such.

    Source: POSIX.1-2017 ``pax``, "comment".
    """
    keyed = b"comment=" + text
    # A record begins with its own length in decimal digits.
    length = len(keyed) + 2
    while length != len(keyed) + 2 + len(str(length)):
        length = len(keyed) + 2 + len(str(length))
    info = tarfile.TarInfo("pax_global_header")
    info.type = tarfile.XGLTYPE
    info.size = length
    info.mode = 0o644
    header = info.tobuf(tarfile.USTAR_FORMAT, "ascii", "strict")
    return header + b"%d %s\n" % (length, keyed) + padding(length)


def alignment(position: int) -> bytes:
    """Return the comment that brings what follows it to a border of :data:`ALIGNED`; nothing where it is there.

    Args:
        position: in the archive, in bytes; whole blocks.
    """
    gap = -position % ALIGNED
    if gap == BLOCK:
        # A comment has two blocks at least.
        gap += ALIGNED
    # The record fills its blocks: its length, a blank, the key, blanks and a newline.
    length = gap - BLOCK
    return comment_header(b" " * (length - len(f"{length} comment=\n"))) if gap else b""


def _header(name: str, kind: bytes, mode: int, size: int, mtime: int) -> bytes:
    if kind != tarfile.REGTYPE or len(name) > _NAME_FIELD or size >> 33 or mtime >> 33:
        return _made_by_tarfile(name, kind, mode, size, mtime)
    # Tens of thousands of small blobs have one each: only what differs is written anew.
    block = bytearray(_blank(kind, mode))
    block[: len(name)] = name.encode("ascii")
    block[124:148] = b"%011o\0%011o\0" % (size, mtime)
    block[148:155] = b"%06o\0" % sum(block)
    return bytes(block)


@cache
def _blank(kind: bytes, mode: int) -> bytes:
    """Return a header without name, size and time, and with blanks for its sum."""
    block = bytearray(_made_by_tarfile("", kind, mode, 0, 0))
    block[148:156] = b" " * 8
    return bytes(block)


def _made_by_tarfile(name: str, kind: bytes, mode: int, size: int, mtime: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.type = kind
    info.mode = mode
    info.size = size
    info.mtime = mtime
    info.uname = info.gname = OWNER
    return info.tobuf(tarfile.GNU_FORMAT, "ascii", "strict")
