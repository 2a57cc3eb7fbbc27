"""What a registry calls a model, the logins that others keep, and what a registry asks for."""

from __future__ import annotations

import base64
import json
import time
from pathlib import Path

import pytest

from ollama_ferry.errors import Damaged, FerryError, UsageError
from ollama_ferry.jobs.pull import references_of
from ollama_ferry.model.names import ModelName
from ollama_ferry.places.registry.references import PushTarget, parse_reference
from ollama_ferry.registries.answers import retry_after
from ollama_ferry.registries.challenges import parse_challenge
from ollama_ferry.registries.connections import origin_of
from ollama_ferry.registries.credentials import find_credential

DIGEST = "sha256:" + "a" * 64

REFERENCES = {
    "deepseek-r1": ("registry.ollama.ai", "library/deepseek-r1", "latest"),
    "deepseek-r1:8b": ("registry.ollama.ai", "library/deepseek-r1", "8b"),
    "me/mine:V1": ("registry.ollama.ai", "me/mine", "V1"),
    "hf.co/Org/Repo-GGUF:Q4_K_M": ("hf.co", "Org/Repo-GGUF", "Q4_K_M"),
    "registry.lab:5000/models/deepseek-r1:8b": ("registry.lab:5000", "models/deepseek-r1", "8b"),
    "https://registry.lab/models/x": ("registry.lab", "models/x", "latest"),
    "registry.lab:5000/x": ("registry.lab:5000", "x", "latest"),
    "registry.lab/a/b/c/d:1": ("registry.lab", "a/b/c/d", "1"),
    "[::1]:5000/a/b:1": ("[::1]:5000", "a/b", "1"),
    f"registry.lab/a/b:1@{DIGEST}": ("registry.lab", "a/b", "1"),
    f"registry.lab/a/b@{DIGEST}": ("registry.lab", "a/b", ""),
}


@pytest.mark.parametrize("text", REFERENCES)
def test_reference_is_read(text: str) -> None:
    found = parse_reference(text)
    assert (found.registry, found.repository, found.tag) == REFERENCES[text]
    assert (str(found.digest) if found.digest else "") == (DIGEST if "@" in text else "")
    assert parse_reference(str(found)) == found


