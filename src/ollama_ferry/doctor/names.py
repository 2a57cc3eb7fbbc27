"""Names of models that some systems or disks do not take."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from ollama_ferry.doctor.findings import Finding, Findings, Severity, quoted
from ollama_ferry.model.names import ModelName
from ollama_ferry.places.store.store import Store
from ollama_ferry.wording import shown

# Microsoft, "Naming Files, Paths, and Namespaces"; with whatever extension.
_RESERVED = re.compile(r"(CON|PRN|AUX|NUL|COM[0-9]|LPT[0-9])(\..*)?", re.IGNORECASE)


def check_names(
    groups: Mapping[tuple[str, ...], Sequence[ModelName]], store: Store, findings: Findings, *, copy: bool
) -> None:
    """Tell which names some systems or disks do not take.

    Args:
        groups: the names of the store by their key; those that differ in letter case only are together.
        store: where they are.
        findings: where to tell it.
        copy: whether a server may be using the store, so that ``ollama cp`` helps.
    """
    for names in groups.values():
        if len(names) > 1:
            findings.add(
                Finding(
                    Severity.NOTE,
                    "case-clash",
                    f"{', '.join(map(str, names[:5]))} differ in letter case only. Ollama looks names up whatever "
                    "their case, so which one it takes is luck, and on Windows, macOS or exFAT one replaces the other.",
                    shown(store.root),
                    tuple(map(str, names)),
                )
            )
        for name in names:
            why = refused_by_windows(name)
            if not why:
                continue
            mend: tuple[str, ...] = ()
            plain = ModelName.parse(f"{name.namespace}/{name.model}:{name.tag}")
            # A copy takes the place of a model of that name.
            if ":" in name.host and copy and plain.key not in groups:
                mend = (
                    "# A second name for it, which takes no space:",
                    f"ollama cp {quoted(str(name))} {quoted(str(plain))}",
                )
            findings.add(
                Finding(
                    Severity.NOTE,
                    "windows-name",
                    f"{name} can't be stored on Windows or on exFAT: {why}. There, give it another name: "
                    "`ollama-ferry import ARCHIVE --as NAME`.",
                    shown(store.root),
                    (str(name),),
                    mend,
                )
            )


def refused_by_windows(name: ModelName) -> str:
    """Return why Windows can't store a name's folders, or nothing where it can."""
    for part in name.parts:
        if ":" in part:
            return f"{part} holds a ':'"
        if part.endswith("."):
            return f"{part} ends with a '.'"
        if _RESERVED.fullmatch(part):
            return f"{part} is reserved there"
    return ""
