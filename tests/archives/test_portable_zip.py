"""What not every reader of zips takes in the same way is refused, and what ordinary tools write is taken."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

import ollama_ferry
from ollama_ferry.errors import ReadDifferently
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
    "an encrypted one": (lambda e: zip_of([*e, ZipEntry(b"x", b"text", flags=1)]), "is encrypted"),
    "one of another method": (lambda e: zip_of([*e, ZipEntry(b"x", b"text", method=14)]), "packed in a way"),
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
    "something where zeros align": (lambda e: changed(e, local_extra=extra(0xD935, b"\4\0evil")), "readers differ in"),
}


def changed(entries: list[ZipEntry], **lies: object) -> bytes:
    """Return a zip of which the first member is told of in this way."""
    return zip_of([replace(entries[0], **lies), *entries[1:]])  # type: ignore[arg-type]


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
