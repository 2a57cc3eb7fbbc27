"""What a verification found: of each blob, of each model, of the whole place."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import Enum

from ollama_ferry.engine.plan import NotCarried
from ollama_ferry.model.manifests import Descriptor, Digest, Manifest
from ollama_ferry.model.names import ModelName
from ollama_ferry.wording import exact_size


class Fault(Enum):
    """What is wrong with a blob or a manifest; the value says it in words."""

    MISSING = "missing"
    UNFINISHED = "an unfinished download"
    SIZE = "of the wrong size"
    CONTENT = "damaged"
    UNREADABLE = "not readable"
    MANIFEST = "no valid manifest"
    PRUNED = "to lose its blobs"
    NO_MODEL = "no model that Ollama could run"


@dataclass(frozen=True)
class Problem:
    """Something that is wrong.

    Attributes:
        fault: of which kind.
        text: what was found, in words.
        blob: the blob that it is about; None for a manifest.
    """

    fault: Fault
    text: str
    blob: Descriptor | None = None

    @property
    def in_the_way(self) -> bool:
        """Whether a file with other bytes is there, which Ollama would keep."""
        return self.fault in (Fault.CONTENT, Fault.SIZE)


@dataclass(frozen=True)
class Verdict:
    """What was found of one model.

    Attributes:
        name: the model.
        manifest: its manifest, or None where that is not readable as one.
        problems: what is wrong with it; empty for a whole model.
        left_out: how many of its blobs an archive leaves out on purpose; nothing is said of these.
    """

    name: ModelName
    manifest: Manifest | None
    problems: tuple[Problem, ...]
    left_out: int = 0

    @property
    def good(self) -> bool:
        return not self.problems


@dataclass(frozen=True)
class Report:
    """What a verification found.

    Attributes:
        place: what was verified.
        models: a verdict for each model, sorted by name.
        blobs: how many blobs were hashed.
        size: their bytes.
        unnamed: what is wrong with blobs that no model names; harmless, and worth knowing of an archive.
        seconds: how long it took.
        repaired: how many blobs and manifests were replaced by good ones; None where that was not asked for.
        signed_by: who has signed the models; empty where nobody was asked for.
        unchanged: how many blobs were not hashed, for they were not changed since they were; None where all are hashed.
        not_carried: what is there and can't be named, or is no model; nothing is said of its blobs.
    """

    place: str
    models: tuple[Verdict, ...]
    blobs: int
    size: int
    unnamed: tuple[Problem, ...]
    seconds: float
    repaired: int | None = None
    signed_by: str = ""
    unchanged: int | None = None
    not_carried: tuple[NotCarried, ...] = ()

    @property
    def good(self) -> bool:
        """Whether every model is whole, and nothing in an archive is damaged."""
        return not self.unnamed and all(model.good for model in self.models)


@dataclass(frozen=True)
class Models:
    """The models of a place that is verified.

    Attributes:
        manifests: those whose manifest can be read.
        broken: what is wrong with the others.
        left_out: blobs that the place lacks on purpose; nothing is said of these.
        runs_elsewhere: tells whether a model is a cloud stub, which has no weights.
    """

    manifests: Mapping[ModelName, Manifest]
    broken: Mapping[ModelName, Problem]
    left_out: Collection[Digest] = ()
    runs_elsewhere: Callable[[Manifest], object] = lambda manifest: True

    def needed(self) -> dict[Digest, Descriptor]:
        """Return the blobs that the models name."""
        return {blob.digest: blob for manifest in self.manifests.values() for blob in manifest.blobs}

    def absent(
        self, size_of: Callable[[Digest], int | None], unfinished: Callable[[Digest], object] = lambda digest: False
    ) -> dict[Digest, Problem]:
        """Find what is wrong with blobs before any byte is read.

        Args:
            size_of: tells a blob's size in the place, or None where it is not there.
            unfinished: tells whether a blob that is not there is an unfinished download.
        """
        found: dict[Digest, Problem] = {}
        for digest, blob in self.needed().items():
            size = size_of(digest)
            if size is None and digest not in self.left_out:
                found[digest] = Problem(Fault.UNFINISHED if unfinished(digest) else Fault.MISSING, "", blob)
            elif size is not None and size != blob.size:
                found[digest] = Problem(Fault.SIZE, f"{exact_size(size)} instead of {blob.size:,}", blob)
        return found

    def report(
        self,
        place: str,
        hashed: Collection[Descriptor],
        problems: Mapping[Digest, Problem],
        seconds: float,
        signed_by: str = "",
    ) -> Report:
        """Sum up.

        Args:
            place: what was verified.
            hashed: the blobs whose bytes were read.
            problems: what is wrong with blobs, needed by a model or not.
            seconds: how long it took.
            signed_by: who has signed the models.
        """
        needed = self.needed()
        return Report(
            place=place,
            models=tuple(sorted(self._verdicts(problems), key=lambda verdict: verdict.name)),
            blobs=len(hashed),
            size=sum(blob.size for blob in hashed),
            unnamed=tuple(problem for digest, problem in problems.items() if digest not in needed),
            seconds=seconds,
            signed_by=signed_by,
        )

    def _verdicts(self, problems: Mapping[Digest, Problem]) -> Iterator[Verdict]:
        for name, manifest in self.manifests.items():
            # A blob may be a layer twice, or be named by several models as something else.
            own = [replace(problems[blob.digest], blob=blob) for blob in manifest.blobs if blob.digest in problems]
            if manifest.loses_blobs:
                text = "its manifest writes digests as sha256-<hex>: a server that starts deletes its blobs"
                own.append(Problem(Fault.PRUNED, text))
            if manifest.lacks_weights and not self.runs_elsewhere(manifest):
                own.append(Problem(Fault.NO_MODEL, "no layer of it is weights that Ollama reads"))
            yield Verdict(name, manifest, tuple(own), sum(blob.digest in self.left_out for blob in manifest.blobs))
        for name, problem in self.broken.items():
            yield Verdict(name, None, (problem,))


def content_problem(blob: Descriptor, actual: str) -> Problem:
    """Return what is wrong with a blob whose bytes have another digest."""
    return Problem(Fault.CONTENT, f"its bytes have the SHA-256 {actual[:12]}...", blob)
