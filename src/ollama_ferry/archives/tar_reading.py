"""Read a tar archive from outside, member by member: strict, bounded, and in one pass.

Sources: POSIX.1-2017 ``pax`` ("ustar" and "pax" formats), the GNU tar manual ("Basic Tar Format"). Python's ``tarfile``
is not used: it reads extension headers of any size into memory, stops silently at a damaged header in the middle, and
takes an archive that was cut between two members for a whole one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from ollama_ferry.archives.members import MEMBER_LIMIT, Member, MemberKind
from ollama_ferry.archives.portable_tar import (
    Extension,
    Records,
    check_block,
    check_extension,
    check_link,
    check_member,
    check_records,
    check_start,
    is_read_only,
    member_names,
    odd,
    sums_of,
)
from ollama_ferry.archives.tar import BLOCK, CHECK
from ollama_ferry.archives.unpacking import PADDING_LIMIT, Unpacked
from ollama_ferry.errors import Damaged

# A name in Ollama's layout is below 700 bytes, and a path on Linux below 4,096.
_EXTENSION_LIMIT = 256 * 1024
_EXTENSIONS_A_MEMBER = 8
_GLOBALS_IN_A_ROW = 64
_COMMENTS_LIMIT = 16 * 1024 * 1024
_SIZE_LIMIT = 2**63

_KINDS = {
    b"0": MemberKind.FILE,
    b"\0": MemberKind.FILE,
    b"7": MemberKind.FILE,
    b"1": MemberKind.LINK,
    b"2": MemberKind.LINK,
    b"3": MemberKind.DEVICE,
    b"4": MemberKind.DEVICE,
    b"5": MemberKind.FOLDER,
    # A label, which has no content.
    b"V": MemberKind.FOLDER,
    b"6": MemberKind.DEVICE,
    # A folder of an incremental GNU archive, whose content is a list of names.
    b"D": MemberKind.FOLDER,
}
_AS_PLAIN = "Make it anew without {}: `tar -cf models.tar -C .../models blobs manifests`."
_PAX_RECORD = re.compile(rb"([1-9][0-9]{0,8}) ([^=\0]{1,1000})=")


class TarReader:
    """Iterates over the members of an archive; the content of the latest one is read with :meth:`read`.

    What was not read of it is skipped when the next one is asked for.

    Args:
        data: the unpacked archive.
        lenient: take what not every tar reads in the same way (:mod:`ollama_ferry.archives.portable_tar`), among it a
            second archive that follows the end of the first (``cat a.tar b.tar``).

    Attributes:
        comments: those of the global headers that were met so far; whoever reads them may take them away.
    """

    def __init__(self, data: Unpacked, *, lenient: bool = False) -> None:
        self._strict = not lenient
        self.comments: list[bytes] = []
        self._comment_bytes = 0
        self._read_only: set[int] = set()
        self._data = data
        self._left = 0
        self._padding = 0

    def __iter__(self) -> Iterator[Member]:
        """Give the members in order.

        Raises:
            ReadDifferently: it is a tar that readers differ in, and that is not taken.
            Damaged: the archive is no tar, is cut short, or holds what is not supported.
        """
        count = globals_in_a_row = 0
        while True:
            self._finish_member()
            header = self._next_header(count)
            if header is None:
                if globals_in_a_row and self._strict:
                    raise odd("a global header is its last member, which is damage to Python's tarfile")
                return
            count += 1
            if count > MEMBER_LIMIT:
                raise Damaged(f"it has more than {MEMBER_LIMIT} members")
            if header[156:157] == b"g":
                self._take_global(header)
                globals_in_a_row += 1
                if globals_in_a_row > _GLOBALS_IN_A_ROW:
                    raise Damaged(f"it has more than {_GLOBALS_IN_A_ROW} global headers in a row")
                continue
            globals_in_a_row = 0
            yield self._member(header)

    def read(self, size: int, /) -> bytes:
        """Give at most ``size`` bytes of the latest member, and none only at its end.

        Raises:
            Damaged: the archive ends before it.
        """
        wanted = min(size, self._left)
        if not wanted:
            return b""
        chunk = self._data.read(wanted)
        if not chunk:
            raise Damaged(f"it is cut short: {self._left} bytes of the member are missing")
        self._left -= len(chunk)
        return chunk

    @property
    def position(self) -> int:
        """Where in the unpacked archive the next byte of the latest member is."""
        return self._data.position

    def skip(self, count: int) -> None:
        """Pass over bytes of the latest member, of which there are as many.

        Raises:
            Damaged: the archive ends before that.
        """
        if count > self._left:
            raise Damaged(f"it ends {count - self._left} bytes early")
        self._data.skip(count)
        self._left -= count

    def _finish_member(self) -> None:
        if self._left:
            self._data.skip(self._left)
            self._left = 0
        if self._padding:
            padding, self._padding = self._padding, 0
            if self._exactly(padding, "in the middle of a member").strip(b"\0"):
                raise Damaged(f"what fills up the block before byte {self._data.position} is not zero")

    def _next_header(self, count: int) -> bytes | None:
        """Return the next header block, or None at the end of the archive."""
        zeros = 0
        while True:
            block = self._block()
            if block is None:
                if zeros < 2:
                    raise Damaged(
                        f"it is cut short: it ends after {count} members without the mark of its end"
                        if count
                        else "it is empty"
                    )
                return None
            if any(block):
                where = self._data.position - BLOCK
                try:
                    _check_sum(block)
                except Damaged as error:
                    if zeros >= 2:
                        raise Damaged(f"something that is no tar follows its end, at byte {where}") from error
                    what = "it is no tar archive" if where == 0 else f"the header at byte {where} is damaged"
                    raise Damaged(f"{what}: {error}") from error
                if zeros >= 2 and self._strict:
                    raise odd(f"something follows the mark of its end, at byte {where}, which others ignore")
                if zeros == 1:
                    raise Damaged(f"there is an empty block in the middle, before byte {where}")
                if self._strict and where == 0:
                    check_start(block)
                return block
            zeros += 1
            if zeros * BLOCK > PADDING_LIMIT:
                raise Damaged(f"more than {PADDING_LIMIT} zero bytes follow its end")

    def _member(self, header: bytes) -> Member:
        extensions: list[Extension] = []
        records: list[tuple[bytes, bytes]] = []
        for _ in range(_EXTENSIONS_A_MEMBER):
            kind = header[156:157]
            if kind not in (b"L", b"K", b"x"):
                return self._described(header, extensions, records)
            content = self._extension(header)
            extensions.append((kind, header, content))
            if kind == b"x":
                records += _pax_records(content)
            elif kind == b"L":
                _check_long_name(content)
            following = self._block()
            if following is None:
                raise Damaged("it is cut short behind an extension header")
            _check_sum(following)
            header = following
        raise Damaged(f"a member has more than {_EXTENSIONS_A_MEMBER} extension headers")

    def _described(self, header: bytes, extensions: list[Extension], records: Records) -> Member:
        type_flag = header[156:157]
        *others, name = (raw.decode("utf-8", "surrogateescape") for raw in member_names(header, extensions, records))
        shown = repr(name[:200])
        if "\0" in name:
            raise Damaged(f"the member {shown} has a NUL in its name")
        if type_flag == b"S" or any(key.startswith(b"GNU.sparse.") for key, _ in records):
            raise Damaged(f"the member {shown} is stored as a sparse file", hint=_AS_PLAIN.format("--sparse (-S)"))
        if type_flag == b"M":
            raise Damaged(
                f"the member {shown} begins in another volume", hint=f"{_AS_PLAIN.format('-M')} Split it with `split`."
            )
        if type_flag == b"V" and self._strict:
            raise odd(
                f"it has the label {shown}, which is a file for Python's tarfile", _AS_PLAIN.format("--label (-V)")
            )
        if type_flag not in _KINDS:
            raise Damaged(f"the member {shown} is of the unknown kind {type_flag!r}")
        kind = _KINDS[type_flag]
        if kind is MemberKind.FILE and name.endswith("/"):
            kind = MemberKind.FOLDER
        size = own_size = _number(header[124:136], "size")
        for text in (value for key, value in records if key == b"size"):
            if not re.fullmatch(rb"[0-9]{1,19}", text):
                raise Damaged(f"the member {shown} has the size {text[:40]!r}")
            size = int(text)
        if size >= _SIZE_LIMIT:
            raise Damaged(f"the member {shown} has the size {size}")
        if self._strict and kind in (MemberKind.FILE, MemberKind.FOLDER):
            for extension in extensions:
                check_block(extension[1])
                check_extension(extension)
            check_records(records)
            check_block(header)
            check_member(header, extensions, records, own_size)
            self._check_again(name, header)
        elif self._strict and kind is MemberKind.LINK:
            check_block(header)
            check_link(header, extensions, own_size)
        # Links, devices and folders have no content, whatever their size says (POSIX, "ustar").
        has_content = kind is MemberKind.FILE or type_flag == b"D"
        self._left = size if has_content else 0
        self._padding = -self._left % BLOCK
        check = header[CHECK] if header[257:265] == b"ustar  \0" else b""
        target = _link_target(header, extensions, records) if kind is MemberKind.LINK else ""
        return Member(
            name,
            kind,
            self._left,
            self._data.position,
            check if any(check) else b"",
            tuple(others),
            target,
            hard=type_flag == b"1",
        )

    def _check_again(self, name: str, header: bytes) -> None:
        """Refuse a second member in the place of one that may not be written to."""
        key = hash("/".join(part for part in name.split("/") if part not in ("", ".")))
        if key in self._read_only:
            raise odd(f"{name[:200]!r} comes again and may not be written to, at which Python's tarfile ends")
        if is_read_only(header):
            self._read_only.add(key)

    def _take_global(self, header: bytes) -> None:
        """Let comments and times pass; what would rename or resize every member is refused."""
        content = self._extension(header)
        records = _pax_records(content)
        for key, value in records:
            if key in (b"path", b"size", b"linkpath") or key.startswith(b"GNU.sparse."):
                raise Damaged(f"a global PAX header sets {key[:80]!r} of all members")
            if key == b"comment":
                self._comment_bytes += len(value)
                if self._comment_bytes > _COMMENTS_LIMIT:
                    raise Damaged(f"its comments have more than {_COMMENTS_LIMIT} bytes")
                self.comments.append(value)
        if self._strict:
            check_block(header)
            check_extension((b"g", header, content))
            check_records(records, of_all=True)

    def _extension(self, header: bytes) -> bytes:
        size = _number(header[124:136], "size")
        if size > _EXTENSION_LIMIT:
            raise Damaged(f"an extension header of {size} bytes is not read")
        content = self._exactly(size + -size % BLOCK, "in an extension header")
        return content[:size]

    def _block(self) -> bytes | None:
        """Return the next block, or None where the data ends on a border of blocks."""
        first = self._data.read(BLOCK)
        if not first:
            return None
        if len(first) == BLOCK:
            return first
        return first + self._exactly(BLOCK - len(first), "in the middle of a block")

    def _exactly(self, count: int, where: str) -> bytes:
        parts = []
        while count:
            chunk = self._data.read(count)
            if not chunk:
                raise Damaged(f"it is cut short: it ends {where}")
            parts.append(chunk)
            count -= len(chunk)
        return b"".join(parts)


def is_tar(start: bytes) -> bool:
    """Return whether something begins as a tar does: with a header, or with the mark of its end."""
    block = start[:BLOCK]
    if len(block) < BLOCK:
        return False
    if block[257:262] == b"ustar" or not any(block):
        return True
    try:
        _check_sum(block)
    except Damaged:
        return False
    return True


def _check_sum(block: bytes) -> None:
    """Check a header's sum: of all its bytes, those of the sum itself taken as blanks."""
    # A damaged digit or separator is of none of the forms that writers in use have.
    if block[148:156] not in sums_of(block):
        # Very old writers summed signed bytes.
        others = (*block[:148], *block[156:])
        signed = sum(others) + 8 * 0x20 - 256 * sum(byte > 127 for byte in others)
        if signed < 0 or block[148:156] != b"%06o\0 " % signed:
            raise Damaged("its sum is wrong")


