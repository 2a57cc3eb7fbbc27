"""The lock that one send at a time has on a host's store: ``LOCK`` of ``writing_scripts``."""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Callable
from contextlib import suppress
from threading import Event, Thread

from ollama_ferry.engine.run import Run
from ollama_ferry.errors import FerryError
from ollama_ferry.places.ssh.connection import Call, SshConnection
from ollama_ferry.places.ssh.refusals import holder
from ollama_ferry.places.ssh.writing_scripts import LOCK

_HEARTBEAT = 15.0
PATIENCE = 120
"""Seconds without a heartbeat after which a send counts as dead, where its host can't tell."""


class HostLock:
    """A lock on a store; held until it is released, or until this process or the line ends.

    Args:
        line: the line to the host.
        label: what the store is called, for messages.
        root: the store's folder there.
        staging: the staging folder, as it was found.
        patience: after how many seconds without a heartbeat another's lock counts no more.
    """

    def __init__(self, line: SshConnection, label: str, root: str, staging: str, *, patience: int = PATIENCE) -> None:
        self.token = secrets.token_hex(16)
        self.waited = False
        self.forced = False
        self._line = line
        self._label = label
        self._parameters = [root, staging, self.token, _who()]
        self._patience = patience
        self._call: Call | None = None
        self._released = Event()

    @property
    def head(self) -> list[str]:
        """What every script that writes is told first."""
        return [*self._parameters[:3], *(["fresh"] if self.forced else [""])]

    def take(
        self,
        listing: Callable[[Call], None],
        *,
        wait: bool = True,
        run: Run | None = None,
    ) -> None:
        """Take the lock.

        Args:
            listing: reads what the staging folder holds, once nobody else changes it.
            wait: whether to wait for another send.
            run: notified of whom it waits for, and ends the waiting.

        Raises:
            AlreadyExists: another send has it, and ``wait`` is not set.
            FerryError: the store can't be written to.
            Cancelled: it was given up.
        """
        run = run or Run()
        call = self._line.call(LOCK, [*self._parameters, "yes" if wait else "no", str(self._patience)])
        try:
            while (word := call.line()).startswith("held"):
                if not self.waited:
                    run.note(f"{self._label} is in use by {holder(word[5:])}; waiting for it to finish")
                self.waited = True
                run.check()
            if word.split() not in (["locked"], ["locked", "forced"]):
                raise FerryError(f"{self._line.host} answered with something else than was asked for")
            self.forced = word.endswith("forced")
            listing(call)
        except BaseException as error:
            call.__exit__(type(error), error, None)
            raise
        self._call = call
        Thread(target=self._beat, args=(call,), name="heartbeat", daemon=True).start()

    def release(self, *, at_once: bool = False) -> None:
        """Give the lock back.

        Args:
            at_once: do not wait until the host has done so: it may hang, and does so by itself when the call has ended.
        """
        call, self._call = self._call, None
        if call is None:
            return
        self._released.set()
        if at_once:
            call.kill()
        with suppress(FerryError, OSError, ValueError), call:
            call.end_of_data()
            call.expect_end()

    def _beat(self, call: Call) -> None:
        # A line that broke is reported by whoever sends something next.
        with suppress(FerryError, OSError, ValueError):
            while not self._released.wait(_HEARTBEAT):
                call.send(b"\n")


def _who() -> str:
    """Tell whose process this is."""
    name = os.environ.get("USER") or os.environ.get("USERNAME") or "somebody"
    text = f"{name} on {socket.gethostname()} (process {os.getpid()})"
    return "".join(c if c.isprintable() else "?" for c in text)[:200]
