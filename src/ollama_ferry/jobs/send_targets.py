"""Where models are sent to: a store on a host, or one in a folder of this machine."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol

from ollama_ferry.engine.ports import Sink
from ollama_ferry.engine.run import Run
from ollama_ferry.files.disk import Disk
from ollama_ferry.model.manifests import Descriptor, Manifest
from ollama_ferry.model.names import ModelName, Spelling
from ollama_ferry.places.ssh.place import SshPlace
from ollama_ferry.places.store.sink import StoreSink
from ollama_ferry.places.store.store import Store


class SendTarget(Protocol):
    """Where models are sent to."""

    label: str
    far: bool

    @property
    def waited(self) -> bool:
        """Whether somebody else may have written there between the first look and the sink."""
        ...

    def existing(self, names: list[ModelName]) -> tuple[str, dict[ModelName, tuple[ModelName, Manifest | None]]]:
        """Return the store's folder, and for each name how it is spelt there and what is there under it."""
        ...

    def refuses(self, name: ModelName) -> str:
        """Return why a name can't be had there; nothing where it can."""
        ...

    def doubt(self, blobs: Iterable[Descriptor]) -> None:
        """Hash blobs that are there; those that are damaged count as missing from now on."""
        ...

    def sink(self, stack: ExitStack, run: Run) -> Sink:
        """Begin to write."""
        ...

    def tidy_up(self, run: Run) -> None:
        """Put away what earlier runs have left, where nothing is to be sent."""
        ...

    def has(self, blob: Descriptor) -> bool:
        """Return whether a blob is there with its size."""
        ...

    def begun(self, blob: Descriptor) -> int:
        """Return how many bytes of a blob are there of an earlier run, and are not moved again."""
        ...


class SshTarget:
    """A store on a host.

    Args:
        place: the store.
        wait: whether to wait for another send to it; with several targets two sends could wait for each other.
    """

    def __init__(self, place: SshPlace, *, wait: bool = True) -> None:
        self.label = place.label
        self.far = True
        self.waited = False
        self._place = place
        self._wait = wait

    def existing(self, names: list[ModelName]) -> tuple[str, dict[ModelName, tuple[ModelName, Manifest | None]]]:
        survey = self._place.take_survey(names)
        spelling = Spelling(survey.names)
        spelt = {name: spelling.of(name) for name in names}
        if any(other in survey.names and other not in survey.manifests for other in spelt.values()):
            survey = self._place.take_survey(spelt.values())
        return survey.root, {name: (other, survey.manifests.get(other)) for name, other in spelt.items()}

    def refuses(self, name: ModelName) -> str:
        return ""

    def doubt(self, blobs: Iterable[Descriptor]) -> None:
        present = [blob for blob in blobs if self._place.survey.blobs.get(blob.digest) == blob.size]
        if present:
            for blob, found in self._place.hashes(present):
                if found != blob.digest.hex:
                    del self._place.survey.blobs[blob.digest]

    def sink(self, stack: ExitStack, run: Run) -> Sink:
        stack.enter_context(self._place)
        self.waited = self._place.lock(wait=self._wait, run=run).waited
        return self._place

    def tidy_up(self, run: Run) -> None:
        pass  # The next send that has something to send does it.

    def has(self, blob: Descriptor) -> bool:
        return self._place.has(blob)

    def begun(self, blob: Descriptor) -> int:
        return self._place.begun(blob)


class FolderTarget:
    """A store in a folder of this machine, such as one on a stick."""

    def __init__(self, root: Path, *, disk: Disk | None = None, link_from: Store | None = None) -> None:
        self.label = str(root)
        self.far = False
        # The lock of a folder does not tell whether it was free at once, and to look again costs little.
        self.waited = True
        self._disk = disk
        self._link_from = link_from
        self._store = Store(root)
        self._verify_existing = False

    def existing(self, names: list[ModelName]) -> tuple[str, dict[ModelName, tuple[ModelName, Manifest | None]]]:
        spelling = Spelling(self._store.names())
        spelt = {name: spelling.of(name) for name in names}
        return str(self._store.root), {
            name: (other, self._store.manifest_or_none(other)) for name, other in spelt.items()
        }

    def refuses(self, name: ModelName) -> str:
        return self._store.refuses(name)

    def doubt(self, blobs: Iterable[Descriptor]) -> None:
        self._verify_existing = True

    def sink(self, stack: ExitStack, run: Run) -> Sink:
        return stack.enter_context(
            StoreSink(
                self._store,
                disk=self._disk,
                verify_existing=self._verify_existing,
                link_from=self._link_from,
                run=run,
            )
        )

    def tidy_up(self, run: Run) -> None:
        StoreSink.tidy_up(self._store, disk=self._disk, run=run)

    def has(self, blob: Descriptor) -> bool:
        return not self._verify_existing and self._store.has(blob)

    def begun(self, blob: Descriptor) -> int:
        return 0
