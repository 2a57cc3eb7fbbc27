"""What a path inside an archive or a folder means: a blob, a manifest, or nothing of Ollama's.

A store's own paths are ``blobs/sha256-<hex>`` and ``manifests/<host>/<namespace>/<model>/<tag>``; whatever stands
before these (``./``, ``models/``, ``usr/share/ollama/.ollama/models/``) depends on where somebody's tar was started.
People and their tools have blobs under other names as well (a browser's ``sha256_<hex> (1)``), and manifests that lie
beside them as ``manifest.json``, whose model has no name then. The path only *tells* a digest or a name; where a file
is written is derived from these, never from the path, and a blob counts when its bytes have the digest.

Newer servers have manifests in ``manifests-v2/``, where the default host is ``ollama.com`` and ``:`` in a host ``%3A``
(source: ``manifest/paths.go`` of Ollama's pull requests 15735 and 16590).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum

from ollama_ferry.errors import InvalidName
from ollama_ferry.model.manifests import Digest
from ollama_ferry.model.names import DEFAULT_HOST, ModelName

MANIFESTS = "manifests"
NEWER_MANIFESTS = "manifests-v2"
MANIFEST_FOLDERS = (MANIFESTS, NEWER_MANIFESTS)
"""The folders of a store that have manifests; it has one or both."""
_NEWER_HOST = "ollama.com"
_UNUSUAL = re.compile(r"[\x00-\x1f\x7f\\]|[\ud800-\udfff]")
_DRIVE = re.compile(r"[A-Za-z]:")
_BLOB = re.compile(r"sha256[:-][0-9a-f]{64}")
# As browsers, wget, WSL and Samba write a colon, and with what they put behind a name. Unfinished downloads have other
# endings.
_NAMED_BLOB = re.compile(
    r"(?:sha256(?:[-:_\uf03a\uff1a]|%3a){0,2})?(?P<hex>[0-9a-f]{64})(?P<copy> ?\([0-9]{1,3}\))?"
    r"(?:\.(?:bin|blob|dat|data|gguf|json|safetensors|txt))?(?: ?\([0-9]{1,3}\))?",
    re.IGNORECASE,
)
_MANIFEST = re.compile(r"(?:.*[-_. ])?manifest(?:[-_. ].*)?", re.IGNORECASE)
# What systems, sync tools and editors leave beside files.
_FOREIGN_TAG = re.compile(
    r"desktop\.ini|(?:eh)?thumbs\.db|.*\.(?:bak|ini|lnk|meta|old|orig|part|swp|tmp|url)|.*conflict.*", re.IGNORECASE
)
# Microsoft, "Naming Files, Paths, and Namespaces"; with whatever extension.
_RESERVED = re.compile(r"(CON|PRN|AUX|NUL|COM[0-9]|LPT[0-9])(\..*)?", re.IGNORECASE)
# A layer of an image: Docker's own layout, and that of OCI.
_IMAGE_LAYER = re.compile(r"(?:.*/)?(?:[^/]+/layer\.tar|blobs/sha256/[0-9a-f]{64})")


@dataclass(frozen=True)
class BlobPath:
    """A file that should be a blob.

    Attributes:
        digest: what its name says.
        root: the folder of the store that it belongs to, with a slash at its end; None where the file is not called
            and placed as Ollama does it.
    """

    digest: Digest
    root: str | None


@dataclass(frozen=True)
class ManifestPath:
    """A file that should be a manifest.

    Attributes:
        name: the model.
        root: the folder of the store that it belongs to.
        newer: whether it is below ``manifests-v2/``, where a server that knows it looks first.
    """

    name: ModelName
    root: str
    newer: bool = False


class Loose(Enum):
    """A file that may belong to a model, and tells by its content whether it does."""

    MANIFEST = "manifest"
    """A manifest without a name: beside blobs, or below ``manifests/`` under a name that Ollama refuses."""
    DESCRIPTION = "description"
    """``metadata.json`` of ollamazip, which names the model whose manifest lies beside it."""


@dataclass(frozen=True)
class LoosePath:
    """A file that may belong to a model.

    Attributes:
        kind: what it may be.
        folder: where it is, with a slash at its end.
    """

    kind: Loose
    folder: str


@dataclass(frozen=True)
class ImageLayer:
    """A layer of a container's image, which is an archive of its own; in OCI's layout a blob is called so too.

    Attributes:
        blob: the blob that it may be.
    """

    blob: BlobPath | None


Meaning = BlobPath | ManifestPath | LoosePath | ImageLayer | None


def why_unusual(path: str) -> str:
    """Tell why not every tar takes a path as it stands; an empty text where all do.

    Args:
        path: with ``/`` between its parts.
    """
    if _UNUSUAL.search(path):
        return "has a character in its name that some readers refuse or take for another one"
    return "has an absolute name" if path.startswith("/") or _DRIVE.match(path) else ""


def climbs(path: str) -> bool:
    """Return whether a path leads out of where it begins, or may do so on some system."""
    return ".." in re.split(r"[/\\]", path)


def meaning_of(path: str) -> Meaning:
    """Read the path of a file in an archive or below a folder.

    Args:
        path: with ``/`` between its parts, or ``\\`` as some zips of Windows have it.
    """
    parts = [part for part in path.replace("\\", "/").split("/") if part not in ("", ".")]
    if not parts:
        return None
    *above, last = parts
    if above and above[-1] == "blobs" and _BLOB.fullmatch(last):
        return BlobPath(Digest.parse(last), _folder(above[:-1]))
    if len(parts) >= 5 and parts[-5] in (MANIFESTS, NEWER_MANIFESTS):
        newer = parts[-5] == NEWER_MANIFESTS
        try:
            return ManifestPath(name_of(tuple(parts[-4:]), newer=newer, normal=newer), _folder(parts[:-5]), newer)
        except InvalidName:
            # .DS_Store and ._8b are none, and a name that older servers took may be one.
            return None if last.startswith(".") else LoosePath(Loose.MANIFEST, _folder(above))
    if _IMAGE_LAYER.fullmatch("/".join(parts)):
        return ImageLayer(_loosely_named(last))
    if blob := _loosely_named(last):
        return blob
    if last == "metadata.json":
        return LoosePath(Loose.DESCRIPTION, _folder(above))
    return LoosePath(Loose.MANIFEST, _folder(above)) if _MANIFEST.fullmatch(last) else None


def _loosely_named(name: str) -> BlobPath | None:
    found = _NAMED_BLOB.fullmatch(name)
    return BlobPath(Digest(found["hex"].lower()), None) if found else None


def _folder(parts: list[str]) -> str:
    return "".join(f"{part}/" for part in parts)


def is_foreign_tag(tag: str) -> bool:
    """Return whether a file below ``manifests/`` whose name could be a tag is rather that of a system or an editor."""
    return bool(_FOREIGN_TAG.fullmatch(tag))


def path_parts(name: ModelName, *, newer: bool) -> tuple[str, str, str, str]:
    """Return the parts of a manifest's path below the folder of its layout."""
    if not newer:
        return name.parts
    host = _NEWER_HOST if _is_default(name.host) else name.host.replace(":", "%3A")
    return (host, *name.parts[1:])


