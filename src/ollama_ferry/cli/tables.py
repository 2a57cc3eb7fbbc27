"""Plain tables, for people and for ``awk``."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from ollama_ferry.cli.terminal import escaped, say


def print_table(
    header: Sequence[str], rows: Sequence[Sequence[str]], *, right: Collection[int] = (), err: bool = False
) -> None:
    """Print rows in columns, two blanks between them, on stdout or stderr.

    Args:
        header: the columns' names.
        rows: as many texts each as the header has.
        right: the columns that are flush right.
    """
    # Escaped before they are measured.
    lines = [header, *([escaped(text) for text in row] for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    for line in lines:
        cells = [
            text.rjust(width) if column in right else text.ljust(width)
            for column, (text, width) in enumerate(zip(line, widths, strict=True))
        ]
        say("  ".join(cells).rstrip(), err=err)
