"""``ollama-ferry inventory``."""

from __future__ import annotations

from pathlib import Path

import click

from ollama_ferry.cli.options import Output, find_store, models_option, output_options
from ollama_ferry.cli.terminal import say_lines
from ollama_ferry.jobs.inventory import inventory_text
from ollama_ferry.places.store.store import Store


@click.command("inventory")
@models_option
@output_options
def command(models: Path | None, quiet: bool, verbose: bool, as_json: bool) -> None:
    """Print which blobs this machine has, so that an export on another one can leave them out.

    Blobs count by digest and size; run `ollama-ferry verify` first if you doubt this store.

    \b
      ollama-ferry inventory > have.txt                               here
      ollama-ferry export qwen3:8b ./new.tar.gz --have have.txt       where the models are
      ollama-ferry import ./new.tar.gz                                here again
    """
    output = Output(quiet, verbose, as_json)
    store = Store(find_store(models, output).root)
    text = inventory_text(store)
    if not as_json:
        say_lines(text.removesuffix("\n"))
        return
    blobs = [line.split() for line in text.splitlines() if not line.startswith("#")]
    output.document(
        {"store": str(store.root), "blobs": [{"digest": digest, "size": int(size)} for digest, size in blobs]}
    )
