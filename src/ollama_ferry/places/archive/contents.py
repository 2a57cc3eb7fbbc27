"""What an archive holds: its members sorted into blobs and manifests, whatever tool made it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from ollama_ferry.archives.members import Member, MemberKind
from ollama_ferry.archives.paths import Paths
from ollama_ferry.archives.portable_tar import odd
from ollama_ferry.errors import Damaged, InvalidName
from ollama_ferry.model.layout import (
    BlobPath,
    Loose,
    LoosePath,
    ManifestPath,
    Meaning,
    climbs,
    is_foreign_tag,
    meaning_of,
    why_unusual,
)
from ollama_ferry.model.manifests import MANIFEST_LIMIT, MODELS_LIMIT, Digest, Manifest, encoding_of, parse_json
from ollama_ferry.model.names import DEFAULT_HOST, DEFAULT_NAMESPACE, DEFAULT_TAG, ModelName
from ollama_ferry.places.archive.telling_blobs import TellingBlobs, linked_blob
from ollama_ferry.wording import exact_size

# All manifests of an archive together; 1,000 ordinary models have 1 MB.
_MANIFESTS_LIMIT = 16 * 1024 * 1024
# How many names of members that are none of Ollama's are kept for the message.
_NAMES_KEPT = 5
_NAME_SHOWN = 100
_NAMELESS = "unnamed"
# Files that are none of Ollama's by their names, and may be a blob by their size.
_SIZES_KEPT = 10_000


@dataclass
class Contents:
    """What an archive holds.

    Attributes:
        models: the manifests.
        broken: models that can't be taken, and why: the others can.
        nameless: those of ``models`` whose name is a stopgap: the archive has none for them.
        loosely_placed: those of ``models`` whose manifest is not where Ollama has it.
        blobs: for each blob its size in bytes, and where its content is (what ``Member.offset`` says).
        repeated: blobs that occur more than once: size and place of each further time.
        loosely_named: blobs that are not called as Ollama calls them, with the names that they have.
        links: blobs that are there as a link alone, with what it leads to.
        searchable: every blob's place is one in the file itself; else it has to be unpacked up to there.
        roots: the folders that the blobs and manifests are below which are called and placed as Ollama does it.
        signature: of whoever has signed its models, as its index has it; empty for nobody.
        remotes: configs of cloud stubs among the blobs that passed by, with the hosts where their models run.
        left_out: blobs that are not in it on purpose, with their sizes; one that is in it all the same counts as in it.
        ignored: how many members are none of Ollama's.
        ignored_names: the first few of these.
    """

    models: dict[ModelName, Manifest] = field(default_factory=dict)
    broken: dict[ModelName, Damaged] = field(default_factory=dict)
    nameless: set[ModelName] = field(default_factory=set)
    loosely_placed: set[ModelName] = field(default_factory=set)
    blobs: dict[Digest, tuple[int, int]] = field(default_factory=dict)
    repeated: list[tuple[Digest, int, int]] = field(default_factory=list)
    loosely_named: dict[Digest, str] = field(default_factory=dict)
    links: dict[Digest, str] = field(default_factory=dict)
    remotes: dict[Digest, str] = field(default_factory=dict)
    left_out: dict[Digest, int] = field(default_factory=dict)
    searchable: bool = True
    roots: set[str] = field(default_factory=set)
    signature: str = ""
    ignored: int = 0
    ignored_names: list[str] = field(default_factory=list)

    def ignore(self, name: str) -> None:
        """Count a member that is none of Ollama's."""
        self.ignored += 1
        if len(self.ignored_names) < _NAMES_KEPT:
            self.ignored_names.append(name[:_NAME_SHOWN])


