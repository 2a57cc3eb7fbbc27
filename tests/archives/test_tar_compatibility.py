"""Archives restored by every common tar, byte for byte."""

from __future__ import annotations

import os
import subprocess
import tarfile
import zlib
from itertools import product
from pathlib import Path
from random import Random

import pytest

import ollama_ferry
from ollama_ferry.archives import packing, tar
from ollama_ferry.archives.kinds import Compression, Kind
from ollama_ferry.model.names import ModelName
from support import needs
from support.command_line import COMMAND
from support.stores import StoreBuilder, tree, weights, weights_of_four_bits
from support.tars import NOBODY, TOOLS, everybody, untar
from support.tools import require_tool

# Of zstd not every tool has heard; those that have are tried apart.
KINDS = [".tar", ".tar.gz", ".tgz"]


@pytest.fixture
def store(source: StoreBuilder) -> StoreBuilder:
    """Models with blobs of every awkward size, long names, a repeated layer and a neighbour that shares."""
    sizes = (0, 1, 511, 512, 513, 2**20 - 1, 2**20, 2**20 + 1, 3 * 2**20 + 7)
    layers = [("tensor", weights(size, size)) for size in sizes]
    source.model("big:1", [*layers, layers[3]])
    source.model("big:2", [*layers[:5], ("template", b"other")])
    source.model("hf.co/org/repo:Q4_K_M", [("model", weights(1000, 3))])
    source.model(f"{'h' * 200}.example:5000/{'n' * 80}/{'m' * 80}:{'t' * 80}", [("model", b"long")])
    return source


def needed(store: StoreBuilder, name: str) -> dict[str, bytes]:
    """Return the files that a model needs, by the store's own manifest."""
    everything = tree(store.root)
    manifest = ollama_ferry.Store(store.root).manifest(ModelName.parse(name))
    files = [f"blobs/{blob.digest.file_name}" for blob in manifest.blobs]
    return {path: everything[path] for path in [*files, f"manifests/{ModelName.parse(name).path}"]}


@pytest.mark.parametrize("as_user", [False, True], ids=["self", "nobody"])
@pytest.mark.parametrize(("tool", "kind"), [*product(TOOLS, KINDS), ("tar", ".tar.zst"), ("bsdtar", ".tar.zst")])
def test_every_tar_restores_exactly_the_files(
    store: StoreBuilder, tmp_path: Path, tool: str, kind: str, as_user: bool
) -> None:
    if as_user and (tool == "tarfile" or not needs.IS_ROOT):
        user = None
    else:
        user = NOBODY if as_user else None
    archive, target = tmp_path / f"a{kind}", tmp_path / "target"
    ollama_ferry.export("*/*/*:*", archive, store=store.root)
    target.mkdir()
    everybody(target)
    archive.chmod(0o644)
    assert untar(tool, archive, target, user=user) == 0
    assert tree(target) == tree(store.root)
    if tool != "7z" and not needs.ON_WINDOWS:
        modes = {path.stat().st_mode & 0o777 for path in target.rglob("*") if path.is_file()}
        assert modes == {0o644}


@pytest.mark.parametrize("tool", ["tar", "busybox", "7z", "tarfile", "bsdtar"])
def test_linked_folders_stay_links(store: StoreBuilder, tmp_path: Path, tool: str) -> None:
    archive, target, disk = tmp_path / "a.tar.gz", tmp_path / "target", tmp_path / "disk"
    ollama_ferry.export("big:1", archive, store=store.root)
    for part in ("blobs", "manifests"):
        (disk / part).mkdir(parents=True)
    target.mkdir()
    (target / "blobs").symlink_to(disk / "blobs")
    (target / "manifests").symlink_to(disk / "manifests")
    if tool == "bsdtar":
        # It refuses to write through a link unless told to.
        assert untar(tool, archive, target) != 0
        assert untar(tool, archive, target, more=("-P",)) == 0
    else:
        assert untar(tool, archive, target) == 0
    assert (target / "blobs").is_symlink() and (target / "manifests").is_symlink()
    assert tree(disk) == needed(store, "big:1")


