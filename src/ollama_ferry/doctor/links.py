"""The links that a store consists of."""

from __future__ import annotations

import os

from ollama_ferry.doctor.findings import Severity
from ollama_ferry.doctor.subject import Subject
from ollama_ferry.ollama.candidates import leads_nowhere
from ollama_ferry.wording import shown


def check_links(subject: Subject) -> None:
    """Tell which of the store's folders are links, and whether they lead somewhere.

    There is no line for one that leads nowhere: what is missing is a disk, and a folder that is made in its place would
    hide it when it comes back.
    """
    store = subject.store
    for path in (store.root, store.manifests_folder, store.blobs_folder):
        if not os.path.islink(path):
            continue
        target = os.path.realpath(path)
        if leads_nowhere(path):
            subject.add(
                Severity.PROBLEM,
                "dangling-link",
                f"{shown(path)} is a link to {shown(target)}, which is not there: is a disk not mounted? Nothing of "
                "what should be behind it can be used. Only if that is gone for good, put a folder in its place.",
                [str(path), target],
            )
        else:
            subject.add(
                Severity.NOTE,
                "link",
                f"{shown(path)} is a link to {shown(target)}. That works; a tar that has an entry for this folder "
                "would replace the link by a folder (archives of ollama-ferry have none).",
                [str(path), target],
            )
