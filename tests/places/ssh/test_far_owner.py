"""As root the far side acts as the owner of the store, by any program that can; what that one planted leads nowhere."""

from __future__ import annotations

import hashlib
import os
import random
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from ollama_ferry.places.ssh.scripts import GET, HASH, LOOK
from ollama_ferry.places.ssh.writing_scripts import COMMIT, LOCK, PUT
from support import needs
from support.far_side import FarSide, Holder
from support.stores import tree, weights
from support.tools import require_tool

pytestmark = needs.root("acts as root, and as other users")

CONTENT = weights(50_000)
NAME = f"sha256-{hashlib.sha256(CONTENT).hexdigest()}"
STAGING = ".ollama-ferry-ssh"
STRANGER = (12345, 23456)
NOBODY = (65534, 65534)
# What the scripts need besides what they become the owner with.
COMMANDS = ["cat", "chmod", "date", "dd", "df", "env", "grep", "id", "ls", "mkdir", "mv", "openssl", "pwd", "readlink",
            "rm", "rmdir", "sleep", "sync", "tail", "tar", "tee", "tr", "uname"]  # fmt: skip


def send(far: FarSide, root: Path, *, staging: str = STAGING, user: int = 0) -> list[str]:
    """Send a blob and its model; return what the script said that was the last to say something."""
    with Holder(far, LOCK, root, staging=staging, user=user) as one:
        if (word := one.taken()) != "locked":
            return [word]
        said = far.run(PUT, [*one.head, NAME, len(CONTENT), 0], CONTENT, user)
        if said == ["end"]:
            words = [*one.head[:3], f"{NAME} {len(CONTENT)}", ".", "registry.ollama.ai/library/m", "tag", 2]
            said = far.run(COMMIT, words, b"{}", user)
        one.release()
        return said


def give(owner: tuple[int, int], *paths: Path) -> None:
    for path in paths:
        os.lchown(path, *owner)


@pytest.mark.parametrize("owner", [STRANGER, NOBODY], ids=["number", "name"])
@pytest.mark.parametrize("way", ["setpriv", "chroot", "nsenter", "su", "perl"])
def test_by_each_program_that_can_do_it(open_folder: Path, way: str, owner: tuple[int, int]) -> None:
    require_tool(way)
    far = FarSide(open_folder / "far", "dash", [*COMMANDS, way])
    root = open_folder / "service/models"
    root.parent.mkdir()
    give(owner, root.parent)
    said = send(far, root)
    if way == "su" and owner == STRANGER:
        # It takes names only.
        assert said == ["error owner 12345"]
        assert not root.exists()
        return
    assert said == ["end"]
    assert len(list(root.rglob("*"))) == 7
    for path in (root, *root.rglob("*")):
        assert (path.stat().st_uid, path.stat().st_gid) == owner, path
        assert path.stat().st_mode & 0o777 == (0o755 if path.is_dir() else 0o644), path


def test_sudo_is_one_of_them(open_folder: Path) -> None:
    far = FarSide(open_folder / "far", "dash", COMMANDS)
    setpriv = require_tool("setpriv")
    far.shim(
        "sudo",
        '[ "$1 $2 $4 $6" = "-n -u -g --" ] || exit 1; u=${3#"#"}; g=${5#"#"}; shift 6\n'
        f'exec {setpriv} --reuid "$u" --regid "$g" --clear-groups "$@"',
    )
    root = open_folder / "models"
    root.mkdir()
    give(STRANGER, root)
    assert send(far, root) == ["end"]
    assert {path.stat().st_uid for path in root.rglob("*")} == {STRANGER[0]}


@pytest.mark.parametrize("lie", [None, "exec \"$@\"", "exit 0", "shift 3; cd /; exec $REAL --reuid 12345 --regid 23456 \
--clear-groups \"$@\""])  # fmt: skip
def test_without_any_nothing_is_done_there(open_folder: Path, lie: str | None) -> None:
    far = FarSide(open_folder / "far", "dash", COMMANDS)
    if lie:
        far.shim("setpriv", lie)
    root = open_folder / "models"
    (root / "blobs").mkdir(parents=True)
    give(STRANGER, root, root / "blobs")
    assert send(far, root) == ["error owner 12345"]
    for script in (LOOK, HASH, GET):
        assert far.run(script, [root, STAGING, "", "."])[-1] == "error owner 12345"
    assert not tree(root) and len(list(root.rglob("*"))) == 1


