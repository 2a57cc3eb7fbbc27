"""``ollama-ferry list``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ollama_ferry import api
from ollama_ferry.cli.options import WORD, complete_models, output_options, place_of, ssh_options, store_option
from ollama_ferry.cli.output import Output, left_out_fields, stdout_is_terminal, tell_left_out
from ollama_ferry.cli.progress import progress
from ollama_ferry.cli.tables import print_table
from ollama_ferry.cli.terminal import say
from ollama_ferry.wording import counted, human_age, human_size, reading_order

if TYPE_CHECKING:
    from ollama_ferry.api import ModelSummary


@click.command("list")
@click.argument("words", nargs=-1, type=WORD, metavar="[PLACE] [MODEL...]", shell_complete=complete_models)
@ssh_options
@store_option
@output_options
def command(words: tuple[str, ...], ssh: api.Ssh, store: Path | None, output: Output) -> None:
    """List the models of the store, or of PLACE: an archive, a folder, or another host (user@host, host:, host:/path).

    MODEL is a pattern ('qwen*'), or what names begin with, as for `ollama list`.

    OWN is what only this model uses: the bytes that removing it would free. A damaged model is shown as such; no blob
    is hashed for that: `ollama-ferry verify` does that.
    """
    place, texts = api.place_and_models(words)
    archive, host = place_of(place)
    with progress("reading", output) as observer:
        listing = api.list_models(texts, store=store, archive=archive, host=host, ssh=ssh, observer=observer)
    if output.as_json:
        key = "store" if archive is None else "archive"
        output.document(
            {
                key: listing.place,
                "models": [_fields(summary) for summary in listing.models],
                "left_out": left_out_fields(listing.not_carried),
            }
        )
    tell_left_out(listing.not_carried, output, "export")
    if output.as_json:
        return
    if not listing.models:
        output.note(f"no models in {listing.place}")
        return
    models = sorted(listing.models, key=lambda summary: reading_order(str(summary.name)))
    if output.quiet:
        for summary in models:
            say(str(summary.name))
    else:
        print_table(
            ("NAME", "ID", "SIZE", "OWN", "MODIFIED", ""),
            [_row(summary) for summary in models],
            right=(2, 3),
            below=(5,),
            spare=(4, 1, 3),
            colours=["red" if one.problem else "cyan" if one.remote else "" for one in models],
        )
        if stdout_is_terminal():
            blobs = {blob.digest: blob.size for one in models if one.manifest for blob in one.manifest.blobs}
            say(f"{counted(len(models), 'model')}, {human_size(sum(blobs.values()))}; what is shared counts once")


def _row(summary: ModelSummary) -> tuple[str, ...]:
    manifest = summary.manifest
    if manifest is None:
        return (str(summary.name), "-", "-", "-", "-", f"damaged: {summary.problem}")
    if summary.remote:
        return (str(summary.name), manifest.digest.short, "-", "-", human_age(manifest.modified), "cloud model")
    return (
        str(summary.name),
        manifest.digest.short,
        human_size(manifest.size),
        human_size(summary.own_size or 0),
        human_age(manifest.modified),
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
