"""``ollama-ferry import --via-server``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from ollama_ferry.cli.options import Output
from ollama_ferry.cli.progress import progress
from ollama_ferry.cli.terminal import say
from ollama_ferry.wording import human_size

if TYPE_CHECKING:
    from ollama_ferry.jobs.import_choices import ImportOptions
    from ollama_ferry.jobs.via_server import Given


def import_through_server(archive: Path, options: ImportOptions, listen: str | None, output: Output) -> None:
    """Let the server at OLLAMA_HOST pull an archive's models from us, and say what it has now."""
    from ollama_ferry.jobs.via_server import import_via_server
    from ollama_ferry.ollama.api import ServerApi
    from ollama_ferry.ollama.server import ServerAddress
    from ollama_ferry.serving.addresses import Address

    api = ServerApi(ServerAddress.parse(os.environ.get("OLLAMA_HOST", "")))
    address = Address.parse(listen) if listen is not None else Address("127.0.0.1", 0)
    with progress("giving", quiet=output.quiet or output.as_json) as run:
        given = import_via_server(archive, api, options, listen=address, run=run)
    if output.as_json:
        output.document(_fields(given))
        return
    for model in given.models:
        if output.quiet:
            say(f"{model.id[:12]}  {model.name}")
        elif model.was_there:
            say(f"{model.name} ({model.id[:12]}) is there already, the same")
        else:
            renamed = f" (as {model.source} in the archive)" if model.source != model.name else ""
            say(f"imported {model.name} ({model.id[:12]}){renamed}")
    if not output.quiet and not all(model.was_there for model in given.models):
        seconds = max(given.seconds, 0.001)
        say(f"  into   the server at {given.server}, which has checked every byte")
        speed = f", {human_size(given.size / seconds)}/s" if given.size else ""
        say(f"  took   {seconds:.1f} s{speed}")


def _fields(given: Given) -> dict[str, object]:
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
