"""Hash the blobs of a place on all cores."""

from __future__ import annotations

import hashlib
import queue
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from typing import Protocol

from ollama_ferry.engine.buffers import keep_freed_buffers
from ollama_ferry.engine.cores import threads_at_once
from ollama_ferry.engine.events import Advanced, Cancel
from ollama_ferry.engine.ports import Readable
from ollama_ferry.engine.run import Run
from ollama_ferry.errors import Cancelled, FerryError, NotPermitted
from ollama_ferry.jobs.report import Fault, Problem, content_problem
from ollama_ferry.model.manifests import Descriptor, Digest

_CHUNK = 1024 * 1024


class Hashable(Protocol):
    """A place whose blobs can be opened from several threads."""

    def open(self, blob: Descriptor, offset: int = 0) -> AbstractContextManager[Readable]: ...


def hash_all(place: Hashable, blobs: Iterable[Descriptor], threads: int, run: Run) -> dict[Digest, Problem]:
    """Hash blobs on several threads; return what is wrong."""
    keep_freed_buffers()
    # The largest first, lest it be the last one and run alone.
    ordered = sorted(blobs, key=lambda blob: (-blob.size, blob.digest))
    work = _Work(place, Cancel(), deque(ordered))
    found: dict[Digest, Problem] = {}
    left = len(ordered)
    workers = threads or threads_at_once()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="verify")
    try:
        for _ in range(workers):
            pool.submit(work.hash_waiting)
        while left:
            run.check()
            try:
                report = work.reports.get(timeout=0.5)
            except queue.Empty:
                continue
            if isinstance(report, int):
                run.notify(Advanced(report))
            elif isinstance(report, BaseException):
                raise report
            else:
                left -= 1
                digest, problem = report
                if problem is not None:
                    found[digest] = problem
    finally:
        work.waiting.clear()
        work.stop.set()
        pool.shutdown()
    return found


def hash_of(data: Readable, advanced: Callable[[int], None]) -> str:
    """Return the SHA-256 of a blob's bytes, which are read to their end."""
    hashed = hashlib.sha256()
    while chunk := data.read(_CHUNK):
        hashed.update(chunk)
        advanced(len(chunk))
    return hashed.hexdigest()


@dataclass
class _Work:
    """Blobs being hashed by threads that report through a queue."""

    place: Hashable
    stop: Cancel
    waiting: deque[Descriptor]
    reports: queue.SimpleQueue[int | tuple[Digest, Problem | None] | BaseException] = field(
        default_factory=queue.SimpleQueue
    )

    def hash_waiting(self) -> None:
        """Hash one blob after the other; a task for each of 50,000 would take more memory than all else."""
        with suppress(IndexError):
            while True:
                self._hash(self.waiting.popleft())

    def _hash(self, blob: Descriptor) -> None:
        try:
            problem = self._compare(blob)
        except BaseException as error:  # noqa: BLE001 -- raised again in the caller's thread
            self.reports.put(error)
        else:
            self.reports.put((blob.digest, problem))

    def _compare(self, blob: Descriptor) -> Problem | None:
        try:
            with self.place.open(blob) as data:
                actual = hash_of(data, self._advanced)
        except (Cancelled, NotPermitted):
            raise
        except FerryError as error:
            return Problem(Fault.UNREADABLE, str(error), blob)
        except OSError as error:
            return Problem(Fault.UNREADABLE, str(error.strerror or error), blob)
        return None if actual == blob.digest.hex else content_problem(blob, actual)

    def _advanced(self, amount: int) -> None:
        self.stop.check()
        self.reports.put(amount)
