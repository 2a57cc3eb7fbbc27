"""Answers that are made to cost time, or to make us ask where the registry itself can't: bounded, and refused."""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from ollama_ferry.errors import Damaged, FerryError, Refused
from ollama_ferry.jobs.import_choices import ImportOptions
from ollama_ferry.jobs.pull import pull_into_store, references_of
from ollama_ferry.places.store.store import Store
from ollama_ferry.registries.address_scope import Reach, may_name, reach_of
from ollama_ferry.registries.challenges import parse_challenge
from support.oci_registries import QUICK, Answered, Fault, FaultyHandler, FaultyRegistry, faulty_registry, quick_access

# More than the buffers of both systems hold, so that a client that reads on is seen to.
_FLOOD = 48 * 1024 * 1024


@pytest.fixture
def registry() -> Iterator[FaultyRegistry]:
    with faulty_registry() as server:
        server.add_model("models/m", "1", b"x" * 1000)
        yield server


@pytest.fixture
def other() -> Iterator[FaultyRegistry]:
    with faulty_registry() as server:
        yield server


def pull(address: str, folder: Path, **more: Any) -> None:
    references = references_of([f"{address}/models/m:1"])
    pull_into_store(references, Store(folder / "store"), ImportOptions(), quick_access(**more))


# -- answers without end


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
FLOODS = {
    "1xx": (b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 1000),
    "headers of a 1xx": (b"", b"HTTP/1.1 100 Continue\r\n" + b"X-Header: value\r\n" * 50 + b"\r\n"),
    "sizes of chunks": (CHUNKED, (b"1;" + b"x" * 6000 + b"\r\n \r\n") * 10),
    "trailers": (CHUNKED + b"0\r\n", b"X-Trailer: value\r\n" * 1000),
}


@pytest.mark.parametrize("kind", ["manifest", "token", "blob"])
@pytest.mark.parametrize("what", FLOODS)
def test_flood_without_content_is_cut_off(registry: FaultyRegistry, tmp_path: Path, what: str, kind: str) -> None:
    registry.locked = kind == "token"
    taken: list[bool] = []

    def flood(handler: FaultyHandler) -> None:
        before, unit = FLOODS[what]
        taken.append(False)
        handler.wfile.write(before)
        for _ in range(_FLOOD // len(unit)):
            handler.wfile.write(unit)
        taken[-1] = True
        raise Fault

    registry.faults[kind] = [flood]
    pull(registry.address, tmp_path, patience=replace(QUICK, answer=60))
    assert taken == [False]


# -- challenges


HOSTILE = [
    "Bearer " + "a=" * 32_000,
    'Bearer a="' * 6_500,
    "Bearer realm" + " " * 65_000,
    "bearer" + "-bearer" * 9_000,
    "Basic," * 11_000,
    'Bearer realm="' + "\\" * 65_000,
    "=" * 65_000,
]


def lines_run(call: Callable[[], object]) -> int:
    """Return how many lines of Python ran: a measure that does not depend on the machine."""
    count = 0

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal count
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    finally:
        sys.settrace(before)
    return count


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: text[:12])
def test_challenge_costs_what_its_length_costs(text: str) -> None:
    assert lines_run(lambda: parse_challenge([text])) < 10 * len(text)
    # A hundred headers are no way round.
    assert lines_run(lambda: parse_challenge([text] * 100)) < 10 * len(text)


def test_challenge_with_escapes_and_blanks() -> None:
    found = parse_challenge([r'Bearer realm = "https://a/\"t\"" , service=s'])
    assert found and (found.realm, found.service) == ('https://a/"t"', "s")
    found = parse_challenge(["Negotiate dG9rZW4=, Basic realm=x"])
    assert found and (found.scheme, found.realm) == ("basic", "x")


# -- where tokens are asked for


