"""Manifests made to do harm: each is refused with one clear error."""

from __future__ import annotations

import json

import pytest

from support.arena import (
    OF_CONFIG,
    OF_WEIGHTS,
    A,
    Arena,
    assert_imported,
    assert_one_clear_error,
    assert_refused,
    deliver,
    delivered,
    delivered_in_all_ways,
)
from support.hostile import (
    END,
    MADE,
    MIB,
    Model,
    blob_name,
    entry,
    manifest,
    member,
    model_with,
    zip_entries,
    zip_of,
)

DIGESTS: dict[str, object] = {
    "climbs": "sha256:../../../outside/evil",
    "climbs, of the right length": "sha256:" + ("../" * 22)[:64],
    "absolute": "/etc/passwd",
    "capital": f"sha256:{A.upper()}",
    "capital algorithm": f"SHA256:{A}",
    "other algorithm": f"sha512:{'a' * 128}",
    "old algorithm": f"md5:{'a' * 32}",
    "short": f"sha256:{'a' * 63}",
    "long": f"sha256:{'a' * 65}",
    "newline": f"sha256:{A}\n",
    "NUL": f"sha256:{A}\0",
    "control": "\x1b[2J\x07\r\nerror: ",
    "C1 control": "\x9b2J",
    "a surrogate": "\ud800",
    "full-width digits": "sha256:" + "１" * 64,
    "none": "",
    "no text": 17,
    "list": [[]],
    "null": None,
}
SIZES: dict[str, object] = {
    "negative": -1,
    "2^63": 2**63,
    "2^64": 2**64,
    "10^4000": 10**4000,
    "fraction": 2400.0,
    "text": "2400",
    "true": True,
    "null": None,
    "list": [],
    "too small": 2399,
    "too large": 2401,
    "zero": 0,
    "huge": 2**63 - 1,
}


def raw_layers(text: bytes) -> bytes:
    return b'{"config":%s,"layers":[%s,%s]}' % (json.dumps(OF_CONFIG).encode(), json.dumps(OF_WEIGHTS).encode(), text)


WRONG_MANIFESTS: dict[str, bytes] = {
    **{
        f"digest: {what}": manifest(OF_CONFIG, [OF_WEIGHTS, {**OF_WEIGHTS, "digest": d}]) for what, d in DIGESTS.items()
    },
    **{
        f"config digest: {what}": manifest({**OF_CONFIG, "digest": digest}, [OF_WEIGHTS])
        for what, digest in DIGESTS.items()
        if digest
    },
    **{f"size: {what}": manifest(OF_CONFIG, [{**OF_WEIGHTS, "size": size}]) for what, size in SIZES.items()},
    **{f"config size: {what}": manifest({**OF_CONFIG, "size": size}, [OF_WEIGHTS]) for what, size in SIZES.items()},
    "no size": manifest(OF_CONFIG, [{"digest": OF_WEIGHTS["digest"]}]),
    "no digest": manifest(OF_CONFIG, [{"size": 1}]),
    "two sizes": manifest(OF_CONFIG, [OF_WEIGHTS, {**OF_WEIGHTS, "size": 1}]),
    "two sizes, the right one last": manifest(OF_CONFIG, [{**OF_WEIGHTS, "size": 1}, OF_WEIGHTS]),
    "missing blob": manifest(OF_CONFIG, [OF_WEIGHTS, entry(b"not here", "model")]),
    "missing empty blob": manifest(OF_CONFIG, [OF_WEIGHTS, entry(b"", "license")]),
    "missing config": manifest(entry(b"{}", "config"), [OF_WEIGHTS]),
    "neighbour's blob with another size": manifest(OF_CONFIG, [entry(b"free", "license", size=5)]),
    "empty": b"",
    "no JSON": b"manifest",
    "half": MADE.manifest[:-1],
    "list": b"[]",
    "number": b"17",
    "null": b"null",
    "layers are no list": b'{"layers":{}}',
    "a layer is no object": b'{"layers":[1]}',
    "config is no object": b'{"config":[],"layers":[]}',
    "not a number": raw_layers(b"NaN"),
    "infinite": raw_layers(b'{"size":1e999}'),
    "mark of order": b"\xef\xbb\xbf" + MADE.manifest,
    "UTF-16": MADE.manifest.decode().encode("utf-16"),
    "not UTF-8": MADE.manifest.replace(b"ollama", b"\xff\xfe"),
    "a huge number": raw_layers(b'{"size":%s}' % (b"9" * MIB)),
    "behind its end": MADE.manifest + b"{}",
    "lists 100,000 deep": b"[" * 100_000,
    "lists 100,000 deep, closed": raw_layers(b"[" * 100_000 + b"]" * 100_000),
    "objects 100,000 deep": raw_layers(b'{"":' * 100_000 + b"1" + b"}" * 100_000),
    "larger than is read": MADE.manifest + b" " * (4 * MIB),
}


