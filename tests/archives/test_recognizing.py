"""What is no archive of models is told for what it is, with the line that helps: never "copy it again" alone."""

from __future__ import annotations

import gzip
import json
import lzma
import shutil
import subprocess
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from support.command_line import assert_one_clear_error, ferry
from support.stores import StoreBuilder
from support.tools import require_tool

SAFETENSORS = (88).to_bytes(8, "little") + b'{"__metadata__":{"format":"pt"}}' + bytes(600)
# What begins so; what it is called; what is said to do.
STARTS: list[tuple[bytes, str, str]] = [
    (b"7z\xbc\xaf\x27\x1c" + bytes(600), "a 7z archive", "7z x"),
    (b"Rar!\x1a\x07\x01" + bytes(600), "a RAR archive", "unrar x"),
    (b"PK\x07\x08PK\x03\x04" + bytes(600), "a zip in several parts", "zip -s 0"),
    (b"MSCF" + bytes(600), "a cabinet", "7z x"),
    (b"!<arch>\ndebian-binary" + bytes(600), "package of Debian", "dpkg-deb"),
    (b"070701" + b"0" * 600, "a cpio archive", "cpio -id"),
    (b"\x04\x22\x4d\x18" + bytes(600), "packed by lz4", "lz4 -dc FILE | ollama-ferry import -"),
    (b"LZIP\x01" + bytes(600), "packed by lzip", "lzip -dc"),
    (b"\x1f\x9d\x90" + bytes(600), "packed by compress", "gzip -dc"),
    (lzma.compress(b"x" * 5000, lzma.FORMAT_ALONE), "packed by lzma", "xz -dc"),
    (b"Salted__" + bytes(600), "encrypted by openssl", "openssl enc -d"),
    (b"age-encryption.org/v1\n" + bytes(600), "encrypted by age", "age -d"),
    (b"-----BEGIN PGP MESSAGE-----\n" + b"x" * 600, "encrypted by PGP", "gpg -d"),
    (b"GGUF\x03\0\0\0" + bytes(600), "a GGUF file", "ollama create"),
    (b"tjgg" + bytes(600), "a file of GGML", "GGUF"),
    (SAFETENSORS, "weights in safetensors", "ollama create"),
    (b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 5\n", "a pointer of git-lfs", "git lfs pull"),
    (b"\n <!DOCTYPE html>\n<html>" + b"x" * 600, "a web page", "Download it again"),
    (b"\xef\xbb\xbf<HTML lang=en>" + b"x" * 600, "a web page", "Download it again"),
    (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "an XML text", "Download it again"),
    (b'{"error":"not found"}', "a JSON text", "Download it again"),
    (b'{"schemaVersion":2,"layers":[]}', "a manifest without its blobs", "ollama-ferry import ./FOLDER"),
    (b"a" * 64 + b"  models.tar.gz\n", "a file of sums", "Name the archive itself"),
    (b"d8:announce35:udp://tracker.example.org:1337/x", "a torrent", "Download what it leads to"),
    (b"\x7fELF\x02" + bytes(600), "a program", "Download it again"),
    (b"MZ\x90" + bytes(600), "a program of Windows", "import the folder"),
    ("Guten Tag, größere Datei folgt\n".encode() * 40, "a text", "Download it again"),
]


@pytest.mark.parametrize(("start", "what", "advice"), STARTS, ids=[what for _, what, _ in STARTS])
@pytest.mark.parametrize("packed", [False, True], ids=["as it is", "packed by xz"])
def test_it_is_told_for_what_it_is(tmp_path: Path, start: bytes, what: str, advice: str, packed: bool) -> None:
    (path := tmp_path / "models.tar.gz").write_bytes(lzma.compress(start) if packed else start)
    for words in (("import", path, "--models", tmp_path / "t"), ("list", path), ("verify", path)):
        done = ferry(*words)
        assert_one_clear_error(done, 4)
        assert what in done.stderr and advice in done.stderr and "Copy the archive again" not in done.stderr
    assert not (tmp_path / "t").exists()


def with_tar(*options: str) -> Callable[[Path, Path], None]:
    def make(store: Path, path: Path) -> None:
        line = [require_tool("tar"), *options, "-cf", str(path), "-C", str(store), "blobs", "manifests"]
        subprocess.run(line, check=True)

    return make


def sparse(store: Path, path: Path) -> None:
    with (store / "blobs" / "sha256-holes").open("wb") as file:
        file.truncate(5_000_000)
        file.write(b"x")
    with_tar("--sparse")(store, path)


def hard_links(store: Path, path: Path) -> None:
    first = next(iter((store / "blobs").iterdir()))
    (store / "blobs" / "another-name").hardlink_to(first)
    with_tar()(store, path)


def absolute(store: Path, path: Path) -> None:
    subprocess.run([require_tool("tar"), "-Pcf", str(path), str(store)], check=True, capture_output=True)


def drive(store: Path, path: Path) -> None:
    with tarfile.open(path, "w") as made:
        for file in (store / "blobs").iterdir():
            # On Windows add() takes the drive off.
            member = tarfile.TarInfo(f"C:/Users/me/.ollama/models/blobs/{file.name}")
            member.size = file.stat().st_size
            with file.open("rb") as content:
                made.addfile(member, content)


def encrypted(store: Path, path: Path) -> None:
    line = [require_tool("zip"), "-q", "-r", "-P", "secret", str(path), "blobs", "manifests"]
    subprocess.run(line, cwd=store, check=True)


def tar_in_zip(store: Path, path: Path) -> None:
    inner = path.with_name("inner.tar.gz")
    with_tar("-z")(store, inner)
    with zipfile.ZipFile(path, "w") as made:
        made.write(inner, "download/models.tar.gz")


MADE: list[tuple[Callable[[Path, Path], None], int, list[str]]] = [
    (sparse, 4, ["a sparse file", "without --sparse"]),
    (with_tar("--label=backup", "--format=gnu"), 4, ["the label 'backup'", "without --label", "--lenient"]),
    (hard_links, 4, ["hard link", "tar --hard-dereference", "--lenient"]),
    (absolute, 4, ["absolute name", "tar -cf", "--lenient"]),
    (drive, 4, ["absolute name", "--lenient"]),
    (encrypted, 4, ["the zip is encrypted", "7z x"]),
    (tar_in_zip, 3, ["There are archives in it: 'download/models.tar.gz'. Unpack it"]),
]


@pytest.mark.parametrize(("make", "code", "said"), MADE, ids=[said[0] for _, _, said in MADE])
def test_an_odd_archive_has_its_own_advice(
    source: StoreBuilder, tmp_path: Path, make: Callable[[Path, Path], None], code: int, said: list[str]
) -> None:
    source.model("qwen3:8b")
    make(source.root, path := tmp_path / "made.zip")
    done = ferry("import", path, "--models", tmp_path / "t")
    assert_one_clear_error(done, code)
    assert all(part in done.stderr for part in said) and "Copy the archive again" not in done.stderr
    if "--lenient" in said:
        done = ferry("import", path, "--models", tmp_path / "t", "--lenient")
        # Of hard links one of the two names is the blob itself, and the other is not followed.
        assert done.returncode in (0, 3, 4), done.stderr


def test_gzip_in_gzip_is_read_and_not_passed_by_verify(source: StoreBuilder, tmp_path: Path) -> None:
    source.model("qwen3:8b")
    with_tar("-z")(source.root, once := tmp_path / "once.tar.gz")
    (twice := tmp_path / "twice.tar.gz").write_bytes(gzip.compress(once.read_bytes()))
    done = ferry("import", twice, "--models", tmp_path / "t", "-q")
    assert done.returncode == 0 and "qwen3:8b" in done.stdout
    done = ferry("verify", twice)
    assert_one_clear_error(done, 4)
    assert "packed twice" in done.stderr and "--lenient" not in done.stderr


def test_unfinished_download_is_told_by_its_name(source: StoreBuilder, tmp_path: Path) -> None:
    source.model("qwen3:8b")
    with_tar("-z")(source.root, whole := tmp_path / "whole.tar.gz")
    for ending in (".part", ".crdownload", ".aria2"):
        (path := tmp_path / f"models.tar.gz{ending}").write_bytes(whole.read_bytes()[:200])
        done = ferry("import", path, "--models", tmp_path / "t")
        assert_one_clear_error(done, 4)
        assert "unfinished download" in done.stderr


def test_manifest_of_another_kind_of_archive_is_none(tmp_path: Path) -> None:
    """A browser's extension has a manifest.json too, and Docker's image a list."""
    shutil.rmtree(tmp_path / "x", ignore_errors=True)
    for content in ({"manifest_version": 3, "name": "x"}, [{"Config": "x", "Layers": []}], {"layers": "none"}):
        with zipfile.ZipFile(tmp_path / "x.zip", "w") as made:
            made.writestr("manifest.json", json.dumps(content))
        done = ferry("list", tmp_path / "x.zip")
        assert done.returncode == 0 and "no models" in done.stderr
        assert_one_clear_error(ferry("import", tmp_path / "x.zip", "--models", tmp_path / "t"), 3)
