"""What a running Ollama does for us: list, pull, copy and delete models.

Source: ``docs/api.md`` and ``server/routes.go`` of Ollama. The server is called directly, never through a proxy, as for
:mod:`ollama_ferry.ollama.server`. Nothing that it answers is trusted: lines and lists are bounded, and unknown fields
are passed over.
"""

from __future__ import annotations

import http.client
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from ollama_ferry.errors import FerryError, InvalidName, ModelNotFound, Unreachable
from ollama_ferry.model.manifests import SIZE_LIMIT
from ollama_ferry.model.names import ModelName
from ollama_ferry.ollama.server import ServerAddress

_ANSWER_LIMIT = 16 * 1024 * 1024
_LINE_LIMIT = 64 * 1024
_TIMEOUT = 30.0
_DIGEST = re.compile(r"(?:sha256:)?[0-9a-f]{64}")
_NOTHING = object()
# While a server hashes a blob of 40 GB, or starts a line that stalled anew, it says nothing.
_SILENCE = 600.0


@dataclass(frozen=True)
class Pulled:
    """A line of a pull's progress.

    Attributes:
        digest: the blob that it is about, or an empty text.
        completed: how many bytes of it are there.
    """

    digest: str
    completed: int


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

    def pull(self, model: str) -> Iterator[Pulled]:
        """Let it pull a model, plainly if need be; give its progress until it has ended well.

        Whoever stops iterating ends the pull: the server gives up when its client goes.

        Raises:
            Unreachable: the line to it broke.
            FerryError: it could not do it; with what it says.
        """
        body = {"model": model, "name": model, "insecure": True, "stream": True}
        with self._answer("POST", "/api/pull", body, _SILENCE) as response:
            ended = False
            while line := response.readline(_LINE_LIMIT + 1):
                if len(line) > _LINE_LIMIT:
                    raise FerryError(f"the server at {self.address} answers in lines of over {_LINE_LIMIT} bytes")
                said = _object(line)
                if isinstance(said.get("error"), str):
                    raise FerryError(f"the server at {self.address} could not pull {model}: {_shown(said['error'])}")
                status, digest, completed = said.get("status"), said.get("digest"), said.get("completed")
                ended = status == "success"
                yield Pulled(
                    digest if isinstance(digest, str) and _DIGEST.fullmatch(digest) else "",
                    completed if isinstance(completed, int) and 0 <= completed < SIZE_LIMIT else 0,
                )
            if not ended:
                raise Unreachable(
                    f"the server at {self.address} broke off in the middle of pulling {model}",
                    hint="Run the same command again: what it has of the model is kept there.",
                )

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
        try:
            data = json.dumps(body).encode() if body is not None else None
            connection.request(method, self.address.path + path, data, {"Content-Type": "application/json"})
            response = connection.getresponse()
            if response.status == 404:
                raise ModelNotFound(f"the server at {self.address} knows no such model ({path})")
            if response.status != 200:
                said = _object(response.read(_LINE_LIMIT)).get("error")
                why = _shown(said) if isinstance(said, str) else f"status {response.status}"
                raise FerryError(f"the server at {self.address} refused {path}: {why}")
            yield response
        except (OSError, http.client.HTTPException) as error:
            raise Unreachable(
                f"the Ollama server at {self.address} can't be reached, or the line broke: {error}",
                hint="Is it running? OLLAMA_HOST names it, as for Ollama itself.",
            ) from error
        finally:
            connection.close()


def _shown(text: str) -> str:
    """Return a server's words for people: not too many, and none that a terminal obeys."""
    return ascii(text[:500])[1:-1]


def _object(raw: bytes) -> dict[str, Any]:
    """Read a JSON object; anything else is an empty one."""
    try:
        found = json.loads(raw)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
