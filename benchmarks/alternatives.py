"""The tools that do what export and import do, and how each is called.

What each of them leaves out stands in docs/benchmarks.md.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from measuring import FERRY, Chain, Step, line

LEAVING, ARRIVING = "Export", "Import"
LIMIT = "the limit"
"""What a verified copy must cost: ``cp`` and ``sync`` of the blob, with ``openssl dgst`` of it at the same time."""

_PACKAGES = ("ollamazip[zstd]==0.2.0", "ollama-tool-cli==1.3.5")

# ollama-tool-cli knows one models folder, that of Ollama's service; this puts another in its place and runs it.
_TOOL_CLI = (
    "import sys, pathlib, ollamatools; "
    'ollamatools.MODELS_PATH["linux"] = pathlib.Path(sys.argv.pop(1)); ollamatools.main()'
)


@dataclass(frozen=True)
class Carried:
    """What is carried, and where.

    Attributes:
        store: the store that it is in.
        model: its name.
        blob: the file of its weights.
        content: bytes of everything in the store.
        work: the folder for archives, and the one that the tables call ``WORK``.
        check: tells what is wrong with the model in :attr:`target`.
    """

    store: Path
    model: str
    blob: Path
    content: int
    work: Path
    check: Callable[[], str]

    @property
    def target(self) -> Path:
        """The store that archives are unpacked into; emptied each time."""
        return self.work / "target"

    def pack(self, name: str, command: str, archive: Path, *, missing: str = "", ours: bool = False) -> Step:
        """Return the step that makes an archive."""
        if not ours:
            # Ours waits for the disk by itself.
            command = f"{command} && {line('sync', archive)}"
        return Step(name, command, LEAVING, makes=archive, content=self.content, missing=missing, ours=ours)

    def unpack(self, name: str, command: str, *, missing: str = "", ours: bool = False) -> Step:
        """Return a step that restores the model."""
        if not ours:
            command = f"{command} && {line('sync', '-f', self.target)}"
        return Step(name, command, ARRIVING, fills=self.target, check=self.check, missing=missing, ours=ours)

    def chain(self, *steps: Step) -> Chain:
        """Return a chain whose archive, the first step's, goes in the end."""
        assert steps[0].makes
        return Chain(steps, (steps[0].makes, self.target))

    def tar_into_target(self, archive: Path, flags: str) -> str:
        """Return the line that restores a tar."""
        return line("tar", *flags.split(), archive, "-C", self.target)


def lacking(*tools: str) -> str:
    """Say which commands are not on PATH; an empty text for none."""
    absent = [tool for tool in tools if not shutil.which(tool)]
    return f"not installed: {', '.join(absent)}" if absent else ""


def limit(carried: Carried) -> Chain:
    """Return the baseline: what this machine needs at least for a copy that is safe on the disk, and a hash."""
    copied = carried.target / "blob"
    command = (
        f"{line('openssl', 'dgst', '-sha256', carried.blob)} & "
        f"{line('cp', carried.blob, copied)} && {line('sync', copied)} && wait $!"
    )
    missing = lacking("openssl", "cp", "sync")
    return Chain((Step(LIMIT, command, LEAVING, fills=carried.target, missing=missing),), (carried.target,))


def floors(carried: Carried) -> Iterator[Chain]:
    """Return the least that a Python program can do for what we do; see ``floor.py``."""
    program = Path(__file__).with_name("floor.py")
    for what, makes in (("copy", "floor.copy"), ("pack", "floor.gz")):
        made = carried.work / makes
        command = line(sys.executable, "-I", program, what, carried.blob, made)
        pack = Step(f"floor: {what}", command, LEAVING, makes=made, content=carried.content, shown=f"floor.py {what}")
        steps = [pack]
        if what == "pack":
            unpack = line(sys.executable, "-I", program, "unpack", made, carried.target / "blob")
            steps.append(Step("floor: unpack", unpack, ARRIVING, fills=carried.target, shown="floor.py unpack"))
        yield Chain(tuple(steps), (made, carried.target))


def ours(carried: Carried) -> Iterator[Chain]:
    """Return ollama-ferry's own ways, and what plain tar makes of the archive."""
    for kind, more in ((".tar.gz", ()), (".tar", ()), (".tar.zst", ()),
                       (".tar.gz --compress fast", ("--compress", "fast")),
                       (".tar.zst --compress fast", ("--compress", "fast"))):  # fmt: skip
        extension = kind.partition(" ")[0]
        archive = carried.work / f"ours{'-fast' if more else ''}{extension}"
        export = line(*FERRY, "export", "-qf", *more, "--models", carried.store, carried.model, archive)
        unpack = line(*FERRY, "import", "-q", "--models", carried.target, archive)
        steps = [
            carried.pack(f"ollama-ferry export {kind}", export, archive, ours=True),
            carried.unpack(f"ollama-ferry import {kind}", unpack, ours=True),
        ]
        if kind == ".tar.gz":
            steps.append(carried.unpack("tar -xzf of our .tar.gz", carried.tar_into_target(archive, "-xzf")))
        yield carried.chain(*steps)


