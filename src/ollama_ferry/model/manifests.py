"""Digests, descriptors and manifests.

Source: ``manifest/manifest.go`` and ``manifest/layer.go`` of Ollama. A manifest is the registry's bytes: its
SHA-256 is the ID that ``ollama list`` prints, so the raw bytes are kept beside the parsed view and are the
only thing that is ever written.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from ollama_ferry.errors import Damaged
from ollama_ferry.wording import exact_size

MANIFEST_LIMIT = 4 * 1024 * 1024
"""The largest manifest that is read, in bytes. 5,000 layers take about 1.3 MB."""

MANIFESTS_LIMIT = 128 * 1024 * 1024
"""The most that all manifests of a place together may have, in bytes; 20,000 ordinary models have 20 MB."""

MODELS_LIMIT = 20_000
"""More models than any site has in a place; each takes some kilobytes of memory."""

CONFIG_LIMIT = 1024 * 1024
"""The largest config that is read, in bytes; one has some hundred. A larger one tells of no cloud model."""

# A layer has about 35 bytes for each bracket and comma. Much denser JSON takes 50 times its size in memory.
_DENSITY_FROM = 256 * 1024
_DENSITY = 12

SIZE_LIMIT = 2**63
"""Sizes are signed 64-bit numbers upstream; a size at or over this is refused."""

_REENCODE = {
    "UTF-8 with a mark": """Write it anew without: f=$(mktemp) && tail -c +4 {0} > "$f" && cp "$f" {0}""",
    "UTF-16": """Write it anew as UTF-8: f=$(mktemp) && iconv -f UTF-16 -t UTF-8 {0} > "$f" && cp "$f" {0}""",
}
"""How to write a manifest anew, by what it is encoded in."""
_LIST_TYPES = ("application/vnd.ollama.manifest.list.v2+json", "application/vnd.oci.image.index.v1+json")
_GO_READS = 512
_OLLAMAS = "application/vnd.ollama.image."
_WEIGHTS = (f"{_OLLAMAS}model", f"{_OLLAMAS}tensor", f"{_OLLAMAS}embed")
# What other programs keep in registries, by the beginning of the media types of their configs and layers: the
# ModelPack specification, Docker Model Runner's, Helm's, and plain files of oras.
_OTHERS = {
    "application/vnd.cncf.model.": "a ModelPack artifact",
    "application/vnd.docker.ai.": "a model of Docker Model Runner",
    "application/vnd.cncf.helm.": "a Helm chart",
    "application/vnd.docker.image.rootfs.": "a container image",
    "application/vnd.oci.image.layer.": "an artifact of plain files or a container image",
}

_DIGEST = re.compile(r"sha256[:-]([0-9a-f]{64})")


@dataclass(frozen=True, order=True, slots=True)
class Digest:
    """A SHA-256 digest; the only algorithm that Ollama's store knows."""

    hex: str

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[0-9a-f]{64}", self.hex):
            raise Damaged(f"{self.hex[:80]!r} is not the hexadecimal form of a SHA-256")

    @classmethod
    def parse(cls, text: str) -> Digest:
        """Read ``sha256:<64 hex>`` or the file-name form ``sha256-<64 hex>``.

        Raises:
            Damaged: the text is no such digest. Capital hex digits are refused as well: Ollama compares
                digests as text, so a blob under such a name never passes its own check.
        """
        found = _DIGEST.fullmatch(text)
        if not found:
            raise Damaged(f"{text[:100]!r} is not a digest (sha256: and 64 hexadecimal digits)")
        return cls(found[1])

    @classmethod
    def of(cls, data: bytes) -> Digest:
        """Return the digest of some bytes."""
        return cls(hashlib.sha256(data).hexdigest())

    @property
    def file_name(self) -> str:
        """The name of the blob's file below ``blobs/``."""
        return f"sha256-{self.hex}"

    @property
    def short(self) -> str:
        """The first twelve digits, as ``ollama list`` and ``ollama pull`` print them."""
        return self.hex[:12]

    def __str__(self) -> str:
        return f"sha256:{self.hex}"


@dataclass(frozen=True, slots=True)
class Descriptor:
    """One blob as a manifest names it.

    Attributes:
        digest: what the blob's bytes hash to.
        size: in bytes.
        media_type: what the blob is for; empty where it does not matter (a blob known by digest alone).
        name: the tensor's name in models that have one blob a tensor, else empty.
    """

    digest: Digest
    size: int
    media_type: str = field(default="", compare=False)
    name: str = field(default="", compare=False)

    @property
    def kind(self) -> str:
        """The media type's last word: ``model``, ``template``, ``license``, ``config`` ..."""
        if self.media_type == "application/vnd.docker.container.image.v1+json":
            return "config"
        return self.media_type.rpartition(".")[2] or self.media_type or "layer"


