"""What is told of a job that takes long, line by line."""

from __future__ import annotations

import pytest

from ollama_ferry.cli.output import Output
from ollama_ferry.cli.progress import _Lines
from ollama_ferry.engine.events import Advanced, Started


def test_stream_of_which_nothing_was_read_for_long_has_no_time_left(capsys: pytest.CaptureFixture[str]) -> None:
    times = iter([0.0, 0.0, 20.0, 40.0])
    tell = _Lines("verifying", Output(quiet=False, verbose=False, as_json=False), lambda: next(times))
    tell(Started(0, 0, 4000))
    tell(Advanced(0))
    tell(Advanced(1000))
    _, *lines = capsys.readouterr().err.splitlines()
    assert lines == ["verifying: 1.0 kB of 4.0 kB (25 %), 25 B/s, 120 s left"]
