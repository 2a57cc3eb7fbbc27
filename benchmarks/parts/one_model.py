"""One big model of 4-bit weights: packed and unpacked, beside all alternatives."""

from __future__ import annotations

from functools import partial

from alternatives import LIMIT, Carried, floors, limit, model_tools, ours, plain_tar
from figures import Row
from measuring import in_a_process, run_rounds
from sample_stores import biggest_blob, one_model, warm, what_is_wrong
from setting import Part, Setting

MODEL = "bench:q4_0"


def _measure(setting: Setting) -> list[Row]:
    store = setting.work / "store"
    in_a_process(one_model, store, MODEL, setting.size, "q4_0")
    warm(store)
    blob = biggest_blob(store)
    content = sum(path.stat().st_size for path in (store / "blobs").iterdir())
    check = partial(what_is_wrong, setting.work / "target", MODEL)
    carried = Carried(store, MODEL, blob, content, setting.work, check)
    base = limit(carried)
    # The disk's pace changes, so the baseline runs at both ends of a round.
    chains = [
        base, *ours(carried), *floors(carried), *plain_tar(carried), *model_tools(carried, setting.others), base,
    ]  # fmt: skip
    return run_rounds(chains, setting.runs, LIMIT, setting.work)


PART = Part(
    "One model of Q4_0 weights (4 bits), written by the gguf package. Export and import hash every byte and sync it; "
    "all others are followed by `sync`, and only `ollamazip unpack --verify` hashes.",
    LIMIT,
    _measure,
)
