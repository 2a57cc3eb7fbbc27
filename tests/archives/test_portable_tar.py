"""What not every tar reads in the same way is refused, and what ordinary tools write is taken."""

from __future__ import annotations

import bz2
import io
import lzma
import os
import subprocess
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

import ollama_ferry
from ollama_ferry.archives.index import Frames, Index, IndexedFile, index_bytes
from ollama_ferry.archives.kinds import Kind
from ollama_ferry.errors import Damaged, FerryError, ReadDifferently
from ollama_ferry.jobs.verify import verify_file
from ollama_ferry.places.archive.file import ArchiveFile
from support.command_line import ferry
from support.five_tars import require_tools, restoring
from support.fuzz_readings import difference
from support.hostile import (
    BLOCK,
    END,
    MADE,
    OTHER,
    blob_name,
    frame_of,
    gzip_of,
    header,
    index_head,
    long_name,
    member,
    octal,
    padded,
    pax,
    sha256,
    zstd_of,
)
from support.stores import published, tree

GNU = b"ustar  \0"
WEIGHTS = blob_name(MADE.weights)
WRONG = bytes(len(MADE.weights))
EXTENSIONS: dict[str, Callable[[bytes], bytes]] = {
    ".tar": bytes,
    ".tar.gz": gzip_of,
    ".tar.zst": zstd_of,
    ".tar.xz": lzma.compress,
    ".tar.bz2": bz2.compress,
}


def with_weights(weights: bytes, *, before: bytes = b"", after: bytes = b"", end: bytes = END) -> bytes:
    """Return a tar of the model whose weights are this member."""
    return (
        before
        + member(blob_name(MADE.config), MADE.config)
        + weights
        + member(MADE.manifest_name, MADE.manifest)
        + after
        + end
    )


def resum(block: bytes, at: int, value: bytes) -> bytes:
    """Write something into the first header, and mend its sum."""
    made = bytearray(block)
    made[at : at + len(value)] = value
    made[148:156] = b" " * 8
    made[148:156] = b"%06o\0 " % sum(made[:BLOCK])
    return bytes(made)


def signed(block: bytes) -> bytes:
    """Sum a header as very old writers did, where bytes above 127 count as negative."""
    total = 8 * 0x20 + sum(b - 256 * (b > 127) for b in (*block[:148], *block[156:]))
    return block[:148] + b"%06o\0 " % total + block[156:]


RIGHT = member(WEIGHTS, MADE.weights)
LONG = b"y/" * 40 + WEIGHTS.encode()
# Who passes over the PAX header finds an empty blob, and its content where a header should be.
SHORT = pax({b"size": b"%d" % len(MADE.weights)}) + header(WEIGHTS.encode(), 0) + padded(MADE.weights)

