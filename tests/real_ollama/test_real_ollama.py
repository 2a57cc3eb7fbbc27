"""Exports against a real Ollama: what it made, what it lists, and what it reads back."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest

from ollama_ferry.jobs.sample import sample_gguf, write_sample_store
from support.command_line import COMMAND, ferry
from support.model_names import INVALID, VALID
from support.oci_registries import docker_registry, log_in
from support.ollama_server import BINARY, Ollama, registry, serving
from support.sshd import Sshd

pytestmark = [
    pytest.mark.ollama,
    pytest.mark.skipif(not BINARY, reason="no Ollama: set OLLAMA_BIN or put ollama on PATH"),
]

MODELFILE = """FROM ./sample.gguf
TEMPLATE "User: {{ .Prompt }} Assistant: "
SYSTEM be brief
PARAMETER num_predict 8
PARAMETER seed 7
LICENSE "MIT"
"""


def create(server: Ollama, folder: Path, name: str = "tiny:4m") -> str:
    (folder / "sample.gguf").write_bytes(sample_gguf())
    (folder / "Modelfile").write_text(MODELFILE)
    made = server.run("create", name, "-f", "Modelfile", cwd=folder)
    if "llama-quantize" in made.stderr:
        # A recent server without its engine takes no GGUF file, but makes a model from one that it has.
        (folder / "Modelfile").write_text(MODELFILE.replace("./sample.gguf", "ferry-sample:4m"))
        write_sample_store(server.models)
        made = server.run("create", name, "-f", "Modelfile", cwd=folder)
        for sample in ("ferry-sample:4m", "ferry-sample:4m-chat"):
            assert server.run("rm", sample).returncode == 0
    assert made.returncode == 0, made.stderr
    return name


def answer(server: Ollama, name: str) -> str | None:
    """Let a model answer; None where this build of Ollama has no engine."""
    status, said = server.ask(
        "/api/generate", {"model": name, "prompt": "hello", "stream": False, "options": {"temperature": 0}}
    )
    if status != 200:
        return None
    assert said["eval_count"] > 0
    return str(said["response"])


@pytest.mark.parametrize(("extension", "flags"), [(".tar.gz", "-xzf"), (".tar", "-xf"), (".tar.zst", "--zstd -xf")])
def test_restored_model_is_the_same_to_ollama(tmp_path: Path, extension: str, flags: str) -> None:
    models, target = tmp_path / "models", tmp_path / "target"
    with serving(models, tmp_path) as server:
        name = create(server, tmp_path)
        others = ["hf.co/org/repo:Q4_K_M", "localhost:5000/library/x:y"]
        for other in others:
            assert server.run("cp", name, other).returncode == 0
        source_list = server.listed()
        source_show = server.run("show", name).stdout
        source_answer = answer(server, name)
        archive = tmp_path / f"tiny{extension}"
        # Without --models: the server itself is asked where its store is.
        done = ferry("export", "-v", "TINY:4M", *others, archive, OLLAMA_HOST=server.address)
        assert done.returncode == 0, done.stderr
        assert f"store: {models}" in done.stderr and "uses it" in done.stderr
    assert set(source_list) == {name, *others}
    ours = {line.split()[0]: line.split()[1] for line in ferry("list", "--models", models).stdout.splitlines()[1:]}
    assert ours == source_list
    target.mkdir()
    subprocess.run(["tar", *flags.split(), archive, "-C", target], check=True)
    with serving(target, tmp_path) as server:
        assert server.listed() == source_list
        # Parameters are printed in the order of a Go map, which is none.
        assert sorted(server.run("show", name).stdout.splitlines()) == sorted(source_show.splitlines())
        assert answer(server, name) == source_answer


def test_engine_answers_from_a_restored_model(tmp_path: Path) -> None:
    models, target = tmp_path / "models", tmp_path / "target"
    with serving(models, tmp_path) as server:
        name = create(server, tmp_path)
        if answer(server, name) is None:
            pytest.skip("this build of Ollama has no engine to run a model with")
    assert ferry("export", name, tmp_path / "t.tar.gz", "--models", models).returncode == 0
    target.mkdir()
    subprocess.run(["tar", "-xzf", tmp_path / "t.tar.gz", "-C", target], check=True)
    with serving(target, tmp_path) as server:
        ran = server.run("run", name, "hello")
        assert ran.returncode == 0, ran.stderr
        assert answer(server, name)


@pytest.mark.parametrize("form", ["{}", "http://{}", "http://{}/", ' "{}" ', "port"])
def test_server_is_found_by_every_form_of_its_address(tmp_path: Path, form: str) -> None:
    with serving(tmp_path / "models", tmp_path) as server:
        create(server, tmp_path)
        port = server.address.rpartition(":")[2]
        host = f"0.0.0.0:{port}" if form == "port" else form.format(server.address)
        done = ferry("list", "-v", OLLAMA_HOST=host)
        assert f"store: {tmp_path / 'models'}" in done.stderr
        assert "tiny:4m" in done.stdout


def test_names_are_those_that_ollama_takes(tmp_path: Path) -> None:
    with serving(tmp_path / "models", tmp_path) as server:
        name = create(server, tmp_path)
        for text, path in VALID.items():
            status, said = server.ask("/api/copy", {"source": name, "destination": text})
            manifest = tmp_path / "models/manifests" / path
            # A file system takes 255 bytes a part, and Ollama's grammar 350.
            if max(map(len, path.split("/"))) <= 255:
                assert status == 200, (text, said)
                assert manifest.is_file(), text
        for text in INVALID:
            status, said = server.ask("/api/copy", {"source": name, "destination": text})
            assert status == 400, (text, status, said)


def made(tmp_path: Path, extension: str = ".tar.gz") -> tuple[Path, dict[str, str]]:
    """Let Ollama make two models that share weights; return an archive of them, and what Ollama lists."""
    models = tmp_path / "models"
    with serving(models, tmp_path) as server:
        name = create(server, tmp_path)
        assert server.run("cp", name, "hf.co/org/repo:Q4_K_M").returncode == 0
        listed = server.listed()
        verified = ferry("verify", OLLAMA_HOST=server.address)
        assert verified.returncode == 0, verified.stderr
        assert verified.stdout.count(" good") == 2
    archive = tmp_path / f"made{extension}"
    assert ferry("export", "--all", archive, "--models", models).returncode == 0
    return archive, listed


@pytest.mark.parametrize("extension", [".tar.gz", ".tar", ".tar.zst"])
def test_running_server_sees_an_import_at_once(tmp_path: Path, extension: str) -> None:
    archive, listed = made(tmp_path, extension)
    target = tmp_path / "target"
    with serving(target, tmp_path) as server:
        assert server.listed() == {}
        done = ferry("import", archive, "--models", target)
        assert done.returncode == 0, done.stderr
        assert server.listed() == listed
        renamed = ferry("import", archive, "--model", "tiny:4m", "--as", "Me/Mine:v1", OLLAMA_HOST=server.address)
        assert renamed.returncode == 0, renamed.stderr
        assert str(target) in renamed.stdout
        assert server.listed()["Me/Mine:v1"] == listed["tiny:4m"]
        assert server.run("show", "me/mine:V1").returncode == 0
        # Removing one leaves the blobs to the others, as ever.
        assert server.run("rm", "me/mine:v1").returncode == 0
        assert ferry("verify", "--models", target).returncode == 0
    with serving(target, tmp_path) as server:
        # Started anew, it has pruned nothing that is needed.
        assert server.listed() == listed
        assert answer(server, "tiny:4m") is None or server.run("run", "tiny:4m", "hello").returncode == 0
    assert ferry("verify", "--models", target).returncode == 0


def test_server_that_restarts_in_the_middle_prunes_nothing_of_an_import(tmp_path: Path) -> None:
    archive, listed = made(tmp_path)
    target = tmp_path / "target"
    data = archive.read_bytes()
    with serving(target, tmp_path):
        pass
    importing = subprocess.Popen([*COMMAND, "import", "-", "--models", str(target)], stdin=subprocess.PIPE)
    assert importing.stdin is not None
    for part in range(4):
        importing.stdin.write(data[part * len(data) // 4 : (part + 1) * len(data) // 4])
        importing.stdin.flush()
        with serving(target, tmp_path) as server:
            server.listed()
    importing.stdin.close()
    assert importing.wait(60) == 0
    with serving(target, tmp_path) as server:
        assert server.listed() == listed
    assert ferry("verify", "--models", target).returncode == 0


def test_server_that_starts_at_any_moment_of_an_import_loses_nothing(tmp_path: Path) -> None:
    archive, listed = made(tmp_path)
    for moment in range(12):
        target = tmp_path / f"target-{moment}"
        # Old files that no manifest names are what a server prunes; one of them is a blob that the import counts on.
        (target / "blobs").mkdir(parents=True)
        (target / "manifests").mkdir()
        blob = next((tmp_path / "models/blobs").iterdir())
        copy = target / "blobs" / blob.name
        copy.write_bytes(blob.read_bytes())
        os.utime(copy, (1_000_000_000, 1_000_000_000))
        importing = subprocess.Popen([*COMMAND, "import", archive, "--models", target])
        time.sleep(moment * 0.03)
        with serving(target, tmp_path) as server:
            assert importing.wait(60) == 0
            assert server.listed() == listed, moment
        assert ferry("verify", "--models", target).returncode == 0, moment


def test_ollama_makes_models_from_an_imported_one(tmp_path: Path) -> None:
    archive, listed = made(tmp_path)
    target = tmp_path / "target"
    assert ferry("import", archive, "--models", target).returncode == 0
    with serving(target, tmp_path) as server:
        # Made from an imported model, which reads its blobs through Ollama's own code.
        (tmp_path / "Modelfile").write_text("FROM tiny:4m\nSYSTEM be long\n")
        made_from = server.run("create", "derived", "-f", "Modelfile", cwd=tmp_path)
        assert made_from.returncode == 0, made_from.stderr
        assert set(server.listed()) == {*listed, "derived:latest"}
    assert ferry("verify", "derived", "--models", target).returncode == 0


def test_store_made_by_pull_verifies_clean_and_travels(tmp_path: Path) -> None:
    archive, _ = made(tmp_path)
    pulled, target = tmp_path / "pulled", tmp_path / "target"
    with registry(tmp_path / "models") as address, serving(pulled, tmp_path) as server:
        name = f"{address}/library/tiny:4m"
        done = server.run("pull", "--insecure", f"http://{name}")
        assert done.returncode == 0, done.stderr
        # Up to 0.12 a pull writes the manifest anew, and the ID changes; later ones keep the registry's bytes.
        pulled_id = server.listed()[name]
        verified = ferry("verify", OLLAMA_HOST=server.address)
        assert verified.returncode == 0 and verified.stdout.count(" good") == 1, verified.stderr
        assert ferry("doctor", "--models", pulled).returncode == 0
    # What was pulled takes the blobs of what is imported beside it, and the other way round.
    assert ferry("import", archive, "--models", pulled).returncode == 0
    assert ferry("export", name, tmp_path / "pulled.tar.gz", "--models", pulled).returncode == 0
    assert ferry("import", tmp_path / "pulled.tar.gz", "--models", target, "--as", "tiny:4m").returncode == 0
    with serving(target, tmp_path) as server:
        assert server.listed() == {"tiny:4m": pulled_id}


def test_server_at_the_far_end_of_ssh_sees_what_was_sent(tmp_path: Path, sshd: Sshd) -> None:
    _, listed = made(tmp_path)
    far, back = tmp_path / "far", tmp_path / "back"
    with serving(far, tmp_path) as server:
        done = ferry("send", "--models", tmp_path / "models", "--ssh", sshd.ssh, "*/*/*:*", f"root@there:{far}")
        assert done.returncode == 0, done.stderr
        assert server.listed() == listed
        assert server.run("show", "tiny:4m").returncode == 0
        got = ferry("fetch", f"root@there:{far}", "tiny:4m", "--ssh", sshd.ssh, "--models", back)
        assert got.returncode == 0, got.stderr
    with serving(back, tmp_path) as server:
        assert server.listed() == {"tiny:4m": listed["tiny:4m"]}


def test_pull_from_a_private_registry_where_ollama_can_not(tmp_path: Path) -> None:
    _, listed = made(tmp_path)
    target = tmp_path / "target"
    with docker_registry(tmp_path / "registry", tls=True, login=True) as there, serving(target, tmp_path) as server:
        environ = {"DOCKER_CONFIG": str(log_in(there, tmp_path / "docker"))}
        name = f"{there.address}/models/tiny:4m"
        words: list[str | Path] = [
            "push",
            "tiny:4m",
            f"{there.address}/models",
            "--models",
            tmp_path / "models",
            *there.options,
        ]
        assert ferry(*words, **environ).returncode == 0
        # Ollama trusts the system's authorities only, and knows no logins but its own.
        by_ollama = server.run("pull", name)
        assert by_ollama.returncode != 0 and server.listed() == {}
        words = ["pull", name, "--models", target, *there.options]
        done = ferry(*words, **environ)
        assert done.returncode == 0, done.stderr
        done = ferry(*words, "--as", "tiny:4m", **environ)
        assert done.returncode == 0, done.stderr
        assert server.listed() == {name: listed["tiny:4m"], "tiny:4m": listed["tiny:4m"]}
        assert server.run("show", "tiny:4m").returncode == 0
    with serving(target, tmp_path) as server:
        # Started anew, it has pruned nothing that is needed.
        assert set(server.listed()) == {name, "tiny:4m"}
    assert ferry("verify", "--models", target).returncode == 0


def test_pull_straight_into_an_archive_for_ollama(tmp_path: Path) -> None:
    _, listed = made(tmp_path)
    target = tmp_path / "target"
    target.mkdir()
    with registry(tmp_path / "models") as address:
        # The imitation of Ollama's own registry.
        words: list[str | Path] = [
            "pull",
            f"{address}/library/tiny:4m",
            "--as",
            "tiny:4m",
            tmp_path / "tiny.tar.gz",
            "--insecure",
        ]
        done = ferry(*words)
        assert done.returncode == 0, done.stderr
    subprocess.run(["tar", "-xzf", tmp_path / "tiny.tar.gz", "-C", target], check=True)
    with serving(target, tmp_path) as server:
        assert server.listed() == {"tiny:4m": listed["tiny:4m"]}


def test_pull_from_docker_registry_where_ollama_can_not(tmp_path: Path) -> None:
    _, listed = made(tmp_path)
    target = tmp_path / "target"
    with docker_registry(tmp_path / "registry") as there, serving(target, tmp_path) as server:
        words: list[str | Path] = [
            "push",
            "tiny:4m",
            f"{there.address}/models",
            "--models",
            tmp_path / "models",
            "--insecure",
        ]
        assert ferry(*words).returncode == 0
        name = f"{there.address}/models/tiny:4m"
        # Ollama wants a Location in the answer for each blob, and docker-registry has none to give.
        by_ollama = server.run("pull", "--insecure", f"http://{name}")
        assert by_ollama.returncode != 0 and "no Location header" in by_ollama.stderr and server.listed() == {}
        assert ferry("pull", name, "--models", target, "--insecure").returncode == 0
        assert server.listed() == {name: listed["tiny:4m"]}
