"""What every tar reads in the same way: the headers of a tar that are accepted, and why others are not.

A tar has many dialects, and what one reader takes for a name, a size or an end another ignores. A digest can't tell:
the blob that we hash may be right where GNU tar, bsdtar, BusyBox tar, Python's tarfile or 7-Zip restore another one, or
none. So this is a list of what is accepted, not of what is refused: the forms that writers in use produce, as far as
all five read them alike. docs/archive-format.md has the table of what each reader does; a fuzzer compares.

Sources: POSIX.1-2017 ``pax`` ("ustar", "pax"); the GNU tar manual, "Basic Tar Format"; libarchive's ``tar(5)``.
"""

from __future__ import annotations

import codecs
import re
import stat
from collections.abc import Sequence

from ollama_ferry.archives.tar import BLOCK, CHECK
from ollama_ferry.errors import ReadDifferently, Remedy

NAME = slice(0, 100)
KIND = slice(156, 157)
_MODE, _UID, _GID = slice(100, 108), slice(108, 116), slice(116, 124)
_SIZE, _TIME = slice(124, 136), slice(136, 148)
_LINK = slice(157, 257)
_MAGIC = slice(257, 265)
_OWNERS = (slice(265, 297), slice(297, 329))
_DEVICE = (slice(329, 337), slice(337, 345))
PREFIX = slice(345, 500)

POSIX_MAGIC = b"ustar\x0000"
GNU_MAGIC = b"ustar  \0"

# Digits with blanks before them, and blanks and NULs behind; or none of it where a field is not used.
_OCTAL = re.compile(rb" *[0-7]+[ \0]*")
_FILES = (b"0", b"\0")
_FOLDER = b"5"
# libarchive looks for packed data in packed data, and takes a name for it.
_PACKED = (b"BZh", b"LZIP", b"LRZI", b"GRZip", b"begin ")
# No mark of packed data needs more to be told from text.
_MARK_LIMIT = 6
_PATH_LIMIT = 4096
_PART_LIMIT = 255

# Records that change no name, size or content. Numbers are of those forms that every reader takes.
_TIME_VALUE = re.compile(rb"-?[0-9]{1,12}(\.[0-9]{1,20})?")
# GNU tar ends with an error above 2^32.
# What systems keep owners and groups in.
_IDS = 2**32 - 1
_ID_VALUE = re.compile(rb"[0-3]?[0-9]{1,9}")
_TEXT_VALUE = re.compile(rb"[^\0]*", re.DOTALL)
_ANY_VALUE = re.compile(rb".*", re.DOTALL)
_RECORDS: dict[bytes, re.Pattern[bytes]] = {
    b"atime": _TIME_VALUE,
    b"ctime": _TIME_VALUE,
    b"mtime": _TIME_VALUE,
    b"LIBARCHIVE.creationtime": _TIME_VALUE,
    b"uid": _ID_VALUE,
    b"gid": _ID_VALUE,
    b"uname": _TEXT_VALUE,
    b"gname": _TEXT_VALUE,
    b"comment": _TEXT_VALUE,
    b"SCHILY.dev": _ID_VALUE,
    b"SCHILY.ino": re.compile(rb"[0-9]{1,20}"),
    b"SCHILY.nlink": _ID_VALUE,
    b"RHT.security.selinux": _TEXT_VALUE,
}
# Attributes that nothing goes by. Others, ACLs and flags decide who may read, run or remove a file, for bsdtar alone.
_RECORD_FAMILIES = tuple(
    writer + b".xattr." + owner for writer in (b"SCHILY", b"LIBARCHIVE") for owner in (b"user.", b"com.apple.")
)

Extension = tuple[bytes, bytes, bytes]
"""A header that tells more about the member behind it: its kind (``L``, ``K`` or ``x``), its own block, its content."""

Records = Sequence[tuple[bytes, bytes]]
"""Keys and values of a PAX header, in its order."""


def odd(what: str, hint: str = "", *, lenient: bool = True) -> ReadDifferently:
    """Return the error for what is not read alike.

    Args:
        what: of which member, what is odd, and which readers take it otherwise.
        hint: what to do about it; by default, to make it anew.
        lenient: an import takes it where it is told to be lenient.
    """
    return ReadDifferently(
        f"not every tar reads this in the same way: {what}",
        hint=hint or "Make it anew with a plain GNU tar (`tar -cf`, no further options), or with ollama-ferry.",
        remedies=[Remedy("lenient")] if lenient else [],
    )


def check_start(block: bytes) -> None:
    """Check that an archive's first header is no start of something else.

    Raises:
        ReadDifferently: it is, for bsdtar.
    """
    if _may_be_packed(block):
        raise odd(f"it begins with the name {_shown(block[:20])}, which bsdtar takes for packed data")


