"""Logins that docker, podman or skopeo keep: their files, and the helpers that these name. We keep none ourselves.

Source: docker's ``config.json`` (``auths``, ``credsStore``, ``credHelpers``) and the protocol of
docker-credential-helpers; ``containers-auth.json(5)`` of the containers project.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ollama_ferry.errors import Damaged, FerryError, NotPermitted
from ollama_ferry.files.identity import as_started
from ollama_ferry.model.manifests import parse_json

_FILE_LIMIT = 1024 * 1024
_ANSWER_LIMIT = 64 * 1024
_HELPER_SECONDS = 30.0
# The user that a helper names where the secret is a token for the token server, and no password.
_TOKEN_USER = "<token>"  # noqa: S105 -- a marker, and no secret


@dataclass(frozen=True)
class Credential:
    """A login. Neither secret is ever shown.

    Attributes:
        username: who logs in.
        password: empty where there is an identity token.
        identity_token: what the token server takes instead of a password.
        origin: where it was found, for people.
    """

    username: str
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)
    origin: str = ""


def find_credential(
    registry: str, environ: Mapping[str, str], *, seconds: float = _HELPER_SECONDS
) -> Credential | None:
    """Return the login for a registry that is kept for docker or its kin; None where there is none.

    Docker's file comes first (``DOCKER_CONFIG``, else ``~/.docker``), then that of podman and skopeo
    (``REGISTRY_AUTH_FILE``, else ``${XDG_RUNTIME_DIR}/containers/auth.json``). In each a helper goes before what is in
    the file.

    Args:
        registry: host and port as the user wrote them.
        environ: the environment's variables.
        seconds: how long a helper may take.

    Raises:
        FerryError: a file can't be read, or a helper fails in another way than by knowing no such login.
    """
    for path in _files(environ):
        config = _read(path)
        if config is None:
            continue
        found = _from_helper(registry, config, environ, seconds) or _from_file(registry, config, path)
        if found is not None:
            return found
    return None


def _files(environ: Mapping[str, str]) -> Iterator[Path]:
    home = environ.get("HOME") or environ.get("USERPROFILE")
    if environ.get("DOCKER_CONFIG"):
        yield Path(environ["DOCKER_CONFIG"]) / "config.json"
    elif home:
        yield Path(home) / ".docker/config.json"
    if environ.get("REGISTRY_AUTH_FILE"):
        yield Path(environ["REGISTRY_AUTH_FILE"])
    elif environ.get("XDG_RUNTIME_DIR"):
        yield Path(environ["XDG_RUNTIME_DIR"]) / "containers/auth.json"


def _read(path: Path) -> dict[str, Any] | None:
    try:
        with as_started(), path.open("rb") as file:
            raw = file.read(_FILE_LIMIT + 1)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise NotPermitted(
            f"can't read the logins in {path}: {error.strerror}", hint="DOCKER_CONFIG=DIR names another folder."
        ) from error
    try:
        document = parse_json(raw) if len(raw) <= _FILE_LIMIT else None
    except Damaged as error:
        raise FerryError(
            f"the logins in {path} can't be read: {error}", hint="Log in anew, which writes it."
        ) from error
    if not isinstance(document, dict):
        raise FerryError(f"the logins in {path} can't be read: not a JSON object", hint="Log in anew, which writes it.")
    return document


def _from_helper(
    registry: str, config: dict[str, Any], environ: Mapping[str, str], seconds: float
) -> Credential | None:
    helpers = config.get("credhelpers")
    name = helpers.get(registry.casefold()) if isinstance(helpers, dict) else None
    if not isinstance(name, str) or not name:
        name = config.get("credsstore")
    if not isinstance(name, str) or not name:
        return None
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}", name):
        raise FerryError(f"{name[:100]!a} is no name of a credential helper")
    program = f"docker-credential-{name}"
    answer = _ask(program, registry, environ, seconds)
    if answer is None:
        return None
    try:
        document = json.loads(answer)
        username, secret = document["Username"], document["Secret"]
    except (ValueError, KeyError, TypeError, RecursionError):
        username = secret = None
    if not isinstance(username, str) or not isinstance(secret, str):
        raise FerryError(f"{program} gave no login for {registry}, but something else")
    if username == _TOKEN_USER:
        return Credential("", identity_token=secret, origin=program)
    return Credential(username, secret, origin=program) if username or secret else None


def _ask(program: str, registry: str, environ: Mapping[str, str], seconds: float) -> str | None:
    """Run a helper; None where it knows no such login."""
    # What it prints goes through a pipe that is read to a limit, so that it can't fill the memory.
    try:
        with as_started():
            helper = subprocess.Popen(
                [_found(program, environ), "get"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=dict(environ),
                # With what it starts, it can be ended as a whole.
                start_new_session=True,
            )
    except OSError as error:
        raise FerryError(
            f"the login for {registry} is kept by {program}, which can't be run: {error.strerror}",
            hint=f"Install {program}, or take it out of docker's config.json and log in again.",
        ) from error
    from threading import Event, Timer

    late = Event()

    def end() -> None:
        late.set()
        _kill(helper)

    timer = Timer(seconds, end)
    timer.start()
    try:
        with helper:
            assert helper.stdin is not None  # noqa: S101 -- asked for above
            assert helper.stdout is not None  # noqa: S101 -- asked for above
            try:
                helper.stdin.write(registry.encode())
                helper.stdin.close()
            except BrokenPipeError:
                pass
            answer = helper.stdout.read(_ANSWER_LIMIT + 1)
            if len(answer) > _ANSWER_LIMIT:
                _kill(helper)
    except BaseException:
        _kill(helper)
        raise
    finally:
        timer.cancel()
    if len(answer) > _ANSWER_LIMIT:
        raise FerryError(f"{program} gave more than {_ANSWER_LIMIT} bytes as the login for {registry}")
    if late.is_set():
        raise FerryError(f"{program} gave no login for {registry} within {seconds:g} s")
    if helper.returncode < 0:
        raise FerryError(f"{program} was ended by signal {-helper.returncode}, and gave no login for {registry}")
    text = answer.decode("utf-8", "replace")
    if helper.returncode:
        if "credentials not found" in text.lower():
            return None
        # Helpers tell of an error on stdout; it may hold anything, so it is shown short and escaped.
        raise FerryError(f"{program} failed to give the login for {registry}: {text.strip()[:200]!a}")
    return text


def _kill(helper: subprocess.Popen[bytes]) -> None:
    """End a helper and what it has started."""
    try:
        os.killpg(helper.pid, signal.SIGKILL)
    except (AttributeError, OSError):
        helper.kill()


def _found(program: str, environ: Mapping[str, str]) -> str:
    import shutil

    return shutil.which(program, path=environ.get("PATH")) or program


def _from_file(registry: str, config: dict[str, Any], path: Path) -> Credential | None:
    auths = config.get("auths")
    if not isinstance(auths, dict):
        return None
    for key, entry in auths.items():
        host, _, path_part = re.sub(r"^https?://", "", key).partition("/")
        # A login for one repository only is not one for the registry.
        if host != registry.casefold() or path_part.strip("/") not in ("", "v1", "v2") or not isinstance(entry, dict):
            continue
        username, password = _decoded(entry, path)
        token = entry.get("identitytoken")
        if isinstance(token, str) and token:
            return Credential(username, identity_token=token, origin=str(path))
        if username or password:
            return Credential(username, password, origin=str(path))
    return None


def _decoded(entry: dict[str, Any], path: Path) -> tuple[str, str]:
    packed = entry.get("auth")
    if not isinstance(packed, str) or not packed:
        username, password = entry.get("username"), entry.get("password")
        return (username, password) if isinstance(username, str) and isinstance(password, str) else ("", "")
    try:
        text = base64.b64decode(packed, validate=True).decode("utf-8")
    except (binascii.Error, ValueError):
        raise FerryError(f"the login in {path} can't be read", hint="Log in anew, which writes it.") from None
    username, _, password = text.partition(":")
    return username, password.rstrip("\0")
