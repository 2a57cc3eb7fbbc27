"""Redirects: where they may lead, and what goes along."""

from __future__ import annotations

from pathlib import Path

import pytest

from ollama_ferry.errors import (
    Damaged,
    FerryError,
    Unreachable,
)
from support.oci_registries import (
    Answered,
    FaultyHandler,
    FaultyRegistry,
)
from support.registry_faults import cut_at_once, cut_in_blob, pull, status, whole

PLACES = {
    "file": "file:///etc/passwd",
    "ftp": "ftp://127.0.0.1/x",
    "user in it": "http://user:secret@127.0.0.1/x",
    "port 0": "http://127.0.0.1:0/x",
    "nonsense": "http://[::1/x",
    "newline": "http://127.0.0.1/\tx",
    "too long": "http://127.0.0.1/" + "x" * 20_000,
    "nowhere": "",
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("kind", ["blob", "manifest"])
def test_redirect_to_what_is_no_place(registry: FaultyRegistry, tmp_path: Path, place: str, kind: str) -> None:
    registry.always[kind] = status(307, Location=PLACES[place])
    with pytest.raises(Damaged) as caught:
        pull(registry, tmp_path)
    assert "secret" not in caught.value.message
    assert not whole(tmp_path)


def test_redirects_end(registry: FaultyRegistry, tmp_path: Path) -> None:
    def onward(handler: FaultyHandler) -> None:
        handler.reply(307, {"Location": handler.path})
        raise Answered

    registry.always["blob"] = onward
    with pytest.raises(FerryError, match="more than 10"):
        pull(registry, tmp_path)
    assert registry.count("blob") == 11


def test_login_does_not_follow_a_redirect(registry: FaultyRegistry, empty: FaultyRegistry, tmp_path: Path) -> None:
    registry.locked, registry.redirect = True, empty.address
    empty.blobs = registry.blobs
    pull(registry, tmp_path)
    assert whole(tmp_path)
    assert all("authorization" in seen.headers for seen in registry.seen if "blobs" in seen.path)
    assert empty.seen and not any("authorization" in seen.headers for seen in empty.seen)
    # Where a blob really is is asked for once, not for each range.
    assert registry.count("blob") == len(registry.blobs) and empty.count("blob") > len(registry.blobs)


@pytest.mark.parametrize("code", [401, 403, 404])
def test_signed_address_that_ends_is_asked_for_anew(
    registry: FaultyRegistry, empty: FaultyRegistry, tmp_path: Path, code: int
) -> None:
    registry.redirect = empty.address
    empty.blobs = registry.blobs
    empty.faults["blob"] = [None, None, None, status(code), None, cut_in_blob]
    pull(registry, tmp_path)
    assert whole(tmp_path)
    assert registry.count("blob") > len(registry.blobs)


def test_redirect_whose_target_is_down(registry: FaultyRegistry, empty: FaultyRegistry, tmp_path: Path) -> None:
    registry.redirect = empty.address
    empty.always["blob"] = cut_at_once
    with pytest.raises(Unreachable) as caught:
        pull(registry, tmp_path)
    assert "signature" not in str(caught.value) + caught.value.hint


@pytest.mark.parametrize("status", [400, 403, 404, 410, 500, 503])
def test_an_address_that_has_ended_is_asked_for_anew(
    registry: FaultyRegistry, empty: FaultyRegistry, tmp_path: Path, status: int
) -> None:
    registry.redirect, empty.blobs = empty.address, registry.blobs
    refused: list[str] = []

    def end(handler: FaultyHandler) -> None:
        # The first part of the big blob comes, and then the address has ended.
        if handler.asked(len(handler.blob()))[0] and len(refused) < 2:
            refused.append(handler.path)
            handler.reply(status, body=b"<Error><Code>ExpiredToken</Code></Error>")
            raise Answered

    empty.always["blob"] = end
    pull(registry, tmp_path)
    assert whole(tmp_path)
    assert len(refused) == 2 and registry.count("blob") > len(registry.blobs)
