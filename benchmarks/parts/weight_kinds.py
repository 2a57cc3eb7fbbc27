"""Other kinds of weights: how much each shrinks, and how fast."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from alternatives import LIMIT, Carried, floors, limit
from figures import Row
from measuring import FERRY, in_a_process, line, remove, run_rounds
from sample_stores import biggest_blob, one_model, warm, what_is_wrong
from setting import Part, Setting

# A share of the main model's size: BF16 is what shrinks, and has a target at full size.
_KINDS = {"bf16": 1.0}


def _measure(setting: Setting) -> list[Row]:
    return [row for kind in _KINDS for row in _one(setting, kind)]


def _one(setting: Setting, kind: str) -> list[Row]:
    store, model = setting.work / "store", f"bench:{kind}"
    in_a_process(one_model, store, model, int(setting.size * _KINDS[kind]), kind)
    warm(store)
    blob, check = biggest_blob(store), partial(what_is_wrong, setting.work / "target", model)
    carried = Carried(store, model, blob, blob.stat().st_size, setting.work, check)
    archive = setting.work / "ours.tar.gz"
    export = line(*FERRY, "export", "-qf", "--models", store, model, archive)
    unpack = line(*FERRY, "import", "-q", "--models", carried.target, archive)
    ours = carried.chain(
        carried.pack("export .tar.gz", export, archive, ours=True),
        carried.unpack("import .tar.gz", unpack, ours=True),
    )
    rows = run_rounds([limit(carried), ours, *floors(carried)], setting.runs, LIMIT, setting.work)
    remove(store)
    table = f"{kind.upper()} weights, {carried.content / 1e9:.3g} GB"
    return [replace(row, name=f"{kind}: {row.name}", table=table) for row in rows]


PART = Part("The same for other kinds of weights; the ratios are against the limit of the same blob.", LIMIT, _measure)
