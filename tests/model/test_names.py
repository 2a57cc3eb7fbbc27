"""The grammar of names, against a table and against a second, independent reading of upstream's rules."""

from __future__ import annotations

import string

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ollama_ferry.errors import InvalidName
from ollama_ferry.model.names import ModelName, is_pattern, match, nearest
from support.model_names import INVALID, VALID


@pytest.mark.parametrize(("text", "path"), VALID.items())
def test_valid_name_has_the_path_that_upstream_gives_it(text: str, path: str) -> None:
    assert ModelName.parse(text).path == path


@pytest.mark.parametrize("text", INVALID, ids=ascii)
def test_text_outside_the_grammar_is_refused(text: str) -> None:
    with pytest.raises(InvalidName) as caught:
        ModelName.parse(text)
    assert caught.value.exit_code == 2
    assert caught.value.message.isprintable()


def upstream_path(text: str) -> str | None:
    """Read a name as ``types/model/name.go`` does, written from its rules and not from our code."""
    missing = "!MISSING!"

    def cut(s: str, sep: str) -> tuple[str, str, bool]:
        at = s.rfind(sep)
        return (s, "", False) if at < 0 else (s[:at] or missing, s[at + 1 :] or missing, True)

    host = namespace = tag = ""
    if text.rfind(":") > text.rfind("/"):
        text, tag, _ = cut(text, ":")
    text, model, promised = cut(text, "/")
    if not promised:
        model = text
    else:
        text, namespace, promised = cut(text, "/")
        if not promised:
            namespace = text
        else:
            at = text.find("://")
            host = text if at < 0 else text[at + 3 :]
    parts = [host or "registry.ollama.ai", namespace or "library", model, tag or "latest"]
    word = string.ascii_letters + string.digits + "_"
    for part, more, most in zip(parts, ["-.:", "-", "-.", "-."], [350, 80, 80, 80], strict=True):
        if not 1 <= len(part.encode()) <= most or part[0] not in word or set(part[1:]) - set(word + more):
            return None
    return "/".join(parts)


texts = st.one_of(
    st.text(alphabet="ab1_-.:/", max_size=24),
    st.text(alphabet="aZ0_-.:/@ \\\n\x00é*", max_size=24),
    st.builds(
        "{}{}{}".format,
        st.sampled_from(["", "http://", "://", "x://", "h/", "h:1/"]),
        st.sampled_from(["", "n/", "/", "n.n/"]),
        st.sampled_from(["", "m", "m:", "m:t", ":t", "m:t:u"]),
    ),
    st.text(max_size=12),
)


@given(texts)
@example("http:///n/m")
@example("://h/n/m")
def test_grammar_equals_upstreams(text: str) -> None:
    expected = upstream_path(text)
    if expected is None:
        with pytest.raises(InvalidName):
            ModelName.parse(text)
    else:
        assert ModelName.parse(text).path == expected


@given(texts)
def test_no_path_leaves_its_folder(text: str) -> None:
    try:
        name = ModelName.parse(text)
    except InvalidName:
        return
    parts = name.path.split("/")
    assert len(parts) == 4
    assert not {"", ".", ".."} & set(parts)
    assert all(part.isascii() and part.isprintable() and "\\" not in part for part in parts)
    assert ModelName.parse(str(name)).path == name.path or str(name) == ""
    assert not set(name.file_stem) & set(':/\\*?"<>|')


@given(st.lists(st.text(max_size=6), max_size=6))
def test_only_four_good_parts_are_a_path(parts: list[str]) -> None:
    try:
        name = ModelName.from_path(parts)
    except InvalidName:
        return
    assert list(name.parts) == parts


@pytest.mark.parametrize(
    ("text", "short"),
    [
        ("registry.ollama.ai/library/qwen3", "qwen3:latest"),
        ("user/model:1", "user/model:1"),
        ("hf.co/library/m", "hf.co/library/m:latest"),
        ("REGISTRY.ollama.ai/LIBRARY/m", "m:latest"),
    ],
)
def test_shortest_form_is_the_one_that_ollama_prints(text: str, short: str) -> None:
    assert str(ModelName.parse(text)) == short


NAMES = [
    ModelName.parse(text)
    for text in ("gemma3:4b", "gemma3:27b", "gemma3:latest", "gemma2:2b", "me/gemma3:4b", "hf.co/o/r:Q4_K_M")
]


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("gemma3:*", ["gemma3:4b", "gemma3:27b", "gemma3:latest"]),
        ("gemma*", ["gemma3:4b", "gemma3:27b", "gemma3:latest", "gemma2:2b"]),
        ("GEMMA?:2B", ["gemma2:2b"]),
        ("*", [str(name) for name in NAMES]),
        ("*/*/*:*", [str(name) for name in NAMES]),
        ("*/gemma3:4b", ["me/gemma3:4b"]),
        ("*:4b", ["gemma3:4b", "me/gemma3:4b"]),
        ("hf.co/*", ["hf.co/o/r:Q4_K_M"]),
        ("hf.co/*/*:q4*", ["hf.co/o/r:Q4_K_M"]),
        ("hf.co/o/[q-s]", ["hf.co/o/r:Q4_K_M"]),
        ("Library/gemma2*", ["gemma2:2b"]),
        ("library/*:4b", ["gemma3:4b"]),
        ("registry.ollama.ai/*:4b", ["gemma3:4b", "me/gemma3:4b"]),
        ("llama*", []),
    ],
)
def test_pattern_covers(pattern: str, found: list[str]) -> None:
    assert is_pattern(pattern)
    assert [str(name) for name in match(pattern, NAMES)] == found


def test_nearest_names_put_the_same_model_first() -> None:
    assert next(str(name) for name in nearest("gemma2:9b", NAMES)) == "gemma2:2b"
    assert next(str(name) for name in nearest("gema3:4b", NAMES)) == "gemma3:4b"
    assert nearest("zzz", NAMES) == []
