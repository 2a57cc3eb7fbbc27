"""``import --via-server``: a server that takes the models from us, by its API alone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from ollama_ferry.engine.events import Advanced, Event, Noted
from ollama_ferry.engine.run import Run
from ollama_ferry.jobs.import_choices import ImportOptions
from ollama_ferry.jobs.via_server import import_via_server
from ollama_ferry.model.names import ModelName
from ollama_ferry.ollama.api import ServerApi
from ollama_ferry.ollama.server import ServerAddress
from support.command_line import COMMAND, assert_one_clear_error, ferry
from support.server_double import ServerDouble, serving_double
from support.stores import StoreBuilder, weights


@pytest.fixture
def double() -> Iterator[ServerDouble]:
    with serving_double() as server:
        yield server


@pytest.fixture
def archive(source: StoreBuilder, tmp_path: Path) -> Path:
    shared = weights(1_500_000)
    source.model("qwen3:8b", [("model", shared), ("template", b"{{ .Prompt }}")])
    source.model("qwen3:14b", [("model", shared), ("template", b"User: {{ .Prompt }}")])
    # The same namespace, model and tag on two hosts.
    source.model("hf.co/org/repo:Q4_K_M", [("model", weights(1000, 3))])
    source.model("other.co/org/repo:Q4_K_M", [("model", weights(1000, 4))])
    path = tmp_path / "models.tar.gz"
    assert ferry("export", "--models", source.root, "--all", path).returncode == 0
    return path


def give(server: ServerDouble, archive: Path, *more: str) -> subprocess.CompletedProcess[str]:
    # A proxy of the environment must not be asked for 127.0.0.1.
    return ferry("import", archive, "--via-server", *more, OLLAMA_HOST=server.address, HTTP_PROXY="http://127.0.0.1:9")


def listed(server: ServerDouble) -> set[str]:
    return set(server.manifests)


def test_every_model_arrives_with_its_bytes_and_nothing_temporary_stays(
    double: ServerDouble, source: StoreBuilder, archive: Path
) -> None:
    done = give(double, archive)
    assert done.returncode == 0, done.stderr
    names = ("qwen3:8b", "qwen3:14b", "hf.co/org/repo:Q4_K_M", "other.co/org/repo:Q4_K_M")
    assert double.manifests == {ModelName.parse(name).path: source.manifest_path(name).read_bytes() for name in names}
    assert done.stdout.count("imported ") == 4
    again = give(double, archive)
    assert again.returncode == 0 and again.stdout.count("is there already, the same") == 4
    # Each once, and once more when it has its name.
    assert sum("/api/pull" in line for line in double.asked) == 8


def test_a_part_under_another_name(double: ServerDouble, source: StoreBuilder, archive: Path) -> None:
    done = give(double, archive, "--model", "qwen3:8b", "--as", "qwen3:mine", "--json")
    assert done.returncode == 0, done.stderr
    assert listed(double) == {"registry.ollama.ai/library/qwen3/mine"}
    model = json.loads(done.stdout)["models"][0]
    assert model["name"] == "qwen3:mine" and model["manifest_digest"] == model["manifest_digest_in_archive"]


def test_another_model_of_that_name_stays_unless_forced(double: ServerDouble, archive: Path) -> None:
    double.manifests["registry.ollama.ai/library/qwen3/8b"] = b"{}"
    assert_one_clear_error(give(double, archive, "--model", "qwen3:8b"), 7)
    assert double.manifests["registry.ollama.ai/library/qwen3/8b"] == b"{}"
    assert not [line for line in double.asked if "/api/pull" in line]
    assert give(double, archive, "--model", "qwen3:8b", "--force").returncode == 0
    assert double.manifests["registry.ollama.ai/library/qwen3/8b"] != b"{}"


@pytest.mark.parametrize(
    ("fault", "code", "said"),
    [
        ("error", 1, "max retries exceeded"),
        ("break", 8, "broke off in the middle"),
        ("copy", 1, "no space left on device"),
        ("forget", 1, "does not list"),
        ("garbage", 1, "it is no Ollama"),
        ("long", 1, "in lines of over"),
        ("escape", 1, r"could not pull"),
    ],
)
def test_what_fails_there_is_one_clear_error(
    double: ServerDouble, archive: Path, fault: str, code: int, said: str
) -> None:
    double.fault = fault
    done = give(double, archive, "--model", "qwen3:8b")
    assert_one_clear_error(done, code)
    assert said in done.stderr
    # Nothing temporary: at most the model itself is left.
    assert listed(double) <= {"registry.ollama.ai/library/qwen3/8b"}
    double.fault = ""
    assert give(double, archive, "--model", "qwen3:8b").returncode == 0


def test_a_server_that_writes_manifests_anew_is_told(
    double: ServerDouble, source: StoreBuilder, archive: Path, tmp_path: Path
) -> None:
    # Bytes that are written otherwise when somebody parses them and writes them again.
    spaced = json.dumps(json.loads(source.manifest_path("qwen3:8b").read_bytes()), indent=3).encode()
    source.manifest("qwen3:8b", spaced)
    path = tmp_path / "spaced.tar"
    assert ferry("export", "--models", source.root, "qwen3:8b", path).returncode == 0
    double.rewrites = True
    done = give(double, path)
    assert done.returncode == 0, done.stderr
    assert "writes manifests anew" in done.stderr
    again = give(double, path)
    assert again.returncode == 0 and "is there already, the same" in again.stdout


def test_what_a_killed_import_has_left_is_removed(double: ServerDouble, archive: Path) -> None:
    double.manifests["127.0.0.1:9/ollama-ferry-0/qwen3/8b"] = b"{}"
    # Somebody else's import, which is at work: there is who serves it.
    at_work = f"{double.address}/ollama-ferry-0/qwen3/8b"
    double.manifests[at_work] = b"{}"
    assert give(double, archive, "--model", "qwen3:8b").returncode == 0
    assert listed(double) == {"registry.ollama.ai/library/qwen3/8b", at_work}


def test_a_pull_that_is_interrupted_leaves_no_temporary_name(double: ServerDouble, archive: Path) -> None:
    double.fault = "slow"
    environ = {**os.environ, "OLLAMA_HOST": double.address}
    command = [*COMMAND, "import", str(archive), "--via-server", "--model", "qwen3:8b"]
    process = subprocess.Popen(command, env=environ, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert double.slow.wait(120)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 130 and "Traceback" not in said
    assert not listed(double)


def interrupted(double: ServerDouble, archive: Path, monkeypatch: pytest.MonkeyPatch, *, twice: bool) -> list[str]:
    """Import, with Ctrl-C when the server has all bytes, and again while it hashes; return the notes."""
    double.fault = "hashing"
    notes: list[str] = []

    def observe(event: Event) -> None:
        if isinstance(event, Advanced) and len(double.blobs) == 3:
            raise KeyboardInterrupt
        if isinstance(event, Noted):
            notes.append(event.text)
            if "hashing" in event.text and twice:
                raise KeyboardInterrupt
            assert not listed(double)
            double.hashed.set()

    # How long the machine takes to read what has come is no part of this.
    monkeypatch.setattr("ollama_ferry.ollama.api._LOOK", 120)
    server = ServerApi(ServerAddress.parse(double.address))
    with pytest.raises(KeyboardInterrupt):
        import_via_server(archive, server, ImportOptions(only=("qwen3:8b",)), run=Run(observe))
    return notes


def test_interrupt_while_the_server_hashes_waits_for_the_name_that_it_will_give(
    double: ServerDouble, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (note,) = interrupted(double, archive, monkeypatch, twice=False)
    assert "is hashing" in note and "/ollama-ferry-0/qwen3:ferry" in note
    assert not listed(double)


def test_second_interrupt_waits_no_longer_and_says_what_stays(
    double: ServerDouble, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, note = interrupted(double, archive, monkeypatch, twice=True)
    assert "the next import through the server removes it" in note


@pytest.mark.parametrize("name", ["mine:local", "x:cloud", "x:8b-cloud", "mine:LOCAL"])
def test_tags_that_mean_something_else_to_a_server(
    double: ServerDouble, source: StoreBuilder, tmp_path: Path, name: str
) -> None:
    source.model(name, [("model", b"the very one")])
    source.model(f"{name.partition(':')[0]}:latest", [("model", b"another one")])
    path = tmp_path / "models.tar"
    assert ferry("export", "--models", source.root, "--all", path).returncode == 0
    done = give(double, path, "--model", name)
    assert done.returncode == 0, done.stderr
    assert double.manifests == {ModelName.parse(name).path: source.manifest_path(name).read_bytes()}


def test_what_another_import_prunes_meanwhile_is_pulled_again(double: ServerDouble, archive: Path) -> None:
    double.pruned, double.denies, double.loses = 3, 2, True
    done = give(double, archive, "--model", "qwen3:8b", "-v")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("trying again") == 3
    assert listed(double) == {"registry.ollama.ai/library/qwen3/8b"}
    assert len(double.blobs) == 3


def test_what_is_pruned_again_and_again_is_one_clear_error(double: ServerDouble, archive: Path) -> None:
    double.pruned = 10**6
    done = give(double, archive, "--model", "qwen3:8b")
    assert_one_clear_error(done, 1)
    assert "no such file or directory" in done.stderr and not listed(double)
    assert sum("/api/pull" in line for line in double.asked) == 8


@pytest.fixture
def tensors(source: StoreBuilder, tmp_path: Path) -> Path:
    # Sorted before the others, a plain one must wait for the answer about this one.
    source.model("a-plain:1", [("model", b"weights")])
    layers = [{**source.layer("tensor", weights(1000, seed)), "name": f"layer.{seed}"} for seed in (1, 2)]
    config = {**source.layer("config", b'{"model_format":"safetensors"}'), "mediaType": "application/json"}
    source.manifest("tensors:1", json.dumps({"schemaVersion": 2, "config": config, "layers": layers}).encode())
    path = tmp_path / "tensors.tar"
    assert ferry("export", "--models", source.root, "--all", path).returncode == 0
    return path


@pytest.mark.parametrize("why", ["drops the names of tensors", "requires MLX support"])
def test_model_of_tensors_goes_to_no_server_that_takes_none(double: ServerDouble, tensors: Path, why: str) -> None:
    double.rewrites, double.fault = "names" in why, "mlx" if "MLX" in why else ""
    done = give(double, tensors)
    assert_one_clear_error(done, 1)
    assert why in done.stderr and "tensors:1" in done.stderr and not listed(double)
    # No byte of a model has moved, but those of a model of no use.
    assert len(double.blobs) <= 2 and max(map(len, double.blobs.values()), default=0) < 100
    assert give(double, tensors, "--model", "a-plain:1").returncode == 0


def test_model_of_tensors_is_taken_with_its_names(double: ServerDouble, source: StoreBuilder, tensors: Path) -> None:
    done = give(double, tensors)
    assert done.returncode == 0, done.stderr
    assert double.manifests["registry.ollama.ai/library/tensors/1"] == source.manifest_path("tensors:1").read_bytes()
    assert len(double.manifests) == 2


def test_no_server_is_told(archive: Path) -> None:
    done = ferry("import", archive, "--via-server", OLLAMA_HOST="127.0.0.1:9")
    assert_one_clear_error(done, 8)
    assert "OLLAMA_HOST" in done.stderr


def test_what_goes_not_together_is_refused(double: ServerDouble, archive: Path, tmp_path: Path) -> None:
    for more in (["--dry-run"], ["--models", str(tmp_path)], ["--verify-existing"], [str(archive)]):
        assert_one_clear_error(give(double, archive, *more), 2)
    assert_one_clear_error(ferry("import", archive, "--listen", "127.0.0.1:0"), 2)


def test_a_packed_archive_without_an_index_says_what_to_do(
    double: ServerDouble, source: StoreBuilder, tmp_path: Path
) -> None:
    source.model("qwen3:8b")
    path = tmp_path / "plain.tar.gz"
    subprocess.run(["tar", "-czf", path, "-C", source.root, "blobs", "manifests"], check=True)
    done = give(double, path)
    assert_one_clear_error(done, 2)
    assert "no index" in done.stderr
