"""``ollama-ferry import``."""

from __future__ import annotations

import contextlib
import glob
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ollama_ferry import api
from ollama_ferry.cli.checklist import may_ask, pick_models
from ollama_ferry.cli.medium_prompt import MediumPrompt
from ollama_ferry.cli.options import (
    WORD,
    checksum_option,
    complete_archived,
    dry_run_option,
    force_option,
    lock_option,
    open_stdin,
    output_options,
    rename_option,
    signers_option,
    store_option,
)
from ollama_ferry.cli.output import (
    Output,
    amount,
    blobs_fields,
    left_out_fields,
    manifest_fields,
    present,
    require_undamaged,
    resumed,
    tell_left_out,
    took,
)
from ollama_ferry.cli.progress import progress
from ollama_ferry.cli.remedies import hint_of
from ollama_ferry.cli.tables import print_table
from ollama_ferry.cli.terminal import say
from ollama_ferry.engine.events import Cancel, Observer
from ollama_ferry.errors import FATAL_FOR_ALL, FerryError, NotFound, NotPermitted, Remedy, UsageError
from ollama_ferry.shell_lines import joined, quoted
from ollama_ferry.wording import human_size

if TYPE_CHECKING:
    from ollama_ferry.api import Given, Imported, Located


@dataclass(frozen=True)
class _Asked:
    """The command's words and options."""

    archives: tuple[Path, ...]
    models: tuple[str, ...]
    rename: tuple[str, ...]
    dry_run: bool
    replace: bool
    verify_existing: bool
    lenient: bool
    prompt: bool
    via_server: bool
    listen: str | None
    lock: Path | None
    signers: Path | None
    store: Path | None


