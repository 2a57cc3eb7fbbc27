"""Pushes to a registry that cuts, refuses and forgets: whole in the end, or one clear error."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from ollama_ferry.errors import (
    Damaged,
    FerryError,
    Unreachable,
)
from ollama_ferry.files.lock import lock_file
from ollama_ferry.jobs.push import PushOptions, push
from ollama_ferry.model.manifests import Digest
from ollama_ferry.model.names import ModelName
from ollama_ferry.places.registry.references import PushTarget
from ollama_ferry.places.store.store import Store
from ollama_ferry.registries.access import Access
from support import needs
from support.oci_registries import (
    Answered,
    FaultyHandler,
    FaultyRegistry,
    quick_access,
)
from support.registry_faults import (
    BIG,
    SMALL,
    arrived,
    body,
    cut_at_once,
    cut_behind,
    cut_half_and_forget,
    cut_half_and_keep,
    pushed,
    status,
)
from support.stores import StoreBuilder

UPLOAD_FAULTS: dict[str, tuple[str, Callable[[FaultyHandler], None]]] = {
    "look cut": ("look", cut_at_once),
    "look 500": ("look", status(500)),
    "start cut": ("start", cut_at_once),
    "start 429": ("start", status(429, Retry_After="1")),
    "start 503": ("start", status(503)),
    "patch cut": ("patch", cut_at_once),
    "patch cut in the middle, kept": ("patch", cut_half_and_keep),
    "patch cut in the middle, lost": ("patch", cut_half_and_forget),
    "patch done, answer lost": ("patch", cut_behind),
    "patch 500": ("patch", status(500)),
    "patch 429": ("patch", status(429, Retry_After="1")),
    "patch forgotten": ("patch", status(404)),
    "patch out of step": ("patch", status(416)),
    "how far cut": ("how far", cut_at_once),
    "put cut": ("put", cut_at_once),
    "put done, answer lost": ("put", cut_behind),
    "put 500": ("put", status(500)),
    "put refused": ("put", status(400)),
    "manifest cut": ("put manifest", cut_at_once),
    "manifest done, answer lost": ("put manifest", cut_behind),
    "manifest 502": ("put manifest", status(502)),
    "manifest: a blob is gone": (
        "put manifest",
        body(b'{"errors":[{"code":"MANIFEST_BLOB_UNKNOWN","message":"gone"}]}', 400),
    ),
}


@pytest.mark.parametrize("fault", UPLOAD_FAULTS)
def test_push_outlasts(empty: FaultyRegistry, model: StoreBuilder, fault: str) -> None:
    kind, trouble = UPLOAD_FAULTS[fault]
    empty.locked = True
    empty.faults[kind] = [trouble, None, trouble]
    if kind == "how far":
        empty.faults["patch"] = [cut_half_and_keep, None, cut_half_and_keep]
    pushed(empty, model)
    assert arrived(empty, model)


@pytest.mark.parametrize("fault", [name for name in UPLOAD_FAULTS if "done" not in name and "how far" not in name])
def test_push_that_can_not_be_done_is_one_clear_error(empty: FaultyRegistry, model: StoreBuilder, fault: str) -> None:
    kind, trouble = UPLOAD_FAULTS[fault]
    empty.always[kind] = trouble
    with pytest.raises(FerryError) as caught:
        pushed(empty, model)
    assert caught.value.exit_code in (4, 8)
    assert "models/m" in caught.value.message
    assert not arrived(empty, model)
    empty.always.clear()
    pushed(empty, model)
    assert arrived(empty, model)


def test_upload_goes_on_where_the_line_broke(empty: FaultyRegistry, model: StoreBuilder) -> None:
    empty.faults["patch"] = [None, cut_half_and_keep, None, cut_half_and_keep, cut_at_once]
    pushed(empty, model)
    assert arrived(empty, model)
    came = sum(seen.size for seen in empty.seen if seen.method == "PATCH")
    assert came == len(BIG)


def test_second_push_sends_what_is_missing(empty: FaultyRegistry, model: StoreBuilder) -> None:
    empty.always["put manifest"] = status(500)
    with pytest.raises(Unreachable):
        pushed(empty, model)
    empty.always.clear()
    empty.seen.clear()
    done = pushed(empty, model)
    assert arrived(empty, model) and not done.blobs
    assert not empty.count("start") and not empty.count("patch")


@pytest.mark.parametrize(("code", "tries"), [(413, 1), (400, 4), (500, 4)])
def test_refusals_are_not_tried_for_ages(empty: FaultyRegistry, many: StoreBuilder, code: int, tries: int) -> None:
    empty.always["put"] = status(code)
    with pytest.raises(FerryError) as caught:
        pushed(empty, many)
    # Those that were on their way, each as often as is promised, and no blob beyond them.
    assert empty.count("put") <= 24 * tries
    per_blob = Counter(seen.path.partition("digest=")[2] for seen in empty.seen if seen.method == "PUT")
    assert max(per_blob.values()) <= tries
    assert ("client_max_body_size" in caught.value.hint) is (code == 413)


LOCATIONS = {
    "another port": "http://{}/v2/models/m/blobs/uploads/0",
    "another host": "http://localhost.invalid/v2/",
    "file": "file:///etc/passwd",
    "none": "",
}


@pytest.mark.parametrize("kind", ["start", "patch"])
@pytest.mark.parametrize("place", LOCATIONS)
def test_upload_goes_nowhere_else(
    empty: FaultyRegistry, registry: FaultyRegistry, model: StoreBuilder, kind: str, place: str
) -> None:
    location = LOCATIONS[place].format(registry.address)
    empty.always[kind] = status(202, **({"Location": location} if location else {}))
    with pytest.raises(Damaged):
        pushed(empty, model)
    assert not registry.seen
    assert not arrived(empty, model)


def test_damaged_blob_is_not_pushed(empty: FaultyRegistry, model: StoreBuilder) -> None:
    for content in (BIG, SMALL):
        path = model.blob_path(Digest.of(content))
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        with pytest.raises(Damaged):
            pushed(empty, model)
        assert not arrived(empty, model)
        path.write_bytes(content)
        empty.blobs.clear()
    # The registry was told that no more will come.
    assert empty.count("delete")


def test_blob_that_the_registry_loses_is_sent_again(empty: FaultyRegistry, model: StoreBuilder) -> None:
    def lose(handler: FaultyHandler) -> None:
        handler.registry.blobs.pop(str(Digest.of(SMALL)))

    empty.faults["put manifest"] = [lose]
    pushed(empty, model)
    assert arrived(empty, model)


def test_mount_that_is_refused_costs_an_upload_and_no_more(empty: FaultyRegistry, model: StoreBuilder) -> None:
    empty.faults["start"] = [status(403), status(404)]
    done = push(
        Store(model.root),
        [ModelName.parse("m:1")],
        PushTarget.parse(f"{empty.address}/models"),
        PushOptions(mount_from=("other/m",)),
        quick_access(),
    )
    assert arrived(empty, model) and not done.mounted


def test_a_mount_that_was_none_is_followed_by_the_bytes(registry: FaultyRegistry, source: StoreBuilder) -> None:
    source.model("m:3", [("model", BIG)])

    def say_mounted(handler: FaultyHandler) -> None:
        if "mount=" in handler.path:
            handler.reply(201, {"Location": "/v2/models/m/blobs/x"})
            raise Answered

    def unknown(handler: FaultyHandler) -> None:
        handler._read_body()
        if not all(layer["digest"] in handler.registry.blobs for layer in json.loads(handler.body)["layers"]):
            handler.reply(404, body=b'{"errors": [{"code": "MANIFEST_BLOB_UNKNOWN", "message": "no"}]}')
            raise Answered

    registry.blobs.clear()
    registry.always.update({"start": say_mounted, "put manifest": unknown})
    target = PushTarget.parse(f"{registry.address}/models")
    done = push(
        Store(source.root), list(Store(source.root).names()), target, PushOptions(mount_from=("q/m",)), quick_access()
    )
    assert str(Digest.of(BIG)) in registry.blobs
    assert not done.mounted


def test_equal_manifest_is_enough(empty: FaultyRegistry, many: StoreBuilder) -> None:
    pushed(empty, many)
    empty.seen.clear()
    done = pushed(empty, many)
    assert done.models[0].was_there and len(done.present) == 42 and not done.blobs
    assert [empty.kind(seen.method, seen.path) for seen in empty.seen] == ["manifest"]


@pytest.mark.parametrize("kind", ["put", "put manifest"])
def test_digest_that_is_invalid_for_a_moment_is_a_race(empty: FaultyRegistry, model: StoreBuilder, kind: str) -> None:
    """As some registries answer where several push the same at once."""
    invalid = body(b'{"errors":[{"code":"DIGEST_INVALID","message":"provided digest did not match"}]}', 400)
    empty.faults[kind] = [invalid, invalid]
    pushed(empty, model)
    assert arrived(empty, model)


def test_blob_that_another_push_has_brought_meanwhile_is_not_sent_again(
    empty: FaultyRegistry, model: StoreBuilder
) -> None:
    def bring(handler: FaultyHandler) -> None:
        handler.registry.add(BIG)
        status(404)(handler)

    empty.faults["patch"] = [None, bring]
    pushed(empty, model)
    assert arrived(empty, model)
    assert empty.count("patch") == 2


# -- a push after one that was killed


def break_off(empty: FaultyRegistry, model: StoreBuilder, home: Path) -> Access:
    """Push until the line breaks for good after three chunks; return how to push again."""
    access = quick_access(environ={"HOME": str(home)})
    empty.faults["patch"] = [None, None, None, *[cut_at_once] * 99]
    with pytest.raises(Unreachable):
        pushed(empty, model, access)
    empty.faults.clear()
    empty.seen.clear()
    return access


def patched(empty: FaultyRegistry) -> int:
    return sum(seen.size for seen in empty.seen if seen.method == "PATCH")


@needs.owners
def test_next_push_goes_on_where_the_registry_still_knows_of_it(
    empty: FaultyRegistry, model: StoreBuilder, tmp_path: Path
) -> None:
    access = break_off(empty, model, tmp_path)
    (record,) = (tmp_path / ".cache/ollama-ferry/uploads").iterdir()
    assert record.stat().st_mode & 0o777 == 0o600 and record.parent.stat().st_mode & 0o777 == 0o700
    pushed(empty, model, access)
    assert arrived(empty, model) and patched(empty) == len(BIG) - 300_000
    assert not list(record.parent.iterdir())


@pytest.mark.parametrize("how", ["forgotten", "elsewhere", "no text", "cut off", "at work", "not ours"])
def test_what_is_of_no_use_is_sent_from_its_start(
    empty: FaultyRegistry, registry: FaultyRegistry, model: StoreBuilder, tmp_path: Path, how: str
) -> None:
    access = break_off(empty, model, tmp_path)
    (record,) = (tmp_path / ".cache/ollama-ferry/uploads").iterdir()
    text = record.read_text()
    if how == "not ours":
        needs.require(needs.owners)
    if how == "forgotten":
        empty.uploads.clear()
    elif how == "not ours" and needs.IS_ROOT:
        os.chown(record, 1, 1)
    else:
        given = {
            "elsewhere": text.replace(empty.address, registry.address),
            "no text": "\0\xff\n",
            "cut off": text[:-9],
        }
        record.write_text(given.get(how, text))
    with record.open() as held:
        if how == "at work":
            lock_file(held.fileno())
        pushed(empty, model, access)
    assert arrived(empty, model) and not registry.seen
    assert patched(empty) == len(BIG) - (300_000 if how == "not ours" and not needs.IS_ROOT else 0)


def test_damage_found_in_what_was_sent_before_is_not_published(
    empty: FaultyRegistry, model: StoreBuilder, tmp_path: Path
) -> None:
    access = break_off(empty, model, tmp_path)
    path = model.blob_path(Digest.of(BIG))
    path.write_bytes(bytes([BIG[0] ^ 1]) + BIG[1:])
    with pytest.raises(Damaged):
        pushed(empty, model, access)
    assert not arrived(empty, model) and empty.count("delete")
