"""The options that several commands share, and the words that they read."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, BinaryIO, TypedDict, TypeVar

import click
from click.shell_completion import CompletionItem

from ollama_ferry import api
from ollama_ferry.cli.output import Output
from ollama_ferry.cli.slips import require_typed_here
from ollama_ferry.cli.terminal import is_terminal
from ollama_ferry.errors import FerryError, UsageError
from ollama_ferry.shell_lines import joined, quoted

F = TypeVar("F", bound=Callable[..., Any])


class _File(click.Path):
    """A path that was typed."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, str):
            require_typed_here(value)
        return super().convert(value, param, ctx)


class _Folder(_File):
    """A folder that was named; the shell makes an empty text of a variable that is not set."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "":
            self.fail("the name is empty: is a variable not set?", param, ctx)
        return super().convert(value, param, ctx)


class _Word(click.types.StringParamType):
    """A word for a model, a file, a folder or a host."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        word = super().convert(value, param, ctx)
        require_typed_here(word)
        return word


FILE = _File(path_type=Path, readable=False)
"""A file on the command line; that it can't be read is reported by whoever opens it, with what to do."""

WORD = _Word()
"""A word on the command line that means something by its form (:mod:`ollama_ferry.api.words`)."""


class RegistryOptions(TypedDict):
    """How registries are talked to, as the calls of the Python interface take it."""

    insecure: bool
    ca_file: Path | None
    cert: Path | None
    key: Path | None
    rate: int


def output_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``-q``, ``-v``, ``--json``, ``--progress`` and ``--log``, given as one ``output``."""

    @click.option("-q", "--quiet", is_flag=True, help="Say nothing but results and errors.")
    @click.option("-v", "--verbose", is_flag=True, help="Also say what was decided and why.")
    @click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout, and errors as JSON.")
    @click.option(
        "--progress",
        "progress_form",
        type=click.Choice(["auto", "plain", "json", "none"]),
        default="auto",
        show_default=True,
        help="How progress is shown on stderr: auto is a line on a terminal, and one every 10 s elsewhere.",
    )
    @click.option("--log", type=FILE, metavar="FILE", help="Also write what happens into FILE, at its end.")
    @wraps(command)
    def wrapped(
        *args: Any, quiet: bool, verbose: bool, as_json: bool, progress_form: str, log: Path | None, **more: Any
    ) -> Any:
        return command(*args, output=Output(quiet, verbose, as_json, progress_form, log), **more)

    return wrapped


def ssh_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--ssh``, ``--bwlimit``, ``-C`` and ``--sudo``, given as one ``ssh``."""

    @click.option(
        "--ssh", default="ssh", show_default=True, metavar="COMMAND", help="The ssh to use, with its options."
    )
    @_rate_option
    @click.option("-C", "compress", is_flag=True, help="Let ssh compress; weights hardly shrink.")
    @click.option("--sudo", is_flag=True, help="Use sudo over there, where it asks for no password.")
    @wraps(command)
    def wrapped(*args: Any, ssh: str, rate: int, compress: bool, sudo: bool, **more: Any) -> Any:
        return command(*args, ssh=api.Ssh(ssh, compress, sudo, rate), **more)

    return wrapped


def registry_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--insecure``, ``--ca-file``, ``--cert``, ``--key`` and ``--bwlimit``, given as one ``access``."""

    @click.option("--insecure", is_flag=True, help="Talk plain http instead of https.")
    @click.option("--ca-file", type=FILE, metavar="FILE", help="Trust these authorities too.")
    @click.option("--cert", type=FILE, metavar="FILE", help="The client's certificate.")
    @click.option("--key", type=FILE, metavar="FILE", help="Its key, where that is another file.")
    @_rate_option
    @wraps(command)
    def wrapped(
        *args: Any, insecure: bool, ca_file: Path | None, cert: Path | None, key: Path | None, rate: int, **more: Any
    ) -> Any:
        if key is not None and cert is None:
            raise UsageError("--key goes with --cert")
        access = RegistryOptions(insecure=insecure, ca_file=ca_file, cert=cert, key=key, rate=rate)
        return command(*args, access=access, **more)

    return wrapped


_rate_option = click.option(
    "--bwlimit",
    "rate",
    default="0",
    metavar="RATE",
    callback=lambda ctx, param, value: api.rate_of(value),
    help="Bytes a second at the most: 20M, 500k.",
)


def complete_stores(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete a store's folder: those of this machine, and whatever folder it is."""
    try:
        located = api.find_store()
        stores = [str(path) for path in (located.root, *located.others)]
    except (FerryError, OSError):
        stores = []
    known = [CompletionItem(path) for path in stores if path.startswith(incomplete)]
    return known or [CompletionItem(incomplete, type="dir")]


