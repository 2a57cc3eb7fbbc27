"""``ollama-ferry export``."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import click

from ollama_ferry import api
from ollama_ferry.cli.checklist import ask_for, may_ask, pick_models
from ollama_ferry.cli.kit_command import kit_fields, print_kit
from ollama_ferry.cli.medium_prompt import MediumPrompt
from ollama_ferry.cli.options import (
    FILE,
    WORD,
    all_option,
    complete_models,
    compress_option,
    dry_run_option,
    exclude_option,
    force_option,
    models_and_archive,
    output_options,
    rename_option,
    sha256_option,
    store_option,
    threads_option,
    with_ferry_option,
)
from ollama_ferry.cli.output import (
    Output,
    blobs_fields,
    left_out_fields,
    require_undamaged,
    stdout_is_terminal,
    tell_left_out,
    took,
)
from ollama_ferry.cli.progress import progress
from ollama_ferry.cli.tables import print_table
from ollama_ferry.cli.terminal import say
from ollama_ferry.engine.events import Cancel
from ollama_ferry.errors import ModelNotFound, UsageError
from ollama_ferry.shell_lines import quoted
from ollama_ferry.wording import counted, exact_size, human_size

if TYPE_CHECKING:
    from ollama_ferry.api import Descriptor, Exported, Kit, PlannedExport


@dataclass(frozen=True)
class _Asked:
    """The command's words and options."""

    words: tuple[str, ...]
    everything: bool
    exclude: tuple[str, ...]
    keep_going: bool | None
    rename: tuple[str, ...]
    dry_run: bool
    replace: bool
    compress: str
    split: str | None
    prompt: bool
    have: tuple[Path, ...]
    threads: int
    stream_format: str | None
    sign_with: Path | None
    with_ferry: bool
    sha256: bool
    store: Path | None


@click.command("export")
@click.argument("words", nargs=-1, type=WORD, metavar="MODEL... [ARCHIVE]", shell_complete=complete_models)
@all_option("Export every model of the store.")
@exclude_option
@click.option(
    "--keep-going/--no-keep-going",
    default=None,
    help="Leave out damaged models, name them, and end with exit code 4.  [default: for --all and patterns]",
)
@rename_option
@dry_run_option("Print what would be packed; write nothing.")
@force_option("Replace ARCHIVE if it is there.")
@compress_option(
    "auto packs what pays on fast disks: 16-bit weights, texts. fast what shrinks at all, for slow sticks and lines; "
    "none nothing; best is smallest and many times slower."
)
@click.option(
    "--split",
    metavar="SIZE",
    help="Write volumes ARCHIVE.001, .002, ... of at most SIZE: 4G, 700M, or fat32. What was interrupted is resumed by "
    "the next run.",
)
@click.option("--prompt", is_flag=True, help="With --split: ask for the next medium where this one is full.")
@click.option(
    "--have",
    multiple=True,
    metavar="FILE",
    type=FILE,
    help="Leave out what the target has: FILE is what `ollama-ferry inventory` printed there, or an archive that was "
    "imported there. May be repeated.",
)
@threads_option("pack")
@click.option(
    "--format",
    "stream_format",
    type=click.Choice(api.FORMATS),
    help="The format of a stream.  [default: tar.gz]",
)
@click.option(
    "--sign", "sign_with", type=FILE, metavar="KEY", help="Sign the models with this key of OpenSSH, in ARCHIVE.sig."
)
@with_ferry_option
@sha256_option
@store_option
@output_options
def command(output: Output, **asked: Any) -> None:
    """Export models into one archive that plain tar restores.

    MODEL is a name or a quoted pattern ('gemma3:*'). ARCHIVE ends in .tar, .tar.gz, .tgz or .tar.zst, or is - for
    stdout; without it one model goes to ./NAME-TAG.tar.gz.

    \b
      ollama-ferry export deepseek-r1:8b
      ollama-ferry export qwen3:8b 'gemma3:*' ./models.tar.gz
      ollama-ferry export deepseek-r1:8b - | ssh server 'tar -xzf - -C /usr/share/ollama/.ollama/models'
    """
    _export(_Asked(**asked), output)


