"""Manifests of models in a registry: asked for, and checked to be one of a model."""

from __future__ import annotations

import time

from ollama_ferry.errors import Damaged, NotAModel, NotFound
from ollama_ferry.model.manifests import MANIFEST_LIMIT, Digest, Manifest
from ollama_ferry.places.registry.manifest_forms import DOCKER_TYPE, OCI_TYPE, own_form
from ollama_ferry.places.registry.references import Reference
from ollama_ferry.registries.client import Client

# Ollama's registry is asked for the first by Ollama itself; the order says that nothing else is wanted more.
_ACCEPT = f"{DOCKER_TYPE}, {OCI_TYPE};q=0.9"
# Whatever may stand under a tag, for those who would replace it.
_ACCEPT_ANYTHING = (
    f"{DOCKER_TYPE}, {OCI_TYPE}, application/vnd.oci.image.index.v1+json, "
    "application/vnd.docker.distribution.manifest.list.v2+json, "
    "application/vnd.docker.distribution.manifest.v1+prettyjws, */*;q=0.1"
)
# Layers of a container image are file systems (OCI image specification, "Image Layer Filesystem Changeset").
_FILE_SYSTEM = ("application/vnd.docker.image.rootfs.", "application/vnd.oci.image.layer.")


def fetch_manifest(client: Client, reference: Reference) -> Manifest | None:
    """Ask a registry for a manifest; None where there is none.

    Raises:
        Damaged: it is not what its digest says, is too big, or is not a model's.
    """
    what = f"reading the manifest of {reference}"
    found = _fetch(client, reference, _ACCEPT)
    if found is None:
        return None
    raw, said = found
    wanted = str(reference.digest) if reference.digest else said if said.startswith("sha256:") else ""
    if wanted and wanted != f"sha256:{Digest.of(raw).hex}":
        raise Damaged(f"{what}: its bytes have the digest {Digest.of(raw)}, and the registry says {wanted[:80]!r}")
    try:
        manifest = Manifest.parse(own_form(raw), modified=time.time())
        _ = manifest.blobs
    except Damaged as error:
        raise Damaged(f"{what}: {error}", hint="Is it a model of Ollama's?") from error
    if not manifest.layers and manifest.config is None:
        # An index of several platforms, most likely: a model has none.
        raise Damaged(f"{what}: it names no layers, so it is no model", hint="Is it a model of Ollama's?")
    if manifest.stranger and not all(layer.media_type.startswith(_FILE_SYSTEM) for layer in manifest.layers):
        raise NotAModel(f"{what}: it is {manifest.stranger}, and no model that Ollama can run")
    if manifest.layers and all(layer.media_type.startswith(_FILE_SYSTEM) for layer in manifest.layers):
        raise Damaged(
            f"{what}: it is a container image: all of its layers are file systems",
            hint="Is the name right? Images are for docker, podman or skopeo.",
        )
    return manifest


def manifest_under_tag(client: Client, reference: Reference) -> bytes | None:
    """Return whatever stands under a tag, or None; no bytes for what is too large to be a model."""
    try:
        found = _fetch(client, reference, _ACCEPT_ANYTHING)
    except Damaged:
        return b""
    return found[0] if found else None


def _fetch(client: Client, reference: Reference, accept: str) -> tuple[bytes, str] | None:
    """Ask for what a reference names: its bytes, and the digest that the registry gives it; None for nothing.

    Raises:
        Damaged: it is too big for a manifest.
    """
    what = f"reading the manifest of {reference}"
    try:
        raw, answer = client.read(
            f"/v2/{reference.repository}/manifests/{reference.wanted}",
            scope=f"repository:{reference.repository}:pull",
            what=what,
            limit=MANIFEST_LIMIT,
            kind="a manifest",
            headers={"Accept": accept},
        )
    except NotFound:
        return None
    except Damaged as error:
        raise Damaged(
            error.message if error.message.startswith(what) else f"{what}: {error}", hint=error.hint
        ) from error
    return raw, answer.header("Docker-Content-Digest")
