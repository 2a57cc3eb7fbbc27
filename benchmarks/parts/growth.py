"""How cost grows with bytes, blobs and models."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from figures import Row
from measuring import FERRY, Chain, Step, in_a_process, line, remove, run_rounds
from sample_stores import many_layers, many_models, sparse_models
from setting import Part, Setting

AMOUNTS = {"bytes": (1, 4, 16), "blobs": (10, 1_000, 20_000), "models": (1, 100, 5_000)}
"""What is counted: gigabytes of one model, its blobs of 4 kB, models of four blobs. A manifest of many more blobs would
be over the 4 MiB that are read."""

TABLES = {"bytes": "Gigabytes of one model", "blobs": "Blobs of one model", "models": "Models"}
_QUICK = {"bytes": 0.002, "blobs": 0.01, "models": 0.01}


def name_of(what: str, counted: str, amount: int) -> str:
    """Return the name of a row: ``export of 4 gigabytes``."""
    return f"{what} of {amount:,} {'gigabytes' if counted == 'bytes' else counted}"


def _measure(setting: Setting) -> list[Row]:
    rows: list[Row] = []
    made: dict[str, Callable[..., Any]] = {"bytes": _one_of_zeros, "blobs": many_layers, "models": many_models}
    for counted, amounts in AMOUNTS.items():
        for amount in amounts:
            store = setting.work / "store"
            scale = _QUICK[counted] if setting.quick else 1
            in_a_process(made[counted], store, max(1, round(amount * scale * (1e9 if counted == "bytes" else 1))))
            rows += _of_a_store(setting, store, counted, amount)
            remove(store)
    return rows


def _one_of_zeros(root: Path, size: int) -> None:
    sparse_models(root, {"sparse:latest": size})


def _of_a_store(setting: Setting, store: Path, counted: str, amount: int) -> list[Row]:
    target, archive = setting.work / "target", setting.work / "archive.tar"
    commands = {
        "list": line(*FERRY, "list", "--models", store),
        "export": line(*FERRY, "export", "-qf", "--models", store, "--all", archive),
        "import": line(*FERRY, "import", "-q", archive, "--models", target),
    }
    steps = {
        what: Step(
            name_of(what, counted, amount),
            command,
            TABLES[counted],
            makes=archive if what == "export" else None,
            fills=target if what == "import" else None,
            ours=True,
        )
        for what, command in commands.items()
    }
    chains = [Chain((steps["list"],)), Chain((steps["export"], steps["import"]), (archive, target))]
    return run_rounds(chains, min(setting.runs, 3), "", setting.work)


PART = Part(
    "`.tar` of models of zeros, of one model of many blobs, and of many models, from and into an empty store.",
    "",
    _measure,
)
