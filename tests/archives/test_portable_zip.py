"""What not every reader of zips takes in the same way is refused, and what ordinary tools write is taken."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

import ollama_ferry
from ollama_ferry.errors import Damaged, FerryError, ReadDifferently
from ollama_ferry.jobs.verify import verify_file
from support.five_tars import require_tools
from support.hostile import MADE, ZipEntry, blob_name, zip_entries, zip_of
from support.stores import published, tree
from support.tools import require_tool

WEIGHTS = blob_name(MADE.weights)
WRONG = bytes(len(MADE.weights))


def extra(kind: int, content: bytes = b"") -> bytes:
    return struct.pack("<HH", kind, len(content)) + content


# What libarchive goes by, and only before a content: made by Unix, and a link.
LINK_OF_LIBARCHIVE = extra(0x6C78, struct.pack("<BHHI", 7, 0x031E, 0, 0o120777 << 16))


ZIPS: dict[str, tuple[Callable[[list[ZipEntry]], bytes], str]] = {
    "another size before a content": (lambda e: zip_of([replace(e[0], local_size=1), *e[1:]]), "another size or sum"),
    "something before the first": (lambda e: zip_of(e, before=b"PK\3\4more"), "belong to none"),
    "an end in the comment": (lambda e: zip_of(e, comment=b"PK\5\6" + bytes(18)), "several ends"),
    "something behind the end": (lambda e: zip_of(e) + b"more", "something behind its end"),
    "another name in an extra field": (
        lambda e: zip_of([*e, ZipEntry(b"x", b"x", extra=b"\x75\x70\x09\0\1" + bytes(4) + b"evil")]),
        "another name in an extra field",
    ),
    "a folder that is a file": (lambda e: zip_of([*e, ZipEntry(b"x/", b"text")]), "a folder for some readers"),
    "a blob again under a folded name": (lambda e: zip_of([*e, ZipEntry(WEIGHTS.upper().encode(), b"x")]), "fold case"),
    "a hidden member": (lambda e: hidden_in_a_zip(e), "belong to none"),
    "a link for bsdtar": (lambda e: changed(e, local_extra=LINK_OF_LIBARCHIVE), "of the kind 0x6c78"),
    "a link for 7-Zip": (lambda e: changed(e, made_by=0x0014, attributes=0x420), "has the attributes 0x400"),
    "a link for 7-Zip, from NTFS": (lambda e: changed(e, made_by=0x0B14, attributes=0x420), "has the attributes 0x4"),
    "a link in the mode": (lambda e: changed(e, made_by=0x0014, attributes=0o120777 << 16), "neither file nor folder"),
    "a device": (lambda e: changed(e, mode=0o060644), "neither file nor folder"),
    "a file of the system": (lambda e: changed(e, made_by=0x0014, attributes=0x4), "has the attributes 0x4"),
    "a device of FAT": (lambda e: changed(e, made_by=0x0014, attributes=0x40), "has the attributes 0x40"),
    "made by a Macintosh": (lambda e: changed(e, made_by=0x0714), "made by the system 7"),
    "made by VMS": (lambda e: changed(e, made_by=0x0214), "made by the system 2"),
    "made by Unix, by its local header": (lambda e: changed(e, needs=0x0314, made_by=0x0014), "of a system"),
    "a link of PKWARE": (lambda e: changed(e, extra=extra(0x000D, bytes(12) + b"target")), "of the kind 0x000d"),
    "a link of ASi": (lambda e: changed(e, local_extra=extra(0x756E, bytes(14) + b"target")), "of the kind 0x756e"),
    "encrypted by an extra field": (lambda e: changed(e, extra=extra(0x9901, bytes(7))), "of the kind 0x9901"),
    "an extra field twice": (
        lambda e: changed(e, extra=extra(0x5455, b"\1" + bytes(4)) * 2),
        "that readers differ in",
    ),
    "an extra field cut short": (
        lambda e: changed(e, local_extra=extra(0x5455, b"\1" + bytes(4))[:-1]),
        "is cut short",
    ),
    "an extra field of zeros": (lambda e: changed(e, local_extra=bytes(4)), "without a kind"),
    "attributes in the times of NTFS": (
        lambda e: changed(e, extra=extra(0x000A, bytes(4) + extra(2, bytes(24)))),
        "that readers differ in",
    ),
    "a set-user-ID bit": (lambda e: changed(e, mode=0o104755), "runs as its owner"),
    "no right to read": (lambda e: changed(e, mode=0o100000), "may not be read by its owner"),
    "a version that unzip does not know": (lambda e: changed(e, needs=63), "a version"),
    "another disk": (lambda e: ended(e, disk=1), "other volumes"),
    "the directory on another disk": (lambda e: ended(e, first=1), "other volumes"),
    "fewer members on this disk": (lambda e: ended(e, here=1), "other volumes"),
    "two ends of two directories": (lambda e: two_directories(e), "different directories"),
    "a zip64 end that nothing needs": (lambda e: with_zip64(e, narrow=(0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF)), "two ends"),
    "something where zeros align": (lambda e: changed(e, local_extra=extra(0xD935, b"\4\0evil")), "readers differ in"),
}


def changed(entries: list[ZipEntry], **lies: object) -> bytes:
    """Return a zip of which the first member is told of in this way."""
    return zip_of([replace(entries[0], **lies), *entries[1:]])  # type: ignore[arg-type]


def ended(entries: list[ZipEntry], *, disk: int = 0, first: int = 0, here: int = len(MADE.files)) -> bytes:
    """Return a zip whose end tells of these disks, and of so many members on this one."""
    whole = bytearray(zip_of(entries))
    struct.pack_into("<HHH", whole, len(whole) - 18, disk, first, here)
    return bytes(whole)


def with_zip64(
    entries: list[ZipEntry],
    *,
    wide: tuple[int, int, int] | None = None,
    narrow: tuple[int, int, int] | None = None,
) -> bytes:
    """Return a zip with a zip64 end: numbers of members and bytes, and the offset, there and in the end of old."""
    whole = zip_of(entries)
    body, numbers = whole[:-22], struct.unpack_from("<HII", whole, len(whole) - 12)
    wide, narrow = wide or numbers, narrow or numbers
    record = struct.pack("<IQHHIIQQQQ", 0x06064B50, 44, 45, 45, 0, 0, wide[0], *wide)
    located = struct.pack("<IIQI", 0x07064B50, 0, len(body), 1)
    return body + record + located + struct.pack("<IHHHHIIH", 0x06054B50, 0, 0, narrow[0], *narrow, 0)


def two_directories(entries: list[ZipEntry]) -> bytes:
    """Return a zip whose end of old tells of a directory within a member, and whose zip64 end of the right one."""
    inner = zip_of([ZipEntry(entry.name, bytes(len(entry.content))) for entry in entries])
    count, size, offset = struct.unpack_from("<HII", inner, len(inner) - 12)
    return with_zip64([ZipEntry(b"readme", inner[:-22]), *entries], narrow=(count, size, offset + 36))


def hidden_in_a_zip(entries: list[ZipEntry]) -> bytes:
    """Return a zip of which the directory passes over the first member."""
    whole = zip_of([ZipEntry(WEIGHTS.encode(), WRONG), *entries])
    first = whole.index(b"PK\1\2")
    second = whole.index(b"PK\1\2", first + 4)
    end = whole.index(b"PK\5\6")
    return (
        whole[:first]
        + whole[second:end]
        + struct.pack("<IHHHHIIH", 0x06054B50, 0, 0, len(entries), len(entries), end - second, first, 0)
    )


@pytest.mark.parametrize("what", ZIPS)
def test_zip_that_readers_differ_in_is_refused(tmp_path: Path, what: str) -> None:
    make, why = ZIPS[what]
    archive = tmp_path / "a.zip"
    archive.write_bytes(make(zip_entries(MADE)))
    with pytest.raises(ReadDifferently) as raised:
        verify_file(archive)
    assert why in raised.value.message
    with pytest.raises(ReadDifferently):
        ollama_ferry.import_archive(archive, store=tmp_path / "models")
    assert not published(tmp_path / "models")


def deflated(content: bytes, mode: int = zlib.Z_FINISH) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return packer.compress(content) + packer.flush(mode)


# What stands in the file for a content, and by which method.
CONTENTS: dict[str, Callable[[bytes], tuple[bytes, int]]] = {
    "more than is said, packed": lambda content: (deflated(content + b"more"), 8),
    "more than is said, stored": lambda content: (content + b"more", 0),
    "something behind the packed": lambda content: (deflated(content) + b"more", 8),
    "no last block": lambda content: (deflated(content, zlib.Z_SYNC_FLUSH), 8),
    "less than is said, packed": lambda content: (deflated(content[:-1]), 8),
    "nothing": lambda content: (b"", 8),
    "more of nothing": lambda content: (deflated(b"more"), 8),
}


@pytest.mark.parametrize("of", ["a blob", "a manifest", "what is ignored"])
@pytest.mark.parametrize("what", CONTENTS)
def test_content_that_is_not_what_is_said_is_damage(tmp_path: Path, what: str, of: str) -> None:
    """Python's own zipfile ends where it was told to; unzip and BusyBox restore all that is there."""
    names = {"a blob": WEIGHTS, "a manifest": MADE.manifest_name, "what is ignored": "readme"}
    entries = [*zip_entries(MADE), ZipEntry(b"readme", b"a text")]
    if what == "more of nothing":
        entries = [replace(e, content=b"") if e.name == names[of].encode() else e for e in entries]
    (told,) = (entry for entry in entries if entry.name == names[of].encode())
    raw, method = CONTENTS[what](told.content)
    lying = replace(told, content=raw, method=method, size=len(told.content), crc=zlib.crc32(told.content))
    archive = tmp_path / "a.zip"
    archive.write_bytes(zip_of([lying if entry is told else entry for entry in entries]))
    try:
        good = verify_file(archive).good
    except Damaged:
        good = False
    assert not good
    if of != "what is ignored":
        with pytest.raises(FerryError):
            ollama_ferry.import_archive(archive, store=tmp_path / "models")
        assert not published(tmp_path / "models")


