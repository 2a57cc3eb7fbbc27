"""A small real model, made on the spot: for the demo, which has to work without Ollama and without a network.

Source of the format: the GGUF specification (ggml, ``docs/gguf.md``), version 3. The model is of the ``llama``
architecture with random weights; Ollama loads it and answers nonsense.
"""

from __future__ import annotations

import json
import os
import random
import struct
from collections.abc import Iterable
from pathlib import Path
from statistics import NormalDist

from ollama_ferry.model.manifests import Digest
from ollama_ferry.model.names import ModelName

_ALIGNMENT = 32
_UINT32, _INT32, _FLOAT32, _STRING, _ARRAY = 4, 5, 6, 8, 9
_F32, _Q8_0 = 0, 8
_Q8_0_BLOCK = 32

_SAMPLE_TIME = 1_700_000_000
_SPECIAL_TOKENS = 3 + 256
_EMBEDDING, _FEED_FORWARD, _BLOCKS, _HEADS = 256, 768, 4, 4


def sample_gguf(seed: int = 1) -> bytes:
    """Return a GGUF file of about 4 MB: a llama model of 3.5 million weights, quantised to Q8_0."""
    rng = random.Random(seed)  # noqa: S311 -- weights, not secrets
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    tokens += ["▁", *"etaoinshrdlcumwfgypbvk,.", "▁the", "▁and", "▁ferry"]
    kinds = [2, 3, 3, *[6] * 256, *[1] * (len(tokens) - _SPECIAL_TOKENS)]
    fields: list[tuple[str, bytes]] = [
        ("general.architecture", _text("llama")),
        ("general.name", _text("ollama-ferry sample")),
        ("general.file_type", _uint(7)),
        ("llama.context_length", _uint(256)),
        ("llama.embedding_length", _uint(_EMBEDDING)),
        ("llama.block_count", _uint(_BLOCKS)),
        ("llama.feed_forward_length", _uint(_FEED_FORWARD)),
        ("llama.attention.head_count", _uint(_HEADS)),
        ("llama.attention.head_count_kv", _uint(_HEADS)),
        ("llama.attention.layer_norm_rms_epsilon", struct.pack("<If", _FLOAT32, 1e-5)),
        ("llama.rope.dimension_count", _uint(_EMBEDDING // _HEADS)),
        ("llama.vocab_size", _uint(len(tokens))),
        ("tokenizer.ggml.model", _text("llama")),
        ("tokenizer.ggml.tokens", _array(_STRING, [_string(token) for token in tokens])),
        ("tokenizer.ggml.scores", _array(_FLOAT32, [struct.pack("<f", -n) for n in range(len(tokens))])),
        ("tokenizer.ggml.token_type", _array(_INT32, [struct.pack("<i", kind) for kind in kinds])),
        ("tokenizer.ggml.bos_token_id", _uint(1)),
        ("tokenizer.ggml.eos_token_id", _uint(2)),
        ("tokenizer.ggml.unknown_token_id", _uint(0)),
    ]
    tensors: list[tuple[str, tuple[int, ...]]] = [("token_embd.weight", (_EMBEDDING, len(tokens)))]
    for block in range(_BLOCKS):
        shapes = {
            "attn_norm": (_EMBEDDING,),
            "attn_q": (_EMBEDDING, _EMBEDDING),
            "attn_k": (_EMBEDDING, _EMBEDDING),
            "attn_v": (_EMBEDDING, _EMBEDDING),
            "attn_output": (_EMBEDDING, _EMBEDDING),
            "ffn_norm": (_EMBEDDING,),
            "ffn_gate": (_EMBEDDING, _FEED_FORWARD),
            "ffn_up": (_EMBEDDING, _FEED_FORWARD),
            "ffn_down": (_FEED_FORWARD, _EMBEDDING),
        }
        tensors += [(f"blk.{block}.{name}.weight", shape) for name, shape in shapes.items()]
    tensors += [("output_norm.weight", (_EMBEDDING,)), ("output.weight", (_EMBEDDING, len(tokens)))]

    head = struct.pack("<4sIQQ", b"GGUF", 3, len(tensors), len(fields))
    head += b"".join(_string(key) + value for key, value in fields)
    data = bytearray()
    for name, shape in tensors:
        # Norms stay in full precision, as quantised models of the real world have them.
        kind, content = (_F32, struct.pack("<f", 1.0) * shape[0]) if len(shape) == 1 else (_Q8_0, _q8_0(rng, shape))
        if name == "output.weight":
            # Control and byte tokens never win, so that the model answers in (random) words.
            mute = _SPECIAL_TOKENS * _EMBEDDING // _Q8_0_BLOCK * (_Q8_0_BLOCK + 2)
            content = bytes(mute) + content[mute:]
        head += _string(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, len(data))
        data += content + bytes(-len(content) % _ALIGNMENT)
    return head + bytes(-len(head) % _ALIGNMENT) + bytes(data)


def write_sample_store(root: Path) -> list[ModelName]:
    """Write a store in Ollama's layout with two models that share their weights and their license.

    Args:
        root: the folder, which need not exist.

    Returns:
        The models' names.
    """
    weights, license_text = sample_gguf(), b"MIT License: do what you like with these random numbers.\n"
    return [
        _write_model(
            root,
            ModelName.parse(f"ferry-sample:{tag}"),
            [("model", weights), ("template", template.encode()), ("license", license_text)],
        )
        for tag, template in (("4m", "{{ .Prompt }}"), ("4m-chat", "User: {{ .Prompt }}\nAssistant: "))
    ]


def _write_model(root: Path, name: ModelName, layers: Iterable[tuple[str, bytes]]) -> ModelName:
    described = [
        {"mediaType": f"application/vnd.ollama.image.{kind}", **_write_blob(root, content)} for kind, content in layers
    ]
    config = {
        "model_format": "gguf",
        "model_family": "llama",
        "model_families": ["llama"],
        "model_type": "3.5M",
        "file_type": "Q8_0",
        "architecture": "amd64",
        "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": [layer["digest"] for layer in described]},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
        "config": {
            "mediaType": "application/vnd.docker.container.image.v1+json",
            **_write_blob(root, json.dumps(config).encode()),
        },
        "layers": described,
    }
    path = root.joinpath("manifests", *name.parts)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(json.dumps(manifest).encode())
    # A fixed time makes the sample's archive the same on every machine.
    os.utime(path, (_SAMPLE_TIME, _SAMPLE_TIME))
    return name


def _write_blob(root: Path, content: bytes) -> dict[str, object]:
    digest = Digest.of(content)
    (root / "blobs").mkdir(parents=True, exist_ok=True)
    (root / "blobs" / digest.file_name).write_bytes(content)
    return {"digest": str(digest), "size": len(content)}


def _q8_0(rng: random.Random, shape: tuple[int, ...]) -> bytes:
    """Return a tensor of Q8_0 blocks: a half-precision scale, then 32 signed bytes, spread as weights are."""
    count = shape[0] * shape[1]
    bell = NormalDist(0, 42)
    spread = bytes(max(-127, min(127, round(bell.inv_cdf((byte + 0.5) / 256)))) & 0xFF for byte in range(256))
    values = rng.randbytes(count).translate(spread)
    scales = [struct.pack("<e", rng.uniform(0.8, 1.2) * 0.0005) for _ in range(count // _Q8_0_BLOCK)]
    return b"".join(
        scale + values[start : start + _Q8_0_BLOCK]
        for scale, start in zip(scales, range(0, count, _Q8_0_BLOCK), strict=True)
    )


def _string(text: str) -> bytes:
    raw = text.encode()
    return struct.pack("<Q", len(raw)) + raw


def _text(text: str) -> bytes:
    return struct.pack("<I", _STRING) + _string(text)


def _uint(value: int) -> bytes:
    return struct.pack("<II", _UINT32, value)


def _array(kind: int, items: list[bytes]) -> bytes:
    return struct.pack("<IIQ", _ARRAY, kind, len(items)) + b"".join(items)
