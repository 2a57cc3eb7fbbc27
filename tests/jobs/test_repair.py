"""Repair: every good blob of an archive is taken, whatever is wrong with another one, and whatever the archive is."""

from __future__ import annotations

import subprocess
import zipfile
from pathlib import Path

import pytest

from ollama_ferry.archives.kinds import Compression, kind_of
from ollama_ferry.engine.copy import plan
from ollama_ferry.files.pending import PendingFile
from ollama_ferry.jobs.repair import verify_and_repair
from ollama_ferry.jobs.verify import verify_place
from ollama_ferry.places.archive.sink import ArchiveSink
from ollama_ferry.places.store.store import Store
from support.stores import StoreBuilder, weights

KINDS = [".tar", ".tar.gz", ".tar.zst", "plain.tar", "plain.tar.gz", "plain.tar.xz", "plain.zip"]


def archive_of(store: Store, path: Path) -> Path:
    """Make an archive of a store that has a damaged blob, by the tools that everybody has, or in the form of ours."""
    if not path.name.startswith("plain"):
        in_our_form(store, path)
    elif path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
            for file in sorted(store.root.rglob("*")):
                packed.write(file, file.relative_to(store.root))
    else:
        subprocess.run(["tar", "-C", store.root, "-caf", path, "blobs", "manifests"], check=True)
    return path


def damage(path: Path) -> None:
    """Change one byte in the middle of a blob; its size stays."""
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 0xFF
    path.write_bytes(raw)


@pytest.mark.parametrize("kind", KINDS)
def test_three_good_blobs_come_back_beside_a_damaged_one(source: StoreBuilder, tmp_path: Path, kind: str) -> None:
    contents = [weights(300_000, number) for number in range(4)]
    for number, content in enumerate(contents):
        source.model(f"m:{number}", [("model", content)])
    store = Store(source.root)
    blobs = [
        next(layer for layer in store.manifest(name).layers if layer.kind == "model") for name in sorted(store.names())
    ]
    # The archive has one of the four damaged: it is made of a store where that is so.
    damage(store.blob_path(blobs[1].digest))
    archive = archive_of(store, tmp_path / f"models{kind}" if kind.startswith(".") else tmp_path / kind)
    for blob in (blobs[0], blobs[2], blobs[3]):
        damage(store.blob_path(blob.digest))
    assert sum(not verdict.good for verdict in verify_place(store, store.names()).models) == 4
    report = verify_and_repair(store, list(store.names()), [archive])
    assert report.repaired == 3
    assert [str(verdict.name) for verdict in report.models if not verdict.good] == ["m:1"]
    assert not (source.root / ".ollama-ferry").exists()


def in_our_form(store: Store, path: Path) -> None:
    """Write an archive as export does, without looking at what is in the blobs."""
    kind = kind_of(path.name)
    assert kind is not None
    planned = plan(store, None, store.names())
    with PendingFile(path) as file:
        sink = ArchiveSink(file, kind, compression=Compression.FAST)
        sink.prepare(planned)
        for blob in planned.blobs:
            with store.open(blob) as data:
                sink.put(blob, data)
        for model in planned.models:
            sink.publish_model(model.name, model.manifest)
        sink.close()
        file.publish()