@pytest.mark.parametrize("tool", ["tar", "bsdtar", "busybox", "7z", "tarfile"])
def test_models_that_are_there_and_share_blobs_stay_whole(store: StoreBuilder, tmp_path: Path, tool: str) -> None:
    target = tmp_path / "target"
    target.mkdir()
    for name in ("big:2", "big:1"):
        archive = tmp_path / f"{name[-1]}.tar.gz"
        ollama_ferry.export(name, archive, store=store.root)
        assert untar(tool, archive, target) == 0
    assert tree(target) == needed(store, "big:1") | needed(store, "big:2")


def test_stream_goes_straight_into_tar(store: StoreBuilder, tmp_path: Path) -> None:
    line = f"{' '.join(COMMAND)} export big:1 --models {store.root} - | tar -xzf - -C {tmp_path}/t"
    (tmp_path / "t").mkdir()
    subprocess.run(["bash", "-o", "pipefail", "-c", line], check=True, capture_output=True)
    assert tree(tmp_path / "t") == needed(store, "big:1")


def test_entries_follow_the_rules(store: StoreBuilder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = tmp_path / "a.tar"
    ollama_ferry.export(["big:*", "hf.co/*/*"], archive, store=store.root)
    assert archive.stat().st_size % 10240 == 0
    content = archive.read_bytes()
    with tarfile.open(archive) as opened:
        members = opened.getmembers()
    for member in members:
        # GNU's form; that of the comments before big blobs is another one, and tells a reader nothing of members.
        assert content[member.offset_data - 512 :][257:265] == b"ustar  \0"
        # The blocks of big ones can be shared with the store's by file systems that know how.
        assert member.size < 2**20 or member.offset_data % 4096 == 0
        assert (member.uname, member.gname, member.uid, member.gid) == ("ollama", "ollama", 0, 0)
        assert member.mode == (0o755 if member.isdir() else 0o644)
        assert member.mtime == 1_700_000_000
        assert not "".join(member.pax_headers.values()).strip()
        assert member.isreg() or (member.isdir() and member.name.startswith("manifests/"))
    blobs = [member.name for member in members if member.name.startswith("blobs/")]
    assert blobs == sorted(set(blobs))
    order = [member.name for member in members]
    for name in ("big:1", "big:2", "hf.co/org/repo:Q4_K_M"):
        *files, manifest = needed(store, name)
        assert order.index(manifest) > max(map(order.index, files))
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "86400")
    ollama_ferry.export("big:1", tmp_path / "b.tar", store=store.root)
    with tarfile.open(tmp_path / "b.tar") as opened:
        assert {member.mtime for member in opened} == {86400}


@pytest.mark.parametrize("compress", ["auto", "none", "fast", "best"])
@pytest.mark.parametrize("kind", [".tar", ".tar.gz", ".tar.zst"])
def test_same_bytes_whatever_the_threads(store: StoreBuilder, tmp_path: Path, kind: str, compress: str) -> None:
    archives = set()
    for threads in (1, 5):
        path = tmp_path / f"{threads}{kind}"
        ollama_ferry.export("big:*", path, store=store.root, compress=compress, threads=threads)
        archives.add(path.read_bytes())
    assert len(archives) == 1
    target = tmp_path / "t"
    target.mkdir()
    assert untar("tar", path, target) == 0
    assert tree(target) == needed(store, "big:1") | needed(store, "big:2")


@pytest.mark.parametrize("kind", [Kind.TAR_GZ, Kind.TAR_ZST])
def test_auto_stores_what_is_not_worth_packing(kind: Kind) -> None:
    random = Random(4)
    hardly = random.randbytes(2**20 - 5000) + bytes(5000)  # saves half a percent
    little = weights_of_four_bits(2**20)
    fewer = bytes(random.choices(range(128), k=2**20))  # saves an eighth

    def packed_size(compression: Compression, frame: bytes) -> int:
        return sum(map(len, packing.packer(kind, compression)(frame)))

    assert len(hardly) <= packed_size(Compression.AUTO, hardly) < len(hardly) + 200
    assert len(hardly) <= packed_size(Compression.FAST, hardly) < len(hardly) + 200
    assert packed_size(Compression.BEST, hardly) < 0.998 * len(hardly)
    assert len(little) <= packed_size(Compression.AUTO, little) < len(little) + 200
    assert packed_size(Compression.FAST, little) < 0.96 * len(little)
    assert packed_size(Compression.AUTO, fewer) == packed_size(Compression.FAST, fewer) < 0.985 * len(fewer)


