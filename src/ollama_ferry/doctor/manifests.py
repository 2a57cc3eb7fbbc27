"""The manifests of a store: which can be read, and which of their blobs are there."""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field

from ollama_ferry.doctor.advice import with_sudo
from ollama_ferry.doctor.contents import ENTRIES_AT_MOST, Blobs, ManifestFile, Some, Visit, visit_manifests
from ollama_ferry.doctor.findings import Severity, and_more
from ollama_ferry.doctor.models import bring_back, check_models, may_pull
from ollama_ferry.doctor.subject import Subject
from ollama_ferry.engine.inspect import with_listed
from ollama_ferry.errors import FerryError, InvalidName
from ollama_ferry.files.folder import read_at_most
from ollama_ferry.model.layout import name_of
from ollama_ferry.model.manifests import MANIFEST_LIMIT, Descriptor, Manifest
from ollama_ferry.model.names import ModelName
from ollama_ferry.model.strays import is_systems_own, may_be_stray
from ollama_ferry.places.store.layouts import BEING_WRITTEN
from ollama_ferry.shell_lines import folder_making, quoted, renaming
from ollama_ferry.wording import counted, human_size, shown


@dataclass
class ModelsSeen:
    """What the manifests of a store say.

    Attributes:
        names: the names of the models, the damaged ones too; those that differ in letter case only are together.
        named: the digests that manifests name, in hexadecimal digits.
        largest: the bytes of the largest model.
    """

    names: dict[tuple[str, ...], list[ModelName]] = field(default_factory=lambda: defaultdict(list))
    named: set[str] = field(default_factory=set)
    largest: int = 0

    @property
    def count(self) -> int:
        """How many models there are."""
        return sum(map(len, self.names.values()))


def check_manifests(subject: Subject, blobs: Blobs | None, visit: Visit) -> ModelsSeen:
    """Tell what is wrong with the manifests of a store and with the models that they name.

    Args:
        subject: the store.
        blobs: what lies in ``blobs/``; None where that is not known.
        look: called with every file and folder.
    """
    check = _Manifests(subject)
    # Which blobs are wrong for one model and right for another is known only when all manifests are read.
    if subject.store.has_newer_layout:
        check.add_newer_layout()
        for file in visit_manifests(str(subject.store.newer_manifests_folder), visit, subject.closed):
            check.add(file, newer=True)
    for file in visit_manifests(str(subject.store.manifests_folder), visit, subject.closed):
        check.add(file)
    if check.files >= ENTRIES_AT_MOST:
        subject.not_understood += 1
    check.add_no_manifests()
    if blobs is not None:
        check_models(subject, blobs, check.whole)
    return check.seen


