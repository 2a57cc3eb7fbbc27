"""The plot of a run, as SVG: wall time against the limit on a logarithmic axis."""

from __future__ import annotations

import math
from collections.abc import Sequence

from alternatives import ARRIVING, LEAVING
from drawing import FAINT, GRID, drawing, text
from figures import Figures, Row

_WIDTH, _LEFT, _RIGHT = 980, 330, 190
_LINE, _TOP, _GAP = 22, 64, 62
_TICKS = (0.5, 1, 2, 5, 10, 20, 50, 100, 200)
_OURS, _OTHER = "#0b6e99", "#9a9a9a"


def plot(figures: Figures) -> str:
    """Draw the export and the import of one model: a dot for the median of the ratios, a line for their range."""
    rows = figures.parts.get("one-model", [])
    panels = [("Export", LEAVING), ("Import", ARRIVING)]
    shown = {title: [row for row in rows if row.table == table] for title, table in panels}
    ratios = [ratio for row in rows for ratio in row.ratios] or [1.0]
    axis = _Axis(min(ratios), max(ratios))
    parts: list[str] = []
    y = _TOP
    for title, contained in shown.items():
        parts += _panel(title, contained, axis, y)
        y += len(contained) * _LINE + _GAP
    machine = f"{figures.machine.get('processor', '')}, {figures.machine.get('cores', '?')} cores, {figures.date}"
    title = f"Wall time against the limit: one model of {figures.gigabytes:g} GB, 4-bit weights"
    about = f"left is faster; blue is ollama-ferry, which hashes and syncs; {machine}"
    return drawing(_WIDTH, y, title, about, parts)


class _Axis:
    """Places a ratio; the range is that of the ratios, out to the next mark."""

    def __init__(self, least: float, most: float) -> None:
        self.least = max((mark for mark in _TICKS if mark <= least), default=_TICKS[0])
        self.most = min((mark for mark in _TICKS if mark >= most), default=_TICKS[-1])
        if self.most <= self.least:
            self.most = self.least * 2

    def at(self, ratio: float) -> float:
        share = math.log(ratio / self.least) / math.log(self.most / self.least)
        return _LEFT + min(1.0, max(0.0, share)) * (_WIDTH - _LEFT - _RIGHT)

    @property
    def ticks(self) -> list[float]:
        return [mark for mark in _TICKS if self.least <= mark <= self.most]


def _panel(title: str, rows: Sequence[Row], axis: _Axis, top: int) -> list[str]:
    bottom = top + 16 + len(rows) * _LINE
    drawn = [text(16, top + 8, title, size=14, bold=True)]
    for mark in axis.ticks:
        x = axis.at(mark)
        colour = FAINT if mark == 1 else GRID
        drawn.append(f'<line x1="{x:.1f}" y1="{top + 12}" x2="{x:.1f}" y2="{bottom}" stroke="{colour}"/>')
        drawn.append(text(x, bottom + 15, f"{mark:g}×", colour=FAINT, anchor="middle", size=11))
    for number, row in enumerate(rows):
        drawn += _row(row, axis, top + 16 + number * _LINE + _LINE // 2)
    return drawn


def _row(row: Row, axis: _Axis, y: int) -> list[str]:
    colour = _OURS if row.ours else _OTHER
    drawn = [text(_LEFT - 10, y + 4, row.name, anchor="end", bold=row.ours)]
    if not row.ratios:
        return [*drawn, text(_LEFT + 6, y + 4, row.failed[:60] or "not measured", colour=FAINT)]
    left, middle, right = axis.at(min(row.ratios)), axis.at(row.ratio), axis.at(max(row.ratios))
    size = f", {row.size / row.content * 100:.1f} % of the size" if row.size and row.content else ""
    wrong = f", {row.wrong}" if row.wrong else ""
    return [
        *drawn,
        f'<line x1="{left:.1f}" y1="{y}" x2="{right:.1f}" y2="{y}" stroke="{colour}" stroke-width="3"/>',
        f'<circle cx="{middle:.1f}" cy="{y}" r="5" fill="{colour}"/>',
        text(max(middle, right) + 10, y + 4, f"{row.ratio:.2f}×{size}{wrong}", size=11),
    ]