# Each with a part of the reason that is given.
ODD: dict[str, tuple[bytes, str]] = {
    "two PAX headers": (
        with_weights(pax({b"path": WEIGHTS.encode()}) + pax({b"mtime": b"1"}) + member(b"x", MADE.weights)),
        "2 headers before its own",
    ),
    "two long names": (
        with_weights(long_name(b"x") + long_name(WEIGHTS.encode()) + member(b"y", MADE.weights)),
        "2 head",
    ),
    "a long name and a PAX header": (
        with_weights(long_name(WEIGHTS.encode()) + pax({b"path": b"z"}) + member(b"y", MADE.weights)),
        "2 headers before its own",
    ),
    "a blob behind the end": (
        member(blob_name(MADE.config), MADE.config) + member(MADE.manifest_name, MADE.manifest) + END + RIGHT + END,
        "something follows the mark of its end",
    ),
    "another archive behind the end": (MADE.tar() + OTHER.tar(), "something follows the mark of its end"),
    "a folder by its name, with a size": (
        with_weights(header(b"x/", len(RIGHT)) + RIGHT),
        "is a folder by its name",
    ),
    "a folder by its name": (with_weights(RIGHT, before=header(b"blobs/", 0, b"\0")), "is a folder by its name"),
    "an owner above 2^32": (with_weights(pax({b"uid": b"8589934592"}) + RIGHT), "'uid' with a value"),
    "a file again that may not be written to": (
        with_weights(resum(RIGHT, 100, b"0000444\0") + RIGHT),
        "comes again and may not be written to",
    ),
    "a global header at the end": (
        with_weights(RIGHT, after=pax({b"comment": b"x"}, b"g")),
        "a global header is its last member",
    ),
    "a folder with a size": (with_weights(header(b"x", len(RIGHT), b"5") + RIGHT), "the folder 'x' has"),
    "SUN.holesdata": (with_weights(pax({b"SUN.holesdata": b" 100 2400"}) + RIGHT), "'SUN.holesdata'"),
    "SCHILY.realsize": (with_weights(pax({b"SCHILY.realsize": b"9000"}) + RIGHT), "'SCHILY.realsize'"),
    "SCHILY.filetype": (with_weights(pax({b"SCHILY.filetype": b"sparse"}) + RIGHT), "'SCHILY.filetype'"),
    "an unknown record": (with_weights(pax({b"GNU.volume.offset": b"9"}) + RIGHT), "'GNU.volume.offset'"),
    "another character set": (with_weights(pax({b"hdrcharset": b"BINARY"}) + RIGHT), "'hdrcharset'"),
    "a prefix in GNU's format": (
        with_weights(
            resum(header(WEIGHTS.encode(), len(MADE.weights), magic=GNU), 345, b"evil") + padded(MADE.weights)
        ),
        "has a prefix, a time or holes",
    ),
    "GNU's format with a time": (
        with_weights(
            resum(header(WEIGHTS.encode(), len(MADE.weights), magic=GNU), 345, octal(99)) + padded(MADE.weights)
        ),
        "has a prefix, a time or holes",
    ),
    "the old format": (
        with_weights(header(WEIGHTS.encode(), len(MADE.weights), magic=bytes(8)) + padded(MADE.weights)),
        "neither ustar's nor GNU's mark",
    ),
    "another name in a PAX header": (
        with_weights(pax({b"path": WEIGHTS.encode()}) + member(b"notes", MADE.weights)),
        "needs none for its name",
    ),
    "a blob that a PAX header calls something else": (
        with_weights(RIGHT, after=pax({b"path": LONG[:-1]}) + member(WEIGHTS, WRONG)),
        "for readers that pass over PAX headers",
    ),
    "a size in a PAX header": (with_weights(SHORT), "has its size in a PAX header"),
    "a time twice in a PAX header": (
        with_weights(header(b"p", 24, b"x") + padded(b"12 mtime=10\n12 mtime=11\n") + RIGHT),
        "says the same thing twice",
    ),
    "a blob again under a folded name": (with_weights(RIGHT, after=member(WEIGHTS.upper(), WRONG)), "fold case"),
    "a blob again with a sharp s": (
        with_weights(RIGHT, after=member(WEIGHTS.replace("s", "\u017f", 1).encode(), WRONG)),
        "fold case or Unicode",
    ),
    "a blob again with a dot behind": (with_weights(RIGHT, after=member(WEIGHTS + ".", WRONG)), "fold case"),
    "a file in a blob's folder's place": (with_weights(RIGHT, after=member("blobs", b"x")), "is a folder as well"),
    "a file, and a file in it": (with_weights(RIGHT, before=member("x", b"") + member("x/y", b"")), "where a file is"),
    "a folder nobody may write to": (
        with_weights(RIGHT, before=resum(header(b"blobs/", 0, b"5"), 100, b"0000555\0")),
        "may not be written",
    ),
    "contiguous": (with_weights(member(WEIGHTS, MADE.weights, b"7")), "of the kind b'7'"),
    "a dump folder": (with_weights(RIGHT, after=member("x", b"Yname\0\0", b"D")), "of the kind b'D'"),
    "a file that names a link": (with_weights(member(WEIGHTS, MADE.weights, link=b"x")), "and is no link"),
    "a link's name in a PAX header": (with_weights(pax({b"linkpath": b"x"}) + RIGHT), "'linkpath'"),
    "no name": (with_weights(RIGHT, before=header(b"")), "has no name"),
    "an extension without a name": (
        with_weights(header(b"", 12, b"x") + padded(b"12 mtime=10\n") + RIGHT),
        "has no name",
    ),
    "a name that no disk takes": (with_weights(RIGHT, before=member(b"x" * 256)), "longer than file systems take"),
    "something behind a name": (
        with_weights(header(WEIGHTS.encode() + b"\0x", 2400) + padded(MADE.weights)),
        "behind the end",
    ),
    "an owner of letters": (with_weights(resum(RIGHT, 108, b"root\0")), "has the owner"),
    "a mode of letters": (with_weights(resum(RIGHT, 100, b"rw-r--r-")), "has the mode"),
    "a device number of letters": (with_weights(resum(RIGHT, 329, b"sda")), "device number"),
    "star's last bytes": (with_weights(resum(RIGHT, 508, b"tar\0")), "as star's have"),
    "a set-user-ID bit": (with_weights(resum(RIGHT, 100, b"0004755\0")), "runs as its owner"),
    "a set-group-ID bit on what is ignored": (
        with_weights(RIGHT, after=resum(member("tool", b"x"), 100, b"0102755\0")),
        "runs as its owner",
    ),
    "no right to read": (with_weights(resum(RIGHT, 100, b"0000000\0")), "may not be read by its owner"),
    "flags of files": (with_weights(pax({b"SCHILY.fflags": b"schg"}) + RIGHT), "'SCHILY.fflags'"),
    "an ACL": (with_weights(pax({b"SCHILY.acl.access": b"user::---,group::---"}) + RIGHT), "'SCHILY.acl.access'"),
    "a capability": (
        with_weights(pax({b"SCHILY.xattr.security.capability": bytes(20)}) + RIGHT),
        "'SCHILY.xattr.security.capability'",
    ),
    "packed by compress, by its first name": (
        header(b"\x1f\x9d\x90", 12, b"g") + padded(b"12 mtime=10\n") + with_weights(RIGHT),
        "takes for packed data",
    ),
    "an extension header of no printable name": (
        with_weights(header(b"\x1f\x9d\x90", 12, b"x") + padded(b"12 mtime=10\n") + RIGHT),
        "that may stand for packed data",
    ),
    "a sum of signed bytes": (with_weights(RIGHT, before=signed(header("\u00e9".encode()))), "has a sum in a form"),
}

