"""What a host answers when it is asked what its store has."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field

from ollama_ferry.errors import Damaged, FerryError, InvalidName
from ollama_ferry.model.manifests import MANIFEST_LIMIT, Digest, Manifest
from ollama_ferry.model.names import ModelName
from ollama_ferry.places.ssh.connection import Call
from ollama_ferry.places.ssh.scripts import STAGING

_MANIFESTS_LIMIT = 32 * 1024 * 1024
_NUMBER = re.compile(r"[0-9]{1,18}")
_ENTRY = re.compile(
    r"-\S+\s+(?P<links>[0-9]+)\s+(?P<owner>[0-9]+)\s+[0-9]+\s+(?P<size>[0-9]{1,18})\s.*"
    r"\s(?P<name>sha256[-:][0-9a-f]{64})(?P<partial>\.partial)?"
)
_STAGING = re.compile(rf"(blobs/)?{re.escape(STAGING)}(-[0-9]+)?")


@dataclass
class Survey:
    """What was found on the host.

    Attributes:
        root: the store's folder there.
        staging: where blobs wait, below the store's folder.
        blobs: the size of each blob, in bytes.
        staged: of each blob that waits whole, its size.
        begun: of each blob that has begun to arrive, how much of it is there.
        names: the models that are there.
        manifests: the manifests that were asked for.
        free: free bytes, or None where nobody could tell.
        has_tar: whether tar is there.
        user: the number of the user who reads and writes there.
    """

    root: str = ""
    staging: str = ""
    blobs: dict[Digest, int] = field(default_factory=dict)
    staged: dict[Digest, int] = field(default_factory=dict)
    begun: dict[Digest, int] = field(default_factory=dict)
    names: list[ModelName] = field(default_factory=list)
    manifests: dict[ModelName, Manifest] = field(default_factory=dict)
    free: int | None = None
    has_tar: bool = False
    user: str = ""

    def read_staging(self, call: Call) -> None:
        """Read what waits in the staging folder, up to the line that ends it.

        What belongs to another user, or has a second name that somebody may write through, is not there for us.
        """
        self.staged.clear()
        self.begun.clear()
        for found in _entries(call):
            if found["links"] == "1" and found["owner"] in ("0", self.user):
                kept = self.begun if found["partial"] else self.staged
                kept[Digest.parse(found["name"])] = int(found["size"])


def read_survey(call: Call) -> Survey:
    """Read what ``LOOK`` answers, behind its first line.

    Raises:
        FerryError: it is nothing of the kind.
    """
    survey = Survey()
    manifest_bytes = 0
    while (line := call.line()) != "end":
        word, _, rest = line.partition(" ")
        if word == "root":
            survey.root = rest
        elif word == "staging":
            survey.staging = rest
        elif word == "tar":
            survey.has_tar = True
        elif word == "free" and _NUMBER.fullmatch(rest):
            survey.free = int(rest) * 1024
        elif word == "names":
            while (path := call.line()) != ".":
                with suppress(InvalidName):
                    survey.names.append(ModelName.from_path(path.split("/")))
        elif word == "user":
            survey.user = rest
        elif word == "blobs":
            for found in _entries(call):
                if not found["partial"]:
                    survey.blobs[Digest.parse(found["name"])] = int(found["size"])
        elif word == "staged":
            survey.read_staging(call)
        elif word == "manifest":
            size_text, _, path = rest.partition(" ")
            size = int(size_text) if _NUMBER.fullmatch(size_text) else MANIFEST_LIMIT + 1
            manifest_bytes += size
            if size > MANIFEST_LIMIT or manifest_bytes > _MANIFESTS_LIMIT:
                raise Damaged(f"the manifest {path[:300]!a} is too large to be read")
            parts = []
            while size and (chunk := call.read(size)):
                parts.append(chunk)
                size -= len(chunk)
            call.line()
            try:
                name = ModelName.from_path(path.split("/"))
                survey.manifests[name] = Manifest.parse(b"".join(parts))
            except (InvalidName, Damaged):
                # A file that is no manifest: no model, as for Ollama.
                continue
    if not survey.root.startswith("/") or not survey.root.isprintable() or not _STAGING.fullmatch(survey.staging):
        raise FerryError("the other host answered with something else than was asked for")
    return survey


def _entries(call: Call) -> Iterator[re.Match[str]]:
    """Give the files of a listing that blobs could be in, up to the line that ends it."""
    while (entry := call.line()) != ".":
        found = _ENTRY.fullmatch(entry)
        if found:
            yield found
