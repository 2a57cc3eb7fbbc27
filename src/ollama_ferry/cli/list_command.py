"""``ollama-ferry list``."""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path

import click

from ollama_ferry.cli.options import Output, find_store, models_option, open_contents, output_options
from ollama_ferry.cli.remote import SshWords, is_host, open_ssh, place_of, ssh_options
from ollama_ferry.cli.tables import print_table
from ollama_ferry.engine.ports import Inspectable
from ollama_ferry.jobs.list_ import ModelSummary, survey
from ollama_ferry.places.store.store import Store
from ollama_ferry.wording import counted, human_size


@click.command("list")
@click.argument("place", required=False)
@ssh_options
@models_option
@output_options
def command(
    place: str | None, ssh_words: SshWords, models: Path | None, quiet: bool, verbose: bool, as_json: bool
) -> None:
    """List the models of the store, or of PLACE: an archive, or another host (user@host, host:/path/to/models).

    OWN is what only this model uses: the bytes that removing it would free. A damaged model is shown as such; what is
    hashed for that is nothing: `ollama-ferry verify` does that.
    """
    output = Output(quiet, verbose, as_json)
    with ExitStack() as stack:
        here: Inspectable
        if place is None:
            store = Store(find_store(models, output).root)
            here, label, key = store, str(store.root), "store"
        elif is_host(place):
            there = open_ssh(stack, place_of(place), ssh_words)
            there.look()
            here, label, key = there, f"{there.line.host}:{there.root}", "store"
        else:
            source = open_contents(Path(place), output)
            here, label, key = source, source.label, "archive"
        summaries = survey(here)
    if as_json:
        output.document({key: label, "models": [_fields(s) for s in summaries]})
        return
    if not summaries:
        output.note(f"no models in {label}")
        return
    print_table(
        ("NAME", "ID", "SIZE", "OWN", "MODIFIED", ""),
        [_row(summary) for summary in summaries],
        right=(2, 3),
    )


def _row(summary: ModelSummary) -> tuple[str, ...]:
    manifest = summary.manifest
    if manifest is None:
        return (str(summary.name), "-", "-", "-", "-", f"damaged: {summary.problem}")
    if summary.remote:
        return (str(summary.name), manifest.digest.short, "-", "-", _ago(manifest.modified), "cloud model")
    return (
        str(summary.name),
        manifest.digest.short,
        human_size(manifest.size),
        human_size(summary.own_size or 0),
        _ago(manifest.modified),
        f"damaged: {summary.problem}" if summary.problem else _left_out(summary),
    )


def _left_out(summary: ModelSummary) -> str:
    return f"counts on {human_size(summary.left_out)} at its target" if summary.left_out else ""


def _fields(summary: ModelSummary) -> dict[str, object]:
    manifest = summary.manifest
    return {
        "name": str(summary.name),
        "full_name": summary.name.path,
        "id": manifest.digest.short if manifest else None,
        "manifest_digest": str(manifest.digest) if manifest else None,
        "size": manifest.size if manifest else None,
        "own_size": summary.own_size,
        "modified": manifest.modified if manifest else None,
        "problem": summary.problem or None,
        "remote_host": summary.remote or None,
        "left_out": summary.left_out,
    }


def _ago(moment: float | None) -> str:
    if moment is None:
        return "-"
    seconds = max(0.0, time.time() - moment)
    for name, length in (("year", 31_557_600), ("month", 2_629_800), ("week", 604_800), ("day", 86_400),
                         ("hour", 3600), ("minute", 60)):  # fmt: skip
        if seconds >= length:
            count = int(seconds // length)
            return f"{counted(count, name)} ago"
    return "just now"
