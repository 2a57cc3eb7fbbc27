"""Find the store.

The order: the folder that the caller names; ``OLLAMA_MODELS``; what a running server says; the folders that
Ollama uses by default on this system.
"""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ollama_ferry.errors import NotPermitted, StoreNotFound
from ollama_ferry.ollama.server import ServerAddress, ask_for_root

_UNIT_LIMIT = 256 * 1024


@dataclass(frozen=True)
class Located:
    """A store that was found.

    Attributes:
        root: the models folder.
        why: how it was found, in words.
        others: further stores on this machine, which were not chosen.
    """

    root: Path
    why: str
    others: tuple[Path, ...] = ()


@dataclass(frozen=True)
class System:
    """What locating needs to know of the machine; tests give one of their own.

    Attributes:
        environ: the environment's variables.
        home: the user's home.
        platform: as in ``sys.platform``.
        ask: asks the server at an address for its models folder, given names to ask for.
        unit_folders: where systemd looks for units and their drop-ins.
        service_home: where Ollama's service on Linux has its home.
    """

    environ: Mapping[str, str]
    home: Path
    platform: str
    ask: Callable[[ServerAddress, list[str]], str | None] = ask_for_root
    unit_folders: tuple[Path, ...] = (Path("/etc/systemd/system"), Path("/usr/lib/systemd/system"))
    service_home: Path = Path("/usr/share/ollama")


def this_system() -> System:
    """Return the machine that this process runs on."""
    return System(environ=os.environ, home=Path.home(), platform=sys.platform)


def locate(system: System, models: Path | None = None, *, asked_for: Sequence[str] = ()) -> Located:
    """Find the store on this machine.

    Args:
        system: the machine.
        models: the folder that the user named; it must be there.
        asked_for: the models that the command is about: the server is asked for these first.

    Raises:
        StoreNotFound: there is none; the hint lists where was looked.
        NotPermitted: there is one, or may be, where this user can't look.
    """
    if models is not None:
        return Located(_require(models, "--models"), "--models names it")
    named = _named_by_environment(system)
    if named is not None:
        return Located(_require(named, "OLLAMA_MODELS"), "OLLAMA_MODELS names it")

    candidates = [(path, why, _state(path)) for path, why in default_folders(system)]
    stores = [(path, why) for path, why, state in candidates if state == "store"]
    closed = [(path, why) for path, why, state in candidates if state == "closed"]

    address = ServerAddress.parse(system.environ.get("OLLAMA_HOST", ""))
    answered = system.ask(address, list(asked_for))
    if answered and os.path.isabs(answered):
        path = Path(answered)
        state = _state(path)
        if state == "closed":
            raise _closed(path, f"the server at {address} uses it")
        if state == "store":
            others = tuple(other for other, _ in stores if not _same(other, path))
            return Located(path, f"the server at {address} uses it", others)

    if stores:
        (root, why), *rest = stores
        others = tuple(path for path, _ in [*rest, *closed] if not _same(path, root))
        return Located(root, why, others)
    if closed:
        raise _closed(*closed[0])
    looked = [f"OLLAMA_MODELS is not set, and no server answered at {address} with a folder that is here."]
    looked += [f"{path} ({why}) is not there." for path, why, _ in candidates]
    raise StoreNotFound(
        "no store of Ollama's models was found",
        hint="\n".join([*looked, "Name the folder with --models DIR."]),
    )


def locate_target(system: System, models: Path | None = None) -> Located:
    """Find the store to write into; one that is named need not exist yet.

    Args:
        system: the machine.
        models: the folder that the user named.

    Raises:
        StoreNotFound: there is none, and none was named.
        NotPermitted: there is one, or may be, where this user can't look.
    """
    named = models or _named_by_environment(system)
    if named is not None:
        why = "--models names it" if models is not None else "OLLAMA_MODELS names it"
        path = named.expanduser()
        state = _state(path)
        if state == "closed":
            raise _closed(path, why)
        if state == "absent" and path.name in ("manifests", "blobs") and _state(path.parent) == "store":
            raise StoreNotFound(
                f"{path} is a part of a store", hint=f"Name the folder that holds it: --models {path.parent}"
            )
        if os.path.lexists(path) and not path.is_dir():
            raise StoreNotFound(
                f"{path} ({why}) is no folder", hint="Name the folder that holds manifests/ and blobs/."
            )
        return Located(path, why)
    try:
        return locate(system)
    except StoreNotFound as error:
        for path, why in default_folders(system):
            # Ollama is there and has no model yet: its home is, and its models folder is still to be made.
            if path.is_dir() or path.parent.is_dir():
                return Located(path, f"{why}, which has no models yet")
        error.hint += "\nA folder that is named need not exist: it becomes a store."
        raise


