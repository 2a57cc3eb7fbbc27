"""``ollama-ferry doctor``."""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ollama_ferry import api
from ollama_ferry.cli.options import output_options, store_option
from ollama_ferry.cli.output import Output, stdout_is_terminal
from ollama_ferry.cli.progress import progress
from ollama_ferry.cli.sudo import sudo_line
from ollama_ferry.cli.tables import print_table
from ollama_ferry.cli.terminal import say
from ollama_ferry.errors import Damaged
from ollama_ferry.shell_lines import quoted
from ollama_ferry.wording import counted, human_size, shown

if TYPE_CHECKING:
    from ollama_ferry.api import Finding, MachineReport, StoreSeen

_COLOURS = {"problem": "red", "warning": "yellow", "note": "cyan"}
_WIDEST = 100


@click.command("doctor")
@store_option
@output_options
def command(store: Path | None, output: Output) -> None:
    """Find what is wrong with Ollama's models on this machine, and print the lines that mend it.

    It changes nothing, and hashes nothing: `ollama-ferry verify` does that. Without --models DIR it looks into every
    store that it finds. Exit code 4 means that there is a problem; warnings and notes leave it at 0.
    """
    with progress("looking", output) as observer:
        report = api.doctor(store, observer=observer)
    if output.as_json:
        output.document(_fields(report))
    else:
        _print(report, output)
    problems = report.count(api.Severity.PROBLEM)
    if problems:
        raise Damaged(f"{counted(problems, 'problem')} found", hint="Each is above, with the lines that mend it.")


def _print(report: MachineReport, output: Output) -> None:
    if not output.quiet:
        _print_stores(report)
    findings = [finding for finding in report.findings if not (output.quiet and finding.severity is api.Severity.NOTE)]
    for number, finding in enumerate(findings):
        _print_finding(finding)
        following = findings[number + 1] if number + 1 < len(findings) else None
        if following is None or _kind(following) != _kind(finding):
            if finding.what_if and not output.quiet:
                _print_wrapped(finding.what_if)
                say()
            for more in report.omitted:
                if (more.code, more.store, more.severity) == _kind(finding):
                    say(f"  ... and {more.count} more like this; run doctor again when these are mended")
                    say()
    if output.quiet:
        return
    counts = [counted(report.count(severity), severity.value) for severity in api.Severity]
    say(", ".join(counts) + "; nothing was changed")
    store = next((store for store in report.stores if store.chosen and store.held), None)
    if store is not None:
        say("sizes were compared, no blob was hashed; that does:")
        say(f"  ollama-ferry verify --models {quoted(store.path)}")


def _print_stores(report: MachineReport) -> None:
    print_table(
        ("STORE", "MODELS", "BLOBS", "FOUND BECAUSE"),
        [_row(store) for store in report.stores],
        right=(1, 2),
        below=(3,),
    )
    served = [store for store in report.stores if store.served]
    if served:
        say(f"the server at {report.server} uses {shown(served[0].path)}")
    elif any(finding.code == "doubted-server" for finding in report.findings):
        say(f"the server at {report.server} names {report.server_folder}, and is not believed")
    elif report.server_folder:
        say(f"the server at {report.server} uses {report.server_folder}, which is none of these")
    else:
        why = (
            "names no folder: it has no model, or only tensor and cloud models" if report.answered else "did not answer"
        )
        say(f"the server at {report.server} {why}")
    chosen = next((store for store in report.stores if store.chosen), None)
    if chosen is not None:
        say(f"ollama-ferry uses {shown(chosen.path)}")
    say()


def _row(store: StoreSeen) -> tuple[str, ...]:
    held = store.held
    if held is None:
        return (shown(store.path), "?", "?", f"{shown(store.why)} (not looked into)")
    return (shown(store.path), str(held.models), human_size(held.size), shown(store.why))


def _print_finding(finding: Finding) -> None:
    say(f"{finding.severity.value.upper()}: {finding.code}", fg=_COLOURS[finding.severity.value], bold=True)
    _print_wrapped(finding.text)
    for line in _mend(finding):
        say(f"    {line}")
    say()


def _print_wrapped(text: str) -> None:
    for line in textwrap.wrap(text, _width() - 2, break_long_words=False, break_on_hyphens=False):
        say(f"  {line}")


def _mend(finding: Finding) -> tuple[str, ...]:
    """Return the lines that mend a finding; what this user may not look at, root may."""
    if finding.code == "closed" and hasattr(os, "geteuid") and os.geteuid() != 0:
        return (*finding.mend, sudo_line(sys.argv, os.environ))
    return finding.mend


def _kind(finding: Finding) -> tuple[str, str, api.Severity]:
    return finding.code, finding.store, finding.severity


def _width() -> int:
    return min(_WIDEST, shutil.get_terminal_size().columns) if stdout_is_terminal() else _WIDEST


def _fields(report: MachineReport) -> dict[str, object]:
    return {
        "server": {"address": report.server, "folder": report.server_folder},
        "stores": [
            {
                "path": shown(store.path),
                "why": shown(store.why),
                "chosen": store.chosen,
                "used_by_server": store.served,
                "models": store.held.models if store.held else None,
                "blobs_size": store.held.size if store.held else None,
            }
            for store in report.stores
        ],
        "problems": report.count(api.Severity.PROBLEM),
        "findings": [
            {
                "severity": finding.severity.value,
                "code": finding.code,
                "text": finding.text,
                "what_if": finding.what_if or None,
                "store": finding.store or None,
                "concerns": list(finding.concerns),
                "mend": list(_mend(finding)),
            }
            for finding in report.findings
        ],
        "omitted": [
            {"severity": more.severity.value, "code": more.code, "store": more.store or None, "count": more.count}
            for more in report.omitted
        ],
    }
