"""The line to another host: the system's ssh, with the user's own configuration."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from typing import IO

from ollama_ferry.engine.rate import RateLimit
from ollama_ferry.errors import FerryError, NotPermitted, Remedy, Unreachable, UsageError
from ollama_ferry.files.identity import as_started
from ollama_ferry.places.ssh.refusals import host_refusal
from ollama_ferry.places.ssh.scripts import BOOTSTRAP
from ollama_ferry.shell_lines import quoted

_STDERR_LIMIT = 16 * 1024
_LINE_LIMIT = 64 * 1024
# All lines of one answer together, in bytes.
_ANSWER_LIMIT = 64 * 1024 * 1024
# What ssh itself ends with where it has reached nobody.
_SSH_FAILED = 255
_PROBE_SECONDS = 15
# By cmd and by PowerShell, in English.
_SAID_BY_WINDOWS = (b"is not recognized as an internal", b"is not recognized as the name of", b"CommandNotFound")
# The processor does AES; of the ciphers that the user's configuration allows these are asked for first.
_FAST_CIPHERS = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com")
# A socket's path has at most 104 bytes (macOS), and ssh makes a longer one for a moment.
_SOCKET_LIMIT = 104 - 18


@dataclass(frozen=True)
class SshOptions:
    """How hosts are called.

    Attributes:
        command: the program and its options, split into words.
        compress: let ssh compress.
        sudo: run as root over there, where sudo asks for no password.
        bytes_per_second: the most that crosses the line, either way; 0 for no limit.
    """

    command: tuple[str, ...] = ("ssh",)
    compress: bool = False
    sudo: bool = False
    bytes_per_second: int = 0


class SshConnection:
    """Runs scripts on a host; the first call logs in, and further ones share its connection where ssh can do that.

    Args:
        host: as ssh takes it: ``user@host``, a name of the user's configuration.
        port: or None for the configured one.
        options: how it is called.

    Raises:
        UsageError: the host is no name that ssh could take for one.
    """

    def __init__(self, host: str, port: int | None, options: SshOptions) -> None:
        if not host or host.startswith("-") or any(c.isspace() or not c.isprintable() for c in host):
            raise UsageError(f"{host[:100]!r} is no host")
        if shutil.which(options.command[0]) is None:
            raise UsageError(
                f"{options.command[0]} is not installed", hint="Install OpenSSH.", remedies=[Remedy("ssh")]
            )
        self.host = host
        self.options = options
        self.calls = 0
        self.sent = 0
        self.rate_limit = RateLimit(options.bytes_per_second)
        self.running: set[Call] = set()
        self._port = ["-p", str(port)] if port else []
        self._folder: str | None = None
        self._settings = self._chosen_settings()

    def __enter__(self) -> SshConnection:
        return self

    def __exit__(self, *_: object) -> None:
        # A call that failed as it began, or from which no more was wanted, has nobody else to end it.
        for call in list(self.running):
            call.__exit__(KeyboardInterrupt)
        if self._folder is not None:
            # Not waited for long: the connection ends by itself a minute later.
            with contextlib.suppress(OSError, subprocess.TimeoutExpired):
                subprocess.run(
                    [*self._base(), "-O", "exit", "--", self.host], capture_output=True, timeout=5, check=False
                )
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    def call(self, script: str, parameters: Iterable[str]) -> Call:
        """Begin to run a script.

        Args:
            script: of :mod:`ollama_ferry.places.ssh.scripts`.
            parameters: one a line.

        Raises:
            UsageError: a parameter holds a newline, which no path of a store has.
        """
        words = list(parameters)
        if any("\n" in word or "\0" in word for word in words):
            raise UsageError("a path with a newline in it is not sent to another host")
        self.calls += 1
        command = [*self._base(), *(["-C"] if self.options.compress else []), "--", self.host, self._remote()]
        try:
            # With the keys of whoever called, also while a store here is written as its owner.
            with as_started():
                process = subprocess.Popen(
                    command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0
                )
        except OSError as error:
            raise UsageError(f"{command[0]} can't be run: {error.strerror}") from error
        _widen(process.stdin)
        head = script.strip("\n") + "\n#end\n" + "".join(word + "\n" for word in words)
        call = Call(self, process)
        with contextlib.ExitStack() as stack:
            stack.enter_context(call)
            call.send(head.encode("utf-8", "surrogateescape"))
            stack.pop_all()
        return call

    def runs_windows(self) -> bool:
        """Ask the host whether it is one of Windows, without a question to the user; False where that stays open."""
        command = [*self._base(), "-o", "BatchMode=yes", "--", self.host, "cmd /c ver"]
        try:
            with as_started():
                asked = subprocess.run(
                    command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_PROBE_SECONDS, check=False
                )
        except (OSError, subprocess.TimeoutExpired):
            return False
        return b"Microsoft Windows" in asked.stdout

    def _remote(self) -> str:
        return f"sudo -n {BOOTSTRAP.removeprefix('exec ')}" if self.options.sudo else BOOTSTRAP

    def _base(self) -> list[str]:
        return [*self.options.command, *self._port, "-T", *self._settings]

    def _chosen_settings(self) -> list[str]:
        """Ask ssh for the user's settings, and add what they leave open: never against them."""
        try:
            asked = subprocess.run(
                [*self.options.command, "-G", "--", self.host], capture_output=True, text=True, timeout=10, check=False
            )
        except (OSError, subprocess.TimeoutExpired, UnicodeDecodeError):
            return []
        settings = dict(line.partition(" ")[::2] for line in asked.stdout.splitlines())
        if asked.returncode:
            return []
        chosen: list[str] = []
        ciphers = settings.get("ciphers", "").split(",")
        fast = [cipher for cipher in _FAST_CIPHERS if cipher in ciphers]
        if fast:
            rest = [cipher for cipher in ciphers if cipher not in fast]
            chosen += ["-o", f"Ciphers={','.join([*fast, *rest])}"]
        if settings.get("serveraliveinterval") == "0":
            # A host that has gone is noticed within a minute.
            chosen += ["-o", "ServerAliveInterval=15", "-o", "ServerAliveCountMax=4"]
        if os.name != "nt" and settings.get("controlpath", "none") == "none":
            chosen += self._sharing()
        return chosen

    def _sharing(self) -> list[str]:
        """Share one login among the calls."""
        self._folder = tempfile.mkdtemp(prefix="ferry-", dir="/tmp" if os.path.isdir("/tmp") else None)  # noqa: S108
        path = f"{self._folder}/s"
        if len(os.fsencode(path)) > _SOCKET_LIMIT:
            return []
        return ["-o", "ControlMaster=auto", "-o", f"ControlPath={path}", "-o", "ControlPersist=60"]


