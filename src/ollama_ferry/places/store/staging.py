"""Where blobs wait for their manifest in a store that is written to: the folder's name and place."""

from __future__ import annotations

import os
from pathlib import Path

from ollama_ferry.files.mounts import is_mount_point
from ollama_ferry.places.store.store import Store

STAGING = ".ollama-ferry"
"""The folder where blobs wait for their manifest; :func:`staging_folder` says where it is."""
TRASH = ".ollama-ferry-trash"
"""The folder where a prune puts what no model names; beside the one where blobs wait."""
MANIFEST_IN_WORK = ".ollama-ferry-manifest"
"""The file that becomes a manifest: beside the blobs that wait, or in ``manifests/``, too high up to count as one."""


def staging_folder(store: Store) -> Path:
    """Return where blobs wait: beside ``blobs/``, or in it where that is a link or a disk of its own.

    Beside it, because a server that starts walks through ``blobs/`` and everything below, and gives up its start when a
    file vanishes meanwhile (``server/fixblobs.go``); a folder in ``blobs/`` is left alone by its pruning, though.
    """
    blobs = store.blobs_folder
    if os.path.lexists(blobs) and (blobs.is_symlink() or is_mount_point(blobs)):
        return blobs / STAGING
    return store.root / STAGING
