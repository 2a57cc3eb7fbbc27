"""Pick models by eye: a checklist on the terminal, where a command that takes models was given none; files for prune.

What is chosen, and what it comes to, is kept by :class:`Checklist`, which knows no terminal; prompt_toolkit draws it
and reads the keys, and is loaded for that alone (0.14 s of processor time, 2 cores, Python 3.11).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ollama_ferry.cli.output import Output
from ollama_ferry.cli.terminal import columns_of, escaped, is_terminal
from ollama_ferry.errors import Cancelled
from ollama_ferry.wording import human_age, human_size, reading_order

if TYPE_CHECKING:
    from prompt_toolkit.formatted_text import StyleAndTextTuples
    from prompt_toolkit.key_binding import KeyBindings

    from ollama_ferry.api import Listing

_KEYS = "space marks, Ctrl-A all, Enter goes, typing filters, Ctrl-C gives up"
_ROWS = 15


@dataclass(frozen=True)
class Choice:
    """A model to choose, or a file.

    Attributes:
        name: its name.
        blobs: the sizes of its blobs in bytes, by their digests.
        own: the bytes of those that no other model of the list has.
        about: how long ago it was changed, in words; of a file what it is.
        problem: why it can't be taken; empty where it can.
    """

    name: str
    blobs: Mapping[str, int]
    own: int
    about: str
    problem: str = ""


@dataclass
class Checklist:
    """Models, which of them are marked, and where the cursor is.

    Attributes:
        choices: the models, in the order of the list.
        free: the bytes that are free where they go; None where nobody knows.
        present: the digests that are there already, and cost nothing.
        of_files: they are files, which share nothing.
        marked: the names that are marked.
        wanted: the letters that were typed; only names that have them are shown.
        cursor: the row of the cursor among those that are shown.
    """

    choices: list[Choice]
    free: int | None = None
    present: Collection[str] = ()
    of_files: bool = False
    marked: set[str] = field(default_factory=set)
    wanted: str = ""
    cursor: int = 0

    @property
    def shown(self) -> list[Choice]:
        """The models that the typed letters leave."""
        return [choice for choice in self.choices if self.wanted.lower() in choice.name.lower()]

    @property
    def size(self) -> int:
        """What the marked models bring, in bytes; what they share counts once, and what is there not at all."""
        blobs = {
            digest: size
            for choice in self.choices
            if choice.name in self.marked
            for digest, size in choice.blobs.items()
            if digest not in self.present
        }
        return sum(blobs.values())

    def move(self, rows: int) -> None:
        """Move the cursor by so many rows, and no further than the list goes."""
        self.cursor = max(0, min(self.cursor + rows, len(self.shown) - 1))

    def mark(self) -> None:
        """Mark the model at the cursor, or take its mark away."""
        if self.shown:
            self._turn([self.shown[self.cursor]])

    def mark_all(self) -> None:
        """Mark all that are shown, or none of them where all are marked."""
        here = [choice for choice in self.shown if not choice.problem]
        self._turn([choice for choice in here if choice.name not in self.marked] or here)

    def type(self, letters: str) -> None:
        """Filter by more letters."""
        self.wanted += letters
        self.cursor = 0

    def erase(self) -> None:
        """Take the last letter back."""
        self.wanted = self.wanted[:-1]
        self.cursor = 0

    def result(self) -> list[str]:
        """Return what Enter takes: what is marked, else the model at the cursor; nothing where that can't be taken."""
        if not self.marked and self.shown and not self.shown[self.cursor].problem:
            return [self.shown[self.cursor].name]
        return [choice.name for choice in self.choices if choice.name in self.marked]

    def lines(self, width: int, rows: int = _ROWS) -> list[tuple[str, str]]:
        """Return what is drawn, as styles and lines of at most so many columns."""
        shown = self.shown
        first = max(0, min(self.cursor - rows // 2, len(shown) - rows))
        # What is shared is the rest: it goes where there is no room.
        wide = width >= 72
        columns = ["SIZE"] if self.of_files else ["SIZE", "OWN", "SHARED"] if wide else ["SIZE", "OWN"]
        header = "  ".join([*(f"{column:>8}" for column in columns), f"{'WHY' if self.of_files else 'CHANGED':<13}"])
        names = min(max([12, *(len(choice.name) for choice in shown)]), max(12, width - len(header) - 8))
        drawn = [("bold", f"      {'NAME':<{names}}  {header}")]
        for number, choice in enumerate(shown[first : first + rows], first):
            mark = "[-]" if choice.problem else "[x]" if choice.name in self.marked else "[ ]"
            name = choice.name if len(choice.name) <= names else "..." + choice.name[3 - names :]
            size = sum(choice.blobs.values())
            sizes = [size, choice.own, size - choice.own][: len(columns)]
            text = choice.problem or "  ".join([*(f"{human_size(one):>8}" for one in sizes), choice.about])
            here = number == self.cursor
            style = "reverse" if here else "ansired" if choice.problem else ""
            drawn.append((style, f"{'>' if here else ' '} {mark} {name:<{names}}  {text}"))
        if len(shown) > rows:
            drawn.append(("", f"      {first + 1} to {min(first + rows, len(shown))} of {len(shown)}"))
        if not shown:
            drawn.append(("", f"      none has {self.wanted!r} in its name"))
        drawn += self._sums()
        return [(style, escaped(text)[:width]) for style, text in drawn]

    def _sums(self) -> list[tuple[str, str]]:
        text = f"{len(self.marked)} marked, {human_size(self.size)}"
        short = self.free is not None and self.size > self.free
        if self.free is not None:
            text += f"; {human_size(self.free)} free there" + (", which is too little" if short else "")
        return [
            ("ansired bold" if short else "bold", text + (f"   filter: {self.wanted}" if self.wanted else "")),
            ("", _KEYS),
        ]

    def _turn(self, choices: Iterable[Choice]) -> None:
        for choice in choices:
            if not choice.problem:
                self.marked ^= {choice.name}


def may_ask(output: Output) -> bool:
    """Return whether somebody sits at the terminal who can be asked, and wants to be."""
    if output.quiet or output.as_json or output.progress != "auto" or os.environ.get("TERM", "") == "dumb":
        return False
    return is_terminal(sys.stdin) and is_terminal(sys.stderr)


def pick_models(
    listing: Listing, title: str, *, free: int | None = None, present: Collection[str] = (), everything: bool = False
) -> list[str]:
    """Let somebody pick models of a list.

    Args:
        listing: the models.
        title: what they are picked for, as a question.
        free: the bytes that are free where they go.
        present: the digests of the blobs that are there already.
        everything: begin with all of them marked.

    Returns:
        Their names, at least one.

    Raises:
        Cancelled: nothing was picked.
    """
    return _picked(Checklist(choices_of(listing), free, present), title, everything=everything)


def pick_files(files: Mapping[str, tuple[int, str]], title: str) -> list[str]:
    """Let somebody pick files, of which all are marked at first.

    Args:
        files: their sizes in bytes, and what they are, by their names.
        title: what they are picked for, as a question.

    Returns:
        Their names, at least one.

    Raises:
        Cancelled: nothing was picked.
    """
    choices = [Choice(name, {name: size}, size, why) for name, (size, why) in files.items()]
    return _picked(Checklist(choices, of_files=True), title, everything=True)


def _picked(checklist: Checklist, title: str, *, everything: bool) -> list[str]:
    if everything:
        checklist.mark_all()
    picked = _drawn(checklist, title)
    if not picked:
        raise Cancelled("nothing was picked")
    return picked


def choices_of(listing: Listing) -> list[Choice]:
    """Return the models of a list as choices."""
    found = []
    for model in sorted(listing.models, key=lambda model: reading_order(str(model.name))):
        blobs = {str(blob.digest): blob.size for blob in model.manifest.blobs} if model.manifest is not None else {}
        problem = "damaged" if model.problem else "a cloud model: nothing to carry" if model.remote else ""
        age = human_age(model.manifest.modified if model.manifest is not None else None)
        found.append(Choice(str(model.name), blobs, model.own_size or 0, age, problem))
    return found


def ask_for(question: str, default: str = "") -> str:
    """Ask for a line.

    Raises:
        Cancelled: none was given.
    """
    from prompt_toolkit import PromptSession
    from prompt_toolkit.output import create_output

    try:
        answer: str = PromptSession[str](output=create_output(sys.stderr)).prompt(f"{question} ", default=default)
    except (EOFError, KeyboardInterrupt):
        answer = ""
    if not answer.strip():
        raise Cancelled("nothing was answered")
    return answer.strip()


def _drawn(checklist: Checklist, title: str) -> list[str]:
    from prompt_toolkit.application import Application
    from prompt_toolkit.layout import FormattedTextControl, HSplit, Layout, Window
    from prompt_toolkit.output import create_output

    def text() -> StyleAndTextTuples:
        lines = [("bold", title[: columns_of(sys.stderr)]), *checklist.lines(columns_of(sys.stderr) - 1)]
        return [(style, line + "\n") for style, line in lines]

    application: Application[list[str]] = Application(
        layout=Layout(HSplit([Window(FormattedTextControl(text, show_cursor=False), dont_extend_height=True)])),
        key_bindings=_keys(checklist),
        output=create_output(sys.stderr),
        erase_when_done=True,
    )
    return application.run()


def _keys(checklist: Checklist) -> KeyBindings:
    from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent

    keys = KeyBindings()
    for key, rows in (("up", -1), ("down", 1), ("pageup", -_ROWS), ("pagedown", _ROWS), ("home", -(10**9)),
                      ("end", 10**9)):  # fmt: skip
        keys.add(key)(lambda event, rows=rows: checklist.move(rows))
    keys.add(" ")(lambda event: checklist.mark())
    keys.add("c-a")(lambda event: checklist.mark_all())
    keys.add("backspace")(lambda event: checklist.erase())

    @keys.add("enter")
    def _(event: KeyPressEvent) -> None:
        if result := checklist.result():
            event.app.exit(result=result)

    @keys.add("c-c")
    @keys.add("c-d")
    def _(event: KeyPressEvent) -> None:
        event.app.exit(result=[])

    @keys.add("<any>")
    def _(event: KeyPressEvent) -> None:
        if event.data.isprintable():
            checklist.type(event.data)

    return keys
