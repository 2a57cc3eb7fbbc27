"""Stores of servers that keep manifests in ``manifests-v2/``: read from archives and over ssh as here."""

from __future__ import annotations

import json
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

from ollama_ferry import api
from ollama_ferry.model.manifests import MODELS_LIMIT, Manifest
from ollama_ferry.places.store.store import Store
from support.command_line import COMMAND, assert_one_clear_error, ferry
from support.sshd import Sshd
from support.stores import StoreBuilder, faults_of
from support.tars import untar

BOTH = "lab.example:5000/me/both:1"
NAMES = [BOTH, "mine:1", "old:1"]


@pytest.fixture
def newer(tmp_path: Path) -> StoreBuilder:
    """A store with a model in the newer layout alone, one in the older, and one in both that is another in each."""
    store = StoreBuilder(tmp_path / "newer")
    store.model("old:1", [("model", b"old")])
    for name, path in (
        ("mine:1", "ollama.com/library/mine/1"),
        ("lab.example:5000/me/both:1", "lab.example%3A5000/me/both/1"),
    ):
        manifest = store.model(name, [("model", name.encode())])
        link(store, path, manifest)
        store.manifest_path(name).unlink()
    store.model(BOTH, [("model", b"what the server does not take")])
    return store


def link(store: StoreBuilder, path: str, manifest: Manifest) -> None:
    place = store.root / "manifests-v2" / path
    place.parent.mkdir(parents=True)
    place.symlink_to(f"../../../../blobs/{store.blob(manifest.raw).file_name}")


def assert_carried(newer: StoreBuilder, target: Path) -> None:
    assert not faults_of(target)
    source, got = Store(newer.root), Store(target)
    assert [str(name) for name in sorted(got.names())] == NAMES
    for name in got.names():
        assert got.manifest(name).raw == source.manifest(name).raw


@pytest.fixture(params=["gnu", "busybox"])
def far(request: pytest.FixtureRequest) -> Sshd:
    found: Sshd = request.getfixturevalue("sshd" if request.param == "gnu" else "busybox_sshd")
    return found


def test_over_ssh(newer: StoreBuilder, far: Sshd, tmp_path: Path) -> None:
    place = f"root@there:{newer.root}"
    listed = ferry("list", place, "--ssh", far.ssh, "--json")
    assert listed.returncode == 0, listed.stderr
    assert sorted(model["name"] for model in json.loads(listed.stdout)["models"]) == NAMES
    done = ferry("fetch", place, "--all", "--ssh", far.ssh, "--models", tmp_path / "got")
    assert done.returncode == 0, done.stderr
    assert_carried(newer, tmp_path / "got")
    some = ferry("fetch", place, "mine:1", BOTH, "--ssh", far.ssh, "--models", tmp_path / "some")
    assert some.returncode == 0, some.stderr
    assert len(list(Store(tmp_path / "some").names())) == 2
    assert ferry("verify", place, "--ssh", far.ssh).returncode == 0
    # A server there would not see what is put into the older layout.
    (other := StoreBuilder(tmp_path / "other")).model("new:1")
    sent = ferry("send", "new:1", place, "--models", other.root, "--ssh", far.ssh)
    assert_one_clear_error(sent, 2)
    assert "manifests-v2" in sent.stderr


@pytest.mark.parametrize("flags", ["-cf", "-czf"])
def test_in_a_tar_with_files_in_the_place_of_links(newer: StoreBuilder, tmp_path: Path, flags: str) -> None:
    archive = tmp_path / ("x.tar" if flags == "-cf" else "x.tar.gz")
    subprocess.run(
        ["tar", "-h", "--hard-dereference", flags, archive, "-C", newer.root.parent, newer.root.name], check=True
    )
    assert {str(model.name) for model in api.list_models(archive=archive).models} == set(NAMES)
    assert api.verify(archive=archive).good
    done = ferry("import", archive, "--models", tmp_path / "got")
    assert done.returncode == 0, done.stderr
    assert_carried(newer, tmp_path / "got")


def test_a_folder_with_the_newer_layout_alone_is_a_store(newer: StoreBuilder, tmp_path: Path) -> None:
    """As a new server leaves one; named itself, from above, and as a part of it."""
    shutil.rmtree(newer.root / "manifests")
    (above := tmp_path / "above").mkdir()
    newer.root.rename(above / "models")
    for folder in (above / "models", above):
        listed = ferry("list", folder, "--json")
        assert sorted(model["name"] for model in json.loads(listed.stdout)["models"]) == [BOTH, "mine:1"]
        done = ferry("import", folder, "--models", tmp_path / f"from-{folder.name}")
        assert done.returncode == 0, done.stderr
        assert len(list(Store(tmp_path / f"from-{folder.name}").names())) == 2
    part = ferry("list", "--models", above / "models/manifests-v2")
    assert_one_clear_error(part, 3)
    assert part.stderr.endswith(f"--models {above / 'models'}\n")


@pytest.fixture(params=["-cf", "-czf"])
def with_links(request: pytest.FixtureRequest, newer: StoreBuilder, tmp_path: Path) -> Path:
    archive = tmp_path / ("x.tar" if request.param == "-cf" else "x.tar.gz")
    subprocess.run(["tar", request.param, archive, "-C", newer.root.parent, newer.root.name], check=True)
    return archive