@pytest.mark.parametrize("what", ["blobs", "manifests", "manifests/registry.ollama.ai"])
def test_root_writes_into_no_folder_of_another_user(open_folder: Path, far: FarSide, what: str) -> None:
    root = open_folder / "models"
    (root / "blobs").mkdir(parents=True)
    (root / "manifests/registry.ollama.ai").mkdir(parents=True)
    give(NOBODY, root / what)
    assert send(far, root) == [f"error mixed {NOBODY[0]} {root / what}"]
    assert not list((root / what).iterdir()) or what == "manifests"
    assert not any(path.is_file() and "tag" in path.name for path in root.rglob("*"))


def test_root_takes_no_folder_for_a_store_that_everybody_writes_to(open_folder: Path, far: FarSide) -> None:
    root = open_folder / "models"
    root.mkdir()
    root.chmod(0o1777)
    assert send(far, root) == [f"error mixed everybody {root}"]
    assert not list(root.iterdir())


def test_busybox_alone_can_do_it(open_folder: Path) -> None:
    far = FarSide(open_folder / "far", "busybox")
    root = open_folder / "models"
    root.mkdir()
    give(STRANGER, root)
    assert send(far, root) == ["end"]
    assert {path.stat().st_uid for path in root.rglob("*")} == {STRANGER[0]}


@pytest.mark.parametrize("group", ["root", "daemon"])
def test_group_that_the_owner_is_no_member_of_is_not_handed_on(open_folder: Path, group: str) -> None:
    import grp

    far = FarSide(open_folder / "far")
    root = open_folder / "models"
    root.mkdir()
    give((STRANGER[0], grp.getgrnam(group).gr_gid), root)
    assert send(far, root) == ["end"]
    assert {path.stat().st_gid for path in root.rglob("*")} == {65534}


@pytest.mark.parametrize("place", ["manifests", "blobs"])
def test_link_of_the_owner_leads_to_nothing_of_root_that_they_may_write(
    far: FarSide, open_folder: Path, place: str
) -> None:
    root, outside = open_folder / "models", open_folder / "outside"
    root.mkdir()
    outside.mkdir()
    outside.chmod(0o777)
    (root / place).symlink_to(outside)
    give(STRANGER, root, root / place)
    staging = f"blobs/{STAGING}" if place == "blobs" else STAGING
    assert send(far, root, staging=staging) == [f"error link {root}/{place}"]
    assert not list(outside.iterdir())


def test_store_that_only_root_can_get_at(open_folder: Path) -> None:
    """As the volume of a container is: what leads to it is closed, and it belongs to the user in there."""
    far = FarSide(open_folder / "far")
    closed = open_folder / "closed"
    root = closed / "models"
    root.mkdir(parents=True)
    closed.chmod(0o700)
    give(STRANGER, root)
    assert send(far, root) == ["end"]
    assert {path.stat().st_uid for path in root.rglob("*")} == {STRANGER[0]}
    said = far.run(LOOK, [root, "*", "."])
    assert f"{NAME}" in "\n".join(said) and "manifest 2 registry.ollama.ai/library/m/tag" in said


def test_half_of_a_blob_that_an_earlier_version_left_as_root_is_resumed(far: FarSide, root: Path) -> None:
    (root / STAGING).mkdir(parents=True)
    give(STRANGER, root, root / STAGING)
    partial = root / STAGING / f"{NAME}.partial"
    partial.write_bytes(CONTENT[:20_000])
    assert f"{NAME}.partial" in "\n".join(far.run(LOOK, [root, "."]))
    with Holder(far, LOCK, root) as one:
        assert one.taken() == "locked"
        assert far.run(PUT, [*one.head, NAME, len(CONTENT), 20_000], CONTENT[20_000:]) == ["end"]
        one.release()
    assert (root / STAGING / NAME).read_bytes() == CONTENT
    assert (root / STAGING / NAME).stat().st_uid == STRANGER[0]


