from __future__ import annotations

from pathlib import Path

import pytest
from stores import StoreBuilder


@pytest.fixture
def source(tmp_path: Path) -> StoreBuilder:
    """An empty store to fill, which the tests read from."""
    builder = StoreBuilder(tmp_path / "source")
    (builder.root / "manifests").mkdir(parents=True)
    (builder.root / "blobs").mkdir()
    return builder


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Keep the tests away from this machine's own stores and servers."""
    for variable in ("OLLAMA_MODELS", "SOURCE_DATE_EPOCH", "SUDO_USER", "OLLAMA_FERRY_DEBUG"):
        monkeypatch.delenv(variable, raising=False)
    # Port 9 (discard): nobody answers there.
    monkeypatch.setenv("OLLAMA_HOST", "127.0.0.1:9")
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
