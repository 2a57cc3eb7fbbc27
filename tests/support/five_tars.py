"""Restore many archives with GNU tar, bsdtar, BusyBox tar, 7-Zip and Python's tarfile, and tell what each has made.

A shell for each tool unpacks a batch of archives in a folder in memory, as a user who may write nowhere else, so that
fifty thousand of them take minutes. What lies outside an archive's own folder stays out of reach.
"""

from __future__ import annotations

import importlib
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from support.tools import require_tool

TOOLS = ("tar", "bsdtar", "busybox", "7z", "tarfile")
NOBODY = 65534
FILE_LIMIT = 4 * 1024 * 1024
_SECONDS_A_BATCH = 120

# Of zstd BusyBox 1.35 and Python before 3.14 have not heard: they get what `zstd -d` makes of it.
_PIPED = {".tar.gz": "gzip -dc", ".tar.zst": "zstd -dcq", ".tar.xz": "xz -dc", ".tar.bz2": "bzip2 -dc"}


@dataclass
class Restored:
    """What a tool made of an archive.

    Attributes:
        code: its exit code; -1 where it was ended for taking too long.
        files: each file with its content; None in the place of anything that is no regular file.
    """

    code: int = -1
    files: dict[str, bytes | None] = field(default_factory=dict)


def require_tools() -> None:
    """Skip the test where a tool is not installed."""
    for tool, package in {"tar": "tar", "bsdtar": "libarchive-tools", "busybox": "busybox", "7z": "p7zip-full"}.items():
        require_tool(tool, package)
    for tool, package in {"gzip": "gzip", "zstd": "zstd", "xz": "xz-utils", "bzip2": "bzip2"}.items():
        require_tool(tool, package)


@contextmanager
def restoring(extension: str, archives: Sequence[bytes]) -> Iterator[list[dict[str, Restored]]]:
    """Restore archives of one kind with every tool; the folder goes at the end."""
    shared = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(prefix="five-tars-", dir=shared if os.access(shared, os.W_OK) else None))
    try:
        yield _restored(folder, extension, archives)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _restored(folder: Path, extension: str, archives: Sequence[bytes]) -> list[dict[str, Restored]]:
    folder.chmod(0o755)
    for number, archive in enumerate(archives):
        place = folder / str(number)
        place.mkdir()
        (place / f"a{extension}").write_bytes(archive)
        for tool in TOOLS:
            (place / tool).mkdir()
            if os.geteuid() == 0:
                # An archive may have an entry for the folder itself, whose mode only its owner can set.
                os.chown(place / tool, NOBODY, NOBODY)
    running = {tool: _start(tool, folder, extension, len(archives)) for tool in TOOLS}
    found: list[dict[str, Restored]] = [{tool: Restored() for tool in TOOLS} for _ in archives]
    for tool, process in running.items():
        try:
            told, _ = process.communicate(timeout=_SECONDS_A_BATCH)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
            told, _ = process.communicate()
        for line in told.decode().splitlines():
            which, code = line.split()
            found[int(which)][tool].code = int(code)
    for number, outcomes in enumerate(found):
        for tool, outcome in outcomes.items():
            outcome.files = _files(folder / str(number) / tool)
    return found


def _start(tool: str, folder: Path, extension: str, count: int) -> subprocess.Popen[bytes]:
    """Start what unpacks all archives with one tool, and prints a line of number and exit code for each."""
    importlib.import_module("resource")
    archive = f"a{extension}"
    piped = _PIPED.get(extension)
    line = {
        "tar": f"tar --force-local -xf ../{archive}" if extension != ".tar.zst" else f"tar --zstd -xf ../{archive}",
        "bsdtar": f"bsdtar -xf ../{archive}",
        "busybox": f"{piped} ../{archive} | busybox tar -xf -"
        if extension == ".tar.zst"
        else f"busybox tar {_flag(extension)} ../{archive}",
        "7z": f"7z x -so ../{archive} | 7z x -y -si -ttar" if piped else f"7z x -y ../{archive}",
    }.get(tool)
    if line is None:
        words = [sys.executable, "-I", "-c", _TARFILE, extension, str(count), str(NOBODY)]
    else:
        one = f"cd {folder}/$n/{tool}; {line} >/dev/null 2>&1; echo $n $?"
        loop = f"n=0; while [ $n -lt {count} ]; do {one}; n=$((n+1)); done"
        words = ["bash", "-o", "pipefail", "-c", loop]
    user: dict[str, object] = {}
    if os.geteuid() == 0 and tool != "tarfile":
        user = {"user": NOBODY, "group": NOBODY, "extra_groups": []}
    return subprocess.Popen(  # type: ignore[call-overload,no-any-return]
        words,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=_limit,
        env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "HOME": "/nonexistent"},
        **user,
    )


def _flag(extension: str) -> str:
    return {".tar": "-xf", ".tar.gz": "-xzf", ".tar.xz": "-xJf", ".tar.bz2": "-xjf"}[extension]


def _limit() -> None:
    # Loaded by _start(): by now this is a user who may not be able to read it.
    import resource

    resource.setrlimit(resource.RLIMIT_FSIZE, (FILE_LIMIT, FILE_LIMIT))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


# In one process: starting Python for each would be most of the time.
_TARFILE = """
import bz2, gzip, io, lzma, os, signal, subprocess, sys, tarfile, warnings, zlib
NOBODY = int(sys.argv[3])
if os.geteuid() == 0:
    # Only now: the interpreter may lie where nobody else may look.
    os.setgroups([])
    os.setgid(NOBODY)
    os.setuid(NOBODY)
warnings.simplefilter("ignore")
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
extension, count = sys.argv[1], int(sys.argv[2])
for number in range(count):
    code = 0
    try:
        name = f"{number}/a{extension}"
        if extension == ".tar.zst":
            done = subprocess.run(["zstd", "-dcq", name], capture_output=True)
            code = done.returncode
            opened = tarfile.open(fileobj=io.BytesIO(done.stdout), mode="r:")
        else:
            opened = tarfile.open(name, "r:*")
        with opened:
            opened.extractall(f"{number}/tarfile")
    except BaseException as error:
        code = 1
    print(number, code, flush=True)
"""


def _files(root: Path) -> dict[str, bytes | None]:
    found: dict[str, bytes | None] = {}
    for folder, folders, names in os.walk(root):
        for name in [*folders, *names]:
            path = os.path.join(folder, name)
            mode = os.lstat(path).st_mode
            if stat.S_ISREG(mode):
                with open(path, "rb") as file:
                    found[os.path.relpath(path, root)] = file.read()
            elif not stat.S_ISDIR(mode):
                found[os.path.relpath(path, root)] = None
    return found
