"""Volumes, and files of other names beside them."""

from __future__ import annotations

from pathlib import Path

import pytest

import ollama_ferry
from support.command_line import assert_one_clear_error, ferry
from support.stores import StoreBuilder, weights


@pytest.mark.parametrize("name", ["x.tar.gz.000", "x.tar.gz.0015", "x.tar.gz.002.bak"])
def test_what_a_shell_would_join_beside_the_volumes_is_refused(source: StoreBuilder, tmp_path: Path, name: str) -> None:
    archive = tmp_path / "x.tar.gz"
    source.model("m:1", [("model", weights(300_000, 1))])
    ollama_ferry.export("m:1", archive, store=source.root, split=64 * 1024)
    (tmp_path / name).write_bytes(b"others")
    for words in (("verify", archive), ("import", archive, "--models", tmp_path / "target")):
        done = ferry(*words)
        assert_one_clear_error(done, 4)
        assert name in done.stderr
    # What no line of ours joins may lie there.
    (tmp_path / name).rename(tmp_path / "x.tar.gz.note")
    assert ferry("verify", archive).returncode == 0