@pytest.mark.parametrize(
    "text",
    ["", "/", "a//b", "registry.lab/../x", "registry.lab/./x", "registry.lab/a/.b", "registry.lab/a b", "x:", "x:a/",
     "registry.lab:99999/a/b", "registry.lab:0/a/b", "user@registry.lab/a/b", "registry.lab/a@sha256:1", "ftp://a/b/c",
     "http://registry.lab/a/b", "a..b/c/d", "registry.lab/a?b=c/d", "registry.lab/a%2fb/c", "x" * 2000, "é/a/b",
     "registry.lab/a\n/b"],
)  # fmt: skip
def test_what_is_no_reference(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_reference(text)
    assert caught.value.message.isprintable()


def test_names_that_pulled_models_get() -> None:
    found = references_of(["qwen3:8b", "hf.co/Org/Repo:Q4_K_M", "registry.lab:5000/models/x:1"])
    assert [str(name) for name in found] == ["qwen3:8b", "hf.co/Org/Repo:Q4_K_M", "registry.lab:5000/models/x:1"]
    for text in ("registry.lab/a/b/c:1", "registry.lab:5000/x:1", f"registry.lab/a/b@{DIGEST}", "registry.lab/a.b/c"):
        with pytest.raises(UsageError) as caught:
            references_of([text])
        assert caught.value.remedies[0].parameter == "rename"
        assert list(references_of([text], "x:1")) == [ModelName.parse("x:1")]
    with pytest.raises(UsageError, match="one new name"):
        references_of(["a", "b"], "c")


PLACES = {
    "deepseek-r1:8b": "models/deepseek-r1:8b",
    "me/Mine:V1": "models/me/mine:V1",
    "hf.co/Org/Repo-GGUF:Q4_K_M": "models/org/repo-gguf:Q4_K_M",
    "registry.lab:5000/library/x:1": "models/x:1",
}


@pytest.mark.parametrize("name", PLACES)
def test_place_that_a_pushed_model_gets(name: str) -> None:
    place = PushTarget.parse("other.lab:5000/models").place(ModelName.parse(name))
    assert str(place) == f"other.lab:5000/{PLACES[name]}"
    assert list(references_of([str(place)], name)) == [ModelName.parse(name)]


def test_place_under_another_name() -> None:
    target = PushTarget.parse("registry.lab:5000/")
    assert str(target.place_as("a/b:V1")) == "registry.lab:5000/a/b:V1"
    assert str(target.place(ModelName.parse("x:1"))) == "registry.lab:5000/x:1"
    for text in ("A", "a//b", "a:", "a:b:c", "../x", "a__", "-"):
        if text == "a:":
            assert target.place_as(text).tag == "latest"
            continue
        with pytest.raises(UsageError):
            target.place_as(text)
    with pytest.raises(UsageError) as caught:
        target.place(ModelName.parse("odd_.name_:1"))
    assert caught.value.remedies[0].parameter == "rename"


@pytest.mark.parametrize("text", ["", "models", "registry.lab/Models", "registry.lab/a/../b", "http://registry.lab/x"])
def test_what_is_no_target(text: str) -> None:
    with pytest.raises(UsageError):
        PushTarget.parse(text)


# -- logins


def packed(user: str, password: str) -> str:
    return base64.b64encode(f"{user}:{password}".encode()).decode()


def write(path: Path, document: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document))
    return path


def helper(folder: Path, name: str, script: str) -> None:
    path = folder / f"docker-credential-{name}"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def test_logins_are_found_where_others_keep_them(tmp_path: Path) -> None:
    docker = write(tmp_path / "d/config.json", {"auths": {"https://a.lab:5000/v1/": {"auth": packed("u", "p:q")}}})
    podman = write(tmp_path / "r/containers/auth.json", {"auths": {"b.lab": {"auth": packed("v", "w")}}})
    named = write(tmp_path / "named.json", {"auths": {"b.lab": {"auth": packed("n", "m")}}})
    environ = {"DOCKER_CONFIG": str(docker.parent), "XDG_RUNTIME_DIR": str(tmp_path / "r")}
    found = find_credential("a.lab:5000", environ)
    assert found and (found.username, found.password) == ("u", "p:q") and "p:q" not in repr(found)
    found = find_credential("b.lab", environ)
    assert found and (found.username, found.origin) == ("v", str(podman))
    found = find_credential("b.lab", {**environ, "REGISTRY_AUTH_FILE": str(named)})
    assert found and found.username == "n"
    assert find_credential("a.lab", environ) is None
    assert find_credential("a.lab:5000", {"HOME": str(tmp_path / "nowhere")}) is None
    write(tmp_path / "home/.docker/config.json", {"auths": {"a.lab": {"identitytoken": "t", "auth": packed("u", "")}}})
    found = find_credential("a.lab", {"HOME": str(tmp_path / "home")})
    assert found and [found.identity_token] == ["t"] and "'t'" not in repr(found)


def test_login_for_one_repository_is_not_one_for_all(tmp_path: Path) -> None:
    write(tmp_path / "config.json", {"auths": {"a.lab/secret": {"auth": packed("u", "p")}}})
    assert find_credential("a.lab", {"DOCKER_CONFIG": str(tmp_path)}) is None


