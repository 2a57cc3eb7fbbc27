"""The recipes of docs/fleet.md: what they run is run here, against a registry that wants a login over TLS."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.command_line import ferry
from support.oci_registries import docker_registry, log_in
from support.stores import StoreBuilder, faults_of, weights

FLEET = (Path(__file__).parent.parent / "docs/fleet.md").read_text(encoding="utf-8")
MODEL = "deepseek-r1:8b"


def recipes() -> list[dict[str, Any]]:
    return [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", FLEET, re.DOTALL)]


KUBERNETES, COMPOSE = recipes()


def words_of(recipe: str) -> list[str]:
    """Return the command of a recipe."""
    if recipe == "kubernetes":
        (container,) = KUBERNETES["spec"]["template"]["spec"]["initContainers"]
        return list(container["command"])
    if recipe == "compose":
        return list(COMPOSE["services"]["models"]["command"])
    found = re.search(r"^ExecStart=(.*)$", FLEET, re.MULTILINE)
    assert found
    return [*found[1].split(), "--models", "/models"]


@pytest.mark.parametrize("recipe", ["kubernetes", "compose", "systemd"])
def test_the_command_of_a_recipe_fills_a_store(source: StoreBuilder, tmp_path: Path, recipe: str) -> None:
    words = words_of(recipe)
    source.model(MODEL, [("model", weights(300_000)), ("license", b"MIT")])
    with docker_registry(tmp_path / "registry", tls=True, login=True) as registry:
        environ = {"DOCKER_CONFIG": str(log_in(registry, tmp_path / "login"))}
        done = ferry("push", MODEL, f"{registry.address}/models", "--models", source.root, *registry.options, **environ)
        assert done.returncode == 0, done.stderr
        here = {
            "registry.lab:5000/models/": f"{registry.address}/models/",
            "/models": str(tmp_path / "models"),
            "/etc/lab/ca.crt": str(registry.ca_file),
        }
        assert words[0] == "ollama-ferry"
        given = [here.get(word) or word.replace("registry.lab:5000", registry.address) for word in words[1:]]
        # Compose's example trusts what its image trusts.
        environ["SSL_CERT_FILE"] = str(registry.ca_file)
        for _ in range(2):
            done = ferry(*given, **environ)
            assert done.returncode == 0, done.stderr
        # The tag moves, as it does with each version, and then the registry is down.
        source.model(MODEL, [("model", weights(300_000, 2)), ("license", b"MIT")])
        push = ["push", MODEL, f"{registry.address}/models", "--models", str(source.root), *registry.options, "--force"]
        assert ferry(*push, **environ).returncode == 0
        done = ferry(*given, **environ)
        assert done.returncode == 0, done.stderr
    done = ferry(*given, **environ)
    assert done.returncode == 0 and "stays as it is" in done.stderr
    target = StoreBuilder(tmp_path / "models")
    assert target.manifest_path(MODEL).read_bytes() == source.manifest_path(MODEL).read_bytes()
    assert not faults_of(tmp_path / "models")


def test_what_the_pod_names_is_there_in_it() -> None:
    """Each path that a container is told of is below a mount of its own, and each mount has its volume."""
    pod = KUBERNETES["spec"]["template"]["spec"]
    volumes = {volume["name"] for volume in pod["volumes"]}
    assert KUBERNETES["spec"]["selector"]["matchLabels"] == KUBERNETES["spec"]["template"]["metadata"]["labels"]
    for container in [*pod["initContainers"], *pod["containers"]]:
        mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
        assert set(mounts.values()) <= volumes
        told = [*container.get("command", []), *(entry["value"] for entry in container.get("env", []))]
        for path in filter(lambda word: word.startswith("/"), told):
            assert any(path == mount or path.startswith(f"{mount}/") for mount in mounts), path
    (first,) = pod["initContainers"]
    (second,) = pod["containers"]
    assert {"name": "models", "mountPath": "/models"} in first["volumeMounts"]
    assert {"name": "models", "mountPath": second["env"][0]["value"]} in second["volumeMounts"]


def test_both_services_of_compose_see_one_store() -> None:
    services = COMPOSE["services"]
    for service in services.values():
        assert "models:/models" in service["volumes"]
    assert "models" in COMPOSE["volumes"]
    assert services["ollama"]["environment"] == {"OLLAMA_MODELS": "/models"}
    assert services["ollama"]["depends_on"] == {"models": {"condition": "service_completed_successfully"}}


def test_fleet_is_compared_by_locks(source: StoreBuilder, tmp_path: Path) -> None:
    """The line of the loop, with stores in the place of hosts."""
    source.model(MODEL, [("model", b"weights")])
    other = StoreBuilder(tmp_path / "other")
    other.model(MODEL, [("model", b"other weights")])
    same = StoreBuilder(tmp_path / "same")
    same.model(MODEL, [("model", b"weights")])
    assert "ollama-ferry lock $host: deepseek-r1:8b | cmp -s - wanted.lock" in FLEET
    texts = [ferry("lock", MODEL, "--models", store.root).stdout for store in (source, same, other)]
    assert texts[0] == texts[1] != texts[2]
