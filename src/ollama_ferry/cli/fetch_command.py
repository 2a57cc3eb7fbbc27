"""``ollama-ferry fetch``."""

from __future__ import annotations

import os
from pathlib import Path

import click

from ollama_ferry import api
from ollama_ferry.cli.import_command import print_imported
from ollama_ferry.cli.options import (
    WORD,
    all_option,
    checksum_option,
    dry_run_option,
    exclude_option,
    force_option,
    lock_option,
    output_options,
    rename_option,
    signers_option,
    ssh_options,
    store_option,
)
from ollama_ferry.cli.output import Output
from ollama_ferry.cli.progress import progress
from ollama_ferry.errors import UsageError
from ollama_ferry.shell_lines import joined


@click.command("fetch")
@click.argument("source", type=WORD)
@click.argument("models", nargs=-1, type=WORD, metavar="MODEL...")
@all_option("Fetch every model that is there.")
@exclude_option
@rename_option
@dry_run_option("Say what would be fetched; write nothing.")
@force_option()
@checksum_option
@ssh_options
@lock_option
@signers_option
@store_option
@output_options
def command(
    source: str,
    models: tuple[str, ...],
    everything: bool,
    exclude: tuple[str, ...],
    rename: str | None,
    dry_run: bool,
    replace: bool,
    verify_existing: bool,
    ssh: api.Ssh,
    lock: Path | None,
    signers: Path | None,
    store: Path | None,
    output: Output,
) -> None:
    """Fetch models from another machine, or from a folder, into the store here: only what is missing.

    SOURCE is user@host, host:/path/to/models, or a folder of Ollama's layout. What was interrupted is resumed.

    \b
      ollama-ferry fetch user@server deepseek-r1:8b
      ollama-ferry fetch /media/stick/models 'qwen3:*'
    """
    if not models and lock is None and not everything:
        raise UsageError("no model was named", hint=f"`ollama-ferry list {source}` shows what is there.")
    means = api.meaning_of_word(source, bare=api.Means.HOST)
    if means is api.Means.ARCHIVE:
        line = joined(["ollama-ferry", "import", source, *models])
        raise UsageError(f"fetch takes a host or a folder, and {source!r} is an archive's file", hint=line)
    if means is api.Means.FOLDER and not api.is_path(source):
        source = os.path.join(".", source)
    with progress("fetching", output) as observer:
        done = api.fetch(
            source,
            models,
            everything=everything,
            exclude=exclude,
            store=store,
            ssh=ssh,
            rename=rename,
            replace=replace,
            verify_existing=verify_existing,
            lock=lock,
            signers=signers,
            dry_run=dry_run,
            observer=observer,
        )
    print_imported(done, output, dry_run=dry_run, verb="fetch")
