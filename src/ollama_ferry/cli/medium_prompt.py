"""Ask the person at the terminal to change the medium."""

from __future__ import annotations

import os
import sys

from ollama_ferry.cli.terminal import is_terminal, say
from ollama_ferry.engine.events import Cancel
from ollama_ferry.errors import UsageError


class MediumPrompt:
    """Asks on the terminal, and waits for Enter.

    Args:
        cancel: ends the waiting: it may be done by another thread than the one that a Ctrl-C reaches.

    Raises:
        UsageError: there is no terminal.
    """

    def __init__(self, cancel: Cancel) -> None:
        if not is_terminal(sys.stdin):
            raise UsageError("--prompt needs a terminal to ask at")
        self._cancel = cancel

    def __call__(self, wanted: str) -> None:
        """Ask; return when Enter was pressed.

        Raises:
            Cancelled: the work was given up meanwhile.
        """
        say(wanted, err=True)
        say("Put in the next medium and press Enter (Ctrl-C gives up): ", err=True, nl=False)
        if os.name == "nt":
            sys.stdin.readline()
            self._cancel.check()
            return
        import select

        fd = sys.stdin.fileno()
        while True:
            self._cancel.check()
            if select.select([fd], [], [], 0.2)[0]:
                if not os.read(fd, 4096):
                    # The terminal has gone: nobody will answer.
                    self._cancel.set()
                    self._cancel.check()
                return