@pytest.mark.parametrize("make", [with_zip64, lambda entries: zip_of(entries)])
def test_a_zip64_end_that_says_the_same_is_taken(tmp_path: Path, make: Callable[[list[ZipEntry]], bytes]) -> None:
    (tmp_path / "a.zip").write_bytes(make(zip_entries(MADE)))
    assert verify_file(tmp_path / "a.zip").good


# What is told of each file by writers that are not on every machine.
FORMS: dict[str, dict[str, object]] = {
    "Go, a name only": {"made_by": 0x0014, "attributes": 0},
    "Go, of a file": {"extra": extra(0x5455, b"\1" + bytes(4)), "mode": 0o100600},
    "Java": {"made_by": 0x0014, "attributes": 0, "extra": extra(0xCAFE), "local_extra": extra(0xCAFE)},
    ".NET on Windows": {"made_by": 0x0014, "attributes": 0x20},
    "7-Zip on Windows, of a sparse file": {
        "made_by": 0x003F,
        "attributes": 0x2220,
        "extra": extra(0x000A, bytes(4) + extra(1, bytes(24))),
    },
    "p7zip": {"made_by": 0x003F, "attributes": 0x8020 | 0o100644 << 16},
    "ditto": {
        "made_by": 0x0315,
        "attributes": 0x4000 | 0o100644 << 16,
        "extra": extra(0x5855, bytes(8)),
        "local_extra": extra(0x5855, bytes(12)),
    },
    "Info-ZIP": {
        "extra": extra(0x5455, b"\3" + bytes(4)) + extra(0x7875, b"\1\4" + bytes(4) + b"\4" + bytes(4)),
        "local_extra": extra(0x5455, b"\3" + bytes(8)) + extra(0x7875, b"\1\4" + bytes(4) + b"\4" + bytes(4)),
    },
    "Info-ZIP on Windows": {"made_by": 0x0B17, "attributes": 0x20 | 0o100644 << 16, "extra": extra(0x4453, bytes(4))},
    "minizip on Windows": {"made_by": 0x0A2D, "attributes": 0x20},
    "zipalign": {"local_extra": extra(0xD935, b"\4\0" + bytes(9))},
    "zipalign of old": {"local_extra": bytes(3)},
    "Python on Windows": {"made_by": 0x0014, "attributes": 0o100666 << 16},
}


