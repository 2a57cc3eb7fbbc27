"""What the plots are drawn with, as SVG. Nothing in them is from outside."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

GRID, TEXT, FAINT = "#e2e2e2", "#222222", "#666666"


def drawing(width: int, height: int, title: str, about: str, parts: Sequence[str]) -> str:
    """Return a whole picture with a title, a line about it, and its parts."""
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
            f'font-family="sans-serif" font-size="13" fill="{TEXT}">',
            f"<title>{escape(title)}</title>",
            f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
            text(16, 26, title, size=16),
            text(16, 45, about, colour=FAINT),
            *parts,
            "</svg>",
            "",
        ]
    )


def text(
    x: float, y: float, words: str, *, size: int = 13, colour: str = "", anchor: str = "", bold: bool = False
) -> str:
    """Return words at a place."""
    more = f' fill="{colour}"' if colour else ""
    more += f' text-anchor="{anchor}"' if anchor else ""
    more += ' font-weight="bold"' if bold else ""
    return f'<text x="{x:.1f}" y="{y}" font-size="{size}"{more}>{escape(words)}</text>'
