"""A store among files that nobody may touch, and archives that are brought into it."""

from __future__ import annotations

import bz2
import io
import lzma
import os
import re
import stat
import subprocess
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import pytest

from ollama_ferry.cli import run
from ollama_ferry.errors import EXIT_CODES
from support.hostile import (
    MADE,
    Model,
    entry,
    gzip_of,
    manifest,
    member,
    zstd_of,
)
from support.stores import StoreBuilder, faults_of

# C1 control characters are as good as ESC to many a terminal.
CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
MEMORY_LIMIT = 200 * 1000 * 1000
# Next to the blobs, or below them where they are on another disk.
STAGING = ("models/.ollama-ferry", "models/blobs/.ollama-ferry")


@dataclass(frozen=True)
class Done:
    """What an import said."""

    code: int
    stdout: str
    stderr: str
    peak: int = 0


class Arena:
    """A folder with a target store, and files around it that nobody may touch."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.models = root / "models"
        self.outside = root / "outside"
        self.outside.mkdir(parents=True)
        (self.outside / "secret").write_bytes(b"must stay")
        (self.outside / "empty").mkdir()
        StoreBuilder(self.models).model("neighbour", [("model", b"a neighbour's weights"), ("license", b"free")])
        self.before = self.snapshot()

    def snapshot(self) -> dict[str, tuple[int, bytes]]:
        """Return everything in the folder but the archive and the staging folder: its mode, and content or target."""
        found: dict[str, tuple[int, bytes]] = {}
        for folder, folders, files in os.walk(self.root):
            for name in [*folders, *files]:
                path = os.path.join(folder, name)
                shown = os.path.relpath(path, self.root).replace(os.sep, "/")
                if shown.startswith((*STAGING, "attack")):
                    continue
                mode = os.lstat(path).st_mode
                content = b""
                if stat.S_ISLNK(mode):
                    content = os.fsencode(os.readlink(path))
                elif stat.S_ISREG(mode):
                    content = Path(path).read_bytes()
                found[shown] = (mode, content)
        return found

    def new_files(self) -> dict[str, bytes]:
        """Return the files that are new; fail where anything else is other than it was."""
        after = self.snapshot()
        assert self.before.items() <= after.items(), "something that was here was changed"
        new = {path: found for path, found in after.items() if path not in self.before}
        assert all(path.startswith(("models/blobs/", "models/manifests/")) for path in new), "written outside the store"
        assert all(stat.S_ISREG(mode) or stat.S_ISDIR(mode) for mode, _ in new.values())
        assert not faults_of(self.models)
        return {path.removeprefix("models/"): content for path, (mode, content) in new.items() if stat.S_ISREG(mode)}

    def attack(self, archive: bytes, *words: str, stdin: bool = False) -> Done:
        """Import an archive in this process."""
        path = self.root / "attack"
        path.write_bytes(archive)
        return self.attack_with(path, *words, stdin=stdin)

    def attack_with(self, path: Path, *words: str, stdin: bool = False) -> Done:
        """Import an archive that is written already."""
        stdout, stderr = io.StringIO(), io.StringIO()
        real = sys.stdin
        with redirect_stdout(stdout), redirect_stderr(stderr), path.open(encoding="latin-1") as file:
            try:
                sys.stdin = file
                code = run(["import", "-" if stdin else str(path), "--models", str(self.models), *words])
            finally:
                sys.stdin = real
        return Done(code, stdout.getvalue(), stderr.getvalue())

    def attack_apart(self, archive: bytes | Path, *words: str, stdin: bool = False) -> Done:
        """Import an archive in a process of its own, and measure its memory."""
        path = self.root / "attack"
        if isinstance(archive, Path):
            path = archive
        else:
            path.write_bytes(archive)
        told = self.root / "attack.peak"
        line = [sys.executable, "-c", _MEASURED, str(told), "import", "-" if stdin else str(path)]
        with path.open("rb") as file:
            done = subprocess.run(
                [*line, "--models", str(self.models), *words],
                stdin=file if stdin else subprocess.DEVNULL,
                capture_output=True,
                text=True,
                # Ends what hangs; on a busy machine what is at work takes minutes.
                timeout=900,
                check=False,
            )
        return Done(done.returncode, done.stdout, done.stderr, int(told.read_text()))


# The address space is limited so that a test that fails does not take the machine with it.
_MEASURED = """
import re, resource, sys
resource.setrlimit(resource.RLIMIT_AS, (6_000_000_000, 6_000_000_000))
from ollama_ferry.cli import run
code = run(sys.argv[2:])
peak = re.search(r"VmHWM:\\s+([0-9]+) kB", open("/proc/self/status").read())
open(sys.argv[1], "w").write(str(int(peak[1]) * 1024))
sys.exit(code)
"""

needs_proc = pytest.mark.skipif(sys.platform != "linux", reason="the peak of memory is read from /proc")


def assert_one_clear_error(done: Done, *codes: int) -> None:
    assert done.code in codes, (done.code, done.stderr)
    assert done.code in EXIT_CODES
    assert "Traceback" not in done.stderr
    assert "internal error" not in done.stderr
    assert "the operating system refused" not in done.stderr
    assert len(re.findall(r"^error: ", done.stderr, re.MULTILINE)) == 1
    assert not CONTROL.search(done.stderr + done.stdout)
    assert len(done.stderr) < 4000


def assert_refused(arena: Arena, done: Done, *codes: int) -> None:
    assert_one_clear_error(done, *(codes or (4,)))
    assert arena.new_files() == {}


def assert_imported(arena: Arena, done: Done, *models: Model) -> None:
    assert done.code == 0, done.stderr
    assert not CONTROL.search(done.stderr + done.stdout)
    expected = {path: content for model in models for path, content in model.files.items()}
    assert arena.new_files() == expected


DELIVERIES: dict[str, Callable[[bytes], bytes]] = {
    "tar": lambda data: data,
    "tar.gz": gzip_of,
    "tar.zst": zstd_of,
    "tar.xz": lambda data: lzma.compress(data, preset=0),
    "tar.bz2": lambda data: bz2.compress(data, 1),
    "stdin": lambda data: data,
    "stdin.gz": gzip_of,
}
delivered_in_all_ways = pytest.mark.parametrize("delivery", DELIVERIES)
delivered = pytest.mark.parametrize("delivery", ["tar", "tar.gz", "tar.zst", "stdin"])
# A file that can be searched, and one that is a stream.
delivered_in_two_ways = pytest.mark.parametrize("delivery", ["tar", "tar.gz"])


def deliver(arena: Arena, data: bytes, delivery: str, *words: str) -> Done:
    return arena.attack(DELIVERIES[delivery](data), *words, stdin=delivery.startswith("stdin"))


WRONG_NAMES: dict[str, bytes] = {
    "absolute": b"/blobs/sha256-" + b"a" * 64,
    "absolute, another file": b"/etc/cron.d/evil",
    "two slashes": b"//outside/secret",
    "climbs": b"../outside/evil",
    "climbs inside": b"blobs/../../outside/evil",
    "climbs at the end": b"models/blobs/..",
    "climbs out of a manifest": b"manifests/a/b/c/../../../../../outside/evil",
    "drive": b"C:/outside/evil",
    "newline": b"blobs/a\nerror: b",
    "carriage return": b"blobs/a\rerror: b",
    "escape": b"blobs/\x1b[2J\x1b]0;owned\x07",
    "bell": b"\x07",
    "delete": b"blobs/\x7f",
    "tab": b"blobs/\t",
    "backslash": b"..\\..\\outside\\evil",
    "undecodable": b"blobs/\xff\xfe",
    "a surrogate": b"blobs/\xed\xa0\x80",
    "overlong dots": b"\xc0\xae\xc0\xae/outside/evil",
}


# A digest of nothing that is here.
A = "a" * 64
OF_WEIGHTS = entry(MADE.weights, "model")
OF_CONFIG = entry(MADE.config, "config")


BIG = 10 * 1024**3
SMALL_BLOB = f"blobs/sha256-{A}"
LYING = member(MADE.manifest_name, manifest(OF_CONFIG, [entry(b"", "model", digest=f"sha256:{A}", size=1000)]))
