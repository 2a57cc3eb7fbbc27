"""``ollama-ferry send``."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ollama_ferry import api
from ollama_ferry.cli.checklist import ask_for, may_ask, pick_models
from ollama_ferry.cli.configuration import expanded
from ollama_ferry.cli.options import (
    FILE,
    WORD,
    all_option,
    complete_models,
    dry_run_option,
    exclude_option,
    force_option,
    lock_option,
    output_options,
    signers_option,
    ssh_options,
    store_option,
    with_ferry_option,
)
from ollama_ferry.cli.output import (
    Output,
    left_out_fields,
    require_undamaged,
    resumed,
    stdout_is_terminal,
    tell_left_out,
)
from ollama_ferry.cli.progress import progress
from ollama_ferry.cli.remedies import hint_of
from ollama_ferry.cli.tables import print_table
from ollama_ferry.cli.terminal import say
from ollama_ferry.engine.events import Observer
from ollama_ferry.errors import FerryError, UsageError
from ollama_ferry.shell_lines import joined, quoted
from ollama_ferry.wording import human_rate, human_size

if TYPE_CHECKING:
    from ollama_ferry.api import Located, Sent


@click.command("send")
@click.argument("words", nargs=-1, type=WORD, metavar="MODEL... TARGET...", shell_complete=complete_models)
@all_option("Send every model of the store; all words are targets then.")
@exclude_option
@dry_run_option("Say what would be sent; send nothing.")
@force_option()
@click.option(
    "--checksum",
    "verify_existing",
    is_flag=True,
    help="Let the target hash what it has already, and replace damaged blobs.",
)
@click.option("--from", "archive", type=FILE, metavar="ARCHIVE", help="Send out of an archive or a folder instead.")
@click.option(
    "--link",
    is_flag=True,
    help="Let a folder on the same file system share the blobs with the store (reflinks or hard links): no copies.",
)
@ssh_options
@lock_option
@signers_option
@with_ferry_option
@store_option
@output_options
def command(
    words: tuple[str, ...],
    everything: bool,
    exclude: tuple[str, ...],
    dry_run: bool,
    replace: bool,
    verify_existing: bool,
    archive: Path | None,
    link: bool,
    ssh: api.Ssh,
    lock: Path | None,
    signers: Path | None,
    with_ferry: bool,
    store: Path | None,
    output: Output,
) -> None:
    """Send models of the store to other machines or folders: only what is missing there.

    TARGET is user@host, host:/path/to/models, or a folder of Ollama's layout such as ./stick/models. The other side
    needs ssh and a POSIX shell, nothing else; its store is found as here. What was interrupted is resumed.

    \b
      ollama-ferry send deepseek-r1:8b user@server
      ollama-ferry send qwen3:8b 'gemma3:*' user@server:/data/ollama/models
      ollama-ferry send deepseek-r1:8b host1 host2 host3
      ollama-ferry send deepseek-r1:8b /media/stick/models
      ollama-ferry send --from ./models.tar.gz user@server
    """
    if archive is None and lock is None and not everything and may_ask(output):
        words = _asked_for(words, store)
    if len(words) < 2 and not (words and (lock or archive or everything)):
        raise UsageError("send takes models and where they go", hint="ollama-ferry send deepseek-r1:8b user@server")
    with progress("sending", output) as observer:
        source = api.find_store(store, observer=observer) if archive is None else store
        known = _nothing if everything else _known(source, archive, observer)
        models, targets = models_and_targets(words, known, optional=bool(everything or lock or archive))
        if with_ferry and any(api.Host.parse(target).name for target in targets):
            raise UsageError("--with-ferry goes with folders: a host gets the program by pip, or as a file by scp")
        done = api.send(
            models,
            targets,
            store=source,
            archive=archive,
            everything=everything,
            exclude=exclude,
            link=link,
            ssh=ssh,
            replace=replace,
            verify_existing=verify_existing,
            lock=lock,
            signers=signers,
            dry_run=dry_run,
            observer=observer,
        )
        if with_ferry and not dry_run:
            for sent in done:
                if sent.error is None:
                    api.write_kit(sent.root, observer=observer)
    _print_outcome(done, output, dry_run=dry_run)


def _nothing(word: str) -> bool:
    """Return that a word is no model: where all are sent, each is a target."""
    return False


def _known(source: Path | Located | None, archive: Path | None, observer: Observer) -> Callable[[str], bool]:
    """Return what tells whether a word means a model of the store, or of the archive."""
    if archive is None:
        return partial(api.has_model, store=source)
    names = [model.name for model in api.list_models(archive=archive, observer=observer).models]
    return partial(api.covers_any, names=names)


def _asked_for(words: tuple[str, ...], store: Path | None) -> tuple[str, ...]:
    """Let somebody at the terminal say what is missing: the models, or where they go."""
    meant = [api.meaning_of_word(word) for word in words]
    if all(means.is_place for means in meant):
        folder = words[0] if meant == [api.Means.FOLDER] else None
        free = api.free_bytes(folder) if folder is not None else None
        models = pick_models(api.list_models(store=store), "Which models are to be sent?", free=free)
        return (*models, *(words or expanded(ask_for("To which host or folder?"))))
    return words if len(words) > 1 else (*words, *expanded(ask_for("To which host or folder?")))


def models_and_targets(
    words: tuple[str, ...], is_model: Callable[[str], bool], *, optional: bool = False
) -> tuple[list[str], list[str]]:
    """Tell the models from the targets.

    A word is a target when it looks like one, or when it is behind the first and no model. From the first target on,
    all are targets, and what has the name of a folder here is that.

    Args:
        words: the words.
        is_model: tells whether a word means a model of where they are sent from.
        optional: no model need be named.

    Raises:
        UsageError: there is no target.
    """
    for number, word in enumerate(words):
        means = api.meaning_of_word(word)
        named = api.is_path(word) or means in (api.Means.HOST, api.Means.URL, api.Means.STREAM)
        if not named:
            if not number and not optional:
                continue
            # A host has a path or nothing behind its colon, and a model a tag. Of a folder and a model of one name the
            # last word is the folder.
            if (is_model(word) or ":" in word) and not (means.is_place and number == len(words) - 1):
                continue
        elif not number and not optional:
            raise UsageError(f"no model was named before {word!r}", hint="ollama-ferry send MODEL... TARGET...")
        return list(words[:number]), [_target(target, words[:number]) for target in words[number:]]
    raise UsageError(f"no target was named: {words[-1]!r} is a model", hint="A host of that name: user@HOST or HOST:")


def _target(word: str, models: Sequence[str]) -> str:
    """Return a target as it is written where nothing else can be meant."""
    means = api.meaning_of_word(word, bare=api.Means.HOST)
    if means in (api.Means.URL, api.Means.STREAM):
        raise UsageError(f"{word!r} is no target", hint="A target is user@host, host:/path/to/models, or a folder.")
    if means is api.Means.ARCHIVE and (api.kind_of(word) or os.path.isfile(word)):
        line = joined(["ollama-ferry", "export", *models, word])
        raise UsageError(f"send writes into a folder, and {word!r} is a file", hint=f"An archive is written by: {line}")
    return os.path.join(".", word) if means is api.Means.FOLDER and not api.is_path(word) else word


def _print_outcome(done: list[Sent], output: Output, *, dry_run: bool) -> None:
    """Print what became of each target, and end with the first failure's exit code."""
    left_out = done[0].not_carried if done else ()
    failed = [sent.error for sent in done if sent.error is not None]
    if output.as_json:
        output.document(
            {"dry_run": dry_run, "targets": [_fields(sent) for sent in done], "left_out": left_out_fields(left_out)}
        )
    elif len(done) > 1 or not failed:
        print_table(
            ("TARGET", "STORE", "RESULT", "MOVED" if not dry_run else "TO MOVE", "SPEED"),
            [_row(sent, dry_run=dry_run) for sent in done],
            right=(3, 4),
            below=(1, 2),
            spare=(4, 1),
            colours=["red" if sent.error else "" for sent in done],
        )
        if stdout_is_terminal() and not dry_run and not output.quiet:
            _print_next(done)
    tell_left_out(left_out, output, "send")
    if len(failed) == 1 and len(done) == 1:
        raise failed[0]
    if failed:
        lines = [f"{sent.target}: {sent.error.message}" for sent in done if sent.error is not None]
        error = FerryError(
            f"{len(failed)} of {len(done)} targets failed", hint="\n".join([*lines, hint_of(failed[0], "send")])
        )
        error.exit_code = failed[0].exit_code  # type: ignore[misc]
        raise error
    require_undamaged(left_out, "sent")


