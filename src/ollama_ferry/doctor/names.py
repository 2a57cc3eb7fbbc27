"""Names of models that some systems or disks do not take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ollama_ferry.doctor.findings import Severity
from ollama_ferry.doctor.subject import Subject
from ollama_ferry.model.layout import refused_by_windows
from ollama_ferry.model.names import ModelName
from ollama_ferry.shell_lines import quoted


def check_names(subject: Subject, groups: Mapping[tuple[str, ...], Sequence[ModelName]]) -> None:
    """Tell which names some systems or disks do not take.

    Args:
        subject: the store.
        groups: the names of the store by their key; those that differ in letter case only are together.
    """
    for names in groups.values():
        if len(names) > 1:
            subject.add(
                Severity.NOTE,
                "case-clash",
                f"{', '.join(map(str, names[:5]))} differ in letter case only. Ollama looks names up whatever "
                "their case, so which one it takes is luck, and on Windows, macOS or exFAT one replaces the other.",
                tuple(map(str, names)),
            )
        for name in names:
            why = refused_by_windows(name)
            if not why:
                continue
            mend: tuple[str, ...] = ()
            plain = ModelName.parse(f"{name.namespace}/{name.model}:{name.tag}")
            # A copy takes the place of a model of that name.
            if ":" in name.host and subject.served is not False and _is_free(subject, plain, groups):
                mend = (
                    "# A second name for it, which takes no space:",
                    f"ollama cp {quoted(str(name))} {quoted(str(plain))}",
                )
            subject.add(
                Severity.NOTE,
                "windows-name",
                f"{name} can't be stored on Windows or on exFAT: {why}. There, give it another name: "
                "`ollama-ferry import ARCHIVE --as NAME`.",
                (str(name),),
                mend,
            )


def _is_free(subject: Subject, name: ModelName, groups: Mapping[tuple[str, ...], Sequence[ModelName]]) -> bool:
    """Return whether a model of a name would be a new one, in the store itself and not behind a link of it."""
    return name.key not in groups and subject.advice.is_inside(subject.store.manifest_path(name))
