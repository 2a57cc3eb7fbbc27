"""A registry that answers ranges wrongly, between one range and the next too: what is published has its digest."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ollama_ferry.errors import Damaged, FerryError
from ollama_ferry.jobs.import_choices import ImportOptions
from ollama_ferry.jobs.pull import pull_into_store, references_of
from ollama_ferry.places.store.store import Store
from support.oci_registries import Answered, Fault, FaultyHandler, FaultyRegistry, faulty_registry, quick_access
from support.stores import faults_of, weights

BIG = weights(750_000)
OTHER = weights(750_000, 9)


@pytest.fixture
def registry() -> Iterator[FaultyRegistry]:
    with faulty_registry() as server:
        server.add_model("models/m", "1", BIG)
        yield server


def pull(registry: FaultyRegistry, folder: Path, streams: int = 1) -> None:
    references = references_of([f"{registry.address}/models/m:1"])
    pull_into_store(references, Store(folder / "store"), ImportOptions(), quick_access(streams=streams))


def partial(answer: Callable[[FaultyHandler, int, int], None]) -> Callable[[FaultyHandler], None]:
    """Answer by hand; the first request of the blob is cut half way, so that the next one resumes."""

    def fault(handler: FaultyHandler) -> None:
        start, end = handler.asked(len(handler.blob()))
        if len(handler.blob()) != len(BIG):
            return
        answer(handler, start, end)
        raise Answered

    return fault


def say(handler: FaultyHandler, content: bytes, text: str, status: int = 206) -> None:
    handler.reply(status, {"Content-Range": text} if text else {}, content)


WRONG: dict[str, Callable[[FaultyHandler, int, int], None]] = {
    "another offset": lambda h, s, e: say(h, BIG[s + 7 : e], f"bytes {s + 7}-{e - 1}/{len(BIG)}"),
    "the start instead": lambda h, s, e: say(h, BIG[: e - s], f"bytes 0-{e - s - 1}/{len(BIG)}"),
    "no range": lambda h, s, e: say(h, BIG[s:e], ""),
    "another size": lambda h, s, e: say(h, BIG[s:e], f"bytes {s}-{e - 1}/{len(BIG) + 1}"),
    "an end before the start": lambda h, s, e: say(h, BIG[s:e], f"bytes {s}-{s - 1}/{len(BIG)}"),
    "several": lambda h, s, e: say(h, BIG[s:e], f"bytes {s}-{e - 1}/{len(BIG)}, bytes 0-1/2"),
    "other bytes": lambda h, s, e: say(h, OTHER[s:e], f"bytes {s}-{e - 1}/{len(BIG)}"),
    "other bytes, all of them": lambda h, s, e: say(h, OTHER, "", 200),
    "all of them, and too many": lambda h, s, e: say(h, BIG + b"x", "", 200),
}


@pytest.mark.parametrize(
    ("wrong", "when", "streams"),
    [
        (wrong, when, streams)
        for wrong in WRONG
        for when in ("from the start", "when resumed")
        for streams in (1, 4)
        # One range from the start is the start.
        if (wrong, when, streams) != ("the start instead", "from the start", 1)
    ],
)
def test_wrong_range_is_never_published(
    registry: FaultyRegistry, tmp_path: Path, wrong: str, when: str, streams: int
) -> None:
    def fault(handler: FaultyHandler, start: int, end: int) -> None:
        if when == "when resumed" and start == 0:
            # Half of what was asked for is right, and the line breaks.
            handler.send_response(206)
            handler.send_header("Content-Range", f"bytes 0-{end - 1}/{len(BIG)}")
            handler.send_header("Content-Length", str(end))
            handler.end_headers()
            handler.wfile.write(BIG[: end // 2])
            handler.cut()
            raise Fault
        WRONG[wrong](handler, start, end)

    registry.always["blob"] = partial(fault)
    with pytest.raises(FerryError):
        pull(registry, tmp_path, streams)
    assert not faults_of(tmp_path / "store") and not list(Store(tmp_path / "store").names())
    # What is kept of it is not believed by the next pull.
    registry.always.clear()
    pull(registry, tmp_path, streams)
    assert not faults_of(tmp_path / "store") and list(Store(tmp_path / "store").names())


def test_more_than_was_asked_for_is_not_taken(registry: FaultyRegistry, tmp_path: Path) -> None:
    def more(handler: FaultyHandler, start: int, end: int) -> None:
        say(handler, BIG[start:], f"bytes {start}-{len(BIG) - 1}/{len(BIG)}")

    registry.always["blob"] = partial(more)
    pull(registry, tmp_path, 4)
    assert not faults_of(tmp_path / "store") and list(Store(tmp_path / "store").names())


def test_less_than_was_asked_for_is_asked_for_again(registry: FaultyRegistry, tmp_path: Path) -> None:
    def less(handler: FaultyHandler, start: int, end: int) -> None:
        end = min(end, start + 40_000)
        say(handler, BIG[start:end], f"bytes {start}-{end - 1}/{len(BIG)}")

    registry.always["blob"] = partial(less)
    pull(registry, tmp_path, 4)
    assert not faults_of(tmp_path / "store") and list(Store(tmp_path / "store").names())


def test_blob_that_changes_between_two_ranges(registry: FaultyRegistry, tmp_path: Path) -> None:
    asked: list[int] = []

    def change(handler: FaultyHandler, start: int, end: int) -> None:
        asked.append(start)
        content = BIG if len(asked) < 3 else OTHER
        say(handler, content[start:end], f"bytes {start}-{end - 1}/{len(BIG)}")

    registry.always["blob"] = partial(change)
    with pytest.raises(Damaged):
        pull(registry, tmp_path, 4)
    assert not faults_of(tmp_path / "store") and not list(Store(tmp_path / "store").names())
