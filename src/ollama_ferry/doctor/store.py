"""What is wrong inside one store. Blobs are not hashed, and nothing is written: not even a lock is taken."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from ollama_ferry.doctor.advice import Advice
from ollama_ferry.doctor.blobs import check_blobs, check_no_blobs
from ollama_ferry.doctor.contents import Blobs, visit_blobs
from ollama_ferry.doctor.findings import Findings, Severity
from ollama_ferry.doctor.leftovers import check_leftovers
from ollama_ferry.doctor.links import check_links
from ollama_ferry.doctor.manifests import check_manifests
from ollama_ferry.doctor.names import check_names
from ollama_ferry.doctor.owners import Owners
from ollama_ferry.doctor.subject import Subject
from ollama_ferry.files.permissions import User
from ollama_ferry.places.store.store import Store


@dataclass(frozen=True)
class Held:
    """What a store holds.

    Attributes:
        models: how many models, the damaged ones too.
        size: the bytes of its blobs.
        largest: the bytes of the largest model.
    """

    models: int = 0
    size: int = 0
    largest: int = 0


def check_store(
    root: Path,
    findings: Findings,
    *,
    now: float,
    served: bool | None = None,
    owner: User | None = None,
    restart: str = "",
    owners: bool = True,
) -> Held:
    """Find out what is wrong in a store.

    Args:
        root: the store, an absolute path.
        findings: where to tell what was found.
        now: the time, in seconds since the epoch.
        served: whether the running server uses this store; None where that is not known.
        owner: whom the files should belong to; None for the one who owns the blobs' folder.
        restart: the line that restarts the server's service, or nothing.
        owners: whether files have owners here that mean something.
    """
    store = Store(root)
    subject = Subject(store, findings, now, served, restart, Advice(store))
    check_links(subject)
    if not root.is_dir():
        return Held()
    owned = Owners(store, owner) if owners else None

    def visit(path: str, status: os.stat_result) -> None:
        subject.advice.keep(path, status)
        if owned is not None:
            owned.visit(path, status)

    blobs: Blobs | None = None
    try:
        blobs = visit_blobs(str(store.blobs_folder), visit)
    except PermissionError:
        subject.closed(str(store.blobs_folder))
    except OSError:
        # Told when it is known whether there are models.
        pass
    models = check_manifests(subject, blobs, visit)
    check_names(subject, models.names)
    if blobs is not None:
        check_blobs(subject, blobs, models.named)
    else:
        check_no_blobs(subject, models.count)
    check_leftovers(subject)
    if owned is not None:
        owned.add_findings(findings, subject.advice)
    size = sum(size for size, _ in blobs.sizes.values()) if blobs else 0
    if blobs and blobs.sizes and not os.path.lexists(store.manifests_folder):
        subject.add(
            Severity.WARNING,
            "no-manifests",
            f"There are blobs and no {store.manifests_folder}: no model is listed. A server that starts with this "
            "store deletes all of its blobs; bring the manifests back first, from wherever the blobs came.",
            [str(store.manifests_folder)],
        )
    return Held(models.count, size, models.largest)