class ContentsBuilder:
    """Sorts members into :class:`Contents`, and refuses what would make two archives of one.

    Args:
        contents: what is filled.
        lenient: take what not every tar reads in the same way (:mod:`ollama_ferry.archives.portable_tar`).
        exact: take nothing that some tar does not restore.
        by_size: any file can be opened later, so that one which is called otherwise may turn out to be a blob.

    Attributes:
        telling_blobs: has to see the blobs, where links to manifests are to be followed.
    """

    def __init__(
        self, contents: Contents, *, lenient: bool = False, exact: bool = False, by_size: bool = False
    ) -> None:
        self._contents = contents
        self._exact = exact
        self._by_size = by_size
        self._paths: Paths | None = None if lenient else Paths()
        # Of the image's layer that is being read, for messages and to tell its store from others.
        self._layer = ""
        self._manifest_bytes = 0
        self._roots: dict[ModelName, str] = {}
        # Models whose manifest is in the newer layout.
        self._newer: set[ModelName] = set()
        # There a manifest may be a link to a blob: in which layer, and to which.
        self._linked: list[tuple[str, ManifestPath, Member, Digest]] = []
        self.telling_blobs = TellingBlobs(contents.remotes)
        # Further places of a blob with another size; which one is right its manifest tells.
        self._others: dict[Digest, list[tuple[int, int]]] = {}
        # Files by their sizes: a browser calls blobs data, data(1) and so on, and a manifest may say which it was.
        self._sized: dict[int, tuple[str, int]] = {}
        self._loose: list[tuple[LoosePath, Manifest]] = []
        self._described: dict[str, ModelName] = {}

    def take(self, member: Member) -> Meaning:
        """Tell what a member is; blobs are noted.

        Raises:
            ReadDifferently: what it is depends on the reader.
            Damaged: it is a device, or its name is refused.
        """
        shown = repr(member.name[:200])
        if climbs(member.name):
            raise Damaged(f"the member {shown} climbs out of the archive")
        if member.kind is MemberKind.DEVICE:
            if self._paths is not None:
                raise odd(f"the member {shown} is a {member.kind.value}, which few may restore")
            self._contents.ignore(member.name)
            return None
        meaning = meaning_of(member.name)
        if self._paths is not None:
            self._require_one_reading(self._paths, member, meaning)
        if member.kind is MemberKind.LINK:
            self._note_link(member, meaning)
            return None
        if member.kind is MemberKind.FOLDER:
            if isinstance(meaning, ManifestPath) or (isinstance(meaning, BlobPath) and meaning.root is not None):
                raise Damaged(f"the member {shown} is a folder, and should be a file")
            return None
        if isinstance(meaning, BlobPath | ManifestPath) and meaning.root is not None:
            self._contents.roots.add(self._layer + meaning.root)
        if isinstance(meaning, BlobPath):
            self.note_blob(meaning, member)
        elif isinstance(meaning, ManifestPath | LoosePath):
            return self._if_readable(member, meaning)
        elif meaning is None:
            self._contents.ignore(member.name)
            if self._by_size and len(self._sized) < _SIZES_KEPT:
                self._sized.setdefault(member.size, (member.name, member.offset))
        return meaning

    @contextmanager
    def in_layer(self, member: Member) -> Iterator[None]:
        """Sort the members of an image's layer, out of which no tar restores a store: there is one reader."""
        before = self._paths, self._layer
        self._paths, self._layer = None, f"{member.name[:200]}: "
        try:
            yield
        finally:
            self._paths, self._layer = before

    def note_blob(self, path: BlobPath, member: Member) -> None:
        """Note where a blob is; of several the one counts whose size its manifest gives.

        Raises:
            ReadDifferently: it is there twice with different sizes, and a restored store has but one of them.
        """
        blobs, loose = self._contents.blobs, self._contents.loosely_named
        found = member.size, member.offset
        known = blobs.setdefault(path.digest, found)
        if known == found:
            if path.root is None:
                loose[path.digest] = member.name
            return
        certain, was_certain = path.root is not None, path.digest not in loose
        if certain and not was_certain:
            blobs[path.digest] = found
            del loose[path.digest]
            found = known
        elif certain and known[0] == member.size:
            self._contents.repeated.append((path.digest, *found))
            return
        elif certain and self._paths is not None:
            raise odd(f"the blob {path.digest} occurs twice, with {known[0]:,} and {exact_size(member.size)}")
        self._others.setdefault(path.digest, []).append(found)

    def add(self, path: ManifestPath | LoosePath, member: Member, raw: bytes) -> None:
        """Take in the content of a file that is a manifest, or may be one or tell of one.

        Raises:
            Damaged: another one of that name was there before in the same place, or there are too many.
        """
        self._manifest_bytes += len(raw)
        if self._manifest_bytes > _MANIFESTS_LIMIT:
            raise Damaged(f"its manifests have more than {_MANIFESTS_LIMIT} bytes together")
        self._require_room()
        if isinstance(path, ManifestPath):
            self._add_named(self._layer, path, member, raw)
        elif path.kind is Loose.DESCRIPTION:
            self._described.update({self._layer + path.folder: name} if (name := _described(raw)) else {})
        else:
            manifest = _parsed(raw)
            if isinstance(manifest, Manifest) and manifest.layers:
                self._loose.append((path, manifest))
            elif isinstance(manifest, Damaged) and encoding_of(raw):
                self._contents.broken[self._stopgap()] = Damaged(
                    f"the manifest {member.name[:200]!r} is damaged: {manifest}", hint=manifest.hint
                )
            else:
                self._contents.ignore(member.name)

    def finish(self) -> None:
        """Sum up, when all members are known: follow links to manifests, name what lies beside its blobs, and choose
        among places of one blob."""
        for layer, linked, member, digest in self._linked:
            if raw := self.telling_blobs.manifests.get(digest):
                self._add_named(layer, linked, member, raw)
            elif linked.name not in self._contents.models:
                self._contents.broken[linked.name] = Damaged(
                    f"the manifest of {linked.name} is a link to {digest}, which is not in it or is no manifest",
                    hint="Make it anew with the whole of blobs/ and manifests-v2/.",
                )
        for path, manifest in self._loose:
            name = self._described.get(self._layer + path.folder)
            if name is None:
                if any(manifest.raw == other.raw for other in self._contents.models.values()):
                    continue
                name = self._stopgap()
                self._contents.nameless.add(name)
            if name not in self._contents.models:
                self._contents.loosely_placed.add(name)
            self._add(name, self._layer + path.folder, manifest)
        self._loose.clear()
        wanted: dict[Digest, set[int]] = {}
        for manifest in self._contents.models.values():
            for blob in manifest.blobs:
                wanted.setdefault(blob.digest, set()).add(blob.size)
        for digest, others in self._others.items():
            known = self._contents.blobs[digest]
            sizes = wanted.get(digest, set())
            self._contents.blobs[digest] = next((one for one in (known, *others) if one[0] in sizes), known)
        for digest, sizes in wanted.items():
            for size in sizes & self._sized.keys() if digest not in self._contents.blobs else ():
                self._contents.loosely_named[digest], offset = self._sized[size]
                self._contents.blobs[digest] = size, offset
        for digest in self._contents.loosely_named.keys() - wanted.keys():
            # It may still be what another archive lacks.
            self._contents.ignore(self._contents.loosely_named[digest])

    def _require_one_reading(self, paths: Paths, member: Member, meaning: Meaning) -> None:
        shown = repr(member.name[:200])
        if why := why_unusual(member.name):
            raise odd(f"the member {shown} {why}")
        counts = _counts(meaning)
        for other in member.other_names:
            if _counts(meaning_of(other)):
                shown = f"{shown} is {other[:200]!r}"
                raise odd(f"the member {shown} for readers that pass over PAX headers, as old BusyBox tars do")
        if member.kind is MemberKind.LINK:
            if linked_blob(member, meaning) is None:
                _require_harmless(member)
            elif self._exact:
                raise odd(
                    f"the manifest {shown} is a link to its blob, of which 7-Zip makes an empty file",
                    f"`ollama-ferry import` takes it. {link_hint(hard=False)}",
                    lenient=False,
                )
            counts = True
        paths.add(member.name, is_folder=member.kind is MemberKind.FOLDER, counts=counts)

    def _note_link(self, member: Member, meaning: Meaning) -> None:
        """Remember what is there as a link alone: followed is but one to a manifest, whose digest it names."""
        if isinstance(meaning, ManifestPath):
            self._require_room()
        digest = linked_blob(member, meaning)
        if isinstance(meaning, ManifestPath) and digest is not None:
            self._linked.append((self._layer, meaning, member, digest))
        elif isinstance(meaning, BlobPath):
            self._contents.links.setdefault(meaning.digest, member.target)
        elif isinstance(meaning, ManifestPath) and meaning.name not in self._contents.models:
            self._contents.broken[meaning.name] = Damaged(
                f"the manifest of {meaning.name} is a link to {member.target[:200]!r}; it was not followed",
                hint=link_hint(hard=member.hard),
            )
        else:
            self._contents.ignore(member.name)

    def _require_room(self) -> None:
        known = len(self._contents.models) + len(self._contents.broken) + len(self._loose) + len(self._linked)
        if known >= MODELS_LIMIT:
            raise Damaged(f"it has more than {MODELS_LIMIT} models")

    def _if_readable(self, member: Member, meaning: ManifestPath | LoosePath) -> Meaning:
        if member.size <= MANIFEST_LIMIT:
            return meaning
        if isinstance(meaning, ManifestPath):
            self._contents.broken[meaning.name] = Damaged(
                f"the manifest of {meaning.name} has {exact_size(member.size)}; more than {MANIFEST_LIMIT} are not read"
            )
        else:
            self._contents.ignore(member.name)
        return None

    def _add_named(self, layer: str, path: ManifestPath, member: Member, raw: bytes) -> None:
        manifest = _parsed(raw)
        if member.check and not hashlib.sha256(raw).digest().startswith(member.check):
            manifest = Damaged("its SHA-256 is another one than its header says")
        if isinstance(manifest, Manifest):
            self._add(path.name, layer + path.root, manifest, newer=path.newer)
        elif is_foreign_tag(path.name.tag):
            self._contents.ignore(member.name)
        elif path.name not in self._contents.models:
            self._contents.broken[path.name] = Damaged(
                f"the manifest of {path.name} is damaged: {manifest}", hint=manifest.hint
            )

    def _add(self, name: ModelName, root: str, manifest: Manifest, *, newer: bool = False) -> None:
        known = self._contents.models.get(name)
        if known is not None and newer != (name in self._newer) and root == self._roots[name]:
            # In one store in both layouts: a server takes the newer one.
            if newer:
                self._newer.add(name)
                self._contents.models[name] = manifest
            return
        if newer:
            self._newer.add(name)
        if known is None:
            if name in self._roots:
                # It was there twice already.
                return
            self._contents.broken.pop(name, None)
            self._contents.models[name] = manifest
            self._roots[name] = root
        elif known.raw != manifest.raw:
            if root == self._roots[name]:
                raise Damaged(f"the manifest of {name} occurs twice, with different content")
            del self._contents.models[name]
            folders = " and ".join(repr(one or "./") for one in (self._roots[name], root))
            self._contents.broken[name] = Damaged(
                f"{name} is in it twice, as two models: {known.digest.short} and {manifest.digest.short}, in {folders}",
                hint="Unpack it, and import the one folder that you want: ollama-ferry import ./FOLDER",
            )

    def _stopgap(self) -> ModelName:
        number = 1
        while True:
            name = ModelName.parse(_NAMELESS if number == 1 else f"{_NAMELESS}-{number}")
            if name not in self._contents.models and name not in self._contents.broken:
                return name
            number += 1


