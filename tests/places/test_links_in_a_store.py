"""Root reads a store that belongs to somebody else: no link of theirs makes root read out what is not theirs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ollama_ferry.errors import NotPermitted
from ollama_ferry.model.manifests import Digest
from ollama_ferry.model.names import ModelName
from ollama_ferry.places.store.store import Store
from support import needs
from support.served import get, serve_process
from support.stores import StoreBuilder

OWNER = 65534
SECRET = b"root's own words"

pytestmark = needs.root("only root can be fooled so")


@pytest.fixture
def hostile(source: StoreBuilder, tmp_path: Path) -> StoreBuilder:
    """A store of another user, with a model whose weights are a link to a file that only root may read."""
    secret = tmp_path / "secret"
    secret.write_bytes(SECRET)
    secret.chmod(0o600)
    source.model("m:1", [("model", SECRET), ("license", b"theirs")])
    path = source.blob_path(Digest.of(SECRET))
    path.unlink()
    path.symlink_to(secret)
    for folder, folders, files in os.walk(source.root):
        for name in (".", *folders, *files):
            os.lchown(os.path.join(folder, name), OWNER, OWNER)
    return source


def read(builder: StoreBuilder, content: bytes) -> bytes:
    store = Store(builder.root)
    blobs = {blob.digest: blob for blob in store.manifest(ModelName.parse("m:1")).blobs}
    with store.open(blobs[Digest.of(content)]) as data:
        return data.read(1000)


def test_link_of_the_owner_leads_to_nothing_of_root(hostile: StoreBuilder) -> None:
    with pytest.raises(NotPermitted, match="link of user 65534 to a file of user 0"):
        read(hostile, SECRET)
    assert read(hostile, b"theirs") == b"theirs"


def test_link_in_place_of_the_folder_leads_nowhere_else(hostile: StoreBuilder, tmp_path: Path) -> None:
    private = tmp_path / "private"
    (hostile.root / "blobs").rename(private)
    os.chown(private, 0, 0)
    (hostile.root / "blobs").symlink_to(private)
    os.lchown(hostile.root / "blobs", OWNER, OWNER)
    with pytest.raises(NotPermitted):
        read(hostile, b"theirs")


def test_manifest_is_no_link_elsewhere_either(hostile: StoreBuilder, tmp_path: Path) -> None:
    path = hostile.manifest_path("m:1")
    elsewhere = tmp_path / "manifest"
    path.rename(elsewhere)
    os.chown(elsewhere, 0, 0)
    path.symlink_to(elsewhere)
    os.lchown(path, OWNER, OWNER)
    with pytest.raises(NotPermitted):
        Store(hostile.root).manifest(ModelName.parse("m:1"))


@pytest.mark.parametrize("linked", ["file", "folder", "chain"])
def test_links_that_are_root_s_or_lead_to_the_owner_s_own_are_followed(
    hostile: StoreBuilder, tmp_path: Path, linked: str
) -> None:
    path = hostile.blob_path(Digest.of(SECRET))
    if linked == "folder":
        disk = tmp_path / "disk"
        (hostile.root / "blobs").rename(disk)
        (hostile.root / "blobs").symlink_to(disk)
        os.lchown(hostile.root / "blobs", OWNER, OWNER)
        assert read(hostile, b"theirs") == b"theirs"
        return
    os.chown(tmp_path / "secret", OWNER, OWNER)
    if linked == "chain":
        path.unlink()
        (tmp_path / "second").symlink_to("secret")
        path.symlink_to(os.path.relpath(tmp_path / "second", path.parent))
        os.lchown(path, OWNER, OWNER)
    assert read(hostile, SECRET) == SECRET


def test_serve_as_root_hands_out_nothing_of_root(hostile: StoreBuilder, tmp_path: Path) -> None:
    with serve_process(tmp_path, "--models", hostile.root, "m:1") as serving:
        status, _, body = get(serving.port, f"/v2/library/m/blobs/{Digest.of(SECRET)}")
        assert status == 500 and SECRET not in body
        assert get(serving.port, f"/v2/library/m/blobs/{Digest.of(b'theirs')}")[2] == b"theirs"
        assert serving.said("link of user 65534")
