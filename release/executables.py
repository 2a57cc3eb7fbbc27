"""Executables that need no Python: PyInstaller, run by each system's own Python."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from release.pythons import unpack_python

REQUIREMENTS = Path(__file__).with_name("requirements.txt")
TOOLS = Path(__file__).with_name("tools.txt")
_START = "from ollama_ferry.__main__ import main\n\nmain()\n"


@dataclass(frozen=True)
class System:
    """A system that an executable is made for.

    Attributes:
        file: the executable's name.
        python: the name of its Python (:mod:`release.pythons`).
        platforms: the tags of the wheels that run there, for pip.
        runner: what runs its programs here, where this machine can't itself.
    """

    file: str
    python: str
    platforms: tuple[str, ...]
    runner: tuple[str, ...]


def _linux(machine: str) -> tuple[str, ...]:
    """What runs from glibc 2.28 on: RHEL 8, Debian 10, Ubuntu 20.04."""
    return tuple(f"manylinux{version}_{machine}" for version in ("_2_28", "_2_27", "_2_24", "_2_17", "2014"))


SYSTEMS = (
    System("ollama-ferry-linux-x86_64", "linux-amd64", _linux("x86_64"), ()),
    System("ollama-ferry-linux-aarch64", "linux-arm64", _linux("aarch64"), ("qemu-aarch64-static",)),
    System("ollama-ferry-windows-x86_64.exe", "windows-amd64", ("win_amd64",), ("wine",)),
)


def build_executable(system: System, wheel: Path, pyz: Path, target: Path, work: Path) -> Path | None:
    """Make one.

    Args:
        system: for which system.
        wheel: this project's wheel.
        pyz: the zip application, which goes into it for kits.
        target: the folder that it is put into.
        work: a folder for what is in between.

    Returns:
        The file; None where this machine can't run that system's Python.
    """
    if system.runner and shutil.which(system.runner[0]) is None:
        print(f"release: no {system.runner[0]}, so no {system.file}", file=sys.stderr)
        return None
    python = unpack_python(system.python, work / system.python)
    packages = work / f"{system.python}-packages"
    _install(packages, system, [str(wheel), *pinned(REQUIREMENTS)])
    tools = work / f"{system.python}-tools"
    _install(tools, system, pinned(TOOLS))
    start = work / "start.py"
    start.write_text(_START, encoding="utf-8")
    modules = ["ollama_ferry", "isal", "deflate", "zlib_ng", "prompt_toolkit"]
    subprocess.run(
        [
            *system.runner,
            python,
            "-m",
            "PyInstaller",
            "--onefile",
            "--noconfirm",
            "--log-level=WARN",
            f"--name={Path(system.file).name.removesuffix('.exe')}",
            f"--distpath={target}",
            f"--workpath={work / 'pyinstaller'}",
            f"--specpath={work}",
            f"--add-data={pyz.absolute()}{';' if 'windows' in system.python else ':'}ollama_ferry/jobs",
            *(f"--collect-submodules={name}" for name in modules),
            *(f"--exclude-module={name}" for name in ("tkinter", "pip", "setuptools")),
            start,
        ],
        check=True,
        env=os.environ
        | {
            "PYTHONPATH": (";" if "windows" in system.python else ":").join([str(packages), str(tools)]),
            "PYTHONHASHSEED": "0",
            "WINEDEBUG": "-all",
        },
    )
    return target / system.file


def pinned(file: Path) -> list[str]:
    """Return what a file asks for on every Python: pip would judge a condition by the one that runs it."""
    return [line for line in file.read_text(encoding="utf-8").splitlines() if "==" in line and ";" not in line]


def _install(folder: Path, system: System, what: list[str]) -> None:
    """Install another system's wheels: by this machine's pip, since its own would run for minutes under an emulator.

    Without what they need: pip would judge that by the Python that runs it.
    """
    tags = [f"--platform={tag}" for tag in system.platforms]
    for_it = ["--only-binary=:all:", "--no-compile", "--no-deps", "--python-version=3.14", "--implementation=cp", *tags]
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", f"--target={folder}"]
    subprocess.run([*pip, *for_it, *what], check=True)
