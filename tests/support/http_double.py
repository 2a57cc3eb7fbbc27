"""How the doubles of servers are run: in a thread of the test, and silent when a line breaks."""

from __future__ import annotations

import contextlib
import http.client
import ssl
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class DoubleServer(ThreadingHTTPServer):
    """Answers each request in a thread that no test waits for."""

    daemon_threads = True
    # As many as come at once: a line that is refused is made by a test, not by a queue that is full.
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        # Whoever asked has gone, or whom the double asks in its turn has, in the middle of an answer: what many tests
        # are about. Nothing of it may get into what the command under test says.
        if not isinstance(sys.exc_info()[1], (OSError, http.client.HTTPException)):
            super().handle_error(request, client_address)


@contextlib.contextmanager
def answering(handler: type[BaseHTTPRequestHandler], context: ssl.SSLContext | None = None) -> Iterator[str]:
    """Serve until the block ends.

    Args:
        handler: answers the requests.
        context: what the server's side of TLS needs; None speaks plain HTTP.

    Yields:
        The address, ``127.0.0.1:PORT``.
    """
    server = DoubleServer(("127.0.0.1", 0), handler)
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
