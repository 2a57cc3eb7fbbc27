"""The grammar of words, as a table: what each means where nothing, a file or a folder of that name is here."""

from __future__ import annotations

from pathlib import Path

import pytest

from ollama_ferry.api import Means, meaning_of_word, place_and_models
from ollama_ferry.errors import UsageError
from support import needs
from support.command_line import assert_one_clear_error, ferry
from support.stores import StoreBuilder

M, P, A, F, H, S, U = (Means[n] for n in ("MODEL", "PATTERN", "ARCHIVE", "FOLDER", "HOST", "STREAM", "URL"))
# A word; what it means; what it means where a file of that name is here; and where a folder is.
WORDS = [
    ("-", S, S, S),
    ("qwen3", M, A, F),
    ("qwen3:8b", M, A, F),
    ("hf.co/org/repo:Q4_K_M", M, M, M),
    ("qwen*", P, A, F),
    ("qwen3:[48]b", P, A, F),
    ("x.tar.gz", A, A, F),
    ("x.TAR", A, A, F),
    ("x.zip", A, A, F),
    ("x.zip:latest", M, A, F),
    ("x.tar.zst.003", A, A, F),
    ("qwen3.ollamazip", A, A, F),
    ("backup.dat", M, A, F),
    ("stick", M, A, F),
    ("./stick", A, A, F),
    ("/nowhere/models", A, A, A),
    ("~/no models", A, A, A),
    (".", F, F, F),
    ("..", F, F, F),
    (r"C:\Users\me\x.tar", A, A, F),
    ("C:/Users/me/x.tar", A, A, A),
    (r".\x", A, A, F),
    ("user@server", H, A, F),
    ("user@2026.tar.gz", A, A, F),
    ("server:", H, A, F),
    ("server:/srv/models", H, H, H),
    ("server:~/models.tar.gz", H, H, H),
    ("ssh://me@server:22/srv", H, H, H),
    ("https://example.org/x.tar.gz", U, U, U),
    ("s3://bucket/x.tar.gz", U, U, U),
]


@pytest.mark.parametrize(("word", "nothing", "file", "folder"), WORDS, ids=[word for word, *_ in WORDS])
def test_what_a_word_means(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, word: str, nothing: Means, file: Means, folder: Means
) -> None:
    monkeypatch.chdir(tmp_path)
    assert meaning_of_word(word) is nothing
    assert meaning_of_word(word, bare=H) is (H if nothing is M else nothing)
    if "/" not in word and word not in (".", "..") and not (needs.ON_WINDOWS and set("*?:\\") & set(word)):
        (tmp_path / word).write_bytes(b"")
        assert meaning_of_word(word) is file
        (tmp_path / word).unlink()
        (tmp_path / word).mkdir()
        assert meaning_of_word(word) is folder


def test_one_place_and_its_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert place_and_models(["qwen3", "x.tar", "g*"]) == (("x.tar", A), ["qwen3", "g*"])
    assert place_and_models([]) == (None, [])
    for words in (["a.tar", "b.tar"], ["me@host", "a.tar"], ["https://example.org/x.tar"]):
        with pytest.raises(UsageError):
            place_and_models(words)


# Commands; the exit code; what is said. SRC is a store, x.tar an archive of it, copy a folder with that store.
SAID = [
    ("list qwen --models SRC", 0, ["qwen3:8b"]),
    ("list QWEN3:8 --models SRC", 0, ["qwen3:8b"]),
    ("list hf.co/* --models SRC", 0, ["hf.co/a/b:Q4"]),
    ("list * --models SRC", 0, ["qwen3:8b", "hf.co/a/b:Q4"]),
    ("list server --models SRC", 3, ["no model in SRC begins with 'server'", "list server:"]),
    ("list x.tar q*", 0, ["qwen3:8b"]),
    ("list copy", 0, ["qwen3:8b", "hf.co/a/b:Q4"]),
    ("show qwen3:8b ./copy", 0, ["copy/models/manifests"]),
    ("verify copy qwen3:8b", 0, ["qwen3:8b"]),
    ("verify backup.dat", 0, ["qwen3:8b", "hf.co/a/b:Q4"]),
    ("verify nothing.dat --models SRC", 3, ["no model nothing.dat:latest"]),
    ("verify empty", 3, ["holds no model"]),
    ("verify x.tar qwen3:8b", 2, ["as a whole"]),
    ("lock copy qwen3:8b", 0, ["qwen3:8b"]),
    ("import x.tar qwen3:8b none:1 --models new", 3, ["none:1"]),
    ("import x.tar me@host:/x --models new", 2, ["fetch me@host:/x"]),
    (
        "import https://example.org/x.tar --models new",
        2,
        ["curl -fL https://example.org/x.tar | ollama-ferry"],
    ),
    ("import x.tar nothing.tar --models new", 3, ["there is no file nothing.tar"]),
    ("import x.tar backup.dat none* --models new", 3, ["none*"]),
    ("import x.tar backup.dat --as one --models new", 2, ["one new name"]),
    ("fetch x.tar qwen3:8b --models new", 2, ["ollama-ferry import x.tar qwen3:8b"]),
    ("send qwen3:8b x.tar --models SRC", 2, ["ollama-ferry export qwen3:8b x.tar"]),
    ("send qwen3:8b https://example.org/ --models SRC", 2, ["no target"]),
    ("send --from x.tar ./new --models SRC", 2, ["a store and an archive"]),
]


@pytest.fixture
def here(source: StoreBuilder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    source.model("qwen3:8b")
    source.model("hf.co/a/b:Q4", [("model", b"others")])
    monkeypatch.chdir(tmp_path)
    assert ferry("export", "*", "x.tar", "--models", source.root).returncode == 0
    Path("backup.dat").hardlink_to("x.tar")
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy" / "models").symlink_to(source.root)
    (tmp_path / "empty").mkdir()
    return source.root


@pytest.mark.parametrize(("typed", "code", "said"), SAID, ids=[typed for typed, *_ in SAID])
def test_commands_read_words_alike(here: Path, tmp_path: Path, typed: str, code: int, said: list[str]) -> None:
    done = ferry(*(word.replace("SRC", str(here)) for word in typed.split()))
    if code:
        assert_one_clear_error(done, code)
    assert done.returncode == code, done.stderr
    assert all(part.replace("SRC", str(here)) in done.stdout + done.stderr for part in said)
    # What can't be meant is told before anything is written.
    assert not (tmp_path / "new").exists()


def test_a_folder_here_is_no_host(here: Path, tmp_path: Path) -> None:
    """``send M stick``, where a folder ``stick`` is, opens no ssh; ``fetch stick M`` neither."""
    (tmp_path / "stick").mkdir()
    for _ in range(2):
        done = ferry("send", "qwen3:8b", "stick", "--models", here, "--ssh", "/nowhere/ssh")
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "stick" / "manifests" / "registry.ollama.ai" / "library" / "qwen3" / "8b").is_file()
    done = ferry("fetch", "stick", "qwen3:8b", "--models", tmp_path / "t", "--ssh", "/nowhere/ssh")
    assert done.returncode == 0, done.stderr
    # A folder with the name of a model is a target where it stands last, and the model before.
    (tmp_path / "hf.co").mkdir()
    (tmp_path / "qwen3:8b").mkdir()
    assert ferry("send", "qwen3:8b", "qwen3:8b", "--models", here).returncode == 0
    assert (tmp_path / "qwen3:8b" / "blobs").is_dir()
