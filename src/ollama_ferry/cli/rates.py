"""Rates as people write them: ``20M`` for ``--bwlimit``."""

from __future__ import annotations

import re

from ollama_ferry.errors import UsageError

_UNITS = {"": 1, "k": 1000, "m": 1000**2, "g": 1000**3}


def rate(text: str) -> int:
    """Read a rate in bytes a second: ``20M``, ``500k``; 0 is no limit.

    Raises:
        UsageError: it is none.
    """
    found = re.fullmatch(r"([0-9]{1,12}(?:\.[0-9]+)?)([kKmMgG]?)(?:i?[bB])?", text)
    if not found:
        raise UsageError(f"--bwlimit {text!r} is no rate", hint="For example 20M, which is 20 million bytes a second.")
    found_rate = int(float(found[1]) * _UNITS[found[2].lower()])
    if not found_rate and text != "0":
        raise UsageError(f"--bwlimit {text!r} is less than a byte a second")
    return found_rate
