"""Memory for buffers of a megabyte that come and go by the thousand."""

from __future__ import annotations

_HINT = 31 * 1024 * 1024


def keep_freed_buffers() -> None:
    """Let the allocator keep what is freed instead of handing it back to the system.

    glibc returns freed chunks of such a size, and each next one then faults its pages in anew: a fifth of the time of
    an export, a third of that of an import. Once it has freed one chunk as large as this (untouched, so it costs
    nothing) it keeps them. Other allocators don't mind.
    """
    bytes(_HINT)
