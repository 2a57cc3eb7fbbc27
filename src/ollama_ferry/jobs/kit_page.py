"""The page of a kit: what lies here, and the lines that bring it into Ollama, in English and in Chinese."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ollama_ferry.archives.kinds import Kind
from ollama_ferry.jobs.list_ import ModelSummary
from ollama_ferry.jobs.program_files import EXECUTABLES, PYZ
from ollama_ferry.shell_lines import quoted
from ollama_ferry.wording import human_size, shown

FIRST_LINE = "ollama-ferry kit"
"""What the page begins with, by which a later run knows that it may replace it."""

_LINUX_STORE = "/usr/share/ollama/.ollama/models"


@dataclass(frozen=True)
class Load:
    """An archive, or a store, that lies beside the program.

    Attributes:
        file: its name in the folder; ``.`` for a store.
        kind: what kind of archive it is; None for a store.
        models: what is in it.
        signed: whether a signature lies beside it.
    """

    file: str
    kind: Kind | None
    models: tuple[ModelSummary, ...]
    signed: bool

    @property
    def in_volumes(self) -> bool:
        """Whether it is the first of several volumes."""
        return self.kind is not None and self.file.endswith(".001")

    @property
    def path(self) -> str:
        """How it is called in a command that is run in the folder."""
        return "." if self.kind is None else quoted(f"./{self.file}")

    def unpacked_by_tar(self) -> str:
        """The line that restores it without the program; empty for a store."""
        if self.kind is None:
            return ""
        if self.in_volumes:
            return f"cat {quoted('./' + self.file[:-3])}[0-9]* | tar {self.kind.extract_flags} - -C {_LINUX_STORE}"
        return f"tar {self.kind.extract_flags} {self.path} -C {_LINUX_STORE}"


def kit_page(loads: Sequence[Load], files: Iterable[str]) -> str:
    """Write the page.

    Args:
        loads: the archives, or the store, that the kit is for.
        files: the names of the program's files.

    Returns:
        Its text, which ends in a newline.
    """
    present = [name for name in files if name == PYZ or name in EXECUTABLES]
    lines = [FIRST_LINE, "=" * len(FIRST_LINE), "中文说明在后半部分。", ""]
    lines += _page(_ENGLISH, loads, present)
    lines += ["", "", "中文说明", "========", ""]
    lines += _page(_CHINESE, loads, present)
    return "\n".join(lines) + "\n"


@dataclass(frozen=True)
class _Words:
    """The page's sentences in one language."""

    here: str
    whole_store: str
    any_python: str
    no_python: str
    restore: str
    no_right: str
    windows: str
    restore_plain: str
    plain_note: str
    check: str
    check_note: str
    signature: str
    signature_note: str


_ENGLISH = _Words(
    here="What is here (name, ID, size)",
    whole_store="a models folder",
    any_python="the program, for any Python 3.10 or later",
    no_python="the program for {}, without Python",
    restore="Into Ollama, every byte checked (in this folder)",
    no_right="If it may not write there: the same with sudo before it (Linux, macOS).",
    windows="Windows: py in place of python3; the models folder is %USERPROFILE%\\.ollama\\models.",
    restore_plain="Or without the program, by plain tar (nothing is checked; Linux service)",
    plain_note="Elsewhere: ~/.ollama/models. The files must belong to the user that runs Ollama.",
    check="Check",
    check_note="`ollama list` shows the same IDs as above.",
    signature="Who vouches for it",
    signature_note="Get the file allowed_signers from who signed, by another way than this medium.",
)
_CHINESE = _Words(
    here="这里有什么（名称、ID、大小）",
    whole_store="一个模型目录",
    any_python="本程序，任何 Python 3.10 或更新版本都能运行",
    no_python="本程序的 {} 版，不需要 Python",
    restore="导入 Ollama，逐字节校验（在本目录下运行）",
    no_right="如果提示没有写入权限：在命令前加 sudo（Linux、macOS）。",
    windows="Windows：把 python3 换成 py；模型目录是 %USERPROFILE%\\.ollama\\models。",
    restore_plain="不用本程序也行：直接用 tar（不做校验；适用于 Linux 上的服务）",
    plain_note="其他情况下，模型目录是 ~/.ollama/models。解压出来的文件必须归运行 Ollama 的用户所有。",
    check="检查",
    check_note="`ollama list` 显示的 ID 应与上面一致。",
    signature="谁为它担保",
    signature_note="allowed_signers 文件要通过别的途径向签名人索取，不要用这个介质上的。",
)


def _page(words: _Words, loads: Sequence[Load], programs: Sequence[str]) -> list[str]:
    lines = [words.here]
    for load in loads:
        lines.append(f"  {shown(load.file) if load.kind is not None else words.whole_store}")
        lines += [f"    {_line_of(model)}" for model in load.models]
    for name in programs:
        what = words.any_python if name == PYZ else words.no_python.format(EXECUTABLES[name])
        lines.append(f"  {name}: {what}")
    runs = _runs(programs)
    lines += ["", words.restore]
    lines += [f"  {run} import {load.path}" for load in loads for run in runs]
    lines += [f"  {words.no_right}", f"  {words.windows}"]
    if plain := [load.unpacked_by_tar() for load in loads if load.kind is not None]:
        lines += ["", words.restore_plain, *(f"  {line}" for line in plain), f"  {words.plain_note}"]
    lines += ["", words.check, "  sha256sum -c SHA256SUMS"]
    lines += [f"  {runs[0]} verify {load.path}" for load in loads if load.kind is not None]
    lines += [f"  {words.check_note}"]
    if signed := [load for load in loads if load.signed]:
        lines += ["", words.signature]
        lines += [f"  {runs[0]} verify {load.path} --signers allowed_signers" for load in signed]
        lines += [f"  {words.signature_note}"]
    return lines


def _runs(programs: Sequence[str]) -> list[str]:
    """How the program is called, by each of its files."""
    return [
        f"python3 {name}" if name == PYZ else f".\\{name}" if name.endswith(".exe") else f"./{name}"
        for name in programs
    ]


def _line_of(model: ModelSummary) -> str:
    if model.manifest is None:
        return f"{model.name}  ({model.problem})"
    return f"{model.name}  {model.manifest.digest.short}  {human_size(model.manifest.size)}"
