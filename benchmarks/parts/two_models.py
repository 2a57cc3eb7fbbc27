"""A big model, a small one, and one that shares its weights, in one archive: what is not asked for costs nothing."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from figures import Row
from measuring import FERRY, Chain, Step, in_a_process, line, make_archive, run_rounds
from sample_stores import biggest_blob, chat_variant, one_model, warm, what_is_wrong
from setting import Part, Setting

CP = "cp and sync of the small model's blob"
_TABLE = "A part of an archive"
_BIG, _SMALL, _CHAT = "bench:big", "bench:small", "bench:small-chat"
_SHARE = 16


def build(store: Path, size: int) -> None:
    """Make a store of three models; the small one has a sixteenth of the big one's weights."""
    one_model(store, _SMALL, size // _SHARE, "q4_0", seed=8)
    (store / "small").symlink_to(biggest_blob(store))
    chat_variant(store, _CHAT, _SMALL)
    one_model(store, _BIG, size, "q4_0")


def _measure(setting: Setting) -> list[Row]:
    store, target = setting.work / "store", setting.work / "target"
    in_a_process(build, store, setting.size)
    warm(store)
    archive = setting.work / "all.tar.gz"
    make_archive(store, archive)
    small, copied = (store / "small").resolve(), target / "blob"
    copy = Step(CP, f"{line('cp', small, copied)} && {line('sync', copied)}", _TABLE, fills=target)
    into = line(*FERRY, "import", "-q", archive, "--models", target)

    def imports(name: str, command: str, model: str) -> Chain:
        check = partial(what_is_wrong, target, model)
        return Chain((Step(name, command, _TABLE, fills=target, check=check, ours=True),), (target,))

    # The store that the archive was made from has everything already.
    again = line(*FERRY, "import", "-q", archive, "--models", store)
    chains = [
        Chain((copy,), (target,)),
        Chain((Step("list of the archive", line(*FERRY, "list", archive), _TABLE, ours=True),)),
        Chain((Step("import of what is there", again, _TABLE, ours=True),)),
        imports("import --model of the small one", f"{into} --model {_SMALL}", _SMALL),
        imports("import --model of the two that share", f"{into} --model {_SMALL} --model {_CHAT}", _CHAT),
        imports("import of all three", into, _BIG),
    ]
    return run_rounds(chains, setting.runs, CP, setting.work)


PART = Part(
    "A big model, one of a sixteenth of its size, and one that shares the weights of that, in one `.tar.gz`; "
    "everything is against `cp` of the small one.",
    CP,
    _measure,
)
