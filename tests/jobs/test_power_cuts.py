"""Power cuts on real file systems: no listed model lacks a byte, what ended well stays, and the next run ends well."""

from __future__ import annotations

import hashlib
import random
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import ollama_ferry
from ollama_ferry.archives.volumes.reading import Volumes
from ollama_ferry.engine.run import Run
from ollama_ferry.errors import AlreadyExists, FerryError
from ollama_ferry.files.disk import Disk
from ollama_ferry.jobs.export import ExportOptions, export_to_file, plan_export
from ollama_ferry.jobs.import_ import import_file, import_source
from ollama_ferry.jobs.import_choices import ImportOptions
from ollama_ferry.jobs.pull import pull_into_store
from ollama_ferry.jobs.repair import repair
from ollama_ferry.jobs.send import SendOptions, send
from ollama_ferry.jobs.send_targets import FolderTarget, SendTarget, SshTarget
from ollama_ferry.jobs.verify import verify_place
from ollama_ferry.places.registry.references import parse_reference
from ollama_ferry.places.ssh.connection import SshConnection, SshOptions
from ollama_ferry.places.ssh.place import SshPlace
from ollama_ferry.places.store.store import Store
from ollama_ferry.registries.access import Access
from support.power_cuts import (
    FILE_SYSTEMS,
    LOG_IS_LOST,
    LOG_IS_WRITTEN,
    CutDisk,
    Killed,
    KilledDisk,
    LoopDisk,
    Moment,
    close_files_below,
)
from support.served import serve_process
from support.sshd import Sshd
from support.stores import StoreBuilder, faults_of, tree, weights

SPLIT = 1_000_000
NEIGHBOUR = "neighbour:1"


@pytest.fixture(scope="module", params=FILE_SYSTEMS)
def loop(request: pytest.FixtureRequest) -> Iterator[LoopDisk]:
    with LoopDisk(request.param) as made:
        yield made


@dataclass
class Given:
    """What is on the safe side of the cut: the models, archives of them, and an older model of one name."""

    models: StoreBuilder
    work: Path
    ssh: str = ""
    port: int = 0

    def archive(self, kind: str) -> Path:
        path = self.work / f"models{kind}"
        if not path.exists():
            ollama_ferry.export("*/*/*:*", path, store=self.models.root)
        return path

    @property
    def small(self) -> Path:
        """An archive of one model of a hundred small blobs."""
        path = self.work / "small.tar"
        if not path.exists():
            built = StoreBuilder(self.work / "small")
            built.model("small:1", [("model", weights(3000, number)) for number in range(100)])
            ollama_ferry.export("small:1", path, store=built.root)
        return path

    def other(self, name: str) -> Path:
        """An archive of one model that is another one than the models' own."""
        path = self.work / f"{name.partition(':')[0]}.other.tar"
        if not path.exists():
            built = StoreBuilder(self.work / f"other-{name}")
            built.model(name, [("model", weights(300_000, 9)), ("template", b"older")])
            ollama_ferry.export(name, path, store=built.root)
        return path


class Job:
    """A command, run into a folder on the disk whose power is cut; each kind is one that says what is right there.

    Args:
        given: what it reads.
        folder: where it writes.
    """

    def __init__(self, given: Given, folder: Path) -> None:
        self.given = given
        self.folder = folder

    def prepare(self) -> None:
        """Make what is there before; all by commands that ended with exit code 0."""

    def run(self, disk: Disk, run: Run) -> None:
        raise NotImplementedError

    def wrong(self) -> list[str]:
        """Tell what may be at no moment."""
        raise NotImplementedError

    def missing(self) -> list[str]:
        """Tell what is not as it is after exit code 0."""
        raise NotImplementedError


