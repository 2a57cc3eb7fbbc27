"""External tools that tests drive: present, or skipped by name (a failure where skips are forbidden)."""

from __future__ import annotations

import shutil

import pytest

from support import needs


def require_tool(name: str, package: str = "") -> str:
    """Return the path of a tool; skip the test where the machine lacks it."""
    # Debian keeps servers where only root's PATH leads.
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")
    if not found and needs.ON_WINDOWS:
        pytest.skip(f"Windows has no {name}")
    if not found:
        pytest.skip(f"{name} is not installed (Debian: {package or name})")
    return found
