"""What the far side writes: brought to the disk or discarded, dated now, and never through what others planted."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ollama_ferry.archives import tar
from ollama_ferry.places.ssh.scripts import LOOK
from ollama_ferry.places.ssh.writing_scripts import COMMIT, LOCK, PUT
from support import needs
from support.far_side import FarSide, Holder
from support.stores import tree, weights
from support.tools import require_tool

CONTENT = weights(50_000)
NAME = f"sha256-{hashlib.sha256(CONTENT).hexdigest()}"
STAGING = ".ollama-ferry-ssh"
NOBODY = 65534
AS_ROOT = needs.root("acts as several users")
HELP = 'case "$*" in *--help*) echo "sync [FILE]..."; exit;; esac\n'


def batch(*contents: bytes, mtime: int = 0) -> bytes:
    """Return a tar of small blobs."""
    parts = b""
    for content in contents:
        name = f"sha256-{hashlib.sha256(content).hexdigest()}"
        parts += tar.file_header(name, len(content), mtime) + content + tar.padding(len(content))
    return parts + tar.end(len(parts))


def publish_model(far: FarSide, head: list[object], manifest: bytes = b"{}", user: int = 0) -> list[str]:
    words = [*head[:3], f"{NAME} {len(CONTENT)}", ".", "registry.ollama.ai/library/m", "tag", len(manifest)]
    return far.run(COMMIT, words, manifest, user)


def send(far: FarSide, root: Path, user: int = 0, staging: str = STAGING) -> list[str]:
    """Send the one blob and its model; return what the last script says."""
    with Holder(far, LOCK, root, staging=staging, user=user) as one:
        if (word := one.taken()) != "locked":
            return [word]
        said = far.run(PUT, [*one.head, NAME, len(CONTENT), 0], CONTENT, user)
        if said != ["end"]:
            return said
        said = publish_model(far, one.head, user=user)
        one.release()
        return said


def test_failed_sync_is_an_error_and_what_it_was_for_is_discarded(far: FarSide, root: Path) -> None:
    failing = HELP + "echo \"sync: error syncing '$1': Input/output error\" >&2\nexit 1"
    far.shim("sync", failing)
    with Holder(far, LOCK, root) as one:
        assert one.taken() == "locked"
        assert far.run(PUT, [*one.head, NAME, len(CONTENT), 0], CONTENT) == [f"error sync {NAME}"]
        assert far.run(PUT, [*one.head, "many", "batch-1"], batch(b"small")) == ["error sync batch-1"]
        assert [path.name for path in (root / STAGING).iterdir()] == ["lock"]
        far.shim("sync", HELP)
        assert far.run(PUT, [*one.head, NAME, len(CONTENT), 0], CONTENT) == ["end"]
        far.shim("sync", failing)
        assert publish_model(far, one.head)[0].startswith("error sync")
        assert not list((root / "manifests").rglob("tag"))
        # The folder's sync works, and the manifest's fails.
        far.shim("sync", f'{HELP}[ "$1" = . ] && exit\n{failing}')
        assert publish_model(far, one.head)[0] == "error sync manifest"
        assert not list((root / "manifests").rglob("tag")) and not (root / STAGING / "manifest").exists()


@pytest.mark.parametrize(
    "body",
    [
        '[ $# = 0 ] || { echo "usage: sync" >&2; exit 1; }',
        'echo "sync: ignoring all arguments" >&2',
        HELP + 'case $1 in "") exit;; esac; echo "sync: error syncing: Invalid argument" >&2; exit 1',
    ],
    ids=["no operand", "ignored", "not on this disk"],
)
def test_sync_that_knows_no_files_brings_everything_to_the_disk(far: FarSide, root: Path, body: str) -> None:
    far.shim("sync", f'echo "sync $*" >> {root}.calls\n{body}')
    assert send(far, root) == ["end"]
    assert tree(root) == {f"blobs/{NAME}": CONTENT, "manifests/registry.ollama.ai/library/m/tag": b"{}"}


def test_small_blobs_are_of_now(far: FarSide, root: Path) -> None:
    """A server that prunes at its start spares what is young."""
    with Holder(far, LOCK, root) as one:
        assert one.taken() == "locked"
        assert far.run(PUT, [*one.head, "many", "batch-1"], batch(b"one", b"two")) == ["end"]
    blobs = list((root / STAGING).glob("sha256-*"))
    assert len(blobs) == 2 and all(abs(path.stat().st_mtime - time.time()) < 600 for path in blobs)


def test_wrong_small_blob_gets_no_name(far: FarSide, root: Path) -> None:
    wrong = batch(b"right").replace(b"right", b"wrong", 1)
    with Holder(far, LOCK, root) as one:
        assert one.taken() == "locked"
        assert far.run(PUT, [*one.head, "many", "batch-1"], wrong)[0].startswith("error bad sha256-")
    assert not list((root / STAGING).glob("sha256-*"))


def look(far: FarSide, root: Path, user: int = 0) -> dict[str, str]:
    said = far.run(LOOK, [root, "."], user=user)
    return {line.partition(" ")[0]: line.partition(" ")[2] for line in said}


@AS_ROOT
def test_staging_folder_of_another_user_of_the_group_is_left_alone(far: FarSide, root: Path, open_folder: Path) -> None:
    for path in (root, root / "blobs", root / "manifests"):
        path.mkdir()
        os.chown(path, 12345, 23456)
        path.chmod(0o777)
    (root / STAGING).mkdir()
    (root / STAGING / NAME).write_bytes(b"another user's")
    for path in (root / STAGING, root / STAGING / NAME):
        os.chown(path, 54321, 23456)
    staging = look(far, root, NOBODY)["staging"]
    assert staging == f"{STAGING}-{NOBODY}"
    assert send(far, root, NOBODY, staging) == ["end"]
    assert (root / STAGING / NAME).read_bytes() == b"another user's"
    assert (root / "blobs" / NAME).read_bytes() == CONTENT and not (root / staging).exists()


@AS_ROOT
@pytest.mark.parametrize("where", [STAGING, f"{STAGING}/{NAME}.partial", f"{STAGING}/{NAME}", f"{STAGING}/manifest",
                                   f"{STAGING}/{NAME}.copy", "manifests/registry.ollama.ai",
                                   "manifests/registry.ollama.ai/library/m"])  # fmt: skip
@pytest.mark.parametrize("kind", ["link", "link to a folder", "hard link", "folder", "dangling"])
def test_nothing_is_written_through_what_was_planted(
    far: FarSide, root: Path, open_folder: Path, where: str, kind: str
) -> None:
    """Another user of a group's store made it; the victim's files are what it leads to."""
    victim = open_folder / "victim"
    (victim / "folder").mkdir(parents=True)
    for name in ("file", "folder/tag", "folder/manifest", f"folder/{NAME}.partial"):
        (victim / name).write_bytes(b"must stay")
    before = {path: (data, (victim / path).stat().st_mode) for path, data in tree(victim).items()}
    for path in (victim, *victim.rglob("*")):
        os.chown(path, NOBODY, NOBODY)
    planted = root / where
    planted.parent.mkdir(parents=True)
    (root / "blobs").mkdir()
    (root / "manifests").mkdir(exist_ok=True)
    if kind == "hard link":
        if where == STAGING or "manifests" in where:
            planted.write_bytes(b"no folder")
        else:
            os.link(victim / "file", planted)
    elif kind == "folder":
        (planted / "sub").mkdir(parents=True)
    else:
        planted.symlink_to(victim / {"link": "file", "link to a folder": "folder", "dangling": "new"}[kind])
    for path in (root, *root.rglob("*")):
        if not path.is_symlink() and kind != "hard link":
            os.chown(path, NOBODY, NOBODY)
    for path in (root, root / "blobs", root / "manifests", root / STAGING):
        if path.is_dir() and not path.is_symlink():
            os.chown(path, NOBODY, NOBODY)
    said = send(far, root, NOBODY)
    assert {path: (data, (victim / path).stat().st_mode) for path, data in tree(victim).items()} == before
    assert not (victim / "new").exists()
    if said == ["end"]:
        assert not (root / "blobs" / NAME).is_symlink() and (root / "blobs" / NAME).read_bytes() == CONTENT
    else:
        assert said[0].startswith("error "), said


def test_link_in_place_of_blobs_is_followed_where_it_may_be(far: FarSide, root: Path, open_folder: Path) -> None:
    disk = open_folder / "disk"
    disk.mkdir()
    root.mkdir()
    (root / "blobs").symlink_to(disk)
    staging = look(far, root)["staging"]
    assert staging == f"blobs/{STAGING}"
    assert send(far, root, staging=staging) == ["end"]
    assert tree(disk) == {NAME: CONTENT}
    assert (root / "manifests/registry.ollama.ai/library/m/tag").read_bytes() == b"{}"
    assert sorted(path.name for path in (root / "manifests").iterdir()) == ["registry.ollama.ai"]


@pytest.mark.parametrize("linked", [False, True], ids=["beside", "link"])
def test_system_that_names_no_open_folders(
    far: FarSide, root: Path, open_folder: Path, linked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As macOS is: paths are all that there is."""
    staging = STAGING
    if linked:
        (open_folder / "disk").mkdir()
        root.mkdir()
        (root / "blobs").symlink_to(open_folder / "disk")
        staging = f"blobs/{STAGING}"
    assert "/proc/self/fd" in COMMIT
    monkeypatch.setattr(sys.modules[__name__], "COMMIT", COMMIT.replace("/proc/self/fd", "/nowhere"))
    assert send(far, root, staging=staging) == ["end"]
    assert tree(root) == {f"blobs/{NAME}": CONTENT, "manifests/registry.ollama.ai/library/m/tag": b"{}"}