@pytest.mark.parametrize("form", FORMS)
def test_forms_of_writers_in_use_are_taken(tmp_path: Path, form: str) -> None:
    archive = tmp_path / "a.zip"
    archive.write_bytes(zip_of(replace(entry, **FORMS[form]) for entry in zip_entries(MADE)))  # type: ignore[arg-type]
    assert verify_file(archive).good
    ollama_ferry.import_archive(archive, store=tmp_path / "models")
    assert tree(tmp_path / "models") == MADE.files


@pytest.mark.parametrize(
    ("what", "tool"),
    [("a link for bsdtar", "bsdtar -xf"), ("a link for 7-Zip", "7z x -y")],
)
def test_what_is_refused_is_something_else_for_a_reader(tmp_path: Path, what: str, tool: str) -> None:
    require_tools()
    body = struct.pack("<I", 2) + b"/target"
    entries = [ZipEntry(b"x", struct.pack("<IHH", 0xA000001D, len(body), 0) + body)]
    (tmp_path / "a.zip").write_bytes(ZIPS[what][0](entries))
    (tmp_path / "out").mkdir()
    subprocess.run([*tool.split(), "../a.zip"], cwd=tmp_path / "out", capture_output=True)
    made = [path for path in (tmp_path / "out").rglob("*") if path.is_symlink()]
    assert made, "it is what we read: so should we take it"


