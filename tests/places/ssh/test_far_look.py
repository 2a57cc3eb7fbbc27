"""What a store's owner has in it is listed, and is never taken for what the script itself says."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest

from ollama_ferry.errors import FerryError
from ollama_ferry.places.ssh.connection import Call
from ollama_ferry.places.ssh.scripts import LOOK
from ollama_ferry.places.ssh.survey import Survey, read_survey
from support.far_side import FarSide

BLOB = f"sha256-{'a' * 64}"
HEAD = ["root /store", "free 1000", "staging .ollama-ferry-ssh", "user 0"]


class Said:
    """An answer that has arrived."""

    def __init__(self, *lines: str) -> None:
        self._lines: Iterator[str] = iter(lines)

    def line(self) -> str:
        return next(self._lines)

    def read(self, size: int, /) -> bytes:
        return b""


def survey_of(*lines: str) -> Survey:
    return read_survey(cast(Call, Said(*lines)))


def test_names_are_no_lines_of_the_answer(far: FarSide, root: Path) -> None:
    (root / "blobs").mkdir(parents=True)
    (root / "blobs" / BLOB).write_bytes(b"x")
    (root / "blobs/x\n.\nroot ").mkdir()
    (root / ".ollama-ferry-ssh").mkdir()
    os.symlink("t\n.\nroot /elsewhere\nx", root / ".ollama-ferry-ssh/l")
    for name in ("good/m/tag", "x/y/z\n.\nroot "):
        path = root / "manifests/registry.ollama.ai" / name / "elsewhere"
        path.parent.mkdir(parents=True)
        path.write_text("{}")
    said = far.run(LOOK, [root, "*", "."])
    assert said[0] == "ferry 1" and said[-1] == "end"
    assert [line for line in said if line.startswith("root")] == [f"root {root}"]
    assert said.count(".") == 3
    found = survey_of(*said[1:])
    assert found.root == str(root) and list(found.blobs.values()) == [1]


@pytest.mark.parametrize(
    "lines",
    [
        [*HEAD, "blobs", ".", "root /elsewhere", "end"],
        [*HEAD, "root /elsewhere", "end"],
        [*HEAD, "blobs", ".", "staged", ".", "names", ".", "staging blobs/.ollama-ferry-ssh", "end"],
        [*HEAD, "names", ".", "user 1000", "end"],
        [*HEAD, "names", "a/b/c", ".", "names", ".", "end"],
        [*HEAD, "names", ".", "srv-victim", "end"],
    ],
)
def test_what_steers_comes_once_and_before_the_lists(lines: list[str]) -> None:
    with pytest.raises(FerryError, match="something else than was asked for"):
        survey_of(*lines)


def test_more_models_than_any_site_has_are_not_read() -> None:
    with pytest.raises(FerryError, match="more than 20000 models"):
        survey_of(*HEAD, "names", *(f"h/n/m/{number}" for number in range(20_002)))


def test_links_in_a_circle_have_an_end(far: FarSide, root: Path) -> None:
    (root / "manifests").mkdir(parents=True)
    for number in range(15):
        os.symlink(".", root / f"manifests/l{number}")
    assert far.run(LOOK, [root, "*", "."])[-1].startswith(f"error circle {root}/manifests/l")
