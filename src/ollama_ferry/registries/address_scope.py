"""Who can reach an address: everybody, a private network, one cable, or this machine alone.

A registry names its token server, and what that answers is shown to the registry: it must not be a host that we can
reach and the registry can't (server-side request forgery, turned round). Source: IANA's registries of addresses for
special purposes, as Python's ``ipaddress`` has them.
"""

from __future__ import annotations

import enum
import ipaddress
import socket

# Addresses of IPv4 within IPv6 by a translator (RFC 6052).
_TRANSLATED = ipaddress.IPv6Network("64:ff9b::/96")


class Reach(enum.Enum):
    """Who can reach an address; the value is for people."""

    WORLD = "a public address"
    PRIVATE = "an address of a private network"
    LINK = "a link-local address"
    MACHINE = "an address of this machine"


def reach_of(host: str) -> Reach | None:
    """Tell who can reach a host; None for a name that only a look-up would tell of.

    Args:
        host: an address, of IPv6 with or without brackets and zone, in any form that the system reads; or a name.
    """
    text = host.strip("[]").partition("%")[0].rstrip(".").lower()
    if text == "localhost" or text.endswith(".localhost"):
        return Reach.MACHINE
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        try:
            # 127.1, 0x7f000001 and 2130706433 are addresses, too.
            address = ipaddress.IPv4Address(socket.inet_aton(text))
        except (OSError, ValueError):
            return None
    if isinstance(address, ipaddress.IPv6Address):
        if address in _TRANSLATED:
            address = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        else:
            address = address.ipv4_mapped or address.sixtofour or address
    if address.is_loopback or address.is_unspecified:
        return Reach.MACHINE
    if address.is_link_local:
        return Reach.LINK
    return Reach.WORLD if address.is_global and not address.is_multicast else Reach.PRIVATE


def may_name(registry: Reach, other: Reach) -> bool:
    """Return whether a host that is reached so may send one on to another, and be told what that answers.

    To the world always, and to those who stand where it stands itself; what is reached on this machine (a registry of
    one's own, or the end of a tunnel) may name hosts of the private network, too.
    """
    return other in (Reach.WORLD, registry) or (registry, other) == (Reach.MACHINE, Reach.PRIVATE)