store_option = click.option(
    "--models",
    "store",
    # Whether it may be read is found out later, and reported with the line that runs the command as root.
    type=_Folder(path_type=Path, readable=False),
    shell_complete=complete_stores,
    metavar="DIR",
    help="The store: the folder that holds manifests/ and blobs/.  [default: OLLAMA_MODELS, else what a running "
    "server says, else Ollama's default folders]",
)

lock_option = click.option(
    "--lock",
    type=FILE,
    metavar="FILE",
    help="Exactly the models that `ollama-ferry lock` wrote into this file, or none.",
)

signers_option = click.option(
    "--signers",
    type=FILE,
    metavar="FILE",
    help="Only what somebody of this file of allowed signers (ssh-keygen) has signed.  [default: OLLAMA_FERRY_SIGNERS]",
)

exclude_option = click.option(
    "--exclude",
    multiple=True,
    metavar="PATTERN",
    help="Not these models: a name or a quoted pattern; may be repeated.",
)


def all_option(help_text: str) -> Callable[[F], F]:
    """Add ``--all``."""
    return click.option("--all", "everything", is_flag=True, help=help_text)


rename_option = click.option(
    "--as",
    "rename",
    multiple=True,
    metavar="NAME | OLD=NEW",
    help="Give the one model another name, or several: qwen3:8b=mine:8b, 'library/*=mine/*'. May be repeated.",
)

checksum_option = click.option(
    "--checksum",
    "verify_existing",
    is_flag=True,
    help="Hash the blobs that are here already, and replace damaged ones.",
)


def dry_run_option(help_text: str) -> Callable[[F], F]:
    """Add ``-n``."""
    return click.option("-n", "--dry-run", is_flag=True, help=help_text)


def force_option(help_text: str = "Replace a model of the same name that is another one.") -> Callable[[F], F]:
    """Add ``-f``."""
    return click.option("-f", "--force", "replace", is_flag=True, help=help_text)


def compress_option(help_text: str) -> Callable[[F], F]:
    """Add ``--compress``."""
    return click.option(
        "--compress",
        type=click.Choice(api.COMPRESSIONS),
        default=api.COMPRESSIONS[0],
        show_default=True,
        help=help_text,
    )


sha256_option = click.option(
    "--sha256", is_flag=True, help="Write ARCHIVE.sha256 beside it, for `sha256sum -c`; `verify` needs none."
)


def threads_option(what: str) -> Callable[[F], F]:
    """Add ``--threads``; 0 stands for the default."""
    return click.option(
        "--threads",
        type=click.IntRange(1, 64),
        callback=lambda ctx, param, value: value or 0,
        help=f"How many threads {what}.  [default: one a core, up to 8]",
    )


