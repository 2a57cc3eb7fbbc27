"""What a running Ollama does for us: list, pull, copy and delete models.

Source: ``docs/api.md`` and ``server/routes.go`` of Ollama. The server is called directly, never through a proxy, as for
:mod:`ollama_ferry.ollama.server`. Nothing that it answers is trusted: lines and lists are bounded, and unknown fields
are passed over.
"""

from __future__ import annotations

import http.client
import json
import re
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from ollama_ferry.errors import Damaged, FerryError, InvalidName, ModelNotFound, Refused, Unreachable
from ollama_ferry.model.manifests import SIZE_LIMIT, parse_json
from ollama_ferry.model.names import ModelName
from ollama_ferry.ollama.server import ServerAddress

_ANSWER_LIMIT = 16 * 1024 * 1024
_LINE_LIMIT = 64 * 1024
_TIMEOUT = 30.0
_DIGEST = re.compile(r"(?:sha256:)?[0-9a-f]{64}")
_NOTHING = object()
# What ``PullModel`` of ``server/images.go`` says from the end of the download on.
_HASHING = ("verifying", "writing manifest", "removing", "success")
# While a server hashes a blob of 40 GB, or starts a line that stalled anew, it says nothing.
_SILENCE = 600.0
# How long it takes at most to read what has come already.
_LOOK = 1.0
_WAKE = 0.1


@dataclass(frozen=True)
class Pulled:
    """A line of a pull's progress.

    Attributes:
        digest: the blob that it is about, or an empty text.
        completed: how many bytes of it are there.
    """

    digest: str
    completed: int


class Pulling:
    """A pull under way; gives its progress until it has ended well. An interrupt while it waits leaves it as it is.

    Args:
        address: the server's.
        model: what it pulls.
        response: its answer.

    Attributes:
        hashing: whether it has all bytes, and gives the model its name whether its client is there or not.
    """

    def __init__(self, address: ServerAddress, model: str, response: http.client.HTTPResponse) -> None:
        self.hashing = False
        self._address = address
        self._model = model
        self._response = response
        self._ended = False

    def outlast_hashing(self, told: Callable[[], None]) -> None:
        """Wait for the pull's end where it can't be stopped any more; whatever it comes to.

        Args:
            told: called where it has to be waited for.
        """
        # What has come, and was not read yet, tells. A read that waits can be given up by another thread alone.
        thread = threading.Thread(target=self._read_on, name="pull", daemon=True)
        thread.start()
        end = time.monotonic() + _LOOK
        while thread.is_alive() and not self.hashing and time.monotonic() < end:
            thread.join(_WAKE)
        if self.hashing and thread.is_alive():
            told()
        while self.hashing and thread.is_alive():
            thread.join(_WAKE)

    def _read_on(self) -> None:
        with suppress(FerryError, OSError, ValueError, http.client.HTTPException):
            deque(self, maxlen=0)

    def __iter__(self) -> Iterator[Pulled]:
        return self

    def __next__(self) -> Pulled:
        """Wait for the next line.

        Raises:
            Unreachable: the line to the server broke.
            Refused: it could not do it; with what it says.
        """
        line = self._response.readline(_LINE_LIMIT + 1)
        if len(line) > _LINE_LIMIT:
            raise FerryError(f"the server at {self._address} answers in lines of over {_LINE_LIMIT} bytes")
        if not line:
            if self._ended:
                raise StopIteration
            raise Unreachable(
                f"the server at {self._address} broke off in the middle of pulling {self._model}",
                hint="Run the same command again: what it has of the model is kept there.",
            )
        said = _object(line)
        if isinstance(said.get("error"), str):
            raise Refused(f"the server at {self._address} could not pull {self._model}: {_shown(said['error'])}")
        status, digest, completed = said.get("status"), said.get("digest"), said.get("completed")
        self._ended = status == "success"
        self.hashing = isinstance(status, str) and status.startswith(_HASHING)
        return Pulled(
            digest if isinstance(digest, str) and _DIGEST.fullmatch(digest) else "",
            completed if isinstance(completed, int) and 0 <= completed < SIZE_LIMIT else 0,
        )


