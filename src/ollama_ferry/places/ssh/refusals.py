"""What the scripts of the far side say of a failure, as errors: one word, and what it is about."""

from __future__ import annotations

import re
from typing import NamedTuple

from ollama_ferry.errors import (
    AlreadyExists,
    Damaged,
    FerryError,
    NoSpace,
    NotPermitted,
    Remedy,
    StoreNotFound,
    UsageError,
    Vanished,
)

_KEPT = "What has arrived is kept, and the same command resumes."


class _Refusal(NamedTuple):
    error: type[FerryError]
    message: str
    hint: str
    remedies: tuple[Remedy, ...] = ()


# {host} and {what} are filled in; {about} is {what} in brackets, where there is something.
_REFUSALS = {
    "closed": _Refusal(
        NotPermitted,
        "not permitted to use the store on {host}{about}",
        "Log in as its owner or as root.",
        (Remedy("sudo"),),
    ),
    "link": _Refusal(
        NotPermitted,
        "on {host} there is a link, or something that was moved, where a folder should be: {what}",
        "Links to the store, and in place of blobs/ and manifests/, are followed if they are of root, this user or "
        "the store's owner. Name the folder itself.",
    ),
    "owner": _Refusal(
        NotPermitted,
        "root on {host} can't act as the store's owner (user {what}), and does nothing there as root",
        "Log in as that user, or install one of setpriv, sudo, su there.",
    ),
    "circle": _Refusal(
        Damaged,
        "over 20,000 files or 60,000 folders are below manifests/ on {host}; the last one looked at is {what}",
        "Do links lead round in a circle there? find -L says so.",
    ),
    "mixed": _Refusal(
        NotPermitted,
        "root on {host} does not write where another user could change what it does (user, folder: {what})",
        "Give the store, blobs/ and manifests/ there to one user: chown -R USER FOLDER. Or log in as that user.",
    ),
    "nostore": _Refusal(
        StoreNotFound,
        "no store of Ollama's models was found on {host}",
        "Name the folder: {host}:/path/to/models   (a folder that is not there becomes a store)",
    ),
    "windows": _Refusal(
        UsageError,
        "{host} runs Windows, and has no POSIX shell; nothing was sent",
        "Let it pull: run `ollama-ferry serve MODEL` here, and on {host} the line of `ollama pull` that it prints.\n"
        "Or carry an archive: `ollama-ferry export MODEL models.tar` here, and there, in PowerShell,\n"
        '`tar -xf models.tar -C "$HOME\\.ollama\\models"`, or `ollama-ferry import models.tar`.',
    ),
    "nohash": _Refusal(
        UsageError,
        "{host} has none of sha256sum, shasum and openssl, and one is needed to check what arrives",
        "",
    ),
    "bad": _Refusal(
        Damaged,
        "{what} arrived on {host} with other bytes than were sent; it was removed there",
        "Run the same command again; should it happen twice, look at the disk and memory of that machine.",
    ),
    "changed": _Refusal(
        Damaged,
        "{what} was changed on {host} by somebody else while it arrived; nothing of it was published",
        "Run the same command again.",
    ),
    "missing": _Refusal(
        Vanished,
        "{what} was on {host} when this began and has gone",
        "A server may have pruned it: run it again.",
    ),
    "sync": _Refusal(
        FerryError,
        "{host} could not bring {what} safely to its disk; it is not kept there",
        "Look at that disk (dmesg, SMART); then run the same command again.",
    ),
    "lost": _Refusal(
        FerryError,
        "another send took the store on {host} over, because nothing was heard of this one for too long",
        _KEPT,
    ),
    **{
        word: _Refusal(
            NoSpace, f"{{host}} could not write all of it ({word} {{what}})", f"Its disk may be full. {_KEPT}"
        )
        for word in ("write", "short", "have")
    },
}


def host_refusal(host: str, reason: str) -> FerryError:
    """Turn what a script says of its failure into one of our errors."""
    word, _, rest = reason.partition(" ")
    if word == "held":
        return AlreadyExists(f"the store on {host} is in use by {holder(rest)}", hint="Run it again when that is done.")
    found = _REFUSALS.get(word)
    if found is None:
        return FerryError(f"{host} refused: {repr(reason[:200])[1:-1]}")
    what = repr(rest[:200])[1:-1]
    about = f" ({what})" if what else ""
    return found.error(
        found.message.format(host=host, what=what, about=about),
        hint=found.hint.format(host=host, what=what),
        remedies=found.remedies,
    )


def holder(text: str) -> str:
    """Return who has a lock, as the far side tells it (``DATE TIME UTC WHO``), fit for a message."""
    found = re.fullmatch(r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC) (.{1,300})", text)
    return f"{repr(found[2])[1:-1]}, since {found[1]}" if found else "another ollama-ferry"
