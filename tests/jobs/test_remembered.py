"""`verify --changed`: what was hashed and not changed since is not hashed again, and nothing else is believed."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from ollama_ferry.errors import UsageError
from ollama_ferry.jobs import remembered as module
from ollama_ferry.jobs.remembered import Remembered, state_folder
from ollama_ferry.jobs.verify import verify_place
from ollama_ferry.places.store.store import Store
from support import needs
from support.command_line import assert_one_clear_error, ferry
from support.stores import StoreBuilder, weights


@pytest.fixture
def store(source: StoreBuilder) -> Store:
    source.model("a:1", [("model", weights(50_000)), ("template", b"one")])
    source.model("b:1", [("model", weights(60_000, 2))])
    return Store(source.root)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    # Files of a test are younger than what may be remembered.
    monkeypatch.setattr(module, "_RACY", -(10**18))
    return tmp_path / "state"


def verified(store: Store, folder: Path) -> tuple[int, int, bool]:
    """Return how many blobs were hashed, how many not, and whether all is good."""
    report = verify_place(store, store.names(), remembered=Remembered(store, folder))
    assert report.unchanged is not None
    return report.blobs, report.unchanged, report.good


def state(folder: Path) -> Path:
    [path] = folder.iterdir()
    return path


@needs.change_times
def test_only_what_was_changed_is_hashed_again(store: Store, folder: Path) -> None:
    blobs = sorted(store.blobs_folder.iterdir())
    assert verified(store, folder) == (len(blobs), 0, True)
    assert verified(store, folder) == (0, len(blobs), True)
    before = blobs[1].stat()
    # The same size, and the time of the last write put back: the system's own time of the last change tells.
    with blobs[1].open("r+b") as file:
        file.write(b"\x01\x02\x03")
    os.utime(blobs[1], ns=(before.st_atime_ns, before.st_mtime_ns))
    assert verified(store, folder) == (1, len(blobs) - 1, False)
    # What is damaged is not remembered.
    assert verified(store, folder) == (1, len(blobs) - 1, False)


@needs.change_times
def test_a_file_that_took_the_place_of_another_is_hashed(store: Store, folder: Path, tmp_path: Path) -> None:
    verified(store, folder)
    blob = min(store.blobs_folder.iterdir())
    found, content = blob.stat(), blob.read_bytes()
    (tmp_path / "other").write_bytes(content)
    os.utime(tmp_path / "other", ns=(found.st_atime_ns, found.st_mtime_ns))
    os.replace(tmp_path / "other", blob)
    assert verified(store, folder)[0] == 1


@needs.change_times
def test_what_was_changed_a_moment_before_is_not_remembered(store: Store, tmp_path: Path) -> None:
    count = len(list(store.blobs_folder.iterdir()))
    assert [verified(store, tmp_path / "state") for _ in range(2)] == [(count, 0, True)] * 2


@pytest.mark.parametrize(
    "text",
    [
        "", "{", "[]", "[" * 100_000, '{"form": 1}', '{"form": 2, "store": "STORE", "blobs": {}}',
        '{"form": 1, "store": "elsewhere", "blobs": {}}', '{"form": 1, "store": "STORE", "blobs": []}',
        '{"form": 1, "store": "STORE", "blobs": {"x": [1, 2, 3, 4]}}',
        '{"form": 1, "store": "STORE", "blobs": {"x": [1, 2, 3, 4, true]}}',
        '{"form": 1, "store": "STORE", "blobs": {"x": [1, 2, 3, 4, 1e400]}}', "\xff\xfe",
    ],
)  # fmt: skip
@needs.change_times
def test_a_state_of_another_form_is_not_believed(store: Store, folder: Path, text: str) -> None:
    count = verified(store, folder)[0]
    state(folder).write_text(text.replace("STORE", os.path.realpath(store.root)), encoding="latin-1")
    assert "is not believed" in Remembered(store, folder).note
    assert verified(store, folder) == (count, 0, True)
    assert verified(store, folder) == (0, count, True)


@pytest.mark.parametrize("whose", ["file", "folder", "link", "fifo", "writable", "writable folder"])
@needs.change_times
def test_a_state_that_somebody_else_may_have_written_is_not_believed(store: Store, folder: Path, whose: str) -> None:
    count = verified(store, folder)[0]
    path = state(folder)
    if whose in ("file", "folder"):
        if os.geteuid():
            pytest.skip("only root gives files away")
        os.chown(path if whose == "file" else folder, 12345, -1)
    elif whose == "link":
        path.rename(folder.parent / "planted")
        path.symlink_to(folder.parent / "planted")
    elif whose == "fifo":
        path.unlink()
        os.mkfifo(path)
    else:
        (path if whose == "writable" else folder).chmod(0o777)
    memory = Remembered(store, folder)
    assert "is not believed" in memory.note
    assert not memory.unchanged([blob for name in store.names() for blob in store.manifest(name).blobs])
    assert verified(store, folder) == (count, 0, True)
    if "folder" in whose:
        # Nor is anything written there.
        assert verified(store, folder) == (count, 0, True)


@needs.change_times
def test_a_planted_entry_has_to_fit_the_file(store: Store, folder: Path) -> None:
    verified(store, folder)
    document = json.loads(state(folder).read_text())
    digest = min(document["blobs"])
    document["blobs"][digest][4] += 1
    state(folder).write_text(json.dumps(document))
    assert verified(store, folder)[0] == 1


@needs.change_times
def test_the_command_says_what_it_did_not_hash(store: Store, tmp_path: Path) -> None:
    environ = {"XDG_STATE_HOME": str(tmp_path / "state")}
    done = ferry("verify", "--models", store.root, "--changed", **environ)
    assert done.returncode == 0 and "not hashed, for nobody changed them since they were: 0 blobs" in done.stdout
    assert "unchanged" not in json.loads(ferry("verify", "--models", store.root, "--json", **environ).stdout)
    assert (
        json.loads(ferry("verify", "--models", store.root, "--changed", "--json", **environ).stdout)["unchanged"] == 0
    )
    assert [path.stat().st_mode & 0o777 for path in (tmp_path / "state/ollama-ferry").iterdir()] == [0o600]
    assert_one_clear_error(ferry("verify", "--changed", "./x.tar"), 2)
    assert state_folder({"XDG_STATE_HOME": "relative"}) == Path.home() / ".local/state/ollama-ferry"


@needs.change_times
def test_where_the_system_has_no_time_of_a_change_it_is_refused(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_TELLS_CHANGES", False)
    with pytest.raises(UsageError, match="every blob has to be hashed"):
        Remembered(store, Path("/nowhere"))
