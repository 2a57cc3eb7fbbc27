"""The recipes of the documentation, typed as they stand there; those that need a network are tried elsewhere."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from support import needs
from support.command_line import COMMAND
from support.stores import StoreBuilder, faults_of, tree, weights
from support.tools import require_tool

pytestmark = needs.shell
DOCS = Path(__file__).parents[1] / "docs"
# They need a registry or a server: tests/test_fleet_recipes.py, tests/cli/test_import_via_server.py.
ELSEWHERE = ("registry.lab", "--via-server")
# What other machines type.
THERE = re.compile(r"ollama-ferry (import|inventory)\b")


def recipes(page: Path) -> dict[str, list[str]]:
    """Return the lines of each section's shell blocks, without what is said beside them."""
    found: dict[str, list[str]] = {}
    for section in page.read_text(encoding="utf-8").split("\n## ")[1:]:
        title, _, text = section.partition("\n")
        blocks = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
        found[title] = [line.partition("  # ")[0].rstrip() for block in blocks for line in block.splitlines()]
    return found


RECIPES = recipes(DOCS / "recipes.md")


def test_both_languages_type_the_same() -> None:
    for name in ("index.md", "recipes.md"):
        ours, chinese = recipes(DOCS / name), recipes(DOCS / "zh" / name)
        assert list(ours.values()) == list(chinese.values())
    assert len(RECIPES) >= 10 and sum(map(len, RECIPES.values())) > 25


@pytest.fixture
def machine(source: StoreBuilder, tmp_path: Path) -> dict[str, str]:
    """A machine with three models, a stick, a NAS, a key, and sudo, restic and ssh that ask for nothing."""
    shared = weights(200_000)
    for number, name in enumerate(["qwen3:8b", "gemma3:4b", "gemma3:12b"]):
        source.model(name, [("model", shared), ("license", weights(500, number))])
    programs = tmp_path / "bin"
    programs.mkdir()
    scripts = {
        "ollama-ferry": " ".join(f"'{word}'" for word in COMMAND) + ' "$@"',
        "sudo": 'exec "$@"',
        "restic": '[ "$1" = backup ] && [ -d "$2" ]',
        "ssh": 'case "$*" in *-G*) exit 1;; esac; for last; do :; done; OLLAMA_MODELS="$NEW_SERVER" exec sh -c "$last"',
    }
    for name, body in scripts.items():
        (programs / name).write_text(f"#!/bin/sh\n{body}\n")
        (programs / name).chmod(0o755)
    for folder in (
        "stick",
        "nas",
        "srv/backup",
        "srv/second",
        "here",
        "new/manifests",
        "there/manifests",
        "there/blobs",
    ):
        (tmp_path / folder).mkdir(parents=True)
    shutil.copytree(source.root, tmp_path / "volume")
    key = tmp_path / "key"
    subprocess.run([require_tool("ssh-keygen"), "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    public = key.with_suffix(".pub").read_text().split()[:2]
    (tmp_path / "here/allowed_signers").write_text(f'lab@x namespaces="ollama-ferry" {" ".join(public)}\n')
    return {
        **os.environ,
        "PATH": f"{programs}:{os.environ['PATH']}",
        "NEW_SERVER": str(tmp_path / "new"),
        "OLLAMA_MODELS": str(source.root),
    }


@pytest.mark.parametrize("title", RECIPES)
def test_a_recipe_works_as_it_is_typed(
    title: str, machine: dict[str, str], source: StoreBuilder, tmp_path: Path
) -> None:
    places: dict[str, str | Path] = {
        "/media/stick": tmp_path / "stick",
        "/mnt/nas": tmp_path / "nas",
        "/srv/": f"{tmp_path}/srv/",
        "/var/lib/docker/volumes/ollama/_data/models": tmp_path / "volume",
        "/usr/share/ollama/.ollama/models": source.root,
        "~/.ssh/id_ed25519": tmp_path / "key",
    }
    if title != "A USB stick":
        # What another recipe has made.
        for folder in ("here", "stick"):
            path = tmp_path / folder / "qwen3.tar.gz"
            subprocess.run(
                ["ollama-ferry", "export", "qwen3:8b", path], env=machine, check=True, stderr=subprocess.PIPE
            )
    if title == "An air-gapped lab, with sums and signatures":
        (tmp_path / "here/qwen3.tar.gz").unlink()
    ran = 0
    for line in RECIPES[title]:
        if any(word in line for word in ELSEWHERE):
            continue
        typed = line
        for place, here in places.items():
            typed = typed.replace(place, str(here))
        there = {"OLLAMA_MODELS": str(tmp_path / "there")} if THERE.search(line) else {}
        done = subprocess.run(
            ["/bin/sh", "-c", typed], env={**machine, **there}, cwd=tmp_path / "here", capture_output=True, text=True
        )
        # What was made just now is not pruned: somebody may be writing it.
        nothing_to_undo = done.returncode == 3 and "--undo" in line
        assert done.returncode == 0 or nothing_to_undo, (line, done.stderr)
        ran += 1
    assert ran or title == "Kubernetes"
    for store in ("there", "new", "volume", "srv/second"):
        if (tmp_path / store / "manifests").exists():
            assert faults_of(tmp_path / store) == []
    if (
        "import" in " ".join(RECIPES[title])
        and "volume" not in " ".join(RECIPES[title])
        and title != "Docker and Podman"
    ):
        assert tree(tmp_path / "there/manifests")