@pytest.mark.parametrize(
    ("host", "reach"),
    [
        ("8.8.8.8", Reach.WORLD),
        ("[2606:4700::1111]", Reach.WORLD),
        ("10.1.2.3", Reach.PRIVATE),
        ("192.168.0.1", Reach.PRIVATE),
        ("100.64.0.1", Reach.PRIVATE),
        ("[fd00::1]", Reach.PRIVATE),
        ("169.254.169.254", Reach.LINK),
        ("fe80::1%eth0", Reach.LINK),
        ("127.0.0.1", Reach.MACHINE),
        ("127.1", Reach.MACHINE),
        ("2130706433", Reach.MACHINE),
        ("0x7f000001", Reach.MACHINE),
        ("0.0.0.0", Reach.MACHINE),
        ("[::1]", Reach.MACHINE),
        ("[::ffff:127.0.0.1]", Reach.MACHINE),
        ("[::ffff:169.254.169.254]", Reach.LINK),
        ("[64:ff9b::7f00:1]", Reach.MACHINE),
        ("[2002:a01:203::]", Reach.PRIVATE),
        ("LocalHost.", Reach.MACHINE),
        ("a.localhost", Reach.MACHINE),
        ("registry.example", None),
    ],
)
def test_reach_of_an_address(host: str, reach: Reach | None) -> None:
    assert reach_of(host) is reach


def test_who_may_name_whom() -> None:
    allowed = {(one, other) for one in Reach for other in Reach if may_name(one, other)}
    same = {(one, one) for one in Reach}
    assert allowed == same | {(one, Reach.WORLD) for one in Reach} | {(Reach.MACHINE, Reach.PRIVATE)}


@pytest.fixture
def far(registry: FaultyRegistry, monkeypatch: pytest.MonkeyPatch) -> FaultyRegistry:
    """A registry of the world, as far as the client can see: it is reached by a proxy, and all else directly."""
    monkeypatch.setenv("http_proxy", f"http://{registry.address}")
    monkeypatch.setenv("no_proxy", "127.0.0.1,localhost,token.example")
    registry.locked = True
    return registry


def challenge(realm: str) -> Callable[[FaultyHandler], None]:
    def ask(handler: FaultyHandler) -> None:
        handler.reply(401, {"WWW-Authenticate": f'Bearer realm="{realm}",service="tests"'})
        raise Answered

    return ask


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost", "127.1", "token.example"])
def test_public_registry_makes_nobody_ask_this_machine(
    far: FaultyRegistry, other: FaultyRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    port = other.address.rpartition(":")[2]
    look_up = socket.getaddrinfo

    def resolve(host: Any, *arguments: Any, **more: Any) -> Any:
        # A name of the world, whose owner lets it lead here.
        return look_up("127.0.0.1" if host == "token.example" else host, *arguments, **more)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    far.always["manifest"] = challenge(f"http://{name}:{port}/token")
    with pytest.raises(Damaged, match=r"names .* for its tokens") as answer_shown:
        pull("registry.example", tmp_path)
    assert "models/m" in answer_shown.value.message and "registry.example" in answer_shown.value.message
    assert not other.seen


def test_public_registry_may_name_itself(far: FaultyRegistry, tmp_path: Path) -> None:
    # The proxy is what answers for the token server, too.
    far.faults["manifest"] = [challenge("http://registry.example/token")]
    pull("registry.example", tmp_path)
    assert far.count("token")


def test_redirect_of_a_token_server_is_not_followed(
    registry: FaultyRegistry, other: FaultyRegistry, tmp_path: Path
) -> None:
    registry.locked = True

    def away(handler: FaultyHandler) -> None:
        handler.reply(307, {"Location": f"http://{other.address}/token"})
        raise Answered

    registry.always["token"] = away
    with pytest.raises(Refused, match=r"asking for a token.*307"):
        pull(registry.address, tmp_path)
    assert not other.seen


@pytest.mark.parametrize(
    "body",
    [
        b"root:x:0:0:root:/root:/bin/sh",
        b'"a text"',
        b'{"token": ["a"]}',
        b'{"token": "a b"}',
        b'{"token": "' + b"x" * 70_000 + b'"}',
        b'{"secret": "x"}',
    ],
    ids=lambda body: body[:16],
)
def test_what_is_no_token_is_not_handed_on(registry: FaultyRegistry, tmp_path: Path, body: bytes) -> None:
    registry.locked = True

    def answer(handler: FaultyHandler) -> None:
        handler.reply(200, body=body)
        raise Answered

    registry.always["token"] = answer
    with pytest.raises(FerryError, match="token"):
        pull(registry.address, tmp_path)
    assert {seen.headers.get("authorization") for seen in registry.seen} == {None}
