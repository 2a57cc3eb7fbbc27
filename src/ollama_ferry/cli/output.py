"""What the commands print: how much of it, tables, and the parts that several of them have in their JSON documents."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ollama_ferry.cli.remedies import hint_of
from ollama_ferry.cli.terminal import is_terminal, say, say_json, say_json_line
from ollama_ferry.errors import Damaged
from ollama_ferry.wording import counted, human_rate, human_size

if TYPE_CHECKING:
    from ollama_ferry.api import Descriptor, Manifest, NotCarried

_LEFT_OUT_SHOWN = 20


@dataclass(frozen=True)
class Output:
    """How much a command says, and in which form.

    Attributes:
        quiet: results and errors only.
        verbose: also say what was decided and why.
        as_json: one JSON document on stdout.
        progress: how progress is shown: ``auto``, ``plain``, ``json`` or ``none``.
        log: a file that what happens is written to as well, with the time.
    """

    quiet: bool = False
    verbose: bool = False
    as_json: bool = False
    progress: str = "auto"
    log: Path | None = None

    def note(self, text: str) -> None:
        """Say on stderr what is happening, unless told to be quiet."""
        if self.as_json and not self.quiet:
            say_json_line({"event": "note", "text": text})
        elif not self.quiet:
            say(text, err=True)

    def document(self, value: object) -> None:
        """Print the one JSON document."""
        say_json(value)


def stdout_is_terminal() -> bool:
    """Return whether somebody looks at standard output."""
    return is_terminal(sys.stdout)


def blobs_fields(blobs: Iterable[Descriptor]) -> list[dict[str, object]]:
    """Return what JSON documents say of blobs."""
    return [{"digest": str(blob.digest), "size": blob.size} for blob in blobs]


def left_out_fields(left_out: Iterable[NotCarried]) -> list[dict[str, object]]:
    """Return what JSON documents say of what can't be carried."""
    return [{"name": one.name, "error": one.why.message} for one in left_out]


def tell_left_out(left_out: Sequence[NotCarried], output: Output, command: str) -> None:
    """Say on stderr what can't be carried, and what could be done about it."""
    for one in left_out[:_LEFT_OUT_SHOWN]:
        hint = hint_of(one.why, command)
        output.note(f"left out: {one.why.message}" + (f" ({hint.rstrip('.')})" if hint and "\n" not in hint else ""))
    if len(left_out) > _LEFT_OUT_SHOWN:
        output.note(f"left out: {len(left_out) - _LEFT_OUT_SHOWN} more")


def require_undamaged(left_out: Sequence[NotCarried], done: str) -> None:
    """End with the exit code of damage where damaged models were left out.

    Raises:
        Damaged: there are some.
    """
    damaged = sum(one.damaged for one in left_out)
    if damaged:
        raise Damaged(
            f"{done} without {counted(damaged, 'damaged model')}",
            hint="The others are whole. `ollama-ferry doctor` says what is wrong in a store.",
        )


def manifest_fields(manifest: Manifest) -> dict[str, object]:
    """Return what JSON documents say of a manifest."""
    return {"id": manifest.digest.short, "manifest_digest": str(manifest.digest), "size": manifest.size}


def amount(blobs: Collection[Descriptor]) -> str:
    """Say how much some blobs are: ``1.2 GB in 3 blobs``."""
    return f"{human_size(sum(blob.size for blob in blobs))} in {counted(len(blobs), 'blob')}"


def present(blobs: Collection[Descriptor], where: str) -> str:
    """Say how much was there already, behind what moved; nothing where nothing was."""
    if not blobs:
        return ""
    return f", {human_size(sum(blob.size for blob in blobs))} in {len(blobs)} were {where} already"


def resumed(size: int) -> str:
    """Say how much of what is there now an earlier run had moved; nothing where it had not."""
    return f", {human_size(size)} of it by an earlier run" if size else ""


def took(seconds: float, size: int) -> str:
    """Say how long something took, and how fast so many bytes moved: ``1.5 s, 300 MB/s``."""
    speed = f", {human_rate(size, seconds)}" if size else ""
    return f"{max(seconds, 0.001):.1f} s{speed}"
