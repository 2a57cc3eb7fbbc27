"""``ollama-ferry show``."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ollama_ferry import api
from ollama_ferry.cli.options import WORD, complete_models, output_options, place_of, ssh_options, store_option
from ollama_ferry.cli.output import Output, manifest_fields
from ollama_ferry.cli.progress import progress
from ollama_ferry.cli.tables import print_table
from ollama_ferry.cli.terminal import say
from ollama_ferry.wording import counted, human_size

if TYPE_CHECKING:
    from ollama_ferry.api import LayerUse, Shown


@click.command("show")
@click.argument("model", type=WORD, shell_complete=complete_models)
@click.argument("place", type=WORD, required=False)
@ssh_options
@store_option
@output_options
def command(model: str, place: str | None, ssh: api.Ssh, store: Path | None, output: Output) -> None:
    """Show a model's manifest and every layer, in the store or in PLACE: an archive, a folder, or another host.

    Each layer has its media type, size, digest, file, and the other models that share it.
    """
    # Behind the model nothing but a place can stand.
    archive, host = place_of((place, api.meaning_of_word(place, bare=api.Means.HOST)) if place is not None else None)
    with progress("reading", output) as observer:
        shown = api.show(model, store=store, archive=archive, host=host, ssh=ssh, observer=observer)
    if output.as_json:
        output.document(_fields(shown, "store" if archive is None else "archive"))
    else:
        _print(shown)


def _print(shown: Shown) -> None:
    manifest = shown.manifest
    size = f"{human_size(manifest.size)} in {counted(len(shown.layers), 'blob')}"
    say(f"{shown.name}")
    listed = manifest.listed_digest
    other = f" (ollama list prints {listed.short}: it does not read the end)" if listed != manifest.digest else ""
    say(f"  ID        {manifest.digest.short}{other}")
    say(f"  size      {size}, {human_size(shown.own_size)} of it its own")
    if manifest.modified is not None:
        say(f"  modified  {datetime.fromtimestamp(manifest.modified).astimezone():%Y-%m-%d %H:%M:%S %Z}")
    say(f"  manifest  {shown.path}")
    say()
    print_table(
        ("MEDIA TYPE", "SIZE", "DIGEST", "FILE", "SHARED WITH"),
        [
            (
                layer.blob.media_type + (f" {layer.blob.name}" if layer.blob.name else ""),
                human_size(layer.blob.size),
                layer.blob.digest.short,
                layer.file + _state(layer),
                ", ".join(map(str, layer.shared_with)) or "-",
            )
            for layer in shown.layers
        ],
        right=(1,),
        below=(3, 4),
        spare=(2,),
    )


def _state(layer: LayerUse) -> str:
    if layer.left_out:
        return " (left out: its target has it)"
    if layer.here is None:
        return " (missing)"
    if layer.here != layer.blob.size:
        return f" (damaged: {layer.here} bytes)"
    return ""


def _fields(shown: Shown, place: str) -> dict[str, object]:
    return {
        "name": str(shown.name),
        "full_name": shown.name.path,
        place: shown.place,
        "manifest": shown.path,
        **manifest_fields(shown.manifest),
        "listed_id": shown.manifest.listed_digest.short,
        "modified": shown.manifest.modified,
        "layers": [
            {
                "media_type": layer.blob.media_type,
                "name": layer.blob.name or None,
                "digest": str(layer.blob.digest),
                "size": layer.blob.size,
                "file": layer.file,
                "size_on_disk": layer.here,
                "shared_with": [str(other) for other in layer.shared_with],
            }
            for layer in shown.layers
        ],
    }
