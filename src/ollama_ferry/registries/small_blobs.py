"""Small blobs ahead of their turn: one after the other, thousands would wait for the line and not for the bytes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor

from ollama_ferry.manifests import Descriptor, Digest

_SMALL = 1024 * 1024
# Fewer are not worth the threads.
_WORTH_IT = 8
_THREADS = 8
_AHEAD = 16


class SmallBlobs:
    """Fetches blobs of up to 1 MiB some ahead; at most sixteen of them are in memory.

    Args:
        fetch: returns a blob's bytes; called from several threads.
    """

    def __init__(self, fetch: Callable[[Descriptor], bytes]) -> None:
        self._fetch = fetch
        self._waiting: deque[Descriptor] = deque()
        self._coming: dict[Digest, Future[bytes]] = {}
        self._threads: ThreadPoolExecutor | None = None

    def expect(self, blobs: Iterable[Descriptor]) -> None:
        """Learn which blobs will be taken, in order; what was expected before is forgotten."""
        self.close()
        small = [blob for blob in blobs if blob.size <= _SMALL]
        if len(small) >= _WORTH_IT:
            self._waiting.extend(small)
            self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="small")
            self._fetch_more()

    def take(self, blob: Descriptor) -> bytes | None:
        """Return a blob's bytes; None for one that is not on its way. What its fetching raised is raised here."""
        coming = self._coming.get(blob.digest)
        if coming is None:
            return None
        try:
            return coming.result()
        finally:
            del self._coming[blob.digest]
            self._fetch_more()

    def close(self) -> None:
        """Fetch no more."""
        self._waiting.clear()
        self._coming.clear()
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)
            self._threads = None

    def _fetch_more(self) -> None:
        while self._threads is not None and self._waiting and len(self._coming) < _AHEAD:
            blob = self._waiting.popleft()
            self._coming[blob.digest] = self._threads.submit(self._fetch, blob)