@pytest.mark.parametrize("maker", [STRANGER, (54321, 54321)], ids=["owner", "another"])
@pytest.mark.parametrize("target", ["store of root", "store of the owner"])
def test_links_on_the_way_to_a_store(far: FarSide, open_folder: Path, maker: tuple[int, int], target: str) -> None:
    home = open_folder / "home"
    real = open_folder / "real"
    home.mkdir()
    real.mkdir()
    (home / "models").symlink_to(real)
    give(maker, home, home / "models")
    if target == "store of the owner":
        give(STRANGER, real)
    said = send(far, home / "models")
    if maker == STRANGER and target == "store of the owner":
        assert said == ["end"] and (real / "blobs" / NAME).stat().st_uid == STRANGER[0]
    else:
        assert said == [f"error link {home}/models"]
        assert not list(real.iterdir())


def test_links_of_root_are_followed(far: FarSide, open_folder: Path) -> None:
    (open_folder / "a").mkdir()
    (open_folder / "b").symlink_to("a")
    (open_folder / "c").symlink_to(f"{open_folder}/./x/../b//new/..")
    (open_folder / "x").mkdir()
    (open_folder / "a/new").mkdir()
    assert send(far, open_folder / "c/store") == ["end"]
    assert (open_folder / "a/store/blobs" / NAME).read_bytes() == CONTENT


# -- a hostile owner


class Hostile:
    """A store whose owner makes links of what is in it, to what belongs to the one who writes into it.

    Args:
        folder: where it is made.
        writer: who writes: root, or another user of a group that owns the store.
    """

    def __init__(self, folder: Path, writer: int) -> None:
        self.writer = writer
        self.root = folder / "home/models"
        self.marker = folder / "marker"
        (self.marker / "folder").mkdir(parents=True)
        names = ["file", "folder/tag", "folder/manifest", f"folder/{NAME}", f"folder/{NAME}.partial", "folder/token"]
        for name in names:
            (self.marker / name).write_bytes(b"of root")
        give((writer, writer), self.marker, *self.marker.rglob("*"))
        self.root.mkdir(parents=True)
        self.before = self.state()

    def state(self) -> dict[str, tuple[int, int, int, bytes]]:
        found = {}
        for path in (self.marker, *self.marker.rglob("*")):
            about = path.lstat()
            content = path.read_bytes() if path.is_file() else b""
            found[str(path)] = (about.st_uid, about.st_gid, about.st_mode, content)
        return found

    def reset(self) -> None:
        for path in self.root.parent.iterdir():
            path.unlink() if path.is_symlink() or path.is_file() else shutil.rmtree(path)
        self.root.mkdir()
        give(STRANGER, self.root.parent, self.root)
        if self.writer:
            for path in (self.root, self.root / "blobs", self.root / "manifests"):
                path.mkdir(exist_ok=True)
                give(STRANGER, path)
                path.chmod(0o777)


SWAPPED = ["", "blobs", "manifests", STAGING, f"{STAGING}/{NAME}.partial", f"{STAGING}/{NAME}", f"{STAGING}/manifest",
           f"{STAGING}/lock", f"{STAGING}/lock/token", f"{STAGING}/lock/who", f"{STAGING}/lock/beat", f"blobs/{NAME}",
           "manifests/registry.ollama.ai", "manifests/registry.ollama.ai/library",
           "manifests/registry.ollama.ai/library/m", "manifests/registry.ollama.ai/library/m/tag"]  # fmt: skip

SWAPPER = """
import os, random, sys, time
root, marker, seed, names = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4:]
os.setgroups([]); os.setgid(23456); os.setuid(12345)
rng = random.Random(seed)
aside = os.path.dirname(root) + "/aside"
done = 0
while True:
    path = os.path.join(root, rng.choice(names)).rstrip("/")
    try:
        os.rename(path, f"{aside}-{done}")
    except OSError:
        # What is not there yet is waited for, mostly: it is swapped as soon as it is.
        if rng.random() < 0.999: continue
    try:
        os.symlink(marker + rng.choice(["", "/folder", "/folder", "/file", "/new", "/folder/tag"]), path)
        done += 1
        print("swapped", flush=True)
        time.sleep(rng.random() * 0.01)
        if rng.random() < 0.8:
            os.unlink(path)
            os.rename(f"{aside}-{done - 1}", path)
        time.sleep(rng.random() * 0.01)
    except OSError:
        pass
"""


