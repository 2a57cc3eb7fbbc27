"""Tables for people and for ``awk``: columns two blanks apart, and no wider than the terminal.

Without a terminal a row is one line, however long. On one, what is too wide gives way in this order: columns of words
go below their row, long names stand on lines of their own, in one piece, and columns that matter least are left out.
"""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Collection, Iterator, Sequence

from ollama_ferry.cli.terminal import columns_of, escaped, is_terminal, say

_GAP = 2
# What names rows is made no narrower than this while other columns can be left out.
_LEAST = 20
_INDENT = " " * 4


def print_table(
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    right: Collection[int] = (),
    below: Sequence[int] = (),
    spare: Sequence[int] = (),
    colours: Sequence[str] = (),
) -> None:
    """Print rows in columns; the first names what a row is about.

    Args:
        header: the columns' names.
        rows: as many texts each as the header has.
        right: the columns that are flush right.
        below: the columns of words, which may stand below their row; the first goes first.
        spare: the columns that may be left out, what matters least first.
        colours: of each row, or empty; the words say the same.
    """
    # Escaped before they are measured.
    cells = [list(header), *([escaped(text) for text in row] for row in rows)]
    widths = {column: max(len(line[column]) for line in cells) for column in range(len(header))}
    width = columns_of(sys.stdout) if is_terminal(sys.stdout) else None
    moved = _fit(widths, width, below, spare) if width is not None else []
    for number, line in enumerate(cells):
        style = {"bold": True} if not number else {"fg": colours[number - 1]} if any(colours[number - 1 :][:1]) else {}
        for text in _row(line, widths, right):
            say(text, **style)
        for column in moved if number else []:
            for text in _words(header[column], line[column], width or 0):
                say(_INDENT + text, **style)


def wrapped(text: str, width: int) -> list[str]:
    """Break a text between words; what has no blank stays in one piece, to be copied."""
    return textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False) or [""]


def _fit(widths: dict[int, int], width: int, below: Sequence[int], spare: Sequence[int]) -> list[int]:
    """Make a row no wider than the terminal; return the columns that stand below it."""
    moved: list[int] = []
    sparing = [column for column in spare if column not in below]
    waiting = list(below)
    while (excess := sum(widths.values()) + _GAP * (len(widths) - 1) - width) > 0:
        if waiting:
            del widths[waiting[0]]
            moved.append(waiting.pop(0))
        elif widths[0] - excess >= min(_LEAST, widths[0]) or not sparing:
            widths[0] = max(widths[0] - excess, 1)
            break
        else:
            del widths[sparing.pop(0)]
    return sorted(moved)


def _row(line: Sequence[str], widths: dict[int, int], right: Collection[int]) -> Iterator[str]:
    first = line[0]
    if len(first) > widths[0]:
        yield first
        first = ""
    texts = {column: line[column] if column else first for column in widths}
    row = (" " * _GAP).join(
        text.rjust(widths[column]) if column in right else text.ljust(widths[column]) for column, text in texts.items()
    )
    if row.strip():
        yield row.rstrip()


def _words(name: str, text: str, width: int) -> list[str]:
    if text in ("", "-"):
        return []
    return wrapped(f"{name.lower()}: {text}" if name else text, max(1, width - len(_INDENT)))
