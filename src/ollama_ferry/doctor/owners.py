"""Whom the files of a store belong to, and whether that hinders whom they should belong to."""

from __future__ import annotations

import os
import stat

from ollama_ferry.doctor.findings import Finding, Findings, Severity, quoted, shown, words
from ollama_ferry.doctor.store_files import Some
from ollama_ferry.files.permissions import PASS, READ, WRITE, User, access_list, user_numbered
from ollama_ferry.places.store.store import Store
from ollama_ferry.wording import counted


class Owners:
    """Collects what belongs to others than it should.

    Args:
        store: the store.
        owner: whom its files should belong to; None for the one who owns its blobs' folder.
    """

    def __init__(self, store: Store, owner: User | None) -> None:
        self._folders = (store.root, store.manifests_folder, store.blobs_folder)
        self._root = store.root
        self._manifests = str(store.manifests_folder)
        self._owner = owner
        self._foreign = Some()
        self._hindering = Some()
        found: list[tuple[str, os.stat_result]] = []
        for folder in self._folders:
            try:
                found.append((str(folder), os.stat(folder)))
            except OSError:
                continue
        if self._owner is None and found:
            _, status = found[-1]
            self._owner = user_numbered(status.st_uid, status.st_gid)
        for path, status in found:
            self.look(path, status)

    def look(self, path: str, status: os.stat_result) -> None:
        """Look at a file or folder of the store."""
        owner = self._owner
        # Root may do everything, and who owns a link matters to nobody.
        if owner is None or owner.uid in (0, status.st_uid) or stat.S_ISLNK(status.st_mode):
            return
        if stat.S_ISDIR(status.st_mode):
            wanted = READ | WRITE | PASS
        elif path.startswith(self._manifests):
            # A pull writes over the manifest that is there; a blob is only read, or deleted by way of its folder.
            wanted = READ | WRITE
        else:
            wanted = READ
        hinders = not owner.may(status, wanted, access_list(path))
        (self._hindering if hinders else self._foreign).add(path, 0, 0.0)

    def tell(self, findings: Findings) -> None:
        """Tell what was found, in one finding."""
        owner = self._owner
        if owner is None:
            return
        some = self._hindering if self._hindering.count else self._foreign
        if not some.count:
            return
        paths, one = some.paths(), some.count == 1
        told = (
            f"{counted(some.count, 'path')} of this store {'does' if one else 'do'} not belong to {shown(owner.name)}"
        )
        example = f"For example {', '.join(map(shown, paths[:3]))}."
        if some is self._hindering:
            severity, code = Severity.PROBLEM, "wrong-owner"
            text = (
                f"{told}, who may not change (or read) what is there: `ollama rm`, `ollama pull` and the server's "
                f"tidying fail on {'it' if one else 'them'}. {example}"
            )
        else:
            severity, code = Severity.NOTE, "mixed-owners"
            text = f"{told}, who can use {'it' if one else 'them'} all the same. {example}"
        mend = f"sudo chown -R {quoted(f'{owner.name}:{owner.group}')} {words(self._real_folders())}"
        findings.add(Finding(severity, code, text, shown(self._root), tuple(map(shown, paths)), (mend,)))

    def _real_folders(self) -> list[str]:
        """Return the real folders that the store consists of, none of which lies in another."""
        found: list[str] = []
        for folder in self._folders:
            real = os.path.realpath(folder)
            if not any(os.path.commonpath([real, other]) == other for other in found):
                found.append(real)
        return found