def test_in_a_tar_with_the_links(newer: StoreBuilder, with_links: Path, tmp_path: Path) -> None:
    listed = ferry("list", with_links, "--json")
    assert listed.returncode == 0, listed.stderr
    assert sorted(model["name"] for model in json.loads(listed.stdout)["models"]) == NAMES
    done = ferry("import", with_links, "--models", tmp_path / "got")
    assert done.returncode == 0, done.stderr
    assert_carried(newer, tmp_path / "got")
    with with_links.open("rb") as pipe:
        piped = subprocess.run(
            [*COMMAND, "import", "-", "--models", tmp_path / "piped"], stdin=pipe, capture_output=True, check=False
        )
    assert piped.returncode == 0, piped.stderr
    assert_carried(newer, tmp_path / "piped")


def test_a_tar_with_the_links_is_no_archive_for_every_tar(with_links: Path, tmp_path: Path) -> None:
    """As 7-Zip restores it, the manifests are empty."""
    (tmp_path / "restored").mkdir()
    untar("7z", with_links, tmp_path / "restored")
    files = [*(tmp_path / "restored").glob("newer/manifests-v2/*/*/*/*")]
    assert [(file.is_symlink(), file.stat().st_size) for file in files] == [(False, 0)] * 2
    done = ferry("verify", with_links)
    assert_one_clear_error(done, 4)
    assert "7-Zip" in done.stderr and "ollama-ferry import" in done.stderr and "tar -h" in done.stderr


def test_in_a_layer_of_an_image(newer: StoreBuilder, tmp_path: Path) -> None:
    (tmp_path / "image" / ("0" * 64)).mkdir(parents=True)
    layer = tmp_path / "image" / ("0" * 64) / "layer.tar"
    subprocess.run(["tar", "-cf", layer, "-C", newer.root.parent, newer.root.name], check=True)
    subprocess.run(["tar", "-cf", tmp_path / "x.tar", "-C", tmp_path / "image", "."], check=True)
    done = ferry("import", tmp_path / "x.tar", "--models", tmp_path / "got")
    assert done.returncode == 0, done.stderr
    assert_carried(newer, tmp_path / "got")


def test_one_manifest_is_no_more_models_by_links_than_by_files(newer: StoreBuilder, tmp_path: Path) -> None:
    subprocess.run(["tar", "-cf", tmp_path / "x.tar", "-C", newer.root, "."], check=True)
    target = (newer.root / "manifests-v2/ollama.com/library/mine/1").readlink()
    with tarfile.open(tmp_path / "x.tar", "a") as archive:
        for number in range(MODELS_LIMIT):
            link = tarfile.TarInfo(f"./manifests-v2/ollama.com/library/mine/again-{number}")
            link.type, link.linkname = tarfile.SYMTYPE, target.as_posix()
            archive.addfile(link)
    for command in ("list", "import"):
        done = ferry(command, tmp_path / "x.tar", "--models", tmp_path / "got")
        assert_one_clear_error(done, 4)
        assert str(MODELS_LIMIT) in done.stderr


HOSTILE = {
    "/etc/passwd": "outside",
    "../../../../../blobs/{blob}": "another store's",
    "../../../../blobs/sha256-" + "0" * 64: "not there",
    "../../../../blobs/{weights}": "no manifest",
    "../../../../blobs/": "a folder",
    "../../../../manifests/registry.ollama.ai/library/old/1": "of the older layout",
}


@pytest.mark.parametrize("target", HOSTILE, ids=HOSTILE.values())
@pytest.mark.parametrize("lenient", [False, True])
def test_a_link_in_a_tar_that_leads_elsewhere(
    newer: StoreBuilder, tmp_path: Path, target: str, *, lenient: bool
) -> None:
    place = next((newer.root / "manifests-v2").glob("ollama.com/library/mine/1"))
    blob = place.readlink().name
    weights = json.loads(place.read_bytes())["layers"][0]["digest"].replace(":", "-")
    place.unlink()
    place.symlink_to(target.format(blob=blob, weights=weights))
    archive = tmp_path / "x.tar"
    subprocess.run(["tar", "-cf", archive, "-C", newer.root, "."], check=True)
    done = ferry("import", archive, "--models", tmp_path / "got", *(["--lenient"] if lenient else []))
    assert_one_clear_error(done, 4)
    assert "mine" in done.stderr and "Traceback" not in done.stderr
    got = Store(tmp_path / "got")
    assert "mine:1" not in [str(name) for name in got.names()] and not faults_of(tmp_path / "got")


def test_a_link_in_a_tar_whose_blob_is_another(newer: StoreBuilder, tmp_path: Path) -> None:
    """A blob that has not the digest of its name is no manifest either."""
    place = newer.root / "manifests-v2/ollama.com/library/mine/1"
    other = newer.root / "manifests-v2/lab.example%3A5000/me/both/1"
    place.resolve().write_bytes(other.resolve().read_bytes())
    subprocess.run(["tar", "-cf", tmp_path / "x.tar", "-C", newer.root, "."], check=True)
    done = ferry("import", tmp_path / "x.tar", "--models", tmp_path / "got")
    assert done.returncode == 4
    assert "mine:1" not in [str(name) for name in Store(tmp_path / "got").names()]
    assert not faults_of(tmp_path / "got")
