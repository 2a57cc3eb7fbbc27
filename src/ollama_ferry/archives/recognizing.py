"""What a file is that is no archive of models: told by its first bytes, with the line that helps.

Sources: the formats' own descriptions of their first bytes, as file(1) lists them.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from ollama_ferry.archives.tar import BLOCK

START = BLOCK
"""How many of a file's first bytes are looked at."""


class Recognized(NamedTuple):
    """Something that is no archive of models.

    Attributes:
        what: what it is, after "it is".
        hint: what to do about it.
    """

    what: str
    hint: str


_UNPACK = "Unpack it ({}), and import the folder: ollama-ferry import ./FOLDER"
_PIPE = "Unpack it on the way: {} FILE | ollama-ferry import -"
_CREATE = "It is no archive: weights alone. `ollama create NAME -f Modelfile` makes a model of it (FROM ./FILE)."
_ANEW = "Download it again: what came was not the archive."
_BY_START: tuple[tuple[bytes, str, str], ...] = (
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", _UNPACK.format("7z x")),
    (b"Rar!\x1a\x07", "a RAR archive", _UNPACK.format("unrar x")),
    (b"PK\x07\x08", "a zip in several parts", "Make it one file first: zip -s 0 FILE.zip --out whole.zip"),
    (b"MSCF", "a cabinet (CAB)", _UNPACK.format("7z x")),
    (b"MSWIM\0\0\0", "a WIM image", _UNPACK.format("7z x")),
    (b"!<arch>\n", "an ar archive, or a package of Debian", _UNPACK.format("dpkg-deb -x, or ar x")),
    (b"\xed\xab\xee\xdb", "an RPM package", _UNPACK.format("rpm2cpio FILE | cpio -id")),
    (b"070701", "a cpio archive", _UNPACK.format("cpio -id")),
    (b"070707", "a cpio archive", _UNPACK.format("cpio -id")),
    (b"hsqs", "a squashfs image", _UNPACK.format("unsquashfs")),
    (b"\x04\x22\x4d\x18", "packed by lz4", _PIPE.format("lz4 -dc")),
    (b"LZIP", "packed by lzip", _PIPE.format("lzip -dc")),
    (b"\x89LZO\0\r\n", "packed by lzop", _PIPE.format("lzop -dc")),
    (b"\x1f\x9d", "packed by compress", _PIPE.format("gzip -dc")),
    (b"\x5d\0\0", "packed by lzma", _PIPE.format("xz -dc")),
    (b"\xff\x06\0\0sNaPpY", "packed by snappy", _PIPE.format("snzip -dc")),
    (b"Salted__", "encrypted by openssl", _PIPE.format("openssl enc -d ... -in")),
    (b"age-encryption.org/", "encrypted by age", _PIPE.format("age -d")),
    (b"-----BEGIN PGP MESSAGE", "encrypted by PGP", _PIPE.format("gpg -d")),
    (b"GGUF", "a GGUF file", _CREATE),
    (b"lmgg", "a file of GGML, which Ollama reads no more", "Get the model as GGUF."),
    (b"tjgg", "a file of GGML, which Ollama reads no more", "Get the model as GGUF."),
    (b"version https://git-lfs", "a pointer of git-lfs, and not the file itself", "Get the file: git lfs pull"),
    (b"SQLite format 3\0", "a database of SQLite", _ANEW),
    (b"%PDF-", "a PDF", _ANEW),
    (b"\x7fELF", "a program", _ANEW),
    (b"MZ", "a program of Windows", "Let it unpack itself if it is such an archive, and import the folder."),
)
_BY_FORM: tuple[tuple[re.Pattern[bytes], str, str], ...] = (
    (re.compile(rb"(?:\xef\xbb\xbf)?\s*<(?:!doctype\s+html|html|head)", re.I), "a web page", _ANEW),
    (re.compile(rb"(?:\xef\xbb\xbf)?\s*<\?xml"), "an XML text, as servers send with an error", _ANEW),
    (re.compile(rb"d[0-9]{1,3}:[a-z]"), "a torrent, and not what it leads to", "Download what it leads to."),
    (re.compile(rb".{8}\{\s*\"", re.DOTALL), "weights in safetensors", _CREATE),
    (
        re.compile(rb"(?:\xef\xbb\xbf)?\s*\{.*\"(?:schemaVersion|layers)\"", re.DOTALL),
        "a manifest without its blobs",
        "Import the folder that it lies in with them, and give it a name: ollama-ferry import ./FOLDER",
    ),
    (re.compile(rb"(?:\xef\xbb\xbf)?\s*[\[{]"), "a JSON text", _ANEW),
    (re.compile(rb"[0-9a-fA-F]{64} [ *]"), "a file of sums", "Name the archive itself."),
)
_UNFINISHED = (".part", ".partial", ".crdownload", ".download", ".aria2", ".tmp", ".!qb", ".opdownload")


def recognized(start: bytes) -> Recognized | None:
    """Tell what a file is that is no tar; None where that does not show.

    Args:
        start: its first :data:`START` bytes, or all of it.
    """
    for magic, what, hint in _BY_START:
        if start.startswith(magic):
            return Recognized(what, hint)
    for form, what, hint in _BY_FORM:
        if form.match(start):
            return Recognized(what, hint)
    if start and _is_text(start):
        return Recognized("a text", _ANEW)
    return None


def unfinished_hint(name: str) -> str:
    """Say that a file is an unfinished download, where its name says so; else an empty text."""
    if name.lower().endswith(_UNFINISHED):
        return "By its name it is an unfinished download: let the download come to its end."
    return ""


def _is_text(start: bytes) -> bool:
    try:
        # A character may be cut at the end.
        text = start.decode("utf-8", "strict" if len(start) < START else "ignore")
    except UnicodeDecodeError:
        return False
    return all(char.isprintable() or char in "\r\n\t\f" for char in text.removeprefix("\ufeff"))
