"""Words that were meant for another shell or another system, and what to type here instead.

Sources: PowerShell's about_Quoting_Rules and about_Environment_Variables; ``cmd /?``; Microsoft, "Parsing C++
command-line arguments" (a backslash before a quote makes it a character of the word); WSL's ``/mnt/c``.
"""

from __future__ import annotations

import os
import re
import sys

from ollama_ferry.errors import UsageError
from ollama_ferry.shell_lines import quoted

_OF_WINDOWS = re.compile(r"(?:([A-Za-z]):)?(\.{0,2})([\\/].*)")
_VARIABLE = re.compile(r"%\w+%|\$env:\w+|\$\{\w+\}|\$\w+(?=[\\/]|$)")
_FILLS_IN = {
    True: "PowerShell fills in $env:NAME, cmd %NAME%.",
    False: "A shell fills in $NAME, outside quotes or in double ones.",
}
# In the middle and at the end they are common: the disks of a Mac are called after their owners.
_OPENING_QUOTES = ("\u2018", "\u201c", "\u201e", "\u00ab")


def require_typed_here(word: str, platform: str = sys.platform, *, in_wsl: bool | None = None) -> None:
    """Check that a word is not one which this shell would have left alone, or that leads nowhere on this system.

    What is there under that very name is taken as it is.

    Args:
        word: a file, a folder, a model or a host.
        platform: of whose shell, as in ``sys.platform``.
        in_wsl: it is Linux below Windows; by default that is found out.

    Raises:
        UsageError: it is such a word.
    """
    if os.path.lexists(word):
        return
    shown = quoted(word, platform)
    if word.startswith(_OPENING_QUOTES):
        raise UsageError(
            f"{shown} begins with a curly quote, as a text editor or a web page makes them", hint="Type straight ones."
        )
    if found := re.fullmatch(r"([\"'])(.+)\1", word):
        raise UsageError(
            f"{word} came with its quotes: {_who_keeps_them(found[1], platform)}",
            hint=f"Type: {quoted(found[2], platform)}",
        )
    if word.endswith('"') and "\\" in word:
        raise UsageError(
            f"{shown} ends in a quote: a backslash before the closing quote makes a part of the word of it",
            hint=f"Leave that backslash away: {quoted(word.rstrip(chr(34)), platform)}",
        )
    if word.lower().startswith("file:/"):
        raise UsageError(f"{shown} is an address, and a file's path is wanted", hint=_path_of(word, platform))
    if os.path.isdir(os.path.dirname(word)):
        # A new file in a folder that really is called so.
        return
    # An address of the web has such signs of its own.
    if "://" not in word and (found := _VARIABLE.search(word)):
        fills_in = _FILLS_IN[platform == "win32"]
        raise UsageError(f"{shown} holds {found[0]}, which the shell did not fill in", hint=fills_in)
    if platform != "win32" and (found := _OF_WINDOWS.fullmatch(word)) and (found[1] or "\\" in word):
        system = {"linux": "Linux", "darwin": "macOS"}.get(platform, "another system")
        raise UsageError(f"{shown} is a path of Windows, and this is {system}", hint=_here(found, in_wsl))


def _who_keeps_them(quote: str, platform: str) -> str:
    if platform == "win32" and quote == "'":
        return "to cmd a ' is a letter as any other"
    return "they were quoted once more"


def _path_of(address: str, platform: str) -> str:
    from urllib.parse import unquote

    path = unquote(re.sub(r"^file:(//(localhost)?(?=/))?", "", address, flags=re.IGNORECASE))
    # Before the letter of a drive an address has a slash more.
    return f"Type: {quoted(path[1:] if re.match('/[A-Za-z]:', path) else path, platform)}"


def _here(found: re.Match[str], in_wsl: bool | None) -> str:
    drive, dots, rest = found.groups()
    path = rest.replace("\\", "/")
    if drive:
        below = f"/mnt/{drive.lower()}{path}"
        wsl = os.path.isdir("/mnt/c") if in_wsl is None else in_wsl
        return f"Type: {quoted(below, 'linux')}" if wsl else "Copy it here, and name the copy."
    if path.startswith("//"):
        return "Mount the share (mount -t cifs, or the file manager), and name the path below it."
    return f"Type: {quoted((dots or '') + path, 'linux')}"
