"""Send over ssh, beside scp and rsync, to an sshd on this machine."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

from alternatives import lacking
from figures import Row
from measuring import FERRY, Chain, Step, in_a_process, line, run_rounds
from sample_stores import biggest_blob, many_layers, one_model, warm, what_is_wrong
from setting import Part, Setting

SCP = "scp of the blob"
FEW = 20
_TABLE = "Over ssh"
_MODEL = "bench:q4_0"


def _measure(setting: Setting) -> list[Row]:
    missing = lacking("ssh", "scp", "ssh-keygen")
    if missing:
        return [Row(name, _TABLE, "", failed=missing, ours=True) for name in ("send of the model", "send again")]
    sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))
    from support.sshd import serving

    store, layers, target = setting.work / "store", setting.work / "layers", setting.work / "target"
    count = 200 if setting.quick else 5000
    in_a_process(one_model, store, _MODEL, setting.size // 2, "q4_0")
    in_a_process(many_layers, layers, count)
    warm(store)
    blob, few = biggest_blob(store), sorted((layers / "blobs").iterdir())[:FEW]
    rsync, synced = lacking("rsync"), line("sync", target / "blob")
    with serving(setting.work / "sshd") as server:
        there, client = f"root@there:{target}", server.ssh.split()[1:]
        send = line(*FERRY, "send", "-q", "--ssh", server.ssh)
        one_by_one = " && ".join(line("scp", "-q", *client, path, f"{there}/") for path in few)
        whole, again = partial(what_is_wrong, target, _MODEL), f"{send} {line('--models', store, _MODEL, there)}"
        chains = [
            Chain((Step(SCP, f"{line('scp', '-q', *client, blob, f'{there}/blob')} && {synced}", _TABLE,
                        fills=target),)),
            Chain((Step("rsync -W of the blob",
                        f"{line('rsync', '-W', '-e', server.ssh, blob, f'{there}/blob')} && {synced}", _TABLE,
                        fills=target, missing=rsync),)),
            Chain((
                Step("send of the model", again, _TABLE, fills=target, check=whole, ours=True),
                Step("send again", again, _TABLE, ours=True),
            ), (target,)),
            Chain((Step("send of 5,000 small blobs", f"{send} {line('--models', layers, 'layers', there)}", _TABLE,
                        fills=target, check=partial(what_is_wrong, target, "layers:latest"), ours=True),)),
            Chain((Step(f"scp of {FEW} of them, one by one", one_by_one, _TABLE, fills=target,
                        shown="scp -q FILE root@there:WORK/target/ && …"),), (target,)),
        ]  # fmt: skip
        return run_rounds(chains, setting.runs, SCP, setting.work)


PART = Part(
    "Half of the main model, over loopback: both ends share the cores. `scp` and `rsync` do not hash.",
    SCP,
    _measure,
)
