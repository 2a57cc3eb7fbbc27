"""``ollama-ferry fetch``."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import click

from ollama_ferry.cli.import_command import tell_imported
from ollama_ferry.cli.options import Output, find_target, models_option, output_options
from ollama_ferry.cli.progress import progress
from ollama_ferry.cli.remote import SshWords, open_ssh, place_of, ssh_options
from ollama_ferry.engine.inspect import resolve
from ollama_ferry.engine.ports import Inspectable
from ollama_ferry.errors import UsageError
from ollama_ferry.jobs.import_ import import_source
from ollama_ferry.jobs.import_choices import ImportOptions
from ollama_ferry.model.names import ModelName, is_pattern
from ollama_ferry.places.ssh.place import SshPlace
from ollama_ferry.places.store.store import Store


@click.command("fetch")
@click.argument("source")
@click.argument("wanted", nargs=-1, required=True, metavar="MODEL...")
@click.option("--as", "rename", metavar="NAME", help="Give the one model another name.")
@click.option("-f", "--force", is_flag=True, help="Replace a model of the same name that is another one.")
@click.option("--checksum", is_flag=True, help="Hash the blobs that are here already, and replace damaged ones.")
@ssh_options
@models_option
@output_options
def command(
    source: str,
    wanted: tuple[str, ...],
    rename: str | None,
    force: bool,
    checksum: bool,
    ssh_words: SshWords,
    models: Path | None,
    quiet: bool,
    verbose: bool,
    as_json: bool,
) -> None:
    """Fetch models from another machine, or from a folder, into the store here: only what is missing.

    \b
      ollama-ferry fetch user@server deepseek-r1:8b
      ollama-ferry fetch /media/stick/models 'qwen3:*'
    """
    output = Output(quiet, verbose, as_json)
    options = ImportOptions(wanted, ModelName.parse(rename) if rename else None, force, checksum)
    names = [None if is_pattern(text) else ModelName.parse(text) for text in wanted]
    store = Store(find_target(models, output).root)
    place = place_of(source)
    with ExitStack() as stack:
        here: Inspectable
        if place.host:
            here = there = open_ssh(stack, place, ssh_words)
            _look(there, [name for name in names if name is not None], everything=None in names)
        else:
            here = Store(Path(place.path).expanduser())
            if not here.manifests_folder.is_dir():
                raise UsageError(f"{place.path} is no folder with models", hint="It has manifests/ and blobs/ in it.")
        with progress("fetching", quiet=quiet or as_json) as run:
            done = import_source(here, store, options, run=run)
    tell_imported(done, store, output)


def _look(place: SshPlace, names: list[ModelName], *, everything: bool) -> None:
    """Find out what is there in as few calls as can be."""
    place.look(None if everything else names)
    if not everything:
        spelt = [resolve(place, name) for name in names]
        if any(name not in place.looked.manifests for name in spelt):
            place.look(spelt)
