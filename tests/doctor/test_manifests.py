"""``doctor`` on files below ``manifests/``: models under odd names, what is no manifest, and layouts of tomorrow."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from ollama_ferry.doctor.findings import Severity
from support import needs
from support.checking import HOURS, checked, codes, follow, one, only
from support.odd_stores import CHINESE, ODDITIES, OddStore, whole_models
from support.stores import StoreBuilder


@pytest.fixture
def odd(tmp_path: Path) -> OddStore:
    folder = tmp_path / "odd"
    folder.mkdir()
    return OddStore(folder)


@pytest.mark.parametrize(
    "name",
    [
        "desktop.ini",
        "Thumbs.db",
        "latest.meta",
        "latest.bak",
        "latest.sync-conflict-20260801-101112-ABCDEFG",
        "8b.orig",
    ],
)
def test_file_of_another_program_is_no_model(odd: OddStore, tmp_path: Path, name: str) -> None:
    """Each is a valid tag, and no registry has it."""
    path = odd.library / "good" / name
    path.write_bytes(b"[.ShellClassInfo]")
    finding = only(checked(odd.store, tmp_path), "not-a-manifest")
    assert not any("pull" in line for line in finding.mend)
    follow(finding)
    assert codes(checked(odd.store, tmp_path)) == [] and len(whole_models(odd.root)) == 3


def test_what_may_be_wanted_is_set_aside(odd: OddStore, tmp_path: Path) -> None:
    (odd.library / "good/my notes").write_bytes(b"precious")
    follow(only(checked(odd.store, tmp_path), "not-a-manifest"))
    (aside,) = odd.root.glob("*my notes*")
    assert aside.read_bytes() == b"precious"


def test_conflict_copy_that_is_a_manifest_is_a_model(odd: OddStore, tmp_path: Path) -> None:
    copy = odd.library / "good/latest.sync-conflict-20260801-101112-ABCDEFG"
    copy.write_bytes((odd.library / "good/latest").read_bytes())
    assert codes(checked(odd.store, tmp_path)) == []


def test_model_under_a_refused_name_gets_another(odd: OddStore, tmp_path: Path) -> None:
    ODDITIES["refused name"](odd)
    report = checked(odd.store, tmp_path, later=HOURS)
    assert set(codes(report)) == {"refused-name"}
    before = whole_models(odd.root)
    for finding in report.findings:
        assert CHINESE in finding.text and finding.severity is Severity.WARNING
        assert not any("rm " in line or "pull" in line for line in finding.mend)
        follow(finding)
    assert whole_models(odd.root) == before
    assert codes(checked(odd.store, tmp_path, later=HOURS)) == []
    names = {path.name: path.parent.name for path in odd.library.glob("renamed-*/*")}
    assert set(names) == {"latest", "8b"} and len(set(names.values())) == 1


def test_blobs_of_a_refused_name_are_no_orphans(odd: OddStore, tmp_path: Path) -> None:
    ODDITIES["refused name"](odd)
    assert "orphans" not in codes(checked(odd.store, tmp_path, later=HOURS))


def test_digests_that_a_server_would_not_find_when_it_tidies(odd: OddStore, tmp_path: Path) -> None:
    ODDITIES["dashes"](odd)
    finding = only(checked(odd.store, tmp_path), "digest-form")
    assert finding.severity is Severity.PROBLEM and "dashed" in finding.text
    assert finding.mend[-1] == "ollama pull dashed:latest"


def test_list_whose_manifests_are_not_here_keeps_every_blob(odd: OddStore, tmp_path: Path) -> None:
    ODDITIES["list of manifests"](odd)
    (inner,) = (path for path in odd.blobs.iterdir() if b"schemaVersion" in path.read_bytes())
    inner.unlink()
    report = checked(odd.store, tmp_path, later=HOURS)
    assert one(report, "unknown-layout").severity is Severity.WARNING
    finding = one(report, "orphans")
    assert finding.mend == () and "delete nothing" in finding.text


def test_both_layouts_and_lists_are_read(odd: OddStore, tmp_path: Path) -> None:
    for oddity in ("newer layout", "list of manifests"):
        ODDITIES[oddity](odd)
    assert only(checked(odd.store, tmp_path, later=HOURS), "newer-layout").severity is Severity.NOTE
    ODDITIES["orphan"](odd)
    finding = one(checked(odd.store, tmp_path, later=HOURS), "orphans")
    assert "1 blob " in finding.text and not any("restart" in line for line in finding.mend)


def test_model_of_another_program_is_named(odd: OddStore, tmp_path: Path) -> None:
    layer = {"mediaType": "application/vnd.docker.ai.gguf.v3", "digest": str(odd.store.blob(b"w")), "size": 1}
    odd.store.manifest("theirs", json.dumps({"config": {}, "layers": [layer]}).encode())
    finding = only(checked(odd.store, tmp_path), "no-weights")
    assert "Docker Model Runner" in finding.text and finding.mend == ()
    odd.store.model("bare", [("template", b"x")])
    assert len([f for f in checked(odd.store, tmp_path).findings if f.code == "no-weights"]) == 2


def test_metadata_beside_blobs_is_left_alone(odd: OddStore, tmp_path: Path) -> None:
    (odd.root / "metadata").mkdir()
    (odd.root / "metadata/x").write_bytes(b"x")
    assert codes(checked(odd.store, tmp_path)) == []


def test_tensor_that_is_being_downloaded_is_no_stray(odd: OddStore, tmp_path: Path) -> None:
    (odd.blobs / f"sha256-{'3' * 64}.tmp").write_bytes(b"begun")
    assert only(checked(odd.store, tmp_path), "unfinished").mend == ()
    follow(only(checked(odd.store, tmp_path, later=HOURS), "unfinished"))
    assert codes(checked(odd.store, tmp_path)) == []


def test_manifest_that_is_being_written(odd: OddStore, tmp_path: Path) -> None:
    path = odd.library / "new/latest"
    path.parent.mkdir()
    path.touch()
    finding = only(checked(odd.store, tmp_path), "being-written")
    assert finding.severity is Severity.NOTE and finding.mend == ()
    moment = time.time() - 3600
    os.utime(path, (moment, moment))
    assert only(checked(odd.store, tmp_path), "damaged-manifest").severity is Severity.PROBLEM


def test_blobs_of_a_manifest_being_written_are_no_orphans(odd: OddStore, tmp_path: Path) -> None:
    odd.store.blob(b"its weights")
    (odd.library / "new").mkdir()
    (odd.library / "new/latest").touch()
    finding = one(checked(odd.store, tmp_path), "orphans")
    assert finding.mend == () and "delete nothing" in finding.text


def test_damaged_manifest_is_set_aside_and_not_removed(odd: OddStore, tmp_path: Path) -> None:
    """A byte order mark can be taken off again; what a server deletes then can't be had back."""
    good = (odd.library / "good/latest").read_bytes()
    (odd.library / "good/latest").write_bytes(b"\xef\xbb\xbf" + good)
    finding = one(checked(odd.store, tmp_path, later=HOURS), "damaged-manifest")
    assert not any(line.startswith("rm") for line in finding.mend)
    follow(finding)
    (aside,) = odd.root.glob("*good_latest")
    assert aside.read_bytes() == b"\xef\xbb\xbf" + good


