"""A terminal of some width, and what stands on it: a program runs at one end, and pyte draws at the other."""

from __future__ import annotations

import contextlib
import os
import select
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pyte

from support import needs
from support.command_line import COMMAND


class Terminal:
    """A program on a terminal.

    Attributes:
        raw: all that the program has written.
    """

    def __init__(self, words: list[str], columns: int, rows: int, environ: dict[str, str]) -> None:
        needs.require(needs.terminals)
        import pty

        self.raw = b""
        self._screen = pyte.Screen(columns, rows)
        self._stream = pyte.ByteStream(self._screen)
        self._end, other = pty.openpty()
        self._size(columns, rows)
        self.process = subprocess.Popen(
            words,
            stdin=other,
            stdout=other,
            stderr=other,
            start_new_session=True,
            env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "", "PROMPT_TOOLKIT_NO_CPR": "1", **environ},
        )
        os.close(other)

    @property
    def lines(self) -> list[str]:
        """What stands on the screen, line by line, without what is empty at the end."""
        return "\n".join(line.rstrip() for line in self._screen.display).rstrip().split("\n")

    @property
    def text(self) -> str:
        """The same as one text."""
        return "\n".join(self.lines)

    def type(self, keys: str) -> None:
        """Press keys."""
        os.write(self._end, keys.encode())

    def resize(self, columns: int, rows: int) -> None:
        """Change the window's size; what is too long for it then wraps, as most terminals do it."""
        text = "\r\n".join(self.lines)
        self._screen = pyte.Screen(columns, rows)
        self._stream = pyte.ByteStream(self._screen)
        self._stream.feed(text.encode())
        self._size(columns, rows)

    def wait_for(self, seen: Callable[[], bool]) -> None:
        """Draw what comes until something is to be seen."""
        deadline = time.monotonic() + 60
        while not seen():
            assert time.monotonic() < deadline, self.text
            if not self._draw(0.5) and self.process.poll() is not None and not self._draw(0):
                assert seen(), self.text
                return

    def wait(self) -> int:
        """Draw until the program has ended; return its exit code."""
        with contextlib.suppress(OSError):
            while self._draw(60):
                pass
        return self.process.wait(60)

    def close(self) -> None:
        """End the program, if it has not ended."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(60)
        os.close(self._end)

    def _draw(self, seconds: float) -> bool:
        if not select.select([self._end], [], [], seconds)[0]:
            return False
        try:
            data = os.read(self._end, 65536)
        except OSError:
            # So Linux says that nobody writes any more.
            return False
        self.raw += data
        self._stream.feed(data)
        return bool(data)

    def _size(self, columns: int, rows: int) -> None:
        import fcntl
        import termios

        fcntl.ioctl(self._end, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


@contextlib.contextmanager
def terminal(
    *words: str | Path,
    columns: int = 80,
    rows: int = 40,
    script: str = "",
    command: Sequence[str] = (),
    **environ: str,
) -> Iterator[Terminal]:
    """Run ollama-ferry on a terminal, or a script of Python, or any command."""
    line = [sys.executable, "-c", script] if script else [*COMMAND, *map(str, words)]
    opened = Terminal(list(command) or line, columns, rows, environ)
    try:
        yield opened
    finally:
        opened.close()


def picture(*words: str | Path, columns: int = 80, rows: int = 60, **environ: str) -> tuple[int, list[str]]:
    """Run ollama-ferry on a terminal to its end; return its exit code and the lines on the screen."""
    with terminal(*words, columns=columns, rows=rows, **environ) as opened:
        code = opened.wait()
        return code, opened.lines
