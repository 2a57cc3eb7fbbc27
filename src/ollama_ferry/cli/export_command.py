"""``ollama-ferry export``."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from ollama_ferry.archives.kinds import Compression, Kind, kind_of
from ollama_ferry.archives.volumes.reading import Volumes, volume_size
from ollama_ferry.cli.media import MediumPrompt
from ollama_ferry.cli.options import (
    ARCHIVE,
    Output,
    complete_models,
    find_store,
    models_option,
    output_options,
    stdout_is_terminal,
)
from ollama_ferry.cli.progress import progress
from ollama_ferry.cli.tables import print_table
from ollama_ferry.cli.terminal import say
from ollama_ferry.engine.events import Cancel
from ollama_ferry.engine.plan import Plan
from ollama_ferry.errors import AlreadyExists, UsageError
from ollama_ferry.jobs.export import (
    Exported,
    ExportOptions,
    check_output,
    expected_size,
    export_to_file,
    export_to_stream,
    plan_export,
    source_date_epoch,
)
from ollama_ferry.jobs.inventory import read_inventories
from ollama_ferry.jobs.list_ import layers_in_use
from ollama_ferry.jobs.select import select
from ollama_ferry.model.manifests import Descriptor
from ollama_ferry.model.names import ModelName
from ollama_ferry.places.store.store import Store
from ollama_ferry.wording import counted, human_size

# Where Ollama's service on Linux keeps its models: the likeliest target.
_TARGET = "/usr/share/ollama/.ollama/models"


@click.command("export")
@click.argument("words", nargs=-1, metavar="MODEL... [ARCHIVE]", shell_complete=complete_models)
@click.option("--all", "everything", is_flag=True, help="Export every model of the store.")
@click.option("-n", "--dry-run", is_flag=True, help="Print what would be packed; write nothing.")
@click.option("-f", "--force", is_flag=True, help="Replace ARCHIVE if it is there.")
@click.option(
    "--compress",
    type=click.Choice([c.value for c in Compression]),
    default=Compression.AUTO.value,
    show_default=True,
    help="auto packs what pays, at full speed; none stores, for disks over 500 MB/s; best is smallest and many times "
    "slower.",
)
@click.option(
    "--split",
    metavar="SIZE",
    help="Write volumes ARCHIVE.001, .002, ... of at most SIZE: 4G, 700M, or fat32. Broken off, it goes on when it is "
    "run again.",
)
@click.option("--prompt", is_flag=True, help="With --split: ask for the next medium where this one is full.")
@click.option(
    "--have",
    "have",
    multiple=True,
    metavar="FILE",
    type=ARCHIVE,
    help="Leave out what the target has: FILE is what `ollama-ferry inventory` printed there, or an archive that was "
    "imported there. May be repeated.",
)
@click.option("--threads", type=click.IntRange(1, 64), help="How many threads pack.  [default: one a core, up to 8]")
@click.option(
    "--format",
    "format_",
    type=click.Choice([kind.value[1:] for kind in Kind]),
    help="The format of a stream.  [default: tar.gz]",
)
@models_option
@output_options
def command(
    words: tuple[str, ...],
    everything: bool,
    dry_run: bool,
    force: bool,
    compress: str,
    split: str | None,
    prompt: bool,
    have: tuple[Path, ...],
    threads: int | None,
    format_: str | None,
    models: Path | None,
    quiet: bool,
    verbose: bool,
    as_json: bool,
) -> None:
    """Export models into one archive that plain tar restores.

    MODEL is a name or a quoted pattern ('gemma3:*'). ARCHIVE ends in .tar, .tar.gz, .tgz or .tar.zst, or is - for
    stdout; without it one model goes to ./NAME-TAG.tar.gz.

    \b
      ollama-ferry export deepseek-r1:8b
      ollama-ferry export qwen3:8b 'gemma3:*' ./models.tar.gz
      ollama-ferry export deepseek-r1:8b - | ssh server 'tar -xzf - -C /usr/share/ollama/.ollama/models'
    """
    output = Output(quiet, verbose, as_json)
    texts, archive = split_words(words)
    if not texts and not everything:
        raise UsageError("no model was named", hint="`ollama-ferry list` shows what there is.")
    if texts and everything:
        raise UsageError("--all exports every model; name none beside it")
    streaming = archive == "-"
    if format_ and not streaming:
        raise UsageError("--format is for a stream (-); a file's format is told by its extension")
    if streaming and stdout_is_terminal() and not dry_run:
        raise UsageError("an archive is not for a terminal", hint="Redirect it, or pipe it into tar or ssh.")
    if streaming and as_json and not dry_run:
        raise UsageError("--json writes to stdout, where the archive goes")

    if split is not None and streaming:
        raise UsageError("--split writes files; a stream has no volumes")
    if prompt and split is None:
        raise UsageError("--prompt goes with --split")
    inventory = read_inventories(have) if have else None
    located = find_store(models, output)
    store = Store(located.root)
    names = select(located, texts, everything=everything)
    path = None if streaming else Path(archive or _default_name(names))
    kind = (Kind(f".{format_}") if format_ else Kind.TAR_GZ) if path is None else kind_of(path.name)
    assert kind is not None  # noqa: S101 -- split_words has looked
    options = ExportOptions(
        compression=Compression.parse(compress),
        threads=threads or 0,
        replace=force,
        split=volume_size(split) if split is not None else None,
        fixed_time=source_date_epoch(os.environ.get("SOURCE_DATE_EPOCH")),
    )
    planned = plan_export(store, names, inventory)
    if path is not None:
        check_output(path, store)
    if dry_run:
        _print_plan(output, store, planned, path, kind, options)
        return
    if path is None:
        with progress("exporting", quiet=quiet) as run:
            done = export_to_stream(store, planned, sys.stdout.buffer, kind, options, run=run)
        if not quiet:
            _print_done(done, err=True)
        return
    cancel = Cancel()
    ask = MediumPrompt(cancel) if prompt else None
    if path.exists() and not force:
        # Before the progress bar, and before the space is looked at.
        raise AlreadyExists(f"{path} is there already", hint="Name another file, or replace this one with --force.")
    with progress("exporting", quiet=quiet or (as_json and not verbose), lines=prompt, cancel=cancel) as run:
        done = export_to_file(store, planned, path, options, ask=ask, run=run)
    tell_exported(done, output)


def tell_exported(done: Exported, output: Output, *, verb: str = "exported") -> None:
    """Print what was written into an archive's file."""
    if output.as_json:
        output.document(_fields(done))
    elif output.quiet:
        for file in done.volumes or (done,):
            say(f"{file.sha256}  {file.path}")
    else:
        _print_done(done, err=False, verb=verb)


