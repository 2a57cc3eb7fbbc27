"""What an archive holds: its members sorted into blobs and manifests, and what has no place in it refused."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

from ollama_ferry.archives.members import Member, MemberKind
from ollama_ferry.archives.paths import Paths
from ollama_ferry.archives.portable_tar import odd
from ollama_ferry.errors import Damaged
from ollama_ferry.model.layout import meaning_of
from ollama_ferry.model.manifests import MANIFEST_LIMIT, Digest, Manifest
from ollama_ferry.model.names import ModelName
from ollama_ferry.wording import exact_size

# All manifests of an archive together; 1,000 ordinary models have 1 MB.
_MANIFESTS_LIMIT = 16 * 1024 * 1024
# More models than any site has; each takes some kilobytes of memory.
_MODELS_LIMIT = 20_000
# How many names of members that are none of Ollama's are kept for the message.
_NAMES_KEPT = 5
_NAME_SHOWN = 100


@dataclass
class Contents:
    """What an archive holds.

    Attributes:
        models: the manifests.
        blobs: for each blob its size in bytes, and where its content is (what ``Member.offset`` says).
        repeated: blobs that occur more than once: size and place of each further time.
        signature: of whoever has signed its models, as its index has it; empty for nobody.
        left_out: blobs that are not in it on purpose, with their sizes; one that is in it all the same counts as in it.
        ignored: how many members are none of Ollama's.
        ignored_names: the first few of these.
    """

    models: dict[ModelName, Manifest] = field(default_factory=dict)
    blobs: dict[Digest, tuple[int, int]] = field(default_factory=dict)
    repeated: list[tuple[Digest, int, int]] = field(default_factory=list)
    left_out: dict[Digest, int] = field(default_factory=dict)
    signature: str = ""
    ignored: int = 0
    ignored_names: list[str] = field(default_factory=list)

    def ignore(self, name: str) -> None:
        """Count a member that is none of Ollama's."""
        self.ignored += 1
        if len(self.ignored_names) < _NAMES_KEPT:
            self.ignored_names.append(name[:_NAME_SHOWN])


class ContentsBuilder:
    """Sorts members into :class:`Contents`, and refuses what has no place in an archive of models.

    Args:
        contents: what is filled.
        lenient: take what not every tar reads in the same way (:mod:`ollama_ferry.archives.portable_tar`).
    """

    def __init__(self, contents: Contents, *, lenient: bool = False) -> None:
        self._contents = contents
        self._paths = None if lenient else Paths()
        self._manifest_bytes = 0

    def take(self, member: Member) -> Digest | ModelName | None:
        """Tell what a member is; blobs are noted.

        Raises:
            ReadDifferently: what it is depends on the reader.
            Damaged: it is a link or a device, or its name is refused.
        """
        shown = ascii(member.name[:200])
        meaning = meaning_of(member.name)
        if member.kind in (MemberKind.LINK, MemberKind.DEVICE):
            hint = ""
            if member.kind is MemberKind.LINK:
                hint = "If it was made from a store whose folders are links, make it anew with `tar -h`."
            raise Damaged(f"the member {shown} is a {member.kind.value}; nothing of it was followed", hint=hint)
        if self._paths is not None:
            self._require_one_reading(member, meaning)
        if member.kind is MemberKind.FOLDER:
            if meaning is not None:
                raise Damaged(f"the member {shown} is a folder, and should be a file")
            return None
        if meaning is None:
            self._contents.ignore(member.name)
        elif isinstance(meaning, Digest):
            known = self._contents.blobs.setdefault(meaning, (member.size, member.offset))
            if known[0] != member.size:
                raise Damaged(f"the blob {meaning} occurs twice, with {known[0]:,} and {exact_size(member.size)}")
            if known[1] != member.offset:
                self._contents.repeated.append((meaning, member.size, member.offset))
        elif member.size > MANIFEST_LIMIT:
            raise Damaged(
                f"the manifest of {meaning} has {exact_size(member.size)}; more than {MANIFEST_LIMIT} are not read"
            )
        else:
            self._manifest_bytes += member.size
            if self._manifest_bytes > _MANIFESTS_LIMIT:
                raise Damaged(f"its manifests have more than {_MANIFESTS_LIMIT} bytes together")
        return meaning

    def _require_one_reading(self, member: Member, meaning: Digest | ModelName | None) -> None:
        assert self._paths is not None  # noqa: S101 -- take() has looked
        for other in member.other_names:
            if meaning_of(other) is not None:
                shown = f"{member.name[:200]!a} is {other[:200]!a}"
                raise odd(f"the member {shown} for readers that pass over PAX headers, as old BusyBox tars do")
        self._paths.add(member.name, is_folder=member.kind is MemberKind.FOLDER, counts=meaning is not None)

    def add(self, name: ModelName, raw: bytes, check: bytes = b"") -> bool:
        """Note a manifest; False where the same one was there before.

        Args:
            name: the model.
            raw: the manifest's bytes.
            check: what their SHA-256 begins with, where the archive says so.

        Raises:
            Damaged: it is none, or another one of that name was there before.
        """
        if check and not hashlib.sha256(raw).digest().startswith(check):
            raise Damaged(f"the manifest of {name} is damaged: its SHA-256 is another one than its header says")
        if len(self._contents.models) >= _MODELS_LIMIT:
            raise Damaged(f"it has more than {_MODELS_LIMIT} models")
        known = self._contents.models.get(name)
        if known is not None:
            if known.raw != raw:
                raise Damaged(f"the manifest of {name} occurs twice, with different content")
            return False
        try:
            manifest = Manifest.parse(raw)
            _ = manifest.blobs
        except Damaged as error:
            raise Damaged(f"the manifest of {name} is damaged: {error}") from error
        self._contents.models[name] = manifest
        return True
