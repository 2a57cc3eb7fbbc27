"""``ollama-ferry serve``."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ollama_ferry import api
from ollama_ferry.cli.options import (
    WORD,
    all_option,
    complete_archived,
    complete_models,
    exclude_option,
    output_options,
    place_of,
    store_option,
)
from ollama_ferry.cli.output import Output, left_out_fields, manifest_fields, tell_left_out
from ollama_ferry.cli.progress import progress
from ollama_ferry.cli.terminal import say
from ollama_ferry.errors import UsageError
from ollama_ferry.wording import counted, human_size

if TYPE_CHECKING:
    from ollama_ferry.api import Served, Serving

# Each connection takes a descriptor for itself and one for the blob's file.
_DESCRIPTORS = 4096


@dataclass(frozen=True)
class _Asked:
    """The command's words and options."""

    words: tuple[str, ...]
    everything: bool
    exclude: tuple[str, ...]
    models: tuple[str, ...]
    listen: str
    token: str | None
    oci: bool
    store: Path | None


@click.command("serve")
@click.argument("words", nargs=-1, type=WORD, metavar="[ARCHIVE] [MODEL...]", shell_complete=complete_models)
@all_option("Serve every model of the store.")
@exclude_option
@click.option(
    "--model",
    "models",
    multiple=True,
    metavar="MODEL",
    shell_complete=complete_archived,
    help="Of ARCHIVE, this model or 'pattern'; repeatable.",
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
@click.option(
    "--oci", is_flag=True, help="Serve manifests of OCI's type, for skopeo; `ollama-ferry pull` gives back the same ID."
)
@store_option
@output_options
def command(output: Output, **asked: Any) -> None:
    """Serve models to other machines, which get them by `ollama pull`, until Ctrl-C.

    What is served is a read-only registry of the models named and nothing else, straight out of the store or out of
    ARCHIVE (.tar, .zip, or a packed one that `export` made).

    \b
      ollama-ferry serve deepseek-r1:8b 'gemma3:*' --listen 192.168.1.5:11435
      ollama-ferry serve ./models.tar.gz --listen :11435
    """
    _serve(_Asked(**asked), output)


def _serve(asked: _Asked, output: Output) -> None:
    archive, models = _place(asked)
    if asked.token == "":
        raise UsageError("the token is empty", hint="A good one is made by: openssl rand -hex 16")
    _raise_descriptor_limit()
    with (
        progress("serving", output) as observer,
        api.serve(
            models,
            exclude=asked.exclude,
            archive=archive,
            store=asked.store,
            listen=asked.listen,
            token=asked.token or "",
            oci=asked.oci,
            log=None if output.quiet else _print_served,
            observer=observer,
        ) as served,
        # Who has read the address may end it before the last line about it is printed.
        contextlib.suppress(KeyboardInterrupt),
    ):
        _print_begun(served, output, oci=asked.oci)
        served.wait()
    output.note("ended: nothing is served any more")


def _place(asked: _Asked) -> tuple[Path | None, tuple[str, ...]]:
    """Return the archive, or None for the store, and the models of it; none are all of them.

    Raises:
        UsageError: words and options do not go together.
    """
    place, models = api.place_and_models(asked.words)
    archive, host = place_of(place)
    if host is not None:
        raise UsageError(f"serve gives what is on this machine, and {host!r} is another one")
    if archive is not None:
        if asked.everything or asked.store is not None:
            raise UsageError("--all and --models are for a store, and an archive was named")
        return archive, (*asked.models, *models)
    if asked.models:
        raise UsageError("--model is for an archive; of the store, name the models themselves")
    if not asked.words and not asked.everything:
        raise UsageError("no model was named", hint="`ollama-ferry list` shows what there is; --all serves every one.")
    if asked.words and asked.everything:
        raise UsageError("--all serves every model; name none beside it")
    return None, asked.words


def _print_begun(served: Serving, output: Output, *, oci: bool) -> None:
    tell_left_out(served.left_out, output, "serve")
    if served.only_here:
        output.note("note: only this machine reaches that; for others, --listen :11435 or an address of this machine's")
    elif not served.token_needed:
        output.note(
            f"note: everybody who reaches {served.host} can read these models; --token asks for a "
            "secret, which `ollama pull` can't send, and `ollama-ferry pull`, skopeo and curl can"
        )
    if served.token_needed:
        output.note("note: `ollama pull` can't send a token; `ollama-ferry pull`, skopeo and curl can")
    if oci:
        output.note("note: `ollama pull` gets these models under other IDs, `ollama-ferry pull` under their own")
    if output.as_json:
        output.document(_fields(served))
    elif output.quiet:
        say(f"http://{served.host}")
    else:
        say(f"serving {counted(len(served.models), 'model')} of {served.place} at http://{served.host}/")
        for model in served.models:
            say(f"{model.name}  {model.manifest.digest.short}  {human_size(model.manifest.size)}")
            if served.token_needed:
                say(f"  {served.host}/{model.path}")
            else:
                say(f"  {served.pull_line(model)}")
                say(f"  {served.rename_line(model)}")
        say("Ctrl-C ends it.")


def _fields(served: Serving) -> dict[str, object]:
    return {
        "address": f"http://{served.address}",
        "host": served.host,
        "token_needed": served.token_needed,
        "from": served.place,
        "models": [
            {
                "name": str(model.name),
                **manifest_fields(model.manifest),
                "repository": model.repository,
                "tag": model.tag,
                "pull": served.pull_line(model),
                "rename": served.rename_line(model),
            }
            for model in served.models
        ],
        "left_out": left_out_fields(served.left_out),
    }


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