def link_hint(*, hard: bool) -> str:
    """Say how an archive is made anew with files in the place of links."""
    # GNU tar makes a hard link of what -h finds a second time.
    options = "--hard-dereference" if hard else "-h --hard-dereference"
    return f"Make it anew with files in the place of links: `tar {options} -cf ...`."


def _counts(meaning: Meaning) -> bool:
    """Return whether a plain tar restores a file that a server reads."""
    return isinstance(meaning, ManifestPath) or (isinstance(meaning, BlobPath) and meaning.root is not None)


def _require_harmless(member: Member) -> None:
    """Let a link pass that leads to somewhere in the archive and has nothing to do with a store's own folders."""
    parts = {part.lower().rstrip(" .") for part in member.name.split("/")}
    target = member.target
    if member.hard or climbs(target) or why_unusual(target) or not target or parts & {"blobs", "manifests"}:
        raise odd(
            f"the member {member.name[:200]!r} is a {'hard ' if member.hard else ''}link to {target[:200]!r}, which "
            "some readers follow and others refuse",
            link_hint(hard=member.hard),
        )


def _parsed(raw: bytes) -> Manifest | Damaged:
    """Read a manifest; what is wrong with it is returned."""
    if not raw:
        return Damaged("it is empty")
    try:
        manifest = Manifest.parse(raw)
        _ = manifest.blobs
    except Damaged as error:
        return error
    return manifest


def _described(raw: bytes) -> ModelName | None:
    """Return the model that a ``metadata.json`` of ollamazip names."""
    try:
        document = parse_json(raw)
        if not isinstance(document, dict) or not isinstance(document.get("model"), str):
            return None
        return ModelName(
            str(document.get("registry") or DEFAULT_HOST),
            str(document.get("namespace") or DEFAULT_NAMESPACE),
            document["model"],
            str(document.get("tag") or DEFAULT_TAG),
        )
    except (Damaged, InvalidName):
        return None
