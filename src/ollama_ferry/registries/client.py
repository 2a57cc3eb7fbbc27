"""Requests to a registry: logins, redirects, and trying again what may come right.

Source: the OCI distribution specification 1.1. A credential goes to the registry itself and to the token server that it
names, and never along with a redirect to another host.
"""

from __future__ import annotations

import random
import re
import time
import urllib.parse
from collections.abc import Callable, Collection, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from threading import Lock

from ollama_ferry._version import __version__
from ollama_ferry.engine.events import Cancel
from ollama_ferry.errors import Damaged, FerryError, NotFound, NotPermitted, Refused, Unreachable
from ollama_ferry.model.manifests import parse_json
from ollama_ferry.registries.access import Access
from ollama_ferry.registries.answers import (
    FAILURES,
    Answer,
    LineBroke,
    NotConnected,
    NotTrusted,
    TlsEnded,
    broken,
    retry_after,
)
from ollama_ferry.registries.connections import Connections, Origin, absolute, origin_of
from ollama_ferry.registries.credentials import Credential, find_credential
from ollama_ferry.registries.throttle import Slowed, Throttle, sleep_until
from ollama_ferry.registries.tokens import (
    TOKEN_LIMIT,
    Authorization,
    Challenge,
    basic,
    parse_challenge,
    read_token,
    token_request,
)

