"""Where to listen, and what others call that address."""

from __future__ import annotations

import errno
import ipaddress
import re
import socket
from dataclasses import dataclass
from typing import Any

from ollama_ferry.errors import FerryError, NotPermitted, Remedy, UsageError

DEFAULT_PORT = 11435
"""The port beside Ollama's own."""

_BACKLOG = 512

_LISTEN = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9_.-]*))(?::([0-9]{1,5}))?")


@dataclass(frozen=True)
class Address:
    """Where to listen.

    Attributes:
        host: an address or a name; empty for every address of this machine.
        port: 0 takes a free one.
    """

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Address:
        """Read ``ADDRESS:PORT``, ``:PORT``, ``ADDRESS`` or ``[IPv6]:PORT``.

        Raises:
            UsageError: it is none of them.
        """
        found = _LISTEN.fullmatch(text)
        port = int(found[3]) if found and found[3] else DEFAULT_PORT
        if not found or not text or port > 65535:
            raise UsageError(
                f"{text[:100]!r} is no address to listen on",
                hint="For example 192.168.1.5:11435, :11435 for every address, or [::1]:11435.",
            )
        return cls(found[1] or found[2] or "", port)

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def bind(address: Address) -> socket.socket:
    """Return a listening socket, which does not block.

    Raises:
        FerryError: something else listens there.
        UsageError: this machine has no such address.
        NotPermitted: the port is for root alone.
    """
    every = address.host in ("", "::")
    both = every and socket.has_dualstack_ipv6()
    try:
        if both:
            listener = socket.create_server(
                ("::", address.port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=_BACKLOG
            )
        else:
            found = socket.getaddrinfo(address.host or "0.0.0.0", address.port, type=socket.SOCK_STREAM)[0]  # noqa: S104
            listener = socket.create_server(found[4], family=found[0], backlog=_BACKLOG)
    except socket.gaierror as error:
        raise UsageError(f"{address.host} is no address that this machine knows: {error.strerror}") from error
    except OSError as error:
        raise _cannot_listen(address, error) from error
    listener.setblocking(False)
    return listener


def is_loopback(host: str) -> bool:
    """Return whether a bound address is reached from this machine alone."""
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return False


def outward(address: Address, bound: str, port: int) -> str:
    """Return what other machines probably call a server, ``host:port``, in a form that Ollama takes.

    Ollama's names have no room for an IPv6 address, so there the machine's name stands in.

    Args:
        address: what was asked for.
        bound: what it is bound to.
        port: the port that it got.
    """
    host = address.host
    if host in ("", "::", "0.0.0.0"):  # noqa: S104 -- compared, not bound
        host = _own_address() or socket.gethostname()
    elif ":" in host:
        host = "localhost" if is_loopback(bound) else socket.gethostname()
    return f"{host}:{port}"


def shown_peer(peer: Any) -> str:
    """Return a client's address for people; one of IPv4 that came through an IPv6 socket as what it is."""
    host = str(peer[0])
    return host.removeprefix("::ffff:") if "." in host else host


def _own_address() -> str:
    """Return the address that this machine has towards the others; empty where it has none. Nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            # An address of documentation (RFC 5737): only the routing table is asked.
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return ""
        return str(probe.getsockname()[0])


def _cannot_listen(address: Address, error: OSError) -> FerryError:
    if error.errno == errno.EADDRINUSE:
        return FerryError(
            f"can't listen on {address}: something else does already",
            remedies=[Remedy("listen")],
        )
    if error.errno == errno.EADDRNOTAVAIL:
        return UsageError(
            f"can't listen on {address}: this machine has no such address",
            hint="`ip address` shows which it has; :11435 listens on all of them.",
        )
    if error.errno in (errno.EACCES, errno.EPERM):
        return NotPermitted(
            f"can't listen on {address}: not permitted", hint="Ports below 1024 are for root; choose a higher one."
        )
    return FerryError(f"can't listen on {address}: {error.strerror or error}")
