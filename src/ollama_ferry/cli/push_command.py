"""``ollama-ferry push``."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ollama_ferry import api
from ollama_ferry.cli.checklist import ask_for, may_ask, pick_models
from ollama_ferry.cli.configuration import expanded
from ollama_ferry.cli.options import (
    FILE,
    WORD,
    RegistryOptions,
    all_option,
    complete_archived,
    complete_models,
    dry_run_option,
    exclude_option,
    force_option,
    output_options,
    registry_options,
    store_option,
)
from ollama_ferry.cli.output import (
    Output,
    amount,
    blobs_fields,
    left_out_fields,
    present,
    require_undamaged,
    tell_left_out,
    took,
)
from ollama_ferry.cli.progress import progress
from ollama_ferry.cli.terminal import say
from ollama_ferry.errors import InvalidName, UsageError
from ollama_ferry.wording import human_size

if TYPE_CHECKING:
    from ollama_ferry.api import Pushed


@dataclass(frozen=True)
class _Asked:
    """The command's words and options."""

    words: tuple[str, ...]
    archive: Path | None
    models: tuple[str, ...]
    everything: bool
    exclude: tuple[str, ...]
    rename: str | None
    dry_run: bool
    replace: bool
    mount_from: tuple[str, ...]
    oci: bool
    store: Path | None


@click.command("push")
@click.argument("words", nargs=-1, type=WORD, metavar="MODEL... REGISTRY[/PREFIX]", shell_complete=complete_models)
@click.option("--from", "archive", type=FILE, metavar="ARCHIVE", help="Push out of an archive instead of the store.")
@click.option(
    "--model",
    "models",
    multiple=True,
    metavar="MODEL",
    shell_complete=complete_archived,
    help="The same as MODEL; may be repeated.",
)
@all_option("Push every model of the store, or of ARCHIVE.")
@exclude_option
@click.option("--as", "rename", metavar="NAME", help="Call the one model NAME[:TAG] below the prefix.")
@dry_run_option("Say what would be sent; send nothing.")
@force_option()
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
@store_option
@output_options
def command(access: RegistryOptions, output: Output, **asked: Any) -> None:
    """Push models of the store, or of an archive, to a registry: only what is missing there.

    A model goes to PREFIX/model:tag, below its namespace where that is not library; upper case becomes lower case.
    Logins are those of docker, podman and skopeo. With --from and no MODEL all models of the archive are pushed.

    \b
      ollama-ferry push deepseek-r1:8b registry.lab:5000/models
      ollama-ferry push --from ./models.tar.gz 'qwen3:*' registry.lab:5000/models
    """
    _push(_Asked(**asked), access, output)


def _push(asked: _Asked, access: RegistryOptions, output: Output) -> None:
    texts = [*asked.words[:-1], *asked.models]
    if not texts and not asked.everything and len(asked.words) < 2 and asked.archive is None and may_ask(output):
        texts = pick_models(api.list_models(store=asked.store), "Which models are to be pushed?")
        asked = replace(asked, words=asked.words or expanded(ask_for("To which registry?")))
    if not asked.words or not (texts or asked.everything or asked.archive is not None):
        raise UsageError(
            "push takes models and a registry", hint="ollama-ferry push deepseek-r1:8b registry.lab:5000/models"
        )
    if asked.archive is not None and asked.store is not None:
        raise UsageError("--models is about a store, and --from names an archive")
    if asked.archive == Path("-"):
        raise UsageError("push needs a file: a stream can't be searched")
    target = asked.words[-1]
    try:
        with progress("pushing", output) as observer:
            done = api.push(
                texts,
                target,
                everything=asked.everything,
                exclude=asked.exclude,
                store=asked.store,
                archive=asked.archive,
                rename=asked.rename,
                replace=asked.replace,
                mount_from=asked.mount_from,
                oci=asked.oci,
                dry_run=asked.dry_run,
                **access,
                observer=observer,
            )
    except InvalidName as error:
        error.hint = f"{error.hint}\nThe registry goes last: push MODEL {target}".strip()
        raise
    if output.as_json:
        output.document(_fields(done, dry_run=asked.dry_run))
    else:
        _print_done(done, output, dry_run=asked.dry_run)
    tell_left_out(done.not_carried, output, "push")
    require_undamaged(done.not_carried, "pushed")


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
    mounted = (
        f", {human_size(sum(blob.size for blob in done.mounted))} taken from other repositories there"
        if done.mounted
        else ""
    )
    parts = f"{amount(done.blobs)}{mounted}{present(done.present, 'there')}"
    say(f"  {'would send' if dry_run else 'sent'}  {parts}")
    if not dry_run:
        say(f"  took  {took(done.seconds, done.size)}")


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
        "blobs": blobs_fields(done.blobs),
        "mounted": blobs_fields(done.mounted),
        "present": blobs_fields(done.present),
        "left_out": left_out_fields(done.not_carried),
        "size": done.size,
        "seconds": round(done.seconds, 3),
    }