def _link_target(header: bytes, extensions: list[Extension], records: Records) -> str:
    target = header[157:257].partition(b"\0")[0]
    for kind, _, content in extensions:
        if kind == b"K":
            target = content.partition(b"\0")[0]
    return next((value for key, value in records if key == b"linkpath"), target).decode("utf-8", "surrogateescape")


def _check_long_name(content: bytes) -> None:
    name, _, rest = content.partition(b"\0")
    if rest.strip(b"\0"):
        raise Damaged(f"a member has a NUL in its name, after {name[:200].decode('utf-8', 'replace')!r}")


def _number(field: bytes, what: str) -> int:
    """Read a number of a header: octal digits, or base 256 where the first bit is set."""
    if field[0] == 0x80:
        return int.from_bytes(field[1:], "big")
    if field[0] & 0x80:
        raise Damaged(f"a header has a negative {what}")
    text = field.rstrip(b"\0 ").lstrip(b" ")
    if not re.fullmatch(rb"[0-7]*", text):
        raise Damaged(f"a header has the {what} {bytes(field)!r}")
    return int(text or b"0", 8)


def _pax_records(content: bytes) -> list[tuple[bytes, bytes]]:
    """Read ``LENGTH KEY=VALUE\\n`` records."""
    records: list[tuple[bytes, bytes]] = []
    at = 0
    while at < len(content):
        found = _PAX_RECORD.match(content, at)
        end = at + int(found[1]) if found else 0
        if not found or found.end() >= end or end > len(content) or content[end - 1 : end] != b"\n":
            raise Damaged("a PAX extension header is damaged")
        records.append((found[2], content[found.end() : end - 1]))
        at = end
    return records
