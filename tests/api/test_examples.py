"""Every example of docs/python.md runs, against a real sshd, a real registry, and a double of Ollama's server."""

from __future__ import annotations

import inspect
import re
import subprocess
from pathlib import Path

import pytest

from ollama_ferry import api
from ollama_ferry.cli.commands import ferry
from ollama_ferry.errors import FerryError
from support.oci_registries import docker_registry
from support.server_double import serving_double
from support.sshd import Sshd
from support.tools import require_tool

DOCUMENT = Path(__file__).parents[2] / "docs/python.md"
# What reads a word of the command line, or completes or foretells one, and no job.
WORDS = {
    "as_owner",
    "free_bytes",
    "names_at_once",
    "covers_any",
    "Host",
    "has_model",
    "kind_of",
    "is_path",
    "meaning_of_word",
    "place_and_models",
    "rate_of",
}


def test_every_function_has_an_example() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    blocks = "".join(re.findall(r"```python\n(.*?)```", text, re.DOTALL))
    functions = {name for name, value in vars(api).items() if inspect.isfunction(value) and not name.startswith("_")}
    assert len(functions) > 20
    for name in functions - WORDS - {"find_target", "write_sample_store"}:
        assert re.search(rf"\.{name}\(", blocks), name
        assert f"`{name}`" in text, name


def test_every_command_has_its_function() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    table = text.partition("| --- |")[2].partition("\n\n")[0]
    listed = set(re.findall(r"`(\w+)`", "".join(re.findall(r"^\|[^|]*\|", table, re.MULTILINE))))
    assert listed == set(ferry.list_commands(None)) - {"demo", "completion", "config"}  # type: ignore[arg-type]
    for name in re.findall(r"`(\w+)`", table):
        assert name in listed or hasattr(api, name), name


def test_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sshd: Sshd) -> None:
    api.write_sample_store(tmp_path / "models")
    monkeypatch.setenv("OLLAMA_MODELS", str(tmp_path / "models"))
    monkeypatch.chdir(tmp_path)
    subprocess.run([require_tool("ssh-keygen"), "-q", "-t", "ed25519", "-N", "", "-f", "id_ed25519"], check=True)
    key = (tmp_path / "id_ed25519.pub").read_text(encoding="utf-8")
    (tmp_path / "allowed_signers").write_text(f'lab@example.org namespaces="ollama-ferry" {key}', encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) > 10
    with docker_registry(tmp_path / "registry") as registry, serving_double() as server:
        places = {
            "registry.lab:5000": registry.address,
            "127.0.0.1:11434": server.address,
            "user@server:models": f"root@there:{tmp_path}/far",
            "ssh -i key": sshd.ssh,
        }
        for block in blocks:
            for shown, real in places.items():
                block = block.replace(shown, real)
            exec(compile(block, "docs/python.md", "exec"), {})  # noqa: S102
        assert server.manifests
    assert not (tmp_path / "third").exists() and not (tmp_path / "both.tar").exists()
    assert not (tmp_path / "cancelled.tar").exists()
    for store in ("elsewhere", "from-stream", "from-parts", "far", "stick", "fetched", "pulled", "served", "trusted"):
        assert api.verify(store=tmp_path / store).good, store


def test_errors_of_calls_speak_of_parameters(tmp_path: Path) -> None:
    """Nobody who calls from Python has options."""
    with pytest.raises(FerryError) as caught:
        api.find_store(tmp_path / "none")
    assert "--" not in f"{caught.value}{caught.value.hint}"
