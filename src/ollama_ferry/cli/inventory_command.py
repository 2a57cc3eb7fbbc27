"""``ollama-ferry inventory``."""

from __future__ import annotations

from pathlib import Path

import click

from ollama_ferry import api
from ollama_ferry.cli.options import output_options, store_option
from ollama_ferry.cli.output import Output
from ollama_ferry.cli.progress import progress
from ollama_ferry.cli.terminal import say_lines


@click.command("inventory")
@store_option
@output_options
def command(store: Path | None, output: Output) -> None:
    """Print which blobs this machine has, so that an export on another one can leave them out.

    Blobs count by digest and size; run `ollama-ferry verify` first if you doubt this store.

    \b
      ollama-ferry inventory > have.txt                               here
      ollama-ferry export qwen3:8b ./new.tar.gz --have have.txt       where the models are
      ollama-ferry import ./new.tar.gz                                here again
    """
    with progress("reading", output) as observer:
        taken = api.take_inventory(store, observer=observer)
    if output.as_json:
        blobs = [{"digest": str(digest), "size": size} for digest, size in taken.blobs.items()]
        output.document({"store": taken.place, "blobs": blobs})
    else:
        say_lines(taken.text.removesuffix("\n"))