# Of these all five make the same today, or end with an error: they are refused for other tars, or for what was seen in
# other versions.
ALIKE = {
    "another archive behind the end", "a folder with a size", "SCHILY.filetype", "an unknown record",
    "another character set",
    "another name in a PAX header", "a blob that a PAX header calls something else", "a time twice in a PAX header",
    "a blob again under a folded name", "a blob again with a sharp s", "a blob again with a dot behind", "contiguous",
    "a file that names a link", "a link's name in a PAX header", "something behind a name", "star's last bytes",
    # What root restores is not tried here.
    "a set-user-ID bit", "a set-group-ID bit on what is ignored", "no right to read", "flags of files", "an ACL",
    "a capability", "an extension header of no printable name",
}  # fmt: skip


@pytest.mark.parametrize("extension", EXTENSIONS)
@pytest.mark.parametrize("what", ODD)
def test_what_tars_read_differently_is_refused_and_says_why(tmp_path: Path, what: str, extension: str) -> None:
    data, why = ODD[what]
    archive = tmp_path / f"a{extension}"
    archive.write_bytes(EXTENSIONS[extension](data))
    with pytest.raises(ReadDifferently, match="not every tar reads this in the same way") as raised:
        verify_file(archive)
    assert why in raised.value.message and raised.value.exit_code == 4
    with pytest.raises(ReadDifferently):
        ollama_ferry.import_archive(archive, store=tmp_path / "strict")
    with archive.open("rb") as stream, pytest.raises(ReadDifferently):
        ollama_ferry.import_archive(stream, store=tmp_path / "strict")
    assert not published(tmp_path / "strict")


@pytest.mark.parametrize("what", ODD)
def test_what_is_taken_leniently_is_hashed_all_the_same(tmp_path: Path, what: str) -> None:
    archive = tmp_path / "a.tar"
    archive.write_bytes(ODD[what][0])
    try:
        ollama_ferry.import_archive(archive, store=tmp_path / "models", lenient=True)
    except FerryError:
        assert not published(tmp_path / "models")
    else:
        assert MADE.files.items() <= tree(tmp_path / "models").items()


def test_most_of_what_is_refused_is_restored_otherwise_by_one_of_five() -> None:
    require_tools()
    with restoring(".tar", [data for data, _ in ODD.values()]) as outcomes:
        alike = {what for what, made in zip(ODD, outcomes, strict=True) if not difference(MADE.files, made)}
    assert alike <= ALIKE


