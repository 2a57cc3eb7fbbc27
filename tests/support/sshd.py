"""A real sshd on 127.0.0.1, with keys and a configuration of its own."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Sshd:
    """A running server.

    Attributes:
        ssh: the command that logs in there, for ``--ssh``.
        port: where it listens.
        home: the home of whoever logs in.
        pid: of the listening process.
    """

    ssh: str
    port: int
    home: Path
    pid: int

    def kill_connections(self) -> None:
        """Cut every line at once."""
        for process in children(self.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)


def children(pid: int) -> list[int]:
    """Return the processes below one, the innermost first; none of one that has ended, whenever it did."""
    try:
        listed = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except (FileNotFoundError, ProcessLookupError):
        return []
    found: list[int] = []
    for child in listed:
        found += [*children(int(child)), int(child)]
    return found


@contextlib.contextmanager
def serving(folder: Path, *, path: str = "/usr/bin:/bin", shell: str = "", environ: str = "") -> Iterator[Sshd]:
    """Serve until the block ends.

    Args:
        folder: for keys, configuration and the home.
        path: the PATH over there.
        shell: what runs instead of the login shell; ``$SSH_ORIGINAL_COMMAND`` is the command.
        environ: more variables over there, as sshd's SetEnv takes them.
    """
    program = shutil.which("sshd") or "/usr/sbin/sshd"
    folder.mkdir(parents=True, exist_ok=True)
    home = folder / "home"
    home.mkdir(exist_ok=True)
    for key in ("host", "user"):
        if not (folder / key).exists():
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / key], check=True)
    shutil.copy(folder / "user.pub", folder / "authorized")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    lines = [
        f"Port {port}",
        "ListenAddress 127.0.0.1",
        f"HostKey {folder}/host",
        f"AuthorizedKeysFile {folder}/authorized",
        "StrictModes no",
        "UsePAM no",
        "PermitRootLogin yes",
        f"PidFile {folder}/pid",
        "Subsystem sftp internal-sftp",
        "MaxStartups 100",
        "MaxSessions 100",
        f"SetEnv PATH={path} HOME={home} OLLAMA_MODELS={home}/.ollama/models {environ}",
    ]
    if shell:
        lines.append(f"ForceCommand {shell}")
    (folder / "sshd_config").write_text("\n".join(lines) + "\n")
    Path("/run/sshd").mkdir(exist_ok=True)
    client = [
        "Host *", f"  Port {port}", "  HostName 127.0.0.1", f"  IdentityFile {folder}/user", "  IdentitiesOnly yes",
        f"  UserKnownHostsFile {folder}/known", "  StrictHostKeyChecking accept-new", "  LogLevel ERROR",
        "  ConnectTimeout 20",
    ]  # fmt: skip
    (folder / "ssh_config").write_text("\n".join(client) + "\n")
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([program, "-D", "-e", "-f", folder / "sshd_config"], stderr=log)
    try:
        deadline = time.monotonic() + 120
        while True:
            assert process.poll() is None and time.monotonic() < deadline, (folder / "log").read_text()
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            time.sleep(0.05)
        yield Sshd(f"ssh -F {folder}/ssh_config", port, home, process.pid)
    finally:
        for child in children(process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        process.terminate()
        process.wait(20)