class IntoStore(Job):
    """What writes into a store."""

    @property
    def root(self) -> Path:
        return self.folder / "store"

    @property
    def store(self) -> Store:
        return Store(self.root)

    def prepare(self) -> None:
        self.folder.mkdir()
        import_file(self.given.other(NEIGHBOUR), self.store, ImportOptions())

    def wrong(self) -> list[str]:
        found = faults_of(self.root)
        if not StoreBuilder(self.root).manifest_path(NEIGHBOUR).exists():
            found.append("the neighbour has gone")
        return found

    def missing(self) -> list[str]:
        here, wanted = tree(self.root), tree(self.given.models.root)
        return [name for name, content in wanted.items() if here.get(name) != content]


class Import(IntoStore):
    kind = ".tar.gz"

    def run(self, disk: Disk, run: Run) -> None:
        import_file(self.given.archive(self.kind), self.store, ImportOptions(), disk=disk, run=run)


class ImportTar(Import):
    kind = ".tar"


class ImportSmall(IntoStore):
    """A model of so many small blobs that they are synced together."""

    def run(self, disk: Disk, run: Run) -> None:
        import_file(self.given.small, self.store, ImportOptions(), disk=disk, run=run)

    def missing(self) -> list[str]:
        here, wanted = tree(self.root), tree(self.given.small.with_name("small"))
        return [name for name, content in wanted.items() if here.get(name) != content]


class Replace(Import):
    """An import in place of an older model of one of the names."""

    kind = ".tar"

    def prepare(self) -> None:
        super().prepare()
        import_file(self.given.other("a:1"), self.store, ImportOptions())

    def run(self, disk: Disk, run: Run) -> None:
        import_file(self.given.archive(self.kind), self.store, ImportOptions(replace=True), disk=disk, run=run)

    def wrong(self) -> list[str]:
        there = StoreBuilder(self.root).manifest_path("a:1").exists()
        return super().wrong() + ([] if there else ["neither the old nor the new one is there"])


class Repair(Import):
    """A store whose big blobs have lost their bytes, and get them back."""

    def prepare(self) -> None:
        super().prepare()
        super().run(Disk(), Run())
        self.damaged = [path for path in (self.root / "blobs").iterdir() if path.stat().st_size > 500_000]
        for path in self.damaged:
            path.write_bytes(bytes(path.stat().st_size))

    def run(self, disk: Disk, run: Run) -> None:
        report = verify_place(self.store, self.store.names(), threads=1)
        repair(self.store, report, self.given.archive(self.kind), disk=disk, run=run)

    def wrong(self) -> list[str]:
        known = {f"{path.name} has other bytes" for path in self.damaged if not any(path.read_bytes())}
        return [fault for fault in super().wrong() if fault not in known]


class SendToFolder(IntoStore):
    def run(self, disk: Disk, run: Run) -> None:
        self.send(FolderTarget(self.root, disk=disk), run)

    def send(self, target: SendTarget, run: Run) -> None:
        store = Store(self.given.models.root)
        (sent,) = send(store, store.names(), [target], SendOptions(), run=run)
        if sent.error is not None:
            raise sent.error


class SendToHost(SendToFolder):
    """A send whose far side writes there: its calls are none of ours, so its events are counted.

    Whether a lock that a power cut left is anybody's shows when no heartbeat comes.
    """

    def run(self, disk: Disk, run: Run) -> None:
        with SshConnection("root@there", None, SshOptions(tuple(self.given.ssh.split()))) as line:
            self.send(SshTarget(SshPlace(line, str(self.root), patience=2)), run)


class Fetch(IntoStore):
    def run(self, disk: Disk, run: Run) -> None:
        with SshConnection("root@there", None, SshOptions(tuple(self.given.ssh.split()))) as line:
            place = SshPlace(line, str(self.given.models.root))
            import_source(place, self.store, ImportOptions(only=("*/*/*:*",)), disk=disk, run=run)


class Pull(IntoStore):
    def run(self, disk: Disk, run: Run) -> None:
        references = {
            name: parse_reference(f"127.0.0.1:{self.given.port}/{name.namespace}/{name.model}:{name.tag}")
            for name in Store(self.given.models.root).names()
        }
        pull_into_store(references, self.store, ImportOptions(), Access(insecure=True), disk=disk, run=run)


