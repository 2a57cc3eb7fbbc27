"""``ollama-ferry prune``."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ollama_ferry import api
from ollama_ferry.cli.checklist import may_ask, pick_files
from ollama_ferry.cli.options import output_options, store_option
from ollama_ferry.cli.output import Output
from ollama_ferry.cli.progress import progress
from ollama_ferry.cli.tables import print_table
from ollama_ferry.cli.terminal import say
from ollama_ferry.errors import AlreadyExists, Cancelled, UsageError
from ollama_ferry.shell_lines import quoted
from ollama_ferry.wording import counted, human_size

if TYPE_CHECKING:
    from ollama_ferry.api import Pruned, UnnamedFile

_SHOWN = 50
_DIGEST = re.compile(r"(sha256-[0-9a-f]{12})[0-9a-f]{52}")


@click.command("prune")
@click.option("--yes", is_flag=True, help="Put it into the trash; with --empty, remove the trash for good.")
@click.option("--undo", is_flag=True, help="Put back what is in the trash.")
@click.option("--empty", is_flag=True, help="Empty the trash, which frees its space.")
@store_option
@output_options
def command(yes: bool, undo: bool, empty: bool, store: Path | None, output: Output) -> None:
    """List what no model of the store names, and put it into a trash folder on the same disk.

    That is blobs without a model, unfinished downloads, and what broken-off imports and sends have left. What is less
    than an hour old stays, and so does whatever may belong to a manifest that can't be read, or to somebody at work.

    On a terminal a list opens to pick from, with all of it marked.

    \b
      ollama-ferry prune                 what would go, and why
      ollama-ferry prune --yes           into the trash
      ollama-ferry prune --undo          back to where it was
      ollama-ferry prune --empty --yes   for good
    """
    if undo and (empty or yes):
        raise UsageError("--undo goes alone")
    with progress("looking", output) as observer:
        done = api.prune(store=store, yes=yes, undo=undo, empty=empty, observer=observer)
    if done.files and not (yes or undo or empty) and may_ask(output):
        # Who gives up sees the list as it is without a terminal.
        with suppress(Cancelled):
            done = api.prune(store=done.store, yes=True, only=_picked(done))
    if output.as_json:
        output.document(_fields(done))
    else:
        _print(done, output, empty=empty)
    if done.stay:
        raise AlreadyExists(
            f"{counted(len(done.stay), 'file')} could not be put back: something else has the name by now",
            hint=f"What stays is in {done.trash}.",
        )


def _picked(done: Pruned) -> list[str]:
    """Let somebody pick what goes; a digest is as long as the lists have it, unless two begin alike.

    Raises:
        Cancelled: nothing was picked.
    """
    paths: dict[str, str] = {}
    for file in done.files:
        path = os.path.relpath(file.path, done.store)
        short = _DIGEST.sub(r"\1", path)
        paths[path if short in paths else short] = file.path
    known = {file.path: (file.size, file.why) for file in done.files}
    names = {name: known[path] for name, path in paths.items()}
    picked = pick_files(names, f"What is to go into the trash of {done.store}? It can come back.")
    return [paths[name] for name in picked]


def _print(done: Pruned, output: Output, *, empty: bool) -> None:
    line = f"ollama-ferry prune --models {quoted(done.store)}"
    if done.back or done.stay:
        say(f"put back {counted(len(done.back), 'file')} into {done.store}")
    elif empty and done.emptied:
        say(f"removed {human_size(done.emptied)} for good")
    elif empty:
        size = f"{human_size(done.in_trash)} wait in {done.trash}"
        say(f"{size}; nothing was removed. To remove it for good:\n  {line} --empty --yes" if done.in_trash else size)
    else:
        _print_files(done, output, line)


def _print_files(done: Pruned, output: Output, line: str) -> None:
    files = done.moved or done.files
    if files and not output.quiet:
        print_table(
            ("FILE", "SIZE", "WHY"),
            [(f.path, human_size(f.size), f.why) for f in files[:_SHOWN]],
            right=(1,),
            below=(2,),
        )
    if len(files) > _SHOWN:
        output.note(f"... and {len(files) - _SHOWN} more")
    for file in done.kept[:_SHOWN]:
        output.note(f"stays: {file.path} ({human_size(file.size)}), {file.why}: {file.keep}")
    what = f"{counted(len(files), 'file')}, {human_size(sum(file.size for file in files))}"
    if done.moved:
        say(f"{what} put into {done.trash}; the space is free when that is emptied:")
        say(f"  {line} --empty --yes")
        say(f"or to have all of it back:\n  {line} --undo")
    elif files:
        say(f"{what} would go into {done.trash}; nothing was changed. To put it there:")
        say(f"  {line} --yes")
    else:
        say(f"nothing in {done.store} may go")


def _fields(done: Pruned) -> dict[str, object]:
    return {
        "store": done.store,
        "trash": done.trash,
        "files": [_file_fields(file) for file in done.files],
        "kept": [_file_fields(file) | {"keep": file.keep} for file in done.kept],
        "moved": [file.path for file in done.moved],
        "back": done.back,
        "stay": done.stay,
        "in_trash": done.in_trash,
        "emptied": done.emptied,
    }


def _file_fields(file: UnnamedFile) -> dict[str, object]:
    return {"path": file.path, "size": file.size, "why": file.why}
