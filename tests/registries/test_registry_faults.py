"""A registry that cuts, stalls, lies and refuses: all ends whole or in one clear error; nothing wrong is published."""

from __future__ import annotations

import base64
import json
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from email.utils import formatdate
from pathlib import Path

import pytest

from ollama_ferry.engine.events import Cancel
from ollama_ferry.engine.run import Run
from ollama_ferry.errors import (
    AlreadyExists,
    Cancelled,
    Damaged,
    FerryError,
    MissingBlob,
    ModelNotFound,
    NotPermitted,
    Remedy,
    Unreachable,
    UsageError,
)
from ollama_ferry.jobs.export import ExportOptions
from ollama_ferry.jobs.import_ import Imported
from ollama_ferry.jobs.import_choices import ImportOptions
from ollama_ferry.jobs.pull import pull_into_file, pull_into_store, references_of
from ollama_ferry.jobs.push import Pushed, PushOptions, push
from ollama_ferry.model.manifests import Digest
from ollama_ferry.model.names import ModelName
from ollama_ferry.places.registry.references import PushTarget
from ollama_ferry.places.store.store import Store
from ollama_ferry.registries.access import Access
from support.command_line import COMMAND
from support.oci_registries import (
    QUICK,
    Answered,
    FaultyHandler,
    FaultyRegistry,
    Trouble,
    faulty_registry,
    quick_access,
)
from support.stores import StoreBuilder, faults_of, weights

BIG = weights(750_000)
SMALL = weights(20_000, 2)


@pytest.fixture
def registry() -> Iterator[FaultyRegistry]:
    with faulty_registry() as server:
        server.add_model("models/m", "1", BIG, SMALL)
        yield server


@pytest.fixture
def empty() -> Iterator[FaultyRegistry]:
    with faulty_registry() as server:
        yield server


def pull(registry: FaultyRegistry, folder: Path, access: Access | None = None, *, tag: str = "1") -> Imported:
    references = references_of([f"{registry.address}/models/m:{tag}"])
    return pull_into_store(references, Store(folder / "store"), ImportOptions(), access or quick_access())


def whole(folder: Path) -> bool:
    """Tell whether the one model is there and right; whatever is listed is right in any case."""
    root = folder / "store"
    assert not faults_of(root)
    names = list(Store(root).names())
    if names:
        content = {Digest.of(BIG), Digest.of(SMALL)}
        assert content < {blob.digest for blob in Store(root).manifest(names[0]).blobs}
    return bool(names)


def pushed(
    registry: FaultyRegistry, source: StoreBuilder, access: Access | None = None, *, oci: bool = False
) -> Pushed:
    names = list(Store(source.root).names())
    target = PushTarget.parse(f"{registry.address}/models")
    return push(Store(source.root), names, target, PushOptions(oci=oci), access or quick_access())


# -- faults, each as the server shows it


def cut_at_once(handler: FaultyHandler) -> None:
    handler.cut()


def cut_in_headers(handler: FaultyHandler) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Le")
    handler.cut()


