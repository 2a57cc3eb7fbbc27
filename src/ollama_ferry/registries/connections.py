"""Connections to the hosts of a registry: certificates, proxies, and pools of connections that are kept."""

from __future__ import annotations

import enum
import re
import ssl
import urllib.parse
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Lock

import urllib3

from ollama_ferry.engine.rate import Slowed
from ollama_ferry.errors import Damaged, NotFound, NotPermitted, UsageError
from ollama_ferry.files.identity import as_started
from ollama_ferry.registries.access import Access
from ollama_ferry.registries.address_scope import Reach, may_name, reach_of
from ollama_ferry.registries.deadlines import Watch
from ollama_ferry.registries.small_blobs import SMALL_AT_ONCE

_HOST = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,252}|\[[0-9A-Fa-f:.]{2,45}\]")
_PORTS = {"http": 80, "https": 443}
URL_LIMIT = 16 * 1024


@dataclass(frozen=True)
class Origin:
    """Where a request goes: scheme, host and port, all told, in lower case."""

    scheme: str
    host: str
    port: int

    def __str__(self) -> str:
        return self.host if self.port == _PORTS[self.scheme] else f"{self.host}:{self.port}"


def absolute(base: str, location: str) -> str:
    """Return what a ``Location`` from outside means.

    Args:
        base: what was asked.
        location: the header's text.

    Raises:
        Damaged: it is none.
    """
    # Python's reading of URLs passes over tabs and line ends, which others do not.
    if not location or len(location) > URL_LIMIT or not location.isascii() or not location.isprintable():
        raise Damaged("the registry points to a URL that is none")
    try:
        return urllib.parse.urljoin(base, location)
    except ValueError:
        raise Damaged("the registry points to a URL that is none") from None


def origin_of(url: str, *, plain: bool) -> Origin:
    """Return where a URL from outside leads.

    Args:
        url: absolute.
        plain: whether plain http is allowed.

    Raises:
        Damaged: it is no URL that is followed: another scheme, a user in it, no host, or too long.
    """
    if len(url) > URL_LIMIT or not url.isascii() or not url.isprintable() or " " in url:
        raise Damaged("the registry points to a URL that is none")
    try:
        parts = urllib.parse.urlsplit(url)
        port = parts.port
    except ValueError:
        raise Damaged("the registry points to a URL that is none") from None
    scheme = parts.scheme.lower()
    host = parts.hostname or ""
    host = f"[{host}]" if ":" in host else host
    if scheme not in _PORTS:
        raise Damaged(f"the registry points to a URL with the scheme {scheme[:20]!r}, which is not followed")
    if "@" in parts.netloc or not _HOST.fullmatch(host) or port == 0:
        raise Damaged("the registry points to a URL whose host is none")
    if scheme == "http" and not plain:
        raise Damaged(
            f"the registry points from https down to plain http at {host}, which is not followed",
            hint="It, or the proxy before it, does not know that it is reached by https: X-Forwarded-Proto tells it.",
        )
    return Origin(scheme, host.lower(), port or _PORTS[scheme])


class _Role(enum.Enum):
    """What a host is to us."""

    HOME = "the registry"
    TOKENS = "a token server"
    OTHER = "where a redirect leads"


