"""Two sends to one host: one at a time writes, and what was begun by one that stopped is taken over safely."""

from __future__ import annotations

import hashlib
import signal
from pathlib import Path

import pytest

from ollama_ferry.places.ssh.refusals import holder
from ollama_ferry.places.ssh.writing_scripts import COMMIT, LOCK, PUT
from support.far_side import FarSide, Holder
from support.stores import tree, weights

CONTENT = weights(100_000)
NAME = f"sha256-{hashlib.sha256(CONTENT).hexdigest()}"
STAGING = ".ollama-ferry-ssh"


def publish_model(far: FarSide, head: list[object], size: int, manifest: bytes = b"{}") -> list[str]:
    words = [*head[:3], f"{NAME} {size}", ".", "registry.ollama.ai/library/m", "tag", len(manifest)]
    return far.run(COMMIT, words, manifest)


def test_second_one_is_told_who_has_it_and_waits(far: FarSide, root: Path) -> None:
    with Holder(far, LOCK, root, token="first") as first:
        assert first.taken() == "locked"
        refused = Holder(far, LOCK, root, token="second", wait="no")
        assert holder(refused.line().removeprefix("error held ")).startswith("first at work, since 20")
        refused.close()
        with Holder(far, LOCK, root, token="second") as second:
            assert second.line().startswith("held 20")
            assert first.release() == "end"
            assert second.taken() == "locked"
            assert second.release() == "end"
    assert sorted(path.name for path in root.iterdir()) == ["blobs", "manifests"]


def test_lock_of_a_process_that_has_gone_counts_no_more(far: FarSide, root: Path) -> None:
    first = Holder(far, LOCK, root, token="first")
    assert first.taken() == "locked"
    first.close()
    assert (root / STAGING / "lock/token").read_text() == "first\n"
    with Holder(far, LOCK, root, token="second", wait="no") as second:
        assert second.taken() == "locked"
        assert far.run(PUT, [*first.head, NAME, len(CONTENT), 0], CONTENT) == ["error lost"]
        assert publish_model(far, first.head, len(CONTENT)) == ["error lost"]
        assert second.release() == "end"


def test_half_a_lock_that_a_power_cut_left_counts_no_more(far: FarSide, root: Path) -> None:
    (root / STAGING / "lock").mkdir(parents=True)
    (root / STAGING / "taking").mkdir(parents=True)
    with Holder(far, LOCK, root, patience=1) as one:
        assert one.taken() == "locked forced"
        assert one.release() == "end"
    assert not (root / STAGING).exists()


def test_silent_one_is_taken_over_and_what_it_began_is_copied(far: FarSide, root: Path) -> None:
    (root / STAGING).mkdir(parents=True)
    partial = root / STAGING / f"{NAME}.partial"
    partial.write_bytes(CONTENT[:5000])
    with Holder(far, LOCK, root, token="first") as first, partial.open("ab") as late:
        assert first.taken() == "locked"
        first.process.send_signal(signal.SIGSTOP)
        with Holder(far, LOCK, root, token="second", patience=2) as second:
            assert second.taken() == "locked forced"
            fresh = [*second.head[:3], "fresh"]
            taking = far.start(PUT, [*fresh, NAME, len(CONTENT), 5000])
            # The one that was taken over writes on, into what is its own now.
            late.write(b"late")
            late.flush()
            said, _ = taking.communicate(CONTENT[5000:], timeout=60)
            late.write(b"later")
            late.flush()
            assert said == b"end\n"
            assert publish_model(far, second.head, len(CONTENT)) == ["end"]
            first.process.send_signal(signal.SIGCONT)
            first.beat()
            assert first.line() == "error lost"
            assert second.release() == "end"
    assert tree(root) == {f"blobs/{NAME}": CONTENT, "manifests/registry.ollama.ai/library/m/tag": b"{}"}


def test_heartbeats_keep_it(far: FarSide, root: Path) -> None:
    with Holder(far, LOCK, root, token="first") as first:
        assert first.taken() == "locked"
        with Holder(far, LOCK, root, token="second", patience=3) as second:
            assert second.process.stdout is not None
            for _ in range(6):
                first.beat()
                assert second.process.stdout.readline().startswith(b"held ")
            assert first.release() == "end"
            assert second.taken() == "locked"


def test_release_leaves_the_lock_of_another(far: FarSide, root: Path) -> None:
    with Holder(far, LOCK, root, token="first") as first:
        assert first.taken() == "locked"
        (root / STAGING / "lock/token").write_text("second\n")
        first.release()
        assert (root / STAGING / "lock/token").read_text() == "second\n"


@pytest.mark.parametrize("what", ["truncate", "replace", "link"])
def test_what_is_changed_during_the_sync_gets_no_digest(far: FarSide, root: Path, what: str) -> None:
    """A second send truncated what the first one had hashed, while it waited for the disk."""
    change = {
        "truncate": ": > $f",
        "replace": "cp $f $f.other; mv $f.other $f",
        "link": "mv $f $f.other; ln -s $f.other $f",
    }[what]
    body = 'case "$*" in *--help*) echo FILE; exit;; esac; sleep 0.3; '
    far.shim("sync", f"{body}for f in sha256-*.partial; do {change}; done; exit 0")
    with Holder(far, LOCK, root) as one:
        assert one.taken() == "locked"
        said = far.run(PUT, [*one.head, NAME, len(CONTENT), 0], CONTENT)
        assert said[0].split()[:2] in (["error", "changed"], ["error", "bad"]), said
        assert not (root / STAGING / NAME).exists()


def test_blob_of_another_size_completes_no_model(far: FarSide, root: Path) -> None:
    with Holder(far, LOCK, root) as one:
        assert one.taken() == "locked"
        (root / STAGING / NAME).write_bytes(CONTENT[:-1])
        (root / "blobs" / NAME).write_bytes(b"")
        assert publish_model(far, one.head, len(CONTENT)) == [f"error missing {NAME}"]
    assert not list((root / "manifests").rglob("tag"))


def test_what_was_resumed_is_hashed_whole(far: FarSide, root: Path) -> None:
    (root / STAGING).mkdir(parents=True)
    (root / STAGING / f"{NAME}.partial").write_bytes(b"x" + CONTENT[1:5000])
    with Holder(far, LOCK, root) as one:
        assert one.taken() == "locked"
        assert far.run(PUT, [*one.head, NAME, len(CONTENT), 5000], CONTENT[5000:]) == [f"error bad {NAME}"]
    assert not list((root / STAGING).glob("sha256-*"))


def test_without_openssl_what_was_resumed_is_hashed_whole(far: FarSide, root: Path) -> None:
    far.shim("openssl", "exit 1")
    test_what_was_resumed_is_hashed_whole(far, root)
    with Holder(far, LOCK, root) as one:
        assert one.taken() == "locked"
        assert far.run(PUT, [*one.head, NAME, len(CONTENT), 0], CONTENT[:5000]) == ["error short 5000"]
        assert far.run(PUT, [*one.head, NAME, len(CONTENT), 5000], CONTENT[5000:]) == ["end"]
        (root / STAGING / NAME).unlink()
        assert far.run(PUT, [*one.head, NAME, len(CONTENT), 0], CONTENT) == ["end"]