@delivered
@pytest.mark.parametrize("what", WRONG_MANIFESTS)
def test_wrong_manifest_is_refused(arena: Arena, what: str, delivery: str) -> None:
    model = MADE.with_manifest(WRONG_MANIFESTS[what])
    assert_refused(arena, deliver(arena, model.tar(), delivery))
    first = member(model.manifest_name, model.manifest) + model.tar(end=b"") + END
    assert_refused(arena, deliver(arena, first, delivery))


@pytest.mark.parametrize("what", WRONG_MANIFESTS)
def test_wrong_manifest_in_a_zip_is_refused(arena: Arena, what: str) -> None:
    model = MADE.with_manifest(WRONG_MANIFESTS[what])
    assert_refused(arena, arena.attack(zip_of(zip_entries(model))))


@pytest.mark.parametrize("depth", range(850, 1010, 3))
def test_json_as_deep_as_it_gets_is_refused_with_one_error(arena: Arena, depth: int) -> None:
    # Near its limit of recursion Python may fail in the parser, or only later where the value is shown.
    for text in (b"[" * depth + b"]" * depth, b'{"a":' * depth + b"1" + b"}" * depth):
        for key in (b"size", b"digest"):
            model = MADE.with_manifest(raw_layers(b'{"%s":%s}' % (key, text)))
            assert_refused(arena, arena.attack(model.tar()))


@delivered
def test_one_digest_with_two_sizes_in_two_manifests_is_refused(arena: Arena, delivery: str) -> None:
    liar = model_with(entry(MADE.weights, "model", size=len(MADE.weights) + 1))
    liar = Model(liar.manifest, liar.config, liar.weights, "liar")
    done = deliver(arena, MADE.tar(before=member(liar.manifest_name, liar.manifest)), delivery)
    assert_one_clear_error(done, 4)
    assert arena.new_files() in ({}, MADE.files)


@delivered_in_all_ways
def test_file_of_no_models_is_told_so(arena: Arena, delivery: str) -> None:
    for data in (
        END,
        member("readme", b"text") + END,
        member("inner.tar", MADE.tar()) + END,
        member(blob_name(MADE.weights), MADE.weights) + END,
        member(MADE.manifest_name.replace("manifests", "manifest"), MADE.manifest) + END,
        member(MADE.manifest_name + "/too/deep", MADE.manifest) + END,
    ):
        assert_refused(arena, deliver(arena, data, delivery), 3)


def test_ignored_names_are_shown_in_short(arena: Arena) -> None:
    name = b"x" * 200_000
    done = arena.attack(MADE.tar(before=member(name) * 10), "--lenient")
    assert_imported(arena, done, MADE)
    assert len(done.stderr) < 4000
    done = arena.attack(member(name) * 10 + END, "--lenient")
    assert_one_clear_error(done, 3)
    assert len(done.stderr) < 4000
