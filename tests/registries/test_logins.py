"""Tokens, logins and proxies: what is asked for, what is shown to whom, and what is refused."""

from __future__ import annotations

import json
import re
import urllib.parse
from pathlib import Path

import pytest

from ollama_ferry.errors import (
    Damaged,
    FerryError,
    NotPermitted,
    Remedy,
    Unreachable,
)
from ollama_ferry.jobs.import_choices import ImportOptions
from ollama_ferry.jobs.pull import pull_into_store, references_of
from ollama_ferry.jobs.push import PushOptions, push
from ollama_ferry.model.names import ModelName
from ollama_ferry.places.registry.references import PushTarget
from ollama_ferry.places.store.store import Store
from ollama_ferry.registries.challenges import Challenge
from ollama_ferry.registries.tokens import token_request
from support.oci_registries import (
    Answered,
    FaultyHandler,
    FaultyRegistry,
    docker_registry,
    quick_access,
)
from support.registry_faults import BIG, arrived, body, pull, pushed, status, whole
from support.stores import StoreBuilder, faults_of, weights
from support.token_server import token_server


def test_token_that_ends_half_way_is_renewed(registry: FaultyRegistry, tmp_path: Path) -> None:
    registry.locked, registry.expires = True, 3
    pull(registry, tmp_path, quick_access(streams=1))
    assert whole(tmp_path)
    assert registry.count("token") >= 2


def test_token_is_renewed_before_it_ends_and_no_chunk_goes_twice(empty: FaultyRegistry, model: StoreBuilder) -> None:
    # Each token is old by the time of the next request.
    empty.locked, empty.lifetime = True, 1e-6
    pushed(empty, model)
    assert arrived(empty, model)
    sent = [seen for seen in empty.seen if seen.method in ("PATCH", "PUT")]
    assert len(sent) > 8 and all("authorization" in seen.headers for seen in sent)
    assert sum(seen.size for seen in sent if seen.method == "PATCH") == len(BIG)


def test_token_of_the_registry_itself_needs_no_token_server(registry: FaultyRegistry, tmp_path: Path) -> None:
    registry.locked, registry.tokens = True, {"mine": 10**6}
    environ = {"DOCKER_AUTH_CONFIG": json.dumps({"auths": {registry.address: {"registrytoken": "mine"}}})}
    pull(registry, tmp_path, quick_access(environ=environ))
    assert whole(tmp_path) and not registry.count("token")
    # One that gives no right is an error, and so is one that would be two headers.
    for token in ("other", "mine\r\nEvil: yes"):
        environ = {"DOCKER_AUTH_CONFIG": json.dumps({"auths": {registry.address: {"registrytoken": token}}})}
        with pytest.raises(FerryError):
            pull(registry, tmp_path / "other", quick_access(environ=environ))
    assert not any("evil" in seen.headers for seen in registry.seen)


@pytest.mark.parametrize("kept", ["password", "identity token"])
def test_login_goes_to_the_token_server(registry: FaultyRegistry, tmp_path: Path, kept: str) -> None:
    registry.locked = True
    # user:secret
    entry = {"auth": "dXNlcjpzZWNyZXQ="} if kept == "password" else {"auth": "dXNlcjo=", "identitytoken": "long lived"}
    (tmp_path / "config.json").write_text(json.dumps({"auths": {registry.address: entry}}))
    pull(registry, tmp_path, quick_access(environ={"DOCKER_CONFIG": str(tmp_path)}))
    assert whole(tmp_path)
    asked = [seen for seen in registry.seen if seen.path.startswith("/token")]
    for seen in asked:
        if kept == "password":
            assert seen.headers["authorization"] == "Basic dXNlcjpzZWNyZXQ=" and "scope=repository%3A" in seen.path
        else:
            assert seen.method == "POST" and "authorization" not in seen.headers and seen.size
    # The registry itself gets the token, and never the login.
    others = {seen.headers.get("authorization", "")[:6] for seen in registry.seen if seen not in asked}
    assert others == {"", "Bearer"}