class Export(Job):
    """An archive beside one that is finished."""

    kind = ".tar.gz"
    options = ExportOptions(threads=1)

    @property
    def path(self) -> Path:
        return self.folder / f"x{self.kind}"

    def prepare(self) -> None:
        self.folder.mkdir()
        self.write("*:1", self.folder / "finished.tar", ExportOptions(), Disk(), Run())

    def write(self, pattern: str, path: Path, options: ExportOptions, disk: Disk, run: Run) -> None:
        store = Store(self.given.models.root)
        names = [name for name in store.names() if pattern == "*" or name.tag == "1"]
        export_to_file(store, plan_export(store, names), path, options, disk=disk, run=run)

    def run(self, disk: Disk, run: Run) -> None:
        self.write("*", self.path, self.options, disk, run)

    def wrong(self) -> list[str]:
        part = self.given.work / "part.tar"
        if not part.exists():
            self.write("*:1", part, ExportOptions(), Disk(), Run())
        finished = self.folder / "finished.tar"
        right = finished.exists() and finished.read_bytes() == part.read_bytes()
        return [] if right and (not self.path.exists() or self.is_right()) else ["an archive is not what it was"]

    def is_right(self) -> bool:
        return self.path.read_bytes() == self.given.archive(self.kind).read_bytes()

    def missing(self) -> list[str]:
        return [] if self.path.exists() and self.is_right() else [self.path.name]


class ExportTar(Export):
    kind = ".tar"


class ExportAnew(Export):
    """An archive in place of another one that is finished."""

    options = ExportOptions(threads=1, replace=True)

    def prepare(self) -> None:
        super().prepare()
        self.write("*:1", self.path, self.options, Disk(), Run())
        self.before = self.path.read_bytes()

    def wrong(self) -> list[str]:
        found = super().wrong()
        return found if not self.path.exists() or self.path.read_bytes() != self.before else []


class Split(Export):
    options = ExportOptions(threads=1, split=SPLIT)

    def parts(self) -> list[bytes]:
        whole = self.given.archive(self.kind).read_bytes()
        return [whole[at : at + SPLIT] for at in range(0, len(whole), SPLIT)]

    def wrong(self) -> list[str]:
        volumes = Volumes(self.path)
        found = super().wrong()
        for number in volumes.numbers():
            if volumes.path(number).read_bytes() != self.parts()[number - 1]:
                found.append(f"volume {number} has other bytes")
        return found + (self.missing() if volumes.sums_path.exists() else [])

    def missing(self) -> list[str]:
        volumes = Volumes(self.path)
        lines = [f"{hashlib.sha256(part).hexdigest()}  {volumes.name(at)}\n" for at, part in enumerate(self.parts(), 1)]
        lacking = [volumes.name(at) for at, _ in enumerate(self.parts(), 1) if not volumes.path(at).exists()]
        told = volumes.sums_path.exists() and volumes.sums_path.read_text() == "".join(lines)
        return lacking + ([] if told else [volumes.sums_path.name])


JOBS: list[type[Job]] = [
    Import, ImportTar, ImportSmall, Replace, Repair, SendToFolder, SendToHost, Fetch, Pull, Export, ExportTar,
    ExportAnew, Split,
]  # fmt: skip
LONG_ONLY = {SendToHost, Fetch, Pull}


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory, sshd: Sshd) -> Iterator[Given]:
    work = tmp_path_factory.mktemp("given")
    models = StoreBuilder(work / "models")
    shared = weights(2_500_000)
    models.model("a:1", [("model", shared), ("template", b"one")])
    models.model("a:2", [("model", shared), ("template", b"two"), ("license", b"")])
    models.model("hf.co/org/b:Q4", [("model", weights(700_000, 5)), ("params", b"{}")])
    with serve_process(work, "--all", "--models", models.root) as server:
        yield Given(models, work, sshd.ssh, server.port)


