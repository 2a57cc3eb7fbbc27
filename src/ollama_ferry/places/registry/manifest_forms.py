"""The two forms of a model's manifest in a registry: Ollama's own, which is of Docker's type, and one of OCI's type.

Some registries (zot) and tools (skopeo) take Ollama's layers in manifests of OCI's type only. Such a manifest is
another document with another digest, so it has the model's own within it, to the byte: a pull gives back the same ID.

Source: the OCI image specification 1.1, "Image Manifest" and "Annotations".
"""

from __future__ import annotations

import base64
import binascii
import json

from ollama_ferry.errors import Damaged, Remedy, UsageError
from ollama_ferry.model.manifests import MANIFEST_LIMIT, Descriptor, Digest, Manifest, parse_json
from ollama_ferry.model.names import ModelName

DOCKER_TYPE = "application/vnd.docker.distribution.manifest.v2+json"
OCI_TYPE = "application/vnd.oci.image.manifest.v1+json"
WITHIN = "ollama-ferry.manifest"
"""The annotation that has the model's own manifest, in base64."""
_ANY_TYPE = "application/octet-stream"


def media_type(raw: bytes) -> str:
    """Return the media type that a manifest gives itself, which the registry compares; OCI's allows for none."""
    found = parse_json(raw)
    said = found.get("mediatype") if isinstance(found, dict) else None
    return said if isinstance(said, str) and said.isascii() and said.isprintable() and said else OCI_TYPE


def oci_form(name: ModelName, manifest: Manifest) -> bytes:
    """Return a model's manifest in OCI's form, always the same bytes; what is of OCI's type stays as it is.

    Args:
        name: the model, for messages.
        manifest: its own.

    Raises:
        UsageError: it has no such form: it has no config, or that form would be too large.
    """
    if media_type(manifest.raw) == OCI_TYPE:
        return manifest.raw
    if manifest.config is None:
        raise UsageError(f"{name} has no config, which manifests of OCI's type need", remedies=[Remedy("oci", "False")])
    document = {
        "schemaVersion": 2,
        "mediaType": OCI_TYPE,
        "config": _described(manifest.config),
        "layers": [_described(layer) for layer in manifest.layers],
        "annotations": {WITHIN: base64.b64encode(manifest.raw).decode()},
    }
    raw = json.dumps(document, separators=(",", ":")).encode()
    if len(raw) > MANIFEST_LIMIT:
        raise UsageError(
            f"{name} has so many layers that its manifest of OCI's type would have {len(raw)} bytes, "
            f"and more than {MANIFEST_LIMIT} are not read",
            remedies=[Remedy("oci", "False")],
        )
    return raw


def is_form_of(raw: bytes, name: ModelName, manifest: Manifest) -> bool:
    """Return whether some bytes are a model's manifest in either of its forms, to the byte."""
    try:
        return raw in (manifest.raw, oci_form(name, manifest))
    except UsageError:
        return False


def own_form(raw: bytes) -> bytes:
    """Return the model's own manifest where one of OCI's type has it within, else the bytes as they are.

    Raises:
        Damaged: what is within is none, or names other blobs than the manifest around it.
    """
    # Its bounds come first: what is JSON may still be of a kind that takes all memory to read.
    around = Manifest.parse(raw)
    document = parse_json(raw)
    annotations = document.get("annotations") if isinstance(document, dict) else None
    text = annotations.get(WITHIN) if isinstance(annotations, dict) else None
    if text is None:
        return raw
    try:
        own = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError, TypeError):
        raise Damaged("the manifest within it can't be read") from None
    # The registry holds and hands out what is named around it: nothing else may come in by the way.
    if _parts(Manifest.parse(own)) != _parts(around):
        raise Damaged("the manifest within it names other blobs than itself")
    return own


def _parts(manifest: Manifest) -> set[tuple[Digest, int]]:
    return {(blob.digest, blob.size) for blob in manifest.blobs}


def _described(blob: Descriptor) -> dict[str, object]:
    described: dict[str, object] = {
        "mediaType": blob.media_type or _ANY_TYPE,
        "digest": str(blob.digest),
        "size": blob.size,
    }
    # Ollama's models of tensors need the names.
    return {**described, "name": blob.name} if blob.name else described
