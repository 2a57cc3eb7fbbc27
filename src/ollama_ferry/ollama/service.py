"""Ollama's service on this machine, as systemd's files for it say.

Source: systemd.unit(5), systemd.exec(5): later files overrule earlier ones, and so do later lines.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from ollama_ferry.files.permissions import User, user_named

_UNIT_LIMIT = 256 * 1024


@dataclass(frozen=True)
class Service:
    """What systemd's files say of Ollama's service.

    Attributes:
        unit: the service's own file; None where there are at most drop-ins.
        user_name: whom it runs as.
        groups: further groups that it runs with.
        settings: the values of ``OLLAMA_MODELS``, each with the file that sets it; the first one counts.
    """

    unit: Path | None
    user_name: str
    groups: tuple[str, ...]
    settings: tuple[tuple[str, Path], ...]

    @property
    def exists(self) -> bool:
        """Whether there is a service: its unit, or at least the user that Ollama's installer makes for it."""
        return self.unit is not None or self.user is not None

    @cached_property
    def user(self) -> User | None:
        """The user that it runs as; None where there is no such user."""
        return user_named(self.user_name, list(self.groups))

    @property
    def home(self) -> Path | None:
        """The home of its user, where that is not the one that the installer makes."""
        if self.unit is None or self.user_name == "ollama":
            return None
        return self.user.home if self.user is not None else None


def read_service(unit_folders: Sequence[Path]) -> Service:
    """Read the service's unit and its drop-ins.

    Args:
        unit_folders: where systemd looks for them, what overrules the others first; none of it need be there.
    """
    unit: Path | None = None
    found: dict[str, str] = {}
    settings: list[tuple[str, Path]] = []
    for file in _files(unit_folders):
        try:
            with file.open(encoding="utf-8", errors="replace") as opened:
                text = opened.read(_UNIT_LIMIT)
        except OSError:
            continue
        if file.name == "ollama.service":
            unit = file
        for key, value in re.findall(
            r"^[ \t]*(User|SupplementaryGroups|Environment)[ \t]*=[ \t]*(.*?)\s*$", text, re.M
        ):
            if key == "Environment":
                settings += [(folder, file) for folder in _models_in(value)]
            else:
                found[key] = value
    # A unit without User= runs as root; without a unit, the installer's user is a sign of a service.
    user = found.get("User") or ("root" if unit else "ollama")
    return Service(unit, user, tuple(found.get("SupplementaryGroups", "").split()), tuple(reversed(settings)))


def _files(unit_folders: Sequence[Path]) -> list[Path]:
    files: list[Path] = []
    for folder in reversed(unit_folders):
        files.append(folder / "ollama.service")
        try:
            files += sorted((folder / "ollama.service.d").glob("*.conf"))
        except OSError:
            continue
    return files


def _models_in(line: str) -> list[str]:
    try:
        words = shlex.split(line)
    except ValueError:
        return []
    pairs = (word.partition("=") for word in words)
    return [value for key, _, value in pairs if key == "OLLAMA_MODELS" and value]
