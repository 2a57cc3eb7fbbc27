"""The zstd of the standard library (Python 3.14), or its backport for older Pythons: one interface, two homes."""

from __future__ import annotations

from typing import Any

from ollama_ferry.errors import UsageError


def load_zstd(doing: str) -> Any:
    """Return the module ``compression.zstd``, or ``backports.zstd`` where Python has none.

    Args:
        doing: what it is wanted for, for the message: ``writing a .tar.zst``.

    Raises:
        UsageError: neither is there.
    """
    try:
        from compression import zstd as stdlib
    except ImportError:
        pass
    else:
        return stdlib
    try:
        from backports import zstd as backport
    except ImportError:
        raise UsageError(
            f"{doing} needs zstd, which this Python lacks",
            hint="Run: pip install backports.zstd   (or use a .tar.gz)",
        ) from None
    return backport