@pytest.mark.parametrize("link", ["nowhere", "outside"])
def test_blob_that_is_a_link_is_named_with_its_target(source: StoreBuilder, tmp_path: Path, link: str) -> None:
    source.model("a", [("model", b"weights")])
    path, target = source.blob_path(source.blob(b"weights")), tmp_path / link
    path.unlink()
    path.symlink_to(target)
    if link == "outside":
        target.write_bytes(b"weights")
    finding = only(checked(source, tmp_path), "missing-blob" if link == "nowhere" else "blob-links")
    assert str(target) in finding.text and str(path) in finding.concerns


def test_closed_target_of_a_blobs_link_ends_nothing(source: StoreBuilder, tmp_path: Path) -> None:
    if not needs.IS_ROOT:
        pytest.skip("needs root, to become another user")
    source.model("a", [("model", b"weights")])
    path, closed = source.blob_path(source.blob(b"weights")), tmp_path / "closed"
    closed.mkdir(mode=0o700)
    path.rename(closed / "blob")
    path.symlink_to(closed / "blob")
    for folder in (tmp_path, *tmp_path.parents):
        if folder != Path("/"):
            folder.chmod(folder.stat().st_mode | 0o055)
    os.seteuid(65534)
    try:
        report = checked(source, tmp_path)
    finally:
        os.seteuid(0)
    assert "closed" in codes(report) and "missing-blob" not in codes(report)
