"""How many threads work at once, on systems that tell the cores of a process and on those that do not."""

from __future__ import annotations

import os

from ollama_ferry.engine.cores import threads_at_once


def test_where_a_process_is_kept_to_some_cores_these_count() -> None:
    """As taskset does, and containers: sched_setaffinity(2)."""
    assert threads_at_once(lambda process: {3}) == 1
    assert threads_at_once(lambda process: set(range(4))) == 4


def test_more_than_eight_gain_nothing() -> None:
    assert threads_at_once(lambda process: set(range(64))) == 8


def test_macos_and_windows_tell_the_cores_of_the_machine() -> None:
    """os.sched_getaffinity: "Availability: Unix, not macOS"; Python's documentation of os."""
    assert threads_at_once(None) == min(8, os.cpu_count() or 1)
