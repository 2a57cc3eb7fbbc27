"""``ollama-ferry push``."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import click

from ollama_ferry.cli.options import (
    ARCHIVE,
    Output,
    complete_models,
    find_store,
    models_option,
    output_options,
)
from ollama_ferry.cli.progress import progress
from ollama_ferry.cli.registry_options import registry_options
from ollama_ferry.cli.terminal import say
from ollama_ferry.engine.ports import Inspectable
from ollama_ferry.errors import InvalidName, UsageError
from ollama_ferry.jobs.push import Pushed, PushOptions, push
from ollama_ferry.jobs.select import pick, select
from ollama_ferry.model.names import ModelName
from ollama_ferry.places.archive.file import ArchiveFile
from ollama_ferry.places.registry.references import PushTarget, check_repository
from ollama_ferry.places.store.store import Store
from ollama_ferry.registries.access import Access
from ollama_ferry.wording import counted, human_size


@click.command("push")
@click.argument("words", nargs=-1, metavar="MODEL... REGISTRY[/PREFIX]", shell_complete=complete_models)
@click.option("--from", "archive", type=ARCHIVE, metavar="ARCHIVE", help="Push out of an archive instead of the store.")
@click.option("--model", "only", multiple=True, metavar="MODEL", help="The same as MODEL; may be repeated.")
@click.option("--as", "rename", metavar="NAME", help="Call the one model NAME[:TAG] below the prefix.")
@click.option("-n", "--dry-run", is_flag=True, help="Say what would be sent; send nothing.")
@click.option("-f", "--force", is_flag=True, help="Replace a model of the same name that is another one.")
@click.option(
    "--mount-from",
    multiple=True,
    metavar="REPOSITORY",
    help="A repository of the same registry that may have blobs already; may be repeated.",
)
@click.option(
    "--oci", is_flag=True, help="Send manifests of OCI's type, for zot or skopeo; pull gives back the same ID."
)
@registry_options
@models_option
@output_options
def command(
    words: tuple[str, ...],
    archive: Path | None,
    only: tuple[str, ...],
    rename: str | None,
    dry_run: bool,
    force: bool,
    mount_from: tuple[str, ...],
    oci: bool,
    access: Access,
    models: Path | None,
    quiet: bool,
    verbose: bool,
    as_json: bool,
) -> None:
    """Push models of the store, or of an archive, to a registry: only what is missing there.

    A model goes to PREFIX/model:tag, below its namespace where that is not library; capitals become small letters.
    Logins are those of docker, podman and skopeo. With --from and no MODEL all models of the archive are pushed.

    \b
      ollama-ferry push deepseek-r1:8b registry.lab:5000/models
      ollama-ferry push --from ./models.tar.gz 'qwen3:*' registry.lab:5000/models
    """
    output = Output(quiet, verbose, as_json)
    texts = [*words[:-1], *only]
    if not words or not (texts or archive is not None):
        raise UsageError(
            "push takes models and a registry", hint="ollama-ferry push deepseek-r1:8b registry.lab:5000/models"
        )
    target = PushTarget.parse(words[-1])
    options = PushOptions(rename, force, tuple(map(check_repository, mount_from)), oci)
    with ExitStack() as stack:
        try:
            source, names = _source(stack, texts, archive, models, output)
        except InvalidName as error:
            error.hint = f"{error.hint}\nThe registry goes last: push MODEL {target}".strip()
            raise
        with progress("pushing", quiet=quiet or as_json) as run:
            done = push(source, names, target, options, access, dry_run=dry_run, run=run)
    if as_json:
        output.document(_fields(done, dry_run=dry_run))
    else:
        _print_done(done, output, dry_run=dry_run)


def _source(
    stack: ExitStack, texts: list[str], archive: Path | None, models: Path | None, output: Output
) -> tuple[Inspectable, list[ModelName]]:
    if archive is None:
        located = find_store(models, output)
        return Store(located.root), select(located, texts)
    if models is not None:
        raise UsageError("--models is about a store, and --from names an archive")
    if archive == Path("-"):
        raise UsageError("push needs a file: a stream can't be searched")
    file = stack.enter_context(ArchiveFile(archive))
    if file.note:
        output.note(file.note)
    source = file.source()
    if source is None:
        raise UsageError(
            f"{archive} has no index, so that its blobs can't be read in order",
            hint=f"Import it first, or unpack it; only archives of export, plain tars and zips are pushed:\n"
            f"  ollama-ferry import {archive}",
        )
    return source, pick(source, texts, source.label) if texts else list(source.names())


def _print_done(done: Pushed, output: Output, *, dry_run: bool) -> None:
    if output.quiet:
        for model in done.models:
            say(f"{model.manifest_digest.short}  {model.reference}")
        return
    for model in done.models:
        if model.was_there:
            say(f"{model.reference} ({model.manifest_digest.short}) is there already, the same")
        else:
            verb = "would push" if dry_run else "pushed"
            say(f"{verb} {model.name} ({model.manifest_digest.short}) to {model.reference}")
    if all(model.was_there for model in done.models):
        return
    parts = [f"{human_size(done.size)} in {counted(len(done.blobs), 'blob')}"]
    if done.mounted:
        parts.append(f"{human_size(sum(blob.size for blob in done.mounted))} taken from other repositories there")
    if done.present:
        parts.append(f"{human_size(sum(blob.size for blob in done.present))} in {len(done.present)} were there already")
    say(f"  {'would send' if dry_run else 'sent'}  {', '.join(parts)}")
    if not dry_run:
        seconds = max(done.seconds, 0.001)
        speed = f", {human_size(done.size / seconds)}/s" if done.size else ""
        say(f"  took  {seconds:.1f} s{speed}")


def _fields(done: Pushed, *, dry_run: bool) -> dict[str, object]:
    return {
        "target": done.target,
        "dry_run": dry_run,
        "models": [
            {
                "name": str(model.name),
                "reference": str(model.reference),
                "id": model.manifest_digest.short,
                "manifest_digest": str(model.manifest_digest),
                "registry_digest": str(model.registry_digest),
                "was_there": model.was_there,
            }
            for model in done.models
        ],
        "blobs": [{"digest": str(blob.digest), "size": blob.size} for blob in done.blobs],
        "mounted": [{"digest": str(blob.digest), "size": blob.size} for blob in done.mounted],
        "present": [{"digest": str(blob.digest), "size": blob.size} for blob in done.present],
        "size": done.size,
        "seconds": round(done.seconds, 3),
    }