class ServerApi:
    """A running server.

    Args:
        address: where it listens.
    """

    def __init__(self, address: ServerAddress) -> None:
        self.address = address

    def models(self) -> dict[ModelName, str]:
        """Return the models that it lists, each with the SHA-256 of its manifest in hexadecimal.

        Raises:
            Unreachable: nobody answers there.
            FerryError: what answers is no Ollama.
        """
        answer = self._ask("GET", "/api/tags")
        entries = answer.get("models", _NOTHING)
        if entries is not None and not isinstance(entries, list):
            raise FerryError(
                f"what answers at {self.address} lists no models: it is no Ollama",
                hint="OLLAMA_HOST names the server, as for Ollama itself.",
            )
        found: dict[ModelName, str] = {}
        for entry in entries or ():
            name, digest = (entry.get("name"), entry.get("digest")) if isinstance(entry, dict) else (None, None)
            if isinstance(name, str) and isinstance(digest, str) and _DIGEST.fullmatch(digest):
                try:
                    found[ModelName.parse(name)] = digest.removeprefix("sha256:")
                except InvalidName:
                    continue
        return found

    @contextmanager
    def pulling(self, model: str) -> Iterator[Pulling]:
        """Let it pull a model, plainly if need be, from the beginning of the block to its end.

        Whoever leaves the block early ends the pull: the server gives up when its client goes, but for a model whose
        bytes are all there and are being hashed, which gets its name when that is done.

        Raises:
            Unreachable: the line to it broke.
            FerryError: it refused.
        """
        body = {"model": model, "name": model, "insecure": True, "stream": True}
        with self._answer("POST", "/api/pull", body, _SILENCE) as response:
            yield Pulling(self.address, model, response)

    def copy(self, source: str, target: str) -> None:
        """Give a model a second name, which takes the place of a model of that name.

        Raises:
            FerryError: it could not be done.
        """
        self._ask("POST", "/api/copy", {"source": source, "destination": target})

    def delete(self, model: str) -> None:
        """Remove a model's name, and the blobs that no other model needs.

        Raises:
            ModelNotFound: there is none of that name.
            FerryError: it could not be done.
        """
        self._ask("DELETE", "/api/delete", {"model": model, "name": model})

    def _ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        with self._answer(method, path, body, _TIMEOUT) as response:
            raw = response.read(_ANSWER_LIMIT + 1)
        if not raw:
            return {}
        if len(raw) > _ANSWER_LIMIT:
            raise FerryError(f"what {self.address} answers to {path} has over {_ANSWER_LIMIT} bytes")
        return _object(raw)

    @contextmanager
    def _answer(
        self, method: str, path: str, body: dict[str, Any] | None, timeout: float
    ) -> Iterator[http.client.HTTPResponse]:
        connect = http.client.HTTPSConnection if self.address.scheme == "https" else http.client.HTTPConnection
        connection = connect(self.address.host, self.address.port, timeout=timeout)
        line: socket.socket | None = None
        try:
            connection.connect()
            line = connection.sock
            data = json.dumps(body).encode() if body is not None else None
            connection.request(method, self.address.path + path, data, {"Content-Type": "application/json"})
            response = connection.getresponse()
            if response.status == 404:
                raise ModelNotFound(f"the server at {self.address} knows no such model ({path})")
            if response.status != 200:
                said = _object(response.read(_LINE_LIMIT)).get("error")
                why = _shown(said) if isinstance(said, str) else f"status {response.status}"
                raise Refused(f"the server at {self.address} refused {path}: {why}", status=response.status)
            yield response
        except (OSError, http.client.HTTPException) as error:
            raise Unreachable(
                f"the Ollama server at {self.address} can't be reached, or the line broke: {error}",
                hint="Is it running? OLLAMA_HOST names it, as for Ollama itself.",
            ) from error
        finally:
            if line is not None:
                # Ends what another thread may still wait for.
                with suppress(OSError):
                    line.shutdown(socket.SHUT_RDWR)
            connection.close()


def _shown(text: str) -> str:
    """Return a server's words for people: not too many, and none that a terminal obeys."""
    return repr(text[:500])[1:-1]


def _object(raw: bytes) -> dict[str, Any]:
    """Read a JSON object; anything else is an empty one."""
    try:
        found = parse_json(raw)
    except Damaged:
        return {}
    return found if isinstance(found, dict) else {}
