"""What a command costs before it does anything, and what hashing costs."""

from __future__ import annotations

from alternatives import lacking
from figures import Row
from measuring import FERRY, Chain, Step, in_a_process, line, make_archive, run_rounds
from sample_stores import biggest_blob, many_models, one_model, warm
from setting import Part, Setting

SHA256SUM = "sha256sum of the blob"
_TABLE = "Starting and hashing"


def _measure(setting: Setting) -> list[Row]:
    many, store, archive = setting.work / "many", setting.work / "store", setting.work / "one.tar.gz"
    in_a_process(many_models, many, 20 if setting.quick else 1000)
    in_a_process(one_model, store, "bench:q4_0", setting.size // 4, "q4_0")
    warm(store)
    make_archive(store, archive)
    commands = {
        "--help": line(*FERRY, "--help"),
        "list of 1,000 models": line(*FERRY, "list", "--models", many),
        "verify of the store": line(*FERRY, "verify", "-q", "--models", store),
        "verify of the .tar.gz": line(*FERRY, "verify", "-q", archive),
    }
    summing = Step(SHA256SUM, line("sha256sum", biggest_blob(store)), _TABLE, missing=lacking("sha256sum"))
    chains = [Chain((summing,))]
    chains += [Chain((Step(name, command, _TABLE, ours=True),)) for name, command in commands.items()]
    return run_rounds(chains, setting.runs, SHA256SUM, setting.work)


PART = Part(
    "`sha256sum` and `verify` hash a quarter of the main model; the other two do nothing that grows with it.",
    SHA256SUM,
    _measure,
)
