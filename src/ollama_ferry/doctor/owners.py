"""Whom the files of a store belong to, and whether that hinders whom they should belong to."""

from __future__ import annotations

import os
import stat

from ollama_ferry.doctor.advice import Advice, is_systems
from ollama_ferry.doctor.contents import Some
from ollama_ferry.doctor.findings import Finding, Findings, Severity
from ollama_ferry.files.permissions import PASS, READ, WRITE, User, access_list, user_numbered
from ollama_ferry.places.store.store import Store
from ollama_ferry.shell_lines import joined, quoted
from ollama_ferry.wording import counted, shown


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
        self._linked = 0
        self._root_too = False
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
            self.visit(path, status)

    def visit(self, path: str, status: os.stat_result) -> None:
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
        if path == str(self._root):
            self._root_too = True
        elif stat.S_ISREG(status.st_mode) and status.st_nlink > 1:
            self._linked += 1
        hinders = not owner.may(status, wanted, access_list(path))
        (self._hindering if hinders else self._foreign).add(path, 0, 0.0)

    def add_findings(self, findings: Findings, advice: Advice) -> None:
        """Tell what was found, in one finding.

        The line changes no more than the store: neither what links lead to, nor files that have another name elsewhere.
        """
        owner = self._owner
        if owner is None:
            return
        some = self._hindering if self._hindering.count else self._foreign
        if not some.count:
            return
        paths, one = some.paths(), some.count == 1
        of_others = (
            f"{counted(some.count, 'path')} of this store {'does' if one else 'do'} not belong to {shown(owner.name)}"
        )
        example = f"For example {', '.join(map(shown, paths[:3]))}."
        if some is self._hindering:
            severity, code = Severity.PROBLEM, "wrong-owner"
            text = (
                f"{of_others}, who may not change (or read) what is there: `ollama rm`, `ollama pull` and the server's "
                f"tidying fail on {'it' if one else 'them'}. {example}"
            )
        else:
            severity, code = Severity.NOTE, "mixed-owners"
            text = f"{of_others}, who can use {'it' if one else 'them'} all the same. {example}"
        mend = self._lines(owner, advice)
        if not mend:
            text += (
                " The store has links or mounts to what is not its own, or files with hard links elsewhere, so there "
                "is no line that gives all of it back: look at each."
            )
        findings.add(Finding(severity, code, text, shown(self._root), tuple(map(shown, paths)), mend))

    def _lines(self, owner: User, advice: Advice) -> tuple[str, ...]:
        folders = advice.own_folders()
        if self._linked or not folders:
            return ()
        to = quoted(f"{owner.name}:{owner.group}")
        lines = [f"sudo chown -RhP {to} {joined(folders)}"]
        if self._root_too:
            if is_systems(str(self._root)):
                return ()
            lines.append(f"sudo chown -h {to} {quoted(os.path.realpath(self._root))}")
        return tuple(lines)
