"""A Python for each system that an executable is made for.

The builds are those of python-build-standalone, which run from glibc 2.17 on. They come as a module of Go that carries
them whole, held to a sum by Go's own checksum database: https://github.com/kluctl/go-embed-python.
"""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

MODULE = "github.com/kluctl/go-embed-python"
VERSION = "v0.0.0-3.14.6-20260610-1"
SUM = "h1:oGUS7++Wm3LgxUfD6AmJgKbKQD2wdQFO9PzyJv6T+E4="
_FOLDER_BIT = 1 << 31


def module_folder() -> Path:
    """Download the module with Go's own client, and return where it lies.

    Raises:
        SystemExit: there is no Go, or what came is something else.
    """
    try:
        done = subprocess.run(
            ["go", "mod", "download", "-json", f"{MODULE}@{VERSION}"],
            capture_output=True,
            text=True,
            check=False,
            cwd=os.sep,
        )
    except FileNotFoundError:
        sys.exit("release: executables need Go, for the Python that goes into them (apt-get install golang)")
    found = json.loads(done.stdout or "{}")
    if done.returncode or found.get("Sum") != SUM:
        sys.exit(f"release: can't get {MODULE} {VERSION}: {found.get('Error') or done.stderr or found.get('Sum')}")
    return Path(found["Dir"])


def unpack_python(system: str, folder: Path) -> Path:
    """Unpack a system's Python.

    Args:
        system: ``linux-amd64``, ``linux-arm64``, ``windows-amd64``.
        folder: where to; it must not be there.

    Returns:
        The interpreter.
    """
    source = module_folder() / "python/internal/data" / system
    folder.mkdir(parents=True)
    for entry in json.loads((source / "files.json").read_text(encoding="utf-8"))["files"]:
        path = folder / entry["name"]
        if "symlink" in entry:
            path.symlink_to(entry["symlink"])
        elif entry["perm"] & _FOLDER_BIT:
            path.mkdir(exist_ok=True)
        else:
            packed = source / f"{entry['name']}.gz"
            content = gzip.decompress(packed.read_bytes()) if packed.exists() else (source / entry["name"]).read_bytes()
            path.write_bytes(content)
            path.chmod(entry["perm"] & 0o777 | 0o200)
    return folder / ("python.exe" if system.startswith("windows") else "bin/python3.14")
