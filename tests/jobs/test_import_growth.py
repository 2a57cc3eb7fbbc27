"""What an import does grows in proportion to the blobs and models, counted in calls and in bytes, not in seconds."""

from __future__ import annotations

import gc
import io
import json
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from statistics import median
from types import FrameType

import pytest

import ollama_ferry
from ollama_ferry.engine.events import BlobDone, BlobStarted, Event, ModelDone
from ollama_ferry.engine.run import Run
from ollama_ferry.files.disk import Disk
from ollama_ferry.files.folder import Folder
from ollama_ferry.jobs.import_ import import_file, import_stream
from ollama_ferry.jobs.import_choices import ImportOptions
from ollama_ferry.jobs.verify import verify_file
from ollama_ferry.places.store.store import Store
from support.hostile import END, blob_name, entry, member


class HastyDisk(Disk):
    """A disk that syncs nothing: that would be most of the time, and none of the work."""

    def sync(self, fd: int) -> None:
        pass

    def sync_folder(self, folder: Folder) -> None:
        pass


def tar_of(count: int, *, models: bool) -> bytes:
    """Return a tar of so many tiny blobs in one model, or of so many models of a blob of their own and a shared one."""
    config = b"{}"
    contents = [b"%d" % number for number in range(count)]
    layers = [entry(content, "tensor") for content in contents]
    parts = [member(blob_name(content), content) for content in [config, *contents]]
    for number, own in enumerate([[layer] for layer in layers] if models else [layers]):
        document = {"schemaVersion": 2, "config": entry(config, "config"), "layers": own}
        name = f"manifests/registry.ollama.ai/library/m{number}/latest"
        parts.append(member(name, json.dumps(document).encode()))
    return b"".join(parts) + END


def from_file(data: bytes, folder: Path, run: Run) -> None:
    (folder / "a.tar").write_bytes(data)
    import_file(folder / "a.tar", Store(folder / "models"), ImportOptions(), disk=HastyDisk(), run=run)


def from_stream(data: bytes, folder: Path, run: Run) -> None:
    import_stream(io.BytesIO(data), "x", Store(folder / "models"), ImportOptions(), disk=HastyDisk(), run=run)


def from_index(data: bytes, folder: Path, run: Run) -> None:
    first = Run()
    from_stream(data, folder / "first", first)
    ollama_ferry.export("*", folder / "a.tar.gz", store=folder / "first/models", threads=1)
    import_file(folder / "a.tar.gz", Store(folder / "models"), ImportOptions(), disk=HastyDisk(), run=run)


def verified(data: bytes, folder: Path, run: Run) -> None:
    (folder / "a.tar").write_bytes(data)
    assert verify_file(folder / "a.tar", threads=1, run=run).good


WAYS = {"file": from_file, "stream": from_stream, "index": from_index, "verify": verified}


def calls_of(work: Callable[[], object]) -> int:
    """Count the calls of this thread, of Python and of C."""
    count = 0

    def note(frame: FrameType, what: str, argument: object) -> None:
        nonlocal count
        count += what in ("call", "c_call")

    # What earlier tests have left is not to be tidied up here, by calls that would count.
    gc.collect()
    gc.disable()
    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(None)
        gc.enable()
    return count


@pytest.mark.parametrize("models", [False, True], ids=["blobs", "models"])
@pytest.mark.parametrize("way", WAYS)
def test_calls_grow_in_proportion(tmp_path: Path, way: str, models: bool) -> None:
    counts = []
    for count in (60, 120, 480):
        folder = tmp_path / str(count)
        (folder / "first").mkdir(parents=True)
        data = tar_of(count, models=models)
        counts.append(calls_of(lambda: WAYS[way](data, folder, Run())))  # noqa: B023 -- called at once
    first, second, third = counts
    # What 60 more cost, and 360 more: six times as much, and not 30 times.
    assert third - second < 7.5 * (second - first), counts


@pytest.mark.parametrize("models", [False, True], ids=["blobs", "models"])
@pytest.mark.parametrize("way", ["file", "stream"])
def test_no_step_copies_what_has_come_so_far(tmp_path: Path, way: str, models: bool) -> None:
    # Calls don't show what one call copies; memory does: what the step for a blob or a model takes at most.
    peaks: dict[type[Event], list[int]] = {BlobDone: [], ModelDone: []}
    before = 0

    def note(event: Event) -> None:
        nonlocal before
        if isinstance(event, BlobDone | ModelDone):
            peaks[type(event)].append(tracemalloc.get_traced_memory()[1] - before)
        if isinstance(event, BlobStarted | ModelDone):
            tracemalloc.reset_peak()
            before = tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        WAYS[way](tar_of(1000, models=models), tmp_path, Run(note))
    finally:
        tracemalloc.stop()
    for steps in peaks.values():
        if len(steps) > 100:
            assert median(steps[-100:]) < median(steps[100:200]) + 12_000
