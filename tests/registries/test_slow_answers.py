"""Bytes that drip, and answers that never come."""

from __future__ import annotations

import signal
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from support.command_line import COMMAND
from support.oci_registries import (
    QUICK,
    Answered,
    FaultyHandler,
    FaultyRegistry,
    quick_access,
)
from support.registry_faults import continue_for_ever, drip_a_body, drip_a_header, pull, trail_for_ever, whole
from support.stores import StoreBuilder


@pytest.mark.parametrize("fault", [drip_a_body, drip_a_header, continue_for_ever, trail_for_ever])
@pytest.mark.parametrize("kind", ["manifest", "token"])
def test_what_drips_is_not_waited_for(
    registry: FaultyRegistry, tmp_path: Path, kind: str, fault: Callable[[FaultyHandler], None]
) -> None:
    registry.locked = kind == "token"
    # Once: the next try comes right.
    registry.faults[kind] = [fault]
    patience = replace(QUICK, answer=0.5, attempts=50)
    started = time.monotonic()
    pull(registry, tmp_path, quick_access(patience=patience))
    # The drip would have gone on for minutes.
    assert time.monotonic() - started < 90
    assert whole(tmp_path)


@pytest.mark.parametrize("kind", ["look", "put", "put, asked to wait"])
def test_giving_up_does_not_wait_for_what_hangs(
    registry: FaultyRegistry, source: StoreBuilder, tmp_path: Path, kind: str
) -> None:
    reached, release = threading.Event(), threading.Event()

    def hang(handler: FaultyHandler) -> None:
        reached.set()
        if "wait" in kind:
            # Whoever asked waits a minute before the next try.
            handler._read_body()
            handler.reply(503, {"Retry-After": "60"})
            raise Answered
        release.wait(300)
        handler.cut()

    source.model("m:2", [("tensor", bytes([number]) * 100) for number in range(40)])
    registry.always[kind.partition(",")[0]] = hang
    command = [*COMMAND, "push", "m:2", f"{registry.address}/models", "--insecure", "--models", str(source.root)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert reached.wait(120)
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=50)
    finally:
        release.set()
        process.kill()
    assert process.returncode == 130 and "Traceback" not in said
