"""The blobs that the models of a store need: which are missing, of a wrong size, or no config that can be read."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Sequence

from ollama_ferry.doctor.contents import Blobs
from ollama_ferry.doctor.findings import LISTED_AT_MOST, Severity, and_more
from ollama_ferry.doctor.subject import Subject
from ollama_ferry.engine.inspect import runs_at
from ollama_ferry.errors import Damaged, FerryError, NotPermitted
from ollama_ferry.model.manifests import Descriptor, Digest, Manifest, parse_json
from ollama_ferry.model.names import ModelName
from ollama_ferry.shell_lines import quoted
from ollama_ferry.wording import counted, human_size, shown

_CONFIG_LIMIT = 1024 * 1024


def check_models(subject: Subject, blobs: Blobs, models: Sequence[tuple[ModelName | None, Manifest]]) -> None:
    """Tell which models lack something.

    Args:
        subject: the store.
        blobs: what lies in ``blobs/``.
        models: all manifests that can be read; those without a name are only asked which blobs they need.
    """
    wanted: dict[str, set[int]] = defaultdict(set)
    for _, manifest in models:
        for blob in manifest.blobs:
            wanted[blob.digest.hex].add(blob.size)
    check = _Models(subject, blobs, wanted)
    for name, manifest in models:
        if name is not None:
            check.model(name, manifest)


def bring_back(subject: Subject, name: ModelName, damaged: Sequence[str] = ()) -> list[str]:
    """Return the lines that bring a model back: from its registry where a server uses this store, or an archive.

    Args:
        subject: the store.
        name: the model.
        damaged: the files that a server would take as good, and that no model needs as they are.
    """
    some = damaged[:LISTED_AT_MOST]
    # A pull takes what is there as good, so it helps only where that may go.
    if not may_pull(subject, name) or subject.advice.removable(some) != list(some):
        return _repair(subject)
    return [
        *subject.advice.remove(some, subject.store.blobs_folder),
        f"ollama pull {quoted(str(name))}",
        *_repair(subject, "# Or, without its registry, from an archive that has the model:"),
    ]


def may_pull(subject: Subject, name: ModelName) -> bool:
    """Return whether ``ollama pull`` of a model would change this store, and this store only.

    It replaces the manifest, and deletes the blobs that no manifest of its own store names any more.
    """
    advice = subject.advice
    return subject.served is not False and advice.is_inside(subject.store.manifest_path(name)) and advice.owns_blobs


class _Models:
    """The check of one store's models.

    Args:
        subject: the store.
        blobs: what lies in ``blobs/``.
        wanted: the sizes that manifests give each digest.
    """

    def __init__(self, subject: Subject, blobs: Blobs, wanted: dict[str, set[int]]) -> None:
        self._subject = subject
        self._blobs = blobs
        self._wanted = wanted

    def model(self, name: ModelName, manifest: Manifest) -> None:
        """Look at the blobs of one model."""
        sizes = {blob.digest: self._size(blob) for blob in manifest.blobs}
        lacking = [blob for blob in manifest.blobs if sizes[blob.digest] is None]
        wrong = [blob for blob in manifest.blobs if sizes[blob.digest] not in (None, blob.size)]
        unlisted = ""
        config = manifest.config
        if config is not None and sizes[config.digest] is None:
            unlisted = "Without its config, a model silently disappears from `ollama list`."
        elif config is not None and sizes[config.digest] == config.size:
            self._config(name, config)
        if lacking:
            self._subject.add(
                Severity.PROBLEM,
                "missing-config" if unlisted else "missing-blob",
                f"{shown(str(name))} lacks {_some([self._lack(blob) for blob in lacking[:3]], len(lacking))}: it can't "
                f"run. {unlisted}".rstrip(),
                [str(name), *(self._where(blob) for blob in lacking[: LISTED_AT_MOST - 1])],
                bring_back(self._subject, name),
            )
        if wrong:
            faults = [
                f"its {shown(blob.kind)} blob {blob.digest.short} has {counted(sizes[blob.digest] or 0, 'byte')} "
                f"instead of {blob.size}"
                for blob in wrong[:3]
            ]
            paths = [self._where(blob) for blob in wrong]
            # Where another manifest wants the size that is there, this manifest may be the one that is wrong.
            disputed = any(sizes[blob.digest] in self._wanted[blob.digest.hex] for blob in wrong)
            self._subject.add(
                Severity.PROBLEM,
                "wrong-size",
                f"{shown(str(name))} is damaged: {_some(faults, len(wrong))}. "
                "Ollama takes a blob that is there as good, and keeps it until it is deleted."
                + (" Another model needs it as it is: this model's manifest may be wrong." if disputed else ""),
                [str(name), *paths[:LISTED_AT_MOST]],
                _repair(self._subject) if disputed else bring_back(self._subject, name, paths),
            )

        bare = manifest.lacks_weights and not lacking and not runs_at(self._subject.store, manifest)
        if manifest.stranger or bare:
            self._subject.add(
                Severity.WARNING,
                "no-weights",
                f"{shown(str(name))} is {manifest.stranger or 'a model without weights'}: none of its layers is what "
                "Ollama reads weights from. It is listed, and does not run.",
                [str(name)],
            )

    def _config(self, name: ModelName, config: Descriptor) -> None:
        """Read a config of the right size; it is small."""
        if config.size > _CONFIG_LIMIT:
            return
        path = self._where(config)
        good = False
        try:
            with self._subject.store.open(config) as file:
                raw = file.read(_CONFIG_LIMIT)
        except NotPermitted:
            self._subject.closed(path)
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
            # Its bytes are those that its digest wants, perhaps as another model's layer.
            good = Digest.of(raw) == config.digest
        self._subject.add(
            Severity.PROBLEM,
            "unreadable-config",
            f"The config blob {config.digest.short} of {shown(str(name))} {why}. Such a model silently disappears from "
            "`ollama list`." + (" The blob is whole: the model was made so." if good else ""),
            [str(name), path],
            [] if good else bring_back(self._subject, name, [path]),
        )

    def _lack(self, blob: Descriptor) -> str:
        more = ", an unfinished download" if blob.digest.hex in self._blobs.partials else ""
        path = self._where(blob)
        if os.path.islink(path):
            more = f", a link to {shown(os.path.realpath(path))}, where no file is"
        return f"its {shown(blob.kind)} blob {blob.digest.short} ({human_size(blob.size)}{more})"

    def _where(self, blob: Descriptor) -> str:
        return self._subject.store.where(blob.digest)

    def _size(self, blob: Descriptor) -> int | None:
        known = self._blobs.sizes.get(blob.digest.hex)
        if known is not None:
            return known[0]
        try:
            # There may be more than was looked at, or a disk for which its name in capitals is the same.
            return self._subject.store.blob_size(blob.digest)
        except NotPermitted:
            self._subject.closed(self._where(blob))
            return blob.size


def _repair(subject: Subject, has: str = "# From an archive that has the model:") -> list[str]:
    return [has, f"ollama-ferry verify --repair ARCHIVE --models {quoted(subject.root)}"]


def _some(texts: list[str], count: int) -> str:
    """Join the first few of some texts."""
    return ", ".join(texts) + and_more(count, len(texts))
