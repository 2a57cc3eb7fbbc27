"""The report of a run, as Markdown."""

from __future__ import annotations

from statistics import median

from alternatives import LIMIT
from figures import TOLERANCE, Figures, Row, change
from parts import PARTS
from targets import targets

_HEAD = "| what | seconds | least to most | runs | of `cp` | processor | of `cp`'s | file | peak memory | restored |"
_COLUMNS = _HEAD.count("|") - 1

_QUICK = "**This was a quick run to try the machinery: the figures say nothing.**"


def report(figures: Figures, before: Figures | None, *, command: str, plot: str, growth: str) -> str:
    """Return the tables.

    Args:
        figures: the run.
        before: the run that was recorded last; compared where its size is the same.
        command: how the run was started.
        plot: the name of the plot's file, beside the report's.
        growth: the same of the plot of how cost grows.
    """
    comparable = before if before and before.gigabytes == figures.gigabytes else None
    lines = [
        "# Benchmarks: the figures",
        "",
        f"Written by `{command}` on {figures.date}; how to read and repeat it: [benchmarks](benchmarks.md).",
        f"The main model has {figures.gigabytes:g} GB.{_QUICK if '--quick' in command else ''} "
        + _compared_with(comparable, figures.machine),
        "",
        f"![wall time against the limit, and size]({plot})",
        "",
        "| the machine | |",
        "| --- | --- |",
        *(f"| {fact} | {value} |" for fact, value in figures.machine.items()),
        "",
        "## What is asked",
        "",
        "| what is asked | measured | met |",
        "| --- | --- | --- |",
    ]
    for target in targets(figures):
        verdict = "not measured" if target.met is None else "yes" if target.met else "**no**"
        lines.append(f"| {target.asked} | {target.found} | {verdict} |")
    absent = [name for name in PARTS if name not in figures.parts]
    if absent:
        lines += ["", f"Not in this run: {', '.join(absent)}."]
    for name, rows in figures.parts.items():
        lines += ["", f"## {name}", "", PARTS[name].about]
        lines += ["", f"![seconds against amounts]({growth})"] if name == "growth" else []
        for table in dict.fromkeys(row.table for row in rows):
            lines += _table(table, [row for row in rows if row.table == table], comparable, name)
    lines += ["", "## How each was called", "", "`WORK` is the folder of the part, `BLOB` the file of the weights.", ""]
    for name, rows in figures.parts.items():
        lines += [f"- {name}, {row.name}: `{row.command}`" for row in rows if row.command]
    return "\n".join(lines) + "\n"


def _compared_with(before: Figures | None, machine: dict[str, str]) -> str:
    if not before:
        return "There is no recorded run of this size to compare with."
    other = "" if before.machine.get("processor") == machine.get("processor") else ", on another machine"
    return (
        f"Ratios are given as was → is, against the run of {before.date}{other}; "
        f"one of ours that got worse by over {(TOLERANCE - 1) * 100:.0f} % is marked."
    )


def _table(title: str, rows: list[Row], before: Figures | None, part: str) -> list[str]:
    base = PARTS[part].baseline
    head = _HEAD.replace("`cp`", LIMIT if base == LIMIT else f"`{base}`")
    head = head if base else _HEAD.replace("of `cp`'s", "").replace("of `cp`", "")
    lines = ["", f"### {title}", "", head, "| --- |" + " --: |" * (_COLUMNS - 2) + " --- |"]
    for row in rows:
        name = f"**{row.name}**" if row.ours else row.name
        if row.failed:
            lines.append(f"| {name} | {row.failed} |" + " |" * (_COLUMNS - 2))
            continue
        ratio, worse = change(row, before, part)
        size = f"{row.size / row.content * 100:.1f} %" if row.size and row.content else ""
        lines.append(
            f"| {name} | {row.time:.2f} | {min(row.seconds):.2f} to {max(row.seconds):.2f} | {len(row.seconds)} | "
            f"{ratio}{' **worse**' if worse else ''} | {_processor(row)} | {size} | {row.peak / 1e6:.0f} MB | "
            f"{_whole(row)} |"
        )
    return lines


def _processor(row: Row) -> str:
    used = f"{median(row.processor):.2f}" if row.processor else ""
    return f"{used} | {median(row.processor_ratios):.2f}" if row.processor_ratios else f"{used} | "


def _whole(row: Row) -> str:
    if row.wrong:
        return f"**{row.wrong}**"
    return "whole" if row.looked_at else ""


def regressions(figures: Figures, before: Figures | None) -> list[str]:
    """Return a line for each ratio of ours that got worse by more than the tolerance."""
    if before is None or before.gigabytes != figures.gigabytes:
        return []
    return [
        f"worse: {part}, {row.name}: {change(row, before, part)[0]}"
        for part, rows in figures.parts.items()
        for row in rows
        if change(row, before, part)[1]
    ]
