"""Whom the sockets that listen on this machine belong to."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ipaddress import IPv4Address, IPv6Address

# Linux, include/net/tcp_states.h
_LISTEN = "0A"


def listeners(host: str, port: int, tables: Path = Path("/proc/net")) -> frozenset[tuple[int, int]] | None:
    """Find the sockets that answer at an address of this machine.

    A socket is named by its inode number, so that two looks tell whether the same one was there all the time.

    Source: proc_net_tcp in the kernel's documentation; the sockets that listen are the first ones of each table.

    Args:
        host: the address that a connection went to, as ``getpeername`` tells it.
        port: the TCP port.
        tables: where the kernel shows its tables.

    Returns:
        The user number and the inode of each, those that listen on all addresses among them; None where this system
        does not tell.
    """
    from ipaddress import ip_address

    wanted = _plain(ip_address(host.partition("%")[0]))
    found: set[tuple[int, int]] = set()
    known = False
    for name in ("tcp", "tcp6"):
        try:
            with (tables / name).open(encoding="ascii") as table:
                known = True
                next(table, None)
                for line in table:
                    fields = line.split()
                    if len(fields) < 10 or fields[3] != _LISTEN:
                        break
                    address, _, hexport = fields[1].partition(":")
                    if int(hexport, 16) == port:
                        bound = _address(address)
                        if bound.is_unspecified or bound == wanted:
                            found.add((int(fields[7]), int(fields[9])))
        except (OSError, ValueError):
            continue
    return frozenset(found) if known else None


def _address(digits: str) -> IPv4Address | IPv6Address:
    """Read an address: words of 32 bits, each printed as this machine's number."""
    from ipaddress import ip_address

    words = (int(digits[at : at + 8], 16) for at in range(0, len(digits), 8))
    return _plain(ip_address(b"".join(word.to_bytes(4, sys.byteorder) for word in words)))


def _plain(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """Return the IPv4 address that an IPv6 one stands for, where it does."""
    mapped: IPv4Address | None = getattr(address, "ipv4_mapped", None)
    return address if mapped is None else mapped
