"""A model by the ID that ``ollama list`` prints, wherever a name is taken."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.command_line import COMMAND, assert_one_clear_error, ferry
from support.stores import StoreBuilder, weights


@pytest.fixture
def ids(source: StoreBuilder) -> dict[str, str]:
    """Three models, two of which are the same, and one that is called like the first's ID."""
    found = {}
    for name, number in (("qwen3:8b", 1), ("a:1", 2), ("b:1", 2)):
        found[name] = source.model(name, [("model", weights(1000, number))]).digest.hex[:12]
    return found


@pytest.mark.parametrize("kind", [".tar", ".tar.gz"])
def test_an_id_is_taken_for_a_name(source: StoreBuilder, ids: dict[str, str], tmp_path: Path, kind: str) -> None:
    one, store = ids["qwen3:8b"], ("--models", source.root)
    archive = tmp_path / f"x{kind}"
    assert ferry("export", one, archive, *store).returncode == 0
    assert ferry("list", "-q", archive).stdout == "qwen3:8b\n"
    assert ferry("show", one.upper(), *store).stdout.startswith("qwen3:8b\n")
    assert ferry("verify", one, *store).returncode == 0
    assert ferry("send", one, tmp_path / "stick", *store).returncode == 0
    assert ferry("fetch", tmp_path / "stick", one, "--models", tmp_path / "fetched").returncode == 0
    assert ferry("export", "--all", tmp_path / f"all{kind}", *store).returncode == 0
    done = ferry("import", tmp_path / f"all{kind}", "--model", one, "--models", tmp_path / "imported")
    assert done.returncode == 0, done.stderr
    assert ferry("list", "-q", "--models", tmp_path / "imported").stdout == "qwen3:8b\n"


def test_an_id_is_taken_for_a_name_of_a_stream(source: StoreBuilder, ids: dict[str, str], tmp_path: Path) -> None:
    import subprocess

    assert ferry("export", "--all", tmp_path / "all.tar", "--models", source.root).returncode == 0
    with (tmp_path / "all.tar").open("rb") as stream:
        words = [*COMMAND, "import", "-", "--model", ids["qwen3:8b"], "--models", str(tmp_path / "streamed")]
        subprocess.run(words, stdin=stream, check=True, capture_output=True)
    assert ferry("list", "-q", "--models", tmp_path / "streamed").stdout == "qwen3:8b\n"


def test_names_count_first_and_copies_have_to_be_named(source: StoreBuilder, ids: dict[str, str]) -> None:
    store = ("--models", source.root)
    done = ferry("show", ids["a:1"], *store)
    assert_one_clear_error(done, 2)
    assert f"{ids['a:1']} is the ID of a:1, b:1" in done.stderr
    for nobodys in ("0123456789ab", ids["qwen3:8b"][:7]):
        assert_one_clear_error(ferry("show", nobodys, *store), 3)
    source.model(f"{ids['qwen3:8b']}:latest", [("model", weights(1000, 3))])
    assert ferry("show", ids["qwen3:8b"], *store).stdout.startswith(f"{ids['qwen3:8b']}:latest\n")
