"""Small blobs side by side: one after the other, thousands would wait for the line and not for the bytes."""

from __future__ import annotations

import concurrent.futures
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor

from ollama_ferry.engine.run import Run
from ollama_ferry.model.manifests import Descriptor, Digest

SMALL_LIMIT = 1024 * 1024
"""The largest blob that counts as small, in bytes."""
SMALL_AT_ONCE = 8
"""How many are on their way at once."""
# Fewer are not worth the threads.
_WORTH_IT = 8
_AHEAD = 16
_WAKE = 0.2


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
        small = [blob for blob in blobs if blob.size <= SMALL_LIMIT]
        if len(small) >= _WORTH_IT:
            self._waiting.extend(small)
            self._threads = ThreadPoolExecutor(SMALL_AT_ONCE, thread_name_prefix="small")
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


class SmallUploads:
    """Sends blobs of up to 1 MiB; at most sixteen of them are in memory.

    Args:
        send: sends a blob's bytes; called from several threads.
        run: ends every wait.
    """

    def __init__(self, send: Callable[[Descriptor, bytes], None], run: Run) -> None:
        self._send = send
        self._run = run
        self._going: set[Future[None]] = set()
        self._threads: ThreadPoolExecutor | None = None

    def put(self, blob: Descriptor, content: bytes) -> None:
        """Send a blob soon. What sending an earlier one raised may be raised here, when none is on its way any more."""
        while len(self._going) >= _AHEAD:
            self._await_some()
        if self._threads is None:
            self._threads = ThreadPoolExecutor(SMALL_AT_ONCE, thread_name_prefix="small")
        self._going.add(self._threads.submit(self._send, blob, content))

    def wait(self) -> None:
        """Wait until all are there; what sending one raised is raised here, when none is on its way any more."""
        while self._going:
            self._await_some()
        self._let_go()

    def _await_some(self) -> None:
        ended: set[Future[None]] = set()
        while not ended:
            self._run.check()
            ended, self._going = concurrent.futures.wait(
                self._going, _WAKE, return_when=concurrent.futures.FIRST_COMPLETED
            )
        failed = next((sending for sending in ended if sending.exception() is not None), None)
        if failed is None:
            return
        self.drain()
        failed.result()

    def drain(self) -> None:
        """Send no more, and wait until none is on its way: whoever tries again counts on that."""
        self._let_go()
        self._going = {sending for sending in self._going if not sending.cancelled()}
        while self._going:
            self._run.check()
            _, self._going = concurrent.futures.wait(self._going, _WAKE)

    def _let_go(self) -> None:
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)
            self._threads = None
