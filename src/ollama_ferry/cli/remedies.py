"""How the command line says the choices that an error leaves: by its own options.

Library modules name the parameter of the Python interface (:class:`ollama_ferry.errors.Remedy`); what stands for it on
the command line stands here and nowhere else.
"""

from __future__ import annotations

import os
import shlex

from ollama_ferry.errors import FerryError, ModelNotFound

_WORDS = {
    "replace": "Replace what is there with --force.",
    "rename": "Give it another name with --as.",
    "models": "Name the models to take; of an archive with --model.",
    "store": "Name the store with --models DIR.",
    "have": "On the target: ollama-ferry inventory > have.txt; then export with --have have.txt, or without --have.",
}
_WITH_VALUE = {"rename": "--as {}", "store": "--models {}"}


def hint_of(error: FerryError, command: str = "") -> str:
    """Return what to do about an error, in lines: its own hint, and the options that would lead elsewhere."""
    lines = [error.hint] if error.hint else []
    for remedy in error.remedies:
        text = _WITH_VALUE.get(remedy.parameter, "") if remedy.value else _WORDS.get(remedy.parameter, "")
        if text:
            lines.append(text.replace("{}", shlex.quote(remedy.value)))
    if isinstance(error, ModelNotFound) and error.place:
        place = shlex.quote(error.place)
        lines.append(
            f"`ollama-ferry list {'--models ' if os.path.isdir(error.place) else ''}{place}` shows what is there."
        )
    return "\n".join(lines)
