"""Models are picked by eye where none was named: the list itself, and runs on a real terminal."""

from __future__ import annotations

from pathlib import Path

import pytest

from ollama_ferry.cli.checklist import Checklist, Choice
from support.command_line import ferry
from support.screen import terminal
from support.stores import StoreBuilder, weights

GB = 1000**3


@pytest.fixture
def checklist() -> Checklist:
    shared = {"weights": 4 * GB}
    return Checklist(
        [
            Choice("qwen3:8b", {**shared, "a": 10}, 10, "3 days ago"),
            Choice("qwen3:8b-chat", {**shared, "b": 20}, 20, "2 days ago"),
            Choice("hf.co/bartowski/DeepSeek-R1-Distill-Qwen-32B-GGUF:Q4_K_M", {"c": 20 * GB}, 20 * GB, "just now"),
            Choice("gpt-oss:cloud", {}, 0, "-", "a cloud model: nothing to carry"),
        ],
        free=12 * GB,
    )


def test_what_is_shared_counts_once_and_what_is_there_not_at_all(checklist: Checklist) -> None:
    checklist.mark()
    checklist.move(1)
    checklist.mark()
    assert checklist.size == 4 * GB + 30 and checklist.result() == ["qwen3:8b", "qwen3:8b-chat"]
    checklist.present = {"weights"}
    assert checklist.size == 30
    checklist.mark()
    assert checklist.result() == ["qwen3:8b"]


def test_typing_filters_and_nothing_marked_takes_the_row(checklist: Checklist) -> None:
    checklist.move(3)
    checklist.type("DISTILL")
    assert [choice.name[:5] for choice in checklist.shown] == ["hf.co"] and checklist.cursor == 0
    assert checklist.result() == [checklist.shown[0].name]
    checklist.type("zzz")
    assert checklist.shown == [] and checklist.result() == []
    checklist.mark()
    checklist.move(5)
    for _ in range(10):
        checklist.erase()
    assert len(checklist.shown) == 4


def test_what_can_not_be_carried_can_not_be_marked(checklist: Checklist) -> None:
    checklist.mark_all()
    assert len(checklist.marked) == 3
    checklist.mark_all()
    assert not checklist.marked
    checklist.move(99)
    checklist.mark()
    assert not checklist.marked and checklist.result() == []


@pytest.mark.parametrize(
    ("width", "name", "columns"),
    [
        (120, "hf.co/bartowski/DeepSeek-R1-Distill-Qwen-32B-GGUF:Q4_K_M", "20.0 GB   20.0 GB       0 B  just now"),
        (80, "...still-Qwen-32B-GGUF:Q4_K_M", "20.0 GB   20.0 GB       0 B  just now"),
        (60, "...-32B-GGUF:Q4_K_M", "20.0 GB   20.0 GB  just now"),
    ],
)
def test_pictures(checklist: Checklist, width: int, name: str, columns: str) -> None:
    checklist.mark_all()
    lines = [text.rstrip() for _, text in checklist.lines(width)]
    assert all(len(line) <= width for line in lines)
    shared = "    4.0 GB" if "0 B" in columns else ""
    pad = len(name) - len("qwen3:8b")
    assert lines[1:6] == [
        f"> [x] qwen3:8b{' ' * pad}    4.0 GB      10 B{shared}  3 days ago",
        f"  [x] qwen3:8b-chat{' ' * (pad - 5)}    4.0 GB      20 B{shared}  2 days ago",
        f"  [x] {name}   {columns}",
        f"  [-] gpt-oss:cloud{' ' * (pad - 5)}  a cloud model: nothing to carry",
        "3 marked, 24.0 GB; 12.0 GB free there, which is too little",
    ]


def test_a_long_list_shows_a_part_around_the_cursor() -> None:
    checklist = Checklist([Choice(f"m:{number}", {}, 0, "-") for number in range(100)])
    for rows in (0, 50, 99):
        checklist.move(rows)
        lines = [text for _, text in checklist.lines(80, rows=10)]
        assert sum("[ ]" in line for line in lines) == 10 and sum(line.startswith(">") for line in lines) == 1


@pytest.fixture
def store(source: StoreBuilder) -> StoreBuilder:
    shared = weights(100_000)
    for number, name in enumerate(["qwen3:8b", "qwen3:14b", "gemma3:4b"]):
        source.model(name, [("model", shared), ("template", b"%d" % number)])
    return source