@pytest.mark.parametrize("accelerated", [True, False], ids=["isal", "zlib"])
def test_members_are_independent_and_cut_at_blobs(
    store: StoreBuilder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, accelerated: bool
) -> None:
    if not accelerated:
        monkeypatch.setattr(packing, "_isal", None)
        monkeypatch.setattr(packing, "crc32", zlib.crc32)
    archive = tmp_path / "a.tar.gz"
    ollama_ferry.export("big:1", archive, store=store.root)
    members, rest = [], archive.read_bytes()
    while rest:
        inflate = zlib.decompressobj(31)
        members.append(inflate.decompress(rest))
        assert inflate.eof
        rest = inflate.unused_data
    assert max(map(len, members)) == 2**20
    for path, content in needed(store, "big:1").items():
        # Small ones share frames with the headers around them.
        if path.startswith("blobs/") and len(content) >= 64 * 1024:
            parts = [content[at : at + 2**20] for at in range(0, len(content), 2**20)]
            assert any(members[at : at + len(parts)] == parts for at in range(len(members)))
    (tmp_path / "t").mkdir()
    assert untar("tar", archive, tmp_path / "t") == 0
    assert tree(tmp_path / "t") == needed(store, "big:1")


@pytest.mark.parametrize("tool", ["tar", "bsdtar", "busybox"])
def test_size_over_eight_gibibytes_is_understood(tmp_path: Path, tool: str) -> None:
    """What octal digits can't hold; the member's zeros are a hole, which listing passes over."""
    size = 8 * 2**30 + 123
    head = tar.file_header("blobs/x", size, 0)
    archive = tmp_path / "h.tar"
    with archive.open("wb") as file:
        file.write(head)
        file.seek(size + len(tar.padding(size)), os.SEEK_CUR)
        file.write(tar.file_header("blobs/y", 0, 0))
        file.truncate(file.tell() + 1024)
    command = [require_tool("busybox"), "tar"] if tool == "busybox" else [require_tool(tool)]
    listed = subprocess.run([*command, "-tvf", archive], capture_output=True, text=True, check=True).stdout
    assert str(size) in listed and "blobs/y" in listed


@pytest.mark.long
def test_member_over_eight_gibibytes(source: StoreBuilder, tmp_path: Path) -> None:
    import hashlib

    size = 8 * 2**30 + 123
    hashed, block = hashlib.sha256(), bytes(2**20)
    for _ in range(size // len(block)):
        hashed.update(block)
    hashed.update(bytes(size % len(block)))
    name = f"blobs/sha256-{hashed.hexdigest()}"
    with (source.root / name).open("wb") as file:
        file.truncate(size)
    source.manifest("huge", b'{"layers": [{"digest": "sha256:%s", "size": %d}]}' % (hashed.hexdigest().encode(), size))
    archive = tmp_path / "h.tar.gz"
    ollama_ferry.export("huge", archive, store=source.root)
    (source.root / name).unlink()
    # One pass of eight gigabytes each.
    listed = subprocess.run([require_tool("bsdtar"), "-tvzf", archive], capture_output=True, text=True, check=True)
    assert str(size) in listed.stdout
    for tool in (["tar"], ["busybox", "tar"]):
        require_tool(tool[0])
        line = f"{' '.join(tool)} -xzOf {archive} {name} | wc -c"
        assert int(subprocess.check_output(["bash", "-c", line])) == size


def test_headers_are_those_that_tarfile_makes() -> None:
    random = Random(6)
    sizes = [0, 1, 511, 8**11 - 1, 8**11, 2**40]
    for length in (1, 77, 99, 100, 101, 180):
        for size in sizes:
            for mtime in (0, 1_700_000_000, 8**11 - 1, 8**11):
                name = "".join(random.choices("abc/-.", k=length))
                for kind, mode in ((tarfile.REGTYPE, 0o644), (tarfile.DIRTYPE, 0o755)):
                    wanted = tar._made_by_tarfile(name, kind, mode, size, mtime)
                    assert tar._header(name, kind, mode, size, mtime) == wanted, (length, size, mtime)