def check_block(block: bytes) -> None:
    """Check the fields of a header that every kind of member has.

    Raises:
        ReadDifferently: some reader takes one for something else, or for damage.
    """
    shown = _shown(block[NAME].partition(b"\0")[0])
    magic = block[_MAGIC]
    if not block[0]:
        raise odd("a header has no name; some readers pass over it, BusyBox tar ends there")
    if magic not in (POSIX_MAGIC, GNU_MAGIC):
        raise odd(f"the header of {shown} has neither ustar's nor GNU's mark, but {magic!r}, which BusyBox tar refuses")
    if block[148:156] not in sums_of(block):
        raise odd(f"the header of {shown} has a sum in a form that 7-Zip or BusyBox tar does not take")
    if not _OCTAL.fullmatch(block[_MODE]):
        raise odd(f"the header of {shown} has the mode {block[_MODE]!r}, which is no number for some readers")
    for field, what in ((_UID, "owner"), (_GID, "group"), (_SIZE, "size"), (_TIME, "time")):
        # Before 1970 all take it for what it is.
        if not (_is_number(block[field]) or (field == _TIME and _is_before_1970(block[field]))):
            raise odd(f"the header of {shown} has the {what} {block[field]!r}: readers differ in what number that is")
    if any(block[field][0] & 0x80 and int.from_bytes(block[field][1:], "big") >= _IDS for field in (_UID, _GID)):
        raise odd(f"the header of {shown} has an owner or group over 32 bits, which GNU tar and Python give up at")
    for field in _DEVICE:
        if any(block[field]) and not _OCTAL.fullmatch(block[field]):
            raise odd(f"the header of {shown} has a device number that BusyBox tar gives up at")
    if not all(_is_text(block[field].partition(b"\0")[0]) for field in _OWNERS):
        raise odd(f"the header of {shown} has an owner or group that is no UTF-8")
    texts = [NAME, _LINK]
    if magic == POSIX_MAGIC:
        texts.append(PREFIX)
        if any(block[500:]):
            raise odd(f"the header of {shown} has something in its last 12 bytes, as star's have; others ignore it")
    else:
        # BusyBox tar and Python take these bytes for a prefix of the name, libarchive for a list of holes.
        behind = bytearray(block)
        behind[CHECK] = bytes(16)
        if any(behind[PREFIX.start :]):
            raise odd(f"the header of {shown} has a prefix, a time or holes, as readers go")
    for field in texts:
        if block[field].partition(b"\0")[2].strip(b"\0"):
            raise odd(f"the header of {shown} has something behind the end of a name")


def check_member(block: bytes, extensions: Sequence[Extension], records: Records, size: int) -> tuple[bytes, ...]:
    """Check a member as a whole.

    Args:
        block: its header.
        extensions: the headers before it, in order.
        records: those of its PAX headers.
        size: what the header itself says.

    Returns:
        The names that readers give it: one, or several where it has a long one, for those that do not know of these.

    Raises:
        ReadDifferently: readers differ in more than that.
    """
    names = member_names(block, extensions, records)
    shown = _shown(names[-1])
    kind = block[KIND]
    kinds = [extension[0] for extension in extensions]
    if len(kinds) > 1:
        raise odd(f"{shown} has {len(kinds)} headers before its own, and readers differ in which one counts")
    if kinds == [b"K"]:
        raise odd(f"{shown} has the name of a link, and is none")
    if kind not in (*_FILES, _FOLDER):
        raise odd(f"{shown} is of the kind {kind!r}, which some readers pass over")
    if any(block[_LINK]):
        raise odd(f"{shown} names a file to link to, and is no link")
    _check_name(names[-1], kind, size)
    if len(names) > 1 and len(names[-1]) <= NAME.stop and names[-1].isascii():
        raise odd(f"{shown} is {_shown(names[0])} where PAX headers are passed over, and needs none for its name")
    if kind == _FOLDER and size:
        raise odd(f"the folder {shown} has {size} bytes, which GNU tar and 7-Zip pass over and others read as headers")
    mode = int(block[_MODE].strip(b"\0 ") or b"0", 8)
    if kind != _FOLDER:
        check_mode(mode, shown)
    elif mode & 0o700 != 0o700:
        raise odd(f"the folder {shown} may not be written, and BusyBox tar can put nothing into it")
    sizes = {value for key, value in records if key == b"size"}
    if sizes - {b"%d" % size}:
        raise odd(f"{shown} has its size in a PAX header, which BusyBox tar ignores; its header has {size}")
    return names


def check_link(block: bytes, extensions: Sequence[Extension], size: int) -> None:
    """Check a link, of which nothing is followed here: whoever restores it must at least see the same one.

    Raises:
        ReadDifferently: readers may see different names or targets, or look for content behind it.
    """
    shown = _shown(block[NAME].partition(b"\0")[0])
    if extensions or size:
        raise odd(f"the link {shown} has a size or headers before its own, and readers differ in what they make of it")
    if not (_is_text(block[_LINK].rstrip(b"\0")) and _is_text(block[NAME].rstrip(b"\0"))):
        raise odd(f"the link {shown} has a name or target that is no UTF-8")


