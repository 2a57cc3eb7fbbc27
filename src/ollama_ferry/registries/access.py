"""How a registry is talked to: what the user allows, and how patient one is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

_MIB = 1024 * 1024


@dataclass(frozen=True)
class Patience:
    """How long something is waited for, and how often it is tried. Times are in seconds.

    Attributes:
        connect: for a connection.
        stall: for the next byte of an answer; what gives none for so long is asked for again.
        answer: for the whole of a short answer, such as a manifest or a token.
        attempts: how often something is tried without getting any further.
        first_wait: before the second try; each wait is about twice the one before.
        longest_wait: the longest wait, also where the registry asks for a longer one.
    """

    connect: float = 10.0
    stall: float = 30.0
    answer: float = 300.0
    attempts: int = 6
    first_wait: float = 0.5
    longest_wait: float = 60.0


@dataclass(frozen=True)
class Access:
    """How a registry is talked to.

    Attributes:
        insecure: plain http instead of https.
        ca_file: certificates of authorities that are trusted besides the system's; None for none.
        cert: the client's certificate, or None.
        key: its key; None where it is in the certificate's file.
        bytes_per_second: the most that is moved; 0 for no limit.
        environ: the environment's variables, for logins and proxies.
        patience: waits and attempts.
        streams: how many ranges of one big blob are asked for at once.
        part_size: the bytes of such a range; memory is bounded by these two multiplied.
        fast_enough: bytes a second from which on all that is behind the first range is asked for at once: on such a
            line more ranges cost time and bring none.
        chunk_size: the bytes of a blob that are uploaded by one request; three of them are in memory.
        docker_certificates: where docker keeps the certificates of registries, a folder each.
    """

    insecure: bool = False
    ca_file: Path | None = None
    cert: Path | None = None
    key: Path | None = None
    bytes_per_second: int = 0
    environ: Mapping[str, str] = field(default_factory=dict, repr=False)
    patience: Patience = Patience()
    streams: int = 4
    part_size: int = 8 * _MIB
    fast_enough: float = 100e6
    chunk_size: int = 16 * _MIB
    docker_certificates: Path = Path("/etc/docker/certs.d")
