"""What pulls have put into a store: a file beside ``blobs/`` that says under which name which model came.

A pull may replace what an earlier one put there, and nothing else. A line is the digest of a manifest and the path of
its name, and is written before the manifest gets that name. Whoever may write the file may write the store.
"""

from __future__ import annotations

from contextlib import suppress

from ollama_ferry.errors import Damaged, FerryError, InvalidName
from ollama_ferry.files.disk import Disk
from ollama_ferry.files.draft import Draft, remove_if_there
from ollama_ferry.files.folder import Folder, open_file
from ollama_ferry.files.identity import as_started
from ollama_ferry.model.manifests import Digest
from ollama_ferry.model.names import ModelName
from ollama_ferry.places.store.store import Store

PULLED = ".ollama-ferry-pulled"
"""The file's name; Ollama passes over what it does not know beside ``blobs/`` and ``manifests/``."""
_IN_WORK = f"{PULLED}.partial"
_LIMIT = 4 * 1024 * 1024
# Of more pulls than these the oldest are forgotten.
_MOST = 10_000

Pull = tuple[ModelName, Digest]


def pulls_into(store: Store) -> dict[Pull, None]:
    """Return what pulls have put into a store, the last one last; nothing where that can't be read."""
    try:
        with as_started(), open_file(store.root / PULLED) as file:
            raw = file.read(_LIMIT + 1)
    except (OSError, FerryError):
        return {}
    pulls: dict[Pull, None] = {}
    for line in raw.decode("utf-8", "replace").split("\n")[:-1] if len(raw) <= _LIMIT else ():
        digest, _, path = line.partition(" ")
        # What is damaged was put there by nobody.
        with suppress(Damaged, InvalidName):
            pulls[ModelName.from_path(path.split("/")), Digest.parse(digest)] = None
    return pulls


def note_pull(store: Store, root: Folder, disk: Disk, name: ModelName, digest: Digest) -> None:
    """Add a pull to those that a store knows of, safely on the disk.

    Args:
        store: the store, which nobody else writes into meanwhile.
        root: its folder.
        disk: the calls to write with.
        name, digest: which manifest will get which name.

    Raises:
        OSError, FerryError: it can't be written.
    """
    pulls = pulls_into(store)
    if (name, digest) in pulls:
        return
    pulls[name, digest] = None
    lines = [f"{digest} {'/'.join(name.parts)}\n" for name, digest in list(pulls)[-_MOST:]]
    draft = Draft.create(disk, root, _IN_WORK)
    try:
        draft.write("".join(lines).encode())
        draft.sync()
        draft.publish(root, PULLED)
    except BaseException:
        with suppress(OSError):
            remove_if_there(disk, root, _IN_WORK)
        raise
    finally:
        draft.close()