def test_helpers_are_asked(tmp_path: Path) -> None:
    config = {"credsStore": "all", "credHelpers": {"a.lab": "one"}, "auths": {"c.lab": {"auth": packed("f", "f")}}}
    write(tmp_path / "config.json", config)
    environ = {"DOCKER_CONFIG": str(tmp_path), "PATH": f"{tmp_path}:/usr/bin:/bin"}
    helper(tmp_path, "one", 'read -r host; echo "{\\"Username\\": \\"$host $1\\", \\"Secret\\": \\"s\\"}"')
    helper(tmp_path, "all", 'read -r h; [ "$h" = b.lab ] && echo \'{"Username": "<token>", "Secret": "t"}\' && exit 0;'
           "echo credentials not found in native keychain; exit 1")  # fmt: skip
    found = find_credential("a.lab", environ)
    assert found and (found.username, found.password) == ("a.lab get", "s")
    found = find_credential("b.lab", environ)
    assert found and [found.identity_token] == ["t"]
    # What the helper does not know may still be in the file.
    found = find_credential("c.lab", environ)
    assert found and found.username == "f"


BAD_HELPERS = {
    "fails": "echo the keyring is locked; exit 3",
    "no JSON": "echo hello",
    "no secret": 'echo \'{"Username": "u"}\'',
    "endless": "yes",
    "slow": "exec sleep 300",
    # The shell's child keeps the pipe.
    "slow child": "sleep 300; true",
    "dies": "kill -SEGV $$",
}


@pytest.mark.parametrize("name", BAD_HELPERS)
def test_helper_that_fails_is_named(tmp_path: Path, name: str) -> None:
    write(tmp_path / "config.json", {"credsStore": "x"})
    helper(tmp_path, "x", BAD_HELPERS[name])
    environ = {"DOCKER_CONFIG": str(tmp_path), "PATH": f"{tmp_path}:/usr/bin:/bin"}
    started = time.monotonic()
    with pytest.raises(FerryError, match="docker-credential-x"):
        find_credential("a.lab", environ, seconds=0.5)
    assert time.monotonic() - started < 100


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


# -- what a registry asks for


def test_challenges_are_read() -> None:
    found = parse_challenge(['Bearer realm="https://a/t?x=1,2",service="s", scope="repository:a:pull,push"'])
    assert found and (found.scheme, found.realm, found.service) == ("bearer", "https://a/t?x=1,2", "s")
    assert found.scope == "repository:a:pull,push"
    found = parse_challenge(['Basic realm="x"', "Bearer realm=https://b/t"])
    assert found and (found.scheme, found.realm) == ("bearer", "https://b/t")
    found = parse_challenge(['bAsIc realm="x"'])
    assert found and found.scheme == "basic"
    for text in ("", "Negotiate", "Digest realm=x", "Basically realm=x"):
        assert parse_challenge([text]) is None
    started = time.process_time()
    parse_challenge(["Bearer " + "a=" * 100_000, 'Bearer a="' * 10_000])
    assert time.process_time() - started < 5


def test_waits_are_read() -> None:
    assert retry_after("7") == 7
    assert retry_after("") == retry_after("soon") == retry_after("-3") == retry_after("9" * 30) == 0
    assert retry_after("Wed, 21 Oct 2015 07:28:00 GMT") == 0
    assert retry_after("Wed, 21 Oct 2099 07:28:00 GMT") > 1e9


@pytest.mark.parametrize("url", ["http://a.lab/x", "https://u@a.lab/x", "https:///x", "//a.lab/x", "https://a.lab:0/x"])
def test_url_that_is_not_followed_from_https(url: str) -> None:
    with pytest.raises(Damaged):
        origin_of(url, plain=False)


def test_origins_are_compared_in_full() -> None:
    assert origin_of("https://A.lab/x", plain=False) == origin_of("https://a.lab:443/y", plain=False)
    others = ["https://a.lab:444/", "https://b.a.lab/", "http://a.lab:443/", "https://a.lab./", "https://[::1]/"]
    assert len({origin_of(url, plain=True) for url in others}) == len(others)
    assert origin_of("https://a.lab/", plain=True) not in [origin_of(url, plain=True) for url in others]
