"""Every job that writes files that count, in one form: for failing disks, kills, and enemies of paths.

Run as a program, by ``DYING_JOB``, it dies at every call: each run is a process that is forked, because a new Python
takes longer, and a process with threads must not fork.
"""

# ruff: noqa: T201

from __future__ import annotations

import hashlib
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from ollama_ferry.errors import FerryError
from ollama_ferry.files.disk import Disk
from ollama_ferry.jobs.export import ExportOptions, export_to_file, plan_export
from ollama_ferry.jobs.import_ import import_file
from ollama_ferry.jobs.import_choices import ImportOptions
from ollama_ferry.jobs.repair import repair
from ollama_ferry.jobs.send import SendOptions, send
from ollama_ferry.jobs.send_targets import FolderTarget
from ollama_ferry.jobs.verify import verify_place
from ollama_ferry.places.store.pulled import PULLED
from ollama_ferry.places.store.store import Store
from support.faulty_disk import DeadlyDisk
from support.stores import StoreBuilder, faults_of, tree, weights

_CODE = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent.parent)!r})
from support.writing_jobs import main
main()
"""
DYING_JOB = [sys.executable, "-c", _CODE]
"""The rest of the command: the job, the folder of the material, the address of the registry, a folder to work in."""

VOLUME = 200_000


@dataclass(frozen=True)
class Material:
    """What the jobs work with.

    Attributes:
        folder: holds a store, ``source``, and an archive of all its models, ``all.tar``.
        registry: an address that serves the same models; empty where there is none.
    """

    folder: Path
    registry: str = ""

    @property
    def source(self) -> Path:
        return self.folder / "source"

    @property
    def archive(self) -> Path:
        return self.folder / "all.tar"

    @classmethod
    def make(cls, folder: Path) -> Material:
        made = cls(folder)
        source = StoreBuilder(made.source)
        shared = weights(300_000)
        source.model("a:1", [("model", shared), ("template", b"one")])
        source.model("org/b:Q4", [("model", weights(150_000, 5)), ("license", shared)])
        store = Store(made.source)
        export_to_file(store, plan_export(store, store.names()), made.archive, ExportOptions())
        return made


class WritingJob:
    """A job that writes into a folder of its own.

    Args:
        material: what it works with.
        target: the folder.
    """

    def __init__(self, material: Material, target: Path) -> None:
        self.material = material
        self.target = target

    def prepare(self) -> None:
        """Make the target as it is before the job."""
        self.target.mkdir(parents=True)

    def run(self, disk: Disk) -> None:
        """Do it once; a failure is a FerryError."""
        raise NotImplementedError

    def faults(self) -> list[str]:
        """Return what is wrong with what has its final name."""
        raise NotImplementedError

    def is_complete(self) -> bool:
        """Return whether all is there that the job was to make, whatever else may be."""
        raise NotImplementedError

    def leftovers(self) -> list[str]:
        """Return what is there beside that and was not before."""
        raise NotImplementedError

    def is_done(self) -> bool:
        """Return whether the target is what the job was to make of it, and nothing of its work is left."""
        return self.is_complete() and not self.faults() and not self.leftovers()


class Export(WritingJob):
    options = ExportOptions()

    @property
    def path(self) -> Path:
        return self.target / "all.tar"

    def run(self, disk: Disk) -> None:
        store = Store(self.material.source)
        export_to_file(store, plan_export(store, store.names()), self.path, self.options, disk=disk)

    def faults(self) -> list[str]:
        whole = self.material.archive.read_bytes()
        return [] if not self.path.exists() or self.path.read_bytes() == whole else ["the archive is not whole"]

    def is_complete(self) -> bool:
        return self.path.exists() and self.path.read_bytes() == self.material.archive.read_bytes()

    def leftovers(self) -> list[str]:
        return [name for name in os.listdir(self.target) if name != self.path.name]


class _ExportOver(Export):
    """An export that replaces an archive."""

    options = ExportOptions(replace=True)

    def prepare(self) -> None:
        super().prepare()
        self.path.write_bytes(b"earlier")

    def faults(self) -> list[str]:
        return [] if self.path.exists() and self.path.read_bytes() == b"earlier" else super().faults()


class _Split(Export):
    options = ExportOptions(split=VOLUME)

    def parts(self) -> list[bytes]:
        whole = self.material.archive.read_bytes()
        return [whole[start : start + VOLUME] for start in range(0, len(whole), VOLUME)]

    def faults(self) -> list[str]:
        parts = self.parts()
        found = [path for path in self.target.iterdir() if path.suffix[1:].isdigit()]
        wrong = [path.name for path in found if path.read_bytes() != parts[int(path.suffix[1:]) - 1]]
        sums = self.target / "all.sha256"
        if sums.exists():
            for line in sums.read_text().splitlines():
                sha256, _, name = line.partition("  ")
                here = self.target / name
                if not here.exists() or hashlib.sha256(here.read_bytes()).hexdigest() != sha256:
                    wrong.append(f"the sum of {name}")
        return wrong

    def names(self) -> set[str]:
        return {f"all.tar.{number:03d}" for number in range(1, len(self.parts()) + 1)} | {"all.sha256"}

    def is_complete(self) -> bool:
        return self.names() <= set(os.listdir(self.target))

    def leftovers(self) -> list[str]:
        return sorted(set(os.listdir(self.target)) - self.names())


class _IntoStore(WritingJob):
    def prepare(self) -> None:
        StoreBuilder(self.target).model("neighbour", [("model", b"must stay"), ("template", b"one")])

    def faults(self) -> list[str]:
        stays = (self.target / "manifests/registry.ollama.ai/library/neighbour/latest").exists()
        return faults_of(self.target) + ([] if stays else ["the neighbour is gone"])

    def is_complete(self) -> bool:
        return not tree(self.material.source).items() - tree(self.target).items()

    def leftovers(self) -> list[str]:
        here = [path.relative_to(self.target).as_posix() for path in self.target.rglob("*")]
        # What a pull put there is noted beside it, for the next one.
        stays = ("manifests", PULLED)
        return [name for name in here if not name.startswith(("blobs", "manifests/registry")) and name not in stays]


class _Import(_IntoStore):
    def run(self, disk: Disk) -> None:
        import_file(self.material.archive, Store(self.target), ImportOptions(), disk=disk)


class _Pull(_IntoStore):
    def run(self, disk: Disk) -> None:
        from ollama_ferry.jobs.pull import pull_into_store
        from ollama_ferry.places.registry.references import parse_reference
        from ollama_ferry.registries.access import Access

        references = {
            name: parse_reference(f"{self.material.registry}/{'/'.join(name.parts[1:3])}:{name.tag}")
            for name in Store(self.material.source).names()
        }
        pull_into_store(references, Store(self.target), ImportOptions(), Access(insecure=True), disk=disk)


class _Send(_IntoStore):
    def run(self, disk: Disk) -> None:
        store = Store(self.material.source)
        (sent,) = send(store, store.names(), [FolderTarget(self.target, disk=disk)], SendOptions())
        if sent.error is not None:
            raise sent.error


class _Repair(_IntoStore):
    """All blobs of the archive are there with their size, and none with its bytes."""

    def prepare(self) -> None:
        super().prepare()
        kept = {path.name for path in (self.target / "blobs").iterdir()}
        import_file(self.material.archive, Store(self.target), ImportOptions())
        for blob in (self.target / "blobs").iterdir():
            if blob.name not in kept:
                blob.write_bytes(bytes(blob.stat().st_size))

    def run(self, disk: Disk) -> None:
        store = Store(self.target)
        repair(store, verify_place(store, store.names()), self.material.archive, disk=disk)

    def faults(self) -> list[str]:
        # What is still damaged, or was put aside as something else had got its name: no model was whole before.
        zeros = {path.name for path in (self.target / "blobs").iterdir() if not any(path.read_bytes())}
        gone = {path.name for path in (self.material.source / "blobs").iterdir()} - set(
            os.listdir(self.target / "blobs")
        )
        return [
            fault
            for fault in super().faults()
            if fault.partition(" ")[0] not in zeros and fault.rpartition(" lacks ")[2] not in gone
        ]


JOBS: dict[str, type[WritingJob]] = {
    "export": Export,
    "export over another": _ExportOver,
    "split": _Split,
    "import": _Import,
    "pull": _Pull,
    "repair": _Repair,
    "send": _Send,
}


def main() -> None:
    """Die at every call of a job, and print at how many."""
    name, material, registry, work = sys.argv[1:]
    for number in range(100_000):
        job = JOBS[name](Material(Path(material), registry), Path(work) / str(number))
        job.prepare()
        status = _in_a_child(job, DeadlyDisk(number))
        assert status in (0, 9), status
        assert not job.faults(), (number, job.faults())
        if status == 0 and job.is_done():
            print(number)
            return
        assert _in_a_child(job, Disk()) in (0, 7), number
        assert job.is_done(), (number, sorted(os.listdir(job.target)))
    raise AssertionError("it never came to its end")


def _in_a_child(job: WritingJob, disk: Disk) -> int:
    child = os.fork()
    if child == 0:
        try:
            job.run(disk)
        except FerryError as error:
            print(repr(error), error.hint, file=sys.stderr)
            os._exit(error.exit_code)
        except BaseException as error:
            print(repr(error), file=sys.stderr)
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
