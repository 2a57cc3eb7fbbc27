"""Fuzz the reading of archives: ``./dev fuzz --seconds 60 [--seed N]``, or ``--count 3000`` for the same in every run.

From the fuzzer's bytes an archive is built, near enough to a right one to get far, and then spoilt: fields of headers,
PAX records, members, packing, single bytes. It is listed, scanned and imported, from a file and from a stream. Whatever
it is, only a FerryError may come out of that, nothing wrong may be published, nothing written elsewhere, and the memory
stays bounded. With atheris installed the fuzzing is guided by coverage; else the bytes come from a seeded generator.
A failure is saved, told, and run again with ``--replay FILE``.
"""

# ruff: noqa: T201

from __future__ import annotations

import argparse
import hashlib
import importlib
import io
import json
import os
import random
import shutil
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from support.fuzz_building import build

MODULES = [
    "ollama_ferry.archives.frame_reading",
    "ollama_ferry.archives.index",
    "ollama_ferry.archives.left_out",
    "ollama_ferry.archives.tar_reading",
    "ollama_ferry.archives.unpacking",
    "ollama_ferry.archives.volumes.reading",
    "ollama_ferry.archives.zip_reading",
    "ollama_ferry.engine.copy",
    "ollama_ferry.errors",
    "ollama_ferry.jobs.import_",
    "ollama_ferry.model.layout",
    "ollama_ferry.model.manifests",
    "ollama_ferry.places.archive.contents",
    "ollama_ferry.places.archive.file",
    "ollama_ferry.places.archive.source",
    "ollama_ferry.places.archive.stream",
    "ollama_ferry.places.store.store",
    "ollama_ferry.places.store.sink",
]
# Of this process with its libraries; an input is some ten kilobytes, so what needs more was led to.
MEMORY_LIMIT = 400 * 1000 * 1000


class Failure(Exception):
    """An archive did what none may do."""


