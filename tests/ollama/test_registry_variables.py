"""Variables that a terminal of Windows does not have, and Ollama's app has."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from ollama_ferry.ollama.registry_variables import MACHINE, USER, Key, with_registry


def registry(user: Mapping[str, str], machine: Mapping[str, str]) -> Mapping[Key, Mapping[str, str]]:
    return {USER: user, MACHINE: machine}


@pytest.mark.parametrize(
    ("user", "machine", "environ", "models"),
    [
        ({}, {}, {}, None),
        ({"OLLAMA_MODELS": r"D:\models"}, {}, {}, r"D:\models"),
        ({}, {"Ollama_Models": r"E:\all"}, {}, r"E:\all"),
        ({"OLLAMA_MODELS": r"D:\mine"}, {"OLLAMA_MODELS": r"E:\all"}, {}, r"D:\mine"),
        ({"OLLAMA_MODELS": r"D:\mine"}, {}, {"OLLAMA_MODELS": r"F:\now"}, r"F:\now"),
        ({"OLLAMA_MODELS": ""}, {"OLLAMA_MODELS": r"E:\all"}, {}, r"E:\all"),
        (
            {"OLLAMA_MODELS": r"%UserProfile%\big\%none%"},
            {},
            {"USERPROFILE": r"C:\Users\me"},
            r"C:\Users\me\big\%none%",
        ),
        ({"PATH": "x", "OLLAMA_ORIGINS": "*"}, {}, {}, None),
    ],
)
def test_the_users_count_before_the_machines_and_the_processs_before_both(
    user: dict[str, str], machine: dict[str, str], environ: dict[str, str], models: str | None
) -> None:
    kept = registry(user, machine)
    found = with_registry(environ, kept.__getitem__, "win32")
    assert found.get("OLLAMA_MODELS") == models
    assert found.keys() <= {*environ, "OLLAMA_MODELS", "OLLAMA_HOST"}
    assert with_registry(environ, kept.__getitem__, "linux") is environ
