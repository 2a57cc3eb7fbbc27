"""What the machine is, and which versions of the tools it has."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

_TOOLS: dict[str, Sequence[str]] = {
    "tar": ("tar", "--version"),
    "gzip": ("gzip", "--version"),
    "pigz": ("pigz", "--version"),
    "zstd": ("zstd", "--version"),
    "cp": ("cp", "--version"),
    "rsync": ("rsync", "--version"),
    "ssh": ("ssh", "-V"),
}


def describe(work: Path) -> dict[str, str]:
    """Return facts by name: the processor and what else it has to do, memory, kernel, file system, versions."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    facts = {
        "processor": _processor(),
        "cores": str(os.cpu_count()),
        "memory": f"{memory:.0f} GB",
        "kernel": f"{platform.system()} {platform.release()}",
        "file system": _file_system(work),
        "load before the run": f"{os.getloadavg()[0]:.1f}",
        "Python": platform.python_version(),
        "commit": _version(["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"]),
    }
    for package in ("ollama-ferry", "isal", "deflate", "zlib-ng", "backports.zstd"):
        try:
            facts[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            facts[package] = "not installed"
    facts.update({tool: _version(command) for tool, command in _TOOLS.items()})
    return facts


def summary() -> str:
    """Name the processor, its cores, the memory and Python, in a line."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    return f"{_processor()}, {os.cpu_count()} cores, {memory:.0f} GB, Python {platform.python_version()}"


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for text in cpuinfo.read_text().splitlines():
            if text.startswith("model name"):
                return text.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _file_system(path: Path) -> str:
    """Return the type of the file system that a path is on, from Linux's table of mounts."""
    best, found = "", "unknown"
    try:
        for text in Path("/proc/self/mounts").read_text().splitlines():
            _, point, kind, *_ = text.split()
            if path.is_relative_to(point) and len(point) > len(best):
                best, found = point, kind
    except OSError:
        pass
    return found


def _version(command: Sequence[str]) -> str:
    """Return the version in a tool's first line, or a commit."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except OSError:
        return "not installed"
    first = (done.stdout or done.stderr).partition("\n")[0]
    number = re.search(r"\d+\.\d+[\w.]*", first)
    return number[0] if number else first[:40]
