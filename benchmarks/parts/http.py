"""Pull beside curl, and serve beside nginx: the same blob over loopback."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from alternatives import lacking
from figures import Row
from measuring import FERRY, Chain, Step, in_a_process, line, run_rounds
from one_blob import nginx
from sample_stores import biggest_blob, one_model, warm, what_is_wrong
from setting import Part, Setting

CURL = "curl of the blob, and sync"
NGINX = "curl from nginx"
_TABLE = "Over HTTP"
_MODEL = "bench:q4_0"


def _measure(setting: Setting) -> list[Row]:
    missing = lacking("curl") or ("" if Path("/usr/sbin/nginx").exists() else lacking("nginx"))
    if missing:
        return [Row("pull of the model", _TABLE, "", failed=missing, ours=True)]
    sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))
    from support.served import serve_process

    store, target, log = setting.work / "store", setting.work / "target", setting.work / "log"
    log.mkdir()
    in_a_process(one_model, store, _MODEL, setting.size // 2, "q4_0")
    warm(store)
    blob = biggest_blob(store)
    with ExitStack() as stack:
        ours = f"127.0.0.1:{stack.enter_context(serve_process(log, _MODEL, '--models', store)).port}"
        theirs = stack.enter_context(nginx(setting.work / "nginx", blob.parent))
        url = f"http://{ours}/v2/library/bench/blobs/{blob.name.replace('-', ':')}"

        def curl(url: str, to: str | Path) -> str:
            return line("curl", "-sf", "-o", to, url)

        copied = target / "blob"
        pull = line(*FERRY, "pull", "-q", "--insecure", f"{ours}/library/{_MODEL}", "--as", _MODEL, "--models", target)
        chains = [
            Chain((Step(CURL, f"{curl(url, copied)} && {line('sync', copied)}", _TABLE, fills=target),), (target,)),
            Chain(
                (
                    Step("pull of the model", pull, _TABLE, fills=target, ours=True,
                         check=partial(what_is_wrong, target, _MODEL)),
                ),
                (target,),
            ),
            Chain((Step(NGINX, curl(f"http://{theirs}/{blob.name}", "/dev/null"), _TABLE),)),
            Chain((Step("curl from serve", curl(url, "/dev/null"), _TABLE, ours=True),)),
        ]  # fmt: skip
        return run_rounds(chains, setting.runs, CURL, setting.work)


PART = Part(
    "Half of the main model over loopback: both ends share the cores. `curl` hashes nothing; `pull` hashes every byte. "
    "Processor seconds are those of the client.",
    CURL,
    _measure,
)
