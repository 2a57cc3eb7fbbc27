"""Names that Windows can't store: said before a byte moves, with the way out."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path

import pytest

import ollama_ferry
from ollama_ferry.errors import UsageError
from ollama_ferry.jobs.import_ import import_file
from ollama_ferry.jobs.import_choices import ImportOptions
from ollama_ferry.jobs.send_targets import FolderTarget
from ollama_ferry.model.layout import refused_by_windows
from ollama_ferry.model.names import ModelName
from ollama_ferry.model.renames import Renames
from ollama_ferry.places.store.store import Store
from support.hostile import MADE, member
from support.stores import StoreBuilder, published, weights

REFUSED = {
    "localhost:5000/library/made:hostile": "localhost:5000 holds a ':'",
    "con:latest": "con is reserved there",
    "me/aux.gguf:q4": "aux.gguf is reserved there",
    "Com1:x": "Com1 is reserved there",
    "made:lpt9.q4": "lpt9.q4 is reserved there",
    "made:q4.": "q4. ends with a '.'",
}
TAKEN = ["qwen3:8b", "hf.co/me/console:q4", "me/com10:x", "me/nulls:q4", "made:_.q4"]


@pytest.mark.parametrize("name", REFUSED)
def test_it_says_which_part_and_why(name: str) -> None:
    assert refused_by_windows(ModelName.parse(name)) == REFUSED[name]


@pytest.mark.parametrize("name", TAKEN)
def test_others_are_taken(name: str) -> None:
    assert refused_by_windows(ModelName.parse(name)) == ""


def archive(folder: Path, name: str) -> Path:
    path = f"manifests/{'/'.join(ModelName.parse(name).parts)}"
    (made := folder / "x.tar").write_bytes(
        MADE.tar().replace(member(MADE.manifest_name, MADE.manifest), member(path, MADE.manifest))
    )
    return made


@pytest.mark.parametrize("name", REFUSED)
def test_an_import_is_refused_and_goes_under_another_name(tmp_path: Path, name: str) -> None:
    path = archive(tmp_path, name)
    store = Store(tmp_path / "models", "win32")
    with pytest.raises(UsageError) as caught:
        import_file(path, store, ImportOptions())
    assert f"{ModelName.parse(name)} can't be stored on Windows: {REFUSED[name]}" in str(caught.value)
    assert [remedy.parameter for remedy in caught.value.remedies] == ["rename", "models"]
    assert not published(store.root)
    import_file(path, store, ImportOptions(rename=Renames(ModelName.parse("mine:1"))))
    assert [str(found) for found in store.names()] == ["mine:1"]


def test_a_folder_is_asked_and_a_newer_layout_has_no_colon(tmp_path: Path) -> None:
    name = ModelName.parse("localhost:5000/library/made:hostile")
    assert FolderTarget(tmp_path / "none").refuses(ModelName.parse("qwen3:8b")) == ""
    assert "holds a ':'" in Store(tmp_path, "win32").refuses(name)
    assert Store(tmp_path, "linux").refuses(name) == ""
    (tmp_path / "manifests-v2").mkdir()
    assert Store(tmp_path, "win32").refuses(name) == ""


@pytest.mark.parametrize("kind", [".tar", ".tar.gz", ".plain.tar.gz"])
def test_of_several_models_it_is_left_out_and_named(source: StoreBuilder, tmp_path: Path, kind: str) -> None:
    if os.name == "nt":
        pytest.skip("Windows has no such names in a store")
    for number, name in enumerate(["good:1", "localhost:5000/team/other:1"]):
        source.model(name, [("model", weights(1000, number))])
    path = tmp_path / f"x{kind}"
    if kind == ".plain.tar.gz":
        with tarfile.open(path, "w:gz") as made:
            for part in ("blobs", "manifests"):
                made.add(source.root / part, part)
    else:
        ollama_ferry.export("*/*/*:*", path, store=source.root)
    store = Store(tmp_path / "models", "win32")
    done = import_file(path, store, ImportOptions())
    assert [str(model.name) for model in done.models] == ["good:1"]
    (left,) = done.not_carried
    assert left.name == "localhost:5000/team/other:1" and "can't be stored on Windows" in str(left.why)
    # A pattern means it no more than all did; its own name does.
    left_out: list[tuple[str, ...]] = [("*",), ("good:1",)]
    for only in left_out:
        assert import_file(path, store, ImportOptions(only)).models
    refused: list[tuple[str, ...]] = [("localhost:5000/team/other:1",), ("good:1", "localhost:5000/team/other:1")]
    for only in refused:
        with pytest.raises(UsageError, match="can't be stored on Windows"):
            import_file(path, store, ImportOptions(only))
