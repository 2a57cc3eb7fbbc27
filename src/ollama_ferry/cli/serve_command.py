"""``ollama-ferry serve``."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ollama_ferry.archives.kinds import looks_like_archive
from ollama_ferry.cli.options import Output, complete_models, find_store, models_option, output_options
from ollama_ferry.cli.terminal import say
from ollama_ferry.errors import Cancelled, UsageError
from ollama_ferry.wording import counted, human_size

if TYPE_CHECKING:
    from ollama_ferry.jobs.serve import Shelved
    from ollama_ferry.serving.addresses import Address
    from ollama_ferry.serving.server import Served, Server

# Each connection takes a descriptor for itself and one for the blob's file.
_DESCRIPTORS = 4096


@click.command("serve")
@click.argument("words", nargs=-1, metavar="[ARCHIVE | MODEL...]", shell_complete=complete_models)
@click.option("--all", "everything", is_flag=True, help="Serve every model of the store.")
@click.option(
    "--model", "only", multiple=True, metavar="MODEL", help="Of ARCHIVE, this model or 'pattern'; repeatable."
)
@click.option(
    "--listen",
    metavar="ADDRESS:PORT",
    default="127.0.0.1:11435",
    show_default=True,
    help="Where to listen; :11435 is every address of this machine.",
)
@click.option(
    "--token",
    envvar="OLLAMA_FERRY_TOKEN",
    metavar="TEXT",
    help="Answer only who sends this token, which `ollama pull` can't. Better set OLLAMA_FERRY_TOKEN: other users of "
    "this machine see a command's words.",
)
@models_option
@output_options
def command(
    words: tuple[str, ...],
    everything: bool,
    only: tuple[str, ...],
    listen: str,
    token: str | None,
    models: Path | None,
    quiet: bool,
    verbose: bool,
    as_json: bool,
) -> None:
    """Serve models to other machines, which get them by `ollama pull`, until Ctrl-C.

    What is served is a read-only registry of the models named and nothing else, straight out of the store or out of
    ARCHIVE (.tar, .zip, or a packed one that `export` made).

    \b
      ollama-ferry serve deepseek-r1:8b 'gemma3:*' --listen 192.168.1.5:11435
      ollama-ferry serve ./models.tar.gz --listen :11435
    """
    from ollama_ferry.serving.addresses import Address
    from ollama_ferry.serving.server import Server, log_nothing
    from ollama_ferry.serving.tokens import check_token

    output = Output(quiet, verbose, as_json)
    address = Address.parse(listen)
    secret = "" if token is None else check_token(token)
    _raise_descriptor_limit()
    with ExitStack() as stack:
        shelved = stack.enter_context(_shelved(words, everything, only, models, output))
        server = stack.enter_context(
            Server(shelved.shelf, address, token=secret, log=log_nothing if quiet else _print_served)
        )
        _tell_begun(server, address, shelved, output, token_needed=bool(secret))
        try:
            server.wait()
        except KeyboardInterrupt:
            raise Cancelled("interrupted: nothing is served any more") from None


@contextlib.contextmanager
def _shelved(
    words: tuple[str, ...], everything: bool, only: tuple[str, ...], models: Path | None, output: Output
) -> Iterator[Shelved]:
    from ollama_ferry.jobs.serve import shelve_archive, shelve_store

    archives = [word for word in words if looks_like_archive(word)]
    if archives:
        if len(words) > 1:
            raise UsageError(
                "serve takes one archive, and no model beside it", hint="--model MODEL serves a part of it."
            )
        if everything or models is not None:
            raise UsageError("--all and --models are for a store, and an archive was named")
        with shelve_archive(Path(archives[0]).expanduser(), only) as shelved:
            yield shelved
        return
    if only:
        raise UsageError("--model is for an archive; of the store, name the models themselves")
    if not words and not everything:
        raise UsageError("no model was named", hint="`ollama-ferry list` shows what there is; --all serves every one.")
    if words and everything:
        raise UsageError("--all serves every model; name none beside it")
    yield shelve_store(find_store(models, output), words, everything=everything)


def _tell_begun(server: Server, asked: Address, shelved: Shelved, output: Output, *, token_needed: bool) -> None:
    from ollama_ferry.serving.addresses import is_loopback, outward
    from ollama_ferry.serving.page import pull_line, rename_line

    host = outward(asked, server.host, server.port)
    for one in shelved.left_out:
        output.note(f"left out: {one.why}")
    if not token_needed and not is_loopback(server.host):
        output.note(f"note: everybody who reaches {server.address} can read these models; --token asks for a secret")
    if token_needed:
        output.note("note: `ollama pull` can't send a token; `ollama-ferry pull`, skopeo and curl can")
    if output.as_json:
        output.document(
            {
                "address": f"http://{server.address}",
                "host": host,
                "token_needed": token_needed,
                "from": shelved.place,
                "models": [
                    {
                        "name": str(model.name),
                        "id": model.manifest.digest.short,
                        "manifest_digest": str(model.manifest.digest),
                        "size": model.manifest.size,
                        "repository": model.repository,
                        "tag": model.tag,
                        "pull": pull_line(model, host),
                        "rename": rename_line(model, host),
                    }
                    for model in shelved.shelf.models
                ],
                "left_out": [{"name": str(one.name), "error": str(one.why)} for one in shelved.left_out],
            }
        )
    elif output.quiet:
        say(f"http://{server.address}")
    else:
        count = len(shelved.shelf.models)
        say(f"serving {counted(count, 'model')} of {shelved.place} at http://{server.address}/")
        for model in shelved.shelf.models:
            say(f"{model.name}  {model.manifest.digest.short}  {human_size(model.manifest.size)}")
            if token_needed:
                say(f"  {host}/{model.path}")
            else:
                say(f"  {pull_line(model, host)}")
                say(f"  {rename_line(model, host)}")
        say("Ctrl-C ends it.")


def _print_served(served: Served) -> None:
    trouble = f" ({served.trouble})" if served.trouble else ""
    line = (
        f"{time.strftime('%H:%M:%S')} {served.client} {served.status} {served.what}: "
        f"{human_size(served.sent)} in {served.seconds:.1f} s{trouble}"
    )
    # Whoever read the log may have gone; those who pull are still there.
    with contextlib.suppress(OSError):
        say(line, err=True)


def _raise_descriptor_limit() -> None:
    """Take as many descriptors as many clients need, where the system lets this process have them."""
    try:
        import resource
    except ImportError:
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, _DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
