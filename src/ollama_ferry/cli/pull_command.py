"""``ollama-ferry pull``."""

from __future__ import annotations

import os
from pathlib import Path

import click

from ollama_ferry.archives.kinds import Compression, kind_of
from ollama_ferry.cli.export_command import split_words, tell_exported
from ollama_ferry.cli.import_command import tell_imported
from ollama_ferry.cli.options import Output, find_target, models_option, output_options
from ollama_ferry.cli.progress import progress
from ollama_ferry.cli.registry_options import registry_options
from ollama_ferry.cli.tables import print_table
from ollama_ferry.cli.terminal import say
from ollama_ferry.engine.plan import Plan
from ollama_ferry.errors import AlreadyExists, UsageError
from ollama_ferry.jobs.export import ExportOptions, source_date_epoch
from ollama_ferry.jobs.pull import PullOptions, plan_pull, pull_into_file, pull_into_store, references_of
from ollama_ferry.model.names import ModelName
from ollama_ferry.places.registry.references import Reference
from ollama_ferry.places.store.store import Store
from ollama_ferry.registries.access import Access
from ollama_ferry.wording import counted, human_size


@click.command("pull")
@click.argument("words", nargs=-1, metavar="MODEL... [ARCHIVE]")
@click.option("--as", "rename", metavar="NAME", help="Give the one model another name.")
@click.option("-n", "--dry-run", is_flag=True, help="Say what would be pulled; write nothing.")
@click.option("-f", "--force", is_flag=True, help="Replace another model of the same name, or ARCHIVE if it is there.")
@click.option("--checksum", is_flag=True, help="Hash the blobs that are here already, and replace damaged ones.")
@click.option(
    "--compress",
    type=click.Choice([c.value for c in Compression]),
    default=Compression.AUTO.value,
    show_default=True,
    help="How ARCHIVE is packed, as for export.",
)
@registry_options
@models_option
@output_options
def command(
    words: tuple[str, ...],
    rename: str | None,
    dry_run: bool,
    force: bool,
    checksum: bool,
    compress: str,
    access: Access,
    models: Path | None,
    quiet: bool,
    verbose: bool,
    as_json: bool,
) -> None:
    """Pull models out of registries into the store, or straight into ARCHIVE; Ollama is not needed.

    MODEL is a name as for `ollama pull`, or host[:port]/any/repository[:tag][@sha256:...], which may need --as. Logins
    are those of docker, podman and skopeo. Every byte is hashed; what was interrupted goes on where it stopped.

    \b
      ollama-ferry pull registry.lab:5000/models/deepseek-r1:8b --as deepseek-r1:8b
      ollama-ferry pull deepseek-r1:8b ./deepseek-r1-8b.tar.gz
      ollama-ferry pull hf.co/org/repo-GGUF:Q4_K_M ./repo.tar.gz
    """
    output = Output(quiet, verbose, as_json)
    texts, archive = split_words(words)
    if not texts:
        raise UsageError("no model was named", hint="ollama-ferry pull registry.lab:5000/models/deepseek-r1:8b")
    if archive == "-":
        raise UsageError("pull writes a file or the store, and no stream")
    references = references_of(texts, rename)
    for name, reference in references.items():
        output.detail(f"{name}: {'plain http, ' if access.insecure else ''}{reference}")
    if archive is None:
        store = Store(find_target(models, output).root)
        with progress("pulling", quiet=quiet or as_json) as run:
            options = PullOptions(force, checksum)
            done = pull_into_store(references, store, options, access, dry_run=dry_run, run=run)
        tell_imported(done, store, output, dry_run=dry_run)
        return
    if models is not None or checksum:
        raise UsageError("--models and --checksum are about a store, and an archive was named")
    _pull_into_archive(references, Path(archive), compress, access, output, dry_run=dry_run, force=force)


def _pull_into_archive(
    references: dict[ModelName, Reference],
    path: Path,
    compress: str,
    access: Access,
    output: Output,
    *,
    dry_run: bool,
    force: bool,
) -> None:
    if dry_run:
        _tell_plan(plan_pull(references, access), path, output)
        return
    if path.exists() and not force:
        raise AlreadyExists(f"{path} is there already", hint="Name another file, or replace this one with --force.")
    options = ExportOptions(
        Compression.parse(compress),
        replace=force,
        fixed_time=source_date_epoch(os.environ.get("SOURCE_DATE_EPOCH")),
    )
    with progress("pulling", quiet=output.quiet or output.as_json) as run:
        done = pull_into_file(references, path, options, access, run=run)
    tell_exported(done, output, verb="pulled")


def _tell_plan(planned: Plan, path: Path, output: Output) -> None:
    if output.as_json:
        output.document(
            {
                "archive": str(path),
                "format": getattr(kind_of(path.name), "value", "")[1:],
                "models": [
                    {"name": str(model.name), "manifest_digest": str(model.manifest.digest)} for model in planned.models
                ],
                "blobs": [{"digest": str(blob.digest), "size": blob.size} for blob in planned.blobs],
                "size": planned.size,
            }
        )
        return
    for model in planned.models:
        say(f"would pull {model.name} ({model.manifest.digest.short})")
    print_table(("BLOB", "SIZE"), [(blob.digest.short, human_size(blob.size)) for blob in planned.blobs], right=(1,))
    say(f"{counted(len(planned.blobs), 'blob')}, {human_size(planned.size)}; nothing was written")