def plain_tar(carried: Carried) -> Iterator[Chain]:
    """Return tar with the usual compressors; we import what it has made too."""
    for name, flags, unpack, extension, tools in (
        ("tar -cf", "-cf", "-xf", ".tar", ()),
        ("tar -I 'zstd -T0 -1' -cf", "-I zstd§-T0§-1 -cf", "--zstd -xf", ".tar.zst", ("zstd",)),
        ("tar -I pigz -cf", "-I pigz -cf", "", ".pigz.tar.gz", ("pigz",)),
        ("tar -czf", "-czf", "-xzf", ".tar.gz", ()),
    ):
        archive = carried.work / f"plain{extension}"
        words = [word.replace("§", " ") for word in flags.split()]
        missing = lacking("tar", *tools)
        steps = [carried.pack(name, line("tar", "-C", carried.store, *words, archive, "."), archive, missing=missing)]
        if unpack:
            steps.append(
                carried.unpack(
                    f"tar {unpack} of what {name} made", carried.tar_into_target(archive, unpack), missing=missing
                )
            )
        if name == "tar -czf":
            command = line(*FERRY, "import", "-q", "--models", carried.target, archive)
            steps.append(
                carried.unpack("ollama-ferry import of what tar -czf made", command, missing=missing, ours=True)
            )
        yield carried.chain(*steps)


def model_tools(carried: Carried, others: Path) -> Iterator[Chain]:
    """Return the tools that are made for Ollama's models.

    Args:
        carried: what they carry.
        others: a virtual environment with ollamazip and ollama-tool-cli, which may hold ``ollama-models.py`` too; what
            is not there is missing.
    """
    ollamazip, python = others / "bin/ollamazip", others / "bin/python"
    missing = "" if ollamazip.exists() else "not installed: ollamazip"
    for compression in ("zstd", "none"):
        archive = carried.work / f"{compression}.ollamazip"
        name = f"--compress {compression}"
        command = line(ollamazip, "pack", carried.model, "-o", archive, "--compress", compression)
        unpack = line(ollamazip, "unpack", archive)
        here, there = (line("env", f"OLLAMA_MODELS={store}") for store in (carried.store, carried.target))
        steps = [
            carried.pack(f"ollamazip pack {name}", f"{here} {command}", archive, missing=missing),
            carried.unpack(f"ollamazip unpack, {name}", f"{there} {unpack}", missing=missing),
        ]
        if compression == "zstd":
            verified = f"{there} {unpack} --verify"
            steps.append(carried.unpack(f"ollamazip unpack --verify, {name}", verified, missing=missing))
        yield carried.chain(*steps)

    missing = "" if (others / "bin/ollama-tool-cli").exists() else "not installed: ollama-tool-cli"
    model, _, tag = carried.model.partition(":")
    backup = carried.work / f"{model}-{tag}.zip"
    environ = line("env", f"PATH={_with_an_ollama(carried.work)}:/usr/bin:/bin", f"HOME={carried.work}")
    yield carried.chain(
        carried.pack(
            "ollama-tool-cli backup",
            f"{environ} {line(python, '-c', _TOOL_CLI, carried.store)} backup "
            + line("--path", carried.work, "--model", carried.model),
            backup,
            missing=missing,
        ),
        carried.unpack(
            "ollama-tool-cli restore",
            f"{environ} {line(python, '-c', _TOOL_CLI, carried.target)} restore {line(backup)}",
            missing=missing,
        ),
    )

    script, archive = others / "ollama-models.py", carried.work / "sigill.tar"
    missing = "" if script.exists() else "not there: ollama-models.py"
    command = line(sys.executable, script, "tar", "--models-dir", carried.store, "--archive", archive, carried.model)
    yield carried.chain(
        carried.pack("ollama-models.py tar", command, archive, missing=missing),
        carried.unpack(
            "tar -xf of what ollama-models.py made", carried.tar_into_target(archive, "-xf"), missing=missing
        ),
    )


def _with_an_ollama(work: Path) -> Path:
    """Return a folder with a command ``ollama`` that does nothing: ollama-tool-cli only looks whether there is one."""
    folder = work / "bin"
    folder.mkdir(exist_ok=True)
    (folder / "ollama").write_text("#!/bin/sh\n")
    (folder / "ollama").chmod(0o755)
    return folder


def install_others(folder: Path) -> None:
    """Make a virtual environment of the tools from PyPI; where that fails, they are missing in the tables."""
    print("installing ollamazip and ollama-tool-cli", flush=True)
    for command in (
        [sys.executable, "-m", "venv", str(folder)],
        [str(folder / "bin/python"), "-m", "pip", "install", "-q", "--disable-pip-version-check", *_PACKAGES],
    ):
        if subprocess.run(command, check=False).returncode:
            print("that failed: they will be shown as not installed", flush=True)
            return