def check_mode(mode: int, shown: str) -> None:
    """Check a file's mode: of what root restores with plain tar nothing may become a program that runs as root.

    Args:
        mode: the bits, with or without those of the kind.
        shown: the member, for the error.

    Raises:
        ReadDifferently: its set-user-ID or set-group-ID bit is set, or its owner may not read it.
    """
    if mode & (stat.S_ISUID | stat.S_ISGID):
        raise odd(f"{shown} runs as its owner or group (mode {mode & 0o7777:04o}) where root restores it")
    if not mode & stat.S_IRUSR:
        raise odd(f"{shown} may not be read by its owner (mode {mode & 0o7777:04o}); for root it makes no difference")


def is_read_only(block: bytes) -> bool:
    """Return whether a member's owner may not write to it once it is restored."""
    return not int(block[_MODE].strip(b"\0 "), 8) & 0o200


def member_names(block: bytes, extensions: Sequence[Extension], records: Records) -> tuple[bytes, ...]:
    """Return the names that readers give a member; the last one is that of most."""
    own = block[NAME].partition(b"\0")[0]
    prefix = block[PREFIX].partition(b"\0")[0]
    if prefix and block[257:263] == POSIX_MAGIC[:6]:
        own = prefix + b"/" + own
    for kind, _, content in extensions:
        if kind == b"L":
            own = content.partition(b"\0")[0]
    return tuple(dict.fromkeys([own, *(value for key, value in records if key == b"path" and value)]))


def check_extension(extension: Extension) -> None:
    """Check a header that tells more about another member.

    Raises:
        ReadDifferently: readers take it for different things.
    """
    kind, block, content = extension
    if kind in (b"L", b"K"):
        if not content.strip(b"\0") or content.count(b"\0") > 1 or (b"\0" in content and content[-1]):
            raise odd("a long name has a NUL in it, or is empty")
        if len(content) > _PATH_LIMIT:
            raise odd(f"a name of {len(content)} bytes is longer than some readers take")
    if any(block[_LINK]):
        raise odd("an extension header names a file to link to")
    if _may_be_packed(block):
        raise odd("an extension header has a name of its own that may stand for packed data")


def check_records(records: Records, *, of_all: bool = False) -> None:
    """Check the records of a PAX header.

    Args:
        records: keys and values.
        of_all: it is a global header, which tells about all members that follow.

    Raises:
        ReadDifferently: one changes what is restored, for some readers and not for others.
    """
    for key, value in records:
        shown = repr(key[:80].decode("utf-8", "replace"))
        if key in (b"path", b"size") and value and not of_all:
            continue
        form = _RECORDS.get(key)
        if form is None and key.startswith(_RECORD_FAMILIES):
            form = _ANY_VALUE
        if form is None:
            raise odd(f"a PAX header has {shown}, which some readers go by and others ignore")
        if not form.fullmatch(value) or (form is _TEXT_VALUE and not _is_text(value)):
            raise odd(f"a PAX header has {shown} with a value that some readers take for damage")
    keys = [key for key, _ in records]
    if len(set(keys)) < len(keys):
        raise odd("a PAX header says the same thing twice")


def check_lengths(name: bytes) -> None:
    """Check that a name is no longer than Linux takes, and none of its parts.

    Raises:
        ReadDifferently: it is.
    """
    if len(name) >= _PATH_LIMIT or max(map(len, name.split(b"/"))) > _PART_LIMIT:
        raise odd(f"the name {_shown(name)} is longer than file systems take, and BusyBox tar ends there")


def _check_name(name: bytes, kind: bytes, size: int) -> None:
    check_lengths(name)
    if kind == _FOLDER:
        return
    if name.endswith((b"/", b"/.")) or name in (b"", b"."):
        raise odd(
            f"the file {_shown(name)} is a folder by its name: some readers pass over its {size} bytes, others don't"
        )


def _is_number(field: bytes) -> bool:
    """Return whether a field is a number for all: octal, or base 256 without a sign and below 2^63."""
    if field[0] & 0x80:
        return field[0] == 0x80 and int.from_bytes(field[1:], "big") < 2**63
    return bool(_OCTAL.fullmatch(field))


def _is_before_1970(field: bytes) -> bool:
    """Return whether a time is a negative number in base 256 that 64 bits hold."""
    return field[:4] == b"\xff" * 4 and bool(field[4] & 0x80)


def _may_be_packed(block: bytes) -> bool:
    """Return whether a header begins as packed data may: with a mark of it, or with what is no text."""
    start = block[NAME].partition(b"\0")[0][:_MARK_LIMIT]
    try:
        # A character may go on behind the limit.
        text = codecs.getincrementaldecoder("utf-8")().decode(start)
    except UnicodeDecodeError:
        return True
    return block.startswith(_PACKED) or any(letter < " " or letter == "\x7f" for letter in text)


def _is_text(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True


def sums_of(block: bytes) -> tuple[bytes, ...]:
    """Return what a header's sum is, in the forms of the writers in use: all its bytes, those of the sum as blanks."""
    total = sum(block) - sum(block[148:156]) + 8 * 0x20
    return b"%06o\0 " % total, b"%07o\0" % total, b"%06o \0" % total


def _shown(name: bytes) -> str:
    return repr(name[:200].decode("utf-8", "surrogateescape"))


assert PREFIX.start < CHECK.start < CHECK.stop < BLOCK  # noqa: S101 -- the check of ours lies within GNU's padding
