"""Find the store: the one of the candidates that is used, or the reason why there is none."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from ollama_ferry.errors import NotPermitted, Remedy, StoreNotFound
from ollama_ferry.model.layout import MANIFEST_FOLDERS
from ollama_ferry.ollama.candidates import (
    Candidate,
    Candidates,
    State,
    StoreOrigin,
    System,
    list_candidates,
    named_by_environment,
    state_of,
)
from ollama_ferry.wording import shown

_HERE = (State.STORE, State.NO_MANIFESTS)


@dataclass(frozen=True)
class Located:
    """A store that was found.

    Attributes:
        root: the models folder.
        why: how it was found, in words.
        others: further stores on this machine, which were not chosen.
        notes: what the user should be notified of the choice, in sentences.
    """

    root: Path
    why: str
    others: tuple[Path, ...] = ()
    notes: tuple[str, ...] = ()


def locate(system: System, models: Path | None = None) -> Located:
    """Find the store on this machine.

    Args:
        system: the machine.
        models: the folder that the user named; it must be there.

    Raises:
        StoreNotFound: there is none; the hint lists where was looked.
        NotPermitted: there is one, or may be, where this user can't look.
    """
    named = models is not None or named_by_environment(system) is not None
    listed = list_candidates(system, models, ask=not named)
    chosen = listed.chosen
    if named and chosen is not None:
        _require(chosen, system)
        return Located(chosen.path, chosen.why)
    if chosen is not None and chosen.state is State.CLOSED:
        raise _closed(chosen)
    if chosen is None or chosen.state is State.DANGLING:
        raise _nothing(listed)
    others = tuple(
        one.path
        for one in listed.found
        if one is not chosen and (one.state is State.STORE or (one.state is State.CLOSED and not _served(chosen)))
    )
    return Located(chosen.path, chosen.why, others, _notes(system, listed, chosen))


def locate_target(system: System, models: Path | None = None) -> Located:
    """Find the store to write into; one that is named need not exist yet.

    Args:
        system: the machine.
        models: the folder that the user named.

    Raises:
        StoreNotFound: there is none, and none was named.
        NotPermitted: there is one, or may be, where this user can't look.
    """
    if models is not None or named_by_environment(system) is not None:
        named = list_candidates(system, models, ask=False).found[0]
        path = named.path
        _no_tilde(named, system)
        if named.state is State.CLOSED:
            raise _closed(named)
        part = path.name in (*MANIFEST_FOLDERS, "blobs") and state_of(path.parent) in _HERE
        if named.state is State.ABSENT and part:
            raise StoreNotFound(
                f"{path} is a part of a store",
                hint="Name the folder that holds it.",
                remedies=[Remedy("store", str(path.parent))],
            )
        if os.path.lexists(path) and not os.path.isdir(path):
            raise StoreNotFound(
                f"{path} ({named.why}) is no folder", hint="Name the folder that holds manifests/ and blobs/."
            )
        return Located(path, named.why)
    try:
        return locate(system)
    except StoreNotFound as error:
        for one in list_candidates(system, ask=False).found:
            # Ollama is there and has no model yet: its home is, and its models folder is still to be made.
            # What is above a folder of another name, as /var/lib is, says nothing of Ollama.
            of_ollama = one.path.name == "models" or StoreOrigin.DEFAULT not in one.origins
            if os.path.isdir(one.path) or (of_ollama and os.path.isdir(one.path.parent)):
                return Located(one.path, f"{one.why}, which has no models yet")
        error.hint += "\nA folder that is named need not exist: it becomes a store."
        raise


def _served(chosen: Candidate) -> bool:
    return StoreOrigin.SERVER in chosen.origins


def _notes(system: System, listed: Candidates, chosen: Candidate) -> tuple[str, ...]:
    """Say what surprises: a server that is not believed, and for root that a server had the last word."""
    address = listed.answer.address
    doubted = listed.of(StoreOrigin.DOUBTED)
    if doubted is not None and doubted.state is not State.ABSENT and doubted is not chosen:
        return (
            f"using {shown(chosen.path)} ({chosen.why}), and not {shown(doubted.path)}, which the server at {address} "
            f"names: {listed.doubt}. Name the folder if it is the one.",
        )
    if system.uid == 0 and _served(chosen):
        others = [one for one in listed.found if one is not chosen and one.state in _HERE]
        if others and chosen.origins == {StoreOrigin.SERVER}:
            return (
                f"using {shown(chosen.path)}, because {chosen.why}, and not {shown(others[0].path)} "
                f"({others[0].why}). Name the folder to have it otherwise.",
            )
    return ()


def _nothing(listed: Candidates) -> StoreNotFound:
    """Return the error that says where was looked."""
    answer = listed.answer
    if not answer.answered:
        server = f"no server answered at {answer.address}"
    elif not answer.local:
        server = f"the server at {answer.address} is on another machine"
    elif answer.folder is None:
        server = f"the server at {answer.address} names no folder: it has no model, or only tensor and cloud models"
    else:
        server = f"the server at {answer.address} names {shown(answer.folder)}"
        server += f", and {listed.doubt}" if listed.doubt else ", which is no store here"
    lines = [f"OLLAMA_MODELS is not set, and {server}."]
    for one in listed.found:
        if one.state is State.DANGLING:
            lines.append(f"{shown(one.path)} ({one.why}) is a link that leads nowhere. Is a disk not mounted?")
        elif one.state is State.ABSENT:
            lines.append(f"{shown(one.path)} ({one.why}) is not there.")
    remedies: list[Remedy] = []
    doubted = listed.of(StoreOrigin.DOUBTED)
    if doubted is not None and doubted.state in _HERE:
        lines.append("If the server's folder is the one, name it.")
        remedies.append(Remedy("store", str(doubted.path)))
    return StoreNotFound(
        "no store of Ollama's models was found", hint="\n".join(lines), remedies=remedies or [Remedy("store")]
    )


def _require(named: Candidate, system: System) -> None:
    _no_tilde(named, system)
    path = named.path
    if named.state is State.CLOSED:
        raise _closed(named)
    if named.state in _HERE:
        return
    hint = "A store is the folder that holds manifests/ and blobs/"
    remedies: list[Remedy] = []
    if path.name in (*MANIFEST_FOLDERS, "blobs"):
        remedies.append(Remedy("store", str(path.parent)))
    elif state_of(path / "models") in _HERE:
        remedies.append(Remedy("store", str(path / "models")))
    else:
        hint += ", for example ~/.ollama/models"
    raise StoreNotFound(
        f"{path} ({named.why}) is not a store: it has no manifests folder", hint=f"{hint}.", remedies=remedies
    )


def _no_tilde(named: Candidate, system: System) -> None:
    """Refuse a ``~`` in the variable: a shell has not expanded it, and Ollama does not either."""
    if StoreOrigin.CALLER not in named.origins and str(named.path).startswith("~"):
        raise StoreNotFound(
            f"OLLAMA_MODELS is {shown(named.path)}, and a ~ in it is not expanded by Ollama",
            hint="A server takes it for a folder of that name below the one that it was started in. Write the home out:"
            f" {shown(str(named.path).replace('~', str(system.home), 1))}",
        )


def _closed(one: Candidate) -> NotPermitted:
    return NotPermitted(f"not permitted to look into {shown(one.path)} ({one.why})")
