"""Files of models in a folder that is no store, as a place: what scripts download, or an archive was unpacked to."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ollama_ferry.archives.members import MEMBER_LIMIT, Member, MemberKind
from ollama_ferry.engine.ports import Readable
from ollama_ferry.errors import Damaged, FerryError, NotPermitted
from ollama_ferry.files.folder import open_file, read_at_most
from ollama_ferry.files.identity import as_started
from ollama_ferry.model.layout import BlobPath, LoosePath, ManifestPath
from ollama_ferry.model.manifests import MANIFEST_LIMIT, Digest
from ollama_ferry.places.archive.contents import Contents, ContentsBuilder
from ollama_ferry.places.archive.source import ArchiveSource


def read_folder(path: Path) -> ArchiveSource:
    """Find the files of models in a folder and below it, by the rules that hold for the members of an archive.

    Links are not followed. No blob is read.

    Raises:
        NotPermitted: it can't be read.
        Damaged: there are more files than any folder of models has.
    """
    contents = Contents()
    builder = ContentsBuilder(contents, lenient=True, by_size=True)
    paths: list[str] = []
    for file, size, kind in _files_below(str(path)):
        name = os.path.relpath(file, path).replace(os.sep, "/")
        member = Member(name, kind, size, len(paths), target=_target(file) if kind is MemberKind.LINK else "")
        paths.append(file)
        meaning = builder.take(member)
        if isinstance(meaning, ManifestPath | LoosePath):
            with _opened(file) as data:
                builder.add(meaning, member, read_at_most(data, MANIFEST_LIMIT + 1))
        elif not isinstance(meaning, BlobPath) and meaning is not None and meaning.blob is not None:
            builder.note_blob(meaning.blob, member)
    builder.finish()

    @contextmanager
    def open_blob(digest: Digest, size: int, place: int, offset: int) -> Iterator[Readable]:
        with _opened(paths[place], offset) as data:
            yield data

    return ArchiveSource(str(path), contents, open_blob)


def _files_below(top: str) -> Iterator[tuple[str, int, MemberKind]]:
    def refuse(error: OSError) -> None:
        if isinstance(error, PermissionError) and error.filename == top:
            raise NotPermitted(f"not permitted to read {top}: {error.strerror}") from error

    found = 0
    for folder, _, files in os.walk(top, onerror=refuse):
        for file in sorted(files):
            found += 1
            if found > MEMBER_LIMIT:
                raise Damaged(f"there are more than {MEMBER_LIMIT} files in {top}", hint="Name the models' folder.")
            path = os.path.join(folder, file)
            try:
                seen = os.lstat(path)
            except OSError:
                continue
            if stat.S_ISREG(seen.st_mode):
                yield path, seen.st_size, MemberKind.FILE
            elif stat.S_ISLNK(seen.st_mode):
                yield path, 0, MemberKind.LINK


def _target(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""


@contextmanager
def _opened(path: str, offset: int = 0) -> Iterator[Readable]:
    try:
        with as_started():
            file = open_file(Path(path))
    except PermissionError as error:
        raise NotPermitted(f"not permitted to read {path}: {error.strerror}") from error
    except OSError as error:
        raise FerryError(f"can't read {path}: {error.strerror or error}") from error
    with file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise Damaged(f"{path} is no regular file any more")
        file.seek(offset)
        yield file
