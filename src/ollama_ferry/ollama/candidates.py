"""Where a store may be on this machine: the one list that locating picks from and that doctor shows.

The order: the folder that the caller names; ``OLLAMA_MODELS``; what a running server says, where it is believed; what
the service's unit sets; the folders that Ollama uses by default; at last what a server says that is not believed.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path

from ollama_ferry.files.folder import without_tilde
from ollama_ferry.files.permissions import PASS, WRITE, User, access_list, user_named, user_numbered
from ollama_ferry.model.layout import MANIFEST_FOLDERS, MANIFESTS, NEWER_MANIFESTS
from ollama_ferry.ollama.desktop import desktop_database, desktop_models
from ollama_ferry.ollama.registry_variables import with_registry
from ollama_ferry.ollama.server import ServerAddress, ServerAnswer, ask_server
from ollama_ferry.ollama.service import Service, read_service
from ollama_ferry.wording import shown

# Of more volumes the first ones are looked into.
_VOLUMES_AT_MOST = 1000


def _own_number() -> int | None:
    return os.geteuid() if hasattr(os, "geteuid") else None


@dataclass(frozen=True)
class System:
    """What locating needs to know of the machine; tests give one of their own.

    Attributes:
        environ: the environment's variables.
        home: the user's home.
        platform: as in ``sys.platform``.
        ask: asks the server at an address for its models folder.
        unit_folders: where systemd looks for units and their drop-ins.
        service_home: where Ollama's service on Linux has its home.
        more_folders: where packages of distributions keep models.
        volume_folders: where Docker and Podman keep volumes.
        uid: the number of the user that this process acts as; None where users have none.
    """

    environ: Mapping[str, str]
    home: Path
    platform: str
    ask: Callable[[ServerAddress], ServerAnswer] = ask_server
    unit_folders: tuple[Path, ...] = (Path("/etc/systemd/system"), Path("/usr/lib/systemd/system"))
    service_home: Path = Path("/usr/share/ollama")
    more_folders: tuple[Path, ...] = (Path("/var/lib/ollama/models"), Path("/var/lib/ollama"))
    volume_folders: tuple[Path, ...] = tuple(
        map(Path, ("/var/lib/docker/volumes", "/var/lib/containers/storage/volumes"))
    )
    uid: int | None = field(default_factory=_own_number)

    @property
    def address(self) -> ServerAddress:
        """Where the server is asked."""
        return ServerAddress.parse(self.environ.get("OLLAMA_HOST", ""))

    def service(self) -> Service | None:
        """Return what is known of Ollama's service; None where this system has none of systemd's."""
        return read_service(self.unit_folders) if self.platform == "linux" else None


def this_system() -> System:
    """Return the machine that this process runs on."""
    # Where nobody knows it, nothing is in the root that stands for it.
    home = without_tilde("~")
    home = home if home.is_absolute() else Path(os.path.abspath(os.sep))
    return System(environ=with_registry(os.environ), home=home, platform=sys.platform)


class State(Enum):
    """What is at a folder that may be a store, in the order in which one is taken."""

    STORE = "store"
    NO_MANIFESTS = "blobs without manifests"
    CLOSED = "not to be looked into by this user"
    DANGLING = "a link that leads nowhere"
    ABSENT = "absent"


class StoreOrigin(Enum):
    """Who says that a folder is a store."""

    CALLER = "the caller"
    VARIABLE = "OLLAMA_MODELS"
    SERVER = "a server that is believed"
    UNIT = "the service's unit"
    SERVICE = "the home of the service's user"
    DESKTOP = "the desktop app's settings"
    DEFAULT = "Ollama's defaults"
    VOLUME = "a container's volume"
    DOUBTED = "a server that is not believed"


@dataclass(frozen=True)
class Candidate:
    """A folder that may be a store.

    Attributes:
        path: the folder, absolute but for what the caller or ``OLLAMA_MODELS`` names.
        why: who says so, in words.
        origins: who says so.
        state: what is there.
    """

    path: Path
    why: str
    origins: frozenset[StoreOrigin]
    state: State

    @property
    def named(self) -> bool:
        """Whether the caller or the environment names it."""
        return bool(self.origins & {StoreOrigin.CALLER, StoreOrigin.VARIABLE})


@dataclass(frozen=True)
class Candidates:
    """Where a store may be.

    Attributes:
        found: each folder once, in the order in which they are considered.
        answer: what the server told; it was not asked where a folder was named.
        doubt: why the server is not believed; empty where it is, or told nothing.
        service: what is known of Ollama's service.
        may_doubt: whether a folder that only a server names that is not believed may be taken, where there is no other.
    """

    found: tuple[Candidate, ...]
    answer: ServerAnswer
    doubt: str
    service: Service | None
    may_doubt: bool

    def of(self, *origins: StoreOrigin) -> Candidate | None:
        """Return the first candidate of any of some origins."""
        return next((candidate for candidate in self.found if candidate.origins & set(origins)), None)

    @property
    def chosen(self) -> Candidate | None:
        """The one that is used, which may be closed, dangling or, where it was named, absent; None where there is none.

        What was named, or said by a server that is believed, is used whatever else there is.
        """
        first = self.found[0] if self.found else None
        if first is not None and first.named:
            return first
        served = self.of(StoreOrigin.SERVER)
        if served is not None and served.state in (State.STORE, State.NO_MANIFESTS, State.CLOSED):
            return served
        here = [one for one in self.found if one.state is not State.ABSENT and not self._refused(one)]
        return min(here, key=lambda one: list(State).index(one.state), default=None)

    def _refused(self, one: Candidate) -> bool:
        return not self.may_doubt and one.origins == {StoreOrigin.DOUBTED}


def list_candidates(system: System, models: Path | None = None, *, ask: bool = True) -> Candidates:
    """List where a store may be.

    A running server is believed where it listens on this machine and belongs to root, to this user, to the one who
    called sudo or to the service's, who may write the folder that it names. Whom it belongs to is not known on every
    system: then it is believed by all but root.

    Args:
        system: the machine.
        models: the folder that the caller names.
        ask: whether to ask the server.
    """
    service = system.service()
    answer = system.ask(system.address) if ask else ServerAnswer(system.address)
    served = Path(answer.folder) if answer.local and answer.folder and os.path.isabs(answer.folder) else None
    doubt = (
        _doubt(system, answer, served, service) if served is not None and state_of(served) is not State.ABSENT else ""
    )
    places: list[tuple[Path, str, StoreOrigin]] = []
    if models is not None:
        places.append((without_tilde(models), "it was named", StoreOrigin.CALLER))
    variable = named_by_environment(system)
    if variable is not None:
        places.append((variable, "OLLAMA_MODELS names it", StoreOrigin.VARIABLE))
    if served is not None and not doubt:
        places.append((served, f"the server at {answer.address} uses it", StoreOrigin.SERVER))
    places += default_folders(system, service)
    if served is not None and doubt:
        places.append((served, f"the server at {answer.address} says so, and {doubt}", StoreOrigin.DOUBTED))
    return Candidates(_merged(places), answer, doubt, service, may_doubt=system.uid != 0)


def _merged(places: list[tuple[Path, str, StoreOrigin]]) -> tuple[Candidate, ...]:
    found: list[Candidate] = []
    for path, why, origin in places:
        for number, known in enumerate(found):
            if same_folder(known.path, path):
                more = known.why if origin is StoreOrigin.SERVICE else f"{known.why}; {why}"
                found[number] = replace(known, why=more, origins=known.origins | {origin})
                break
        else:
            found.append(Candidate(path, why, frozenset({origin}), state_of(path)))
    return tuple(found)


def default_folders(system: System, service: Service | None) -> list[tuple[Path, str, StoreOrigin]]:
    """Return where Ollama keeps its models by default on a system, likeliest first, each with the reason."""
    folders: list[tuple[Path, str, StoreOrigin]] = []
    if service is not None:
        folders += [
            (Path(text), f"{file} sets it", StoreOrigin.UNIT) for text, file in service.settings if text[:1] == "/"
        ]
        if service.home is not None:
            folders.append((service.home / ".ollama/models", "the service's folder", StoreOrigin.SERVICE))
        # Whether there is a service at all is not asked here: users may be known to a directory that is far away.
        theirs = StoreOrigin.SERVICE if service.home is None else StoreOrigin.DEFAULT
        folders.append((system.service_home / ".ollama/models", "the Linux service's folder", theirs))
        folders.append((Path("/var/snap/ollama/common/models"), "the snap's folder", StoreOrigin.DEFAULT))
    desktop = desktop_models(desktop_database(system.platform, system.home, system.environ))
    if desktop is not None:
        folders.append((desktop, "the desktop app is set to use it", StoreOrigin.DESKTOP))
    folders.append((system.home / ".ollama/models", "this user's folder", StoreOrigin.DEFAULT))
    caller = _caller_of_sudo(system)
    if caller is not None and caller.home is not None:
        why = f"the folder of {shown(caller.name)}, who called sudo"
        folders.append((caller.home / ".ollama/models", why, StoreOrigin.DEFAULT))
    if system.platform == "linux":
        folders += [(folder, "a distribution's folder", StoreOrigin.DEFAULT) for folder in system.more_folders]
        folders += [(folder, "a volume of a container", StoreOrigin.VOLUME) for folder in _volumes(system)]
    return folders


def _volumes(system: System) -> list[Path]:
    """Return the stores in volumes of Docker and Podman, those of this user among them; only what is there."""
    own = system.home / ".local/share"
    found: list[Path] = []
    for folder in (*system.volume_folders, own / "docker/volumes", own / "containers/storage/volumes"):
        try:
            names = sorted(os.listdir(folder))[:_VOLUMES_AT_MOST]
        except OSError:
            continue
        for name in names:
            places = (folder / name / "_data/models", folder / name / "_data")
            found += [path for path in places if state_of(path) is State.STORE]
    return found


def named_by_environment(system: System) -> Path | None:
    """Read ``OLLAMA_MODELS`` as Ollama does: blanks and quotes around it are trimmed, and no ``~`` is expanded."""
    value = system.environ.get("OLLAMA_MODELS", "").strip().strip("\"'")
    return Path(value) if value else None


def state_of(path: Path) -> State:
    """Tell what is at a folder that may be a store."""
    manifests, blobs = path / MANIFESTS, path / "blobs"
    if not os.path.lexists(manifests) and os.path.isdir(path / NEWER_MANIFESTS):
        manifests = path / NEWER_MANIFESTS
    try:
        # The service's home is 0750: looking into it fails before anything below it is known to be there.
        os.stat(manifests)
        os.listdir(manifests)
    except PermissionError:
        return State.CLOSED
    except OSError:
        if leads_nowhere(path) or leads_nowhere(manifests):
            return State.DANGLING
        return State.NO_MANIFESTS if os.path.isdir(blobs) and not os.path.lexists(manifests) else State.ABSENT
    return State.STORE


def leads_nowhere(path: str | os.PathLike[str]) -> bool:
    """Return whether a path is a link whose target is missing; one that may not be looked at is not known not to be."""
    if not os.path.islink(path):
        return False
    try:
        os.stat(path)
    except PermissionError:
        return False
    except OSError:
        return True
    return False


def same_folder(one: Path, other: Path) -> bool:
    """Return whether two paths lead to the same folder, or are the same where nothing is there."""
    try:
        return os.path.samefile(one, other)
    except OSError:
        return os.path.abspath(one) == os.path.abspath(other)


def _doubt(system: System, answer: ServerAnswer, served: Path, service: Service | None) -> str:
    """Return why a server is not believed, or nothing where it is."""
    owners = answer.owners
    if owners is None:
        return "whom that server belongs to is not known" if system.uid == 0 else ""
    if not owners:
        return "whom that server belongs to was not found"
    trusted = {0, system.uid}
    caller = _caller_of_sudo(system)
    if caller is not None:
        trusted.add(caller.uid)
    for uid in sorted(owners):
        user = user_numbered(uid, -1)
        if uid not in trusted and not (service is not None and service.user is not None and uid == service.user.uid):
            return f"that server belongs to {shown(user.name)}, who is neither this user nor the service's"
        if not _may_change(user, served):
            return f"{shown(user.name)}, to whom that server belongs, may not write there"
    return ""


def _may_change(user: User, root: Path) -> bool:
    """Return whether a user may add and remove models of a store; what can't be looked at counts as if so."""
    for folder in (root / name for name in (*MANIFEST_FOLDERS, "blobs")):
        try:
            status = os.stat(folder)
        except OSError:
            continue
        if not user.may(status, WRITE | PASS, access_list(folder)):
            return False
    return True


def _caller_of_sudo(system: System) -> User | None:
    name = system.environ.get("SUDO_USER", "")
    return user_named(name) if name and system.platform != "win32" else None
