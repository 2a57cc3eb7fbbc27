"""Pulls from a registry that cuts, stalls and sends wrong bytes: whole in the end, or one clear error."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from email.utils import formatdate
from pathlib import Path

import pytest

from ollama_ferry.engine.events import Cancel
from ollama_ferry.engine.run import Run
from ollama_ferry.errors import (
    Cancelled,
    Damaged,
    MissingBlob,
    Unreachable,
)
from ollama_ferry.jobs.export import ExportOptions
from ollama_ferry.jobs.import_choices import ImportOptions
from ollama_ferry.jobs.pull import pull_into_file, pull_into_store, references_of
from ollama_ferry.model.manifests import Digest
from ollama_ferry.places.store.store import Store
from ollama_ferry.registries.access import Access
from support.oci_registries import (
    QUICK,
    FaultyHandler,
    FaultyRegistry,
    quick_access,
)
from support.registry_faults import (
    BIG,
    SMALL,
    body,
    cut_at_once,
    cut_in_blob,
    cut_in_body,
    cut_in_headers,
    pull,
    pushed,
    stall_in_blob,
    status,
    whole,
)
from support.stores import StoreBuilder, faults_of, weights

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
    pull(registry, tmp_path, quick_access(streams=streams, patience=replace(QUICK, stall=0.25, attempts=50)))
    assert whole(tmp_path)
    # The stall would have gone on for much longer.
    assert time.monotonic() - started < 60


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
    deadline = time.monotonic() + 60
    while any(thread.name in ("range", "upload") for thread in threading.enumerate()):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_many_small_blobs_are_fetched_ahead(empty: FaultyRegistry, tmp_path: Path) -> None:
    layers = [b"%d" % number * 100 for number in range(60)]
    empty.add_model("models/m", "1", *layers)
    lock, here, most, together = threading.Lock(), [0], [0], threading.Event()

    def counted(handler: FaultyHandler) -> None:
        with lock:
            here[0] += 1
            most[0] = max(most[0], here[0])
            if here[0] > 1:
                together.set()
        # However slow the machine is, a second one comes before the first is answered; the config comes alone.
        together.wait(20 if len(empty.seen) > 4 else 0)
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


def test_nobody_there_is_told_soon(tmp_path: Path) -> None:
    references = references_of(["127.0.0.1:9/models/m:1"])
    started = time.monotonic()
    with pytest.raises(Unreachable) as caught:
        pull_into_store(references, Store(tmp_path / "store"), ImportOptions(), Access(insecure=True))
    assert time.monotonic() - started < 10 and "refused" in caught.value.message
    with pytest.raises(Unreachable, match="not known"):
        references = references_of(["no.such.host.invalid/models/m:1"])
        pull_into_store(references, Store(tmp_path / "store"), ImportOptions(), quick_access())


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
    assert time.monotonic() - started < 45


def test_limit_is_kept_both_ways(registry: FaultyRegistry, source: StoreBuilder, tmp_path: Path) -> None:
    started = time.monotonic()
    pull(registry, tmp_path, quick_access(bytes_per_second=1_500_000))
    assert time.monotonic() - started > 0.4
    source.model("b:1", [("model", weights(750_000, 7))])
    started = time.monotonic()
    pushed(registry, source, quick_access(bytes_per_second=1_500_000))
    assert time.monotonic() - started > 0.4
