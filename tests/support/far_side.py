"""Run the scripts of the far side as a host does, with a shell and commands of one's choice, and without ssh."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path

from ollama_ferry.places.ssh.scripts import BOOTSTRAP
from support.tools import require_tool

SHELLS = ["dash", "bash", "busybox"]


class FarSide:
    """A host's shell and commands.

    Args:
        folder: where its commands are put.
        shell: one of ``SHELLS``; with busybox all commands are its own.
        commands: the only commands that it has, where that is not all of this machine's.
    """

    def __init__(self, folder: Path, shell: str = "dash", commands: Iterable[str] | None = None) -> None:
        self.programs = folder / "programs"
        self.programs.mkdir(parents=True)
        # The user whom root becomes has to get at the commands.
        for part in (folder, self.programs):
            part.chmod(0o755)
        self.path = str(self.programs)
        if shell == "busybox":
            busybox = require_tool("busybox")
            applets = folder / "applets"
            applets.mkdir()
            subprocess.run([busybox, "--install", "-s", str(applets)], check=True)
            if commands is None:
                self.path += f":{applets}"
            else:
                for name in commands:
                    (self.programs / name).symlink_to(busybox)
            (self.programs / "sh").symlink_to(busybox)
        else:
            program = require_tool(shell)
            if commands is None:
                self.path += ":/usr/bin:/bin:/usr/sbin:/sbin"
            else:
                for name in commands:
                    (self.programs / name).symlink_to(require_tool(name))
            if shell == "bash":
                self.shim("sh", f'exec {program} --posix "$@"')
            else:
                (self.programs / "sh").symlink_to(program)

    def shim(self, name: str, body: str) -> None:
        """Put a script in a command's place; ``$REAL`` is that command."""
        real = shutil.which(name, path="/usr/bin:/bin:/usr/sbin:/sbin") or name
        path = self.programs / name
        path.unlink(missing_ok=True)
        path.write_text(f"#!/bin/sh\nREAL={real}\n{body}\n")
        path.chmod(0o755)

    def start(self, script: str, parameters: Iterable[object], user: int = 0) -> subprocess.Popen[bytes]:
        """Begin to run a script; the data is still to be written to its input."""
        process = subprocess.Popen(
            ["/bin/sh", "-c", BOOTSTRAP],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env={"PATH": self.path, "HOME": "/"}, cwd="/", preexec_fn=_becoming(user) if user else None,
        )  # fmt: skip
        assert process.stdin is not None
        process.stdin.write((script.strip("\n") + "\n#end\n" + "".join(f"{word}\n" for word in parameters)).encode())
        process.stdin.flush()
        return process

    def run(self, script: str, parameters: Iterable[object], data: bytes = b"", user: int = 0) -> list[str]:
        """Run a script to its end and return the lines of its answer."""
        process = self.start(script, parameters, user)
        said, _ = process.communicate(data, timeout=60)
        return said.decode().splitlines()


def _becoming(user: int) -> Callable[[], None]:
    def become() -> None:
        os.setgroups([])
        os.setgid(user)
        os.setuid(user)

    return become


class Holder:
    """A send that has the lock.

    Attributes:
        head: what every script that writes is told first.
    """

    def __init__(self, far: FarSide, script: str, root: Path, *, staging: str = ".ollama-ferry-ssh", token: str = "me",  # noqa: S107 -- it keeps nothing secret
                 wait: str = "yes", patience: int = 60, user: int = 0) -> None:  # fmt: skip
        self.head = [root, staging, token, ""]
        self.said: list[str] = []
        self.process = far.start(script, [root, staging, token, f"{token} at work", wait, patience], user)

    def line(self) -> str:
        """Return the next line that says something else than the one before."""
        assert self.process.stdout is not None
        while True:
            line = self.process.stdout.readline().decode().rstrip("\n")
            if not self.said or line != self.said[-1] or not line:
                self.said.append(line)
                return line

    def taken(self) -> str:
        """Wait until it has the lock, and return in which words; what the staging folder holds is passed over."""
        while (word := self.line()).startswith("held"):
            pass
        while word.startswith("locked") and self.line() != ".":
            pass
        return word.strip()

    def beat(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(b"\n")
        self.process.stdin.flush()

    def release(self) -> str:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.close()
        said = self.process.stdout.read().decode().splitlines()
        self.close()
        return said[-1] if said else ""

    def close(self) -> None:
        self.process.kill()
        self.process.wait(20)
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            assert pipe is not None
            pipe.close()

    def __enter__(self) -> Holder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
