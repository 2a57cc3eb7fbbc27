"""How many threads work at once: one a core that this process may use, eight at the most."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection

_MOST = 8
# Linux keeps some processes to some cores (taskset, containers). Python has no such call on macOS and Windows.
_AFFINITY: Callable[[int], Collection[int]] | None = getattr(os, "sched_getaffinity", None)


def threads_at_once(affinity: Callable[[int], Collection[int]] | None = _AFFINITY) -> int:
    """Return how many threads to use.

    Args:
        affinity: tells the cores of a process by its number, 0 for this one; None where the system has no such call.
    """
    return min(_MOST, len(affinity(0)) if affinity is not None else os.cpu_count() or 1)