def default_folders(system: System) -> list[tuple[Path, str]]:
    """Return where Ollama keeps its models by default on a system, likeliest first, each with the reason."""
    folders: list[tuple[Path, str]] = []
    if system.platform == "linux":
        folders += [(path, f"{unit} sets it") for path, unit in _service_settings(system)]
        folders.append((system.service_home / ".ollama/models", "the Linux service's folder"))
        folders.append((Path("/var/snap/ollama/common/models"), "the snap's folder"))
    folders.append((system.home / ".ollama/models", "this user's folder"))
    sudo_user = system.environ.get("SUDO_USER", "")
    if sudo_user and system.platform != "win32":
        home = _home_of(sudo_user)
        if home is not None:
            folders.append((home / ".ollama/models", f"the folder of {sudo_user}, who called sudo"))
    unique: dict[Path, str] = {}
    for path, why in folders:
        unique.setdefault(path, why)
    return list(unique.items())


def _service_settings(system: System) -> list[tuple[Path, str]]:
    """Read ``Environment=OLLAMA_MODELS=`` from the service's unit and its drop-ins, the last one first."""
    files: list[Path] = []
    for folder in reversed(system.unit_folders):
        files.append(folder / "ollama.service")
        try:
            files += sorted((folder / "ollama.service.d").glob("*.conf"))
        except OSError:
            continue
    found: list[tuple[Path, str]] = []
    for file in files:
        try:
            with file.open(encoding="utf-8", errors="replace") as unit:
                text = unit.read(_UNIT_LIMIT)
        except OSError:
            continue
        for line in re.findall(r"^\s*Environment\s*=(.*)$", text, re.MULTILINE):
            try:
                settings = shlex.split(line)
            except ValueError:
                continue
            for setting in settings:
                key, _, value = setting.partition("=")
                if key == "OLLAMA_MODELS" and value.startswith("/"):
                    found.append((Path(value), str(file)))
    return found[::-1]


def _state(path: Path) -> str:
    """Tell whether a folder is a ``store``, is ``absent``, or lies where this user can't look (``closed``)."""
    try:
        # The service's home is 0750: looking into it fails before anything below it is known to be there.
        os.stat(path / "manifests")
        os.listdir(path / "manifests")
    except PermissionError:
        return "closed"
    except OSError:
        return "absent"
    return "store"


def _require(path: Path, origin: str) -> Path:
    path = path.expanduser()
    state = _state(path)
    if state == "closed":
        raise _closed(path, f"{origin} names it")
    if state == "absent":
        if path.name == "manifests" or path.name == "blobs":
            hint = f"It is the folder that holds manifests/ and blobs/: try --models {path.parent}"
        elif _state(path / "models") == "store":
            hint = f"It is the folder that holds manifests/ and blobs/: try --models {path / 'models'}"
        else:
            hint = "It is the folder that holds manifests/ and blobs/, for example ~/.ollama/models."
        raise StoreNotFound(f"{path} ({origin}) is not a store: it has no manifests folder", hint=hint)
    return path


def _closed(path: Path, why: str) -> NotPermitted:
    return NotPermitted(f"not permitted to look into {path} ({why})")


def _home_of(user: str) -> Path | None:
    import pwd

    try:
        return Path(pwd.getpwnam(user).pw_dir)
    except KeyError:
        return None


def _same(one: Path, other: Path) -> bool:
    try:
        return os.path.samefile(one, other)
    except OSError:
        return one == other


def _named_by_environment(system: System) -> Path | None:
    """Read ``OLLAMA_MODELS`` as Ollama does: blanks and quotes around it are trimmed."""
    value = system.environ.get("OLLAMA_MODELS", "").strip().strip("\"'")
    return Path(value) if value else None