def split_words(words: tuple[str, ...]) -> tuple[list[str], str | None]:
    """Tell the models from the archive, which is the last word if it looks like one.

    Returns:
        The models, and the archive or None.
    """
    if words and (words[-1] == "-" or kind_of(words[-1])):
        return list(words[:-1]), words[-1]
    if words and words[-1].lower().endswith((".zip", ".gz", ".zst", ".xz", ".bz2", ".7z")):
        raise UsageError(f"{words[-1]!r} is no archive that export writes", hint="Use .tar.gz, .tgz, .tar or .tar.zst.")
    if words and words[-1].startswith((".", "/", "~")):
        raise UsageError(
            f"{words[-1]!r} is neither a model's name nor an archive's",
            hint="Archives end in .tar.gz, .tgz, .tar or .tar.zst.",
        )
    return list(words), None


def _default_name(names: list[ModelName]) -> str:
    if len(names) != 1:
        raise UsageError(
            f"{len(names)} models need the archive's name",
            hint="Give it last, for example ./models.tar.gz",
        )
    return f"{names[0].file_stem}.tar.gz"


def _print_plan(
    output: Output, store: Store, planned: Plan, path: Path | None, kind: Kind, options: ExportOptions
) -> None:
    shared: dict[str, list[str]] = {}
    for model in planned.models:
        for layer in layers_in_use(store, model.manifest, model.name):
            others = shared.setdefault(layer.blob.digest.file_name, [])
            others += [str(other) for other in layer.shared_with if str(other) not in others]
    files = [(f"blobs/{blob.digest.file_name}", blob.size) for blob in planned.blobs]
    files += [(f"manifests/{model.name.path}", len(model.manifest.raw)) for model in planned.models]
    total = sum(size for _, size in files)
    expected = expected_size(store, planned, kind, options.compression)
    target = str(path) if path is not None else "-"
    if output.as_json:
        output.document(
            {
                "archive": target,
                "store": str(store.root),
                "models": [str(model.name) for model in planned.models],
                "files": [
                    {"path": name, "size": size, "shared_with": shared.get(name.partition("/")[2], [])}
                    for name, size in files
                ],
                "left_out": [{"digest": str(blob.digest), "size": blob.size} for blob in planned.present],
                "total": total,
                "expected_archive_size": expected,
            }
        )
        return
    print_table(
        ("FILE", "BYTES", "SHARED WITH"),
        [(name, str(size), ", ".join(shared.get(name.partition("/")[2], ())) or "-") for name, size in files],
        right=(1,),
    )
    say()
    say(f"{counted(len(files), 'file')}, {human_size(total)} ({total} bytes), all in {store.root}")
    if planned.present:
        say(_left_out(planned.present))
    in_volumes = f" in {counted(-(-expected // options.split), 'volume')}" if options.split else ""
    say(f"{target} would take about {human_size(expected)}{in_volumes}; nothing was written")


