"""What people type in the way of another shell or system: nothing happens, and the answer says what to type."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from ollama_ferry.cli.slips import require_typed_here
from ollama_ferry.errors import UsageError
from support.command_line import assert_one_clear_error, ferry
from support.stores import StoreBuilder, tree, weights

# What was typed; on which systems it is a slip; what is said, and what is advised.
SLIPS: list[tuple[str, tuple[str, ...], str, str]] = [
    (r"C:\Users\me\models", ("linux", "darwin"), "is a path of Windows", "Copy it here"),
    ("C:/Users/me/models", ("linux", "darwin"), "is a path of Windows", "Copy it here"),
    (r".\x.tar.gz", ("linux", "darwin"), "is a path of Windows", "Type: ./x.tar.gz"),
    (r"..\up\x.tar.gz", ("linux", "darwin"), "is a path of Windows", "Type: ../up/x.tar.gz"),
    (r"\\server\share\x.tar", ("linux", "darwin"), "is a path of Windows", "Mount the share"),
    (r"D:" "\\", ("linux", "darwin"), "is a path of Windows", "Copy it here"),
    ("'x.tar.gz'", ("linux", "darwin"), "came with its quotes", "Type: x.tar.gz"),
    ("'x.tar.gz'", ("win32",), "to cmd a ' is a letter", "Type: x.tar.gz"),
    ('"my models.tar"', ("linux", "darwin"), "came with its quotes", "Type: 'my models.tar'"),
    ('"my models.tar"', ("win32",), "came with its quotes", 'Type: "my models.tar"'),
    (r"C:\my models" '"', ("win32",), "ends in a quote", r'"C:\my models"'),
    (r"%USERPROFILE%\.ollama\models", ("win32", "linux"), "%USERPROFILE%, which the shell did not fill in", "fills in"),
    (r"$env:USERPROFILE\.ollama", ("win32",), "$env:USERPROFILE, which", "cmd %NAME%"),
    ("$HOME/models", ("linux", "darwin"), "$HOME, which", "in double ones"),
    ("${STORE}", ("linux", "darwin"), "${STORE}, which", "in double ones"),
    ("\u201cx.tar.gz\u201d", ("linux", "win32"), "a curly quote", "Type straight ones"),
    ("\u2018qwen3:8b\u2019", ("linux", "win32"), "a curly quote", "Type straight ones"),
    ("file:///C:/my%20x.tar", ("win32",), "is an address", 'Type: "C:/my x.tar"'),
    ("file:///tmp/x.tar", ("linux",), "is an address", "Type: /tmp/x.tar"),
    ("file://localhost/tmp/x.tar", ("linux",), "is an address", "Type: /tmp/x.tar"),
]
WORDS = [
    "qwen3:8b", "file:8b", "hf.co/org/repo:Q4_K_M", "qwen3:*", "*/*/*:*", "library/*=mine/*", "me@host",
    "me@host:/srv/models", "host:~/models", "ssh://me@host:22/srv",
    "https://host/a%20b%2Fc%", "registry.lab:5000/models", "-", ".", "..",
    "./x.tar", "/srv/ollama/models", "~/x.tar", "x.tar.gz", "a name with blanks.tar", "50%.tar", "it's.tar", "D:",
]  # fmt: skip


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("word", "platform", "said", "advised"),
    [
        (word, platform, said, advised)
        for word, platforms, said, advised in SLIPS
        for platform in platforms
        # Which folders are there is found out by this system's own rules of paths.
        if platform == "win32" or sys.platform != "win32"
    ],
)
def test_a_word_for_another_shell_is_told(word: str, platform: str, said: str, advised: str) -> None:
    with pytest.raises(UsageError) as raised:
        require_typed_here(word, platform, in_wsl=False)
    assert said in str(raised.value) and advised in raised.value.hint


@pytest.mark.parametrize("platform", ["linux", "darwin", "win32"])
@pytest.mark.parametrize("word", WORDS)
def test_other_words_are_left_alone(word: str, platform: str) -> None:
    require_typed_here(word, platform)


@pytest.mark.parametrize("word", [r"C:\models", r".\x.tar", r"..\x.tar", r"\\server\share\x.tar", "D:\\", r"\x.tar"])
def test_paths_of_windows_are_at_home_there(word: str) -> None:
    require_typed_here(word, "win32")


def test_below_windows_its_drives_are_named() -> None:
    with pytest.raises(UsageError) as raised:
        require_typed_here(r"C:\Users\me\my models", "linux", in_wsl=True)
    assert raised.value.hint == "Type: '/mnt/c/Users/me/my models'"


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such names")
def test_what_is_there_under_that_name_is_meant(tmp_path: Path) -> None:
    (tmp_path / r".\x.tar").touch()
    require_typed_here(r".\x.tar")


@pytest.mark.parametrize("folder", ["$share", "%data%", "Anna\u2019s stick"])
def test_a_new_file_in_a_folder_that_is_called_so_is_meant(folder: str) -> None:
    os.mkdir(folder)
    require_typed_here(f"{folder}/x.tar.gz")


# Typed at a command; %s is the platform's own spelling. The exit code is 2 or 3, and nothing is made.
TYPED = [
    ["export", "qwen3:8b", "'x.tar.gz'"],
    ["export", "qwen3:8b", r"%USERPROFILE%\x.tar.gz"],
    ["export", "\u201cqwen3:8b\u201d", "x.tar.gz"],
    ["import", '"x.tar.gz"'],
    ["import", "*.tar.gz"],
    ["import", "file:///C:/x.tar.gz"],
    ["list", r"$env:USERPROFILE\.ollama\models"],
    ["list", "--models", r"%OLLAMA_MODELS%\models"],
    ["verify", r"C:\no such folder\x.tar.gz" '"'],
    ["send", "qwen3:8b", r"%TEMP%\stick"],
    ["fetch", "\u201cme@host\u201d", "qwen3:8b"],
    ["serve", "'qwen3:8b'"],
    ["pull", "qwen3:8b", "--models", r"%OLLAMA_MODELS%"],
    ["lock", "-o", "'x.lock'"],
]
if sys.platform != "win32":
    TYPED += [
        ["export", "qwen3:8b", r"C:\out\x.tar.gz"],
        ["export", "qwen3:8b", r".\x.tar.gz"],
        ["send", "qwen3:8b", "D:\\"],
        ["list", r"C:\Users\me\models"],
        ["import", r"\\server\share\x.tar.gz"],
        ["kit", r".\stick"],
    ]


@pytest.mark.parametrize("words", TYPED, ids=" ".join)
def test_commands_make_nothing_of_them(words: list[str], source: StoreBuilder, tmp_path: Path) -> None:
    source.model("qwen3:8b", [("model", weights(1000))])
    before = tree(tmp_path)
    done = ferry(*words, OLLAMA_MODELS=str(source.root))
    assert_one_clear_error(done, 3 if words == ["import", "*.tar.gz"] else 2)
    assert done.stdout == "" and tree(tmp_path) == before


def test_import_takes_the_files_of_a_pattern(source: StoreBuilder, tmp_path: Path) -> None:
    """The shells of Windows leave it as it is."""
    for number, name in enumerate(["qwen3:8b", "qwen3:14b"]):
        source.model(name, [("model", weights(1000, number))])
        assert ferry("export", name, f"{number}.tar.gz", "--models", source.root).returncode == 0
    done = ferry("import", "*.tar.gz", "--models", tmp_path / "target")
    assert done.returncode == 0, done.stderr
    assert "imported qwen3:8b" in done.stdout and "imported qwen3:14b" in done.stdout