@dataclass(frozen=True)
class Manifest:
    """A manifest: its bytes as they are, and what they say.

    Attributes:
        raw: the bytes; never rewritten.
        config: the config blob, or None where the manifest has none (an empty digest).
        layers: the layers in the manifest's order; a digest may occur twice.
        modified: when the place got it, in seconds since the epoch; None where the place can't tell.
        loses_blobs: a server that starts deletes blobs of this model, for some digest is not written ``sha256:<hex>``
            (``deleteUnusedLayers`` in ``server/images.go`` of Ollama compares digests as text).
        listed: where it is a list of manifests, one for each runner, the digests of those whose bytes are not known;
            :meth:`with_listed` takes them (``manifest/manifest.go`` of Ollama's pull request 16590).
    """

    raw: bytes
    config: Descriptor | None
    layers: tuple[Descriptor, ...]
    modified: float | None = field(default=None, compare=False)
    loses_blobs: bool = field(default=False, compare=False)
    listed: tuple[Digest, ...] = ()

    @classmethod
    def parse(cls, raw: bytes, *, modified: float | None = None) -> Manifest:
        """Read a manifest's bytes.

        Raises:
            Damaged: they are no JSON, too many, or not of a manifest's shape.
        """
        if len(raw) > MANIFEST_LIMIT:
            raise Damaged(f"a manifest of more than {MANIFEST_LIMIT} bytes is not read")
        document = parse_json(raw)
        if not isinstance(document, dict):
            raise Damaged("the manifest is JSON, but not an object")
        config = document.get("config")
        layers = document.get("layers")
        if config is not None and not isinstance(config, dict):
            raise Damaged("the manifest's config is not an object")
        if layers is not None and not isinstance(layers, list):
            raise Damaged("the manifest's layers are not a list")
        children = document.get("manifests")
        if children is not None or document.get("mediatype") in _LIST_TYPES:
            return cls._of_list(raw, children, modified)
        return cls(
            raw=raw,
            # Ollama skips a config without a digest; a layer without one it can't resolve.
            config=_descriptor(config) if config and config.get("digest") else None,
            layers=tuple(_descriptor(layer) for layer in layers or ()),
            modified=modified,
            loses_blobs=any(
                isinstance(blob, dict) and str(blob.get("digest")).startswith("sha256-")
                for blob in (config, *(layers or ()))
            ),
        )

    @classmethod
    def _of_list(cls, raw: bytes, children: Any, modified: float | None) -> Manifest:
        """Read a list of manifests; those that stand in it whole are taken as they are."""
        if not isinstance(children, list) or not all(isinstance(child, dict) for child in children):
            raise Damaged("the manifest's list of manifests is none")
        listed: list[Digest] = []
        layers: list[Descriptor] = []
        for child in children:
            blobs = [*(child.get("layers") or ()), *filter(None, [child.get("config")])]
            if not blobs and isinstance(child.get("digest"), str):
                listed.append(Digest.parse(child["digest"]))
            layers += map(_descriptor, blobs)
        return cls(raw, None, tuple(layers), modified, listed=tuple(listed))

    def with_listed(self, found: Mapping[Digest, bytes]) -> Manifest:
        """Return the list with those of its manifests that are there, which are blobs of the model as well.

        A server pulls only those for the runners that it has.

        Raises:
            Damaged: one of them is none.
        """
        layers = list(self.layers)
        for digest in self.listed:
            if digest in found:
                child = Manifest.parse(found[digest])
                layers += (Descriptor(digest, len(found[digest]), "manifest"), *child.blobs)
        return replace(self, layers=tuple(layers), listed=() if found else self.listed)

    @property
    def stranger(self) -> str:
        """What it is, where it is no model of Ollama's but another program's artifact; empty for a model.

        Ollama takes layers by their media types (``GetModel`` in ``server/images.go``).
        """
        types = [layer.media_type for layer in self.layers]
        if any(kind.startswith(_OLLAMAS) for kind in types):
            return ""
        for kind in (*types, self.config.media_type if self.config else ""):
            for beginning, what in _OTHERS.items():
                if kind.startswith(beginning):
                    return what
        return ""

    @property
    def lacks_weights(self) -> bool:
        """Whether its layers say what they are, and none is weights that Ollama reads."""
        types = [layer.media_type for layer in self.layers]
        return all(types) and not any(kind.startswith(_WEIGHTS) for kind in types)

    @cached_property
    def digest(self) -> Digest:
        """The SHA-256 of the bytes; its first twelve digits are the ID that ``ollama list`` prints."""
        return Digest.of(self.raw)

    @property
    def listed_digest(self) -> Digest:
        """What a server takes for the digest, and ``ollama list`` prints the beginning of.

        It hashes what Go's decoder reads of the file, which fills its buffer and stops when the JSON has ended: a
        newline behind JSON of 512, 1536, 3584 or 7680 bytes is not read (``ParseNamedManifest`` of Ollama;
        ``Decoder.refill`` in ``encoding/json`` of Go).
        """
        end, buffer = len(self.raw.rstrip()), _GO_READS
        while buffer < end:
            buffer = 2 * buffer + _GO_READS
        return self.digest if buffer >= len(self.raw) else Digest.of(self.raw[:buffer])

    @cached_property
    def blobs(self) -> tuple[Descriptor, ...]:
        """Every blob that the model needs, each once: the layers in order, then the config.

        Raises:
            Damaged: the manifest names one digest with two sizes.
        """
        unique: dict[Digest, Descriptor] = {}
        for blob in (*self.layers, *((self.config,) if self.config else ())):
            known = unique.setdefault(blob.digest, blob)
            if known.size != blob.size:
                raise Damaged(f"the manifest gives {blob.digest} two sizes: {known.size:,} and {exact_size(blob.size)}")
        return tuple(unique.values())

    @property
    def size(self) -> int:
        """The bytes of all blobs, each counted once."""
        return sum(blob.size for blob in self.blobs)