def _print_next(done: list[Sent]) -> None:
    """Say what to do with the models at the first target that got some."""
    sent = next((one for one in done if one.error is None and one.sent), None)
    if sent is None:
        return
    model, target = quoted(sent.sent[0]), quoted(sent.target)
    if api.meaning_of_word(sent.target) is api.Means.HOST:
        say(f"there:  ollama show {model}")
        return
    say("where the folder is then, with ollama-ferry and without it:")
    say(f"  ollama-ferry fetch {target} {' '.join(quoted(name) for name in sent.sent[:8])}")
    say(f"  sudo cp -rn {target}/. {api.SERVICE_MODELS}/")


def _row(sent: Sent, *, dry_run: bool) -> tuple[str, ...]:
    if sent.error is not None:
        result = f"failed: {sent.error.message}"
    else:
        parts = [f"{'would send' if dry_run else 'sent'} {', '.join(map(str, sent.sent))}"] if sent.sent else []
        parts[:1] = [part + resumed(sent.resumed) for part in parts[:1]]
        parts += [f"{', '.join(map(str, sent.were_there))} there already"] if sent.were_there else []
        result = "; ".join(parts)
    speed = human_rate(sent.size, sent.seconds) if sent.size and not dry_run else "-"
    return (sent.target, sent.root or "-", result, human_size(sent.size), speed)


def _fields(sent: Sent) -> dict[str, object]:
    return {
        "target": sent.target,
        "store": sent.root or None,
        "sent": [str(name) for name in sent.sent],
        "were_there": [str(name) for name in sent.were_there],
        "blobs": sent.blobs,
        "size": sent.size,
        "resumed": sent.resumed,
        "seconds": round(sent.seconds, 3),
        "error": sent.error.message if sent.error else None,
        "hint": hint_of(sent.error, "send") if sent.error else None,
        "exit_code": sent.error.exit_code if sent.error else 0,
    }