def test_import_tells_of_lenient_and_verify_has_no_such_thing(tmp_path: Path) -> None:
    archive = tmp_path / "a.tar"
    archive.write_bytes(ODD["two PAX headers"][0])
    refused = ferry("import", archive, "--models", tmp_path / "models")
    assert refused.returncode == 4 and "--lenient takes it" in refused.stderr
    assert "make it anew" in refused.stderr.lower()
    verified = ferry("verify", archive)
    assert verified.returncode == 4 and "not every tar reads this in the same way" in verified.stderr
    assert ferry("verify", "--lenient", archive).returncode == 2
    done = ferry("import", "--lenient", archive, "--models", tmp_path / "models")
    assert done.returncode == 0, done.stderr
    assert tree(tmp_path / "models") == MADE.files


# -- what stands in the index, and what every other reader finds


def poisoned(pack: Callable[[bytes], bytes]) -> tuple[list[bytes], list[bytes]]:
    """Return the parts of a tar and their frames, of which the second has a hidden one in it."""
    parts = [member(blob_name(MADE.config), MADE.config), RIGHT, member(MADE.manifest_name, MADE.manifest) + END]
    hidden = member(blob_name(MADE.config), bytes(len(MADE.config)))
    frames = [pack(part) for part in parts]
    frames[1] = frames[1] + pack(hidden) + frames[1]
    return parts, frames


def indexed(parts: list[bytes], frames: list[bytes], kind: Kind) -> bytes:
    found = Frames()
    for part, frame in zip(parts, frames, strict=True):
        found.add(len(frame), len(part), zlib.crc32(frame))
    data = b"".join(parts)
    files = [IndexedFile(path, size, at, sha) for path, size, at, sha in index_head(MADE, data)["files"]]  # type: ignore[attr-defined]
    return b"".join(frames) + index_bytes(Index(tuple(files), found), kind, "x")


FRAMINGS = {Kind.TAR_GZ: frame_of, Kind.TAR_ZST: zstd_of}


@pytest.mark.parametrize("kind", FRAMINGS)
def test_frame_that_hides_others_is_damage(tmp_path: Path, kind: Kind) -> None:
    archive = tmp_path / f"a{kind.value}"
    archive.write_bytes(indexed(*poisoned(FRAMINGS[kind]), kind))
    with pytest.raises(Damaged, match="something follows its end"):
        verify_file(archive)
    with pytest.raises(Damaged, match="something follows its end"):
        ollama_ferry.import_archive(archive, store=tmp_path / "models")
    assert not published(tmp_path / "models")


@pytest.mark.parametrize("kind", FRAMINGS)
def test_member_that_the_index_does_not_name_is_found_without_reading_blobs(tmp_path: Path, kind: Kind) -> None:
    # The blob's own frames are damaged: whoever unpacks one of them to find out is found out.
    large = bytes(range(256)) * 4096
    name = f"blobs/sha256-{sha256(large)}"
    head = member(blob_name(MADE.config), MADE.config) + header(name.encode(), len(large))
    tail = member(MADE.manifest_name, MADE.manifest) + END
    for hidden in (b"", member(blob_name(MADE.config), bytes(len(MADE.config)))):
        parts = [head, large, hidden + tail]
        frames = [FRAMINGS[kind](part) for part in parts]
        whole = b"".join(parts)
        found = Frames()
        for part, frame in zip(parts, frames, strict=True):
            found.add(len(frame), len(part), zlib.crc32(frame))
        frames[1] = bytes(len(frames[1]))
        files = tuple(
            IndexedFile(path, len(content), whole.rindex(content), sha256(content))
            for path, content in [
                (blob_name(MADE.config), MADE.config), (name, large), (MADE.manifest_name, MADE.manifest)
            ]
        )  # fmt: skip
        archive = tmp_path / f"a{kind.value}"
        archive.write_bytes(b"".join(frames) + index_bytes(Index(files, found), kind, "x"))
        with ArchiveFile(archive) as file:
            if hidden:
                with pytest.raises(Damaged, match="its index says something else than is in it"):
                    file.source()
            else:
                assert file.source() is not None


# -- what tools in use write

