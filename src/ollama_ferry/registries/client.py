"""Requests to a registry: logins, redirects, and trying again what may come right.

Source: the OCI distribution specification 1.1. A credential goes to the registry itself and to the token server that it
names, and never along with a redirect to another host.
"""

from __future__ import annotations

import time
import urllib.parse
from collections.abc import Callable, Collection, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TypeVar

from ollama_ferry._version import __version__
from ollama_ferry.engine.rate import RateLimit, Slowed
from ollama_ferry.engine.run import Run
from ollama_ferry.errors import Damaged, FerryError, Unreachable
from ollama_ferry.registries.access import Access
from ollama_ferry.registries.answers import (
    FAILURES,
    Answer,
    ConnectionBroke,
    NotConnected,
    NotTrusted,
    TlsEnded,
    broken,
)
from ollama_ferry.registries.challenges import parse_challenge
from ollama_ferry.registries.connections import Connections, Origin, absolute, origin_of
from ollama_ferry.registries.docker_hub import registry_host
from ollama_ferry.registries.logins import Logins
from ollama_ferry.registries.refusals import PASSING, REDIRECTS, explanation, registry_refusal, unreachable
from ollama_ferry.registries.retries import Tries
from ollama_ferry.registries.tokens import TOKEN_LIMIT, Authorization, TokenRequest

_MOST_REDIRECTS = 10
# A host that has never answered is more likely mistyped than busy.
_ATTEMPTS_AT_FIRST = 2

T = TypeVar("T")


@dataclass(frozen=True)
class _Request:
    """A request as it is sent again and again, and on to where a redirect leads; see :meth:`Client.ask`."""

    method: str
    url: str
    scope: str
    what: str
    headers: Mapping[str, str]
    body: bytes | memoryview | None