def _print_done(done: Exported, *, err: bool, verb: str = "exported") -> None:
    names = ", ".join(map(str, done.models[:5])) + (f" and {len(done.models) - 5} more" if len(done.models) > 5 else "")
    seconds = max(done.seconds, 0.001)
    # Of a delta, headers and manifests may be the most.
    share = f", {done.size * 100 / done.blob_size:.1f} % of its blobs" if done.blob_size and not done.left_out else ""
    target = str(done.path) if done.path else "the stream"
    if done.volumes:
        target = f"{done.volumes[0].path}" + (f" to .{len(done.volumes):03d}" if len(done.volumes) > 1 else "")
    say(f"{verb} {names} to {target}", err=err)
    say(f"  size     {human_size(done.size)} ({done.size} bytes{share})", err=err)
    say(f"  SHA-256  {done.sha256}", err=err)
    if done.left_out:
        say(f"  {_left_out(done.left_out)}", err=err)
    say(f"  took     {seconds:.1f} s, {human_size(done.blob_size / seconds)}/s", err=err)
    if done.path is not None:
        file = shlex.quote(str(done.path))
        say("restore it on the target:", err=err)
        if done.volumes:
            say(f"  sha256sum -c {shlex.quote(str(Volumes(done.path).sums_path.name))}", err=err)
            say(f"  cat {file}.* | tar {done.kind.extract_flags} - -C {_TARGET}", err=err)
            say("or, where the volumes are on several media:", err=err)
            say(f"  ollama-ferry import {file}.001 --prompt", err=err)
        else:
            say(f"  tar {done.kind.extract_flags} {file} -C {_TARGET}", err=err)
        say(f"  ollama show {shlex.quote(str(done.models[0]))}", err=err)


def _left_out(blobs: Sequence[Descriptor]) -> str:
    what = f"{counted(len(blobs), 'blob')} ({human_size(sum(blob.size for blob in blobs))})"
    return f"left out {what} that the target has; the archive is of no use on a machine without"


def _fields(done: Exported) -> dict[str, object]:
    return {
        "archive": str(done.path),
        "format": done.kind.value[1:],
        "size": done.size,
        "sha256": done.sha256,
        "volumes": [{"path": str(v.path), "size": v.size, "sha256": v.sha256} for v in done.volumes],
        "models": [str(name) for name in done.models],
        "blobs": [{"digest": str(blob.digest), "size": blob.size} for blob in done.blobs],
        "left_out": [{"digest": str(blob.digest), "size": blob.size} for blob in done.left_out],
        "blob_size": done.blob_size,
        "seconds": round(done.seconds, 3),
    }
