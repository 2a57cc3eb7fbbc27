"""What tar and zip archives have in common: named members, one after the other."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

MEMBER_LIMIT = 200_000
"""The most members that are read. A store of that many blobs does not exist, and a bomb of headers ends here."""


class MemberKind(Enum):
    """What a member is; the value names it in messages."""

    FILE = "file"
    FOLDER = "folder"
    LINK = "link"
    DEVICE = "device or FIFO"


@dataclass(frozen=True)
class Member:
    """One member of an archive.

    Attributes:
        name: as it stands in the archive, not to be trusted; undecodable bytes are surrogates.
        kind: what it is.
        size: of its content, in bytes.
        offset: where its content begins, in bytes from the start of the unpacked tar; its number in a zip.
        check: the first 16 bytes of its content's SHA-256, where the archive has it; else empty.
        other_names: what some readers call it, where these differ.
        target: what a link leads to, not to be trusted.
        hard: the link is a hard one: ``target`` is another member.
    """

    name: str
    kind: MemberKind
    size: int
    offset: int
    check: bytes = b""
    other_names: tuple[str, ...] = ()
    target: str = ""
    hard: bool = False
