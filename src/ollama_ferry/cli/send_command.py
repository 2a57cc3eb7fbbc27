"""``ollama-ferry send``."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import click

from ollama_ferry.cli.options import Output, complete_models, find_store, models_option, output_options
from ollama_ferry.cli.progress import progress
from ollama_ferry.cli.remote import SshWords, looks_like_place, open_ssh, place_of, ssh_options
from ollama_ferry.cli.tables import print_table
from ollama_ferry.engine.inspect import resolve
from ollama_ferry.errors import FerryError, InvalidName, ModelNotFound, UsageError
from ollama_ferry.jobs.deliveries import Sent
from ollama_ferry.jobs.select import select
from ollama_ferry.jobs.send import SendOptions, send
from ollama_ferry.jobs.send_targets import FolderTarget, SshTarget, Target
from ollama_ferry.model.names import ModelName, is_pattern
from ollama_ferry.places.store.store import Store
from ollama_ferry.wording import human_size


@click.command("send")
@click.argument("words", nargs=-1, metavar="MODEL... TARGET...", shell_complete=complete_models)
@click.option("-n", "--dry-run", is_flag=True, help="Say what would cross the line; send nothing.")
@click.option("-f", "--force", is_flag=True, help="Replace a model of the same name that is another one.")
@click.option("--checksum", is_flag=True, help="Let the target hash what it has already, and replace damaged blobs.")
@ssh_options
@models_option
@output_options
def command(
    words: tuple[str, ...],
    dry_run: bool,
    force: bool,
    checksum: bool,
    ssh_words: SshWords,
    models: Path | None,
    quiet: bool,
    verbose: bool,
    as_json: bool,
) -> None:
    """Send models of the store to other machines or folders: only what is missing there.

    TARGET is user@host, host:/path/to/models, or a folder of Ollama's layout such as ./stick/models. The other side
    needs ssh and a POSIX shell, nothing else; its store is found as here. What was interrupted goes on where it broke.

    \b
      ollama-ferry send deepseek-r1:8b user@server
      ollama-ferry send qwen3:8b 'gemma3:*' user@server:/data/ollama/models
      ollama-ferry send deepseek-r1:8b host1 host2 host3
      ollama-ferry send deepseek-r1:8b /media/stick/models
    """
    output = Output(quiet, verbose, as_json)
    if len(words) < 2:
        raise UsageError("send takes models and where they go", hint="ollama-ferry send deepseek-r1:8b user@server")
    located = find_store(models, output)
    store = Store(located.root)
    texts, places = split_words(words, store)
    names = select(located, texts)
    with ExitStack() as stack:
        targets: list[Target] = []
        for word in places:
            place = place_of(word)
            if place.host:
                targets.append(SshTarget(open_ssh(stack, place, ssh_words), wait=len(places) == 1))
            else:
                targets.append(FolderTarget(Path(place.path).expanduser()))
        with progress("sending", quiet=quiet or as_json) as run:
            done = send(store, names, targets, SendOptions(force, checksum), dry_run=dry_run, run=run)
    _tell(done, output, dry_run=dry_run)


def split_words(words: tuple[str, ...], store: Store) -> tuple[list[str], list[str]]:
    """Tell the models from the targets.

    A word is a target when it looks like one, or when it is behind the first and no model of the store. From the first
    target on, all are targets.

    Raises:
        UsageError: there is no target.
    """
    for number, word in enumerate(words):
        if looks_like_place(word) or (number and not _is_model(word, store)):
            if not number:
                raise UsageError(f"no model was named before {word!r}", hint="ollama-ferry send MODEL... TARGET...")
            return list(words[:number]), list(words[number:])
    raise UsageError(
        f"no target was named: {words[-1]!r} is a model of {store.root}", hint="A host of that name: user@HOST or HOST:"
    )


def _is_model(word: str, store: Store) -> bool:
    if is_pattern(word):
        return True
    try:
        resolve(store, ModelName.parse(word))
    except (InvalidName, ModelNotFound):
        return False
    return True


def _tell(done: list[Sent], output: Output, *, dry_run: bool) -> None:
    """Print what became of each target, and end with the first failure's exit code."""
    failed = [sent.error for sent in done if sent.error is not None]
    if output.as_json:
        output.document({"dry_run": dry_run, "targets": [_fields(sent) for sent in done]})
    elif len(done) > 1 or not failed:
        print_table(
            ("TARGET", "STORE", "RESULT", "MOVED" if not dry_run else "TO MOVE", "SPEED"),
            [_row(sent, dry_run=dry_run) for sent in done],
            right=(3, 4),
        )
    if len(failed) == 1 and len(done) == 1:
        raise failed[0]
    if failed:
        lines = [f"{sent.target}: {sent.error.message}" for sent in done if sent.error is not None]
        error = FerryError(f"{len(failed)} of {len(done)} targets failed", hint="\n".join([*lines, failed[0].hint]))
        error.exit_code = failed[0].exit_code  # type: ignore[misc]
        raise error


def _row(sent: Sent, *, dry_run: bool) -> tuple[str, ...]:
    if sent.error is not None:
        result = f"failed: {sent.error.message[:80]}"
    else:
        parts = [f"{'would send' if dry_run else 'sent'} {', '.join(map(str, sent.sent))}"] if sent.sent else []
        parts += [f"{', '.join(map(str, sent.were_there))} there already"] if sent.were_there else []
        result = "; ".join(parts)
    speed = f"{human_size(sent.size / max(sent.seconds, 0.001))}/s" if sent.size and not dry_run else "-"
    return (sent.target, sent.root or "-", result, human_size(sent.size), speed)


def _fields(sent: Sent) -> dict[str, object]:
    return {
        "target": sent.target,
        "store": sent.root or None,
        "sent": [str(name) for name in sent.sent],
        "were_there": [str(name) for name in sent.were_there],
        "blobs": sent.blobs,
        "size": sent.size,
        "seconds": round(sent.seconds, 3),
        "error": sent.error.message if sent.error else None,
        "hint": sent.error.hint if sent.error else None,
        "exit_code": sent.error.exit_code if sent.error else 0,
    }
