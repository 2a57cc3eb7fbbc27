"""Programs that keep logins for docker and its kin: asked for one, and never believed further than that.

Source: the protocol of docker-credential-helpers. The name of a registry goes in, a JSON document comes out.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import Mapping

from ollama_ferry.errors import FerryError
from ollama_ferry.files.identity import as_started

_ANSWER_LIMIT = 64 * 1024


def ask_helper(name: str, registry: str, environ: Mapping[str, str], seconds: float) -> tuple[str, str] | None:
    """Ask a helper for the login of a registry.

    Args:
        name: of the helper, as a configuration has it: ``pass`` for the program ``docker-credential-pass``.
        registry: under which name it may keep the login.
        environ: the environment's variables; its ``PATH`` is searched.
        seconds: how long it may take.

    Returns:
        Name and secret; None where it knows no such login.

    Raises:
        FerryError: the name is none, the program can't be run, or it fails in another way.
    """
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}", name):
        raise FerryError(f"{name[:100]!r} is no name of a credential helper")
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
    return (username, secret) if username or secret else None


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
        raise FerryError(f"{program} failed to give the login for {registry}: {text.strip()[:200]!r}")
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
