"""``ollama-ferry kit``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ollama_ferry import api
from ollama_ferry.cli.options import FILE, force_option, output_options
from ollama_ferry.cli.output import Output
from ollama_ferry.cli.progress import progress
from ollama_ferry.cli.terminal import say
from ollama_ferry.shell_lines import quoted
from ollama_ferry.wording import counted

if TYPE_CHECKING:
    from ollama_ferry.api import Kit


@click.command("kit")
@click.argument("folder", type=FILE, metavar="DIR")
@click.option(
    "--from",
    "programs",
    type=FILE,
    metavar="DIR",
    help="Where a release's files lie.  [default: beside this program; without any, the file for Python is made]",
)
@force_option("Replace a README.txt or SHA256SUMS that no kit has written.")
@output_options
def command(folder: Path, programs: Path | None, replace: bool, output: Output) -> None:
    """Write this program into DIR, beside archives or a store, for a machine without a network.

    With it come SHA256SUMS and README.txt: which models these are, and the lines that restore and check them, in
    English and in Chinese. The same as export --with-ferry.

    \b
      ollama-ferry export qwen3:8b /media/stick/qwen3.tar.gz
      ollama-ferry kit /media/stick
    """
    with progress("reading", output) as observer:
        kit = api.write_kit(folder, programs=programs, replace=replace, observer=observer)
    if output.as_json:
        output.document(kit_fields(kit))
    elif not output.quiet:
        print_kit(kit)


def print_kit(kit: Kit) -> None:
    """Print what was written."""
    names = ", ".join(path.name for path in (*kit.programs, kit.sums, kit.page))
    say(f"wrote {names} into {kit.folder}")
    models = sum(len(load.models) for load in kit.loads)
    say(f"  for {counted(models, 'model')} in {counted(len(kit.loads), 'archive')}; on the other machine:")
    for load in kit.loads:
        say(f"  python3 {quoted(kit.programs[0].name)} import {load.path}")


def kit_fields(kit: Kit) -> dict[str, object]:
    """Return a kit as JSON tells it."""
    return {
        "folder": str(kit.folder),
        "programs": [str(path) for path in kit.programs],
        "sums": str(kit.sums),
        "readme": str(kit.page),
        "loads": [
            {"file": load.file, "signed": load.signed, "models": [str(model.name) for model in load.models]}
            for load in kit.loads
        ],
    }
