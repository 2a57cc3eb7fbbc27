"""Tables on terminals of three widths, and in a pipe: pictures as text."""

from __future__ import annotations

import hashlib
import json
import random
import time
from pathlib import Path

import pytest

from ollama_ferry.cli.tables import print_table
from support.command_line import ferry
from support.screen import picture, terminal
from support.stores import StoreBuilder, weights

LONG = "hf.co/bartowski/DeepSeek-R1-Distill-Qwen-32B-GGUF:Q4_K_M"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> StoreBuilder:
    """Models whose names sort in odd ways, one of them damaged."""
    builder = StoreBuilder(tmp_path_factory.mktemp("s") / "models")
    shared = weights(3_000_000)
    moment = int(time.time()) - 200_000
    for number, name in enumerate(["qwen3:8b", "qwen3:14b", "me/mine:latest", LONG]):
        builder.model(name, [("model", shared), ("template", b"%d" % number)], mtime=moment)
    broken = builder.model("broken:1", [("model", weights(5000, 9))], mtime=moment)
    (builder.root / "blobs" / broken.blobs[0].digest.file_name).write_bytes(b"x" * 10)
    return builder


# ID and OWN are columns of their own in the wide one; the damaged model's digest is as long as it is.
LISTS = {
    120: """\
NAME                                                      ID              SIZE     OWN  MODIFIED
broken:1                                                  ID            5.0 kB  5.0 kB  2 days ago
    damaged: broken:1: its model blob DIGEST has 10
    bytes, and the manifest says 5,000 bytes
hf.co/bartowski/DeepSeek-R1-Distill-Qwen-32B-GGUF:Q4_K_M  ID            3.0 MB     1 B  2 days ago
me/mine:latest                                            ID            3.0 MB     1 B  2 days ago
qwen3:8b                                                  ID            3.0 MB     1 B  2 days ago
qwen3:14b                                                 ID            3.0 MB     1 B  2 days ago
5 models, 3.0 MB; what is shared counts once""",
    80: """\
NAME                                    ID              SIZE     OWN  MODIFIED
broken:1                                ID            5.0 kB  5.0 kB  2 days ago
    damaged: broken:1: its model blob
    DIGEST has
    10 bytes, and the manifest says 5,000 bytes
hf.co/bartowski/DeepSeek-R1-Distill-Qwen-32B-GGUF:Q4_K_M
                                        ID            3.0 MB     1 B  2 days ago
me/mine:latest                          ID            3.0 MB     1 B  2 days ago
qwen3:8b                                ID            3.0 MB     1 B  2 days ago
qwen3:14b                               ID            3.0 MB     1 B  2 days ago
5 models, 3.0 MB; what is shared counts once""",
    60: """\
NAME                            ID              SIZE     OWN
broken:1                        ID            5.0 kB  5.0 kB
    damaged: broken:1: its model blob
    DIGEST
    has 10 bytes, and the manifest says 5,000 bytes
hf.co/bartowski/DeepSeek-R1-Distill-Qwen-32B-GGUF:Q4_K_M
                                ID            3.0 MB     1 B
me/mine:latest                  ID            3.0 MB     1 B
qwen3:8b                        ID            3.0 MB     1 B
qwen3:14b                       ID            3.0 MB     1 B
5 models, 3.0 MB; what is shared counts once""",
}


@pytest.mark.parametrize("columns", LISTS)
def test_list_at_three_widths(store: StoreBuilder, columns: int) -> None:
    code, lines = picture("list", "--models", store.root, columns=columns)
    wanted = LISTS[columns].split("\n")
    assert code == 0
    text = "\n".join(lines)
    for model in ("broken:1", "qwen3:8b", "qwen3:14b", "me/mine:latest", LONG):
        digest = hashlib.sha256(store.manifest_path(model).read_bytes()).hexdigest()
        text = text.replace(digest[:12], "ID".ljust(12))
    broken = _blob_of_broken(store)
    text = text.replace("\n".join([broken[: columns - 4], broken[columns - 4 :]]).rstrip("\n"), "DIGEST")
    assert text.split("\n") == wanted


def _blob_of_broken(store: StoreBuilder) -> str:
    return str(json.loads(store.manifest_path("broken:1").read_bytes())["layers"][0]["digest"])


def test_every_command_fits_and_breaks_no_word(store: StoreBuilder, tmp_path: Path) -> None:
    archive = tmp_path / "a.tar"
    assert ferry("export", "qwen3:*", archive, "--models", store.root).returncode == 0
    for words in (
        ["verify", "qwen3:8b"],
        ["show", "qwen3:8b"],
        ["list", archive],
        ["import", archive, "qwen3:*", "-n"],
    ):
        full = set(ferry(*words, "--models", store.root).stdout.split())
        for columns in (60, 120):
            _, lines = picture(*words, "--models", store.root, columns=columns)
            assert all(len(line) <= columns for line in lines)
            # What is in no line whole was broken: only paths and digests may be.
            for word in {"qwen3:8b", "good", "checked", "application/vnd.ollama.image.model", "here"} & full:
                assert any(word in line for line in lines), (columns, words, word)


def test_in_a_pipe_a_row_is_a_line_without_a_footer(store: StoreBuilder) -> None:
    lines = ferry("list", "--models", store.root).stdout.splitlines()
    assert len(lines) == 6
    assert [line.split()[0] for line in lines] == ["NAME", "broken:1", LONG, "me/mine:latest", "qwen3:8b", "qwen3:14b"]
    assert ferry("list", "-q", "--models", store.root).stdout.split() == [line.split()[0] for line in lines[1:]]


def test_colours_say_what_words_say(store: StoreBuilder) -> None:
    with (
        terminal("list", "--models", store.root) as coloured,
        terminal("list", "--models", store.root, NO_COLOR="1") as plain,
    ):
        assert coloured.wait() == plain.wait() == 0
    assert coloured.text == plain.text
    assert b"\x1b[31m" in coloured.raw and b"\x1b[" not in plain.raw


@pytest.mark.parametrize("width", [1, 12, 40, 200])
def test_no_width_and_no_text_breaks_a_table(width: int, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    chance = random.Random(seed)
    monkeypatch.setattr("ollama_ferry.cli.tables.columns_of", lambda stream: width)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    said: list[str] = []
    monkeypatch.setattr("ollama_ferry.cli.tables.say", lambda text, **_: said.append(text))
    rows = [["x" * chance.randrange(60), "7" * chance.randrange(9), "a word " * chance.randrange(9)] for _ in range(9)]
    print_table(("NAME", "SIZE", "NOTE"), rows, right=(1,), below=(2,), spare=(1,))
    text = "\n".join(said)
    assert all(row[0] in text for row in rows) and "NAME" in said[0]
