"""Sign locks, and find out who has signed one: with the keys that people have, by OpenSSH's own program.

Source: ssh-keygen(1), "-Y sign", "-Y find-principals" and "-Y verify"; ``PROTOCOL.sshsig`` of OpenSSH. The namespace
keeps a signature that was made for something else (a commit, a login) from being taken for one of models.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from ollama_ferry.errors import NotAsLocked, NotFound, UsageError
from ollama_ferry.files.identity import as_started

NAMESPACE = "ollama-ferry"
"""What a signature is for (``namespaces=`` in a file of allowed signers)."""

SIGNATURE_LIMIT = 64 * 1024
"""The largest signature that is read, in bytes; one of RSA has about 1,500."""

_BEGIN = "-----BEGIN SSH SIGNATURE-----"
_SECONDS = 300.0
_SAID = 2000


def sign(text: str, key: Path) -> str:
    """Sign a text.

    Args:
        text: such as that of a lock.
        key: a private key, or a public one whose private half an agent or a FIDO token has.

    Returns:
        The signature, as ``ssh-keygen -Y sign`` writes it.

    Raises:
        UsageError: OpenSSH is not there, or can't sign with that key.
    """
    if not key.is_file():
        raise NotFound(f"there is no key {key}", hint="ls ~/.ssh/*.pub shows yours; ssh-keygen -t ed25519 makes one.")
    # The passphrase or the touch of a token is asked for on the terminal, by ssh-keygen itself.
    done = _run(["sign", "-f", str(key), "-n", NAMESPACE], text, asking=True)
    if done.returncode or _BEGIN not in done.stdout:
        raise UsageError(f"can't sign with {key}: {_words(done)}")
    return done.stdout


# The file may be root's alone, and whoever's store is written to has no hand in the check.
@as_started()
def signer(text: str, signature: str, allowed: Path, label: str) -> str:
    """Return who has signed a text.

    Args:
        text: what should have been signed.
        signature: as :func:`sign` returned it.
        allowed: a file of allowed signers (ssh-keygen(1), "ALLOWED SIGNERS").
        label: what the text is of, for messages.

    Returns:
        The principal, as that file names it.

    Raises:
        NotAsLocked: nobody of that file has signed it, or it was changed since.
        NotFound, UsageError: there is no such file, or OpenSSH is not there.
    """
    if not allowed.is_file():
        raise NotFound(f"there is no file of allowed signers {allowed}")
    with tempfile.TemporaryDirectory(prefix="ollama-ferry-") as folder:
        file = Path(folder) / "signature"
        file.write_text(signature, encoding="ascii", errors="replace")
        common = ["-s", str(file), "-f", str(allowed)]
        found = _run(["find-principals", *common], "")
        principals = found.stdout.splitlines()
        if found.returncode or not principals:
            raise NotAsLocked(
                f"{label}: the signature is of nobody whom {allowed} allows", hint=f"ssh-keygen said: {_words(found)}"
            )
        done = _run(["verify", *common, "-I", principals[0], "-n", NAMESPACE], text)
    if done.returncode:
        raise NotAsLocked(
            f"{label}: these are not the models that {principals[0]} has signed",
            hint=f"ssh-keygen said: {_words(done)}",
        )
    return principals[0]


def read_signature(path: Path) -> str | None:
    """Return the signature in a file; None where there is no such file.

    Raises:
        NotAsLocked: it is none.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(SIGNATURE_LIMIT + 1)
    except FileNotFoundError:
        return None
    text = raw.decode("ascii", "replace")
    if len(raw) > SIGNATURE_LIMIT or not text.startswith(_BEGIN):
        raise NotAsLocked(f"{path} is no signature of ssh-keygen")
    return text


def _run(words: list[str], text: str, *, asking: bool = False) -> subprocess.CompletedProcess[str]:
    """Run ssh-keygen; where it may ask for a passphrase or a touch, what it says goes to the terminal."""
    program = shutil.which("ssh-keygen")
    if program is None:
        raise UsageError(
            "ssh-keygen is not installed, and signatures are its work", hint="Install OpenSSH 8.2 or later."
        )
    try:
        return subprocess.run(
            [program, "-Y", *words],
            input=text,
            encoding="utf-8",
            errors="replace",
            stdout=subprocess.PIPE,
            stderr=None if asking else subprocess.PIPE,
            timeout=_SECONDS,
            check=False,
            env={**os.environ, "LC_ALL": "C"},
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UsageError(f"ssh-keygen could not be run: {error}") from error


def _words(done: subprocess.CompletedProcess[str]) -> str:
    lines = [line for line in ((done.stderr or "") + done.stdout).splitlines() if line.strip()]
    return repr(lines[-1][:_SAID])[1:-1] if lines else f"it ended with {done.returncode}"