class _Manifests:
    """The check of one store's manifests."""

    def __init__(self, subject: Subject) -> None:
        self.subject = subject
        self.seen = ModelsSeen()
        self.whole: list[tuple[ModelName | None, Manifest]] = []
        self.files = 0
        self._no_manifests = Some()

    # -- files

    def add_newer_layout(self) -> None:
        """Tell that a newer server keeps its manifests here; an older one deletes the blobs that only these name."""
        folder = self.subject.store.newer_manifests_folder
        self.subject.tidying_hurts = True
        self.subject.add(
            Severity.NOTE,
            "newer-layout",
            f"{shown(folder)} is where a newer Ollama keeps manifests. ollama-ferry reads it, and writes models there. "
            "A server that does not know it deletes at its start what only these manifests name.",
            [str(folder)],
        )

    def add(self, file: ManifestFile, *, newer: bool = False) -> None:
        """Look at a file where a manifest belongs."""
        self.files += 1
        if not file.there:
            self._dangling(file.path)
            return
        name: ModelName | None = None
        with suppress(InvalidName):
            name = name_of(file.parts, newer=newer, normal=self.subject.store.has_newer_layout)
        # To open a pipe would wait for ever.
        if not file.regular:
            self._is_none(file.path)
            return
        try:
            raw = _read(file.path)
            store = self.subject.store
            manifest = with_listed(Manifest.parse(raw), store.blob_size, store)
            needed = manifest.blobs
            if newer:
                self.seen.named.add(manifest.digest.hex)
        except PermissionError:
            # A model that can't be read is one all the same.
            if name is not None:
                self._name(name)
            self.subject.closed(file.path)
        except (FerryError, OSError) as error:
            self._unreadable(file, name, error)
        else:
            self._take(file, name, manifest, needed)

    def _take(
        self, file: ManifestFile, name: ModelName | None, manifest: Manifest, needed: Iterable[Descriptor]
    ) -> None:
        self.seen.named.update(blob.digest.hex for blob in needed)
        self.whole.append((name, manifest))
        if manifest.listed:
            self.subject.not_understood += 1
            self.subject.add(
                Severity.WARNING,
                "unknown-layout",
                f"{shown(file.path)} is a list of manifests, none of which is here. What they name is not known, so "
                "nothing here is said to be unused.",
                [file.path],
            )
        if name is None:
            self._refused_name(file, manifest)
            return
        self._name(name)
        self.seen.largest = max(self.seen.largest, manifest.size)
        if manifest.loses_blobs:
            self.subject.tidying_hurts = True
            self.subject.add(
                Severity.PROBLEM,
                "digest-form",
                f"The manifest of {shown(str(name))} writes digests as sha256-<hex>. A server runs the model, and "
                "deletes its blobs at its next start, unless OLLAMA_NOPRUNE is set: its tidying compares text.",
                [str(name), file.path],
                ["# Before the server is started again:", f"ollama pull {quoted(str(name))}"]
                if may_pull(self.subject, name)
                else [],
            )

    def _name(self, name: ModelName) -> None:
        """Count a model; one that both layouts have is one."""
        if name not in self.seen.names[name.key]:
            self.seen.names[name.key].append(name)

    def _dangling(self, path: str) -> None:
        self.subject.not_understood += 1
        self.subject.stops_tidying = True
        target = os.path.realpath(path)
        lines = self.subject.advice.remove([path], os.path.dirname(path))
        self.subject.add(
            Severity.PROBLEM,
            "dangling-link",
            f"{shown(path)} is a link to {shown(target)}, which is not there. As long as it is so, `ollama list` fails "
            "altogether.",
            [path, target],
            ["# Mount the disk that it leads to, or if that is gone for good:", *lines] if lines else [],
        )

    def _is_none(self, path: str) -> None:
        self._no_manifests.add(path, 0, 0.0)
        self.subject.stops_tidying = True

    def _unreadable(self, file: ManifestFile, name: ModelName | None, error: FerryError | OSError) -> None:
        """Tell of a file whose bytes are no manifest, or can't be read."""
        subject = self.subject
        beside: set[str] = set()
        with suppress(OSError):
            beside = set(os.listdir(os.path.dirname(file.path)))
        if name is None or may_be_stray(file.parts[-1], beside):
            self._is_none(file.path)
            return
        self._name(name)
        subject.not_understood += 1
        with suppress(OSError):
            status = os.stat(file.path)
            if not status.st_size and subject.now - status.st_mtime < BEING_WRITTEN:
                text = f"The manifest of {shown(str(name))} is empty and seconds old: it is being written."
                subject.add(Severity.NOTE, "being-written", text, [str(name), file.path])
                return
        subject.stops_tidying = True
        aside = subject.advice.set_aside([file.path])
        subject.add(
            Severity.PROBLEM,
            "damaged-manifest",
            f"The manifest of {shown(str(name))} ({shown(file.path)}) is damaged: {shown(str(error))}. A server does "
            "not list it; and where it is not even JSON, the server deletes no unused blob any more.",
            [str(name), file.path],
            [
                *bring_back(subject, name),
                *(["# Or set it aside; a server then deletes its blobs at its next start:", *aside] if aside else []),
            ],
        )

    def _refused_name(self, file: ManifestFile, manifest: Manifest) -> None:
        """Tell of a model whose name no server of today takes; earlier ones did."""
        self.subject.stops_tidying = True
        path = quoted("/".join(file.parts))
        elsewhere = f"ollama-ferry export {path} --as NAME --models {quoted(self.subject.root)}"
        lines = ["# To take it elsewhere under another name:", elsewhere]
        target = self._free_path(file)
        if target and self.subject.advice.removable([file.path]):
            lines += [
                "# To give it a name that is taken, here an invented one:",
                with_sudo(folder_making(os.path.dirname(target)), self.subject.store.manifests_folder),
                with_sudo(renaming(file.path, target), os.path.dirname(file.path)),
            ]
        self.subject.add(
            Severity.WARNING,
            "refused-name",
            f"{shown('/'.join(file.parts))} is a model of {human_size(manifest.size)} under a name that Ollama does "
            "not take (any more): it is not listed, and as long as it is there, a server deletes no unused blobs.",
            [file.path],
            lines,
        )

    def _free_path(self, file: ManifestFile) -> str:
        """Return a path like a file's, with invented names for the parts that are refused; empty where it is taken."""
        path = str(self.subject.store.manifests_folder)
        for number, part in enumerate(file.parts):
            path = os.path.join(path, part if _is_taken(part, number) else _invented(part))
            # Nobody may have put a link there that leads somewhere else.
            if os.path.lexists(path) and (number == 3 or os.path.islink(path)):
                return ""
        return path

    def add_no_manifests(self) -> None:
        """Tell of the files that are no manifests."""
        files = self._no_manifests
        if not files.count:
            return
        paths = files.paths()
        one = files.count == 1
        junk = [path for path in paths if is_systems_own(os.path.basename(path)) or not _has_bytes(path)]
        lines = self.subject.advice.remove(junk, os.path.dirname(paths[0]))
        lines += self.subject.advice.set_aside(path for path in paths if path not in junk)
        if files.count > len(paths):
            lines.append(f"# These are {len(paths)}; run doctor again for the others.")
        self.subject.add(
            Severity.WARNING,
            "not-a-manifest",
            f"{counted(files.count, 'file')} {'lies' if one else 'lie'} where manifests belong, and by name or kind "
            f"{'is' if one else 'are'} none: {', '.join(map(shown, paths[:3]))}"
            f"{and_more(files.count, min(3, len(paths)))}. As long as there is one, a server deletes no unused blobs "
            "at its start, and the disk fills; after that, it does.",
            paths,
            lines,
        )


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return read_at_most(file, MANIFEST_LIMIT + 1)


def _has_bytes(path: str) -> bool:
    try:
        return os.stat(path).st_size > 0
    except OSError:
        return False


def _is_taken(part: str, number: int) -> bool:
    """Return whether Ollama takes a part of a name, counted from the host."""
    parts = ["x"] * 4
    parts[number] = part
    try:
        ModelName.from_path(parts)
    except InvalidName:
        return False
    return True


def _invented(part: str) -> str:
    return f"renamed-{hashlib.sha256(os.fsencode(part)).hexdigest()[:8]}"
