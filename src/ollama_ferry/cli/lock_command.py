"""``ollama-ferry lock``."""

from __future__ import annotations

from pathlib import Path

import click

from ollama_ferry import api
from ollama_ferry.cli.options import (
    FILE,
    WORD,
    complete_models,
    force_option,
    output_options,
    place_of,
    ssh_options,
    store_option,
)
from ollama_ferry.cli.output import Output
from ollama_ferry.cli.progress import progress
from ollama_ferry.cli.terminal import say, say_lines
from ollama_ferry.wording import counted


@click.command("lock")
@click.argument("words", nargs=-1, type=WORD, metavar="[PLACE] [MODEL...]", shell_complete=complete_models)
@click.option("-o", "--output", "file", type=FILE, metavar="FILE", help="Write the lock into FILE.  [default: stdout]")
@click.option("--sign", "sign_with", type=FILE, metavar="KEY", help="Sign it with this key of OpenSSH, in FILE.sig.")
@force_option("Replace FILE if it is there.")
@ssh_options
@store_option
@output_options
def command(
    words: tuple[str, ...],
    file: Path | None,
    sign_with: Path | None,
    replace: bool,
    ssh: api.Ssh,
    store: Path | None,
    output: Output,
) -> None:
    """Print exactly which models these are: names, IDs, blobs. No blob is read.

    Of the store, or of PLACE: an archive, a folder, or another host. import, pull, send and verify take the file by
    --lock: these models and no others. With --sign somebody vouches for them.

    \b
      ollama-ferry lock qwen3:8b 'gemma3:*' > models.lock
      ollama-ferry lock ./models.tar.gz
      ollama-ferry lock qwen3:8b --output models.lock --sign ~/.ssh/id_ed25519
    """
    place, texts = api.place_and_models(words)
    archive, host = place_of(place)
    with progress("reading", output) as observer:
        lock = api.lock(
            texts,
            store=store,
            archive=archive,
            host=host,
            ssh=ssh,
            output=file,
            sign_with=sign_with,
            replace=replace,
            observer=observer,
        )
    if output.as_json:
        models = [{"name": str(name), "manifest_digest": str(digest)} for name, digest in sorted(lock.models.items())]
        output.document({"lock": str(file) if file is not None else None, "models": models})
    elif file is None:
        say_lines(lock.text.removesuffix("\n"))
    elif not output.quiet:
        signed = f", and its signature into {file}.sig" if sign_with is not None else ""
        say(f"wrote {counted(len(lock.models), 'model')} into {file}{signed}")