class Call:
    """A script that runs on the other host."""

    def __init__(self, line: SshConnection, process: subprocess.Popen[bytes]) -> None:
        self._line = line
        self._process = process
        self._buffer = b""
        self._answered = 0
        line.running.add(self)

    def __enter__(self) -> Call:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self._process.kill()
        for pipe in (self._stdin, self._stdout, self._stderr):
            with contextlib.suppress(OSError):
                pipe.close()
        self._process.wait()
        self._line.running.discard(self)

    def kill(self) -> None:
        """End the call at once, from any thread; whoever sends or reads on it gets an error."""
        with contextlib.suppress(OSError):
            self._process.kill()

    def send(self, data: bytes | memoryview) -> None:
        """Send bytes, no faster than is allowed.

        Raises:
            Unreachable: the line broke.
        """
        view = memoryview(data)
        limit = self._line.rate_limit
        while view:
            part = view[: limit.chunk(len(view))]
            try:
                count = os.write(self._stdin.fileno(), part)
            except OSError as error:
                # What the other side has said is a better reason than that it does not listen any more.
                raise self._failure() from error
            view = view[count:]
            self._line.sent += count
            limit.wait(count)

    def end_of_data(self) -> None:
        """Tell the script that nothing more comes."""
        with contextlib.suppress(OSError):
            self._stdin.close()

    def line(self) -> str:
        """Return the next line of the answer.

        Raises:
            FerryError: the script failed, or the line broke.
        """
        while b"\n" not in self._buffer:
            if len(self._buffer) > _LINE_LIMIT:
                raise FerryError(f"{self._line.host} answered with something else than was asked for")
            more = self._stdout.read(65536)
            if not more:
                raise self._failure()
            self._buffer += more
        raw, _, self._buffer = self._buffer.partition(b"\n")
        self._answered += len(raw) + 1
        if self._answered > _ANSWER_LIMIT:
            raise FerryError(f"{self._line.host} answers without an end")
        text = raw.decode("utf-8", "surrogateescape")
        if text.startswith("error "):
            raise self._refused(text.removeprefix("error "))
        return text

    def read(self, size: int, /) -> bytes:
        """Return at most so many bytes of the answer, and none only at its end."""
        if self._buffer:
            chunk, self._buffer = self._buffer[:size], self._buffer[size:]
            return chunk
        limit = self._line.rate_limit
        chunk = self._stdout.read(limit.chunk(size)) or b""
        limit.wait(len(chunk))
        return chunk

    def expect_end(self) -> None:
        """Wait until the script has done all.

        Raises:
            FerryError: it has not.
        """
        if self.line() != "end":
            raise FerryError(f"{self._line.host} answered with something else than was asked for")

    @property
    def _stdin(self) -> IO[bytes]:
        assert self._process.stdin is not None  # noqa: S101 -- made with a pipe
        return self._process.stdin

    @property
    def _stdout(self) -> IO[bytes]:
        assert self._process.stdout is not None  # noqa: S101 -- made with a pipe
        return self._process.stdout

    @property
    def _stderr(self) -> IO[bytes]:
        assert self._process.stderr is not None  # noqa: S101 -- made with a pipe
        return self._process.stderr

    def _failure(self) -> FerryError:
        """Say why the other side says nothing more."""
        with contextlib.suppress(OSError):
            self._stdin.close()
        rest = b""
        with contextlib.suppress(OSError, ValueError):
            rest = self._buffer + (self._stdout.read(65536) or b"")
        for raw in rest.splitlines():
            if raw.startswith(b"error "):
                return self._refused(raw[6:].decode("utf-8", "replace"))
        said = b""
        with contextlib.suppress(OSError, ValueError):
            said = self._stderr.read(_STDERR_LIMIT) or b""
        code = self._process.wait()
        lines = [line for line in said.decode("utf-8", "replace").splitlines() if line.strip()]
        why = repr(lines[-1][:300])[1:-1] if lines else f"ssh ended with {code}"
        host = self._line.host
        # cmd and PowerShell know no exec, and say so in the language of the machine. A second call may want a password.
        told = any(words in said for words in _SAID_BY_WINDOWS)
        if not self._answered and code not in (0, _SSH_FAILED) and (told or self._line.runs_windows()):
            return host_refusal(host, "windows")
        if "sudo:" in why:
            return NotPermitted(f"sudo on {host} asks for a password: {why}", hint=f"ssh -t {quoted(host)} sudo true")
        return Unreachable(
            f"the line to {host} {'broke' if self._line.sent > 100_000 else 'could not be used'}: {why}",
            hint=f"Try: {' '.join(self._line.options.command)} {quoted(host)} true\n"
            "What has arrived is kept, and the same command resumes.",
        )

    def _refused(self, reason: str) -> FerryError:
        return host_refusal(self._line.host, reason)


def _widen(pipe: IO[bytes] | None) -> None:
    """Let a pipe hold a megabyte where that can be asked for (Linux): fewer turns between the two ends."""
    try:
        import fcntl

        assert pipe is not None  # noqa: S101 -- made with a pipe
        fcntl.fcntl(pipe.fileno(), fcntl.F_SETPIPE_SZ, 1024 * 1024)
    except (ImportError, AttributeError, OSError):
        pass