def _export(asked: _Asked, output: Output) -> None:
    texts, archive = models_and_archive(asked.words)
    if not texts and not asked.everything and may_ask(output):
        free = api.free_bytes(os.path.dirname(archive or "") or ".") if archive != "-" else None
        listing = api.list_models(store=asked.store)
        texts = pick_models(listing, "Which models are to be exported?", free=free)
        if archive is None and len(texts) > 1:
            texts, archive = models_and_archive((*texts, ask_for("Into which archive?", "./models.tar.gz")))
    try:
        _export_to(texts, archive, asked, output)
    except ModelNotFound as error:
        word = texts[-1] if texts else ""
        if archive is None and len(texts) > 1 and error.name.startswith(word) and not set(word) & set(":/*?["):
            error.hint = f"If {word} is to be the archive: {word}.tar.gz\n{error.hint}".strip()
        raise


def _export_to(texts: list[str], archive: str | None, asked: _Asked, output: Output) -> None:
    _check(asked, texts, archive, output)
    if asked.dry_run:
        with progress("reading", output) as observer:
            planned = api.plan_export(
                texts,
                None if archive == "-" else archive,
                store=asked.store,
                everything=asked.everything,
                exclude=asked.exclude,
                keep_going=asked.keep_going,
                rename=asked.rename,
                compress=asked.compress,
                have=asked.have,
                split=asked.split,
                stream=archive == "-",
                stream_format=asked.stream_format or "tar.gz",
                observer=observer,
            )
        _print_plan(planned, output)
        return
    folder = Path(os.path.expanduser(archive)).parent if archive else Path()
    if asked.with_ferry:
        # Told before the hours of an export.
        api.plan_kit(folder)
    if archive == "-" and os.name == "nt":
        output.note("PowerShell before 7.4 changes the bytes that go through | and >: use cmd there, or name a file")
    cancel = Cancel()
    ask = MediumPrompt(cancel) if asked.prompt else None
    with progress("exporting", output, lines=asked.prompt) as observer:
        done = api.export(
            texts,
            sys.stdout.buffer if archive == "-" else archive,
            store=asked.store,
            everything=asked.everything,
            exclude=asked.exclude,
            keep_going=asked.keep_going,
            rename=asked.rename,
            compress=asked.compress,
            threads=asked.threads,
            have=asked.have,
            split=asked.split,
            ask=ask,
            stream_format=asked.stream_format or "tar.gz",
            replace=asked.replace,
            sign_with=asked.sign_with,
            sha256=asked.sha256,
            observer=observer,
            cancel=cancel,
        )
        kit = api.write_kit(folder, observer=observer) if asked.with_ferry else None
    if done.path is not None:
        print_exported(done, output, kit=kit)
    elif not output.quiet:
        _print_done(done, err=True)
        tell_left_out(done.not_carried, output, "export")
    require_undamaged(done.not_carried, "exported")


def _check(asked: _Asked, texts: list[str], archive: str | None, output: Output) -> None:
    """Refuse what can't be meant.

    Raises:
        UsageError: words and options do not go together.
    """
    if not texts and not asked.everything:
        raise UsageError("no model was named", hint="`ollama-ferry list` shows what there is.")
    if texts and asked.everything:
        raise UsageError("--all exports every model; name none beside it")
    if asked.prompt and asked.split is None:
        raise UsageError("--prompt goes with --split")
    if archive != "-":
        if asked.stream_format:
            raise UsageError("--format is for a stream (-); a file's format is known by its extension")
        return
    if asked.with_ferry:
        raise UsageError("--with-ferry writes files beside an archive; a stream has none")
    if stdout_is_terminal() and not asked.dry_run:
        raise UsageError("an archive is not for a terminal", hint="Redirect it, or pipe it into tar or ssh.")
    if output.as_json and not asked.dry_run:
        raise UsageError("--json writes to stdout, where the archive goes")
    if asked.split is not None:
        raise UsageError("--split writes files; a stream has no volumes")


def print_exported(done: Exported, output: Output, *, verb: str = "exported", kit: Kit | None = None) -> None:
    """Print what was written into an archive's file, and the kit beside it."""
    if output.as_json:
        output.document(_fields(done) | ({"kit": kit_fields(kit)} if kit is not None else {}))
    elif output.quiet:
        for volume in done.volumes:
            say(f"{volume.sha256}  {volume.path}")
        if not done.volumes:
            say(str(done.path))
    else:
        _print_done(done, err=False, verb=verb)
        if kit is not None:
            print_kit(kit)
    tell_left_out(done.not_carried, output, "export")


