"""A lock: exactly which models, in a text that people read, compare and sign.

::

    # ollama-ferry lock 1
    qwen3:8b sha256:500a1f067a9f… 561
      sha256:a3de86cd1c13… 5225374208 model
      sha256:ae370d884f10… 1723 template

A line for each model, sorted by name: its name, the SHA-256 of its manifest (the ID that ``ollama list`` prints is its
beginning) and the manifest's bytes. Below it a line for each blob, sorted by digest: digest, bytes, what it is for. The
manifest's digest covers all of it; the blobs are there to be read. The same models give the same text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ollama_ferry.errors import Damaged, InvalidName, NotAsLocked
from ollama_ferry.model.manifests import SIZE_LIMIT, Digest, Manifest
from ollama_ferry.model.names import ModelName

LOCK_LIMIT = 64 * 1024 * 1024
"""The largest lock that is read, in bytes; a blob takes about 100."""

_TITLE = "# ollama-ferry lock 1"
_MODEL = re.compile(r"(\S{1,600}) (sha256:[0-9a-f]{64}) ([0-9]{1,19})")
_BLOB = re.compile(r"  sha256:[0-9a-f]{64} [0-9]{1,19} [!-~]{1,200}")


@dataclass(frozen=True)
class Lock:
    """Which models, by the digests of their manifests.

    Attributes:
        models: the manifest's digest of each model.
        text: the lock as it is written and signed.
    """

    models: Mapping[ModelName, Digest]
    text: str

    @classmethod
    def of(cls, models: Mapping[ModelName, Manifest]) -> Lock:
        """Lock some models."""
        lines = [_TITLE]
        for name, manifest in sorted(models.items()):
            lines.append(f"{_spelt(name)} {manifest.digest} {len(manifest.raw)}")
            for blob in sorted(manifest.blobs, key=lambda blob: blob.digest):
                lines.append(f"  {blob.digest} {blob.size} {re.sub(r'[^!-~]', '?', blob.kind)[:200]}")
        digests = {name: manifest.digest for name, manifest in models.items()}
        return cls(digests, "".join(f"{line}\n" for line in lines))

    @classmethod
    def parse(cls, raw: bytes, label: str) -> Lock:
        """Read a lock.

        Args:
            raw: its bytes, at most :data:`LOCK_LIMIT`.
            label: what it is called in messages.

        Raises:
            Damaged: they are no lock, or of a version that is not known here.
        """
        try:
            title, *lines = raw.decode("ascii").split("\n")
        except UnicodeDecodeError:
            raise Damaged(f"{label} is no lock of models") from None
        if title != _TITLE or len(raw) > LOCK_LIMIT or lines[-1:] != [""]:
            raise Damaged(f"{label} is no lock of models, or of a version that is not known here")
        models: dict[ModelName, Digest] = {}
        for number, line in enumerate(lines[:-1], 2):
            found = _MODEL.fullmatch(line)
            if not found and _BLOB.fullmatch(line) and models:
                continue
            try:
                name = ModelName.parse(found[1]) if found else None
            except InvalidName:
                name = None
            if found is None or name is None or name in models or int(found[3]) >= SIZE_LIMIT:
                raise Damaged(f"line {number} of the lock {label} is damaged: {line[:100]!r}")
            models[name] = Digest.parse(found[2])
        return cls(models, raw.decode("ascii"))

    def require(self, name: ModelName, manifest: Manifest, where: str) -> None:
        """Check that a model is one of those that are locked.

        Raises:
            NotAsLocked: it is not, or has another manifest.
        """
        wanted = self.models.get(name)
        if wanted is None:
            raise NotAsLocked(f"{name} is in {where}, and not in the lock", model=str(name))
        if wanted != manifest.digest:
            raise NotAsLocked(
                f"{name} is {manifest.digest.short} in {where}, and {wanted.short} in the lock", model=str(name)
            )

    def require_all(self, names: Iterable[ModelName], where: str) -> None:
        """Check that every locked model is among those that are there.

        Raises:
            NotAsLocked: one is missing.
        """
        missing = sorted(self.models.keys() - set(names))
        if missing:
            raise NotAsLocked(f"{', '.join(map(str, missing))} of the lock is not in {where}", model=str(missing[0]))


def _spelt(name: ModelName) -> str:
    """Return a name in the form that reads as the very same: the short one leaves out defaults in whatever case."""
    short = str(name)
    return short if ModelName.parse(short) == name else f"{name.host}/{name.namespace}/{name.model}:{name.tag}"