def test_plain_proxy_is_asked(registry: FaultyRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", registry.address)
    monkeypatch.setenv("no_proxy", "other.invalid")
    references = references_of(["registry.invalid/models/m:1"])
    pull_into_store(references, Store(tmp_path / "store"), ImportOptions(), quick_access())
    assert whole(tmp_path)
    monkeypatch.setenv("no_proxy", ".invalid")
    with pytest.raises(Unreachable):
        pull_into_store(references, Store(tmp_path / "other"), ImportOptions(), quick_access())


TOKENS = {
    "no JSON": body(b"hello"),
    "no token": body(b'{"expires_in": 3}'),
    "a header in it": body(b'{"token": "x\\r\\nEvil: yes"}'),
    "of a gigabyte": body(b"{", length=2**30),
    "a redirect": status(307, Location="http://127.0.0.1:1/"),
}


@pytest.mark.parametrize("fault", TOKENS)
def test_token_that_is_none(registry: FaultyRegistry, tmp_path: Path, fault: str) -> None:
    registry.locked = True
    registry.always["token"] = TOKENS[fault]
    with pytest.raises(FerryError):
        pull(registry, tmp_path)
    assert not any("evil" in seen.headers for seen in registry.seen)


@pytest.mark.parametrize("realm", ["file:///etc/passwd", "", "http://user@127.0.0.1/", "nonsense"])
def test_token_server_that_is_no_place(registry: FaultyRegistry, tmp_path: Path, realm: str) -> None:
    registry.always["manifest"] = status(401, WWW_Authenticate=f'Bearer realm="{realm}",service="x"')
    with pytest.raises(Damaged):
        pull(registry, tmp_path)


def test_login_that_is_refused_names_the_way_out(registry: FaultyRegistry, tmp_path: Path) -> None:
    registry.always["manifest"] = status(401, WWW_Authenticate='Basic realm="x"')
    with pytest.raises(NotPermitted) as caught:
        pull(registry, tmp_path)
    assert f"docker login {registry.address}" in caught.value.hint
    registry.always["manifest"] = status(403)
    with pytest.raises(NotPermitted):
        pull(registry, tmp_path)


def test_refusal_is_shown_without_its_tricks(registry: FaultyRegistry, tmp_path: Path) -> None:
    said = b'{"errors": [{"code": "DENIED", "message": "\\u001b[2Jno\\n\\nway"}]}'
    registry.always["manifest"] = body(said, 400)
    with pytest.raises(FerryError) as caught:
        pull(registry, tmp_path)
    assert "DENIED" in caught.value.message and caught.value.message.isprintable()


def test_plain_http_is_not_tried_unasked(registry: FaultyRegistry, tmp_path: Path) -> None:
    with pytest.raises(Unreachable) as caught:
        pull(registry, tmp_path, quick_access(insecure=False))
    assert caught.value.remedies == (Remedy("insecure"),)
    assert not registry.seen


def test_words_of_the_registry_are_shown_where_a_token_gives_no_right(registry: FaultyRegistry, tmp_path: Path) -> None:
    registry.locked = True

    def refuse(handler: FaultyHandler) -> None:
        challenge = f'Bearer realm="http://{registry.address}/token",service="x"'
        body = b'{"errors": [{"code": "DENIED", "message": "project is not yours, see helpdesk"}]}'
        handler.reply(401, {"WWW-Authenticate": challenge}, body)
        raise Answered

    registry.always["manifest"] = refuse
    with pytest.raises(NotPermitted, match="see helpdesk"):
        pull(registry, tmp_path)
    assert registry.count("token") == 1


def test_a_scope_is_asked_for_once_in_whatever_order_the_registry_names_its_actions() -> None:
    challenge = Challenge("bearer", "https://auth.lab/token", "lab", "repository:a/m:push,pull registry:catalog:* odd")
    asked = token_request(challenge, "repository:a/m:pull,push", None).url
    scopes = urllib.parse.parse_qs(urllib.parse.urlsplit(asked).query)["scope"]
    assert scopes == ["odd", "registry:catalog:*", "repository:a/m:pull,push"]


def test_tokens_that_end_while_a_model_moves(source: StoreBuilder, tmp_path: Path) -> None:
    """Debian's registry, and tokens of four seconds, which are half old after two: no chunk goes twice."""
    source.model("m:1", [("model", weights(6_000_000)), ("license", b"MIT")])
    login = "Basic dXNlcjpzZWNyZXQ="
    with (
        token_server(tmp_path / "tokens", lifetime=4, login=login) as tokens,
        docker_registry(tmp_path / "registry", auth=tokens.config) as registry,
    ):
        (tmp_path / "config.json").write_text(json.dumps({"auths": {registry.address: {"auth": login.split()[1]}}}))
        environ = {"DOCKER_CONFIG": str(tmp_path)}
        access = quick_access(environ=environ, chunk_size=250_000, bytes_per_second=2_000_000)
        target = PushTarget.parse(f"{registry.address}/models")
        push(Store(source.root), [ModelName.parse("m:1")], target, PushOptions(), access)
        references = references_of([f"{registry.address}/models/m:1"])
        pull_into_store(references, Store(tmp_path / "store"), ImportOptions(), quick_access(environ=environ))
        assert not faults_of(tmp_path / "store")
        log = registry.log.read_text(encoding="utf-8", errors="replace")
    answered = re.findall(r'"(PATCH|PUT) /v2/\S+ HTTP/1.1" (\d+)', log)
    assert len(answered) > 20 and not [line for line in answered if line[1] == "401"]
    # The push takes close to three seconds at the least.
    assert len([scopes for scopes in tokens.asked if scopes == ["repository:models/m:pull,push"]]) >= 2