class Connections:
    """Pools of connections by host; connections are kept and used again, by any thread.

    Args:
        home: the registry itself, which alone is shown the client's certificate.
        registry: its name as the user wrote it.
        access: what the user allows.

    Raises:
        NotFound, NotPermitted, UsageError: a certificate's file is not there, can't be read, or is none.
    """

    def __init__(self, home: Origin, registry: str, access: Access) -> None:
        self._home = home
        self._access = access
        self._timeout = urllib3.Timeout(connect=access.patience.connect, read=access.patience.stall)
        self._managers: dict[tuple[str, str, _Role], urllib3.PoolManager] = {}
        self._home_reach = reach_of(home.host)
        self._lock = Lock()
        self.watch = Watch()
        self._folder = access.docker_certificates / registry
        # Made at once where they are needed, so that a wrong file is reported before anything is asked.
        named = access.ca_file is not None or access.cert is not None
        wanted = (True, False) if named or home.scheme == "https" else ()
        self._contexts = {own: self._context(own=own) for own in wanted}

    def open(
        self,
        origin: Origin,
        method: str,
        url: str,
        body: bytes | memoryview | Slowed | None,
        headers: Mapping[str, str],
        *,
        answer_shown: bool = False,
    ) -> urllib3.BaseHTTPResponse:
        """Send a request and return the answer, whose body is not read yet; nothing is followed nor tried again.

        Args:
            origin, method, url, body, headers: the request.
            told: the registry will be notified of the answer: then it must not come from a host that only we can reach.

        Raises:
            Damaged: see ``told``.
            urllib3.exceptions.HTTPError: the line failed.
        """
        role = _Role.HOME if origin == self._home else _Role.TOKENS if answer_shown else _Role.OTHER
        if role is _Role.TOKENS and origin.host != self._home.host:
            self._require_reach(origin.host, reach_of(origin.host))
        return self._manager(origin, role).urlopen(
            method,
            url,
            body=body,
            headers=headers,
            redirect=False,
            retries=False,
            preload_content=False,
            decode_content=False,
            timeout=self._timeout,
        )

    def close(self) -> None:
        """Close what is kept, and end what is under way."""
        self.watch.close()
        for manager in self._managers.values():
            manager.clear()

    def _require_reach(self, host: str, reach: Reach | None) -> None:
        home = self._home_reach or Reach.WORLD
        if reach is not None and not may_name(home, reach):
            raise Damaged(
                f"the registry names {host} for its tokens, which is {reach.value} and not one that it has itself: "
                "what answers there would be handed to it",
                hint="A registry of your own network has to be reached there, too, or to name another token server.",
            )

    def _meet(self, role: _Role, address: str) -> None:
        reach = reach_of(address)
        if role is _Role.HOME and self._home_reach is not Reach.WORLD:
            self._home_reach = reach
        elif role is _Role.TOKENS:
            self._require_reach(address, reach)

    def _manager(self, origin: Origin, role: _Role) -> urllib3.PoolManager:
        proxy = _proxy_for(origin)
        key = (origin.scheme, proxy, role)
        with self._lock:
            if key not in self._managers:
                self._managers[key] = self._new_manager(*key)
            return self._managers[key]

    def _new_manager(self, scheme: str, proxy: str, role: _Role) -> urllib3.PoolManager:
        own = role is _Role.HOME
        size = max(self._access.streams, SMALL_AT_ONCE) + 1
        # What speaks plain http to all ends needs none, and the system's authorities take a while to read. A registry
        # that is plain itself may still send one on to https.
        context = self._ready_context(own=own) if scheme == "https" else None
        patience = self._access.patience.answer
        if not proxy:
            manager = urllib3.PoolManager(4, maxsize=size, ssl_context=context)
            manager.pool_classes_by_scheme = self.watch.pools(patience, partial(self._meet, role))
            return manager
        parts = _proxy_parts(proxy)
        headers = None
        if parts.username:
            login = f"{urllib.parse.unquote(parts.username)}:{urllib.parse.unquote(parts.password or '')}"
            headers = urllib3.make_headers(proxy_basic_auth=login)
        address = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
        through = urllib3.ProxyManager(
            address,
            4,
            maxsize=size,
            ssl_context=context,
            proxy_headers=headers,
            # A proxy is not the registry: it sees no client's certificate.
            proxy_ssl_context=self._ready_context(own=False) if address.startswith("https:") else None,
        )
        # Whom a proxy reaches is not seen from here.
        through.pool_classes_by_scheme = self.watch.pools(patience)
        return through

    def _ready_context(self, *, own: bool) -> ssl.SSLContext:
        if own not in self._contexts:
            with as_started():
                self._contexts[own] = self._context(own=own)
        return self._contexts[own]

    def _context(self, *, own: bool) -> ssl.SSLContext:
        # Trusts what the system trusts, which SSL_CERT_FILE and SSL_CERT_DIR say otherwise.
        context = ssl.create_default_context()
        if self._access.ca_file is not None:
            _load(self._access.ca_file, lambda path: context.load_verify_locations(path))
        if not own:
            return context
        if self._access.cert is not None:
            key = self._access.key
            _load(self._access.cert, lambda path: context.load_cert_chain(path, key, _no_password))
        # What docker has for this registry serves here too: ca.crt, and client.cert with client.key.
        try:
            found = sorted(self._folder.iterdir())
        except OSError:
            return context
        for path in found:
            if path.suffix == ".crt" and self._access.ca_file is None:
                _load(path, lambda path: context.load_verify_locations(path))
            elif path.suffix == ".cert" and self._access.cert is None:
                _load(path, lambda path: context.load_cert_chain(path, path.with_suffix(".key"), _no_password))
        return context


def _proxy_parts(proxy: str) -> urllib.parse.SplitResult:
    """Read a proxy's address; no message shows its password.

    Raises:
        UsageError: it is no http proxy.
    """
    parts = urllib.parse.urlsplit(proxy)
    try:
        _ = parts.port
        good = parts.scheme in _PORTS and parts.hostname and not parts.query and not parts.fragment
    except ValueError:
        good = False
    if not good or parts.path not in ("", "/"):
        where = "" if "@" in proxy else f" {proxy[:100]!r}"
        raise UsageError(
            f"the proxy{where} of the environment is not an http proxy",
            hint="http://HOST:PORT, or http://USER:PASSWORD@HOST:PORT with %23, %2F, %3F and %40 for # / ? and @.",
        )
    return parts


def _load(path: Path, load: Callable[[Path], None]) -> None:
    try:
        load(path)
    except FileNotFoundError as error:
        raise NotFound(f"there is no certificate or key {error.filename or path}") from error
    except PermissionError as error:
        raise NotPermitted(
            f"not permitted to read the certificate {path} or its key", hint="Make it readable to you, or name a copy."
        ) from error
    except (ssl.SSLError, OSError) as error:
        raise UsageError(f"{path} is no certificate in PEM form, or its key does not fit: {error}") from error


def _no_password() -> str:
    raise UsageError("the client's key is locked by a password", hint="Name one that is not.")


def _proxy_for(origin: Origin) -> str:
    """Return the proxy that the environment names for a host; empty for none."""
    from urllib.request import getproxies_environment, proxy_bypass_environment  # type: ignore[attr-defined]

    proxies = getproxies_environment()
    proxy = proxies.get(origin.scheme) or proxies.get("all") or ""
    if not proxy or proxy_bypass_environment(f"{origin.host.strip('[]')}:{origin.port}", proxies):
        return ""
    return proxy if "://" in proxy else f"http://{proxy}"