class Client:
    """Talks to one registry, from any thread; use it in a ``with`` block.

    Args:
        registry: ``host`` or ``host:port``, as a reference gives it.
        access: what the user allows.
        run: ends every wait; so does the end of the block.

    Raises:
        FerryError: a certificate that was named can't be used.
    """

    def __init__(self, registry: str, access: Access, run: Run | None = None) -> None:
        self.registry = registry
        self.access = access
        self.run = (run or Run()).part()
        self.rate_limit = RateLimit(access.bytes_per_second)
        self.base = f"{'http' if access.insecure else 'https'}://{registry_host(registry)}"
        self.origin = origin_of(self.base, plain=access.insecure)
        self._connections = Connections(self.origin, registry, access)
        self._logins = Logins(registry, access.environ, self._ask_for_token)
        self._answered: set[Origin] = set()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        # Threads that were left behind try no further.
        self.run.cancel.set()
        self._connections.close()

    def ask(
        self,
        method: str,
        url: str,
        *,
        scope: str,
        what: str,
        accept: Collection[int],
        headers: Mapping[str, str] | None = None,
        body: bytes | memoryview | None = None,
        once: bool = False,
    ) -> Answer:
        """Send a request until there is an answer of use.

        Args:
            method: the HTTP method; redirects are followed for GET and HEAD.
            url: absolute, or a path of the registry.
            scope: the right that it needs, as ``repository:NAME:pull``.
            what: what is being done, for messages: ``reading the manifest of …``.
            accept: the statuses that are returned; all others raise.
            headers: further headers.
            body: what is sent along.
            once: try no second time; a failure of the line is told by ConnectionBroke.

        Raises:
            NotPermitted: the registry wants another login.
            NotFound: there is no such thing.
            Unreachable: the registry can't be reached, or has no time for us.
            FerryError: it refuses for another reason.
            ConnectionBroke: see ``once``.
        """
        request = _Request(method, urllib.parse.urljoin(self.base, url), scope, what, headers or {}, body)
        return self._insist(lambda: self._follow(request), lambda answer: answer, what, accept, scope=scope, once=once)

    def read(
        self, url: str, *, scope: str, what: str, limit: int, kind: str, headers: Mapping[str, str]
    ) -> tuple[bytes, Answer]:
        """Ask for something short until all of it is there; return its bytes, and the answer for its headers.

        Args:
            url, scope, what, headers: see :meth:`ask`.
            limit: how many bytes it may have.
            kind: what it is, for messages: ``a manifest``.

        Raises:
            Damaged: it has more bytes.
            FerryError: see :meth:`ask`.
        """
        request = _Request("GET", urllib.parse.urljoin(self.base, url), scope, what, headers, None)

        def take(answer: Answer) -> tuple[bytes, Answer]:
            with answer:
                return answer.read_whole(limit, kind), answer

        return self._insist(lambda: self._follow(request), take, what, (200,), scope=scope)

    def tries(self) -> Tries:
        """Return a count of attempts at one thing."""
        return Tries(self.access.patience, self.run)

    def unreachable(self, what: str, trouble: str, origin: Origin | None = None) -> Unreachable:
        """Return the error for a line that failed for good.

        Args:
            what: what was being done.
            trouble: what the last failure was.
            origin: whom the line led to, where that may be another host than the registry.
        """
        host = str(origin) if origin not in (None, self.origin) else self.registry
        return unreachable(what, host, trouble, self.registry, self.access, answered=bool(self._answered))

    def absolute(self, base: str, location: str, what: str) -> str:
        """Return what a ``Location`` from outside means; see :func:`absolute`."""
        return self._naming(what, lambda: absolute(base, location))

    def origin_at(self, url: str, what: str) -> Origin:
        """Return where a URL from outside leads; see :func:`origin_of`."""
        return self._naming(what, lambda: origin_of(url, plain=self.access.insecure))

    def _naming(self, what: str, read: Callable[[], T]) -> T:
        try:
            return read()
        except Damaged as error:
            raise Damaged(f"{what}: {self.registry}: {error.message}", hint=error.hint) from error

    def _insist(
        self,
        send: Callable[[], Answer],
        take: Callable[[Answer], T],
        what: str,
        accept: Collection[int],
        *,
        scope: str,
        origin: Origin | None = None,
        once: bool = False,
    ) -> T:
        """Send a request until there is an answer of use, and what is wanted of it could be taken."""
        tries = self.tries()
        while True:
            self.run.check()
            pause = 0.0
            try:
                answer = send()
                if answer.status in accept:
                    return take(answer)
                with answer:
                    if answer.status not in PASSING:
                        raise self._refusal(answer, what, scope)
                    trouble, pause = f"it answers {answer.status}{explanation(answer)}", answer.pause
            except NotTrusted as error:
                raise self.unreachable(what, str(error), error.origin) from error
            except ConnectionBroke as error:
                trouble = str(error)
                hopeless = isinstance(error, NotConnected | TlsEnded) and not self._answered
                if hopeless and tries.failures + 1 >= _ATTEMPTS_AT_FIRST:
                    raise self.unreachable(what, trouble) from error
            if once:
                raise ConnectionBroke(trouble, pause)
            tries.failed(self.unreachable(what, trouble, origin), pause)

    def _follow(self, request: _Request) -> Answer:
        for _ in range(_MOST_REDIRECTS + 1):
            answer = self._logged_in(request)
            if answer.status not in REDIRECTS or request.method not in ("GET", "HEAD"):
                return answer
            with answer:
                location = answer.header("Location")
            request = replace(request, url=self.absolute(request.url, location, request.what))
        raise FerryError(
            f"{request.what}: {self.registry} sends one on more than {_MOST_REDIRECTS} times",
            hint="The registry, or a proxy before it, is set up wrongly.",
        )

    def _logged_in(self, request: _Request) -> Answer:
        """Send a request; where the registry itself wants a login, send it again with one."""
        origin = self.origin_at(request.url, request.what)
        if origin != self.origin:
            return self._send(origin, request.method, request.url, request.headers, request.body)
        used, own = self._logins.ready(request.scope, request.what), False
        while True:
            answer = self._send_with(used, request)
            if answer.status != 401:
                return answer
            with answer:
                challenge = parse_challenge(answer.headers("WWW-Authenticate"))
                # One that was fetched for this very request gives no more right the second time; one that another
                # thread fetched may have ended meanwhile.
                if challenge is None or own:
                    raise self._refusal(answer, request.what, request.scope)
                used, own = self._logins.renew(challenge, request.scope, used, request.what)
                if used is None:
                    raise self._refusal(answer, request.what, request.scope)

    def _send_with(self, login: Authorization | None, request: _Request) -> Answer:
        extra = {"Authorization": login.value} if login else {}
        return self._send(self.origin, request.method, request.url, {**request.headers, **extra}, request.body)

    def _send(
        self,
        origin: Origin,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | memoryview | None,
        *,
        answer_shown: bool = False,
    ) -> Answer:
        everything = {
            "User-Agent": f"ollama-ferry/{__version__}",
            # What comes packed could be of any size unpacked, and has another digest.
            "Accept-Encoding": "identity",
            **headers,
        }
        end = time.monotonic() + self.access.patience.answer
        content: bytes | memoryview | Slowed | None = body
        if body and self.access.bytes_per_second:
            everything["Content-Length"] = str(len(body))
            content = Slowed(body, self.rate_limit, self.run.cancel)
        try:
            response = self._connections.open(origin, method, url, content, everything, answer_shown=answer_shown)
        except FAILURES as error:
            failure = broken(error)
            failure.origin = origin
            raise failure from error
        self._answered.add(origin)
        return Answer(response, url, origin, end, self._connections.watch)

    def _ask_for_token(self, request: TokenRequest, what: str) -> bytes:
        """Return what a token server answers; no redirect is followed, for it would take the login along."""
        origin = self.origin_at(request.url, what)
        what = f"{what}: asking for a token"

        def send() -> Answer:
            sent = (origin, request.method, request.url, request.headers, request.body)
            return self._naming(what, lambda: self._send(*sent, answer_shown=True))

        def take(answer: Answer) -> bytes:
            with answer:
                return answer.read_whole(TOKEN_LIMIT, "a token")

        return self._insist(send, take, what, (200,), scope=request.scope, origin=origin)

    def _refusal(self, answer: Answer, what: str, scope: str) -> FerryError:
        return registry_refusal(answer, what, self._logins.hint(scope), self._logins.used(scope))


class Clients:
    """Clients by registry, made as they are needed and closed together; use it in a ``with`` block.

    Args:
        make: makes the client for a registry.
    """

    def __init__(self, make: Callable[[str], Client]) -> None:
        self._make = make
        self._clients: dict[str, Client] = {}
        self._stack = ExitStack()

    def __enter__(self) -> Clients:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def connect(self, registry: str) -> Client:
        """Return the client for a registry."""
        if registry not in self._clients:
            self._clients[registry] = self._stack.enter_context(self._make(registry))
        return self._clients[registry]
