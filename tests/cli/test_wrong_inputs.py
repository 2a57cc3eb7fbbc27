"""What a tired person types, what is said to it, and the exit code: one line each."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from support.command_line import assert_one_clear_error, ferry
from support.stores import StoreBuilder, tree, weights

# What was typed; the exit code; what is said, in parts. STORE has qwen3:8b, :14b, deepseek-r1:8b and me/mine:latest.
TYPED: list[tuple[str, int, list[str]]] = [
    ("ls", 2, ["No such command 'ls'", "Did you mean 'list'?"]),
    ("backup qwen3:8b", 2, ["Did you mean 'export'?"]),
    ("restore x.tar", 2, ["Did you mean 'import'?"]),
    ("exprot qwen3:8b", 2, ["Did you mean 'export'?"]),
    ("run qwen3:8b", 2, ["`ollama run` is Ollama's own"]),
    ("rm qwen3:8b", 2, ["`ollama rm` is Ollama's own"]),
    ("help exprot", 2, ["Did you mean 'export'?"]),
    ("export --modles STORE qwen3:8b", 2, ["No such option '--modles'", "--models"]),
    ("export", 2, ["no model was named", "ollama-ferry list"]),
    ("export qwen3:8 ./x.tar", 3, ["no model qwen3:8 ", "Did you mean qwen3:8b, qwen3:14b?"]),
    ("export qwen", 3, ["no model qwen:latest", "Did you mean qwen3"]),
    ("export qwne3:8b", 3, ["Did you mean qwen3:8b, qwen3:14b?"]),
    ("export deepseek", 3, ["Did you mean deepseek-r1:8b?"]),
    ("export mine", 3, ["Did you mean me/mine:latest?"]),
    ("export llama3", 3, ["no model llama3:latest", "ollama-ferry list --models STORE"]),
    ("export qwen3:8b out", 3, ["no model out:latest", "If out is to be the archive: out.tar.gz"]),
    ("export qwen3:8b ./new", 2, ["./new/models.tar.gz", "ollama-ferry send qwen3:8b ./new"]),
    ("export qwen3:8b x.zip", 2, ["no archive that export writes", ".tar.gz"]),
    ("export qwen3:8b missing/x.tar", 2, ["its folder is not there", "mkdir -p missing"]),
    ("export qwen3:8b qwen3:14b", 2, ["2 models need the archive's name", "./models.tar.gz"]),
    ("export qwen3:8b qwen3:14b folder", 2, ["2 models need the archive's name", "folder/models.tar.gz"]),
    ("export qwen3:8b s3://bucket/x.tar.gz", 2, ["export qwen3:8b - | aws s3 cp - s3://bucket/x.tar.gz"]),
    ("export qwen3:8b https://host/x.tar", 2, ["export qwen3:8b - | curl -T - https://host/x.tar"]),
    (
        "export qwen3:8b me@host:/x.tar.gz",
        2,
        ["is on another one", "ollama-ferry send qwen3:8b me@host", "- | ssh me@host 'cat > /x.tar.gz'"],
    ),
    ("export --all qwen3:8b x.tar", 2, ["--all exports every model"]),
    ("export '*' x.tar y.tar", 2, ["'x.tar' is an archive, and so is 'y.tar'"]),
    ("import", 2, ["no archive was named"]),
    ("import qwen3:8b", 3, ["there is no file qwen3:8b", "fetch HOST qwen3:8b", "pull qwen3:8b"]),
    ("import ./nothing.tar.gz", 3, ["there is no file nothing.tar.gz"]),
    ("import three.tar --as foo", 2, ["several models of three.tar", "--model"]),
    ("import three.tar ./second", 2, ["is it the folder", "ollama-ferry import three.tar --models second"]),
    ("import three.tar --to ./second", 2, ["No such option '--to'", "'--models'"]),
    ("export qwen3:8b --overwrite", 2, ["No such option '--overwrite'", "'--force'"]),
    ("import empty.tar", 3, ["holds no model"]),
    ("send qwen3:8b", 2, ["models and where they go"]),
    ("send ./stick", 2, ["models and where they go"]),
    ("send qwen3:8b qwen3:14b", 2, ["no target was named"]),
    ("serve nothing", 3, ["no model nothing:latest"]),
    ("show qwen3:*", 2, ["show takes one model"]),
    ("list --models STORE/blobs", 3, ["is not a store"]),
    ("verify --models /nowhere", 3, ["/nowhere"]),
    ("export qwen3:8b --models ''", 2, ["the name is empty"]),
    ("export ../../etc/passwd x.tar", 2, ["is not a model name"]),
    ("fetch", 2, ["Missing argument 'SOURCE'"]),
    ("push qwen3:8b", 2, ["push takes models and a registry"]),
    ("completion tcsh", 2, ["'tcsh' is not one of"]),
]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> StoreBuilder:
    builder = StoreBuilder(tmp_path_factory.mktemp("typed") / "models")
    for number, name in enumerate(["qwen3:8b", "qwen3:14b", "deepseek-r1:8b", "me/mine:latest"]):
        builder.model(name, [("model", weights(1000, number))])
    return builder


@pytest.fixture(autouse=True)
def here(store: StoreBuilder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand in a folder with a folder in it, an archive of three models, and an empty one."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    if not (store.root.parent / "three.tar").exists():
        three = ("qwen3:8b", "qwen3:14b", "deepseek-r1:8b")
        assert ferry("export", "--models", store.root, *three, store.root.parent / "three.tar").returncode == 0
    (tmp_path / "three.tar").symlink_to(store.root.parent / "three.tar")
    (tmp_path / "empty.tar").write_bytes(bytes(10240))


@pytest.mark.parametrize(("typed", "code", "said"), TYPED, ids=[typed for typed, *_ in TYPED])
def test_a_slip_is_answered(store: StoreBuilder, tmp_path: Path, typed: str, code: int, said: list[str]) -> None:
    before = tree(tmp_path)
    words = [word.replace("STORE", str(store.root)) for word in shlex.split(typed)]
    done = ferry(*words, OLLAMA_MODELS=str(store.root))
    assert_one_clear_error(done, code)
    for part in said:
        assert part.replace("STORE", str(store.root)) in done.stderr
    # An unlike name is never proposed.
    assert "mine" in typed or "me/mine" not in done.stderr
    assert done.stdout == "" and tree(tmp_path) == before


def test_programs_get_a_line_of_json_with_the_same_code(store: StoreBuilder) -> None:
    for words, kind in [
        (("ls",), "UsageError"),
        (("export", "qwen"), "ModelNotFound"),
        (("import", "x.tar"), "NotFound"),
    ]:
        done = ferry(*words, "--json", OLLAMA_MODELS=str(store.root))
        line = json.loads(done.stderr.splitlines()[-1])
        assert (line["event"], line["kind"], line["exit_code"]) == ("error", kind, done.returncode)
        assert line["error"] and line["hint"]
