"""``ollama-ferry demo``."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ollama_ferry import api
from ollama_ferry.cli.terminal import say
from ollama_ferry.errors import Damaged, FerryError
from ollama_ferry.wording import counted, human_size

if TYPE_CHECKING:
    from ollama_ferry.api import ModelName, Store


@click.command("demo")
@click.option("--keep", type=click.Path(path_type=Path), metavar="DIR", help="Work in DIR and leave all of it there.")
def command(keep: Path | None) -> None:
    """Make a small sample store, export a model, restore it with the system's tar and with import, and compare.

    It needs no Ollama and no network, and touches no store of yours.
    """
    if keep is not None:
        if keep.exists() and any(keep.iterdir()):
            raise FerryError(f"{keep} is not empty", hint="Name a folder that is empty or not there.")
        keep.mkdir(parents=True, exist_ok=True)
        _demonstrate(keep)
        say(f"left everything in {keep}")
    else:
        with tempfile.TemporaryDirectory(prefix="ollama-ferry-demo-") as folder:
            _demonstrate(Path(folder))
        say("cleaned up")


def _demonstrate(folder: Path) -> None:
    say("1. a sample store: two models that share 4 MB of GGUF weights")
    model, other = api.write_sample_store(folder / "source")
    source = api.open_store(folder / "source")
    for name in (model, other):
        manifest = source.manifest(name)
        say(f"     {name!s:22} {manifest.digest.short}  {human_size(manifest.size)}")

    archive = folder / f"{model.file_stem}.tar.gz"
    say(f"2. ollama-ferry export {model} ./{archive.name}")
    done = api.export(str(model), archive, store=source.root)
    blobs = counted(len(done.blobs), "blob")
    say(f"     {human_size(done.size)}, {blobs} and the manifest")

    say(f"3. tar -xzf ./{archive.name} -C ./by-tar")
    (folder / "by-tar").mkdir()
    _untar(archive, folder / "by-tar")

    say(f"4. ollama-ferry import ./{archive.name} --models ./by-import")
    imported = api.import_archive(archive, store=folder / "by-import")
    say(f"     {human_size(imported.size)} in {counted(len(imported.blobs), 'blob')}, every byte checked on the way")

    say("5. compared with the source: every file, byte by byte")
    for target in (api.open_store(folder / "by-tar"), api.open_store(folder / "by-import")):
        files = _check(source, target, model)
        say(f"     {target.root.name}: {files} files, each with its SHA-256; none missing, none more")
    say(f"     ID of {model}: {target.manifest(model).digest.short} everywhere")


def _untar(archive: Path, folder: Path) -> None:
    tar = shutil.which("tar")
    if tar is None:
        import tarfile

        say("     (this machine has no tar; Python's takes its place)")
        with tarfile.open(archive) as opened:
            # Our own archive, written a moment ago. Pythons before 3.10.12 know no filter, and newer ones ask for one.
            if hasattr(tarfile, "data_filter"):
                opened.extractall(folder, filter="data")
            else:
                opened.extractall(folder)  # noqa: S202
        return
    try:
        subprocess.run([tar, "-xzf", str(archive), "-C", str(folder)], check=True, capture_output=True)
    except subprocess.CalledProcessError as error:
        raise FerryError(f"tar could not restore the archive: {error.stderr.decode(errors='replace')}") from error


def _check(source: Store, target: Store, model: ModelName) -> int:
    """Compare the restored files with what the model should have, both ways.

    Raises:
        Damaged: something is missing, more, or different.
    """
    manifest = source.manifest(model)
    expected = {target.blob_path(blob.digest): blob.digest.hex for blob in manifest.blobs}
    expected[target.manifest_path(model)] = manifest.digest.hex
    found = {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in target.root.rglob("*") if path.is_file()}
    if found != expected:
        raise Damaged(f"{model} was restored as {sorted(map(str, found))}, and {sorted(map(str, expected))} was due")
    return len(found)