@click.command("import")
@click.argument("words", nargs=-1, type=WORD, metavar="ARCHIVE... [MODEL...]")
@click.option(
    "--model",
    "models",
    multiple=True,
    metavar="MODEL",
    shell_complete=complete_archived,
    help="Take this model or 'pattern'; may be repeated.",
)
@rename_option
@dry_run_option("Say what would be done; write nothing.")
@force_option()
@checksum_option
@click.option("--verify-existing", "verify_existing_too", is_flag=True, hidden=True)
@click.option(
    "--lenient",
    is_flag=True,
    help="Take an archive that not every tar reads in the same way; every byte is hashed all the same.",
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
@lock_option
@signers_option
@store_option
@output_options
def command(output: Output, **asked: Any) -> None:
    """Import the models of archives and folders into the store.

    ARCHIVE is any tar with a store in it (.tar, .tar.gz, .tar.zst, .tar.xz; the content tells) or a zip, whoever made
    it, a folder of downloaded files, or - for stdin. Several complete each other. Every byte is hashed before a model
    is listed; blobs that are here are skipped; what was interrupted is resumed. --models DIR may name a folder that is
    not there yet.

    \b
      ollama-ferry import ./deepseek-r1-8b.tar.gz
      ollama-ferry import /media/stick/models.tar.gz.001 --prompt
      ollama-ferry import ./models.tar.gz qwen3:8b --as qwen3:mine
      ssh server 'cat models.tar.gz' | ollama-ferry import -
    """
    # Its name before the other commands' was taken.
    asked["verify_existing"] |= asked.pop("verify_existing_too")
    archives, models = _sorted_words(asked.pop("words"))
    parsed = _Asked(archives=archives, **{**asked, "models": (*asked["models"], *models)})
    _check(parsed)
    if not parsed.models and len(archives) == 1 and parsed.lock is None and not parsed.prompt and may_ask(output):
        parsed = replace(parsed, models=_picked(archives[0], parsed))
    if parsed.via_server:
        _import_via_server(parsed, output)
        return
    try:
        _import_all(parsed, output)
    except NotPermitted as error:
        if len(parsed.archives) == 1 and parsed.archives[0] != Path("-"):
            error.remedies = (*error.remedies, Remedy("via_server"))
        raise


def _picked(archive: Path, asked: _Asked) -> tuple[str, ...]:
    """Let somebody at the terminal pick of an archive with several models; none stand for all."""
    if len(api.names_at_once(archive)) < 2:
        return ()
    listing = api.list_models(archive=archive)
    free, present = None, frozenset[str]()
    if not asked.via_server:
        target = api.find_target(asked.store).root
        free = api.free_bytes(target)
        with contextlib.suppress(FerryError):
            present = frozenset(map(str, api.take_inventory(target).blobs))
    title = f"Which models of {archive} are to be imported?"
    picked = pick_models(listing, title, free=free, present=present, everything=not asked.rename)
    return () if len(picked) == len(listing.models) else tuple(picked)


def _sorted_words(words: tuple[str, ...]) -> tuple[tuple[Path, ...], tuple[str, ...]]:
    """Tell the archives and folders from the models.

    Raises:
        NotFound: there are models alone.
        UsageError: a word is a host or an address.
    """
    archives: list[Path] = []
    models: list[str] = []
    for word in words:
        means = api.meaning_of_word(word)
        if means is api.Means.HOST:
            line = f"ollama-ferry fetch {quoted(word)} MODEL"
            raise UsageError(f"import takes files of this machine, and {word!r} is another one", hint=line)
        if means is api.Means.URL:
            line = f"curl -fL {quoted(word)} | ollama-ferry import -"
            raise UsageError(f"import takes files of this machine, and {word!r} is on the web", hint=line)
        if means.is_place:
            archives += _files(word)
        else:
            models.append(word)
    if models and not archives:
        name = quoted(models[0])
        raise NotFound(
            f"there is no file {models[0]}",
            hint="import takes an archive's file. A model comes\n"
            f"  from another machine by: ollama-ferry fetch HOST {name}\n"
            f"  out of a registry by:    ollama-ferry pull {name}",
        )
    return tuple(archives), tuple(models)


def _files(word: str) -> list[Path]:
    """Return the file of a word, or those of a pattern, which the shells of Windows leave as it is.

    Raises:
        NotFound: the pattern has none.
    """
    path = os.path.expanduser(word) if word != "-" else word
    if not any(char in path for char in "*?[") or os.path.lexists(path):
        return [Path(path)]
    found = sorted(glob.glob(path))
    if not found:
        raise NotFound(f"there is no file {word}", hint="A * stands for any part of a file's name.")
    return [Path(one) for one in found]


def _check(asked: _Asked) -> None:
    """Refuse what can't be meant.

    Raises:
        UsageError: words and options do not go together.
    """
    several, streams = len(asked.archives) > 1, Path("-") in asked.archives
    if not asked.archives:
        raise UsageError("no archive was named", hint="ollama-ferry import ARCHIVE...   (- is standard input)")
    last = asked.archives[-1]
    if several and not last.suffix and not os.path.lexists(last):
        raise UsageError(
            f"{last} is not there: is it the folder that the models are to go into?",
            hint=joined(["ollama-ferry", "import", *map(str, asked.archives[:-1]), "--models", str(last)]),
        )
    if streams and (asked.dry_run or several):
        raise UsageError("a stream is read once, and alone: it goes with no other archive and no --dry-run")
    if asked.prompt and (asked.dry_run or several or streams):
        raise UsageError("--prompt goes with one archive in volumes (ARCHIVE.001), and with no --dry-run")
    in_store = asked.prompt or asked.dry_run or asked.verify_existing or asked.lenient or asked.store is not None
    if asked.via_server and (in_store or several or streams):
        raise UsageError(
            "--via-server takes one archive's file, and no --prompt, --dry-run, --checksum, --lenient or --models"
        )
    if asked.listen is not None and not asked.via_server:
        raise UsageError("--listen goes with --via-server")


def _import_all(asked: _Asked, output: Output) -> None:
    with progress("reading", output) as observer:
        target = api.find_target(asked.store, observer=observer)
        judged = _judged(asked, observer)
    done: list[Imported] = []
    failed: list[FerryError] = []
    for number, (archive, models) in enumerate(judged):
        try:
            done.append(_import_one(archive, models, target, asked, output))
            if not output.as_json:
                _print_done(done[-1], output, dry_run=asked.dry_run)
            tell_left_out(done[-1].not_carried, output, "import")
        except FerryError as error:
            failed.append(error)
            if number == len(judged) - 1 or isinstance(error, FATAL_FOR_ALL):
                break
            # The others may be whole.
            say(f"failed: {error.message}", err=True)
    if output.as_json:
        output.document(
            {
                "store": str(target.root),
                "dry_run": asked.dry_run,
                "archives": [_fields(one) for one in done],
                "failed": [{"error": error.message, "hint": hint_of(error, "import")} for error in failed],
            }
        )
    if failed and len(judged) == 1:
        raise failed[0]
    if failed:
        left = len(judged) - len(done)
        raise type(failed[0])(
            f"{left} of {len(judged)} archives were not imported: {failed[-1].message}",
            hint=failed[-1].hint,
            remedies=failed[-1].remedies,
        )
    require_undamaged([lost for one in done for lost in one.not_carried], "imported")


def _judged(asked: _Asked, observer: Observer) -> list[tuple[Path, tuple[str, ...]]]:
    """Return the archives to import, and which of the models that were asked for each has; all are looked into."""
    if len(asked.archives) == 1:
        return [(asked.archives[0], asked.models)]
    one_name = any("=" not in text for text in asked.rename)
    judged = api.judge_archives(asked.archives, asked.models, one_name=one_name, observer=observer)
    return [(one.path, one.models) for one in judged if one.has_models]


def _import_one(archive: Path, models: tuple[str, ...], target: Located, asked: _Asked, output: Output) -> Imported:
    cancel = Cancel()
    others = [other for other in asked.archives if other != archive]
    with progress("reading" if asked.dry_run else "importing", output, lines=asked.prompt) as observer:
        stdin = open_stdin() if archive == Path("-") else None
        try:
            return api.import_archive(
                stdin or archive,
                others=others,
                store=target,
                models=models,
                rename=asked.rename,
                replace=asked.replace,
                verify_existing=asked.verify_existing,
                lenient=asked.lenient,
                lock=asked.lock,
                signers=asked.signers,
                ask=MediumPrompt(cancel) if asked.prompt else None,
                dry_run=asked.dry_run,
                observer=observer,
                cancel=cancel,
            )
        finally:
            if stdin is not None:
                stdin.close()


def _import_via_server(asked: _Asked, output: Output) -> None:
    """Let the server at OLLAMA_HOST pull an archive's models from us, and say what it has now."""
    with progress("giving", output) as observer:
        given = api.import_via_server(
            asked.archives[0],
            models=asked.models,
            rename=asked.rename,
            replace=asked.replace,
            listen=asked.listen,
            lock=asked.lock,
            signers=asked.signers,
            observer=observer,
        )
    if output.as_json:
        output.document(_given_fields(given))
        return
    for model in given.models:
        if output.quiet:
            say(f"{model.id[:12]}  {model.name}")
        elif model.was_there:
            say(f"{model.name} ({model.id[:12]}) is there already, the same")
        else:
            renamed = f" (as {model.source} there)" if model.source != model.name else ""
            say(f"imported {model.name} ({model.id[:12]}){renamed}")
    if not output.quiet and not all(model.was_there for model in given.models):
        say(f"  into   the server at {given.server}, which has checked every byte")
        say(f"  took   {took(given.seconds, given.size)}")


def print_imported(done: Imported, output: Output, *, dry_run: bool = False, verb: str = "import") -> None:
    """Print what an import from one place did, or would do; ``verb`` is what the command calls it."""
    if output.as_json:
        output.document({"store": str(done.store), **({"dry_run": True} if dry_run else {}), **_fields(done)})
    else:
        _print_done(done, output, dry_run=dry_run, verb=verb)
    tell_left_out(done.not_carried, output, verb)
    require_undamaged(done.not_carried, "would " + verb if dry_run else f"{verb}ed")


def _print_done(done: Imported, output: Output, *, dry_run: bool, verb: str = "import") -> None:
    if output.quiet:
        for model in done.models:
            say(f"{model.manifest.digest.short}  {model.name}")
        return
    fresh = [model for model in done.models if not model.was_here]
    here = [model for model in done.models if model.was_here]
    did = f"would {verb}" if dry_run else f"{verb}ed"
    for model in fresh:
        from_name = f" (as {model.source} there)" if model.source != model.name else ""
        instead = f", in place of {model.replaced}" if model.replaced else ""
        say(f"{did} {model.name} ({model.manifest.digest.short}){from_name}{instead}")
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
        moved = f"{amount(done.blobs)}{resumed(done.resumed)}{present(done.present, 'here')}"
        say(f"  {'would write' if dry_run else 'wrote'}  {moved}")
        say(f"  into   {done.store}")
        if not dry_run:
            checked = "; every byte written was checked" if done.blobs else ""
            say(f"  took   {took(done.seconds, done.size - done.resumed)}{checked}")
    if done.ignored:
        names = ", ".join(map(repr, done.ignored_names))
        more = f" and {done.ignored - len(done.ignored_names)} more" if done.ignored > len(done.ignored_names) else ""
        output.note(f"note: not Ollama's, left alone: {names}{more}")


def _fields(done: Imported) -> dict[str, object]:
    return {
        "archive": done.archive,
        "models": [
            {
                "name": str(model.name),
                "name_in_archive": str(model.source),
                **manifest_fields(model.manifest),
                "was_here": model.was_here,
            }
            for model in done.models
        ],
        "blobs": blobs_fields(done.blobs),
        "present": blobs_fields(done.present),
        "left_out": left_out_fields(done.not_carried),
        "size": done.size,
        "resumed": done.resumed,
        "ignored": done.ignored,
        "seconds": round(done.seconds, 3),
    }


def _given_fields(given: Given) -> dict[str, object]:
    return {
        "archive": given.archive,
        "server": given.server,
        "models": [
            {
                "name": str(model.name),
                "name_in_archive": str(model.source),
                "id": model.id[:12],
                "manifest_digest": f"sha256:{model.id}",
                "manifest_digest_in_archive": str(model.manifest.digest),
                "was_here": model.was_there,
            }
            for model in given.models
        ],
        "size": given.size,
        "seconds": round(given.seconds, 3),
    }
