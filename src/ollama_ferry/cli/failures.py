"""How a command ends that failed: one message and what to do next, as text or as JSON, and the exit code."""

from __future__ import annotations

import os
import sys
from typing import NamedTuple

import click

from ollama_ferry.cli.remedies import hint_of
from ollama_ferry.cli.tables import wrapped
from ollama_ferry.cli.terminal import columns_of, is_terminal, say, say_json_line
from ollama_ferry.errors import (
    Cancelled,
    FerryError,
    NotPermitted,
    UsageError,
    exhaustion_of,
    system_error_of,
)

_REPORT = "This is a mistake in ollama-ferry. Run it again with OLLAMA_FERRY_DEBUG=1 and report what it prints."


class Failure(NamedTuple):
    """What is told of a command that failed.

    Attributes:
        kind: the class of the error, for programs: ``ModelNotFound``.
        message: what was being done, and why it failed.
        hint: what to do next, in lines; may be empty.
        code: the exit code.
    """

    kind: str
    message: str
    hint: str
    code: int

    def report(self, *, as_json: bool) -> int:
        """Say it on stderr, and return the exit code."""
        if as_json:
            fields = {"kind": self.kind, "error": self.message, "hint": self.hint, "exit_code": self.code}
            say_json_line({"event": "error", **fields})
            return self.code
        say(f"error: {self.message}", err=True, fg="red", bold=True, only="error:")
        width = columns_of(sys.stderr) - 2 if is_terminal(sys.stderr) else None
        for line in self.hint.split("\n") if self.hint else []:
            # What is indented is to be copied.
            for part in wrapped(line, width) if width and not line.startswith(" ") else [line]:
                say(f"  {part}", err=True)
        return self.code


def failure_of(error: BaseException, arguments: list[str]) -> Failure | None:
    """Return what to tell of an error; None where it is to be shown with its traceback.

    Args:
        error: what ended the command.
        arguments: without the program's name.
    """
    if isinstance(error, click.UsageError):
        return _of_usage(error)
    if isinstance(error, click.Abort | KeyboardInterrupt):
        error = Cancelled(
            "interrupted", hint="Run the same command again: no final name has half a file, and import and send go on."
        )
    elif isinstance(error, UnicodeError):
        # Of a host, most likely: the network takes no such name.
        error = UsageError(f"a name can't be used as it is written: {error}")
    elif isinstance(error, OSError):
        error = system_error_of(error)
    elif not isinstance(error, FerryError):
        exhausted = exhaustion_of(error)
        if exhausted is None:
            if os.environ.get("OLLAMA_FERRY_DEBUG"):
                return None
            return Failure("InternalError", f"internal error: {type(error).__name__}: {error}", _REPORT, 1)
        error = exhausted
    return Failure(type(error).__name__, error.message, _hint(error, arguments), error.exit_code)


# What other programs call an option of ours.
_ELSEWHERE = {
    "--to": "--models", "--into": "--models", "--store": "--models", "--dir": "--models", "--path": "--models",
    "--destination": "--models", "--name": "--as", "--rename": "--as", "--overwrite": "--force", "--replace": "--force",
    "--jobs": "--threads", "--limit-rate": "--bwlimit", "--rate": "--bwlimit", "--compression": "--compress",
    "--verify": "--checksum", "--tls-verify": "--insecure", "--size": "--split",
}  # fmt: skip


def _of_usage(error: click.UsageError) -> Failure:
    where = error.ctx.command_path if error.ctx else "ollama-ferry"
    usage = [error.ctx.get_usage()] if error.ctx else []
    message = error.format_message().expandtabs(4)
    if isinstance(error, click.NoSuchOption) and error.ctx is not None:
        ours = _ELSEWHERE.get(error.option_name, "")
        if any(ours in parameter.opts for parameter in error.ctx.command.params):
            message = f"{error.message} Did you mean {ours!r}?"
    hint = "\n".join([*usage, f"`{where} --help` says more."])
    return Failure("UsageError", message, hint, 2)


def _hint(error: FerryError, arguments: list[str]) -> str:
    hint = hint_of(error, next((word for word in arguments if not word.startswith("-")), ""))
    if isinstance(error, NotPermitted) and not error.hint and hasattr(os, "geteuid") and os.geteuid() != 0:
        from ollama_ferry.cli.sudo import sudo_line

        return "\n".join(filter(None, [f"Run it as root:\n  {sudo_line(sys.argv, os.environ)}", hint]))
    return hint