def models_and_archive(words: tuple[str, ...], *, of_registries: bool = False) -> tuple[list[str], str | None]:
    """Tell the models from the archive to write, which is the last word if it looks like one, or the only that does.

    Args:
        words: the words.
        of_registries: the models are references, which have hosts, ports and digests in them.

    Returns:
        The models, and the archive, a folder that is to hold it, or None.

    Raises:
        UsageError: a word is neither.
    """
    archives = [word for word in words if word == "-" or api.kind_of(word)]
    if len(archives) > 1:
        raise UsageError(f"{archives[0]!r} is an archive, and so is {archives[1]!r}", hint="One is written at a time.")
    if archives:
        archive = archives[0]
        _refuse_far(archive, words)
        return [word for word in words if word != archive], archive
    last = words[-1] if words else ""
    if last.lower().endswith((".zip", ".gz", ".zst", ".xz", ".bz2", ".7z")):
        raise UsageError(f"{last!r} is no archive that export writes", hint="Use .tar.gz, .tgz, .tar or .tar.zst.")
    far = () if of_registries else (api.Means.HOST, api.Means.URL)
    if last and api.meaning_of_word(last) in (api.Means.FOLDER, api.Means.ARCHIVE, *far):
        _refuse_far(last, words)
        if os.path.isdir(last):
            # As cp does it: a file in there, by the model's name.
            return list(words[:-1]), last
        name = quoted(os.path.join(last, "models.tar.gz"))
        raise UsageError(
            f"{last!r} is neither a model's name nor an archive's",
            hint=f"Archives end in .tar.gz, .tgz, .tar or .tar.zst: {name}\n"
            f"Into a folder, blob by blob: {_send(words)}",
        )
    return list(words), None


def _refuse_far(word: str, words: tuple[str, ...]) -> None:
    """Refuse an archive on another machine, and say what reaches it: a file of that odd name here is not meant.

    Raises:
        UsageError: it is one.
    """
    stream = joined(["ollama-ferry", "export", *(other for other in words if other != word), "-"])
    scheme, found, _ = word.partition("://")
    if found and scheme != "ssh":
        upload = {"s3": "aws s3 cp -", "gs": "gcloud storage cp -"}.get(scheme, "curl -T -")
        raise UsageError(
            f"export writes a file of this machine, and {word!r} is none",
            hint=f"As a stream: {stream} | {upload} {quoted(word)}",
        )
    if api.meaning_of_word(word) is api.Means.HOST:
        host = api.Host.parse(word)
        there = quoted(f"cat > {quoted(host.path or './models.tar.gz', 'linux')}")
        port = f"-p {host.port} " if host.port else ""
        raise UsageError(
            f"export writes a file of this machine, and {word!r} is on another one",
            hint=f"Straight into its store, only what is missing: {_send(words, host)}\n"
            f"As a file over there: {stream} | ssh {port}{quoted(host.name)} {there}",
        )


def _send(words: tuple[str, ...], host: api.Host | None = None) -> str:
    target = words[-1]
    if host is not None:
        target = f"ssh://{host.name}:{host.port}" if host.port else f"{host.name}{'' if '@' in host.name else ':'}"
    return joined(["ollama-ferry", "send", *words[:-1], target])


def open_stdin() -> BinaryIO:
    """Return standard input for an archive.

    Raises:
        UsageError: it is closed, or a terminal.
    """
    if sys.stdin is None or sys.stdin.closed:
        raise UsageError("standard input is closed", hint="Pipe or redirect an archive in.")
    if is_terminal(sys.stdin):
        raise UsageError("an archive does not come from a terminal", hint="Pipe or redirect one in.")
    fd = os.dup(sys.stdin.fileno())
    # Whoever started this may have left it so that a read does not wait; on Windows reads always wait.
    if os.name != "nt":
        os.set_blocking(fd, True)
    return os.fdopen(fd, "rb", buffering=0)


def place_of(place: tuple[str, api.Means] | None) -> tuple[Path | None, str | None]:
    """Return a place that is to be looked into: an archive or a folder, or a host; neither for the store.

    Raises:
        UsageError: it is standard input.
    """
    if place is None:
        return None, None
    word, means = place
    if means is api.Means.STREAM:
        raise UsageError("a stream passes by once, and this needs a file: only `import -` and `verify -` read one")
    return (None, word) if means is api.Means.HOST else (Path(os.path.expanduser(word)), None)


def complete_models(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[Any]:
    """Complete a word that may be a model, a place, or a file."""
    from ollama_ferry.cli.completions import models

    return models(ctx, param, incomplete)


def complete_archived(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[Any]:
    """Complete a model of the archive that the line names."""
    from ollama_ferry.cli.completions import models_of_archive

    return models_of_archive(ctx, param, incomplete)


with_ferry_option = click.option(
    "--with-ferry", is_flag=True, help="Write this program beside the models, with sums and a README.txt, as kit does."
)
