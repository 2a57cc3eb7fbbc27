"""Stores with realistic weights, made on the spot: Gaussian values, quantised and written by the gguf package."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGMLQuantizationType, GGUFWriter
from gguf.quants import quantize


def quantised_store(root: Path, size: int) -> None:
    """Write one model of about ``size`` bytes of 4-bit weights, unless it is there."""
    if (root / "manifests/registry.ollama.ai/library/bench/q4_0").exists():
        return
    (root / "blobs").mkdir(parents=True, exist_ok=True)
    unfinished = root / "weights.gguf"
    kind = GGMLQuantizationType.Q4_0
    writer = GGUFWriter(str(unfinished), "llama")
    rng = np.random.default_rng(7)
    written = 0
    while written < size:
        tensor = quantize(rng.standard_normal((4096, 4096), dtype=np.float32) * np.float32(0.02), kind)
        writer.add_tensor(f"blk.{written}.weight", tensor, raw_dtype=kind)
        written += tensor.nbytes
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with unfinished.open("rb") as file:
        digest = hashlib.sha256()
        while chunk := file.read(1 << 22):
            digest.update(chunk)
    layer = {"digest": f"sha256:{digest.hexdigest()}", "size": unfinished.stat().st_size}
    unfinished.rename(root / f"blobs/sha256-{digest.hexdigest()}")
    _write_manifest(root, "bench/q4_0", [layer])


def many_models(root: Path, count: int) -> None:
    """Write ``count`` models of four small blobs each, unless they are there."""
    if (root / f"manifests/registry.ollama.ai/library/m{count - 1}/latest").exists():
        return
    for number in range(count):
        layers = [_write_blob(root, f"{kind} {number}".encode()) for kind in ("model", "template", "license")]
        _write_manifest(root, f"m{number}/latest", layers)


def many_layers(root: Path, count: int) -> None:
    """Write one model of ``count`` blobs of 4 kB of random weights each, unless it is there."""
    if (root / "manifests/registry.ollama.ai/library/layers/latest").exists():
        return
    rng = np.random.default_rng(3)
    blobs = [(rng.standard_normal(2048) * 0.02).astype(np.float16).tobytes() for _ in range(count)]
    _write_manifest(root, "layers/latest", [_write_blob(root, blob) for blob in blobs])


def _write_blob(root: Path, content: bytes) -> dict[str, Any]:
    digest = hashlib.sha256(content).hexdigest()
    (root / "blobs").mkdir(parents=True, exist_ok=True)
    (root / f"blobs/sha256-{digest}").write_bytes(content)
    return {"digest": f"sha256:{digest}", "size": len(content)}


def _write_manifest(root: Path, name: str, layers: list[dict[str, Any]]) -> None:
    config = _write_blob(root, b'{"model_format":"gguf"}')
    typed = [{"mediaType": "application/vnd.ollama.image.tensor", **layer} for layer in layers]
    path = root / "manifests/registry.ollama.ai/library" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"schemaVersion": 2, "config": config, "layers": typed}))