def cut_in_body(handler: FaultyHandler) -> None:
    handler._read_body()
    raw = handler.registry.manifests.get("models/m:1", b"x" * 100)
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(raw)))
    handler.end_headers()
    handler.wfile.write(raw[: len(raw) // 2])
    handler.cut()


def cut_in_blob(handler: FaultyHandler) -> None:
    """Give half of the range that is asked for, and cut the line."""
    content = handler.blob()
    start, end = handler.asked(len(content))
    handler.send_response(206)
    handler.send_header("Content-Range", f"bytes {start}-{end - 1}/{len(content)}")
    handler.send_header("Content-Length", str(end - start))
    handler.end_headers()
    half = content[start : start + (end - start) // 2]
    handler.wfile.write(half)
    handler.seen.sent += len(half)
    handler.cut()


def stall_in_blob(handler: FaultyHandler) -> None:
    """Give some of a range, and then nothing for ever."""
    content = handler.blob()
    start, end = handler.asked(len(content))
    handler.send_response(206)
    handler.send_header("Content-Range", f"bytes {start}-{end - 1}/{len(content)}")
    handler.send_header("Content-Length", str(end - start))
    handler.end_headers()
    handler.wfile.write(content[start : start + 1000])
    handler.connection.settimeout(5)
    handler.rfile.read(1)
    handler.cut()


def status(code: int, **headers: str) -> Trouble:
    def fault(handler: FaultyHandler) -> None:
        handler._read_body()
        handler.reply(code, {key.replace("_", "-"): value for key, value in headers.items()})
        raise Answered

    return fault


def body(content: bytes, code: int = 200, *, length: int | None = None, **headers: str) -> Trouble:
    def fault(handler: FaultyHandler) -> None:
        handler._read_body()
        handler.reply(code, {key.replace("_", "-"): value for key, value in headers.items()}, content, length)
        handler.cut()

    return fault


# -- pull


PASSING = {
    "cut": cut_at_once,
    "cut in the headers": cut_in_headers,
    "no HTTP": lambda handler: (handler.wfile.write(b"what?\r\n\r\n"), handler.cut())[1],
    "500": status(500),
    "502": status(502),
    "503 and a date": status(503, Retry_After=formatdate(time.time() + 3600)),
    "429": status(429, Retry_After="3600"),
    "429 and nonsense": status(429, Retry_After="soon"),
    "huge header": lambda handler: (handler.reply(200, {"X": "y" * 200_000}), handler.cut())[1],
}


@pytest.mark.parametrize("kind", ["token", "manifest", "blob"])
@pytest.mark.parametrize("fault", PASSING)
def test_what_passes_is_outlasted(registry: FaultyRegistry, tmp_path: Path, kind: str, fault: str) -> None:
    registry.locked = True
    registry.faults[kind] = [PASSING[fault], PASSING[fault]]
    pull(registry, tmp_path)
    assert whole(tmp_path)
    assert not registry.faults[kind]


@pytest.mark.parametrize("kind", ["token", "manifest", "blob"])
@pytest.mark.parametrize("fault", ["cut", "cut in the headers", "500", "429"])
def test_what_stays_is_one_clear_error(registry: FaultyRegistry, tmp_path: Path, kind: str, fault: str) -> None:
    registry.locked = True
    registry.always[kind] = PASSING[fault]
    with pytest.raises(Unreachable) as caught:
        pull(registry, tmp_path)
    assert "models/m" in caught.value.message and registry.address in caught.value.message
    assert caught.value.hint
    assert not whole(tmp_path)
    registry.always.clear()
    pull(registry, tmp_path)
    assert whole(tmp_path)


def test_manifest_that_is_cut_is_asked_for_again(registry: FaultyRegistry, tmp_path: Path) -> None:
    registry.faults["manifest"] = [cut_in_body, cut_in_body]
    pull(registry, tmp_path)
    assert whole(tmp_path)


@pytest.mark.parametrize("streams", [1, 4])
def test_blob_that_is_cut_goes_on_where_it_broke(registry: FaultyRegistry, tmp_path: Path, streams: int) -> None:
    registry.faults["blob"] = [cut_in_blob] * 6
    pull(registry, tmp_path, quick_access(streams=streams))
    assert whole(tmp_path)
    # What had arrived is not sent again, but for what the reading had not yet handed on.
    assert registry.sent() <= len(BIG) + 2 * len(SMALL) + 6 * 100_000


@pytest.mark.parametrize(("fast_enough", "count"), [(0.0, 2), (float("inf"), 8)])
def test_fast_line_is_asked_for_the_rest_at_once(
    registry: FaultyRegistry, tmp_path: Path, fast_enough: float, count: int
) -> None:
    pull(registry, tmp_path, quick_access(fast_enough=fast_enough))
    assert whole(tmp_path)
    assert sum(str(Digest.of(BIG)) in seen.path for seen in registry.seen) == count


@pytest.mark.parametrize("streams", [1, 4])
def test_stalled_part_is_replaced(registry: FaultyRegistry, tmp_path: Path, streams: int) -> None:
    registry.faults["blob"] = [None, stall_in_blob, None, stall_in_blob]
    started = time.monotonic()
    pull(registry, tmp_path, quick_access(streams=streams, patience=replace(QUICK, stall=0.25)))
    assert whole(tmp_path)
    assert time.monotonic() - started < 8


def test_blob_arrives_without_ranges(registry: FaultyRegistry, tmp_path: Path) -> None:
    registry.ranges = False
    pull(registry, tmp_path)
    assert whole(tmp_path)
    assert registry.sent() == sum(map(len, registry.blobs.values()))


def test_blob_goes_on_without_ranges(registry: FaultyRegistry, tmp_path: Path) -> None:
    registry.ranges = False

    def cut_late(handler: FaultyHandler) -> None:
        content = handler.blob()
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        handler.wfile.write(content[: len(content) - 5])
        handler.cut()

    registry.faults["blob"] = [cut_late, cut_late, cut_late]
    pull(registry, tmp_path)
    assert whole(tmp_path)


def test_second_pull_goes_on_where_the_first_stopped(registry: FaultyRegistry, tmp_path: Path) -> None:
    def cut_after_three(handler: FaultyHandler) -> None:
        if len(handler.blob()) == len(BIG) and handler.asked(len(BIG))[0] >= 300_000:
            handler.cut()

    registry.always["blob"] = cut_after_three
    with pytest.raises(Unreachable, match=str(Digest.of(BIG))):
        pull(registry, tmp_path, quick_access(streams=2))
    first = registry.sent()
    assert first >= 300_000
    registry.always.clear()
    pull(registry, tmp_path)
    assert whole(tmp_path)
    # Parts that had come before an earlier one were given up with it: they may come again.
    assert registry.sent() - first <= len(BIG) - 300_000 + len(SMALL) + 50


def test_killed_streams_leave_no_thread_behind(registry: FaultyRegistry, tmp_path: Path) -> None:
    registry.always["blob"] = status(404)
    with pytest.raises(MissingBlob):
        pull(registry, tmp_path)
    deadline = time.monotonic() + 3
    while any(thread.name in ("range", "upload") for thread in threading.enumerate()):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_many_small_blobs_are_fetched_ahead(empty: FaultyRegistry, tmp_path: Path) -> None:
    layers = [b"%d" % number * 100 for number in range(60)]
    empty.add_model("models/m", "1", *layers)
    lock, here, most = threading.Lock(), [0], [0]

    def counted(handler: FaultyHandler) -> None:
        with lock:
            here[0] += 1
            most[0] = max(most[0], here[0])
        time.sleep(0.01)
        with lock:
            here[0] -= 1

    empty.always["blob"] = counted
    empty.faults["blob"] = [cut_at_once, cut_in_blob, None, status(503)]
    pull(empty, tmp_path)
    assert not faults_of(tmp_path / "store") and list(Store(tmp_path / "store").names())
    assert 1 < most[0] <= 8 and empty.count("blob") == 61 + 3
    # One that is not there ends it all, and soon.
    empty.blobs.pop(str(Digest.of(layers[50])))
    with pytest.raises(MissingBlob):
        pull(empty, tmp_path / "other")
    assert not faults_of(tmp_path / "other/store")


WRONG = {
    "other bytes": body(b"x" * 20_000),
    "short by a byte": body(SMALL[:-1]),
    "long by a byte": body(SMALL + b"x"),
    "empty": body(b""),
    "206 for another range": body(SMALL, 206, Content_Range=f"bytes 5-{len(SMALL) + 4}/{len(SMALL)}"),
    "206 of another size": body(SMALL, 206, Content_Range=f"bytes 0-{len(SMALL) - 1}/{len(SMALL) + 1}"),
    "206 without a range": body(SMALL, 206),
    "206 and nonsense": body(SMALL, 206, Content_Range="bytes 99999999999999999999999-0/-1"),
}


@pytest.mark.parametrize("fault", WRONG)
def test_wrong_bytes_are_never_published(registry: FaultyRegistry, tmp_path: Path, fault: str) -> None:
    def small_only(handler: FaultyHandler) -> None:
        if handler.blob() == SMALL:
            WRONG[fault](handler)

    registry.always["blob"] = small_only
    with pytest.raises(Damaged) as caught:
        pull(registry, tmp_path)
    assert str(Digest.of(SMALL)) in caught.value.message
    assert not whole(tmp_path)
    registry.always.clear()
    pull(registry, tmp_path)
    assert whole(tmp_path)


def test_wrong_bytes_leave_no_archive(registry: FaultyRegistry, tmp_path: Path) -> None:
    registry.blobs[str(Digest.of(BIG))] = BIG[:-1] + b"x"
    references = references_of([f"{registry.address}/models/m:1"])
    with pytest.raises(Damaged):
        pull_into_file(references, tmp_path / "m.tar.gz", ExportOptions(), quick_access())
    assert not list(tmp_path.glob("m.tar*"))


MANIFESTS = {
    "of a gigabyte": body(b"{" + b" " * 100_000, length=2**30),
    "without end": lambda handler: _without_end(handler),
    "no JSON": body(b"<html>"),
    "an index": body(b'{"mediaType": "application/vnd.oci.image.index.v1+json", "manifests": []}'),
    "other bytes than it says": body(b'{"layers": []}', Docker_Content_Digest=f"sha256:{'0' * 64}"),
    "a path": body(b'{"layers": [{"digest": "sha256:../../etc/passwd", "size": 1}]}'),
    "sizes": body(b'{"layers": [{"digest": "sha256:%s", "size": 99999999999999999999}]}' % (b"0" * 64)),
}


def _without_end(handler: FaultyHandler) -> None:
    handler.send_response(200)
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()
    for _ in range(400):
        handler.wfile.write(b"10000\r\n" + b" " * 0x10000 + b"\r\n")
    handler.cut()


@pytest.mark.parametrize("fault", MANIFESTS)
def test_manifest_that_is_none_is_refused(registry: FaultyRegistry, tmp_path: Path, fault: str) -> None:
    registry.always["manifest"] = MANIFESTS[fault]
    with pytest.raises(Damaged, match=r"models/m:1"):
        pull(registry, tmp_path)
    assert not (tmp_path / "store/blobs").exists()


@pytest.mark.parametrize("kind", ["vnd.docker.image.rootfs.diff.tar.gzip", "vnd.oci.image.layer.v1.tar+zstd"])
def test_container_image_is_no_model(registry: FaultyRegistry, tmp_path: Path, kind: str) -> None:
    image = json.loads(registry.manifests["models/m:1"])
    for layer in image["layers"]:
        layer["mediaType"] = f"application/{kind}"
    registry.manifests["models/m:1"] = json.dumps(image).encode()
    with pytest.raises(Damaged, match="container image"):
        pull(registry, tmp_path)
    assert not (tmp_path / "store/blobs").exists() and not registry.count("blob")
    # What else a model has beside its weights is nobody's business.
    image["layers"][0]["mediaType"] = "application/vnd.ollama.image.model"
    registry.manifests["models/m:1"] = json.dumps(image).encode()
    pull(registry, tmp_path)
    assert whole(tmp_path)


OWN = "ollama-ferry.manifest"
WITHIN: dict[str, object] = {
    "no base64": "***",
    "no text": 7,
    "a list": ["e30="],
    "no manifest": base64.b64encode(b"[]").decode(),
    "other blobs": base64.b64encode(
        json.dumps({"config": {"digest": f"sha256:{'1' * 64}", "size": 1}, "layers": []}).encode()
    ).decode(),
    "nothing": "",
}


@pytest.mark.parametrize("fault", WITHIN)
def test_manifest_within_a_manifest_is_not_trusted(registry: FaultyRegistry, tmp_path: Path, fault: str) -> None:
    around = json.loads(registry.manifests["models/m:1"])
    registry.manifests["models/m:1"] = json.dumps({**around, "annotations": {OWN: WITHIN[fault]}}).encode()
    with pytest.raises(Damaged, match=r"models/m:1"):
        pull(registry, tmp_path)
    assert not (tmp_path / "store/blobs").exists()


def test_digest_of_a_reference_is_checked(registry: FaultyRegistry, tmp_path: Path) -> None:
    registry.manifests[f"sha256:{'1' * 64}"] = registry.manifests["models/m:1"]
    references = references_of([f"{registry.address}/models/m:1@sha256:{'1' * 64}"])
    with pytest.raises(Damaged, match="1111"):
        pull_into_store(references, Store(tmp_path / "store"), ImportOptions(), quick_access())


def test_model_that_is_not_there(registry: FaultyRegistry, tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match=r"models/m:2"):
        pull(registry, tmp_path, tag="2")


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


def test_token_that_ends_half_way_is_renewed(registry: FaultyRegistry, tmp_path: Path) -> None:
    registry.locked, registry.expires = True, 3
    pull(registry, tmp_path, quick_access(streams=1))
    assert whole(tmp_path)
    assert registry.count("token") >= 2


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


def test_nobody_there_is_told_soon(tmp_path: Path) -> None:
    references = references_of(["127.0.0.1:9/models/m:1"])
    started = time.monotonic()
    with pytest.raises(Unreachable) as caught:
        pull_into_store(references, Store(tmp_path / "store"), ImportOptions(), Access(insecure=True))
    assert time.monotonic() - started < 10 and "refused" in caught.value.message
    with pytest.raises(Unreachable, match="not known"):
        references = references_of(["no.such.host.invalid/models/m:1"])
        pull_into_store(references, Store(tmp_path / "store"), ImportOptions(), quick_access())


def test_plain_http_is_not_tried_unasked(registry: FaultyRegistry, tmp_path: Path) -> None:
    with pytest.raises(Unreachable) as caught:
        pull(registry, tmp_path, quick_access(insecure=False))
    assert caught.value.remedies == (Remedy("insecure"),)
    assert not registry.seen


def test_wait_can_be_given_up(registry: FaultyRegistry, tmp_path: Path) -> None:
    registry.always["manifest"] = status(429, Retry_After="50")
    cancel = Cancel()
    threading.Timer(0.2, cancel.set).start()
    started = time.monotonic()
    with pytest.raises(Cancelled):
        pull_into_store(
            references_of([f"{registry.address}/models/m:1"]),
            Store(tmp_path / "store"),
            ImportOptions(),
            Access(insecure=True),
            run=Run(cancel=cancel),
        )
    assert time.monotonic() - started < 10


def test_limit_is_kept_both_ways(registry: FaultyRegistry, source: StoreBuilder, tmp_path: Path) -> None:
    started = time.monotonic()
    pull(registry, tmp_path, quick_access(bytes_per_second=1_500_000))
    assert time.monotonic() - started > 0.4
    source.model("b:1", [("model", weights(750_000, 7))])
    started = time.monotonic()
    pushed(registry, source, quick_access(bytes_per_second=1_500_000))
    assert time.monotonic() - started > 0.4


# -- push


@pytest.fixture
def model(source: StoreBuilder) -> StoreBuilder:
    source.model("m:1", [("model", BIG), ("license", SMALL)])
    return source


def arrived(registry: FaultyRegistry, source: StoreBuilder) -> bool:
    """Tell whether the model is in the registry; whatever is there is right in any case."""
    for digest, content in registry.blobs.items():
        assert str(Digest.of(content)) == digest
    raw = registry.manifests.get("models/m:1")
    if raw is not None:
        assert raw == source.manifest_path("m:1").read_bytes()
        assert {str(Digest.of(BIG)), str(Digest.of(SMALL))} < registry.blobs.keys()
    return raw is not None


def cut_half_and_keep(handler: FaultyHandler) -> None:
    """Take half of a chunk, keep that, and cut the line."""
    handler.read_some(int(handler.seen.headers["content-length"]) // 2)
    handler.keep()
    handler.cut()


def cut_half_and_forget(handler: FaultyHandler) -> None:
    handler.read_some(int(handler.seen.headers["content-length"]) // 2)
    handler.cut()


def cut_behind(handler: FaultyHandler) -> None:
    """Do what is asked for, and cut the line before the answer."""
    handler._read_body()
    reply = handler.reply
    handler.reply = lambda *_, **__: None  # type: ignore[method-assign]
    try:
        handler._answer(handler.registry.kind(handler.command, handler.path))
    finally:
        handler.reply = reply  # type: ignore[method-assign]
    handler.cut()


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


@pytest.fixture
def many(source: StoreBuilder) -> StoreBuilder:
    source.model("m:1", [("model", SMALL), *(("tensor", weights(100, seed)) for seed in range(3, 43))])
    return source


def test_small_blobs_are_sent_side_by_side(empty: FaultyRegistry, many: StoreBuilder) -> None:
    together = threading.Barrier(4)

    def meet(_: FaultyHandler) -> None:
        together.wait(20)

    empty.faults["put"] = [meet] * 4
    done = pushed(empty, many)
    assert len(done.blobs) == empty.count("put") == 42
    assert empty.manifests["models/m:1"] == many.manifest_path("m:1").read_bytes()
    assert {str(blob.digest) for blob in done.blobs} == empty.blobs.keys()


def test_small_blob_that_is_not_taken_ends_the_push(empty: FaultyRegistry, many: StoreBuilder) -> None:
    empty.faults["put"] = [None] * 10
    empty.always["put"] = status(400)
    with pytest.raises(FerryError, match="sending the blob"):
        pushed(empty, many)
    assert not empty.manifests
    there = len(empty.blobs)
    assert there == 10
    empty.always.clear()
    assert len(pushed(empty, many).blobs) == 42 - there
    assert empty.manifests


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


def test_nothing_is_sent_twice_where_another_blob_is_lost(empty: FaultyRegistry, source: StoreBuilder) -> None:
    source.model("m:1", [("model", BIG), *(("tensor", weights(100, seed)) for seed in range(3, 15))])

    def slow(_: FaultyHandler) -> None:
        time.sleep(0.3)

    empty.always["put"] = slow
    empty.faults["patch"] = [None, status(404)]
    done = pushed(empty, source)
    per_blob = Counter(seen.path.partition("digest=")[2] for seen in empty.seen if seen.method == "PUT")
    assert max(per_blob.values()) == 1
    assert len(done.blobs) == 14 and not done.present


def test_document_that_only_looks_like_the_model_is_not_replaced(empty: FaultyRegistry, model: StoreBuilder) -> None:
    """What has the model's own manifest within, and is not what a push makes of it, is somebody else's."""
    pushed(empty, model, oci=True)
    ours = json.loads(empty.manifests["models/m:1"])
    theirs = json.dumps({**ours, "artifactType": "application/x"}).encode()
    empty.manifests["models/m:1"] = theirs
    for oci in (False, True):
        with pytest.raises(AlreadyExists):
            pushed(empty, model, oci=oci)
    assert empty.manifests["models/m:1"] == theirs


def test_manifest_that_would_be_too_large_in_oci_form(empty: FaultyRegistry, source: StoreBuilder) -> None:
    layer = source.layer("tensor", b"x")
    kind = "application/vnd.docker.distribution.manifest.v2+json"
    document = {"mediaType": kind, "config": source.layer("config", b"{}"), "layers": [layer] * 16_000}
    source.manifest("m:1", json.dumps(document).encode())
    with pytest.raises(UsageError, match="m:1 has so many layers"):
        pushed(empty, source, oci=True)
    assert not empty.blobs


def test_small_blob_of_other_bytes_is_not_sent(empty: FaultyRegistry, many: StoreBuilder) -> None:
    wrong = many.blob_path(Digest.of(weights(100, 20)))
    wrong.write_bytes(bytes(100))
    with pytest.raises(Damaged):
        pushed(empty, many)
    assert not empty.manifests
    assert str(Digest.of(bytes(100))) not in empty.blobs


def test_manifest_of_a_type_that_is_not_taken(empty: FaultyRegistry, model: StoreBuilder) -> None:
    """As zot answers unless it is told to take Docker's type."""
    said = b'{"errors":[{"code":"MANIFEST_INVALID","message":"manifest invalid"}]}'
    empty.always["put manifest"] = body(said, 415)
    with pytest.raises(FerryError) as caught:
        pushed(empty, model)
    assert "docker2s2" in caught.value.hint


def test_token_that_ends_in_the_middle_of_a_push(empty: FaultyRegistry, model: StoreBuilder) -> None:
    # Small blobs go side by side and share a token, which must last for one request of each.
    empty.locked, empty.expires = True, 4
    pushed(empty, model)
    assert arrived(empty, model)
    assert empty.count("token") > 3


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


# -- bytes that drip: each comes in time, and all together never


def drip_a_body(handler: FaultyHandler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "60000")
    handler.end_headers()
    for _ in range(200):
        handler.wfile.write(b" ")
        time.sleep(0.1)


def drip_a_header(handler: FaultyHandler) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Long: ")
    for _ in range(200):
        handler.wfile.write(b"x")
        time.sleep(0.1)


def continue_for_ever(handler: FaultyHandler) -> None:
    for _ in range(200):
        handler.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        time.sleep(0.1)


def trail_for_ever(handler: FaultyHandler) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n")
    for _ in range(200):
        handler.wfile.write(b"X-Trailer: x\r\n")
        time.sleep(0.1)


@pytest.mark.parametrize("fault", [drip_a_body, drip_a_header, continue_for_ever, trail_for_ever])
@pytest.mark.parametrize("kind", ["manifest", "token"])
def test_what_drips_is_not_waited_for(
    registry: FaultyRegistry, tmp_path: Path, kind: str, fault: Callable[[FaultyHandler], None]
) -> None:
    registry.locked = kind == "token"
    # Once: the next try comes right.
    registry.faults[kind] = [fault]
    patience = replace(QUICK, answer=0.5, stall=10)
    started = time.monotonic()
    pull(registry, tmp_path, quick_access(patience=patience))
    # The drip would have gone on for twenty seconds.
    assert time.monotonic() - started < 15
    assert whole(tmp_path)


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


@pytest.mark.parametrize("kind", ["look", "put", "put, asked to wait"])
def test_giving_up_does_not_wait_for_what_hangs(
    registry: FaultyRegistry, source: StoreBuilder, tmp_path: Path, kind: str
) -> None:
    reached, release = threading.Event(), threading.Event()

    def hang(handler: FaultyHandler) -> None:
        reached.set()
        if "wait" in kind:
            # Whoever asked waits a minute before the next try.
            handler._read_body()
            handler.reply(503, {"Retry-After": "60"})
            raise Answered
        release.wait(60)
        handler.cut()

    source.model("m:2", [("tensor", bytes([number]) * 100) for number in range(40)])
    registry.always[kind.partition(",")[0]] = hang
    command = [*COMMAND, "push", "m:2", f"{registry.address}/models", "--insecure", "--models", str(source.root)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert reached.wait(30)
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=20)
    finally:
        release.set()
        process.kill()
    assert process.returncode == 130 and "Traceback" not in said


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