def parse_json(raw: bytes) -> Any:
    """Parse JSON from outside, with the keys folded.

    Go's decoder, which reads these files upstream, matches keys whatever their letter case and takes the last
    of several; so does this, lest the two see different models in one file.

    Raises:
        Damaged: the bytes are not JSON in UTF-8, nested too deep, or would take much more memory than they are.
    """
    if encoding := encoding_of(raw):
        raise Damaged(
            f"it is text in {encoding}, as PowerShell and editors write it, and Ollama reads UTF-8 without a mark",
            hint=_REENCODE[encoding].format("FILE"),
        )
    if len(raw) > _DENSITY_FROM and sum(map(raw.count, (b"[", b"{", b","))) > len(raw) // _DENSITY:
        raise Damaged("it consists of little but brackets, which would take all memory to read")
    try:
        return json.loads(raw.decode("utf-8"), object_pairs_hook=_folded, parse_constant=_refused)
    except (ValueError, RecursionError) as error:
        reason = "nested too deep" if isinstance(error, RecursionError) else str(error)[:200]
        raise Damaged(f"not valid JSON: {reason}") from error


def encoding_of(raw: bytes) -> str:
    """Return what a text is encoded in that an editor or PowerShell has written anew; empty for what may be UTF-8."""
    if raw.startswith(b"\xef\xbb\xbf"):
        return "UTF-8 with a mark"
    return "UTF-16" if raw.startswith((b"\xff\xfe", b"\xfe\xff")) else ""


def reencoding(raw: bytes, file: str) -> str:
    """Return the lines that make UTF-8 without a mark of a file, which keeps its owner; empty for what may be that.

    Args:
        raw: what it begins with.
        file: its name, quoted for a shell.
    """
    encoding = encoding_of(raw)
    return _REENCODE[encoding].format(file) if encoding else ""


def remote_host(config: bytes) -> str | None:
    """Return the host that a config names as the one where its model runs; None for a model with weights.

    Source: ``ConfigV2`` in ``types/model/config.go`` of Ollama.
    """
    try:
        document = parse_json(config)
    except Damaged:
        return None
    host = document.get("remote_host") if isinstance(document, dict) else None
    return host if isinstance(host, str) and host else None


def _folded(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    return {_fold(key): value for key, value in pairs}


def _fold(key: str) -> str:
    """Fold a key as Go does: rune by rune, so that a ligature is not the letters that it looks like."""
    return key.lower() if key.isascii() else "".join(one if len(one := rune.casefold()) == 1 else rune for rune in key)


def _refused(constant: str) -> Any:
    raise ValueError(f"{constant} is not JSON")


def _descriptor(fields: Any) -> Descriptor:
    if not isinstance(fields, dict):
        raise Damaged("the manifest names a layer that is not an object")
    digest, size = fields.get("digest"), fields.get("size", 0)
    media_type, name = fields.get("mediatype") or "", fields.get("name") or ""
    if not isinstance(digest, str):
        raise Damaged("the manifest names a layer without a digest")
    # bool is an int to Python, and not to JSON.
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size < SIZE_LIMIT:
        raise Damaged(f"the manifest gives {digest[:100]!r} the size {str(size)[:40]!r}")
    if not isinstance(media_type, str) or not isinstance(name, str):
        raise Damaged(f"the manifest gives {digest[:100]!r} a media type or name that is no text")
    # Thousands of layers have the same few media types.
    return Descriptor(Digest.parse(digest), size, sys.intern(media_type), name)
