"""What small blobs of an archive tell while they pass by: manifests to which links lead, and cloud stubs."""

from __future__ import annotations

import hashlib
import posixpath

from ollama_ferry.archives.members import Member
from ollama_ferry.archives.unpacking import Unpacked, peek
from ollama_ferry.model.layout import BlobPath, ManifestPath, Meaning, meaning_of
from ollama_ferry.model.manifests import CONFIG_LIMIT, MANIFEST_LIMIT, MODELS_LIMIT, Digest, remote_host

# All that is kept, in bytes.
_KEPT_LIMIT = 16 * 1024 * 1024
# Every manifest has the key, and no other blob of Ollama's.
_MARK_OF_MANIFESTS = b'"schemaVersion"'


class TellingBlobs:
    """Looks into small blobs that are JSON.

    Args:
        remotes: is filled with the configs of cloud stubs, and the hosts where their models run.

    Attributes:
        manifests: the content of blobs that may be manifests; each has its digest.
    """

    def __init__(self, remotes: dict[Digest, str]) -> None:
        self.manifests: dict[Digest, bytes] = {}
        self._remotes = remotes
        self._left = _KEPT_LIMIT

    def look_into(self, path: BlobPath, member: Member, data: Unpacked) -> Unpacked:
        """Remember what a blob tells.

        Args:
            path: what its path says.
            member: the blob.
            data: its content.

        Returns:
            What gives all of the content again.
        """
        if path.root is None or member.size > min(MANIFEST_LIMIT, self._left):
            return data
        raw, data = peek(data, 1)
        if raw != b"{":
            return data
        raw, data = peek(data, member.size)
        if len(raw) <= CONFIG_LIMIT and len(self._remotes) < MODELS_LIMIT and (host := remote_host(raw)):
            self._remotes[path.digest] = host
        known = path.digest in self.manifests or _MARK_OF_MANIFESTS not in raw
        if not known and hashlib.sha256(raw).hexdigest() == path.digest.hex:
            self._left -= len(raw)
            self.manifests[path.digest] = raw
        return data


def linked_blob(member: Member, meaning: Meaning) -> Digest | None:
    """Return the blob of the same store to which a manifest of the newer layout is a link; None where it is none."""
    if not isinstance(meaning, ManifestPath) or not meaning.newer or member.hard or member.target.startswith("/"):
        return None
    name = "/".join(part for part in member.name.split("/") if part not in ("", "."))
    found = meaning_of(posixpath.normpath(posixpath.join(posixpath.dirname(name), member.target)))
    return found.digest if isinstance(found, BlobPath) and found.root == meaning.root else None
