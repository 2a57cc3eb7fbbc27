"""Logins that others keep: found where containers-auth.json(5) and docker say, and in nobody's place else."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from ollama_ferry.errors import FerryError
from ollama_ferry.registries.credentials import Credential, find_credential
from support import needs
from support.command_line import ferry
from support.oci_registries import PASSWORD, USER, Registry, docker_registry
from support.stores import StoreBuilder
from support.tools import require_tool

HUB = "https://index.docker.io/v1/"


def login(name: str) -> dict[str, str]:
    return {"auth": base64.b64encode(f"{name}:secret of {name}".encode()).decode()}


def auths(**by_name: str) -> dict[str, Any]:
    """Return a document in which each user has a login for the place after their name."""
    return {"auths": {place: login(name) for name, place in by_name.items()}}


def write(path: Path, document: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return path


def helper(folder: Path, name: str, script: str) -> None:
    path = folder / f"docker-credential-{name}"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def find(folder: Path, registry: str, repository: str = "", **environ: str) -> Credential | None:
    known = {"HOME": str(folder / "home"), "PATH": f"{folder}:/usr/bin:/bin"}
    return find_credential(registry, {**known, **environ}, repository, seconds=20, runtime=folder / "run")


# -- where they are looked for

PLACES = {
    "DOCKER_AUTH_CONFIG": "",
    "REGISTRY_AUTH_FILE": "named.json",
    "DOCKER_CONFIG": "docker/config.json",
    "XDG_RUNTIME_DIR": "runtime/containers/auth.json",
    "XDG_CONFIG_HOME": "config/containers/auth.json",
    "": "home/.docker/config.json",
    "of old": "home/.dockercfg",
}
"""What names a place, and what is there, in the order in which they count."""


def fill(folder: Path, place: str, document: dict[str, Any]) -> dict[str, str]:
    """Put a document into a place; return the variables that lead there."""
    if place == "DOCKER_AUTH_CONFIG":
        return {place: json.dumps(document)}
    path = write(folder / PLACES[place], document["auths"] if place == "of old" else document)
    if place == "REGISTRY_AUTH_FILE":
        return {place: str(path)}
    return {place: str(folder / PLACES[place].partition("/")[0])} if place.isupper() else {}


@pytest.mark.parametrize("place", PLACES)
def test_each_place_is_looked_into_and_goes_before_those_behind_it(tmp_path: Path, place: str) -> None:
    names = list(PLACES)
    environ: dict[str, str] = {}
    for number, other in enumerate(names[names.index(place) :]):
        environ |= fill(tmp_path, other, auths(**{f"u{number}": "a.lab:5000"}))
    found = find(tmp_path, "a.lab:5000", **environ)
    assert found and (found.username, found.password) == ("u0", "secret of u0") and "secret" not in repr(found)
    assert find(tmp_path, "a.lab", **environ) is None


def test_home_has_a_folder_for_configurations(tmp_path: Path) -> None:
    write(tmp_path / "home/.config/containers/auth.json", auths(config="a.lab"))
    write(tmp_path / "home/.docker/config.json", auths(docker="a.lab"))
    found = find(tmp_path, "a.lab")
    assert found and found.username == "config"


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such folder")
def test_root_without_a_runtime_folder_of_its_own(tmp_path: Path) -> None:
    path = write(tmp_path / f"run/containers/{os.getuid()}/auth.json", auths(root="a.lab"))
    write(tmp_path / "home/.docker/config.json", auths(docker="a.lab"))
    found = find(tmp_path, "a.lab")
    assert found and (found.username, found.origin) == ("root", str(path))
    # Where the variable is set, that is the one place.
    found = find(tmp_path, "a.lab", XDG_RUNTIME_DIR=str(tmp_path / "other"))
    assert found and found.username == "docker"


@pytest.mark.parametrize("first", ["{", "[]", '{"auths": {"a.lab": {"auth": "%%%"}}}', '{"credsStore": "missing"}'])
def test_what_can_not_be_read_keeps_no_other_login_away(tmp_path: Path, first: str) -> None:
    write(tmp_path / "named.json", first)
    write(tmp_path / "home/.docker/config.json", auths(docker="a.lab"))
    environ = {"REGISTRY_AUTH_FILE": str(tmp_path / "named.json")}
    found = find(tmp_path, "a.lab", **environ)
    assert found and found.username == "docker"
    # Where there is no other, it is what is told.
    with pytest.raises(FerryError, match=r"named\.json|docker-credential-missing"):
        find(tmp_path, "a.lab" if "%%%" in first else "b.lab", **environ, DOCKER_CONFIG=str(tmp_path))


# -- which of a file's entries counts

SCOPES = {
    "the repository": ("a.lab", "ns/team/model", "repository"),
    "its namespace": ("a.lab", "ns/team/other", "team"),
    "the outer namespace": ("a.lab", "ns/x", "ns"),
    "the registry": ("a.lab", "nsx/team", "host"),
    "no repository": ("a.lab", "", "host"),
    "in capitals": ("A.Lab", "NS/Team/Model", "repository"),
    "another registry": ("b.lab", "ns/team/model", None),
    "a port": ("a.lab:5000", "ns", "port"),
}


@pytest.mark.parametrize("case", SCOPES)
def test_longest_key_that_covers_the_repository_counts(tmp_path: Path, case: str) -> None:
    registry, repository, wanted = SCOPES[case]
    places = {"host": "a.lab", "repository": "a.lab/ns/team/model", "ns": "a.lab/ns", "team": "a.lab/ns/team"}
    write(tmp_path / "home/.docker/config.json", auths(**places, port="https://a.lab:5000"))
    found = find(tmp_path, registry, repository)
    assert (found.username if found else None) == wanted


def test_login_for_one_repository_is_not_one_for_all(tmp_path: Path) -> None:
    write(tmp_path / "home/.docker/config.json", auths(one="a.lab/secret"))
    assert find(tmp_path, "a.lab") is None and find(tmp_path, "a.lab", "secrets/x") is None


@pytest.mark.parametrize("key", ["https://a.lab/v1/", "http://a.lab", "https://a.lab/any/path", "a.lab/v2/", "A.LAB"])
def test_urls_of_old_stand_for_the_host(tmp_path: Path, key: str) -> None:
    write(tmp_path / "home/.docker/config.json", auths(old=key))
    found = find(tmp_path, "a.lab", "ns/model")
    assert found and found.username == "old"


@pytest.mark.parametrize("asked", ["docker.io", "registry-1.docker.io", "index.docker.io"])
@pytest.mark.parametrize("kept", [HUB, "docker.io", "registry-1.docker.io", "index.docker.io"])
def test_docker_hub_is_one_registry_of_several_names(tmp_path: Path, asked: str, kept: str) -> None:
    write(tmp_path / "home/.docker/config.json", auths(hub=kept))
    found = find(tmp_path, asked, "library/model")
    assert found and found.username == "hub"
    assert find(tmp_path, "other.io") is None


def test_docker_hub_has_namespaces_too(tmp_path: Path) -> None:
    write(tmp_path / "home/.docker/config.json", auths(hub=HUB, team="docker.io/team"))
    found = find(tmp_path, "registry-1.docker.io", "team/model")
    assert found and found.username == "team"


ENTRIES: dict[str, tuple[dict[str, Any], tuple[str, str, str, str] | None]] = {
    "an identity token": ({**login("u"), "identitytoken": "t"}, ("u", "", "t", "")),
    "a registry's token": ({"registrytoken": "t"}, ("", "", "", "t")),
    "name and password": ({"username": "u", "password": "p:q"}, ("u", "p:q", "", "")),
    "a colon in the password": ({"auth": base64.b64encode(b"u:p:q\0\0").decode()}, ("u", "p:q", "", "")),
    "line ends": ({"auth": login("somebody else")["auth"][:8] + "\n" + login("somebody else")["auth"][8:]},
                  ("somebody else", "secret of somebody else", "", "")),
    "no colon": ({"auth": base64.b64encode(b"u").decode()}, None),
    "nothing": ({}, None),
    "numbers": ({"auth": 3, "username": 4, "password": 5, "identitytoken": 6}, None),
}  # fmt: skip


@pytest.mark.parametrize("case", ENTRIES)
def test_forms_of_an_entry(tmp_path: Path, case: str) -> None:
    entry, wanted = ENTRIES[case]
    write(tmp_path / "home/.docker/config.json", {"auths": {"a.lab": entry, "b.lab": "no object"}})
    found = find(tmp_path, "a.lab")
    fields = (found.username, found.password, found.identity_token, found.registry_token) if found else None
    assert fields == wanted
    assert find(tmp_path, "b.lab") is None


# -- helpers


@needs.shell
def test_helpers_are_asked(tmp_path: Path) -> None:
    helpers = {"a.lab": "one", "d.lab": "", HUB: "one", "e.lab": 7}
    entries = {place: login("file") for place in ("a.lab", "c.lab", "d.lab")}
    write(tmp_path / "home/.docker/config.json", {"credsStore": "all", "credHelpers": helpers, "auths": entries})
    helper(tmp_path, "one", 'read -r host; echo "{\\"Username\\": \\"$host $1\\", \\"Secret\\": \\"s\\"}"')
    helper(tmp_path, "all", 'read -r h; [ "$h" = b.lab ] && echo \'{"Username": "<token>", "Secret": "t"}\' && exit 0;'
           "echo credentials not found in native keychain; exit 1")  # fmt: skip
    found = find(tmp_path, "a.lab", "ns/model")
    assert found and (found.username, found.password) == ("a.lab get", "s")
    found = find(tmp_path, "b.lab")
    assert found and [found.identity_token] == ["t"]
    # What the helper does not know may still be in the file, and an empty name means the file.
    for registry in ("c.lab", "d.lab"):
        found = find(tmp_path, registry)
        assert found and found.username == "file"
    # Of Docker Hub a helper knows the name of old.
    found = find(tmp_path, "docker.io", "library/model")
    assert found and found.username == f"{HUB} get"
    assert find(tmp_path, "e.lab") is None


@needs.shell
def test_store_of_all_logins_is_asked_for_docker_hub_by_each_name(tmp_path: Path) -> None:
    write(tmp_path / "home/.docker/config.json", {"credsStore": "all"})
    helper(tmp_path, "all", 'read -r h; [ "$h" = docker.io ] && echo \'{"Username": "u", "Secret": "s"}\' && exit 0;'
           "echo credentials not found in native keychain; exit 1")  # fmt: skip
    found = find(tmp_path, "registry-1.docker.io")
    assert found and found.username == "u"


BAD_HELPERS = {
    "fails": "echo the keyring is locked; exit 3",
    "no JSON": "echo hello",
    "no secret": 'echo \'{"Username": "u"}\'',
    "endless": "yes",
    "slow": "exec sleep 300",
    # The shell's child keeps the pipe.
    "slow child": "sleep 300; true",
    "dies": "kill -SEGV $$",
    "a list": "echo '[]'",
    "numbers": 'echo \'{"Username": 1, "Secret": 2}\'',
    "nested": "printf '[%.0s' $(seq 20000)",
    "no text": "printf '\\377\\376'",
    "escapes": "printf '\\033[2Jno'; exit 1",
}


@pytest.mark.parametrize("name", BAD_HELPERS)
def test_helper_that_fails_is_named(tmp_path: Path, name: str) -> None:
    write(tmp_path / "config.json", {"credsStore": "x"})
    helper(tmp_path, "x", BAD_HELPERS[name])
    environ = {"DOCKER_CONFIG": str(tmp_path), "PATH": f"{tmp_path}:/usr/bin:/bin"}
    started = time.monotonic()
    with pytest.raises(FerryError, match="docker-credential-x") as caught:
        find_credential("a.lab", environ, seconds=0.5 if "slow" in name else 100)
    assert time.monotonic() - started < 100 and caught.value.message.isprintable()


@pytest.mark.parametrize("name", ["missing", "../x", "/bin/sh", ""])
def test_helper_is_a_name_and_no_path(tmp_path: Path, name: str) -> None:
    write(tmp_path / "config.json", {"credsStore": name})
    environ = {"DOCKER_CONFIG": str(tmp_path), "PATH": str(tmp_path)}
    if not name:
        assert find_credential("a.lab", environ) is None
        return
    with pytest.raises(FerryError):
        find_credential("a.lab", environ)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"auths": {"a.lab": {"auth": "%%%"}}}', f'"{"y" * 2**20}"'])
def test_file_of_logins_that_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(FerryError, match=r"config\.json"):
        find_credential("a.lab", {"DOCKER_CONFIG": str(tmp_path)})


# -- against a registry, beside another program


@pytest.fixture(scope="module")
def private(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with docker_registry(tmp_path_factory.mktemp("private"), login=True) as registry:
        yield registry


@pytest.mark.parametrize("place", ["REGISTRY_AUTH_FILE", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "", "of old"])
@pytest.mark.parametrize("scope", ["", "/models", "/models/m"])
def test_where_skopeo_logs_in_we_do(
    private: Registry, source: StoreBuilder, tmp_path: Path, place: str, scope: str
) -> None:
    source.model("m:1", [("license", b"MIT")])
    packed = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    # The file of old has hosts alone.
    key = private.address + (scope if place != "of old" else "")
    environ = fill(tmp_path, place, {"auths": {key: {"auth": packed}}})
    environ |= {"HOME": str(tmp_path / "home")}
    environ.setdefault("XDG_RUNTIME_DIR", str(tmp_path / "none"))
    (tmp_path / "none").mkdir()
    ours = ferry("push", "m:1", f"{private.address}/models", "--models", source.root, *private.options, **environ)
    assert ours.returncode == 0, ours.stderr
    words = ["list-tags", "--tls-verify=false", f"docker://{private.address}/models/m"]
    theirs = subprocess.run(
        [require_tool("skopeo"), *words], capture_output=True, text=True, env={"PATH": os.environ["PATH"], **environ}
    )
    assert theirs.returncode == 0 and '"1"' in theirs.stdout, theirs.stderr
