"""What a word on the command line means: one grammar for every command (docs/words.md)."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from enum import Enum

from ollama_ferry.archives.kinds import has_archive_ending
from ollama_ferry.errors import UsageError


class Means(Enum):
    """What a word may mean; the value says it in messages."""

    MODEL = "a model"
    PATTERN = "a pattern"
    ARCHIVE = "an archive"
    FOLDER = "a folder"
    HOST = "a host"
    STREAM = "a stream"
    URL = "an address of the web"

    @property
    def is_place(self) -> bool:
        """Whether it is something that holds models."""
        return self not in (Means.MODEL, Means.PATTERN)


def meaning_of_word(text: str, *, bare: Means = Means.MODEL) -> Means:
    """Decide what a word means.

    In this order: ``-`` is a stream; a path that begins as one, and whatever lies here under that name, is a folder or
    an archive's file; ``ssh://``, ``host:/path``, ``host:`` and ``user@host`` are hosts, other schemes addresses; what
    ends as archives do is one, and what ends in a digest a model in a registry; ``*``, ``?`` and ``[`` make a pattern.

    Args:
        text: the word.
        bare: what any other word is.
    """
    if text == "-":
        return Means.STREAM
    scheme = re.match(r"([A-Za-z][A-Za-z0-9+.-]+)://", text)
    if scheme:
        return Means.HOST if scheme[1] == "ssh" else Means.URL
    if is_path(text) or os.path.lexists(text):
        return Means.FOLDER if os.path.isdir(os.path.expanduser(text)) else Means.ARCHIVE
    if re.search(r":[/~]|:$", text):
        return Means.HOST
    if has_archive_ending(text):
        return Means.ARCHIVE
    if re.search(r"@sha256:[0-9a-f]{64}$", text):
        return bare
    if "@" in text:
        return Means.HOST
    return Means.PATTERN if any(char in text for char in "*?[") else bare


def is_path(text: str) -> bool:
    """Return whether a text begins as a path does, of this system or of Windows."""
    return text in (".", "..") or bool(re.match(r"[/~\\]|\.{1,2}[/\\]|[A-Za-z]:[/\\]", text))


def place_and_models(words: Sequence[str]) -> tuple[tuple[str, Means] | None, list[str]]:
    """Tell the place that is to be looked into from the models of it.

    Returns:
        The place and what it is, None for the store here; and the other words.

    Raises:
        UsageError: there are two places, or it is nothing that can be looked into.
    """
    meant = [(word, meaning_of_word(word)) for word in words]
    places = [(word, means) for word, means in meant if means.is_place]
    for word, means in places:
        if means is Means.URL:
            raise UsageError(
                f"{word!r} is on the web, and no file here", hint=f"curl -fL -O {word}, and then name the file."
            )
    if len(places) > 1:
        raise UsageError(f"{places[0][0]!r} and {places[1][0]!r} are two places: name one")
    return places[0] if places else None, [word for word, means in meant if not means.is_place]
