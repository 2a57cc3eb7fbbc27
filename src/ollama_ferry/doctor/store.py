"""What is wrong inside one store. Blobs are not hashed, and nothing is written: not even a lock is taken."""

from __future__ import annotations

import os
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from ollama_ferry.doctor.findings import (
    LISTED_AT_MOST,
    Finding,
    Findings,
    Severity,
    age,
    and_more,
    quoted,
    shown,
    words,
)
from ollama_ferry.doctor.names import tell_names
from ollama_ferry.doctor.owners import Owners
from ollama_ferry.doctor.store_files import (
    Blobs,
    ManifestFile,
    Some,
    leads_nowhere,
    scan_blobs,
    scan_manifests,
    size_of_folder,
)
from ollama_ferry.errors import Damaged, FerryError, InvalidName, NotPermitted
from ollama_ferry.files.permissions import User
from ollama_ferry.model.manifests import Descriptor, Digest, Manifest, parse_json
from ollama_ferry.model.names import ModelName
from ollama_ferry.places.store.staging import MANIFEST_IN_WORK, STAGING
from ollama_ferry.places.store.store import Store
from ollama_ferry.wording import counted, human_size

_CONFIG_LIMIT = 1024 * 1024
_HOUR = 3600.0


@dataclass(frozen=True)
class Held:
    """What a store holds.

    Attributes:
        models: how many models, the damaged ones too.
        size: the bytes of its blobs.
        largest: the bytes of the largest model.
    """

    models: int = 0
    size: int = 0
    largest: int = 0


