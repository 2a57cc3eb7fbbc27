"""``ollama-ferry import``."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import click

from ollama_ferry.archives.volumes.reading import Volumes, VolumeStream
from ollama_ferry.cli.media import MediumPrompt
from ollama_ferry.cli.options import ARCHIVE, Output, find_target, models_option, open_stdin, output_options
from ollama_ferry.cli.progress import progress
from ollama_ferry.cli.tables import print_table
from ollama_ferry.cli.terminal import say
from ollama_ferry.cli.through_server import import_through_server
from ollama_ferry.engine.events import Cancel
from ollama_ferry.errors import Cancelled, FerryError, NoSpace, NotPermitted, ReadDifferently, UsageError
from ollama_ferry.jobs.import_ import Imported, import_file, import_stream, plan_import
from ollama_ferry.jobs.import_choices import ImportOptions
from ollama_ferry.model.names import ModelName
from ollama_ferry.places.store.store import Store
from ollama_ferry.wording import counted, human_size

# What would happen to the next archive too.
_ENDS_ALL = (Cancelled, NoSpace, NotPermitted)


@click.command("import")
@click.argument("archives", nargs=-1, metavar="ARCHIVE...", type=ARCHIVE)
@click.option("--model", "only", multiple=True, metavar="MODEL", help="Take this model or 'pattern'; may be repeated.")
@click.option("--as", "rename", metavar="NAME", help="Give the one model another name.")
@click.option("-n", "--dry-run", is_flag=True, help="Say what would be done; write nothing.")
@click.option("-f", "--force", is_flag=True, help="Replace a model of the same name that is another one.")
@click.option("--verify-existing", is_flag=True, help="Hash the blobs that are here already, and replace damaged ones.")
@click.option(
    "--lenient", is_flag=True, help="Take an archive that not every tar reads in the same way; all is hashed as ever."
)
@click.option("--prompt", is_flag=True, help="Ask for the next medium where a volume (ARCHIVE.001, ...) is not there.")
@click.option(
    "--via-server", is_flag=True, help="Write into no store: let the server at OLLAMA_HOST pull the models from here."
)
@click.option(
    "--listen",
    metavar="ADDRESS:PORT",
    help="With --via-server: where that server reaches this machine.  [default: a free port of 127.0.0.1]",
)
@models_option
@output_options
def command(
    archives: tuple[Path, ...],
    only: tuple[str, ...],
    rename: str | None,
    dry_run: bool,
    force: bool,
    verify_existing: bool,
    lenient: bool,
    prompt: bool,
    via_server: bool,
    listen: str | None,
    models: Path | None,
    quiet: bool,
    verbose: bool,
    as_json: bool,
) -> None:
    """Import the models of archives into the store.

    ARCHIVE is any tar of Ollama's layout (.tar, .tar.gz, .tar.zst, .tar.xz; the content tells) or a zip, whoever made
    it, or - for stdin. Every byte is hashed before a model is listed; blobs that are here are skipped; what was
    interrupted goes on where it stopped. --models DIR may name a folder that is not there yet.

    \b
      ollama-ferry import ./deepseek-r1-8b.tar.gz
      ollama-ferry import /media/stick/models.tar.gz.001 --prompt
      ollama-ferry import ./models.tar.gz --model qwen3:8b --as qwen3:mine
      ssh server 'cat models.tar.gz' | ollama-ferry import -
    """
    output = Output(quiet, verbose, as_json)
    if not archives:
        raise UsageError("no archive was named", hint="ollama-ferry import ARCHIVE...   (- is standard input)")
    if Path("-") in archives and (dry_run or len(archives) > 1):
        raise UsageError("a stream is read once, and alone: it goes with no other archive and no --dry-run")
    if prompt and (dry_run or len(archives) > 1 or Volumes.named(archives[0]) is None):
        raise UsageError("--prompt goes with one archive in volumes (ARCHIVE.001), and with no --dry-run")
    cancel = Cancel()
    ask = MediumPrompt(cancel) if prompt else None
    if rename is not None and len(archives) > 1:
        raise UsageError("--as names one model, and there are several archives")
    options = ImportOptions(only, ModelName.parse(rename) if rename else None, force, verify_existing, lenient=lenient)
    for text in only:
        if not any(c in text for c in "*?["):
            ModelName.parse(text)
    if via_server:
        others = prompt or dry_run or verify_existing or lenient or models is not None
        if others or len(archives) > 1 or Path("-") in archives:
            raise UsageError(
                "--via-server takes one archive's file, and no --prompt, --dry-run, --verify-existing, --lenient or "
                "--models"
            )
        import_through_server(archives[0], options, listen, output)
        return
    if listen is not None:
        raise UsageError("--listen goes with --via-server")
    located = find_target(models, output)
    store = Store(located.root)
    done: list[Imported] = []
    failed: list[FerryError] = []
    for archive in archives:
        try:
            if ask is not None:
                done.append(_import_from_media(archive, store, options, output, ask, cancel))
            else:
                done.append(_import_one(archive, store, options, output, dry_run=dry_run))
            if not as_json:
                _print_done(done[-1], store, output, dry_run=dry_run)
        except FerryError as error:
            if isinstance(error, ReadDifferently):
                error.hint += "\nIf you trust whoever made it: import --lenient takes it, and hashes it all the same."
            failed.append(error)
            if len(archives) > 1 and archive != archives[-1] and not isinstance(error, _ENDS_ALL):
                # The others may be whole.
                say(f"failed: {error.message}", err=True)
                continue
            break
    if as_json:
        output.document(
            {
                "store": str(store.root),
                "dry_run": dry_run,
                "archives": [_fields(one) for one in done],
                "failed": [{"error": error.message, "hint": error.hint} for error in failed],
            }
        )
    if failed and len(archives) == 1:
        raise failed[0]
    if failed:
        left = len(archives) - len(done)
        raise type(failed[0])(
            f"{left} of {len(archives)} archives were not imported: {failed[-1].message}", hint=failed[-1].hint
        )


def tell_imported(done: Imported, store: Store, output: Output, *, dry_run: bool = False) -> None:
    """Print what an import from one place did, or would do."""
    if output.as_json:
        output.document({"store": str(store.root), **({"dry_run": True} if dry_run else {}), **_fields(done)})
    else:
        _print_done(done, store, output, dry_run=dry_run)


def _import_one(archive: Path, store: Store, options: ImportOptions, output: Output, *, dry_run: bool) -> Imported:
    with progress("reading" if dry_run else "importing", quiet=output.quiet or output.as_json) as run:
        if dry_run:
            return plan_import(archive, store, options, run=run)
        if archive == Path("-"):
            with open_stdin() as stdin:
                return import_stream(stdin, "the stream", store, options, run=run)
        return import_file(archive, store, options, run=run)


def _import_from_media(
    archive: Path, store: Store, options: ImportOptions, output: Output, ask: MediumPrompt, cancel: Cancel
) -> Imported:
    volumes = Volumes.named(archive)
    assert volumes is not None  # noqa: S101 -- command() has looked
    with (
        progress("importing", quiet=output.quiet or output.as_json, lines=True, cancel=cancel) as run,
        closing(VolumeStream(volumes, ask)) as stream,
    ):
        return import_stream(stream, str(volumes.whole), store, options, run=run)


def _print_done(done: Imported, store: Store, output: Output, *, dry_run: bool) -> None:
    if output.quiet:
        for model in done.models:
            say(f"{model.manifest.digest.short}  {model.name}")
        return
    fresh = [model for model in done.models if not model.was_here]
    here = [model for model in done.models if model.was_here]
    verb = "would import" if dry_run else "imported"
    for model in fresh:
        from_name = f" (as {model.source} in the archive)" if model.source != model.name else ""
        say(f"{verb} {model.name} ({model.manifest.digest.short}){from_name}")
    for model in here:
        say(f"{model.name} ({model.manifest.digest.short}) is here already, the same")
    if dry_run and fresh:
        print_table(
            ("BLOB", "SIZE", ""),
            [(blob.digest.short, human_size(blob.size), "") for blob in done.blobs]
            + [(blob.digest.short, human_size(blob.size), "here already") for blob in done.present],
            right=(1,),
        )
    if fresh:
        present = f", {human_size(sum(blob.size for blob in done.present))} in {len(done.present)} were here already"
        say(
            f"  {'would write' if dry_run else 'wrote'}  {human_size(done.size)} in {counted(len(done.blobs), 'blob')}"
            + (present if done.present else "")
        )
        say(f"  into   {store.root}")
        if not dry_run:
            seconds = max(done.seconds, 0.001)
            say(f"  took   {seconds:.1f} s, {human_size(done.size / seconds)}/s; every byte written was checked")
    if done.ignored:
        names = ", ".join(map(ascii, done.ignored_names))
        more = f" and {done.ignored - len(done.ignored_names)} more" if done.ignored > len(done.ignored_names) else ""
        output.note(f"note: not Ollama's, left alone: {names}{more}")


def _fields(done: Imported) -> dict[str, object]:
    return {
        "archive": done.archive,
        "models": [
            {
                "name": str(model.name),
                "name_in_archive": str(model.source),
                "id": model.manifest.digest.short,
                "manifest_digest": str(model.manifest.digest),
                "size": model.manifest.size,
                "was_here": model.was_here,
            }
            for model in done.models
        ],
        "blobs": [{"digest": str(blob.digest), "size": blob.size} for blob in done.blobs],
        "present": [{"digest": str(blob.digest), "size": blob.size} for blob in done.present],
        "size": done.size,
        "ignored": done.ignored,
        "seconds": round(done.seconds, 3),
    }
