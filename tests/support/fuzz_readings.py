"""Compare what `verify` passes with what five tars restore: ``python -m support.fuzz_readings --count 2000``.

Rule: no archive that passes is restored otherwise by GNU tar, bsdtar, BusyBox tar, 7-Zip or Python's tarfile. What
breaks it is saved, and told with the tools that differ.
"""

# ruff: noqa: T201

from __future__ import annotations

import argparse
import hashlib
import random
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from support.five_tars import Restored, restoring
from support.odd_tars import made

BATCH = 100


@dataclass
class Found:
    """What a run found.

    Attributes:
        tried: how many archives were made.
        passed: how many of them `verify` passed.
        differing: those that a tool restored otherwise: the kind, the bytes, and what the tools did.
        refused: why the others were refused, counted.
    """

    tried: int = 0
    passed: int = 0
    differing: list[tuple[str, bytes, str]] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)


def files_that_pass(extension: str, archive: bytes, folder: Path, found: Found) -> dict[str, bytes] | None:
    """Return the models' files as they stand in an archive that `verify` passes; None where it does not."""
    from ollama_ferry.archives.tar_reading import TarReader
    from ollama_ferry.archives.unpacking import unpacked
    from ollama_ferry.errors import FerryError
    from ollama_ferry.jobs.verify import verify_file
    from ollama_ferry.model.layout import meaning_of

    path = folder / f"a{extension}"
    path.write_bytes(archive)
    try:
        if not verify_file(path, threads=1).good:
            found.refused["not good"] += 1
            return None
    except FerryError as error:
        found.refused[error.message.partition(": ")[2][:60]] += 1
        return None
    files: dict[str, bytes] = {}
    packing = {".tar": "", ".tar.gz": "gzip", ".tar.zst": "zstd", ".tar.xz": "xz", ".tar.bz2": "bzip2"}[extension]
    with path.open("rb") as file:
        reader = TarReader(unpacked(file, packing))
        for member in reader:
            if meaning_of(member.name) is not None:
                spelt = "/".join(part for part in member.name.split("/") if part not in ("", "."))
                files[spelt] = b"".join(iter(lambda: reader.read(65536), b""))
    return files


def difference(expected: dict[str, bytes], outcomes: dict[str, Restored]) -> str:
    """Say which tools restore something else than was checked; empty where none does."""
    from ollama_ferry.errors import Damaged
    from ollama_ferry.model.layout import meaning_of

    told = []
    for tool, outcome in outcomes.items():
        restored: dict[str, bytes | None] = {}
        for path, content in outcome.files.items():
            try:
                if meaning_of(path) is not None:
                    restored[path] = content
            except Damaged:
                told.append(f"{tool} made {path!r}")
        if restored != expected:
            lacking, more = expected.keys() - restored.keys(), restored.keys() - expected.keys()
            other = [path for path in expected.keys() & restored.keys() if expected[path] != restored[path]]
            told.append(f"{tool} (exit code {outcome.code}): lacks {len(lacking)}, more {sorted(more)}, other {other}")
        elif outcome.code:
            told.append(f"{tool} ends with exit code {outcome.code}")
    return "; ".join(told)


def run(seed: int, *, count: int = sys.maxsize, seconds: float = 1e9) -> Found:
    """Make archives and compare, until there are enough or the time is up."""
    found = Found()
    numbers = random.Random(seed)
    end = time.monotonic() + seconds
    waiting: dict[str, list[tuple[bytes, dict[str, bytes]]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        while found.tried < count and time.monotonic() < end:
            extension, archive = made(numbers)
            found.tried += 1
            files = files_that_pass(extension, archive, Path(folder), found)
            if files is not None:
                found.passed += 1
                waiting.setdefault(extension, []).append((archive, files))
            if len(waiting.get(extension, ())) >= BATCH:
                _compare(extension, waiting.pop(extension), found)
        for extension, batch in waiting.items():
            _compare(extension, batch, found)
    return found


def _compare(extension: str, batch: list[tuple[bytes, dict[str, bytes]]], found: Found) -> None:
    with restoring(extension, [archive for archive, _ in batch]) as outcomes:
        for (archive, files), restored in zip(batch, outcomes, strict=True):
            if what := difference(files, restored):
                found.differing.append((extension, archive, what))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=1e9)
    parser.add_argument("--count", type=int, default=sys.maxsize)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    parser.add_argument("--save", type=Path, default=Path())
    parser.add_argument("--reasons", action="store_true", help="tell why archives were refused")
    words = parser.parse_args()
    print(f"seed {words.seed}", flush=True)
    found = run(words.seed, count=words.count, seconds=words.seconds)
    print(f"{found.tried} archives, of which {found.passed} pass; {len(found.differing)} are restored otherwise")
    if words.reasons:
        for reason, times in found.refused.most_common(60):
            print(f"  {times:6} {reason}")
    for extension, archive, what in found.differing:
        path = words.save / f"differs-{hashlib.sha256(archive).hexdigest()[:12]}{extension}"
        path.write_bytes(archive)
        print(f"{path.name}: {what}")
    return bool(found.differing)


if __name__ == "__main__":
    sys.exit(main())