WRITERS: dict[str, str] = {
    **{f"GNU tar, {f}": f"tar --format={f} -cf $A blobs manifests" for f in ("gnu", "oldgnu", "ustar", "posix")},
    "GNU tar, from a dot": "tar -cf $A .",
    "GNU tar, with holes": "tar -cSf $A .",
    "GNU tar, with attributes": "tar --format=posix --xattrs --acls --selinux -cf $A .",
    "GNU tar, long names in PAX headers": f"tar --format=posix --transform 's,^,{'y/' * 60},' -cf $A blobs manifests",
    "GNU tar, times before 1970": "tar --mtime=1965-01-01 -cf $A blobs manifests",
    "GNU tar, sorted": "tar -cf $A --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner blobs manifests",
    "GNU tar, large owners": "tar --owner=4000000 --group=4000000 -cf $A blobs manifests",
    "GNU tar, appended": "tar -cf $A blobs && tar -rf $A manifests",
    **{f"bsdtar, {f}": f"bsdtar --format {f} -cf $A ." for f in ("pax", "paxr", "ustar", "gnutar")},
    "BusyBox": "busybox tar -cf $A blobs manifests",
    "BusyBox, from a dot": "busybox tar -cf $A .",
    **{f"7-Zip, {f}": f"7z a -ttar -mm={f} $A blobs manifests" for f in ("pax", "gnu")},
    **{
        f"Python, {name}": f'python3 -c \'import tarfile; t = tarfile.open("\'$A\'", "w", format={number}); '
        't.add("blobs"); t.add("manifests"); t.close()\''
        for name, number in {"ustar": 0, "gnu": 1, "pax": 2}.items()
    },
    "zip": "7z a -tzip $A blobs manifests",
    "zip of bsdtar": "bsdtar --format zip -cf $A blobs manifests",
    "zip of Python": "python3 -m zipfile -c $A blobs manifests",
}


@pytest.mark.parametrize("writer", WRITERS)
def test_what_tools_in_use_write_is_taken(tmp_path: Path, writer: str) -> None:
    require_tools()
    store, archive = tmp_path / "store", tmp_path / f"a.{'zip' if writer.startswith('zip') else 'tar'}"
    for path, content in {**MADE.files, **OTHER.files, "blobs/._of macOS": b"\0\5\x16\7"}.items():
        (store / path).parent.mkdir(parents=True, exist_ok=True)
        (store / path).write_bytes(content)
    subprocess.run(["sh", "-ec", WRITERS[writer]], cwd=store, env={**os.environ, "A": str(archive)}, check=True)
    assert verify_file(archive).good
    ollama_ferry.import_archive(archive, store=tmp_path / "models")
    assert tree(tmp_path / "models") == {**MADE.files, **OTHER.files}


def test_long_names_of_others_that_tars_differ_in_do_no_harm(tmp_path: Path) -> None:
    # GNU tar --format=posix writes them so; old BusyBox tars make a file of another name of it.
    name = b"notes/" * 30 + b"\xc3\xa9"
    data = with_weights(RIGHT, before=pax({b"path": name}) + member(name[:100], b"text"))
    (tmp_path / "a.tar").write_bytes(data)
    assert verify_file(tmp_path / "a.tar").good
    require_tools()
    with restoring(".tar", [data]) as (made,):
        assert not difference(MADE.files, made)


def test_links_that_pass_are_restored_alike(tmp_path: Path) -> None:
    """What verify passes with a link beside the models is the same store for five tars."""
    require_tools()
    archives = []
    for form in (tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT):
        for link, target in [("var/lib/ollama", "private/ollama"), ("x", "gone/away"), ("x", "./y")]:
            made = io.BytesIO()
            with tarfile.open(fileobj=made, mode="w", format=form) as tar:
                info = tarfile.TarInfo(link)
                info.type, info.linkname = tarfile.SYMTYPE, target
                tar.addfile(info)
                for name, content in MADE.files.items():
                    info = tarfile.TarInfo(f"var/lib/private/ollama/models/{name}")
                    info.size = len(content)
                    tar.addfile(info, io.BytesIO(content))
            archives.append(made.getvalue())
            (tmp_path / "x.tar").write_bytes(archives[-1])
            assert verify_file(tmp_path / "x.tar", threads=1).good
    with restoring(".tar", archives) as outcomes:
        for outcome in outcomes:
            for tool, restored in outcome.items():
                contents = [content for content in restored.files.values() if content is not None]
                assert restored.code == 0 and sorted(contents) == sorted(MADE.files.values()), tool
