"""Names that Windows can't store: said before a byte moves, with the way out."""

from __future__ import annotations

from pathlib import Path

import pytest

from ollama_ferry.errors import UsageError
from ollama_ferry.jobs.import_ import import_file
from ollama_ferry.jobs.import_choices import ImportOptions
from ollama_ferry.jobs.send_targets import FolderTarget
from ollama_ferry.model.layout import refused_by_windows
from ollama_ferry.model.names import ModelName
from ollama_ferry.model.renames import Renames
from ollama_ferry.places.store.store import Store
from support.hostile import MADE, member
from support.stores import published

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
