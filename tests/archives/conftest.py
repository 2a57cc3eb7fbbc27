"""A place to bring hostile archives into."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.arena import Arena


@pytest.fixture
def arena(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Arena]:
    made = Arena(tmp_path / "arena")
    # What writes to a relative path is found as well.
    monkeypatch.chdir(made.outside)
    yield made
