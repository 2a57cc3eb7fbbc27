"""Logins that docker, podman or skopeo keep: where they are looked for, and which one counts. We keep none ourselves.

Source: ``containers-auth.json(5)`` of the containers project; docker's ``config.json`` (``auths``, ``credsStore``,
``credHelpers``), its legacy ``.dockercfg`` and its variable ``DOCKER_AUTH_CONFIG``.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from ollama_ferry.errors import Damaged, FerryError, NotPermitted
from ollama_ferry.files.identity import as_started
from ollama_ferry.model.manifests import parse_json
from ollama_ferry.registries.credential_helpers import ask_helper
from ollama_ferry.registries.docker_hub import HUB_KEY, hub_names

_FILE_LIMIT = 1024 * 1024
_HELPER_SECONDS = 30.0
# The user that a helper names where the secret is a token for the token server, and no password.
_TOKEN_USER = "<token>"  # noqa: S105 -- a marker, and no secret
_LOG_IN_ANEW = "Log in anew, which writes it."
_VARIABLE = "DOCKER_AUTH_CONFIG"
_LEGACY = ".dockercfg"
# Logins of a machine that has a runtime folder for each user, where its variable is not set: root's, mostly.
_RUNTIME = Path("/run")


@dataclass(frozen=True)
class Credential:
    """A login. None of the secrets is ever shown.

    Attributes:
        username: who logs in.
        password: empty where there is a token.
        identity_token: what the token server takes instead of a password.
        registry_token: what the registry itself takes, without a token server.
        origin: where it was found, for people.
    """

    username: str
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)
    registry_token: str = field(default="", repr=False)
    origin: str = ""


def find_credential(
    registry: str,
    environ: Mapping[str, str],
    repository: str = "",
    *,
    seconds: float = _HELPER_SECONDS,
    runtime: Path = _RUNTIME,
) -> Credential | None:
    """Return the login for a repository that is kept for docker or its kin; None where there is none.

    What the environment names comes first: ``DOCKER_AUTH_CONFIG`` (a document), ``REGISTRY_AUTH_FILE``,
    ``DOCKER_CONFIG`` (a folder). Then the files of ``containers-auth.json(5)`` in its order:
    ``${XDG_RUNTIME_DIR}/containers/auth.json`` (on Linux without that variable ``/run/containers/UID/auth.json``),
    ``${XDG_CONFIG_HOME}/containers/auth.json`` (else ``~/.config``), ``~/.docker/config.json`` and ``~/.dockercfg``.

    In each a helper goes before what is in the file, and the longest key that covers the repository before the others.
    What can't be read does not keep a login from being found elsewhere.

    Args:
        registry: host and port as the user wrote them.
        environ: the environment's variables.
        repository: in the registry; empty for none.
        seconds: how long a helper may take.
        runtime: where the system has the runtime folders of its users.

    Raises:
        FerryError: there is none, and a file can't be read, or a helper fails in another way than by knowing no login.
    """
    wanted = _Wanted(hub_names(registry), repository, environ, seconds)
    trouble: FerryError | None = None
    for read in (partial(_from_variable, environ), *(partial(_read, path) for path in _files(environ, runtime))):
        try:
            found = read()
            credential = wanted.find(found) if found is not None else None
        except FerryError as error:
            trouble = trouble or error
            continue
        if credential is not None:
            return credential
    if trouble is not None:
        raise trouble
    return None


@dataclass(frozen=True)
class _Logins:
    """The logins that one place holds.

    Attributes:
        document: a configuration in docker's form, its keys folded.
        origin: what it is called in messages.
    """

    document: dict[str, Any]
    origin: str


def _files(environ: Mapping[str, str], runtime: Path) -> Iterator[Path]:
    if environ.get("REGISTRY_AUTH_FILE"):
        yield Path(environ["REGISTRY_AUTH_FILE"])
    if environ.get("DOCKER_CONFIG"):
        yield Path(environ["DOCKER_CONFIG"]) / "config.json"
    below = Path("containers/auth.json")
    if environ.get("XDG_RUNTIME_DIR"):
        yield Path(environ["XDG_RUNTIME_DIR"]) / below
    elif sys.platform == "linux":
        yield runtime / "containers" / str(os.getuid()) / "auth.json"
    home = environ.get("HOME") or environ.get("USERPROFILE")
    if environ.get("XDG_CONFIG_HOME"):
        yield Path(environ["XDG_CONFIG_HOME"]) / below
    elif home:
        yield Path(home) / ".config" / below
    if home and not environ.get("DOCKER_CONFIG"):
        yield Path(home) / ".docker/config.json"
    if home:
        yield Path(home) / _LEGACY


def _from_variable(environ: Mapping[str, str]) -> _Logins | None:
    text = environ.get(_VARIABLE, "")
    return _parsed(text.encode(), f"the variable {_VARIABLE}") if text.strip() else None


def _read(path: Path) -> _Logins | None:
    try:
        with as_started(), path.open("rb") as file:
            raw = file.read(_FILE_LIMIT + 1)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise NotPermitted(
            f"can't read the logins in {path}: {error.strerror}", hint="DOCKER_CONFIG=DIR names another folder."
        ) from error
    found = _parsed(raw, str(path))
    # The file of old has the entries alone.
    return _Logins({"auths": found.document}, found.origin) if path.name == _LEGACY else found


def _parsed(raw: bytes, origin: str) -> _Logins:
    try:
        document = parse_json(raw) if len(raw) <= _FILE_LIMIT else None
    except Damaged as error:
        raise FerryError(f"the logins in {origin} can't be read: {error}", hint=_LOG_IN_ANEW) from error
    if not isinstance(document, dict):
        raise FerryError(f"the logins in {origin} can't be read: not a JSON object", hint=_LOG_IN_ANEW)
    return _Logins(document, origin)


@dataclass(frozen=True)
class _Wanted:
    """The login that is looked for.

    Attributes:
        hosts: what the registry is called, the user's own word first; several for Docker Hub alone.
        repository: in it; empty for none.
        environ: the environment's variables.
        seconds: how long a helper may take.
    """

    hosts: tuple[str, ...]
    repository: str
    environ: Mapping[str, str]
    seconds: float

    def find(self, logins: _Logins) -> Credential | None:
        """Look into one place."""
        return self._from_helper(logins.document) or self._from_entries(logins)

    def _from_helper(self, document: dict[str, Any]) -> Credential | None:
        helpers = document.get("credhelpers")
        by_registry = helpers if isinstance(helpers, dict) else {}
        keys = [key for key in self._server_keys() if key.casefold() in by_registry]
        # An empty name means the file itself, whatever the others are kept by.
        name = by_registry[keys[0].casefold()] if keys else document.get("credsstore")
        if not isinstance(name, str) or not name:
            return None
        for key in keys or self._server_keys():
            answer = ask_helper(name, key, self.environ, self.seconds)
            if answer is None:
                continue
            username, secret = answer
            program = f"docker-credential-{name}"
            if username == _TOKEN_USER:
                return Credential("", identity_token=secret, origin=program)
            return Credential(username, secret, origin=program)
        return None

    def _server_keys(self) -> tuple[str, ...]:
        """Return the names under which a helper may keep the login: of Docker Hub the one of old comes first."""
        return (HUB_KEY, *self.hosts) if len(self.hosts) > 1 else self.hosts

    def _from_entries(self, logins: _Logins) -> Credential | None:
        auths = logins.document.get("auths")
        if not isinstance(auths, dict):
            return None
        entries = {_place(key): entry for key, entry in reversed(auths.items()) if isinstance(entry, dict)}
        # What is spelt as it is meant goes before what a URL of old stands for.
        entries.update((key, entry) for key, entry in auths.items() if isinstance(entry, dict))
        for key in self._keys():
            if key in entries and (found := _decoded(entries[key], logins.origin)) is not None:
                return found
        return None

    def _keys(self) -> Iterator[str]:
        """Give what may name the login: the repository, each namespace that it is in, and the registry at last."""
        parts = self.repository.casefold().split("/") if self.repository else []
        for count in range(len(parts), -1, -1):
            for host in self.hosts:
                yield "/".join([host.casefold(), *parts[:count]])


def _place(key: str) -> str:
    """Return what an entry's key is for: of a URL, or of the API's path that is cut off at its end, the host alone."""
    place = re.sub(r"^https?://", "", key)
    return place.partition("/")[0] if place != key or place.endswith("/") else place


def _decoded(entry: dict[str, Any], origin: str) -> Credential | None:
    """Read an entry; None where it holds no login, as those have whose login a helper keeps."""
    username, password = _name_and_password(entry, origin)
    for name in ("identitytoken", "registrytoken"):
        token = entry.get(name)
        if isinstance(token, str) and token:
            identity, registry = (token, "") if name == "identitytoken" else ("", token)
            return Credential(username, identity_token=identity, registry_token=registry, origin=origin)
    return Credential(username, password, origin=origin) if username or password else None


def _name_and_password(entry: dict[str, Any], origin: str) -> tuple[str, str]:
    packed = entry.get("auth")
    if not isinstance(packed, str) or not packed:
        username, password = entry.get("username"), entry.get("password")
        return (username, password) if isinstance(username, str) and isinstance(password, str) else ("", "")
    try:
        text = base64.b64decode(re.sub(r"[\r\n]", "", packed), validate=True).decode("utf-8")
    except (binascii.Error, ValueError):
        raise FerryError(f"the login in {origin} can't be read", hint=_LOG_IN_ANEW) from None
    username, colon, password = text.partition(":")
    # What has no colon is passed over by others too.
    return (username, password.strip("\0")) if colon else ("", "")
