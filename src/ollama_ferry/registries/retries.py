"""Trying again: how often, and how long to wait before."""

from __future__ import annotations

import random

from ollama_ferry.engine.rate import sleep_until
from ollama_ferry.engine.run import Run
from ollama_ferry.errors import FerryError
from ollama_ferry.registries.access import Patience


class Tries:
    """Attempts at one thing: counts those in vain, waits longer after each, and gives up in the end.

    Args:
        patience: how often something is tried, and how long the waits are.
        run: ends every wait.

    Attributes:
        failures: how many attempts in a row were in vain.
    """

    def __init__(self, patience: Patience, run: Run) -> None:
        self._patience = patience
        self._run = run
        self.failures = 0

    def failed(self, error: FerryError, least: float = 0.0) -> None:
        """Count an attempt in vain and wait before the next: longer each time, never the same twice.

        Args:
            error: what is raised where there is no next one.
            least: the seconds that the other side asked for.

        Raises:
            FerryError: it was the last one.
            Cancelled: the work was given up meanwhile.
        """
        self.failures += 1
        patience = self._patience
        if self.failures >= patience.attempts:
            raise error
        wait = patience.first_wait * 2 ** (self.failures - 1) * random.uniform(0.75, 1.25)  # noqa: S311 -- no secret
        run = self._run
        sleep_until(run.clock() + min(max(wait, least), patience.longest_wait), run.cancel, run.clock)

    def succeeded(self) -> None:
        """Count anew: one got further."""
        self.failures = 0
