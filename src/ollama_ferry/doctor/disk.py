"""The space that is left for a store."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from ollama_ferry.doctor.findings import Finding, Findings, Severity
from ollama_ferry.shell_lines import quoted
from ollama_ferry.wording import human_size, shown

FREE_AT_LEAST = 5 * 1000**3
"""Free bytes on a store's disk below which a warning is given."""


def check_space(
    root: Path, largest: int, free: Callable[[Path], int | None], checked: set[int], findings: Findings
) -> None:
    """Return whether there is room on the disk of a store.

    Args:
        root: the store.
        largest: the bytes of its largest model.
        free: tells the free bytes on a folder's disk.
        checked: the disks that a warning was given for; this one is added.
        findings: where to tell it.
    """
    blobs = root / "blobs"
    folder = blobs if os.path.isdir(blobs) else root
    try:
        disk = os.stat(folder).st_dev
    except OSError:
        return
    left = free(folder)
    if left is None or disk in checked or left >= max(FREE_AT_LEAST, largest):
        return
    checked.add(disk)
    why = (
        "That is little."
        if left < FREE_AT_LEAST
        else f"The largest model here takes {human_size(largest)}; a new version of it would not fit."
    )
    findings.add(
        Finding(
            Severity.WARNING,
            "little-space",
            f"{human_size(left)} are free on the disk of {shown(folder)}. {why}",
            shown(root),
            (shown(folder),),
            (
                "# What removing each model would free (OWN); then `ollama rm MODEL`:",
                f"ollama-ferry list --models {quoted(root)}",
            ),
        )
    )
