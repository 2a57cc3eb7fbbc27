"""What a host answers when it is asked what its store has."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field

from ollama_ferry.errors import Damaged, FerryError, InvalidName
from ollama_ferry.model.layout import name_of
from ollama_ferry.model.manifests import MANIFEST_LIMIT, MODELS_LIMIT, Digest, Manifest
from ollama_ferry.model.names import ModelName
from ollama_ferry.places.ssh.connection import Call
from ollama_ferry.places.ssh.scripts import STAGING

_MANIFESTS_LIMIT = 32 * 1024 * 1024
_STEERING = frozenset({"root", "staging", "user", "free", "tar"})
_LISTS = frozenset({"blobs", "staged", "names", "newer-names"})
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
        newer_layout: whether there is a ``manifests-v2/``, which a server that knows it reads first.
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
    newer_layout: bool = False
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

    What steers us comes before the lists, once. These tell of what the store's owner has there: whatever is in them, it
    does not say where we write, and as whom.

    Raises:
        FerryError: it is nothing of the kind.
    """
    survey = Survey()
    said: set[str] = set()
    manifest_bytes = 0
    while (line := call.line()) != "end":
        word, _, rest = line.partition(" ")
        if word in said or (word in _STEERING and said & _LISTS):
            raise _something_else()
        if word not in ("manifest", "newer-manifest"):
            said.add(word)
        if word in _STEERING:
            _steer(survey, word, rest)
        elif word in ("names", "newer-names"):
            survey.newer_layout = word == "newer-names"
            _read_names(survey, call)
        elif word == "blobs":
            for found in _entries(call):
                if not found["partial"]:
                    survey.blobs[Digest.parse(found["name"])] = int(found["size"])
        elif word == "staged":
            survey.read_staging(call)
        elif word in ("manifest", "newer-manifest"):
            manifest_bytes += _read_manifest(survey, call, rest, _MANIFESTS_LIMIT - manifest_bytes)
        else:
            raise _something_else()
    if not survey.root.startswith("/") or not survey.root.isprintable() or not _STAGING.fullmatch(survey.staging):
        raise _something_else()
    return survey


def _steer(survey: Survey, word: str, rest: str) -> None:
    """Note one of the words that come before the lists."""
    if word == "root":
        survey.root = rest
    elif word == "staging":
        survey.staging = rest
    elif word == "tar":
        survey.has_tar = True
    elif word == "free" and _NUMBER.fullmatch(rest):
        survey.free = int(rest) * 1024
    elif word == "user":
        survey.user = rest


def _read_names(survey: Survey, call: Call) -> None:
    if survey.newer_layout:
        # The older ones came first, and give way.
        survey.names = [name_of(name.parts, newer=False, normal=True) for name in survey.names]
        older = survey.manifests.items()
        survey.manifests = {name_of(name.parts, newer=False, normal=True): found for name, found in older}
    names = dict.fromkeys(survey.names)
    while (path := call.line()) != ".":
        with suppress(InvalidName):
            names[_name(survey, path)] = None
        survey.names = list(names)
        if len(names) > MODELS_LIMIT:
            raise FerryError(f"there are more than {MODELS_LIMIT} models on the other host")


def _read_manifest(survey: Survey, call: Call, said: str, room: int) -> int:
    """Read a manifest that follows; return its size."""
    size_text, _, path = said.partition(" ")
    size = int(size_text) if _NUMBER.fullmatch(size_text) else MANIFEST_LIMIT + 1
    if size > min(MANIFEST_LIMIT, room):
        raise Damaged(f"the manifest {path[:300]!a} is too large to be read")
    parts = []
    left = size
    while left and (chunk := call.read(left)):
        parts.append(chunk)
        left -= len(chunk)
    call.line()
    # A file that is no manifest is no model, as for Ollama.
    with suppress(InvalidName, Damaged):
        survey.manifests[_name(survey, path)] = Manifest.parse(b"".join(parts))
    return size


def _name(survey: Survey, path: str) -> ModelName:
    return name_of(tuple(path.split("/")), newer=survey.newer_layout, normal=survey.newer_layout)


def _something_else() -> FerryError:
    return FerryError("the other host answered with something else than was asked for")


def _entries(call: Call) -> Iterator[re.Match[str]]:
    """Give the files of a listing that blobs could be in, up to the line that ends it."""
    while (entry := call.line()) != ".":
        found = _ENTRY.fullmatch(entry)
        if found:
            yield found