_REDIRECTS = frozenset((301, 302, 303, 307, 308))
_MOST_REDIRECTS = 10
# Answers behind which another try may find a better mood.
_PASSING = frozenset((408, 425, 429, 500, 502, 503, 504))
_ERROR_LIMIT = 64 * 1024
# A host that has never answered is more likely mistyped than busy.
_ATTEMPTS_AT_FIRST = 2
# What OpenSSL calls the refusals of a server that wants to know its clients, and of one that is too old for us.
_CLIENT_REFUSED = "ALERT_(CERTIFICATE_REQUIRED|BAD_CERTIFICATE|UNKNOWN_CA|HANDSHAKE_FAILURE|CERTIFICATE_UNKNOWN)"
_OLD_TLS = "UNSUPPORTED_PROTOCOL|ALERT_PROTOCOL_VERSION"


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
        cancel: ends every wait; so does the end of the block.

    Raises:
        FerryError: a certificate that was named can't be used.
    """

    def __init__(self, registry: str, access: Access, cancel: Cancel | None = None) -> None:
        self.registry = registry
        self.access = access
        self.cancel = Cancel(cancel)
        self.throttle = Throttle(access.bytes_per_second)
        self.base = f"{'http' if access.insecure else 'https'}://{registry}"
        self.origin = origin_of(self.base, plain=access.insecure)
        self._connections = Connections(self.origin, registry, access)
        self._authorizations: dict[str, Authorization] = {}
        self._credential: Credential | None = None
        self._credential_note = ""
        self._looked_for_credential = False
        self._answered: set[Origin] = set()
        self._lock = Lock()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        # Threads that were left behind try no further.
        self.cancel.set()
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
            once: try no second time; a failure of the line is told by LineBroke.

        Raises:
            NotPermitted: the registry wants another login.
            NotFound: there is no such thing.
            Unreachable: the registry can't be reached, or has no time for us.
            FerryError: it refuses for another reason.
            LineBroke: see ``once``.
        """
        request = _Request(method, urllib.parse.urljoin(self.base, url), scope, what, headers or {}, body)
        failures = 0
        while True:
            self.cancel.check()
            pause = 0.0
            try:
                answer = self._follow(request)
                if answer.status in accept:
                    return answer
                with answer:
                    if answer.status not in _PASSING:
                        raise self._refusal(answer, what)
                    trouble, pause = self._passing(answer)
            except NotTrusted as error:
                raise self.unreachable(what, str(error), error.origin) from error
            except LineBroke as error:
                trouble = str(error)
                hopeless = isinstance(error, NotConnected | TlsEnded) and not self._answered
                if hopeless and failures + 1 >= _ATTEMPTS_AT_FIRST:
                    raise self.unreachable(what, trouble) from error
            if once:
                raise LineBroke(trouble, pause)
            failures += 1
            if failures >= self.access.patience.attempts:
                raise self.unreachable(what, trouble)
            self.pause(failures, pause)

    def pause(self, failures: int, least: float = 0.0) -> None:
        """Wait before another try: longer with each failure, never the same twice.

        Args:
            failures: how many there were.
            least: the seconds that the registry asked for.
        """
        patience = self.access.patience
        wait = patience.first_wait * 2 ** (failures - 1) * random.uniform(0.75, 1.25)  # noqa: S311 -- no secret
        sleep_until(time.monotonic() + min(max(wait, least), patience.longest_wait), self.cancel)

    def unreachable(self, what: str, trouble: str, origin: Origin | None = None) -> Unreachable:
        """Return the error for a line that failed for good.

        Args:
            what: what was being done.
            trouble: what the last failure was.
            origin: whom the line led to, where that may be another host than the registry.
        """
        host = str(origin) if origin not in (None, self.origin) else self.registry
        hint = "Run the same command again: it goes on from what has arrived."
        if "CERTIFICATE_VERIFY_FAILED" in trouble and "match" in trouble:
            hint = "The certificate is one for other names: call the host by one of those, or let it have another."
        elif "CERTIFICATE_VERIFY_FAILED" in trouble:
            hint = "Trust its authority: --ca-file FILE, or SSL_CERT_FILE"
            if host == self.registry:
                hint += f", or {self.access.docker_certificates / self.registry}/ca.crt"
        elif re.search(_CLIENT_REFUSED, trouble):
            hint = "It wants a client's certificate, or another one than was shown: --cert FILE, and --key FILE."
        elif re.search(_OLD_TLS, trouble):
            hint = "It speaks no TLS that is still held safe: 1.2 at the least is needed."
        elif re.search(r"WRONG_VERSION_NUMBER|RECORD_LAYER_FAILURE|HTTP_REQUEST", trouble, re.IGNORECASE):
            hint = "It seems to speak plain http; if that is meant so: --insecure"
        elif not self._answered:
            hint = "Is the name right, and is the registry up? HTTPS_PROXY names a proxy where one is needed."
        return Unreachable(f"{what}: {host}: {trouble}", hint=hint)

    def _follow(self, request: _Request) -> Answer:
        for _ in range(_MOST_REDIRECTS + 1):
            answer = self._logged_in(request)
            if answer.status not in _REDIRECTS or request.method not in ("GET", "HEAD"):
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
        used, own = self._authorization(request.scope), False
        while True:
            answer = self._send_with(used, request)
            if answer.status != 401:
                return answer
            with answer:
                challenge = parse_challenge(answer.headers("WWW-Authenticate"))
                # One that was fetched for this very request gives no more right the second time; one that another
                # thread fetched may have ended meanwhile.
                if challenge is None or own:
                    raise self._refusal(answer, request.what)
                used, own = self._log_in(challenge, request.scope, used, request.what)
                if used is None:
                    raise self._refusal(answer, request.what)

    def _send_with(self, login: Authorization | None, request: _Request) -> Answer:
        extra = {"Authorization": login.value} if login else {}
        return self._send(self.origin, request.method, request.url, {**request.headers, **extra}, request.body)

    def absolute(self, base: str, location: str, what: str) -> str:
        """Return what a ``Location`` from outside means; see :func:`absolute`."""
        try:
            return absolute(base, location)
        except Damaged as error:
            raise Damaged(f"{what}: {self.registry}: {error.message}", hint=error.hint) from error

    def origin_at(self, url: str, what: str) -> Origin:
        """Return where a URL from outside leads; see :func:`origin_of`."""
        try:
            return origin_of(url, plain=self.access.insecure)
        except Damaged as error:
            raise Damaged(f"{what}: {self.registry}: {error.message}", hint=error.hint) from error

    def _send(
        self, origin: Origin, method: str, url: str, headers: Mapping[str, str], body: bytes | memoryview | None
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
            content = Slowed(body, self.throttle, self.cancel)
        try:
            response = self._connections.open(origin, method, url, content, everything)
        except FAILURES as error:
            failure = broken(error)
            failure.origin = origin
            raise failure from error
        self._answered.add(origin)
        return Answer(response, url, origin, end, self._connections.watch)

    # -- logins

    def _authorization(self, scope: str) -> Authorization | None:
        known = self._authorizations.get(scope) or self._authorizations.get("")
        return known if known is not None and known.fresh else None

    def _log_in(
        self, challenge: Challenge, scope: str, used: Authorization | None, what: str
    ) -> tuple[Authorization | None, bool]:
        """Return what to send instead of what was refused, None where there is nothing better; and if it is new."""
        with self._lock:
            known = self._authorization(scope)
            if known is not None and known is not used:
                # Another thread was faster.
                return known, False
            credential = self._find_credential()
            if challenge.scheme == "basic":
                if credential is None or not credential.username or used is not None:
                    return None, False
                found = Authorization(basic(credential))
                self._authorizations[""] = found
                return found, True
            found = self._fetch_token(challenge, scope, credential, what)
            self._authorizations[scope] = found
            return found, True

    def _find_credential(self) -> Credential | None:
        if not self._looked_for_credential:
            self._looked_for_credential = True
            try:
                self._credential = find_credential(self.registry, self.access.environ)
            except FerryError as error:
                # What is open to all needs no login; where it is needed, this is why there was none.
                self._credential_note = f"{error.message}. {error.hint}".strip()
        return self._credential

    def _fetch_token(self, challenge: Challenge, scope: str, credential: Credential | None, what: str) -> Authorization:
        origin = self.origin_at(challenge.realm, what)
        request = token_request(challenge, scope, credential)
        failures = 0
        while True:
            self.cancel.check()
            started, pause = time.monotonic(), 0.0
            try:
                with self._send(origin, request.method, request.url, request.headers, request.body) as answer:
                    if answer.status == 200:
                        return read_token(answer.read_whole(TOKEN_LIMIT, "a token"), started)
                    if answer.status not in _PASSING:
                        raise self._refusal(answer, f"{what}: asking {origin} for a token")
                    trouble, pause = self._passing(answer)
            except NotTrusted as error:
                raise self.unreachable(f"{what}: asking for a token", str(error), origin) from error
            except LineBroke as error:
                trouble = str(error)
            failures += 1
            if failures >= self.access.patience.attempts:
                raise self.unreachable(f"{what}: asking for a token", trouble, origin)
            self.pause(failures, pause)

    # -- what went wrong

    def _passing(self, answer: Answer) -> tuple[str, float]:
        trouble = f"it answers {answer.status}{self._explanation(answer)}"
        return trouble, retry_after(answer.header("Retry-After"))

    def _refusal(self, answer: Answer, what: str) -> FerryError:
        """Return the error for a status that is not what was hoped for."""
        explanation = self._explanation(answer)
        said = f"{what}: {answer.origin} answers {answer.status}{explanation}"
        if answer.status in (401, 403):
            hint = f"Log in with `docker login {self.registry}` (or podman, skopeo), as a user that has this right."
            if self._credential is not None:
                said += f" (the login is that of {self._credential.username or 'a token'} in {self._credential.origin})"
            if self._credential_note:
                hint = f"{self._credential_note}\n{hint}"
            return NotPermitted(said, hint=hint)
        if answer.status == 404:
            return NotFound(said)
        if answer.status in _REDIRECTS:
            return Refused(said, hint="A redirect is followed for reading only.", status=answer.status)
        if answer.status == 413:
            hint = "The registry, or a proxy before it, takes no requests that large; nginx: client_max_body_size 0."
            return Refused(said, hint=hint, status=answer.status)
        if answer.status == 400 and answer.origin.scheme == "http" and not explanation:
            return Refused(said, hint="It may speak https: leave out --insecure.", status=answer.status)
        return Refused(said, status=answer.status)

    def _explanation(self, answer: Answer) -> str:
        """Say what the registry says of it: its own words, short and escaped."""
        try:
            raw = answer.read_whole(_ERROR_LIMIT, "an error")
            errors = parse_json(raw).get("errors")
            first = errors[0]
            words = [first[key] for key in ("code", "message") if isinstance(first.get(key), str)]
        except (LineBroke, Damaged, AttributeError, IndexError, KeyError, TypeError):
            return ""
        return f" ({ascii(': '.join(words)[:300])[1:-1]})" if words else ""


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