def older_parts(name: ModelName) -> list[tuple[str, str, str, str]]:
    """Return the paths below ``manifests/`` where a newer server looks for a model, likeliest first."""
    if not _is_default(name.host):
        return [name.parts]
    return [(host, *name.parts[1:]) for host in dict.fromkeys((name.host, DEFAULT_HOST, _NEWER_HOST))]


def name_forms(name: ModelName) -> list[tuple[str, ...]]:
    """Return the parts of a manifest's path in either layout; one where both are the same."""
    return list(dict.fromkeys((name.parts, path_parts(name, newer=True))))


def name_of(parts: tuple[str, ...], *, newer: bool, normal: bool) -> ModelName:
    """Return the name of a manifest by the parts of its path.

    Args:
        parts: below the folder of its layout.
        newer: whether that is ``manifests-v2``.
        normal: give the public registry its one host, as a server of the newer layout does.

    Raises:
        InvalidName: it is none.
    """
    name = ModelName.from_path((re.sub("%3a", ":", parts[0], flags=re.IGNORECASE), *parts[1:]) if newer else parts)
    return ModelName(DEFAULT_HOST, *name.parts[1:]) if normal and _is_default(name.host) else name


def refused_by_windows(name: ModelName, *, newer: bool = False) -> str:
    """Return why Windows can't store a name's folders, or nothing where it can.

    Args:
        name: the name.
        newer: in ``manifests-v2/``, which has no ``:``.
    """
    for part in path_parts(name, newer=newer):
        if ":" in part:
            return f"{part} holds a ':'"
        if part.endswith("."):
            return f"{part} ends with a '.'"
        if _RESERVED.fullmatch(part):
            return f"{part} is reserved there"
    return ""


def _is_default(host: str) -> bool:
    return host.lower() in (DEFAULT_HOST, _NEWER_HOST)