class Target:
    """Reads and imports what is built, and looks at what became of it."""

    def __init__(self, folder: Path) -> None:
        self.executions = 0
        self.imported = 0
        self.refused = 0
        self._folder = folder
        # Whatever else this process has done does not count.
        forget_peak_memory()
        self._memory = peak_memory()
        (folder / "outside").mkdir()
        (folder / "outside/secret").write_bytes(b"must stay")

    def __call__(self, data: bytes) -> None:
        """Run one input.

        Raises:
            Failure: something came out that may not.
        """
        self.executions += 1
        self.run_archive(build(data))

    def run_archive(self, archive: bytes) -> None:
        """Read and import an archive.

        Raises:
            Failure: something came out that may not.
        """
        from ollama_ferry.errors import FerryError
        from ollama_ferry.jobs.import_ import import_file, import_stream, plan_import
        from ollama_ferry.jobs.import_choices import ImportOptions
        from ollama_ferry.places.archive.file import ArchiveFile
        from ollama_ferry.places.archive.stream import ArchiveStream
        from ollama_ferry.places.store.store import Store
        from support.faulty_disk import HastyDisk

        path, root = self._folder / "attack", self._folder / "models"
        path.write_bytes(archive)
        volumes = self._write_volumes(archive)
        outcomes: dict[str, bool] = {}

        def look() -> None:
            with ArchiveFile(path) as file:
                source = file.source()
                if source is not None:
                    for name in source.names():
                        for blob in source.manifest(name).blobs:
                            if blob.size > 10**6:
                                continue
                            with source.open(blob) as opened:
                                while opened.read(1000):
                                    pass

        def scan() -> None:
            with ArchiveFile(path) as file:
                file.stream().scan()

        def scan_slowly() -> None:
            ArchiveStream(_Dripping(archive), "the stream").scan()

        def take_file() -> None:
            import_file(path, Store(root), ImportOptions(), disk=HastyDisk())
            self.imported += 1

        def take_volumes() -> None:
            import_file(volumes, Store(root), ImportOptions(), disk=HastyDisk())

        def take_one() -> None:
            import_file(path, Store(root), ImportOptions(only=("*",)), disk=HastyDisk())

        def take_stream() -> None:
            import_stream(io.BytesIO(archive), "the stream", Store(root), ImportOptions(), disk=HastyDisk())

        def plan() -> None:
            plan_import(path, Store(root), ImportOptions())

        for step in (look, scan, scan_slowly, plan, take_file, take_volumes, take_one, take_stream):
            try:
                step()
                outcomes[step.__name__] = True
            except FerryError as error:
                self.refused += step is take_file
                _check_message(step.__name__, error.message + error.hint)
            except Exception as error:
                raise Failure(f"{step.__name__}: {type(error).__name__}: {error}") from error
            if step in (take_file, take_volumes, take_one, take_stream):
                self._check(root, step.__name__)
                shutil.rmtree(root, ignore_errors=True)
        if len(archive) > 2 and outcomes.get("take_file") != outcomes.get("take_volumes"):
            raise Failure("in one piece and in volumes it is not the same")

    def _write_volumes(self, archive: bytes) -> Path:
        """Write an archive in up to three volumes; return the first."""
        folder = self._folder / "volumes"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        size = -(-len(archive) // 3) or 1
        for number, at in enumerate(range(0, len(archive), size), 1):
            (folder / f"x.tar.{number:03d}").write_bytes(archive[at : at + size])
        return folder / "x.tar.001"

    def _check(self, root: Path, step: str) -> None:
        if faults := faults_of(root):
            raise Failure(f"{step}: the store is not whole: {faults}")
        around = sorted(os.listdir(self._folder))
        if around not in (["attack", "models", "outside", "volumes"], ["attack", "outside", "volumes"]):
            raise Failure(f"{step}: something else was written: {around}")
        if (self._folder / "outside/secret").read_bytes() != b"must stay":
            raise Failure(f"{step}: a file elsewhere was changed")
        if os.listdir(self._folder / "outside") != ["secret"]:
            raise Failure(f"{step}: a file was written elsewhere")
        if (used := peak_memory() - self._memory) > MEMORY_LIMIT:
            raise Failure(f"{step}: {used} bytes of memory were used")


def faults_of(root: Path) -> list[str]:
    """Return what breaks the promise of a store, whose manifests may be as odd as Ollama takes them."""
    faults = []
    for path in (root / "blobs").glob("sha256-*"):
        if hashlib.sha256(path.read_bytes()).hexdigest() != path.name.removeprefix("sha256-"):
            faults.append(f"{path.name} has other bytes")
    for path in (root / "manifests").glob("*/*/*/*"):
        document = json.loads(path.read_bytes(), object_pairs_hook=lambda pairs: {k.casefold(): v for k, v in pairs})
        config = document.get("config") or {}
        for blob in [*(document.get("layers") or []), *([config] if config.get("digest") else [])]:
            file = root / "blobs" / blob["digest"].replace(":", "-")
            if not file.is_file() or file.stat().st_size != blob.get("size", 0):
                faults.append(f"{path} lacks {file.name}")
    return faults


class _Dripping:
    """A stream that gives a few bytes at a time, as a slow pipe does."""

    def __init__(self, data: bytes) -> None:
        self._data = io.BytesIO(data)
        self._count = 0

    def read(self, size: int, /) -> bytes:
        self._count += 1
        return self._data.read(min(size, 1 + self._count % 997))


def _check_message(step: str, text: str) -> None:
    odd = [
        character
        for character in text
        if (ord(character) < 0x20 and character != "\n") or 0x7F <= ord(character) < 0xA0
    ]
    if odd:
        raise Failure(f"{step}: an error shows control characters: {text!a}")


def forget_peak_memory() -> None:
    """Let the most memory that this process had count anew, where the system can do that (proc_pid_clear_refs(5))."""
    with suppress(OSError), open("/proc/self/clear_refs", "w") as file:
        file.write("5")


def peak_memory() -> int:
    """Return the most memory that this process had since :func:`forget_peak_memory`, in bytes; 0 where none tells."""
    try:
        with open("/proc/self/status") as file:
            return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        return 0


def save(data: bytes, folder: Path) -> Path:
    """Keep what made it fail, as the fuzzer's bytes."""
    path = folder / f"fuzz-failure-{hashlib.sha256(data).hexdigest()[:16]}.bin"
    path.write_bytes(data)
    return path


def run_seeded(target: Target, seed: int, *, seconds: float = 0, executions: int = 0, folder: Path) -> None:
    """Run inputs of a seeded generator, for a time or a number of them; some are old ones that were changed a little.

    Raises:
        Failure: one failed; its bytes are saved.
    """
    rng = random.Random(seed)
    kept: list[bytes] = [b""]
    end = time.monotonic() + seconds
    while time.monotonic() < end if seconds else target.executions < executions:
        if rng.random() < 0.5:
            data = rng.randbytes(rng.randrange(200))
        else:
            changed = bytearray(rng.choice(kept) or b"\0")
            for _ in range(1 + rng.randrange(3)):
                changed[rng.randrange(len(changed))] = rng.randrange(256)
            data = bytes(changed) + rng.randbytes(rng.randrange(8))
        before = target.imported
        try:
            target(data)
        except Failure as error:
            raise Failure(f"{error}\nsaved: {save(data, folder)}") from error
        # What was imported in spite of all is near the border, and so is what is changed from it.
        if target.imported > before:
            kept.append(data)
            if len(kept) > 500:
                kept.pop(rng.randrange(500))


def run_guided(atheris: Any, target: Target, seed: int, seconds: int, folder: Path) -> None:
    """Let atheris choose the inputs; it ends the process itself."""
    last = [time.monotonic()]

    def once(data: bytes) -> None:
        try:
            target(data)
        except Failure as error:
            print(f"{error}\nsaved: {save(data, folder)}", flush=True)
            raise
        if time.monotonic() - last[0] > 5:
            last[0] = time.monotonic()
            print(f"executions: {target.executions}, imported: {target.imported}", flush=True)

    words = [f"-max_total_time={seconds}", f"-seed={seed}", "-max_len=600", "-len_control=0", "-print_final_stats=1"]
    atheris.Setup([sys.argv[0], *words, f"-artifact_prefix={folder}/", "-rss_limit_mb=2048", "-timeout=60"], once)
    atheris.Fuzz()


def main() -> int:
    parser = argparse.ArgumentParser(description="Fuzz the reading of archives.")
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--count", type=int, default=0, help="how many archives, instead of a time; unguided")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    parser.add_argument("--unguided", action="store_true", help="without atheris, even where it is installed")
    parser.add_argument("--save", type=Path, default=Path.cwd(), help="folder for the bytes of a failure")
    parser.add_argument("--replay", type=Path, help="run the bytes of a failure again")
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="fuzz-", dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as folder:
        target = Target(Path(folder))
        if options.replay:
            target(options.replay.read_bytes())
            print("nothing failed")
            return 0
        try:
            atheris: Any = None if options.unguided or options.count else importlib.import_module("atheris")
        except ImportError:
            atheris = None
        if atheris is not None:
            with atheris.instrument_imports(include=["ollama_ferry"]):
                for name in MODULES:
                    importlib.import_module(name)
            run_guided(atheris, target, options.seed, options.seconds, options.save)
        seconds = 0 if options.count else options.seconds
        try:
            run_seeded(target, options.seed, seconds=seconds, executions=options.count, folder=options.save)
        except Failure as error:
            print(f"failed after {target.executions} executions: {error}")
            return 1
        print(f"executions: {target.executions}, imported: {target.imported}, refused: {target.refused}")
        return 0


if __name__ == "__main__":
    sys.exit(main())
