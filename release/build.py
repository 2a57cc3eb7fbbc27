"""Make a release: ``./dev release [--snapshot] [--no-executables] DIR``.

Everything that people get, in one folder: wheel, source, zip application, executables, a bill of materials, licences,
and the sums of it all. Two runs give the same bytes: dates come from the commit, versions from requirements.txt.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import io
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import venv
import zipfile
from pathlib import Path

from release.executables import REQUIREMENTS, SYSTEMS, build_executable

ROOT = Path(__file__).parents[1]
PYZ = "ollama-ferry.pyz"
SBOM = "ollama-ferry.cdx.json"
SHARED = "ollama-ferry-man-and-completions.tar.gz"


def main() -> None:
    parser = argparse.ArgumentParser(prog="./dev release", description=(__doc__ or "").partition("\n\n")[2])
    parser.add_argument("folder", type=Path, nargs="?", default=ROOT / "dist", help="an empty folder, or a new one")
    parser.add_argument("--snapshot", action="store_true", help="of a commit that no tag names")
    parser.add_argument("--no-executables", action="store_true", help="leave out what takes minutes")
    words = parser.parse_args()
    folder: Path = words.folder.absolute()
    version = re.findall(r'"(.+)"', (ROOT / "src/ollama_ferry/_version.py").read_text(encoding="utf-8"))[0]
    if not words.snapshot:
        require_release(version)
    if folder.exists() and any(folder.iterdir()):
        sys.exit(f"release: {folder} is not empty")
    folder.mkdir(parents=True, exist_ok=True)
    os.environ["SOURCE_DATE_EPOCH"] = git("log", "-1", "--format=%ct")
    with tempfile.TemporaryDirectory(prefix="release-") as name:
        make(folder, Path(name), executables=not words.no_executables)
    print(f"{folder}: {version}, {len(list(folder.iterdir()))} files", flush=True)


def git(*words: str) -> str:
    return subprocess.run(["git", *words], cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()


def require_release(version: str) -> None:
    """Refuse a version that is not tagged, not written up, or not committed.

    Raises:
        SystemExit: one of these.
    """
    if git("status", "--porcelain"):
        sys.exit("release: there are changes that are not committed")
    if f"v{version}" not in git("tag", "--points-at", "HEAD").splitlines():
        sys.exit(f"release: no tag v{version} names this commit (--snapshot builds it all the same)")
    if not re.search(
        rf"^## \[?{re.escape(version)}\b", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE
    ):
        sys.exit(f"release: CHANGELOG.md has no section {version}")


def make(folder: Path, work: Path, *, executables: bool) -> None:
    """Make all files of a release.

    Args:
        folder: where they go.
        work: for what is in between.
        executables: whether to make those.
    """
    run("-m", "build", "--quiet", "--outdir", str(folder), str(ROOT))
    wheel = next(folder.glob("*.whl"))
    python = installed(wheel, work / "installed")
    pyz = folder / PYZ
    program = "from ollama_ferry.jobs.program_files import made_pyz, installed_sources as s; print(made_pyz(s()).hex())"
    pyz.write_bytes(
        bytes.fromhex(subprocess.run([python, "-I", "-c", program], check=True, capture_output=True, text=True).stdout)
    )
    pyz.chmod(0o755)
    write_shared_files(wheel, folder / SHARED)
    if executables:
        for system in SYSTEMS:
            with tempfile.TemporaryDirectory(dir=work) as own:
                build_executable(system, wheel, pyz, folder, Path(own))
    run(
        "-m",
        "cyclonedx_py",
        "environment",
        "--output-reproducible",
        "--of",
        "JSON",
        "-o",
        str(folder / SBOM),
        str(python),
    )
    (folder / "LICENSES.txt").write_text(licences(python), encoding="utf-8")
    sums = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in sorted(folder.iterdir())]
    (folder / "SHA256SUMS").write_text("".join(sums), encoding="ascii")


def write_shared_files(wheel: Path, archive: Path) -> None:
    """Write the manual pages and completions of a wheel into an archive, for whoever has the program without pip.

    Args:
        wheel: of which they are a part.
        archive: the .tar.gz; its files begin with ``share/``, to be unpacked in /usr/local.
    """
    date = int(os.environ["SOURCE_DATE_EPOCH"])
    with (
        zipfile.ZipFile(wheel) as zipped,
        archive.open("wb") as file,
        gzip.GzipFile("", "wb", 9, file, mtime=date) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as tar,
    ):
        for name in sorted(zipped.namelist()):
            found = re.search(r"\.data/data/(share/.+[^/])$", name)
            if found:
                content = zipped.read(name)
                entry = tarfile.TarInfo(found[1])
                entry.size, entry.mtime, entry.mode = len(content), date, 0o644
                tar.addfile(entry, io.BytesIO(content))


def installed(wheel: Path, folder: Path) -> Path:
    """Install the wheel and what it needs, as requirements.txt has it, and nothing else; return the interpreter."""
    venv.create(folder, symlinks=True, with_pip=False)
    python = folder / "bin/python"
    run(
        "-m",
        "pip",
        "--python",
        str(python),
        "install",
        "--quiet",
        "--no-compile",
        "-c",
        str(REQUIREMENTS),
        f"{wheel}[fast]",
    )
    for note in folder.glob("lib/python*/site-packages/ollama_ferry-*/direct_url.json"):
        # Where the wheel lay is nothing that a release's bill says.
        note.unlink()
    return python


def licences(python: Path) -> str:
    """Return the licences of all that is installed for an interpreter, one behind the other."""
    folder = next(python.parents[1].glob("lib/python*/site-packages"))
    parts = []
    for info in sorted(folder.glob("*.dist-info")):
        files = sorted(
            path for path in info.rglob("*") if re.match(r"(?i)licen|copying|notice", path.name) and path.is_file()
        )
        if not files:
            sys.exit(f"release: {info.name} brings no licence")
        parts += [f"{'=' * 80}\n{info.name.removesuffix('.dist-info')}\n{'=' * 80}\n"]
        parts += [path.read_text(encoding="utf-8") + "\n" for path in files]
    parts.append(
        "The executables hold Python and the libraries that it is built with: https://docs.python.org/3/license.html\n"
    )
    return "".join(parts)


def run(*words: str) -> None:
    subprocess.run([sys.executable, *words], check=True)


if __name__ == "__main__":
    if shutil.which("git") is None:
        sys.exit("release: git is needed")
    main()
