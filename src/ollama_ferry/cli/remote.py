"""What commands need to call other hosts: what a place is, and the options of ssh."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import wraps
from typing import Any

import click

from ollama_ferry.archives.kinds import looks_like_archive
from ollama_ferry.cli.rates import rate
from ollama_ferry.errors import UsageError
from ollama_ferry.places.ssh.line import Line, SshOptions
from ollama_ferry.places.ssh.place import SshPlace


@dataclass(frozen=True)
class Place:
    """Where a word points.

    Attributes:
        host: as ssh takes it; empty for a folder of this machine.
        path: the store's folder; empty to find it.
        port: the port, or None.
    """

    host: str
    path: str
    port: int | None = None


@dataclass(frozen=True)
class SshWords:
    """The options of ssh as they were typed."""

    ssh: str
    bwlimit: int
    compress: bool
    sudo: bool


def looks_like_place(word: str) -> bool:
    """Tell whether a word can be nothing but a place: no name of a model has such a form."""
    return (
        word.startswith(("/", "./", "../", "~", "ssh://"))
        or word in (".", "..")
        or bool(re.search(r"@|:[/~]|:$", word))
    )


def place_of(word: str) -> Place:
    """Read ``user@host``, ``host:/path``, ``ssh://user@host:port/path``, or a folder.

    Raises:
        UsageError: it is none of these.
    """
    if word.startswith(("/", "./", "../", "~")) or word in (".", ".."):
        return Place("", word)
    if word.startswith("ssh://"):
        found = re.fullmatch(
            r"ssh://((?:[^@/]*@)?)(\[[0-9A-Za-z:.%]+\]|[^/\[\]@:]+)(?::([0-9]{1,5}))?(/.*)?", word, re.DOTALL
        )
        if not found:
            raise UsageError(f"{word[:200]!a} is no place", hint="ssh://user@host:22/path/to/models")
        return Place(found[1] + found[2].strip("[]"), found[4] or "", int(found[3]) if found[3] else None)
    bracketed = re.fullmatch(r"((?:[^@]*@)?)\[([0-9A-Fa-f:.%a-z]+)\](?::(.*))?", word, re.DOTALL)
    if bracketed:
        return Place(bracketed[1] + bracketed[2], bracketed[3] or "")
    host, _, path = word.partition(":")
    return Place(host, path)


def is_host(word: str) -> bool:
    """Tell whether a word that may be a file means another host: it looks like one, or is no file that is here."""
    if looks_like_place(word):
        return bool(place_of(word).host)
    return not looks_like_archive(word) and not os.path.exists(word)


def open_ssh(stack: ExitStack, place: Place, words: SshWords) -> SshPlace:
    """Return a place on a host, whose line ends with the stack."""
    try:
        command = tuple(shlex.split(words.ssh)) or ("ssh",)
    except ValueError as error:
        raise UsageError(f"--ssh {words.ssh!r} can't be split into words: {error}") from None
    options = SshOptions(command, words.compress, words.sudo, words.bwlimit)
    return SshPlace(stack.enter_context(Line(place.host, place.port, options)), place.path)


def ssh_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--ssh``, ``--bwlimit``, ``-C`` and ``--sudo``, given as one ``ssh_words``."""

    @click.option(
        "--ssh", default="ssh", show_default=True, metavar="COMMAND", help="The ssh to use, with its options."
    )
    @click.option("--bwlimit", default="0", metavar="RATE", help="Bytes a second at the most: 20M, 500k.")
    @click.option("-C", "compress", is_flag=True, help="Let ssh compress; weights hardly shrink.")
    @click.option("--sudo", is_flag=True, help="Work as root over there, where sudo asks for no password.")
    @wraps(command)
    def wrapped(*args: Any, ssh: str, bwlimit: str, compress: bool, sudo: bool, **more: Any) -> Any:
        return command(*args, ssh_words=SshWords(ssh, rate(bwlimit), compress, sudo), **more)

    return wrapped
