"""``demo``: the whole way of a model, on every system; what it prints is held against the README elsewhere."""

from __future__ import annotations

from support.command_line import ferry


def test_the_demo_moves_a_model_and_leaves_nothing() -> None:
    done = ferry("demo")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("each with its SHA-256; none missing, none more") == 2
    assert done.stdout.rstrip().endswith("cleaned up")
