"""A model of thousands of small blobs, as models of one blob a tensor are."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

from alternatives import lacking
from figures import Row
from measuring import FERRY, Chain, Step, in_a_process, line, run_rounds
from sample_stores import many_layers, warm, what_is_wrong
from setting import Part, Setting

CP = "cp -r and sync of the store"
COUNT = 10_000
_TABLE = "10,000 small blobs"


def _measure(setting: Setting) -> list[Row]:
    store, target, archive = setting.work / "store", setting.work / "target", setting.work / "many.tar.gz"
    in_a_process(many_layers, store, 200 if setting.quick else COUNT)
    warm(store)
    plain = setting.work / "plain.tar.gz"
    content = sum(path.stat().st_size for path in (store / "blobs").iterdir())
    check = partial(what_is_wrong, target, "layers:latest")
    exporting = line(*FERRY, "export", "-qf", "--models", store, "layers", archive)
    importing = line(*FERRY, "import", "-q", archive, "--models", target)
    # sync without a name waits for the whole disk, and with a folder's for that one entry: -f for the file system.
    copying = f"{line('cp', '-r', store, target / 'copy')} && {line('sync', '-f', target)}"
    packing = f"{line('tar', '-C', store, '-czf', plain, '.')} && {line('sync', plain)}"
    unpacking = f"{line('tar', '-xzf', plain, '-C', target)} && {line('sync', '-f', target)}"
    floor = line(
        sys.executable, "-I", Path(__file__).parents[1] / "floor.py", "small", store / "blobs", target / "blobs"
    )
    tar = lacking("tar")
    chains = [
        Chain((Step(CP, copying, _TABLE, fills=target),), (target,), aside=True),
        Chain(
            (
                Step("export .tar.gz", exporting, _TABLE, makes=archive, content=content, ours=True),
                Step("import .tar.gz", importing, _TABLE, fills=target, check=check, ours=True),
            ),
            (archive, target),
            aside=True,
        ),
        Chain((Step("floor: small", floor, _TABLE, fills=target, shown="floor.py small"),), (target,), aside=True),
        Chain(
            (
                Step("tar -czf", packing, _TABLE, makes=plain, content=content, missing=tar),
                Step("tar -xzf", unpacking, _TABLE, fills=target, check=check,
                     missing=tar),
            ),
            (plain, target),
            aside=True,
        ),
    ]  # fmt: skip
    return run_rounds(chains, setting.runs, CP, setting.work)


PART = Part("One model of 10,000 blobs of 4 kB, as image and MLX models have them. `tar` does not hash.", CP, _measure)
