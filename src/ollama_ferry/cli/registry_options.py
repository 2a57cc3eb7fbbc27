"""The options of commands that talk to registries."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import click

from ollama_ferry.cli.rates import rate
from ollama_ferry.errors import UsageError
from ollama_ferry.registries.access import Access

_FILE = click.Path(path_type=Path, readable=False)


def registry_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--insecure``, ``--ca-file``, ``--cert``, ``--key`` and ``--bwlimit``, given as one ``access``."""

    @click.option("--insecure", is_flag=True, help="Talk plain http instead of https.")
    @click.option("--ca-file", type=_FILE, metavar="FILE", help="Trust these authorities too.")
    @click.option("--cert", type=_FILE, metavar="FILE", help="The client's certificate.")
    @click.option("--key", type=_FILE, metavar="FILE", help="Its key, where that is another file.")
    @click.option("--bwlimit", default="0", metavar="RATE", help="Bytes a second at the most: 20M, 500k.")
    @wraps(command)
    def wrapped(
        *args: Any, insecure: bool, ca_file: Path | None, cert: Path | None, key: Path | None, bwlimit: str, **more: Any
    ) -> Any:
        if key is not None and cert is None:
            raise UsageError("--key goes with --cert")
        access = Access(insecure, ca_file, cert, key, rate(bwlimit), dict(os.environ))
        return command(*args, access=access, **more)

    return wrapped