def test_export_without_a_model_asks_which(store: StoreBuilder, tmp_path: Path) -> None:
    with terminal("export", tmp_path / "x.tar", "--models", store.root, columns=70) as opened:
        opened.wait_for(lambda: "Enter goes" in opened.text)
        assert "> [ ] gemma3:4b" in opened.text and " free there" in opened.text
        opened.type("qwen")
        opened.wait_for(lambda: "filter: qwen" in opened.text and "gemma" not in opened.text)
        opened.type(" ")
        opened.wait_for(lambda: "1 marked, 100 kB" in opened.text)
        opened.type("\x1b[B ")
        opened.wait_for(lambda: "2 marked, 100 kB" in opened.text)
        opened.type("\r")
        assert opened.wait() == 0
        # The list has gone, and what was done stands there.
        assert "Enter goes" not in opened.text and "exported qwen3:14b, qwen3:8b" in opened.text
    assert ferry("list", "-q", tmp_path / "x.tar").stdout == "qwen3:8b\nqwen3:14b\n"


def test_import_of_several_begins_with_all_and_of_one_asks_nothing(store: StoreBuilder, tmp_path: Path) -> None:
    assert ferry("export", "--all", tmp_path / "all.tar", "--models", store.root).returncode == 0
    assert ferry("export", "qwen3:8b", tmp_path / "one.tar", "--models", store.root).returncode == 0
    with terminal("import", tmp_path / "one.tar", "--models", tmp_path / "new") as opened:
        assert opened.wait() == 0
    with terminal("import", tmp_path / "all.tar", "--models", tmp_path / "new") as opened:
        # The weights are there already.
        opened.wait_for(lambda: "3 marked, " in opened.text and "Enter goes" in opened.text)
        assert "3 marked, 1" not in opened.text and " kB" in opened.text
        opened.type(" \r")
        assert opened.wait() == 0
    assert ferry("list", "-q", "--models", tmp_path / "new").stdout == "qwen3:8b\nqwen3:14b\n"


def test_send_asks_for_what_is_missing(store: StoreBuilder, tmp_path: Path) -> None:
    with terminal("send", "--models", store.root) as opened:
        opened.wait_for(lambda: "Enter goes" in opened.text)
        opened.type("\r")
        opened.wait_for(lambda: "To which host or folder?" in opened.text)
        opened.type(f"{tmp_path}/stick\r")
        assert opened.wait() == 0, opened.text
    assert ferry("list", "-q", "--models", tmp_path / "stick").stdout == "gemma3:4b\n"


@pytest.mark.parametrize("keys", ["\x03", "\x04"])
def test_giving_up_is_no_more_than_that(store: StoreBuilder, tmp_path: Path, keys: str) -> None:
    with terminal("export", tmp_path / "x.tar", "--models", store.root) as opened:
        opened.wait_for(lambda: "Enter goes" in opened.text)
        opened.type(keys)
        assert opened.wait() == 130
        assert "error: nothing was picked" in opened.text
    assert not (tmp_path / "x.tar").exists()


def test_nobody_is_asked_without_a_terminal_or_where_it_is_not_wanted(store: StoreBuilder, tmp_path: Path) -> None:
    assert ferry("export", tmp_path / "x.tar", "--models", store.root).returncode == 2
    for words, kind in ((["-q"], "xterm"), (["--progress", "plain"], "xterm"), ([], "dumb")):
        with terminal("export", tmp_path / "x.tar", "--models", store.root, *words, TERM=kind) as opened:
            assert opened.wait() == 2
            assert "no model was named" in opened.text


@pytest.fixture
def later(tmp_path: Path) -> str:
    """A folder for PYTHONPATH, in which two hours have passed: what is an hour old may be pruned."""
    (tmp_path / "later").mkdir()
    code = "import time\nnow = time.time\ntime.time = lambda: now() + 7200\n"
    (tmp_path / "later/sitecustomize.py").write_text(code)
    return str(tmp_path / "later")


def test_prune_asks_what_goes(store: StoreBuilder, later: str) -> None:
    orphans = [store.blob_path(store.blob(b"orphan %d" % number * 1000)) for number in range(3)]
    with terminal("prune", "--models", store.root, PYTHONPATH=later) as opened:
        opened.wait_for(lambda: "3 marked, 24.0 kB" in opened.text and "Enter goes" in opened.text)
        shown = opened.text
        assert all(f"[x] blobs/{path.name[:19]}" in shown for path in orphans) and "OWN" not in shown
        assert "a blob that no model names" in shown
        # The first one stays.
        opened.type(" \r")
        assert opened.wait() == 0
        assert "2 files, 16.0 kB put into" in opened.text and "--undo" in opened.text
    assert sum(path.exists() for path in orphans) == 1
    assert ferry("prune", "--undo", "--models", store.root).returncode == 0
    assert all(path.exists() for path in orphans)


def test_who_gives_up_sees_what_would_go(store: StoreBuilder, later: str) -> None:
    orphan = store.blob_path(store.blob(b"orphan" * 1000))
    with terminal("prune", "--models", store.root, PYTHONPATH=later, columns=100) as opened:
        opened.wait_for(lambda: "Enter goes" in opened.text)
        opened.type("\x03")
        assert opened.wait() == 0
        assert "1 file, 6.0 kB would go into" in opened.text and "--yes" in opened.text
    assert orphan.exists()
