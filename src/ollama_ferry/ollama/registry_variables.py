"""Variables that Windows keeps in its registry: a terminal that was open before they were set does not have them.

Ollama's app reads them when it starts, which may be later. The user's count before the machine's, as in a new terminal.
Source: https://learn.microsoft.com/windows/win32/procthread/environment-variables
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Mapping

USER = "HKEY_CURRENT_USER", "Environment"
MACHINE = "HKEY_LOCAL_MACHINE", r"SYSTEM\CurrentControlSet\Control\Session Manager\Environment"
_WANTED = ("OLLAMA_MODELS", "OLLAMA_HOST")
_VARIABLE = re.compile(r"%([^%]+)%")

Key = tuple[str, str]


def with_registry(
    environ: Mapping[str, str], values: Callable[[Key], Mapping[str, str]] | None = None, platform: str = sys.platform
) -> Mapping[str, str]:
    """Return the variables of a process, and those of Ollama that only the registry has.

    Args:
        environ: the variables of the process.
        values: reads the values of a key, of those that are text.
        platform: as in ``sys.platform``.
    """
    if platform != "win32" or all(environ.get(name) for name in _WANTED):
        return environ
    found: dict[str, str] = {}
    for key in (MACHINE, USER):
        kept = {name.upper(): value for name, value in (values or _values)(key).items()}
        found.update({name: _expanded(kept[name], environ) for name in _WANTED if kept.get(name)})
    return {**environ, **{name: value for name, value in found.items() if not environ.get(name)}} if found else environ


def _expanded(text: str, environ: Mapping[str, str]) -> str:
    """Replace ``%NAME%``, as Windows does with what is kept as REG_EXPAND_SZ; what is unknown stays."""
    known = {name.upper(): value for name, value in environ.items()}
    return _VARIABLE.sub(lambda found: known.get(found[1].upper(), found[0]), text)


def _values(key: Key) -> Mapping[str, str]:
    """Read the texts of a key; nothing where it can't be read."""
    return dict(_texts(key))


def _texts(key: Key) -> Iterator[tuple[str, str]]:
    if sys.platform != "win32":
        return
    import winreg

    try:
        with winreg.OpenKey(getattr(winreg, key[0]), key[1]) as opened:
            for number in range(winreg.QueryInfoKey(opened)[1]):
                name, value, _ = winreg.EnumValue(opened, number)
                if isinstance(value, str):
                    yield name, value
    except OSError:
        return
