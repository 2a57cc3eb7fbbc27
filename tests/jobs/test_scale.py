"""50,000 blobs and 20,000 models: processor time grows in proportion, and memory stays bounded."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from support.command_line import COMMAND

MEGABYTES = 100
STILL_ABOVE = {
    "export .tar": 230, "export .tar.gz": 290, "list": 170, "verify": 190, "doctor": 210, "send": 150,
    "verify .tar": 120, "verify .tar.gz": 200, "verify plain .tar.gz": 130,
    "import .tar": 170, "import .tar.gz": 240, "import plain .tar.gz": 170,
}  # fmt: skip
"""What takes more memory with 20,000 models than it should, and how many megabytes it may take until that is mended."""


@dataclass(frozen=True)
class Cost:
    """What a process took: seconds of processor time, and megabytes at its peak."""

    seconds: float
    megabytes: float


@pytest.fixture
def memory_folder() -> Iterator[Path]:
    """A folder in memory, where that is: tens of thousands of syncs would be most of the time, and none of the work."""
    folder = Path(tempfile.mkdtemp(prefix="ferry-scale-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
    yield folder
    shutil.rmtree(folder)


def fill(root: Path, models: int, blobs: int) -> None:
    """Make so many models of one config and a like number of blobs each."""
    (root / "blobs").mkdir(parents=True)

    def blob(content: bytes) -> dict[str, object]:
        sha256 = hashlib.sha256(content).hexdigest()
        (root / "blobs" / f"sha256-{sha256}").write_bytes(content)
        return {"mediaType": "application/vnd.ollama.image.tensor", "digest": f"sha256:{sha256}", "size": len(content)}

    config = blob(b"{}")
    for number in range(models):
        layers = [blob(b"%d" % at) for at in range(number * blobs // models, (number + 1) * blobs // models)]
        folder = root / f"manifests/registry.ollama.ai/library/m{number}"
        folder.mkdir(parents=True)
        (folder / "latest").write_text(json.dumps({"schemaVersion": 2, "config": config, "layers": layers}))


def cost_of(*words: str | Path) -> Cost:
    """Run a command that ends well."""
    process = subprocess.Popen(
        [*COMMAND, *map(str, words)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL
    )
    assert process.stderr is not None
    with process.stderr as stderr:
        said = stderr.read()
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, (words, said[-2000:])
    return Cost(used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)


def costs(folder: Path, models: int, blobs: int) -> dict[str, Cost]:
    """Run each command on a store of this size."""
    store = folder / "store"
    fill(store, models, blobs)
    found = {
        "export .tar": cost_of("export", "*", folder / "x.tar", "--models", store),
        "export .tar.gz": cost_of("export", "*", folder / "x.tar.gz", "--models", store),
        "list": cost_of("list", "--models", store),
        "verify": cost_of("verify", "--models", store),
        "doctor": cost_of("doctor", "--models", store),
        "send": cost_of("send", "*", folder / "sent", "--models", store),
    }
    shutil.rmtree(folder / "sent")
    plain = folder / "plain.tar.gz"
    subprocess.run(["tar", "-C", store, "-czf", plain, "blobs", "manifests"], check=True)
    for archive in (folder / "x.tar", folder / "x.tar.gz", plain):
        kind = archive.name.removeprefix("x") if archive != plain else "plain .tar.gz"
        found[f"verify {kind}"] = cost_of("verify", archive)
        found[f"import {kind}"] = cost_of("import", archive, "--models", folder / "imported")
        shutil.rmtree(folder / "imported")
    return found


@pytest.mark.long
def test_four_times_as_much_takes_about_four_times_as_long(memory_folder: Path) -> None:
    small = costs(memory_folder / "small", 5_000, 12_500)
    shutil.rmtree(memory_folder / "small")
    large = costs(memory_folder / "large", 20_000, 50_000)
    table = {what: (small[what], large[what]) for what in large}
    # What grows with the square takes 16 times as long.
    slow = {what: two for what, two in table.items() if two[1].seconds > 7 * two[0].seconds + 1}
    assert not slow, slow
    heavy = {what: two[1] for what, two in table.items() if two[1].megabytes > STILL_ABOVE.get(what, MEGABYTES)}
    assert not heavy, heavy