def _print_plan(planned: PlannedExport, output: Output) -> None:
    target = str(planned.path) if planned.path is not None else "-"
    if output.as_json:
        output.document(
            {
                "archive": target,
                "store": planned.place,
                "models": [str(model.name) for model in planned.models],
                "files": [
                    {"path": file.path, "size": file.size, "shared_with": list(map(str, file.shared_with))}
                    for file in planned.files
                ],
                "left_out": [*blobs_fields(planned.left_out), *left_out_fields(planned.not_carried)],
                "total": planned.size,
                "expected_archive_size": planned.expected_size,
            }
        )
        return
    tell_left_out(planned.not_carried, output, "export")
    print_table(
        ("FILE", "BYTES", "SHARED WITH"),
        [(file.path, f"{file.size:,}", ", ".join(map(str, file.shared_with)) or "-") for file in planned.files],
        right=(1,),
        below=(2,),
    )
    say()
    files = counted(len(planned.files), "file")
    say(f"{files}, {human_size(planned.size)} ({exact_size(planned.size)}), all in {planned.place}")
    if planned.left_out:
        say(_left_out(planned.left_out))
    in_volumes = f" in {counted(planned.volumes, 'volume')}" if planned.volumes else ""
    say(f"{target} would take about {human_size(planned.expected_size or 0)}{in_volumes}; nothing was written")


def _print_done(done: Exported, *, err: bool, verb: str = "exported") -> None:
    names = ", ".join(map(str, done.models[:5])) + (f" and {len(done.models) - 5} more" if len(done.models) > 5 else "")
    # Of a delta, headers and manifests may be the most.
    share = f", {done.size * 100 / done.blob_size:.1f} % of its blobs" if done.blob_size and not done.left_out else ""
    target = str(done.path) if done.path else "the stream"
    if done.volumes:
        target = f"{done.volumes[0].path}" + (f" to .{len(done.volumes):03d}" if len(done.volumes) > 1 else "")
    say(f"{verb} {names} to {target}", err=err)
    say(f"  size     {human_size(done.size)} ({exact_size(done.size)}{share})", err=err)
    if done.sha256:
        say(f"  SHA-256  {done.sha256}", err=err)
    if done.automatic:
        say(f"  packing  {_choice(done)}", err=err)
    if done.left_out:
        say(f"  {_left_out(done.left_out)}", err=err)
    say(f"  took     {took(done.seconds, done.blob_size)}", err=err)
    if done.path is not None:
        # On the target, which is Linux, a path of Windows means nothing: the file will be somewhere, under its name.
        path = PurePosixPath(done.path.name) if os.name == "nt" else done.path
        file = quoted(f"./{path}" if os.name == "nt" else path, "linux")
        say("restore it on the target, where ollama-ferry is:", err=err)
        volumes = bool(done.volumes)
        say(f"  ollama-ferry import {file}{'.001 --prompt' if volumes else ''}", err=err)
        say("or where it is not, into the models of Ollama's service:", err=err)
        if done.sums_path is not None:
            say(
                f"  (cd {quoted(path.parent, 'linux')} && sha256sum -c {quoted(done.sums_path.name)})",
                err=err,
            )
        if volumes:
            say(f"  cat {file}.[0-9]* | sudo tar {done.kind.extract_flags} - -C {api.SERVICE_MODELS}", err=err)
        else:
            say(f"  sudo tar {done.kind.extract_flags} {file} -C {api.SERVICE_MODELS}", err=err)
        say(f"  ollama show {quoted(done.models[0])}", err=err)


def _choice(done: Exported) -> str:
    """Say what `auto` chose, and what the other choice would save."""
    content = done.blob_size or 1
    share = done.stored / content
    chose = "none of it pays: stored" if share > 0.99 else "all of it pays" if share < 0.01 else "part of it pays"
    if done.foregone < content // 100:
        return f"{chose}; --compress fast would save next to nothing more"
    saved = f"{human_size(done.foregone)} ({done.foregone * 100 / content:.1f} %)"
    return f"{chose}; --compress fast would save about {saved}, for a slow stick or line"


def _left_out(blobs: Sequence[Descriptor]) -> str:
    what = f"{counted(len(blobs), 'blob')} ({human_size(sum(blob.size for blob in blobs))})"
    return f"left out {what} that the target has; the archive is of no use on a machine without"


def _fields(done: Exported) -> dict[str, object]:
    fields = {
        "archive": str(done.path),
        "format": done.kind.value[1:],
        "size": done.size,
        "volumes": [{"path": str(v.path), "size": v.size, "sha256": v.sha256} for v in done.volumes],
        "models": [str(name) for name in done.models],
        "blobs": blobs_fields(done.blobs),
        "left_out": [*blobs_fields(done.left_out), *left_out_fields(done.not_carried)],
        "blob_size": done.blob_size,
        "seconds": round(done.seconds, 3),
    }
    return {**fields, "sha256": done.sha256} if done.sha256 else fields
