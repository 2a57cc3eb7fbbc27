"""What other programs put beside manifests: what a file there is by its name alone."""

from __future__ import annotations

import re
from collections.abc import Container

_SYSTEMS = re.compile(r"\.DS_Store|\._.*|desktop\.ini|(eh)?thumbs\.db", re.IGNORECASE)
# What sync tools and editors put beside files; some of it is a valid tag.
_COPY = re.compile(r".*(\.sync-conflict-|conflicted copy|\.(bak|tmp|swp|orig|part)$).*", re.IGNORECASE)


def is_systems_own(name: str) -> bool:
    """Tell whether a file is one that systems put beside others, and nobody misses."""
    return bool(_SYSTEMS.fullmatch(name))


def may_be_stray(name: str, beside: Container[str]) -> bool:
    """Tell whether a file may be no manifest of its own, which its content decides.

    Args:
        name: the file's.
        beside: the names of the files beside it: ``x.meta`` belongs to ``x``.
    """
    if is_systems_own(name) or _COPY.fullmatch(name):
        return True
    stem = name
    while "." in stem:
        stem = stem.rpartition(".")[0]
        if stem in beside:
            return True
    return False
