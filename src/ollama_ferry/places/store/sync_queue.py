"""Blobs that have all their bytes, on their way to the disk: a large one alone, of small ones many at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

from ollama_ferry.errors import FerryError
from ollama_ferry.files.draft import Draft
from ollama_ferry.model.manifests import Descriptor

# Syncs that wait at once, where the journal takes many in one go; and how many files, all of them open.
_THREADS = 8
_FILES_WAITING = 64
# Blobs of up to so many bytes are synced together, so many at a time.
_SMALL = 256 * 1024
_TOGETHER = 48


class Arrived(NamedTuple):
    """A blob whose bytes are all in its file.

    Attributes:
        blob: the blob.
        draft: the file.
        resumed: an earlier run has written a part of it.
    """

    blob: Descriptor
    draft: Draft
    resumed: bool


class SyncQueue:
    """Brings blobs to the disk beside those that still arrive.

    Args:
        bring: does it for some blobs, on a thread.
    """

    def __init__(self, bring: Callable[[Sequence[Arrived]], None]) -> None:
        self._bring = bring
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="sync")
        # With each, how many files it is about.
        self._waiting: deque[tuple[Future[None], int]] = deque()
        self._small: list[Arrived] = []

    def add(self, arrived: Arrived) -> None:
        """Take a blob; waits where too many are on their way.

        Raises:
            FerryError, OSError: one that was taken before is not safe.
        """
        if arrived.resumed or arrived.blob.size > _SMALL:
            self._submit([arrived])
            return
        self._small.append(arrived)
        if len(self._small) >= _TOGETHER:
            self._submit_small()

    def finish(self) -> None:
        """Wait until all that was taken is safe.

        Raises:
            FerryError, OSError: the first is not.
        """
        failure: FerryError | OSError | None = None
        try:
            self._submit_small()
        except (FerryError, OSError) as error:
            failure = error
        while self._waiting:
            try:
                self._await_one()
            except (FerryError, OSError) as error:
                failure = failure or error
        if failure is not None:
            raise failure

    def close(self) -> None:
        """Let the threads end; what was not waited for is still done."""
        self._threads.shutdown()

    def _submit_small(self) -> None:
        small, self._small = self._small, []
        if small:
            self._submit(small)

    def _submit(self, arrived: list[Arrived]) -> None:
        future = self._threads.submit(self._bring, arrived)
        self._waiting.append((future, len(arrived)))
        while len(self._waiting) > 1 and sum(count for _, count in self._waiting) > _FILES_WAITING:
            self._await_one()

    def _await_one(self) -> None:
        future, _ = self._waiting.popleft()
        future.result()
