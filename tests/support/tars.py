"""Every common tar, and what it takes to run one as somebody else."""

from __future__ import annotations

import os
import subprocess
import tarfile
from pathlib import Path

from support import needs
from support.tools import require_tool

TOOLS = ["tar", "bsdtar", "busybox", "7z", "tarfile"]
NOBODY = 65534


def run(*command: str | Path, user: int | None, **options: object) -> subprocess.CompletedProcess[bytes]:
    """Run a command as another user, by number."""
    extra = {} if user is None else {"user": user, "group": user, "extra_groups": []}
    return subprocess.run([*map(str, command)], capture_output=True, check=False, **extra, **options)  # type: ignore[call-overload,no-any-return]


def untar(tool: str, archive: Path, folder: Path, *, user: int | None = None, more: tuple[str, ...] = ()) -> int:
    """Restore an archive with a tool; return its exit code."""
    zst = archive.name.endswith(".zst")
    gz = archive.name.endswith(("gz", "tgz"))
    if tool == "tarfile":
        # Not "r|gz": Python's stream mode stops after the first gzip member, whoever wrote the file.
        with tarfile.open(archive, "r:*") as opened:
            opened.extractall(folder, filter="fully_trusted")
        return 0
    if tool == "7z":
        require_tool("7z", "p7zip-full")
        if not gz:
            return run("7z", "x", "-y", f"-o{folder}", archive, user=user).returncode
        packed = run("7z", "x", "-so", archive, user=user)
        return run("7z", "x", "-y", "-si", "-ttar", f"-o{folder}", user=user, input=packed.stdout).returncode
    if tool == "busybox":
        require_tool("busybox")
        return run("busybox", "tar", "-xzf" if gz else "-xf", archive, "-C", folder, user=user).returncode
    require_tool(tool, {"bsdtar": "libarchive-tools"}.get(tool, tool))
    if zst:
        require_tool("zstd")
    flags = ["--zstd", "-xf"] if zst and tool == "tar" else ["-xzf" if gz else "-xf"]
    return run(tool, *more, *flags, archive, "-C", folder, user=user).returncode


def names_in(archive: Path) -> list[str]:
    """Return the files of an archive in its order."""
    with tarfile.open(archive) as opened:
        return [member.name for member in opened if member.isfile()]


def everybody(path: Path) -> None:
    """Let any user reach a folder and write into it."""
    for folder in [path, *path.parents] if not needs.ON_WINDOWS else ():
        if folder != Path("/") and folder.stat().st_uid == os.geteuid():
            folder.chmod(folder.stat().st_mode | 0o055)
    path.chmod(0o777)