def run_again(job: Job) -> bool:
    """Run a command after one that was broken off, which must not fail; tell whether it ended with exit code 0.

    An export that was broken off at its very end has given the archive its name, and another one finds it there.
    """
    try:
        job.run(Disk(), Run())
    except AlreadyExists:
        assert not job.missing()
        return False
    return True


def run_until(job: Job, moment: Moment) -> FerryError | None:
    """Run a command; return how it ended, with None for exit code 0. Any other exception is an internal error."""
    count_events = isinstance(job, SendToHost)
    try:
        job.run(CutDisk(moment), Run(moment.observe) if count_events else Run())
    except FerryError as error:
        return error
    return None


@pytest.mark.parametrize(
    "kind",
    [pytest.param(kind, id=kind.__name__, marks=[pytest.mark.long] if kind in LONG_ONLY else []) for kind in JOBS],
)
def test_cut_at_any_step(kind: type[Job], given: Given, loop: LoopDisk, long: bool, seed: int) -> None:
    rng = random.Random(f"{seed} {kind.__name__}")
    counted = Moment(loop)
    steps = 0
    # The far side of a send tries for a while to put its lock away.
    rounds = 2 if kind is SendToHost else 5
    for number in range(rounds if long else 1):
        job = kind(given, loop.root / f"{kind.__name__}-{number}")
        job.prepare()
        if not steps:
            twin = kind(given, loop.root / f"{kind.__name__}-counted")
            twin.prepare()
            assert run_until(twin, counted) is None
            steps = counted.steps
            assert steps > 5
        if isinstance(job, Repair):
            # It is not the commands under test that have damaged it.
            loop.sync()
        at, flag = rng.randrange(steps + 1), rng.choice((LOG_IS_WRITTEN, LOG_IS_LOST))
        where = f"--seed {seed}, round {number}, step {at} of {steps}, flag {flag}"
        moment = Moment(loop, at, flag)
        error = run_until(job, moment)
        moment.cut()
        loop.restart()
        assert not job.wrong(), (where, job.wrong(), error)
        assert error is not None or not job.missing(), (where, job.missing())
        # And the same command again ends well, which the next cut takes nothing from.
        run_again(job)
        loop.cut(LOG_IS_LOST)
        loop.restart()
        assert not job.wrong() and not job.missing(), (where, job.wrong(), job.missing())
        shutil.rmtree(job.folder)


@pytest.mark.parametrize(
    "kind", [Import, ImportSmall, Replace, Repair, SendToFolder, ExportAnew, Split], ids=lambda kind: kind.__name__
)
def test_cut_after_a_kill_and_a_run_that_ended_well(
    kind: type[Job], given: Given, loop: LoopDisk, long: bool, seed: int
) -> None:
    """What the killed run has left without a sync counts for the next one; its exit code 0 vouches for it."""
    rng = random.Random(f"{seed} {kind.__name__} killed")
    counted = Moment(loop)
    twin = kind(given, loop.root / f"{kind.__name__}-twin")
    twin.prepare()
    assert run_until(twin, counted) is None
    # Most of the names are given in the end.
    last = range(max(0, counted.steps - 40), counted.steps)
    for at in rng.sample(last, 12 if long else 1):
        job = kind(given, loop.root / f"{kind.__name__}-killed-{at}")
        job.prepare()
        loop.sync()
        try:
            job.run(KilledDisk(at), Run())
        except Killed:
            close_files_below(loop.root)
        ended_well = run_again(job)
        loop.cut(LOG_IS_LOST)
        loop.restart()
        where = f"--seed {seed}, step {at} of {counted.steps}"
        assert not job.wrong(), (where, job.wrong())
        assert not ended_well or not job.missing(), (where, job.missing())
        shutil.rmtree(job.folder)
