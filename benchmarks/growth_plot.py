"""The plot of how cost grows, as SVG: seconds against what is counted, both axes logarithmic."""

from __future__ import annotations

import math

from drawing import FAINT, GRID, drawing, text
from figures import Figures
from parts.growth import AMOUNTS, TABLES, name_of

_COLOURS = {"export": "#0b6e99", "import": "#b3541e", "list": "#5a7d2a"}
_WIDTH, _HEIGHT, _PANEL, _LEFT, _TOP = 980, 400, 250, 60, 80
_SPAN = 240
_DECADES = (-2, 3)


def growth_plot(figures: Figures) -> str:
    """Draw a panel each for bytes, blobs and models; along the thin lines twice as much takes twice as long."""
    parts: list[str] = []
    for number, counted in enumerate(AMOUNTS):
        parts += _panel(figures, counted, _LEFT + number * (_PANEL + 60))
    about = f"thin lines: in proportion; {figures.machine.get('processor', '')}, {figures.date}"
    return drawing(_WIDTH, _HEIGHT, "How time grows with what is carried, seconds", about, parts)


def _panel(figures: Figures, counted: str, left: int) -> list[str]:
    amounts = AMOUNTS[counted]
    first, last = math.log10(amounts[0]), math.log10(amounts[-1])

    def x(amount: float) -> float:
        return left + (math.log10(amount) - first) / (last - first) * _PANEL

    def y(seconds: float) -> float:
        share = (math.log10(seconds) - _DECADES[0]) / (_DECADES[1] - _DECADES[0])
        return _TOP + (1 - min(1.0, max(0.0, share))) * _SPAN

    drawn = [text(left, _TOP - 12, TABLES[counted], bold=True)]
    for decade in range(_DECADES[0], _DECADES[1] + 1):
        height = y(10.0**decade)
        drawn.append(f'<line x1="{left}" y1="{height:.1f}" x2="{left + _PANEL}" y2="{height:.1f}" stroke="{GRID}"/>')
        drawn.append(text(left - 6, height + 4, f"{10.0**decade:g}", size=11, colour=FAINT, anchor="end"))
    for amount in amounts:
        drawn.append(text(x(amount), _TOP + _SPAN + 18, f"{amount:,}", size=11, colour=FAINT, anchor="middle"))
    for what, colour in _COLOURS.items():
        rows = [(amount, figures.find("growth", name_of(what, counted, amount))) for amount in amounts]
        points = [(amount, row.time) for amount, row in rows if row is not None]
        if not points:
            continue
        amount, seconds = points[-1]
        least = max(amounts[0], amount * 10 ** _DECADES[0] / seconds)
        drawn.append(
            f'<line x1="{x(least):.1f}" y1="{y(seconds * least / amount):.1f}" x2="{x(amount):.1f}" '
            f'y2="{y(seconds):.1f}" stroke="{colour}" stroke-width="0.7" stroke-dasharray="4 3"/>'
        )
        path = " ".join(f"{x(amount):.1f},{y(seconds):.1f}" for amount, seconds in points)
        drawn.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2.5"/>')
        drawn += [f'<circle cx="{x(a):.1f}" cy="{y(s):.1f}" r="4" fill="{colour}"/>' for a, s in points]
        drawn.append(
            text(x(amount) - 6, y(seconds) - 8, f"{what} {seconds:.3g} s", size=11, colour=colour, anchor="end")
        )
    return drawn
