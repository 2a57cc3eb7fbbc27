"""What every decoder reads in the same way: the forms of packed data that are accepted, and why others are not.

A checksum tells that we unpacked what was packed, not that others can: some decoders give up at what ours passes over.
:mod:`~ollama_ferry.archives.portable_tar` is the same for the tar within.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from typing import Protocol

from ollama_ferry.archives.portable_tar import odd


class Look(Protocol):
    """Sees the packed bytes of a member as they pass. What is damaged is none of its business: the decoder tells."""

    def see(self, data: bytes) -> None:
        """Look at further bytes; the last ones may be of what is behind the member.

        Raises:
            ReadDifferently: not every decoder takes them.
        """
        ...

    def end(self) -> None:
        """Look at what was kept: the member ended.

        Raises:
            ReadDifferently: as in ``see``.
        """
        ...


_GZIP_EXTRA, _GZIP_NAME, _GZIP_COMMENT = 4, 8, 16
_GZIP_FLAGS = _GZIP_EXTRA | _GZIP_NAME | _GZIP_COMMENT
# BusyBox 1.35 fails on 30,000 and takes 16,000.
_GZIP_EXTRA_LIMIT = 16_000
_GZIP_TEXT_LIMIT = 4096

# 64 MiB, as `xz -9` has it (xz file format, 5.3.1): BusyBox allows no more.
_XZ_DICTIONARY = 28
# By the check's number (xz file format, 2.1.1.2).
_XZ_CHECK_SIZES = (0, 4, 4, 4, 8, 8, 8, 16, 16, 16, 32, 32, 32, 64, 64, 64)

# A block's first 48 bits, wherever in a byte they begin. The format has no specification but bzip2's decompress.c.
_BZIP2_MAGIC, _BZIP2_MAGIC_BITS = 0x314159265359, 48
_BZIP2_LONGEST_CODE = 20
# How long the start of a block gets: 32,767 selectors of up to 6 bits, 6 tables of 258 lengths, each of which is told
# by up to 19 steps of two bits from the one before.
_BZIP2_HEAD = 40 * 1024


def check_gzip_header(peek: Callable[[int], bytes]) -> None:
    """Refuse what RFC 1952, 2.3.1 has in a member's header and some readers take for damage, or don't look at.

    Args:
        peek: returns so many bytes from the member's start, or fewer where there are no more.

    Raises:
        ReadDifferently: there is such a thing.
    """
    head = peek(12)
    flags = head[3] if len(head) > 3 else 0
    if flags & ~_GZIP_FLAGS:
        raise odd(f"a gzip header has the flags {flags:#04x}, which GNU gzip checks or refuses, and others ignore")
    at = 10
    if flags & _GZIP_EXTRA:
        length = int.from_bytes(head[10:12], "little")
        if length > _GZIP_EXTRA_LIMIT:
            raise odd(f"a gzip header has an extra field of {length} bytes, at which BusyBox gives up")
        at += 2 + length
    for flag in (_GZIP_NAME, _GZIP_COMMENT):
        if flags & flag:
            end = peek(at + _GZIP_TEXT_LIMIT).find(b"\0", at)
            if end < 0:
                raise odd(f"a gzip header has a name or comment of over {_GZIP_TEXT_LIMIT} bytes")
            at = end + 1


def new_look(packing: str) -> Look | None:
    """Return what looks at a further member; nothing where our decoder takes no more than others do."""
    if packing == "xz":
        return _XzBlocks()
    if packing == "bzip2":
        return _Bzip2Blocks()
    return None


class _XzBlocks:
    """Looks at the head of each block (xz file format, 3.1), which only those of the chunks in between lead to."""

    def __init__(self) -> None:
        self._kept = b""
        self._asking = _ask_for_xz_heads()
        self._skip, self._take = next(self._asking)

    def see(self, data: bytes) -> None:
        data = self._kept + data
        at = 0
        while len(data) - at >= self._skip + self._take:
            at += self._skip + self._take
            try:
                self._skip, self._take = self._asking.send(data[at - self._take : at])
            except StopIteration:
                # The index follows, and the decoder checks it.
                self._skip, self._take = 2**63, 0
        passed = min(self._skip, len(data) - at)
        self._skip -= passed
        self._kept = data[at + passed :]

    def end(self) -> None:
        pass


def _ask_for_xz_heads() -> Generator[tuple[int, int], bytes, None]:
    """Ask for bytes, each time by how many are to be passed over and how many to be given, up to the index."""
    flags = yield 6, 6
    check_size = _XZ_CHECK_SIZES[flags[1] & 15]
    skip = 0
    # A size of 0 is the start of the index.
    while size := (yield skip, 1)[0]:
        head = yield 0, size * 4 + 3
        if head[0] & 3:
            raise odd("its xz data has gone through a filter, which BusyBox does not know")
        at = 1
        for size_is_told in (0x40, 0x80):
            if head[0] & size_is_told:
                at += next((length for length, byte in enumerate(head[at:], 1) if byte < 0x80), len(head))
        # The filter's number and the size of its properties are before them.
        dictionary = head[at + 2] if at + 2 < len(head) else 0
        if dictionary > _XZ_DICTIONARY:
            raise odd("its xz data needs a dictionary of over 64 MiB, for which BusyBox has no room")
        packed, skip = 0, 0
        # LZMA2: each chunk begins with what it is and how long, a byte of 0 is the end.
        while control := (yield skip, 1)[0]:
            if 2 < control < 0x80:
                return
            sizes = yield 0, 4 if control >= 0x80 else 2
            # Sizes are told less one; from 0xC0 on there is a byte of properties.
            skip = int.from_bytes(sizes[-2:], "big") + 1 + (control >= 0xC0)
            packed += 1 + len(sizes) + skip
        skip = -(packed + 1) % 4 + check_size


class _Bzip2Blocks:
    """Looks at the start of each block, which is where its 48 bits of magic are.

    Elsewhere they are once in 2^48 bits, or by somebody's will; it is no great harm to refuse these.
    """

    def __init__(self) -> None:
        self._kept = bytearray()

    def see(self, data: bytes) -> None:
        self._kept += data
        # A block is looked at when its head has come, and not after each of many small pieces.
        if len(self._kept) >= 2 * _BZIP2_HEAD:
            self._check(len(self._kept) - _BZIP2_HEAD)

    def end(self) -> None:
        self._check(len(self._kept))

    def _check(self, size: int) -> None:
        """Check the blocks that begin in so many bytes, and let these go."""
        for at in _bzip2_blocks(self._kept, size):
            _check_bzip2_head(self._kept, at)
        del self._kept[:size]


def _bzip2_blocks(data: bytearray, end: int) -> Iterator[int]:
    """Yield where in some data blocks begin, in bits; they are looked for in so many bytes."""
    for shift in range(8):
        magic = _BZIP2_MAGIC << (-shift % 8)
        # The bytes that are no others' too.
        whole = magic.to_bytes(7, "big")[1:6] if shift else magic.to_bytes(6, "big")
        before = 1 if shift else 0
        at = data.find(whole, before)
        while 0 <= at - before < end:
            begin = at - before
            length = 7 if shift else 6
            found = int.from_bytes(data[begin : begin + length], "big") >> (-shift % 8)
            if len(data) >= begin + length and found & (2**_BZIP2_MAGIC_BITS - 1) == _BZIP2_MAGIC:
                yield begin * 8 + shift
            at = data.find(whole, at + 1)


def _check_bzip2_head(data: bytearray, begin: int) -> None:
    """Check the start of a block.

    Args:
        data: the block's head is in it, if this is one.
        begin: its first bit.

    Raises:
        ReadDifferently: libbz2 may take it, and others don't.
    """
    # Most of it costs as much as there is of it, so that many small blocks don't cost more than they are.
    for limit in (1024, _BZIP2_HEAD):
        head = data[begin // 8 : begin // 8 + limit]
        bits = f"{int.from_bytes(head, 'big'):0{len(head) * 8}b}"
        try:
            end = _read_bzip2_head(bits, begin % 8 + _BZIP2_MAGIC_BITS)
        except (IndexError, ValueError):
            continue
        if bits.find(f"{_BZIP2_MAGIC:0{_BZIP2_MAGIC_BITS}b}", begin % 8 + 1, end) > 0:
            # Else each of them would be read.
            raise odd("a block of its bzip2 data begins in the tables of another one")
        return
    if len(head) == _BZIP2_HEAD:
        raise odd("a block of its bzip2 data begins with longer tables than any writer makes")


def _read_bzip2_head(bits: str, at: int) -> int:
    """Read what is between a block's magic and its content; return where it ends.

    Raises:
        IndexError, ValueError: it does not end in these bits.
        ReadDifferently: libbz2 may take it, and others don't.
    """
    at += 32
    if bits[at] == "1":
        raise odd("a block of its bzip2 data is randomised, which BusyBox does not know")
    # 24 bits tell where the text begins. Which bytes are used: a bit for sixteen of them, then one for each of these.
    at += 1 + 24
    sixteens = bits[at : at + 16].count("1")
    symbols = bits[at + 16 : at + 16 + 16 * sixteens].count("1") + 2
    at += 16 + 16 * sixteens
    tables, selectors = int(bits[at : at + 3], 2), int(bits[at + 3 : at + 18], 2)
    at += 18
    chosen = []
    for _ in range(selectors):
        end = bits.index("0", at)
        chosen.append(end - at)
        at = end + 1
    for table in range(tables):
        length, room = int(bits[at : at + 5], 2), 2**_BZIP2_LONGEST_CODE
        at += 5
        for _ in range(symbols):
            while bits[at] == "1":
                length += 1 if bits[at + 1] == "0" else -1
                at += 2
            at += 1
            if not 1 <= length <= _BZIP2_LONGEST_CODE:
                # The decoder gives up here.
                return at
            room -= 2 ** (_BZIP2_LONGEST_CODE - length)
        if room < 0:
            raise odd("a table in its bzip2 data has more codes than there are, at which 7-Zip gives up")
        # lbzip2 itself writes a table that is not complete, where it needs one and two are the least.
        if room and table in _used(chosen, tables):
            raise odd("a table in its bzip2 data has fewer codes than there are, at which lbzip2 gives up")
    return at


def _used(chosen: list[int], tables: int) -> set[int]:
    """Return the tables that are used, each of which was told by its place among those that were used last."""
    order, used = list(range(tables)), set()
    for place in chosen:
        if place < tables:
            order.insert(0, order.pop(place))
            used.add(order[0])
    return used
