"""A short, seeded run of the fuzz target; ``./dev fuzz`` runs it for as long as one likes."""

from __future__ import annotations

from pathlib import Path

from support.fuzz_archives import Target, run_seeded
from support.fuzz_building import build
from support.hostile import MADE


def test_the_first_choice_is_a_right_archive() -> None:
    # Else the fuzzing would never get behind the first check.
    assert build(b"") == MADE.tar()


def test_no_built_archive_does_harm(tmp_path: Path, seed: int, long: bool) -> None:
    (tmp_path / "fuzz").mkdir()
    target = Target(tmp_path / "fuzz")
    run_seeded(target, seed, executions=2000 if long else 150, folder=tmp_path)
    assert target.imported and target.refused
