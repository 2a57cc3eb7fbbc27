from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.far_side import SHELLS, FarSide


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user can get at, which those of pytest are not."""
    path = Path(tempfile.mkdtemp(prefix="ferry-far-", dir="/tmp"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture(params=SHELLS)
def far(request: pytest.FixtureRequest, open_folder: Path) -> FarSide:
    """The far side, with each shell."""
    return FarSide(open_folder / "far", request.param)


@pytest.fixture
def root(open_folder: Path) -> Path:
    """Where the store of the far side is, or will be."""
    return open_folder / "store"
