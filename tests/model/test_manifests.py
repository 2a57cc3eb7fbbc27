"""Manifests: what is read, and what is refused."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_ferry.errors import Damaged
from ollama_ferry.model.manifests import MANIFEST_LIMIT, Digest, Manifest, parse_json

A, B, C = ("sha256:" + letter * 64 for letter in "abc")


def raw(**changes: Any) -> bytes:
    document: dict[str, Any] = {
        "schemaVersion": 2,
        "config": {"mediaType": "application/vnd.docker.container.image.v1+json", "digest": A, "size": 1},
        "layers": [
            {"mediaType": "application/vnd.ollama.image.model", "digest": B, "size": 20, "from": "/x"},
            {"mediaType": "application/vnd.ollama.image.tensor", "digest": C, "size": 300, "name": "a.weight"},
        ],
    }
    return json.dumps(document | changes).encode()


def test_id_is_the_digest_of_the_bytes_as_they_are() -> None:
    data = b"  " + raw() + b"\n"
    manifest = Manifest.parse(data)
    assert manifest.raw == data
    assert manifest.digest.hex == hashlib.sha256(data).hexdigest()
    assert manifest.digest.short == hashlib.sha256(data).hexdigest()[:12]


def test_every_layer_counts_whatever_its_media_type() -> None:
    manifest = Manifest.parse(raw())
    assert [str(blob.digest) for blob in manifest.blobs] == [B, C, A]
    assert [blob.kind for blob in manifest.blobs] == ["model", "tensor", "config"]
    assert manifest.layers[1].name == "a.weight"
    assert manifest.size == 321


def test_config_without_a_digest_is_none() -> None:
    assert Manifest.parse(raw(config={"digest": "", "size": 0})).config is None
    assert Manifest.parse(raw(config=None)).config is None
    assert Manifest.parse(b"{}").blobs == ()


def test_repeated_layer_is_one_blob() -> None:
    layer = {"digest": B, "size": 20}
    assert len(Manifest.parse(raw(layers=[layer, layer])).blobs) == 2


def test_keys_are_folded_as_go_folds_them() -> None:
    folded = json.dumps({"CONFIG": {"Digest": A, "SIZE": 1}, "Layers": [{"dIgEsT": B, "ſize": 2}]}).encode()
    manifest = Manifest.parse(folded)
    assert [(str(blob.digest), blob.size) for blob in manifest.blobs] == [(B, 2), (A, 1)]
    # A ligature is not the letters that it looks like.
    assert Manifest.parse(json.dumps({"conﬁg": {"digest": A, "size": 1}, "layers": []}).encode()).config is None


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no json",
        b"[]",
        b"null",
        b"3",
        b"{",
        b'{"layers": {}}',
        b'{"layers": [3]}',
        b'{"layers": [{}]}',
        b'{"config": []}',
        b"\xff\xfe{\x00}\x00",
        b"\xef\xbb\xbf{}",
        b'{"layers": "\xff"}',
        b"{} {}",
        b'{"a": NaN}',
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"layers": [{"digest": "sha256:' + b"b" * 64 + b'", "size": ' + b"9" * 5000 + b"}]}",
        raw(layers=[{"digest": B, "size": -1}]),
        raw(layers=[{"digest": B, "size": 2**63}]),
        raw(layers=[{"digest": B, "size": 1.0}]),
        raw(layers=[{"digest": B, "size": "1"}]),
        raw(layers=[{"digest": B, "size": True}]),
        raw(layers=[{"digest": B, "size": 1, "mediaType": 3}]),
        raw(layers=[{"digest": 3, "size": 1}]),
        raw(layers=[{"digest": "", "size": 1}]),
        raw(layers=[{"digest": "sha256:../../x", "size": 1}]),
        raw(layers=[{"digest": "sha256:" + "B" * 64, "size": 1}]),
        raw(layers=[{"digest": "sha256:" + "b" * 63, "size": 1}]),
        raw(layers=[{"digest": "sha256:" + "b" * 64 + "\n", "size": 1}]),
        raw(layers=[{"digest": "sha512:" + "b" * 64, "size": 1}]),
        b" " * (MANIFEST_LIMIT + 1),
    ],
    ids=lambda data: ascii(data[:40]),
)
def test_what_is_no_manifest_is_damaged(data: bytes) -> None:
    with pytest.raises(Damaged) as caught:
        _ = Manifest.parse(data).blobs
    assert len(caught.value.message) < 400


@pytest.mark.parametrize("piece", [b'{"":0},', b"[],", b"0,", b"[[[["])
def test_json_that_unfolds_to_all_memory_is_not_read(piece: bytes) -> None:
    with pytest.raises(Damaged, match="little but brackets"):
        parse_json(b"[" + piece * (2**20 // len(piece)) + b"0]")


def test_one_digest_with_two_sizes_is_damaged() -> None:
    manifest = Manifest.parse(raw(layers=[{"digest": B, "size": 1}, {"digest": B, "size": 2}]))
    with pytest.raises(Damaged, match="two sizes"):
        _ = manifest.blobs


def test_five_thousand_layers_are_read() -> None:
    layers = [{"mediaType": "application/vnd.ollama.image.tensor", "digest": f"sha256:{n:064x}", "size": n,
               "name": f"model.layers.{n}.weight"} for n in range(5000)]  # fmt: skip
    assert len(Manifest.parse(raw(layers=layers)).blobs) == 5001


@given(st.binary(max_size=200) | st.text(alphabet='{}[]",:a1 .e-digestlayrsconfz', max_size=200).map(str.encode))
def test_arbitrary_bytes_are_read_or_damaged(data: bytes) -> None:
    try:
        _ = Manifest.parse(data).blobs
    except Damaged:
        pass


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=80),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
fields = st.sampled_from(["config", "layers", "digest", "size", "mediaType", "name"])
documents = st.dictionaries(
    fields,
    json_values | st.dictionaries(fields, json_values, max_size=4)
    | st.lists(st.dictionaries(fields, json_values | st.just(A), max_size=4), max_size=3),
    max_size=3,
)  # fmt: skip


@given(documents)
def test_arbitrary_documents_are_read_or_damaged(document: dict[str, Any]) -> None:
    try:
        blobs = Manifest.parse(json.dumps(document).encode()).blobs
    except Damaged:
        return
    assert all(0 <= blob.size < 2**63 and len(blob.digest.hex) == 64 for blob in blobs)


@pytest.mark.parametrize("text", ["sha256:" + "0" * 64, "sha256-" + "0" * 64])
def test_digest_has_two_forms(text: str) -> None:
    assert str(Digest.parse(text)) == "sha256:" + "0" * 64
    assert Digest.parse(text).file_name == "sha256-" + "0" * 64


@pytest.mark.parametrize(("length", "read"), [(511, 512), (512, 512), (1535, 1536), (1536, 1536), (3584, 3584),
                                              (7680, 7680), (600, 601), (513, 514)])  # fmt: skip
def test_digest_as_a_server_lists_it(length: int, read: int) -> None:
    """Go's decoder reads whole buffers, and none more when the JSON has ended."""
    raw = b'{"config": {}, "layers": [], "x": "' + b"a" * (length - 37) + b'"}'
    assert len(raw) == length
    assert Manifest.parse(raw).listed_digest == Manifest.parse(raw).digest
    manifest = Manifest.parse(raw + b"\n")
    assert manifest.listed_digest == Digest.of((raw + b"\n")[:read])
    assert (manifest.listed_digest == manifest.digest) == (length not in (512, 1536, 3584, 7680))