@dataclass
class Examination:
    """The examination of one store; :meth:`run` does it.

    Attributes:
        root: the store, an absolute path.
        findings: where to tell what was found.
        now: the time, in seconds since the epoch.
        served: whether the running server uses this store; None where that is not known.
        owner: whom the files should belong to; None for the one who owns the blobs' folder.
        restart: the line that restarts the server's service, or nothing.
        owners: whether files have owners here that mean something.
    """

    root: Path
    findings: Findings
    now: float
    served: bool | None = None
    owner: User | None = None
    restart: str = ""
    owners: bool = True
    _names: dict[tuple[str, ...], list[ModelName]] = field(default_factory=lambda: defaultdict(list))
    _named: set[str] = field(default_factory=set)
    _unread: int = 0
    _stopping: int = 0
    _largest: int = 0
    _not_manifests: Some = field(default_factory=Some)

    def run(self) -> Held:
        """Examine the store."""
        self._store = Store(self.root)
        self._links()
        if not self.root.is_dir():
            return Held()
        self._owners = Owners(self._store, self.owner) if self.owners else None
        blobs = self._scan_blobs()
        for file in scan_manifests(str(self._store.manifests_folder), self._look, self._closed):
            self._manifest(file, blobs)
        self._tell_not_manifests()
        tell_names(self._names.values(), self._store, self.findings, copy=self.served is not False)
        if blobs is not None:
            self._tell_blobs(blobs)
        else:
            self._tell_no_blobs()
        self._tell_staging()
        if self._owners is not None:
            self._owners.tell(self.findings)
        return Held(
            models=sum(map(len, self._names.values())),
            size=sum(size for size, _ in blobs.sizes.values()) if blobs else 0,
            largest=self._largest,
        )

    def _add(
        self, severity: Severity, code: str, text: str, concerns: list[str] | None = None, mend: list[str] | None = None
    ) -> None:
        shown_concerns = tuple(map(shown, concerns or ()))
        self.findings.add(Finding(severity, code, text, shown(self.root), shown_concerns, tuple(mend or ())))

    def _deletes(self, what: str) -> str:
        """Say that a server deletes something when it starts, and whether it does so now."""
        stopped = self._stopping or self._not_manifests.count
        but = "; but not as long as a file above stops its tidying" if stopped else ""
        return f"A server deletes {what} at its start, unless OLLAMA_NOPRUNE is set{but}."

    def _as_owner(self, line: str, folder: Path | str) -> str:
        """Put sudo before a line that changes a folder, where this user can't do that."""
        return line if os.name == "nt" or os.access(folder, os.W_OK) else f"sudo {line}"

    def _look(self, path: str, status: os.stat_result) -> None:
        if self._owners is not None:
            self._owners.look(path, status)

    # -- links

    def _links(self) -> None:
        for path in (self.root, self._store.manifests_folder, self._store.blobs_folder):
            if not os.path.islink(path):
                continue
            target = os.path.realpath(path)
            if not leads_nowhere(path):
                self._add(
                    Severity.NOTE,
                    "link",
                    f"{shown(path)} is a link to {shown(target)}. That works; a tar that has an entry for this folder "
                    "would replace the link by a folder (archives of ollama-ferry have none).",
                    [str(path), target],
                )
            else:
                self._add(
                    Severity.PROBLEM,
                    "dangling-link",
                    f"{shown(path)} is a link to {shown(target)}, which is not there: is a disk not mounted? "
                    "Nothing of what should be behind it can be used.",
                    [str(path), target],
                    [
                        "# Mount the disk. Only if what was there is gone for good:",
                        self._as_owner(f"mkdir -p {quoted(target)}", self.root),
                    ],
                )

    # -- blobs

    def _scan_blobs(self) -> Blobs | None:
        folder = self._store.blobs_folder
        try:
            return scan_blobs(str(folder), self._look)
        except PermissionError:
            self._closed(str(folder))
        except OSError:
            # Told when it is known whether there are models.
            pass
        return None

    def _closed(self, folder: str) -> None:
        self._unread += 1
        self._add(
            Severity.PROBLEM,
            "closed",
            f"This user may not look into {shown(folder)}: what is wrong there is not known.",
            [folder],
        )

    def _tell_no_blobs(self) -> None:
        folder = self._store.blobs_folder
        if os.path.isdir(folder) or os.path.islink(folder) or not self._names:
            # It is closed, or the link leads nowhere, which is told already; or the store is new.
            return
        self._add(
            Severity.PROBLEM,
            "no-blobs",
            f"{shown(folder)} is no folder: none of the {counted(sum(map(len, self._names.values())), 'model')} in "
            f"{shown(self._store.manifests_folder)} has its blobs.",
            [str(folder)],
            [
                "# From an archive that has the models:",
                f"ollama-ferry verify --repair ARCHIVE --models {quoted(self.root)}",
            ],
        )

    def _tell_blobs(self, blobs: Blobs) -> None:
        self._tell_partials(blobs)
        self._tell_orphans(blobs)
        strays, old = blobs.strays, blobs.old
        if strays.count:
            paths = strays.paths()
            self._add(
                Severity.WARNING,
                "stray-file",
                f"{counted(strays.count, 'file')} in blobs/ ({human_size(strays.size)}) "
                f"{'has a name that is' if strays.count == 1 else 'have names that are'} no digest. "
                f"{self._deletes('such a file')}",
                paths,
                [
                    "# To keep what you need of it, move it out of blobs/:",
                    self._as_owner(f"mv {words(paths)} {quoted(self.root)}", self._store.blobs_folder),
                ],
            )
        if old.count:
            self._add(
                Severity.NOTE,
                "old-name",
                f"{counted(old.count, 'blob')} {'has its' if old.count == 1 else 'have their'} name in the form "
                "sha256:<hex> of early versions. A server renames them at its start; ollama-ferry reads both.",
                old.paths(),
            )
        if blobs.cut:
            self._add(
                Severity.NOTE, "cut-short", f"Only {len(blobs.sizes)} blobs were looked at; there are more files."
            )

    def _tell_partials(self, blobs: Blobs) -> None:
        for digest, files in sorted(blobs.partials.items(), key=lambda item: -item[1].size):
            old = self.now - files.newest
            prefix = str(self._store.blobs_folder / f"sha256-{digest}-partial")
            text = (
                f"An unfinished download of blob {digest[:12]} takes {human_size(files.size)} and was last written "
                f"{age(old)} ago."
            )
            if old < _HOUR:
                self._add(Severity.NOTE, "unfinished", f"{text} It may be going on right now.", [prefix])
                continue
            self._add(
                Severity.WARNING,
                "unfinished",
                f"{text} `ollama pull` of its model goes on from there (which model that is, the files do not "
                f"tell). {self._deletes('it')}",
                [prefix],
                [
                    "# To give it up:",
                    self._as_owner(f"rm -f {quoted(prefix)}*", self._store.blobs_folder),
                ],
            )

    def _tell_orphans(self, blobs: Blobs) -> None:
        orphans = Some()
        for digest, (size, modified) in blobs.sizes.items():
            if digest not in self._named:
                orphans.add(digest, size, modified)
        if not orphans.count:
            return
        text = (
            f"{counted(orphans.count, 'blob')} ({human_size(orphans.size)}) "
            f"{'is' if orphans.count == 1 else 'are'} named by no model that can be read."
        )
        paths = [self._store.where(Digest(digest)) for digest in orphans.paths()]
        if self._unread:
            text += " They may belong to the manifests that can't be read: mend these first, and delete nothing."
            self._add(Severity.WARNING, "orphans", text, paths)
            return
        text += (
            f" {self._deletes('them')} If a pull, a create or a tar is still at work, they wait for their manifest: "
            "let it finish first."
        )
        mend = ["# If nothing is at work, and you do not need them:"]
        if self.restart and self.served is not False:
            mend.append(self.restart)
        else:
            mend.append(self._as_owner(f"rm {words(paths)}", self._store.blobs_folder))
            if orphans.count > len(paths):
                mend.append(f"# These are the largest {len(paths)}; run doctor again for the others.")
        self._add(Severity.WARNING, "orphans", text, paths, mend)

    # -- manifests and models

    def _manifest(self, file: ManifestFile, blobs: Blobs | None) -> None:
        if not file.there:
            self._unread += 1
            self._stopping += 1
            self._add(
                Severity.PROBLEM,
                "dangling-link",
                f"{shown(file.path)} is a link that leads nowhere. As long as it is there, `ollama list` fails "
                "altogether.",
                [file.path],
                [self._as_owner(f"rm {quoted(file.path)}", os.path.dirname(file.path))],
            )
            return
        name: ModelName | None
        try:
            name = ModelName.from_path(file.parts)
        except InvalidName:
            name = None
        # To open a pipe would wait for ever.
        if name is None or not file.regular:
            self._not_manifests.add(file.path, 0, 0.0)
            return
        self._names[name.key].append(name)
        try:
            manifest = self._store.manifest(name)
            needed = manifest.blobs
        except NotPermitted:
            self._closed(file.path)
            return
        except FerryError as error:
            self._unread += 1
            self._stopping += 1
            self._add(
                Severity.PROBLEM,
                "damaged-manifest",
                f"{shown(_sentence(error))} A server does not list it; and where it is not even JSON, the server "
                "deletes no unused blob any more.",
                [str(name), file.path],
                [
                    *self._pull_or_repair(name),
                    "# Or give the model up:",
                    self._as_owner(f"rm {quoted(file.path)}", os.path.dirname(file.path)),
                ],
            )
            return
        self._largest = max(self._largest, sum(blob.size for blob in needed))
        self._named.update(blob.digest.hex for blob in needed)
        if blobs is not None:
            self._model(name, manifest, blobs)

    def _model(self, name: ModelName, manifest: Manifest, blobs: Blobs) -> None:
        lacking: list[str] = []
        wrong: list[str] = []
        wrong_paths: list[str] = []
        config = manifest.config
        for blob in manifest.blobs:
            size = self._size(blob, blobs)
            if size == blob.size:
                continue
            if size is None:
                begun = ", an unfinished download" if blob.digest.hex in blobs.partials else ""
                lacking.append(f"its {shown(blob.kind)} blob {blob.digest.short} ({human_size(blob.size)}{begun})")
            else:
                wrong.append(
                    f"its {shown(blob.kind)} blob {blob.digest.short} has {counted(size, 'byte')} instead of "
                    f"{blob.size}"
                )
                wrong_paths.append(self._store.where(blob.digest))
        unlisted = ""
        if config is not None and self._size(config, blobs) is None:
            unlisted = "Without its config, a model silently disappears from `ollama list`."
        elif config is not None and self._size(config, blobs) == config.size:
            self._config(name, config)
        if lacking:
            self._add(
                Severity.PROBLEM,
                "missing-config" if unlisted else "missing-blob",
                f"{shown(str(name))} lacks {_some(lacking)}: it can't run. {unlisted}".rstrip(),
                [str(name), *(self._store.where(b.digest) for b in manifest.blobs if self._size(b, blobs) is None)][
                    :LISTED_AT_MOST
                ],
                self._pull_or_repair(name),
            )
        if wrong:
            self._add(
                Severity.PROBLEM,
                "wrong-size",
                f"{shown(str(name))} is damaged: {_some(wrong)}. Ollama takes a blob that is there as good, and keeps "
                "it until it is deleted.",
                [str(name), *wrong_paths[:LISTED_AT_MOST]],
                self._pull_or_repair(name, wrong_paths),
            )

    def _config(self, name: ModelName, config: Descriptor) -> None:
        """Read a config of the right size; it is small."""
        if config.size > _CONFIG_LIMIT:
            return
        path = self._store.where(config.digest)
        try:
            with self._store.open(config) as file:
                raw = file.read(_CONFIG_LIMIT)
        except NotPermitted:
            self._closed(path)
            return
        except (FerryError, OSError) as error:
            why = f"can't be read ({shown(str(error))})"
        else:
            try:
                if isinstance(parse_json(raw), dict):
                    return
            except Damaged:
                pass
            why = "is not JSON"
        self._add(
            Severity.PROBLEM,
            "unreadable-config",
            f"The config blob {config.digest.short} of {shown(str(name))} {why}. Such a model silently disappears from "
            "`ollama list`.",
            [str(name), path],
            self._pull_or_repair(name, [path]),
        )

    def _size(self, blob: Descriptor, blobs: Blobs) -> int | None:
        known = blobs.sizes.get(blob.digest.hex)
        if known is None and blobs.cut:
            return self._store.blob_size(blob.digest)
        return known[0] if known else None

    def _pull_or_repair(self, name: ModelName, damaged: list[str] | None = None) -> list[str]:
        """Return the lines that bring a model back: from its registry where a server uses this store, or an archive."""
        lines: list[str] = []
        if self.served is not False:
            if damaged:
                some = damaged[:LISTED_AT_MOST]
                lines.append(self._as_owner(f"rm {words(some)}", self._store.blobs_folder))
            lines.append(f"ollama pull {quoted(str(name))}")
            lines.append("# Or, without its registry, from an archive that has the model:")
        else:
            lines.append("# From an archive that has the model:")
        lines.append(f"ollama-ferry verify --repair ARCHIVE --models {quoted(self.root)}")
        return lines

    def _tell_not_manifests(self) -> None:
        files = self._not_manifests
        if not files.count:
            return
        paths = files.paths()
        one = files.count == 1
        self._add(
            Severity.WARNING,
            "not-a-manifest",
            f"{counted(files.count, 'file')} {'lies' if one else 'lie'} where manifests belong, and by name or kind "
            f"{'is' if one else 'are'} none: {', '.join(map(shown, paths[:3]))}"
            f"{and_more(files.count, min(3, len(paths)))}. As long as there is one, a server deletes no unused blobs "
            "at its start, and the disk fills; after that, it does.",
            paths,
            [self._as_owner(f"rm {words(paths)}", os.path.dirname(paths[0]))]
            + ([f"# These are {len(paths)}; run doctor again for the others."] if files.count > len(paths) else []),
        )

    # -- leftovers of ollama-ferry

    def _tell_staging(self) -> None:
        # Where it is depends on whether blobs/ is a link, which may have changed since.
        places = (self.root / STAGING, self._store.blobs_folder / STAGING)
        in_work = self._store.manifests_folder / MANIFEST_IN_WORK
        paths = [str(path) for path in (*places, in_work) if os.path.lexists(path)]
        if not paths:
            return
        found = [size_of_folder(str(place)) for place in places]
        size, newest = sum(size for size, _ in found), max(newest for _, newest in found)
        old = f", last written {age(self.now - newest)} ago" if newest else ""
        self._add(
            Severity.WARNING if size else Severity.NOTE,
            "leftovers",
            f"An import by ollama-ferry was interrupted, or is at work: {human_size(size)} wait{old}. Importing the "
            "same archive again goes on from there.",
            paths,
            [
                "# To give it up, if no import is at work:",
                self._as_owner(f"rm -rf {words(paths)}", os.path.dirname(paths[0])),
            ],
        )


def _sentence(error: FerryError) -> str:
    """Return a message as a sentence."""
    return f"{error.message[:1].upper()}{error.message[1:]}."


def _some(texts: list[str]) -> str:
    """Join the first few of some texts."""
    return ", ".join(texts[:3]) + and_more(len(texts), min(3, len(texts)))
