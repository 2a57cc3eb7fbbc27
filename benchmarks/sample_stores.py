"""Stores to measure with, made on the spot."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

_CHUNK = 1 << 22
_LIBRARY = Path("manifests/registry.ollama.ai/library")


def one_model(root: Path, name: str, size: int, kind: str, seed: int = 7) -> None:
    """Add one model, ``NAME:TAG``, of about ``size`` bytes of weights of a kind of ``weights.KINDS``."""
    from weights import write_gguf

    (root / "blobs").mkdir(parents=True, exist_ok=True)
    unfinished = root / "weights.gguf"
    write_gguf(unfinished, size, kind, seed)
    with unfinished.open("rb") as file:
        digest = hashlib.sha256()
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    layer = {"digest": f"sha256:{digest.hexdigest()}", "size": unfinished.stat().st_size}
    unfinished.rename(root / f"blobs/sha256-{digest.hexdigest()}")
    _write_manifest(root, name, [layer])


def chat_variant(root: Path, name: str, of: str) -> None:
    """Add a model that shares the weights of another and has a template of its own."""
    model, tag = of.split(":")
    document = json.loads((root / _LIBRARY / model / tag).read_bytes())
    template = _write_blob(root, b"{{ .System }} {{ .Prompt }}")
    _write_manifest(root, name, [document["layers"][0], template])


def many_models(root: Path, count: int) -> None:
    """Add ``count`` models of four small blobs each."""
    for number in range(count):
        layers = [_write_blob(root, f"{kind} {number}".encode()) for kind in ("model", "template", "license")]
        _write_manifest(root, f"m{number}:latest", layers)


def many_layers(root: Path, count: int) -> None:
    """Add one model, ``layers:latest``, of ``count`` blobs of 4 kB of random weights each."""
    import numpy as np

    rng = np.random.default_rng(3)
    blobs = [(rng.standard_normal(2048) * 0.02).astype(np.float16).tobytes() for _ in range(count)]
    _write_manifest(root, "layers:latest", [_write_blob(root, blob) for blob in blobs])


def sparse_models(root: Path, sizes: dict[str, int]) -> None:
    """Add models of nothing but zeros, which take no room on the disk; they are hashed in one pass."""
    (root / "blobs").mkdir(parents=True, exist_ok=True)
    digest, done = hashlib.sha256(), 0
    zeros = bytes(_CHUNK)
    for name, size in sorted(sizes.items(), key=lambda item: item[1]):
        while done < size:
            digest.update(zeros[: size - done])
            done += min(_CHUNK, size - done)
        path = root / f"blobs/sha256-{digest.hexdigest()}"
        path.touch()
        os.truncate(path, size)
        _write_manifest(root, name, [{"digest": f"sha256:{digest.hexdigest()}", "size": size}])


def biggest_blob(root: Path) -> Path:
    """Return the largest blob's file."""
    return max((root / "blobs").iterdir(), key=lambda path: path.stat().st_size)


def warm(root: Path) -> None:
    """Read every blob once, so that the page cache is warm for whoever comes first too."""
    for blob in (root / "blobs").iterdir():
        with blob.open("rb") as file:
            while file.read(_CHUNK):
                pass


def what_is_wrong(root: Path, name: str) -> str:
    """Hash what a model's manifest names and say what a store lacks; an empty text for nothing.

    Written against the file system, for whoever restored it.
    """
    model, tag = name.split(":")
    try:
        document = json.loads((root / _LIBRARY / model / tag).read_bytes())
    except (OSError, ValueError):
        return "no manifest"
    named = {"config": [document["config"]], "layer": document["layers"]}
    faults = []
    for kind, descriptors in named.items():
        for descriptor in descriptors:
            path = root / "blobs" / descriptor["digest"].replace(":", "-")
            if not path.is_file():
                faults.append(f"a {kind} is missing")
                continue
            digest = hashlib.sha256()
            with path.open("rb") as file:
                while chunk := file.read(_CHUNK):
                    digest.update(chunk)
            if digest.hexdigest() != path.name.removeprefix("sha256-"):
                faults.append(f"a {kind} is damaged")
    return ", ".join(dict.fromkeys(faults))


def _write_blob(root: Path, content: bytes) -> dict[str, Any]:
    digest = hashlib.sha256(content).hexdigest()
    (root / "blobs").mkdir(parents=True, exist_ok=True)
    (root / f"blobs/sha256-{digest}").write_bytes(content)
    return {"digest": f"sha256:{digest}", "size": len(content)}


def _write_manifest(root: Path, name: str, layers: list[dict[str, Any]]) -> None:
    model, tag = name.split(":")
    config = _write_blob(root, b'{"model_format":"gguf"}')
    typed = [{"mediaType": "application/vnd.ollama.image.model", **layer} for layer in layers]
    path = root / _LIBRARY / model / tag
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"schemaVersion": 2, "config": config, "layers": typed}))