def test_blobs_on_another_disk_wait_there(far: FarSide, root: Path) -> None:
    """What waits beside them would be copied, and not renamed, to its name."""
    (root / "blobs").mkdir(parents=True)
    head, lines = (
        "Filesystem 1024-blocks Used Available Capacity Mounted on",
        ["/dev/a 9 1 8 1% /", "/dev/b 9 1 8 1% /b"],
    )
    shown = " ".join(f"'{line}'" for line in (head, *lines))
    far.shim("df", f"""[ "$*" != "-P . blobs" ] || {{ printf '%s\\n' {shown}; exit; }}; exec $REAL "$@\"""")
    staging = look(far, root)["staging"]
    assert staging == f"blobs/{STAGING}"
    assert send(far, root, staging=staging) == ["end"]
    assert tree(root) == {f"blobs/{NAME}": CONTENT, "manifests/registry.ollama.ai/library/m/tag": b"{}"}


@AS_ROOT
@pytest.mark.parametrize("told", [True, False], ids=["told", "untold"])
def test_blobs_that_are_a_part_of_the_same_disk_mounted_again(
    far: FarSide, root: Path, open_folder: Path, told: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """BusyBox's df shows the same for both; where no file lists the mounts, what was copied is not believed."""
    synced = open_folder / "synced"
    synced.touch(0o666)
    far.shim("sync", f"""[ "$1" = --help ] || echo "$PWD $*" >> '{synced}'; exec $REAL "$@" """)
    volume = open_folder / "a \\ volume"
    volume.mkdir()
    root = root.with_name("a \\ store 100%")
    blobs = root / "blobs"
    blobs.mkdir(parents=True)
    if subprocess.run([require_tool("mount"), "--bind", volume, blobs], check=False).returncode:
        pytest.skip("may not mount")
    try:
        if told:
            assert look(far, root)["staging"] == f"blobs/{STAGING}"
            assert send(far, root, staging=f"blobs/{STAGING}") == ["end"]
        else:
            assert "/proc/self/fd" in COMMIT
            monkeypatch.setattr(sys.modules[__name__], "COMMIT", COMMIT.replace("/proc/self/mountinfo", "/nowhere"))
            assert send(far, root) == ["end"]
            assert any(f"{blobs} " in line and line.endswith(NAME) for line in synced.read_text().splitlines()), (
                synced.read_text()
            )
    finally:
        subprocess.run(["umount", blobs], check=True)
    assert tree(volume) == {NAME: CONTENT}


@AS_ROOT
def test_link_in_place_of_blobs_is_refused_where_another_user_made_it(
    far: FarSide, root: Path, open_folder: Path
) -> None:
    disk = open_folder / "disk"
    disk.mkdir()
    os.chown(disk, NOBODY, NOBODY)
    root.mkdir(mode=0o777)
    root.chmod(0o777)
    (root / "blobs").symlink_to(disk)
    os.lchown(root / "blobs", 12345, 12345)
    assert send(far, root, NOBODY, f"blobs/{STAGING}") == [f"error link {root}/blobs"]
    assert not list(disk.iterdir())
