"""GGUF files of realistic weights: Gaussian values, quantised as Ollama's models are, written tensor by tensor."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, GGUFWriter
from gguf.quants import quantize

KINDS = {
    "q4_0": GGMLQuantizationType.Q4_0,
    "q4_k": GGMLQuantizationType.Q4_K,
    "q8_0": GGMLQuantizationType.Q8_0,
    "bf16": GGMLQuantizationType.BF16,
}

# A square matrix of this side is a tensor of 9 MB in 4 bits and of 34 MB in BF16: what a model of 7B has.
_SIDE = 4096


def write_gguf(path: Path, size: int, kind: str, seed: int = 7) -> None:
    """Write a GGUF file of about ``size`` bytes; no more than a few tensors are in memory at a time.

    Args:
        path: the file to write.
        size: bytes of weights, rounded up to whole tensors.
        kind: one of ``KINDS``.
        seed: of the random values; the same seed gives the same bytes.
    """
    ggml = KINDS[kind]
    side = _SIDE if size > 2**27 else 1024
    values, room = GGML_QUANT_SIZES[ggml]
    tensor_bytes = side * side // values * room
    count = max(1, -(-size // tensor_bytes))
    writer = GGUFWriter(str(path), "llama")
    for number in range(count):
        row = (side, side // values * room)
        writer.add_tensor_info(f"blk.{number}.weight", row, np.dtype(np.uint8), tensor_bytes, raw_dtype=ggml)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for tensor in _made_ahead(count, side, kind, seed):
        writer.write_tensor_data(tensor)
    writer.close()


def _made_ahead(count: int, side: int, kind: str, seed: int) -> Iterator[npt.NDArray[Any]]:
    """Make the tensors on two threads, in order, the next two while one is written."""

    def make(number: int) -> npt.NDArray[Any]:
        rng = np.random.default_rng((seed, number))
        return quantised(rng.standard_normal((side, side), dtype=np.float32) * np.float32(0.02), kind)

    with ThreadPoolExecutor(2) as pool:
        numbers = iter(range(count))
        waiting: list[Future[npt.NDArray[Any]]] = [pool.submit(make, number) for number in islice(numbers, 3)]
        while waiting:
            yield waiting.pop(0).result()
            waiting += [pool.submit(make, number) for number in islice(numbers, 1)]


def quantised(values: npt.NDArray[np.float32], kind: str) -> npt.NDArray[Any]:
    """Return the bytes of a matrix in one of ``KINDS``; the length of a row is a multiple of 256."""
    if kind == "q4_k":
        return _q4_k(values)
    found: npt.NDArray[Any] = quantize(values, KINDS[kind])
    return found


def _q4_k(values: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    """Quantise to Q4_K, which the gguf package reads and does not write.

    Source: ``block_q4_K`` in ``ggml-common.h`` and ``get_scale_min_k4`` in ``ggml-quants.c`` of ggml. 256 weights are
    two half floats that scale the scales, eight 6-bit scales and minima in 12 bytes, and 128 bytes of two weights each.
    """
    blocks = values.reshape(-1, 8, 32)
    least = -np.minimum(blocks.min(axis=2), 0)
    step = (blocks.max(axis=2) + least) / 15
    scale_of_steps = np.maximum(step.max(axis=1, keepdims=True) / 63, 1e-7).astype(np.float16)
    scale_of_minima = np.maximum(least.max(axis=1, keepdims=True) / 63, 1e-7).astype(np.float16)
    steps = np.clip(np.rint(step / scale_of_steps.astype(np.float32)), 1, 63).astype(np.uint8)
    minima = np.clip(np.rint(least / scale_of_minima.astype(np.float32)), 0, 63).astype(np.uint8)
    shift = (scale_of_minima.astype(np.float32) * minima)[:, :, None]
    weights = np.rint((blocks + shift) / (scale_of_steps.astype(np.float32) * steps)[:, :, None])
    nibbles = np.clip(weights, 0, 15).astype(np.uint8).reshape(-1, 4, 2, 32)
    packed = np.concatenate(
        [
            steps[:, :4] | (steps[:, 4:] >> 4) << 6,
            minima[:, :4] | (minima[:, 4:] >> 4) << 6,
            (steps[:, 4:] & 15) | (minima[:, 4:] & 15) << 4,
        ],
        axis=1,
    )
    parts = [
        scale_of_steps.view(np.uint8),
        scale_of_minima.view(np.uint8),
        packed,
        (nibbles[:, :, 0] | nibbles[:, :, 1] << 4).reshape(-1, 128),
    ]
    return np.concatenate(parts, axis=1).reshape(values.shape[0], -1)
