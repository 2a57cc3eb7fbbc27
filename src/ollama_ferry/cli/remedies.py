"""How the command line says the choices that an error leaves: by its own options.

Library modules name the parameter of the Python interface (:class:`ollama_ferry.errors.Remedy`); what stands for it on
the command line stands here and nowhere else.
"""

from __future__ import annotations

import os
import re

from ollama_ferry.errors import FerryError, ModelNotFound, Remedy
from ollama_ferry.shell_lines import quoted

# By parameter, and by parameter=value where a value says something of its own; {} is the value. The first text counts
# whose options the command has.
_WORDS: dict[str, tuple[str, ...]] = {
    "archive": ("Give it last, for example {}",),
    "ask": (
        "Or be asked for one medium after the other: --prompt",
        "Or be asked for one medium after the other: ollama-ferry import --prompt",
    ),
    "ca_file": ("Trust its authority: --ca-file FILE, or SSL_CERT_FILE",),
    "cert": ("Show one with --cert FILE, and --key FILE.",),
    "everything": ("--all takes every model.",),
    "have": ("On the target: ollama-ferry inventory > have.txt; then export with --have have.txt, or without --have.",),
    "insecure": ("If plain http is meant: --insecure",),
    "insecure=False": ("It may speak https: leave out --insecure.",),
    "lenient": (
        "If you trust whoever made it: --lenient takes it, and hashes it all the same.",
        "If you trust whoever made it: ollama-ferry import --lenient takes it, and hashes it all the same.",
    ),
    "lock": ("A signed lock vouches for them as well: --lock FILE.",),
    "output": ("Write it into a file: --output FILE.",),
    "listen": ("Choose another port with --listen ADDRESS:PORT.",),
    "models": ("Name the models to take, with --model.", "Name the models to take."),
    "oci": ("Or push again with --oci.",),
    "oci=False": ("Push it without --oci.",),
    "rename": ("Give it another name with --as.",),
    "rename=": ("Give it another name: --as {}",),
    "replace": ("Replace what is there with --force.",),
    "split": ("Choose a larger --split.",),
    "split=": ("Write volumes that fit: --split {}", "Write volumes that fit: ollama-ferry export --split {}"),
    "several media": ("Or on several sticks, one after the other: --split SIZE --prompt",),
    "ssh": ("Or name another one with --ssh.",),
    "store": ("Name the store with --models DIR.",),
    "store=": ("--models {}",),
    "threads": ("Or let it work with less: --threads 1",),
    "via_server": ("Or let the running server take it, which may write there: --via-server",),
    "sudo": ("Or use --sudo, where sudo asks for no password there.",),
}


def hint_of(error: FerryError, command: str = "") -> str:
    """Return what to do about an error, in lines: its own hint, and the options that would lead elsewhere.

    Args:
        error: the error.
        command: the command that it ended; what is no option of it is said in another way, or not at all.
    """
    lines = [error.hint] if error.hint else []
    options = _options(command)
    lines += filter(None, (_words(remedy, options) for remedy in error.remedies))
    if isinstance(error, ModelNotFound) and error.place:
        place = quoted(error.place)
        lines.append(
            f"`ollama-ferry list {'--models ' if os.path.isdir(error.place) else ''}{place}` shows what is there."
        )
    return "\n".join(lines)


def _words(remedy: Remedy, options: set[str]) -> str:
    keys = [f"{remedy.parameter}={remedy.value}", f"{remedy.parameter}="] if remedy.value else []
    for key in (*keys, remedy.parameter):
        for text in _WORDS.get(key, ()):
            # What names another command stands for itself.
            own = set() if "ollama-ferry " in text else set(re.findall(r"--[a-z][a-z-]*", text))
            if not options or own <= options:
                return text.replace("{}", quoted(remedy.value))
    return ""


def _options(command: str) -> set[str]:
    """Return the options of a command; none where there is no such command."""
    import click

    from ollama_ferry.cli.commands import ferry

    found = ferry.get_command(click.Context(ferry), command)
    return {option for parameter in found.params for option in parameter.opts} if found is not None else set()
