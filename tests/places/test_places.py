"""The contract of places: what the engine counts on, shown for every place. A new place joins by a few lines."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from ollama_ferry.archives.kinds import Compression, Kind
from ollama_ferry.engine.copy import copy, plan
from ollama_ferry.engine.ports import BlobEntry, ModelEntry, Readable, Resumes, Sink, Source
from ollama_ferry.engine.stream import copy_stream
from ollama_ferry.errors import Damaged, FerryError, MissingBlob, ModelNotFound
from ollama_ferry.files.pending import PendingFile
from ollama_ferry.model.manifests import Descriptor, Digest, Manifest
from ollama_ferry.model.names import ModelName
from ollama_ferry.places.archive.file import ArchiveFile
from ollama_ferry.places.archive.sink import ArchiveSink
from ollama_ferry.places.registry.references import Reference
from ollama_ferry.places.registry.sink import RegistrySink
from ollama_ferry.places.registry.source import RegistrySource
from ollama_ferry.places.ssh.connection import SshConnection, SshOptions
from ollama_ferry.places.ssh.place import SshPlace
from ollama_ferry.places.store.sink import StoreSink
from ollama_ferry.places.store.store import Store
from ollama_ferry.registries.client import Client, Clients
from support.memory_place import MemoryPlace
from support.oci_registries import Registry, docker_registry, quick_access
from support.sshd import Sshd
from support.stores import weights

Written = Callable[[], AbstractContextManager[Sink]]
Read = Callable[[], AbstractContextManager[Source]]


class Place:
    """A place under test: how it is written to, and how the same is read afterwards."""

    def __init__(self, writing: Written, reading: Read) -> None:
        self.writing = writing
        self.reading = reading


def memory(folder: Path) -> Place:
    here = MemoryPlace()

    @contextmanager
    def same() -> Iterator[MemoryPlace]:
        yield here

    return Place(same, same)


def store(folder: Path) -> Place:
    here = Store(folder / "store")

    @contextmanager
    def reading() -> Iterator[Store]:
        yield here

    return Place(lambda: StoreSink(here), reading)


def archive(kind: Kind) -> Callable[[Path], Place]:
    def place(folder: Path) -> Place:
        path = folder / f"archive{kind.value}"

        @contextmanager
        def writing() -> Iterator[ArchiveSink]:
            with PendingFile(path) as file:
                sink = ArchiveSink(file, kind, compression=Compression.FAST, threads=2)
                try:
                    yield sink
                    sink.close()
                    file.publish()
                except BaseException:
                    sink.abandon()
                    raise

        @contextmanager
        def reading() -> Iterator[Source]:
            with ArchiveFile(path) as file:
                source = file.source()
                if source is None:
                    raise Damaged("given up before its end, where the index is")
                yield source

        return Place(writing, reading)

    return place


PLACES = {
    "memory": memory,
    "store": store,
    "tar": archive(Kind.TAR),
    "tar.gz": archive(Kind.TAR_GZ),
    "tar.zst": archive(Kind.TAR_ZST),
}


OVER_SSH = ["ssh", "ssh to busybox"]


@pytest.fixture(scope="module")
def docker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with docker_registry(tmp_path_factory.mktemp("registry")) as registry:
        yield registry


def in_registry(registry: Registry, folder: Path) -> Place:
    """One repository, whose tags stand for the names that the tests use."""
    tags = {ModelName.parse(text): text.rpartition(":")[2] for text in ("a:1", "a:2", "localhost:5000/n/b:Q4_K")}
    repository = f"tests/{Digest.of(str(folder).encode()).short}"
    access = quick_access(part_size=300_000, chunk_size=400_000)

    @contextmanager
    def writing() -> Iterator[RegistrySink]:
        with Client(registry.address, access) as client:
            yield RegistrySink(client, repository, tags)

    @contextmanager
    def reading() -> Iterator[RegistrySource]:
        references = {name: Reference(registry.address, repository, tag) for name, tag in tags.items()}
        with Clients(lambda address: Client(address, access)) as clients:
            yield RegistrySource(references, clients.connect)

    return Place(writing, reading)


@pytest.fixture(params=[*PLACES, *OVER_SSH, "registry"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "registry":
        return in_registry(request.getfixturevalue("docker"), tmp_path)
    if request.param not in OVER_SSH:
        return PLACES[request.param](tmp_path)
    server: Sshd = request.getfixturevalue("sshd" if request.param == "ssh" else "busybox_sshd")

    @contextmanager
    def over_ssh() -> Iterator[SshPlace]:
        with (
            SshConnection("root@there", None, SshOptions(tuple(server.ssh.split()))) as line,
            SshPlace(line, str(tmp_path / "far away")) as place,
        ):
            yield place

    return Place(over_ssh, over_ssh)


class Models(MemoryPlace):
    """Models to copy, made in memory."""

    def add(self, name: str, *layers: bytes) -> Manifest:
        config = b'{"model_format": "gguf"}'
        entries = [{"mediaType": "x.model", "digest": str(self._blob(layer)), "size": len(layer)} for layer in layers]
        kept = {"digest": str(self._blob(config)), "size": len(config)}
        document = {"schemaVersion": 2, "config": kept, "layers": entries}
        # Spaces that no writer would choose: the bytes are to be kept.
        raw = b" " + json.dumps(document, indent=3).encode() + b"\n"
        self.models[ModelName.parse(name)] = raw
        return Manifest.parse(raw)

    def _blob(self, content: bytes) -> Digest:
        digest = Digest.of(content)
        self.blobs[digest] = content
        return digest


@pytest.fixture
def models() -> Models:
    made = Models()
    shared = weights(2**20 + 300_000)
    made.add("a:1", shared, b"", b"one")
    made.add("a:2", shared, shared, b"two")
    made.add("localhost:5000/n/b:Q4_K", weights(5000, 2))
    return made


def copied(models: Models, place: Place) -> None:
    with place.writing() as sink:
        copy(plan(models, sink, models.names()), models, sink)


def content(source: Source, blob: Descriptor, offset: int = 0) -> bytes:
    with source.open(blob, offset) as data:
        return b"".join(iter(lambda: data.read(70_000), b""))


def test_what_was_written_is_read(place: Place, models: Models) -> None:
    copied(models, place)
    with place.reading() as source:
        assert sorted(source.names()) == sorted(models.names())
        for name in models.names():
            manifest = source.manifest(name)
            assert manifest.raw == models.models[name]
            for blob in manifest.blobs:
                assert content(source, blob) == models.blobs[blob.digest]


@pytest.mark.parametrize("offset", [0, 1, 2**20 - 1, 2**20, 2**20 + 1, 2**20 + 299_999, 2**20 + 300_000])
def test_blob_is_read_from_any_byte_on(place: Place, models: Models, offset: int) -> None:
    copied(models, place)
    with place.reading() as source:
        blob = max(source.manifest(ModelName.parse("a:1")).blobs, key=lambda blob: blob.size)
        assert content(source, blob, offset) == models.blobs[blob.digest][offset:]


def test_what_is_not_there_is_said_to_be_missing(place: Place, models: Models) -> None:
    copied(models, place)
    with place.reading() as source:
        with pytest.raises(ModelNotFound):
            source.manifest(ModelName.parse("a:3"))
        with pytest.raises(MissingBlob):
            content(source, Descriptor(Digest("0" * 64), 3))


def test_sink_knows_what_it_has(place: Place, models: Models) -> None:
    manifest = models.manifest(ModelName.parse("a:1"))
    with place.writing() as sink:
        assert not any(sink.has(blob) for blob in manifest.blobs)
        copy(plan(models, sink, models.names()), models, sink)
        assert all(sink.has(blob) for blob in manifest.blobs)
        again = plan(models, sink, models.names())
        assert not again.blobs
        if not isinstance(sink, ArchiveSink):
            other = Descriptor(manifest.blobs[0].digest, manifest.blobs[0].size + 1)
            assert not sink.has(other)


class Lying(MemoryPlace):
    """Opens other bytes than were asked for."""

    def __init__(self, models: Models, change: Callable[[bytes], bytes]) -> None:
        super().__init__()
        self.models, self.blobs = models.models, models.blobs
        self._change = change

    def open(self, blob: Descriptor, offset: int = 0) -> AbstractContextManager[Readable]:
        changed = MemoryPlace()
        changed.blobs[blob.digest] = self._change(self.blobs[blob.digest])
        return changed.open(blob, offset)


@pytest.mark.parametrize(
    "change",
    [lambda data: data[:-1] + b"x", lambda data: data[:-1], lambda data: data + b"x", lambda data: b""],
    ids=["other", "short", "long", "none"],
)
def test_wrong_bytes_are_not_taken(place: Place, models: Models, change: Callable[[bytes], bytes]) -> None:
    lying = Lying(models, change)
    name = ModelName.parse("a:1")
    with pytest.raises(Damaged), place.writing() as sink:
        copy(plan(lying, sink, [name]), lying, sink)
    with pytest.raises(FerryError), place.reading() as source:
        source.manifest(name)


class Breaking(MemoryPlace):
    """Opens blobs whose reading fails in the middle."""

    def __init__(self, models: Models) -> None:
        super().__init__()
        self.models, self.blobs = models.models, models.blobs
        self.asked: list[int] = []
        self.broken = True

    @contextmanager
    def open(self, blob: Descriptor, offset: int = 0) -> Iterator[Readable]:
        self.asked.append(offset)
        with super().open(blob, offset) as data:
            yield BreaksAfterOneRead(data) if self.broken else data


class BreaksAfterOneRead:
    def __init__(self, data: Readable) -> None:
        self._data = data
        self._reads = 0

    def read(self, size: int, /) -> bytes:
        self._reads += 1
        if self._reads > 1:
            raise OSError(5, "the line broke")
        return self._data.read(min(size, 1000))


def test_sink_that_resumes_goes_on_where_it_broke(place: Place, models: Models) -> None:
    breaking = Breaking(models)
    name = ModelName.parse("a:1")
    with pytest.raises(FerryError), place.writing() as sink:
        resumes = isinstance(sink, Resumes)
        copy(plan(breaking, sink, [name]), breaking, sink)
    if not resumes:
        return
    breaking.broken = False
    breaking.asked.clear()
    with place.writing() as sink:
        copy(plan(breaking, sink, [name]), breaking, sink)
    assert 0 < breaking.asked[0] <= 1000
    with place.reading() as source:
        for blob in source.manifest(name).blobs:
            assert content(source, blob) == models.blobs[blob.digest]


@pytest.mark.parametrize("manifests_first", [True, False])
def test_stream_is_copied_in_any_order(place: Place, models: Models, manifests_first: bool) -> None:
    class Stream:
        def entries(self) -> Iterator[BlobEntry | ModelEntry]:
            manifests = [ModelEntry(name, models.manifest(name)) for name in models.names()]
            if manifests_first:
                yield from manifests
            for digest in [*models.blobs, *models.blobs]:
                blob = Descriptor(digest, len(models.blobs[digest]))
                with models.open(blob) as data:
                    yield BlobEntry(blob, data)
            if not manifests_first:
                yield from manifests

    with place.writing() as sink:
        done = copy_stream(Stream(), sink, lambda name, manifest: name)
    assert done.models == tuple(sorted(models.names()))
    with place.reading() as source:
        for name in models.names():
            assert source.manifest(name).raw == models.models[name]
            for blob in source.manifest(name).blobs:
                assert hashlib.sha256(content(source, blob)).hexdigest() == blob.digest.hex
