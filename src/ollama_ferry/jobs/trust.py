"""Hold a job to a lock, or to somebody's signature: exactly these models, or none."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from ollama_ferry.archives.volumes.reading import Volumes
from ollama_ferry.engine.inspect import manifests_of
from ollama_ferry.engine.ports import BlobEntry, LeavesOut, ModelEntry, Source, StreamSource
from ollama_ferry.errors import NotAsLocked, NotFound, Remedy
from ollama_ferry.files.pending import PendingFile
from ollama_ferry.jobs.signing import read_signature, sign, signer
from ollama_ferry.model.lock import LOCK_LIMIT, Lock
from ollama_ferry.model.manifests import Digest, Manifest
from ollama_ferry.model.names import ModelName

SIGNATURE_ENDING = ".sig"
"""What a signature's file is called behind the name of what it signs."""


@dataclass(frozen=True)
class Trust:
    """What models have to be before a job takes them.

    Attributes:
        lock: exactly these; None for any.
        expected: the digest of the one model's manifest; None for any.
        signers: a file of allowed signers, one of whom must have signed the models; None for no signature.
        signature: of the models that come, where it lies beside them.
        part: whether some of the models were asked for by name: then others of the lock need not come.
    """

    lock: Lock | None = None
    expected: Digest | None = None
    signers: Path | None = None
    signature: str | None = None
    part: bool = False

    def signed(self, signature: str) -> Trust:
        """Take the signature that an archive has within, where none lies beside it."""
        return replace(self, signature=self.signature or signature or None)

    def check(self, taken: Mapping[ModelName, Manifest], whole: Mapping[ModelName, Manifest], label: str) -> str:
        """Check models before the first of their bytes is taken.

        Args:
            taken: the models that the job takes.
            whole: all models that come from there, which is what was signed.
            label: where they come from, for messages.

        Returns:
            Who has signed them; empty where nobody was asked for.

        Raises:
            NotAsLocked: they are others, or nobody who is allowed has signed them.
        """
        for name, manifest in sorted(taken.items()):
            self.require(name, manifest, label)
        if self.lock is not None:
            if not self.part:
                self.lock.require_all(taken, label)
            # Whoever signed the lock has signed these.
            return ""
        if self.signers is None:
            return ""
        if self.signature is None:
            raise NotAsLocked(
                f"{label} is not signed",
                hint="The signature of an archive is a file of its name with .sig behind it.",
                remedies=[Remedy("lock")],
            )
        return signer(Lock.of(whole).text, self.signature, self.signers, label)

    def require(self, name: ModelName, manifest: Manifest, label: str) -> None:
        """Check one model as soon as it is met.

        Raises:
            NotAsLocked: it is none of those that are locked, or not the one that is expected.
        """
        if self.expected not in (None, manifest.digest):
            raise NotAsLocked(
                f"{name} is {manifest.digest} in {label}, and {self.expected} was expected", model=str(name)
            )
        if self.lock is not None:
            self.lock.require(name, manifest, label)


NO_TRUST = Trust()
"""Nothing is asked of the models."""


class TrustedStream:
    """A stream that ends with an error, before anything of it is published, where its models are not those.

    Args:
        stream: what passes by.
        trust: what is asked of it.
        taken: the models that are taken of it, as they are met.
        label: what it is called in messages.
    """

    def __init__(self, stream: StreamSource, trust: Trust, taken: Mapping[ModelName, Manifest], label: str) -> None:
        self._stream = stream
        self._trust = trust
        self._taken = taken
        self._label = label

    def entries(self) -> Iterator[BlobEntry | ModelEntry | LeavesOut]:
        """Give what passes by, and at its end look at the models."""
        models: dict[ModelName, Manifest] = {}
        for entry in self._stream.entries():
            if isinstance(entry, ModelEntry):
                models[entry.name] = entry.manifest
            yield entry
        self._trust.check(self._taken, models, self._label)


def read_lock(path: Path, signers: Path | None = None) -> Lock:
    """Read a lock.

    Args:
        path: its file.
        signers: a file of allowed signers, one of whom must have signed it (in ``path`` with ``.sig`` behind it).

    Raises:
        NotFound, Damaged: it is not there, or is none.
        NotAsLocked: nobody who is allowed has signed it.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(LOCK_LIMIT + 1)
    except OSError as error:
        raise NotFound(f"can't read the lock {path}: {error.strerror}") from error
    lock = Lock.parse(raw, str(path))
    if signers is not None:
        signature = signature_beside(path)
        if signature is None:
            raise NotAsLocked(f"the lock {path} is not signed: there is no {path}{SIGNATURE_ENDING}")
        signer(lock.text, signature, signers, f"the lock {path}")
    return lock


def write_lock(lock: Lock, path: Path, sign_with: Path | None = None, *, replace: bool = False) -> None:
    """Write a lock, and its signature beside it.

    Args:
        lock: what is written.
        path: the file.
        sign_with: the key that signs it; None signs nothing.
        replace: whether a file that is there may be replaced.

    Raises:
        AlreadyExists, NoSpace, NotPermitted: it can't be written.
        UsageError, NotFound: it can't be signed.
    """
    signature = sign(lock.text, sign_with) if sign_with is not None else ""
    with PendingFile(path, replace=replace) as file:
        file.write(lock.text.encode())
        file.publish()
    publish_signature(signature, path)


def publish_signature(signature: str, path: Path) -> None:
    """Write a signature beside what it signs, over one of a file that was replaced; nothing for an empty one."""
    if signature:
        with PendingFile(path.with_name(path.name + SIGNATURE_ENDING), replace=True) as file:
            file.write(signature.encode())
            file.publish()


def signature_beside(path: Path) -> str | None:
    """Return the signature that lies beside a file, or the first of its volumes; None where there is none."""
    volumes = Volumes.named(path)
    path = volumes.whole if volumes is not None and not path.exists() else path
    return read_signature(path.with_name(path.name + SIGNATURE_ENDING))


def lock_of(place: Source, names: Iterable[ModelName]) -> Lock:
    """Lock some models of a place.

    Raises:
        ModelNotFound, Damaged: one is not there, or its manifest is not readable.
    """
    manifests, broken = manifests_of(place, names)
    for error in broken.values():
        raise error
    return Lock.of(manifests)
