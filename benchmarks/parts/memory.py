"""Peak memory for models of three sizes, made of zeros, so that they fit."""

from __future__ import annotations

import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from alternatives import lacking
from figures import Row
from measuring import FERRY, Chain, Step, in_a_process, line, run_rounds
from sample_stores import sparse_models
from setting import Part, Setting

_TABLE = "Memory"
_SIZES = (1, 4, 16)
# How much of an arriving file may be on the disk before its zeros are given back.
_KEPT = 256 * 1024 * 1024
_LOOK_EVERY = 0.2


def _measure(setting: Setting) -> list[Row]:
    store, target, archive = setting.work / "store", setting.work / "target", setting.work / "sparse.tar.gz"
    scale = 0.001 if setting.quick else 1.0
    sizes = {f"sparse:x{size}": int(size * scale * 1e9) for size in _SIZES}
    in_a_process(sparse_models, store, sizes)
    chains = []
    for model, size in sizes.items():
        free = shutil.disk_usage(setting.work).free
        short = "needs the command fallocate, or more disk" if lacking("fallocate") and free < 2 * size else ""
        gigabytes = f"{size / 1e9:g} GB"
        export = line(*FERRY, "export", "-qf", "--models", store, model, archive)
        unpack = line(*FERRY, "import", "-q", archive, "--models", target)
        chains.append(
            Chain(
                (
                    Step(f"export of {gigabytes}", export, _TABLE, makes=archive, content=size, ours=True),
                    Step(f"import of {gigabytes}", unpack, _TABLE, fills=target, missing=short, ours=True),
                ),
                (archive, target),
            )
        )
    with _giving_back_zeros(target):
        return run_rounds(chains, 1, "", setting.work)


@contextmanager
def _giving_back_zeros(folder: Path) -> Iterator[None]:
    """Punch holes where an import has written zeros, which changes no byte and keeps the disk from filling up."""
    over = threading.Event()

    def punch() -> None:
        while not over.wait(_LOOK_EVERY):
            # A file or folder that an import renames meanwhile is found the next time.
            with suppress(OSError):
                for path in folder.rglob("*"):
                    found = path.stat()
                    if path.is_file() and found.st_blocks * 512 > _KEPT:
                        whole = ["--offset", "0", "--length", str(found.st_size)]
                        subprocess.run(["fallocate", "--punch-hole", *whole, path], check=False)

    if lacking("fallocate"):
        yield
        return
    thread = threading.Thread(target=punch)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


PART = Part(
    "Models of 1, 4 and 16 GB: zeros, each run once. How fast "
    "zeros go says nothing; the peaks for real weights stand in the tables above.",
    "",
    _measure,
)
