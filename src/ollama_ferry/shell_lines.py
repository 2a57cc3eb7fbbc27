"""Lines that people type: for a POSIX shell, or on Windows for PowerShell."""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Iterable

# Without the comma, which makes a list in PowerShell, and the at sign, with which a variable begins there.
_PLAIN_ON_WINDOWS = re.compile(r"[A-Za-z0-9_.:/\\+=-]+")


def quoted(word: object, platform: str = sys.platform) -> str:
    """Return a path, a name or another word as one of a line that people type; what does not print is escaped.

    For a POSIX shell, where that still means the same file; on Windows for PowerShell, and cmd as far as they agree.
    Source: about_Quoting_Rules, about_Special_Characters of PowerShell.

    Args:
        word: the word.
        platform: of whose shell, as in ``sys.platform``.
    """
    text = str(word)
    if platform == "win32":
        return _quoted_on_windows(text)
    if text.isprintable():
        return shlex.quote(text)
    plain = set(range(0x20, 0x7F)) - set(b"'\\")
    return "$'" + "".join(chr(byte) if byte in plain else f"\\x{byte:02x}" for byte in os.fsencode(text)) + "'"


def _quoted_on_windows(text: str) -> str:
    if _PLAIN_ON_WINDOWS.fullmatch(text):
        return text
    text = text if text.isprintable() else repr(text)[1:-1]
    # In double quotes both shells take what is left as it is; cmd knows no other quotes.
    return "'" + text.replace("'", "''") + "'" if set(text) & set('$`"%!') else f'"{text}"'


def joined(words: Iterable[object], platform: str = sys.platform) -> str:
    """Return words as a line that people type; see :func:`quoted`."""
    return " ".join(quoted(word, platform) for word in words)


def split_line(line: str, platform: str = sys.platform) -> list[str]:
    r"""Return the words of a line as the shell has them; on Windows, a backslash is a character as any other.

    Raises:
        ValueError: a quote has no end.
    """
    if platform != "win32":
        return shlex.split(line)
    return [re.sub(r"[\"']", "", word) for word in shlex.split(line, posix=False)]


def removal(paths: Iterable[object], options: str = "", platform: str = sys.platform) -> str:
    """Return the line that removes files.

    Args:
        paths: the files.
        options: of rm: ``-f``, ``-rf``.
        platform: of whose shell, as in ``sys.platform``.
    """
    if platform == "win32":
        # Of several words Remove-Item takes the first one alone.
        some = ",".join(quoted(path, platform) for path in paths)
        return f"Remove-Item {'-Recurse ' * ('r' in options)}{'-Force ' * ('f' in options)}-LiteralPath {some}"
    return joined(["rm", *([options] if options else []), *paths], platform)


def renaming(path: object, target: object, platform: str = sys.platform) -> str:
    """Return the line that gives a file another name, which is free now.

    Somebody may have put a link to a folder there when it is run: it must not lead the file into that. ``-T`` is known
    to GNU and BusyBox.
    """
    if platform == "win32":
        return f"Move-Item -LiteralPath {quoted(path, platform)} -Destination {quoted(target, platform)}"
    return joined(["mv", "-nT" if platform == "linux" else "-n", path, target], platform)


def folder_making(path: object, platform: str = sys.platform) -> str:
    """Return the line that makes a folder, and those above it."""
    return joined(["mkdir", path] if platform == "win32" else ["mkdir", "-p", path], platform)


def one_then_other(one: str, other: str, platform: str = sys.platform) -> str:
    """Return the line that does something else when the first has been done."""
    return f"{one}; if ($?) {{ {other} }}" if platform == "win32" else f"{one} && {other}"
