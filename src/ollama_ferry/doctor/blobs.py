"""What lies in ``blobs/`` and belongs to no model that can be read."""

from __future__ import annotations

import os

from ollama_ferry.doctor.advice import with_sudo
from ollama_ferry.doctor.contents import Blobs, Some
from ollama_ferry.doctor.findings import LISTED_AT_MOST, Severity, age
from ollama_ferry.doctor.subject import HOUR, Subject
from ollama_ferry.model.manifests import Digest
from ollama_ferry.shell_lines import quoted, removal
from ollama_ferry.wording import counted, human_size, shown


def check_blobs(subject: Subject, blobs: Blobs, named: set[str]) -> None:
    """Tell what is in ``blobs/``.

    Args:
        subject: the store.
        blobs: what lies there.
        named: the digests that manifests name, in hexadecimal digits.
    """
    _check_partials(subject, blobs)
    _check_orphans(subject, blobs, named)
    _check_strays(subject, blobs)
    old, links = blobs.old, blobs.links
    if links.count:
        each = ", ".join(f"{shown(path)} to {shown(os.path.realpath(path))}" for path in links.paths()[:3])
        subject.add(
            Severity.NOTE,
            "blob-links",
            f"{counted(links.count, 'blob')} {'is a link' if links.count == 1 else 'are links'}: {each}. That works as "
            "long as what they lead to stays; a tar of the folder holds the links only (archives of ollama-ferry hold "
            "the bytes).",
            links.paths(),
        )
    if old.count:
        subject.add(
            Severity.NOTE,
            "old-name",
            f"{counted(old.count, 'blob')} {'has its' if old.count == 1 else 'have their'} name in the form "
            "sha256:<hex> of early versions. A server renames them at its start; ollama-ferry reads both.",
            old.paths(),
        )
    if blobs.cut:
        subject.add(Severity.NOTE, "cut-short", f"Only {len(blobs.sizes)} blobs were looked at; there are more files.")


def check_no_blobs(subject: Subject, models: int) -> None:
    """Tell that there is no ``blobs/``; that it is closed, or a link that leads nowhere, is told already."""
    folder = subject.store.blobs_folder
    if os.path.isdir(folder) or os.path.islink(folder) or not models:
        return
    subject.add(
        Severity.PROBLEM,
        "no-blobs",
        f"{shown(folder)} is no folder: none of the {counted(models, 'model')} in "
        f"{shown(subject.store.manifests_folder)} has its blobs.",
        [str(folder)],
        [
            "# From an archive that has the models:",
            f"ollama-ferry verify --repair ARCHIVE --models {quoted(subject.root)}",
        ],
    )


def _check_strays(subject: Subject, blobs: Blobs) -> None:
    strays = blobs.strays
    if not strays.count:
        return
    subject.add(
        Severity.WARNING,
        "stray-file",
        f"{counted(strays.count, 'file')} in blobs/ ({human_size(strays.size)}) "
        f"{'has a name that is' if strays.count == 1 else 'have names that are'} no digest. "
        f"{subject.deletes('such a file')}",
        strays.paths(),
        _after("# To keep what you need of it, move it out of blobs/:", subject.advice.set_aside(strays.paths())),
    )


def _check_partials(subject: Subject, blobs: Blobs) -> None:
    by_size = sorted(blobs.partials.items(), key=lambda item: -item[1].size)
    for number, (digest, files) in enumerate(by_size):
        old = subject.now - files.newest
        parts = sorted(blobs.parts[digest])
        text = (
            f"An unfinished download of blob {digest[:12]} takes {human_size(files.size)} and was last written "
            f"{age(old)} ago."
        )
        if old < HOUR:
            subject.add(Severity.NOTE, "unfinished", f"{text} It may be going on right now.", parts[:1])
            continue
        lines: list[str] = []
        # Further findings are only counted.
        if number < LISTED_AT_MOST and subject.advice.removable(parts) == parts:
            stem = quoted(str(subject.store.blobs_folder / f"sha256-{digest}"))
            # A POSIX shell finds them all by a pattern; PowerShell's lines take paths as they are.
            short = len(parts) > 1 and os.name != "nt"
            line = f"rm -f {stem}[-.][pt]*" if short else removal(parts, "-f")
            lines = [with_sudo(line, subject.store.blobs_folder)]
        subject.add(
            Severity.WARNING,
            "unfinished",
            f"{text} `ollama pull` of its model resumes (which model that is, the files do not "
            f"tell). {subject.deletes('it')}",
            parts[:1],
            _after("# To give it up:", lines),
        )


def _check_orphans(subject: Subject, blobs: Blobs, named: set[str]) -> None:
    orphans = Some()
    for digest, (size, modified) in blobs.sizes.items():
        if digest not in named:
            orphans.add(digest, size, modified)
    if not orphans.count:
        return
    text = (
        f"{counted(orphans.count, 'blob')} ({human_size(orphans.size)}) "
        f"{'is' if orphans.count == 1 else 'are'} named by no model that can be read."
    )
    paths = [subject.store.where(Digest(digest)) for digest in orphans.paths()]
    if subject.not_understood:
        text += " They may belong to the manifests that can't be read: mend these first, and delete nothing."
        subject.add(Severity.WARNING, "orphans", text, paths)
        return
    if not subject.advice.has_all(subject.store.blobs_folder):
        text += " Their folder is behind a link, and another store may use it too: look there before you delete any."
        subject.add(Severity.WARNING, "orphans", text, paths)
        return
    text += f" {subject.deletes('them')} If a pull, a create or a tar is still at work, they wait for their manifest: "
    text += "let it finish first."
    if subject.now - orphans.newest < HOUR:
        subject.add(Severity.WARNING, "orphans", f"{text} The newest came less than an hour ago.", paths)
        return
    # A server looks neither at links nor at digests in another form.
    hurts = subject.tidying_hurts or subject.advice.has_links
    lines = _without(subject, paths, orphans.count)
    if lines and subject.restart and subject.served is not False and not hurts:
        lines = [subject.restart]
    subject.add(
        Severity.WARNING, "orphans", text, paths, _after("# If nothing is at work, and you do not need them:", lines)
    )


def _without(subject: Subject, paths: list[str], count: int) -> list[str]:
    """Return the line that removes files of ``blobs/``, and what to do about those that are not listed."""
    lines = subject.advice.remove(paths, subject.store.blobs_folder)
    if lines and count > len(paths):
        lines.append(f"# These are the largest {len(paths)}; run doctor again for the others.")
    return lines


def _after(comment: str, lines: list[str]) -> list[str]:
    return [comment, *lines] if lines else []