def race(far: FarSide, folder: Path, writer: int, swaps: int, seed: int) -> None:
    """Let a user send into the store again and again while its owner swaps; nothing outside it changes."""
    hostile = Hostile(folder, writer)
    swapped, number = 0, 0
    rng = random.Random(seed)
    while swapped < swaps:
        number += 1
        hostile.reset()
        picked = rng.sample(SWAPPED, 3)
        command = [sys.executable, "-I", "-S", "-c", SWAPPER, str(hostile.root), str(hostile.marker), f"{seed}{number}"]
        swapper = subprocess.Popen([*command, *picked], stdout=subprocess.PIPE)
        assert swapper.stdout is not None
        counted: list[bytes] = []
        reader = threading.Thread(target=lambda out=swapper.stdout, to=counted: to.extend(out))
        reader.start()
        try:
            send(far, hostile.root, user=writer)
        finally:
            swapper.kill()
            swapper.wait(20)
            reader.join(20)
            swapper.stdout.close()
        swapped += len(counted)
        assert hostile.state() == hostile.before, (seed, number, picked)


@pytest.mark.parametrize("writer", [0, NOBODY[0]], ids=["root", "group"])
def test_owner_who_swaps_while_another_writes(
    far: FarSide, open_folder: Path, writer: int, long: bool, seed: int
) -> None:
    race(far, open_folder, writer, 1000 if long else 50, seed)


CHANGES = re.compile(
    r"^(\d+) +(open|openat|openat2|creat|rename|renameat|renameat2|link|linkat|symlink|symlinkat|unlink|unlinkat|mkdir|"
    r"mkdirat|rmdir|chmod|fchmod|fchmodat|chown|fchown|lchown|fchownat|truncate|ftruncate|utimensat|mknod|mknodat|"
    r"setxattr|setuid|setreuid|setresuid|setfsuid)\((.*)$"
)


@pytest.mark.parametrize("program", ["setpriv", "chroot"])
def test_root_itself_changes_nothing_there(open_folder: Path, program: str) -> None:
    """Looked at from below: no call that changes something is made with the user number of root."""
    strace = require_tool("strace")
    far = FarSide(open_folder / "far", "dash", [*COMMANDS, program])
    log = open_folder / "calls"
    log.mkdir()
    root = open_folder / "home/models"
    root.parent.mkdir()
    give(STRANGER, root.parent)
    inner = far.programs / "sh"
    shell = inner.resolve()
    inner.unlink()
    # Only root's shells are begun under strace; it follows what comes of them.
    inner.write_text(
        f'#!{shell}\nif [ "$(id -u)" = 0 ] && [ -z "$TRACED" ]; then TRACED=1; export TRACED\n'
        f'exec {strace} -f -o {log}/$$ -e trace=%file,%desc,%process,%creds {shell} "$@"; fi\nexec {shell} "$@"\n'
    )
    inner.chmod(0o755)
    assert send(far, root) == ["end"]
    logs = list(log.iterdir())
    assert len(logs) >= 3
    switched = 0
    for path in logs:
        lines = path.read_text(errors="replace").splitlines()
        forks = [(re.search(r"(?:clone3?|v?fork)\b.* = (\d+)$", line), line.split(" ", 1)[0]) for line in lines]
        parents = {born[1]: parent for born, parent in forks if born}
        users: dict[str, int] = {}
        for line in lines:
            pid = line.split(" ", 1)[0]
            users.setdefault(pid, users.get(parents.get(pid, ""), 0))
            found = CHANGES.match(line)
            if not found:
                continue
            call, words = found[2], found[3]
            if call.startswith("set") and "uid" in call:
                number = re.match(r"(-?\d+)", words)
                assert number is not None
                users[pid] = int(number[1])
                switched += 1
            elif users[pid] == 0:
                if call.startswith("open"):
                    assert not re.search(r"O_WRONLY|O_RDWR|O_CREAT|O_TRUNC", words) or "/dev/" in words, line
                else:
                    raise AssertionError(line)
    assert switched >= 3
    assert (root / "blobs" / NAME).stat().st_uid == STRANGER[0]
