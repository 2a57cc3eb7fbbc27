from __future__ import annotations

import pytest

from ollama_ferry.errors import InvalidName, UsageError
from ollama_ferry.model.names import ModelName
from ollama_ferry.model.renames import Renames

RENAMED = [
    (["mine:1"], "qwen3:8b", "mine:1"),
    (["library/*=mine/*"], "qwen3:8b", "mine/qwen3:8b"),
    (["library/*=mine/*"], "hf.co/a/b:q4", None),
    (["hf.co/*/*:*=*/*:*-hf"], "hf.co/org/repo:Q4_K_M", "org/repo:Q4_K_M-hf"),
    (["*=registry.lab:5000/models/*"], "qwen3:8b", "registry.lab:5000/models/qwen3:8b"),
    (["qwen3:8b=a:1", "qwen*=b/qwen*"], "qwen3:8b", "a:1"),
    (["qwen3:8b=a:1", "qwen*=b/qwen*"], "qwen3:4b", "b/qwen3:4b"),
    (["QWEN3:*=x:*"], "qwen3:8B", "x:8B"),
    (["qwen3=x"], "qwen3:latest", "x:latest"),
    ([], "qwen3:8b", None),
]


@pytest.mark.parametrize(("texts", "name", "renamed"), RENAMED)
def test_renamed(texts: list[str], name: str, renamed: str | None) -> None:
    found = Renames.parse(texts).of(ModelName.parse(name))
    assert (str(found) if found else None) == renamed


@pytest.mark.parametrize(
    "texts", [["a", "b"], ["*=mine"], ["a=b/*"], ["a", "b=c"], ["=b"], ["[ab]*=c*"], ["a?=b?"], ["a=../b"]]
)
def test_refused(texts: list[str]) -> None:
    with pytest.raises(UsageError):
        Renames.parse(texts)


def test_what_comes_out_must_be_a_name() -> None:
    with pytest.raises(InvalidName):
        Renames.parse(["me/*=*/x"]).of(ModelName.parse("me/a.b:1"))