# Java's own, where it is: its forms are tested above.
OTHERS = ["zip -qr $A blobs manifests", "zip -qrX $A ."]
OTHERS += ["jar -cMf $A blobs manifests"] if shutil.which("jar") else []


@pytest.mark.parametrize("command", OTHERS)
def test_zips_of_others_are_taken(tmp_path: Path, command: str) -> None:
    require_tool(command.partition(" ")[0])
    for path, content in MADE.files.items():
        (tmp_path / "store" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "store" / path).write_bytes(content)
    archive = tmp_path / "a.zip"
    subprocess.run(["sh", "-ec", command], cwd=tmp_path / "store", env={**os.environ, "A": str(archive)}, check=True)
    assert verify_file(archive).good


def of_windows(entries: list[ZipEntry], separator: bytes = b"\\", made_by: int = 0x0014) -> list[ZipEntry]:
    """Return the entries as PowerShell 5 has them."""
    return [replace(e, name=e.name.replace(b"/", separator), made_by=made_by, attributes=0x20) for e in entries]


def test_names_with_backslashes_are_imported_and_told_by_verify(tmp_path: Path) -> None:
    path = tmp_path / "models.zip"
    folder = ZipEntry(b"blobs\\", made_by=0x0014, attributes=0x10)
    path.write_bytes(zip_of([folder, *of_windows(zip_entries(MADE))]))
    ollama_ferry.import_archive(path, store=tmp_path / "store")
    assert tree(tmp_path / "store/blobs").keys() == {Path(WEIGHTS).name, Path(blob_name(MADE.config)).name}
    with pytest.raises(ReadDifferently, match="its names have backslashes") as raised:
        verify_file(path)
    assert "import` takes it" in str(raised.value.hint)


@pytest.mark.parametrize(
    "entries",
    [
        [*of_windows(zip_entries(MADE)[:1]), *of_windows(zip_entries(MADE)[1:], b"/")],
        of_windows(zip_entries(MADE), made_by=0x031E),
        [*of_windows(zip_entries(MADE)), ZipEntry(WEIGHTS.encode(), WRONG)],
    ],
    ids=["some have slashes", "made by Unix", "one again with slashes"],
)
def test_backslashes_that_may_be_part_of_a_name_are_refused(tmp_path: Path, entries: list[ZipEntry]) -> None:
    path = tmp_path / "models.zip"
    path.write_bytes(zip_of(entries))
    with pytest.raises(ReadDifferently, match="has a character in its name"):
        ollama_ferry.import_archive(path, store=tmp_path / "store")
    assert not (tmp_path / "store/manifests").exists()


def test_a_name_of_windows_that_climbs_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "models.zip"
    path.write_bytes(zip_of(of_windows([*zip_entries(MADE), ZipEntry(b"..\\..\\evil", b"x")])))
    with pytest.raises(Damaged, match="climbs out"):
        ollama_ferry.import_archive(path, store=tmp_path / "store")


def test_a_zip_of_the_finder_above_4_gib_is_told(tmp_path: Path) -> None:
    """It has no zip64, and what does not fit is cut off (https://github.com/thejoshwolfe/yauzl, issue 69)."""
    path = tmp_path / "models.zip"
    small = zip_of(zip_entries(MADE))
    with path.open("wb") as file:
        file.write(b"PK\3\4")
        file.seek(4 * 1024**3)
        file.write(small)
    for lenient in (False, True):
        with pytest.raises(Damaged, match="no zip64 directory, as the Finder") as raised:
            ollama_ferry.import_archive(path, store=tmp_path / "store", lenient=lenient)
        assert "tar -cf" in str(raised.value.hint)
