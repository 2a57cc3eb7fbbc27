"""Which store is used on this machine: by the server, and by us."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ollama_ferry.doctor.findings import Finding, Findings, Severity
from ollama_ferry.doctor.store import Held
from ollama_ferry.ollama.candidates import Candidate, Candidates, State, StoreOrigin, same_folder
from ollama_ferry.shell_lines import quoted
from ollama_ferry.wording import counted, shown


@dataclass(frozen=True)
class StoreSeen:
    """A store on this machine.

    Attributes:
        path: the folder.
        why: how it was found, in words.
        chosen: whether it is the one that the other commands use.
        served: whether the running server uses it; None where no server told.
        held: what it holds; None where it was not looked into.
    """

    path: Path
    why: str
    chosen: bool
    served: bool | None
    held: Held | None


def check_choice(listed: Candidates, seen: Sequence[StoreSeen], findings: Findings) -> None:
    """Tell what is surprising about which store is used.

    Args:
        listed: where stores may be.
        seen: the stores that are there.
        findings: where to tell it.
    """
    _check_server(listed, findings)
    _check_named(listed, seen, findings)
    _check_several(listed, seen, findings)


def served_folder(listed: Candidates) -> Candidate | None:
    """Return the folder that the server uses, where it is on this machine and the server is believed."""
    served = listed.of(StoreOrigin.SERVER)
    return served if served is not None and served.state is not State.ABSENT else None


def _check_server(listed: Candidates, findings: Findings) -> None:
    answer = listed.answer
    doubted = listed.of(StoreOrigin.DOUBTED)
    if doubted is not None:
        findings.add(
            Finding(
                Severity.WARNING,
                "doubted-server",
                f"The server at {answer.address} names {shown(doubted.path)} as its models' folder, and "
                f"{listed.doubt}. It is not believed: whoever listens there could have any folder used.",
                concerns=(shown(doubted.path),),
            )
        )
    elif answer.answered and not answer.local:
        text = f"The server at {answer.address} is on another machine"
        findings.add(_elsewhere(f"{text}. What is done to the stores here does not reach it."))
    elif answer.folder and served_folder(listed) is None:
        findings.add(
            _elsewhere(
                f"The server at {answer.address} keeps its models in {shown(answer.folder)}, which is not a folder "
                "here: it runs in a container or on another machine. What is done to the stores here does not reach it."
            )
        )


def _elsewhere(text: str) -> Finding:
    return Finding(Severity.NOTE, "server-elsewhere", text)


def _check_named(listed: Candidates, seen: Sequence[StoreSeen], findings: Findings) -> None:
    variable, named, served = listed.of(StoreOrigin.VARIABLE), listed.found[0], served_folder(listed)
    if variable is not None and variable is named and variable.state is State.ABSENT:
        tilde = str(variable.path).startswith("~")
        findings.add(
            Finding(
                Severity.PROBLEM,
                "no-such-store",
                f"OLLAMA_MODELS names {shown(variable.path)}, and no store is there. ollama-ferry stops at that, and a "
                "server that is started with it makes a new, empty store."
                + (" Ollama does not expand the ~: write the home out." if tilde else ""),
                concerns=(shown(variable.path),),
                mend=("unset OLLAMA_MODELS",),
            )
        )
    elif named.named and served is not None and served is not named:
        mend = [] if StoreOrigin.CALLER in named.origins else [f"export OLLAMA_MODELS={quoted(served.path)}"]
        if any(store.chosen and store.held is not None and store.held.models for store in seen):
            mend += _copying(named.path, served.path)
        findings.add(
            Finding(
                Severity.WARNING,
                "not-the-servers",
                f"{shown(named.path)} is looked at ({named.why}), and the server at {listed.answer.address} uses "
                f"{shown(served.path)}. What ollama-ferry imports into the one, the server does not see.",
                concerns=(shown(named.path), shown(served.path)),
                mend=tuple(mend),
            )
        )


def _check_several(listed: Candidates, seen: Sequence[StoreSeen], findings: Findings) -> None:
    full = [(store, store.held) for store in seen if store.held is not None and store.held.models]
    served = served_folder(listed)
    if served is None:
        if len(full) > 1:
            each = ", ".join(f"{shown(store.path)} ({held.models})" for store, held in full)
            findings.add(
                Finding(
                    Severity.WARNING,
                    "several-stores",
                    f"Models lie in {len(full)} stores: {each}. A server uses one of them, and does not see the models "
                    "in the others. (None answered with its folder; start it and run doctor again to learn which.)",
                    concerns=tuple(shown(store.path) for store, _ in full),
                )
            )
        return
    for store, held in full:
        # One that was named is in the findings already.
        if store.served is False and not (store.chosen and listed.found[0].named):
            findings.add(
                Finding(
                    Severity.WARNING,
                    "several-stores",
                    f"{counted(held.models, 'model')} in {shown(store.path)} {'is' if held.models == 1 else 'are'} "
                    f"invisible to the server at {listed.answer.address}, which uses {shown(served.path)}.",
                    shown(store.path),
                    (shown(store.path), shown(served.path)),
                    tuple(_copying(store.path, served.path)),
                )
            )


def _copying(source: Path, target: Path) -> list[str]:
    """Return the line that copies all models of a store into another."""
    return [
        f"# To copy its models into {quoted(target)}, which takes their space once more:",
        f"ollama-ferry export --all --format tar --models {quoted(source)} - | "
        f"ollama-ferry import --models {quoted(target)} -",
    ]


def is_served(listed: Candidates, one: Candidate) -> bool | None:
    """Return whether the running server uses a candidate; None where no server told that is believed."""
    served = served_folder(listed)
    return None if served is None else one is served or same_folder(one.path, served.path)
