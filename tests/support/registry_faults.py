"""Ways in which a registry fails, each as it shows itself, and pulls and pushes that meet them."""

from __future__ import annotations

import time
from pathlib import Path

from ollama_ferry.jobs.import_ import Imported
from ollama_ferry.jobs.import_choices import ImportOptions
from ollama_ferry.jobs.pull import pull_into_store, references_of
from ollama_ferry.jobs.push import Pushed, PushOptions, push
from ollama_ferry.model.manifests import Digest
from ollama_ferry.places.registry.references import PushTarget
from ollama_ferry.places.store.store import Store
from ollama_ferry.registries.access import Access
from support.oci_registries import (
    Answered,
    FaultyHandler,
    FaultyRegistry,
    Trouble,
    quick_access,
)
from support.stores import StoreBuilder, faults_of, weights

BIG = weights(750_000)
SMALL = weights(20_000, 2)


def pull(registry: FaultyRegistry, folder: Path, access: Access | None = None, *, tag: str = "1") -> Imported:
    references = references_of([f"{registry.address}/models/m:{tag}"])
    return pull_into_store(references, Store(folder / "store"), ImportOptions(), access or quick_access())


def whole(folder: Path) -> bool:
    """Return whether the one model is there and right; whatever is listed is right in any case."""
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
    handler.connection.settimeout(200)
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


def arrived(registry: FaultyRegistry, source: StoreBuilder) -> bool:
    """Return whether the model is in the registry; whatever is there is right in any case."""
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


def drip_a_body(handler: FaultyHandler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "60000")
    handler.end_headers()
    for _ in range(2000):
        handler.wfile.write(b" ")
        time.sleep(0.1)


def drip_a_header(handler: FaultyHandler) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Long: ")
    for _ in range(2000):
        handler.wfile.write(b"x")
        time.sleep(0.1)


def continue_for_ever(handler: FaultyHandler) -> None:
    for _ in range(2000):
        handler.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        time.sleep(0.1)


def trail_for_ever(handler: FaultyHandler) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n")
    for _ in range(2000):
        handler.wfile.write(b"X-Trailer: x\r\n")
        time.sleep(0.1)
