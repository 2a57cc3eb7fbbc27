"""``doctor`` on whom a store belongs to, and who can reach it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from ollama_ferry.doctor.findings import Severity
from ollama_ferry.ollama.service import read_service
from support import needs
from support.checking import LIBRARY, checked, codes, follow, one, only, unit
from support.command_line import ferry_as_nobody
from support.stores import StoreBuilder

root_only = needs.root("needs root, to give files away")


@pytest.fixture
def models(source: StoreBuilder) -> StoreBuilder:
    """A store with nothing wrong."""
    source.model("qwen3:8b", [("model", b"w" * 5000), ("template", b"t")])
    return source


@root_only
def test_folder_that_the_stores_owner_may_not_change(models: StoreBuilder, tmp_path: Path) -> None:
    give_away(models.root, 4242)
    assert codes(checked(models, tmp_path)) == []
    folder = models.root / LIBRARY / "qwen3"
    os.chown(folder, 0, 0)
    finding = only(checked(models, tmp_path), "wrong-owner")
    assert finding.severity is Severity.PROBLEM and str(folder) in finding.text and "`ollama rm`" in finding.text
    assert finding.mend == (f"sudo chown -RhP 4242:4242 {models.root}/manifests {models.root}/blobs",)
    follow(finding)
    assert codes(checked(models, tmp_path)) == []


@root_only
def test_blobs_that_others_own_and_all_may_read(models: StoreBuilder, tmp_path: Path) -> None:
    give_away(models.root, 4242)
    blob = models.blob_path(models.blob(b"t"))
    os.chown(blob, 0, 0)
    finding = only(checked(models, tmp_path), "mixed-owners")
    assert finding.severity is Severity.NOTE and finding.concerns == (str(blob),)
    blob.chmod(0o600)
    assert only(checked(models, tmp_path), "wrong-owner").concerns == (str(blob),)


@root_only
def test_store_behind_links_is_given_back_where_it_is(models: StoreBuilder, tmp_path: Path) -> None:
    (models.root / "blobs").rename(tmp_path / "big disk")
    (models.root / "blobs").symlink_to(tmp_path / "big disk")
    give_away(models.root, 4242)
    give_away(tmp_path / "big disk", 4242)
    os.chown(tmp_path / "big disk" / models.blob(b"t").file_name, 0, 0)
    (tmp_path / "big disk" / models.blob(b"t").file_name).chmod(0o600)
    finding = one(checked(models, tmp_path), "wrong-owner")
    assert finding.mend == (f"sudo chown -RhP 4242:4242 {models.root}/manifests '{tmp_path}/big disk'",)


@root_only
def test_services_store_belongs_to_the_service(tmp_path: Path) -> None:
    store = StoreBuilder(tmp_path / "data")
    store.model("a")
    unit(tmp_path, "User=nobody", f"Environment=OLLAMA_MODELS={store.root}")
    finding = one(checked(store, tmp_path), "wrong-owner")
    assert "nobody" in finding.text and finding.mend[0].startswith("sudo chown -RhP nobody:")
    follow(finding)
    assert "wrong-owner" not in codes(checked(store, tmp_path))


def give_away(folder: Path, uid: int) -> None:
    os.chown(folder, uid, uid)
    for above, folders, files in os.walk(folder):
        for name in (*folders, *files):
            os.chown(os.path.join(above, name), uid, uid, follow_symlinks=False)


@needs.owners
def test_parent_that_the_service_may_not_pass(tmp_path: Path) -> None:
    private = tmp_path / "private dir"
    store = StoreBuilder(private / "models")
    store.model("a")
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_uid == os.geteuid() and folder != Path("/"):
            folder.chmod(folder.stat().st_mode | 0o001)
    unit(
        tmp_path,
        "User=nobody",
        f"Environment=OLLAMA_MODELS='{store.root}'",
        f'Environment="OLLAMA_MODELS={store.root}"',
    )
    private.chmod(0o755)
    assert "impassable" not in codes(checked(store, tmp_path))
    private.chmod(0o750)
    finding = one(checked(store, tmp_path), "impassable")
    assert finding.severity is Severity.PROBLEM
    assert finding.concerns == (str(private),)
    assert finding.mend[-1] == f"sudo setfacl -m u:nobody:x '{private}'"
    # A store that the running server uses, it reaches.
    assert "impassable" not in codes(checked(store, tmp_path, answer=str(store.root)))
    private.chmod(0o751)
    assert "impassable" not in codes(checked(store, tmp_path))


@needs.owners
def test_parent_of_a_store_that_is_not_the_services(tmp_path: Path) -> None:
    private = tmp_path / "private"
    store = StoreBuilder(private / "models")
    store.model("a")
    private.chmod(0o700)
    unit(tmp_path, "User=nobody")
    finding = next(f for f in checked(store, tmp_path).findings if f.concerns == (str(private),))
    assert (finding.code, finding.severity) == ("impassable", Severity.NOTE)


def test_service_user_that_is_not_there(models: StoreBuilder, tmp_path: Path) -> None:
    unit(tmp_path, "User=no-such-user-here")
    finding = only(checked(models, tmp_path), "no-service-user")
    assert finding.severity is Severity.PROBLEM and "useradd" in finding.mend[0]


@needs.owners
def test_service_is_read_from_unit_and_drop_ins(tmp_path: Path) -> None:
    unit(tmp_path, "User=root", "#User=daemon")
    service = read_service((tmp_path / "units",))
    assert service.user is not None and service.user.uid == 0
    (tmp_path / "units/ollama.service.d").mkdir()
    (tmp_path / "units/ollama.service.d/user.conf").write_text("[Service]\nUser = nobody \n")
    service = read_service((tmp_path / "units",))
    assert service.user is not None and service.user.name == "nobody"


def test_closed_store_is_a_finding_with_the_sudo_line(models: StoreBuilder, tmp_path: Path) -> None:
    if not needs.IS_ROOT:
        pytest.skip("needs root, to become another user")
    for folder in (tmp_path, *tmp_path.parents):
        if folder != Path("/"):
            folder.chmod(folder.stat().st_mode | 0o055)
    models.root.chmod(0o700)
    done = ferry_as_nobody("doctor", "--models", models.root)
    assert done.returncode == 4, done.stderr
    assert "PROBLEM: closed" in done.stdout and "Traceback" not in done.stderr
    assert f"sudo /usr/local/bin/ollama-ferry doctor --models {models.root}" in done.stdout
    models.root.chmod(0o755)
    models.manifest_path("qwen3:8b").chmod(0o600)
    done = ferry_as_nobody("doctor", "--models", models.root, "--json")
    told = json.loads(done.stdout)["findings"]
    assert "closed" in [finding["code"] for finding in told]
    # What nobody could read may name these blobs.
    assert next(finding for finding in told if finding["code"] == "orphans")["mend"] == []
    models.manifest_path("qwen3:8b").chmod(0o644)
    (models.root / LIBRARY).chmod(0o700)
    done = ferry_as_nobody("doctor", "--models", models.root)
    assert done.returncode == 4 and f"look into {models.root / LIBRARY}" in done.stdout.replace("\n  ", " ")
