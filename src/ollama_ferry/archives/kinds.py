"""Which kind of archive a file name asks for."""

from __future__ import annotations

import re
from enum import Enum

from ollama_ferry.errors import UsageError


class Kind(Enum):
    """A kind of archive; the value is its usual extension."""

    TAR = ".tar"
    TAR_GZ = ".tar.gz"
    TAR_ZST = ".tar.zst"

    @classmethod
    def parse(cls, text: str) -> Kind:
        """Read ``tar``, ``tar.gz`` or ``tar.zst``.

        Raises:
            UsageError: it is none of them.
        """
        try:
            return cls(f".{text}")
        except ValueError:
            raise UsageError(f"{text!r} is no format: use {', '.join(kind.value[1:] for kind in cls)}") from None

    @property
    def extract_flags(self) -> str:
        """What GNU tar and bsdtar want in order to unpack it."""
        return {Kind.TAR: "-xf", Kind.TAR_GZ: "-xzf", Kind.TAR_ZST: "--zstd -xf"}[self]


EXTENSIONS: dict[str, Kind] = {
    ".tar": Kind.TAR,
    ".tar.gz": Kind.TAR_GZ,
    ".tgz": Kind.TAR_GZ,
    ".tar.zst": Kind.TAR_ZST,
}


def kind_of(file_name: str) -> Kind | None:
    """Return the kind that a file name's extension asks for, or None where it is no archive's name."""
    lower = file_name.lower()
    return next((kind for extension, kind in EXTENSIONS.items() if lower.endswith(extension)), None)


READABLE = (
    ".tar",
    ".tgz",
    ".tar.gz",
    ".tar.zst",
    ".tzst",
    ".tar.xz",
    ".txz",
    ".tar.bz2",
    ".tbz2",
    ".zip",
    ".ollamazip",
)
"""What archives are called that can be read; the content decides what they are."""


def has_archive_ending(name: str) -> bool:
    """Return whether a name ends as those of archives do, or of their volumes.

    No name of a model does, for that has a tag: one called ``x.zip`` is ``x.zip:latest``.
    """
    lower = name.lower()
    return lower.endswith(READABLE) or bool(re.search(r"\.[0-9]{3}\Z", lower) and lower[:-4].endswith(READABLE))


class Compression(Enum):
    """How much time to give for a smaller archive."""

    AUTO = "auto"
    """What pays on both ends: frames are packed fast, and stored where that saves less than seven hundredths."""
    NONE = "none"
    """Store only; the archive keeps its format."""
    FAST = "fast"
    """What shrinks: frames are packed fast, and stored where that saves less than a hundredth."""
    BEST = "best"
    """The smallest that the format gives, many times slower."""

    @classmethod
    def parse(cls, text: str) -> Compression:
        """Read ``auto``, ``none``, ``fast`` or ``best``.

        Raises:
            UsageError: it is none of them.
        """
        try:
            return cls(text)
        except ValueError:
            raise UsageError(f"{text!r} is no compression: use {', '.join(c.value for c in cls)}") from None
