"""Build stores in Ollama's layout for tests."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

from ollama_ferry.model.manifests import Digest, Manifest
from ollama_ferry.model.names import ModelName


class StoreBuilder:
    """Writes blobs and manifests by hand, independent of the code under test as far as possible."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def blob(self, content: bytes) -> Digest:
        """Write a blob under its digest."""
        hexdigest = hashlib.sha256(content).hexdigest()
        folder = self.root / "blobs"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"sha256-{hexdigest}").write_bytes(content)
        return Digest(hexdigest)

    def layer(self, kind: str, content: bytes) -> dict[str, Any]:
        """Write a blob and return the entry that names it in a manifest."""
        return {
            "mediaType": f"application/vnd.ollama.image.{kind}",
            "digest": str(self.blob(content)),
            "size": len(content),
        }

    def model(
        self,
        name: str,
        layers: Sequence[tuple[str, bytes]] = (("model", b"weights"),),
        *,
        config: dict[str, Any] | None = None,
        mtime: int | None = 1_700_000_000,
    ) -> Manifest:
        """Write a whole model and return its manifest."""
        raw_config = json.dumps(config if config is not None else {"model_format": "gguf"}).encode()
        document = {
            "schemaVersion": 2,
            "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
            "config": {
                "mediaType": "application/vnd.docker.container.image.v1+json",
                "digest": str(self.blob(raw_config)),
                "size": len(raw_config),
            },
            "layers": [self.layer(kind, content) for kind, content in layers],
        }
        return self.manifest(name, json.dumps(document).encode(), mtime=mtime)

    def manifest(self, name: str, raw: bytes, *, mtime: int | None = 1_700_000_000) -> Manifest:
        """Write a manifest's bytes and return it parsed."""
        path = self.manifest_path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(raw)
        if mtime is not None:
            os.utime(path, (mtime, mtime))
        return Manifest.parse(raw, modified=path.stat().st_mtime)

    def manifest_path(self, name: str) -> Path:
        return self.root.joinpath("manifests", *ModelName.parse(name).parts)

    def blob_path(self, digest: Digest) -> Path:
        return self.root / "blobs" / digest.file_name


def weights_of_four_bits(size: int, seed: int = 1) -> bytes:
    """Return random bytes that packing shrinks by a twentieth, as it does 4-bit weights."""
    made = bytearray(Random(seed).randbytes(size))
    made[::8] = bytes(len(made[::8]))
    return bytes(made)


def tree(root: Path) -> dict[str, bytes]:
    """Return every file below a folder with its content; links to folders are followed."""
    found: dict[str, bytes] = {}
    for folder, _, files in os.walk(root, followlinks=True):
        for file in files:
            path = Path(folder) / file
            found[path.relative_to(root).as_posix()] = path.read_bytes()
    return found


def published(store: Path) -> dict[str, bytes]:
    """Return what has its name in a store; what arrived before an import was given up waits beside it."""
    return {path: content for path, content in tree(store).items() if not path.startswith(".ollama-ferry/")}


def weights(size: int, seed: int = 1) -> bytes:
    """Return bytes that are spread as quantised weights are: they shrink by some percent."""
    import random
    from statistics import NormalDist

    bell = NormalDist(128, 42)
    table = bytes(max(0, min(255, round(bell.inv_cdf((b + 0.5) / 256)))) for b in range(256))
    return random.Random(seed).randbytes(size).translate(table)


def faults_of(root: Path) -> list[str]:
    """Return what breaks the promise of a store: a listed model without a blob, a wrong file under a digest's name.

    Written against the file system, not with the code under test.
    """
    faults: list[str] = []
    for path in (root / "blobs").glob("sha256-*"):
        if hashlib.sha256(path.read_bytes()).hexdigest() != path.name.removeprefix("sha256-"):
            faults.append(f"{path.name} has other bytes")
    for path in (root / "manifests").glob("*/*/*/*"):
        try:
            document = json.loads(path.read_bytes())
        except ValueError:
            faults.append(f"{path} is no manifest")
            continue
        for layer in [document["config"], *document["layers"]]:
            blob = root / "blobs" / layer["digest"].replace(":", "-")
            if not blob.is_file() or blob.stat().st_size != layer["size"]:
                faults.append(f"{path} lacks {blob.name}")
    return faults
