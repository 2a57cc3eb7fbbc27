"""What a path inside an archive means: a blob, a manifest, or nothing of Ollama's.

A store's own paths are ``blobs/sha256-<hex>`` and ``manifests/<host>/<namespace>/<model>/<tag>``; whatever stands
before these (``./``, ``models/``, ``usr/share/ollama/.ollama/models/``) depends on where somebody's tar was started.
The path only *tells* the digest or the name; where a file is written is derived from these, never from the
path.
"""

from __future__ import annotations

import re

from ollama_ferry.errors import Damaged, InvalidName
from ollama_ferry.model.manifests import Digest
from ollama_ferry.model.names import ModelName

_FORBIDDEN = re.compile(r"[\x00-\x1f\x7f\\]|[\ud800-\udfff]")
_DRIVE = re.compile(r"[A-Za-z]:")
_BLOB = re.compile(r"sha256[:-][0-9a-f]{64}")


def meaning_of(path: str) -> Digest | ModelName | None:
    """Read the path of a file in an archive.

    Args:
        path: with ``/`` between its parts.

    Returns:
        The digest of a blob, the name of a manifest, or None for a file that is none of Ollama's.

    Raises:
        Damaged: the path is absolute, climbs with ``..``, or has characters that no tool of Ollama's writes.
    """
    shown = ascii(path[:200])
    if _FORBIDDEN.search(path):
        raise Damaged(f"the member {shown} has a character in its name that is refused")
    if path.startswith("/") or _DRIVE.match(path):
        raise Damaged(f"the member {shown} has an absolute name")
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise Damaged(f"the member {shown} climbs out of the archive")
    if len(parts) >= 2 and parts[-2] == "blobs" and _BLOB.fullmatch(parts[-1]):
        return Digest.parse(parts[-1])
    if len(parts) >= 5 and parts[-5] == "manifests":
        try:
            return ModelName.from_path(parts[-4:])
        except InvalidName:
            # .DS_Store, ._8b and the like.
            return None
    return None
