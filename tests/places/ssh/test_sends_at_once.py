"""Several sends to one host at once, through a real sshd."""

from __future__ import annotations

import random
import re
import subprocess
import threading
import time
from pathlib import Path

from ollama_ferry.jobs.send import SendOptions, send
from ollama_ferry.jobs.send_targets import SshTarget
from ollama_ferry.places.ssh.connection import SshConnection, SshOptions
from ollama_ferry.places.ssh.place import SshPlace
from ollama_ferry.places.ssh.writing_scripts import LOCK
from ollama_ferry.places.store.store import Store
from support import needs
from support.command_line import COMMAND, ferry
from support.far_side import FarSide, Holder
from support.sshd import Sshd
from support.stores import StoreBuilder, faults_of, tree, weights


def models(source: StoreBuilder) -> StoreBuilder:
    source.model("big:1", [("model", weights(6_000_000)), ("template", b"{{ .Prompt }}")])
    source.model("small:1", [("tensor", f"{number}".encode() * 50) for number in range(30)])
    return source


def begin(source: StoreBuilder, sshd: Sshd, target: Path, *words: str) -> subprocess.Popen[str]:
    command = [*COMMAND, "send", "--models", str(source.root), "--ssh", sshd.ssh, "*/*/*:*", f"root@there:{target}"]
    return subprocess.Popen([*command, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_three_at_once_and_one_of_them_killed(
    source: StoreBuilder, sshd: Sshd, tmp_path: Path, long: bool, seed: int
) -> None:
    """Whatever the moment: the others end well, and the store is sound."""
    models(source)
    rng = random.Random(seed)
    for number in range(100 if long else 2):
        target = tmp_path / f"far-{number}"
        sends = [begin(source, sshd, target, "--bwlimit", "20M") for _ in range(3)]
        victim = rng.choice(sends)
        killer = threading.Timer(rng.uniform(0.3, 3), victim.kill)
        killer.start()
        for process in sends:
            _, said = process.communicate(timeout=120)
            assert process is victim or process.returncode == 0, (seed, number, said)
        killer.cancel()
        assert not faults_of(target)
        # One that is killed while nobody else waits leaves its lock to the next send.
        there = {path: content for path, content in tree(target).items() if not path.startswith(".ollama-ferry-ssh")}
        assert there == tree(source.root), (seed, number)


def test_second_one_waits_and_says_for_whom(source: StoreBuilder, sshd: Sshd, open_folder: Path) -> None:
    models(source)
    target = open_folder / "store"
    with Holder(FarSide(open_folder / "far"), LOCK, target) as other:
        assert other.taken() == "locked"
        waiting = begin(source, sshd, target)
        assert waiting.stderr is not None
        assert waiting.stderr.readline().startswith("connecting to ")
        line = waiting.stderr.readline()
        assert re.search(r"in use by me at work, since \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC; waiting", line), line
        # Meanwhile the other one sends another model of that name: it is not replaced unasked.
        StoreBuilder(target).model("big:1", [("model", b"another one")])
        assert other.release() == "end"
        _, said = waiting.communicate(timeout=120)
        assert waiting.returncode == 7, said
    assert not faults_of(target) and not (target / ".ollama-ferry-ssh").exists()


def test_one_of_several_targets_does_not_wait(source: StoreBuilder, sshd: Sshd, open_folder: Path) -> None:
    """Two sends with the same targets in another order would wait for each other."""
    models(source)
    with Holder(FarSide(open_folder / "far"), LOCK, open_folder / "one") as other:
        assert other.taken() == "locked"
        targets = [f"root@there:{open_folder}/one", f"root@there:{open_folder}/two"]
        done = ferry("send", "--models", source.root, "--ssh", sshd.ssh, "big:1", *targets)
        assert done.returncode == 7 and "in use by me at work, since" in done.stderr, done.stderr
        assert not faults_of(open_folder / "two") and len(tree(open_folder / "two")) == 4


def test_lock_ends_with_the_send(source: StoreBuilder, sshd: Sshd, tmp_path: Path) -> None:
    models(source)
    target = tmp_path / "far"
    store = Store(source.root)
    with SshConnection("root@there", None, SshOptions(tuple(sshd.ssh.split()))) as line:
        for _ in range(2):
            (done,) = send(store, store.names(), [SshTarget(SshPlace(line, str(target)))], SendOptions())
            assert done.error is None, done.error
            assert sorted(path.name for path in target.iterdir()) == ["blobs", "manifests"]
    assert not [thread for thread in threading.enumerate() if thread.name == "heartbeat"]


@needs.shell
def test_host_that_hangs_with_the_lock_does_not_keep_us(source: StoreBuilder, tmp_path: Path) -> None:
    models(source)
    ssh = tmp_path / "fake-ssh"
    # The first call looks, the second one has the lock, and the third never reads.
    ssh.write_text(
        f"""#!/bin/sh
case "$*" in *-G*) exit 1;; esac
echo call >> {tmp_path}/calls
case $(grep -c call {tmp_path}/calls) in
1) cat >/dev/null; printf 'ferry 1\\nroot /x\\nstaging .ollama-ferry-ssh\\nend\\n'; exit;;
2) printf 'locked \\n.\\n';;
esac
exec sleep 600
"""
    )
    ssh.chmod(0o755)
    command = [*COMMAND, "send", "--models", str(source.root), "--ssh", str(ssh), "big:1", "me@there"]
    sending = subprocess.Popen(command, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if (tmp_path / "calls").exists() and (tmp_path / "calls").read_text().count("call") == 3:
            break
        time.sleep(0.1)
    sending.terminate()
    _, said = sending.communicate(timeout=50)
    assert sending.returncode == 130 and b"interrupted" in said
