"""The command line. The environment, the terminal and signals are dealt with here and nowhere else."""

from __future__ import annotations

import io
import os
import signal
import sys
from types import FrameType

import click

from ollama_ferry.cli.commands import COMMANDS, ferry
from ollama_ferry.cli.configuration import environment_set, read_configuration
from ollama_ferry.cli.failures import failure_of
from ollama_ferry.cli.terminal import is_terminal
from ollama_ferry.errors import BrokenStream

# By this variable a shell asks what fits.
# A service manager's stop, and on Windows Ctrl-Break, are to leave as little behind as Ctrl-C does.
_ENDS = [getattr(signal, name) for name in ("SIGTERM", "SIGBREAK") if hasattr(signal, name)]
COMPLETE = "_OLLAMA_FERRY_COMPLETE"


def main() -> None:
    """Run the command line and leave the process with an exit code of :mod:`ollama_ferry.errors`."""
    _speak_utf8()
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command.

    Args:
        arguments: without the program's name.

    Returns:
        The exit code. Whatever goes wrong is reported on stderr in one message.
    """
    if COMPLETE in os.environ:
        from ollama_ferry.cli.completions import register

        register()
    previous = {number: signal.signal(number, _interrupt) for number in _ENDS}
    try:
        configuration = read_configuration(COMMANDS)
        with environment_set(configuration):
            ferry.main(arguments, prog_name="ollama-ferry", standalone_mode=False, obj=configuration)
        if sys.stdout is not None:
            sys.stdout.flush()
    except click.exceptions.Exit as stop:
        return int(stop.exit_code)
    except (Exception, KeyboardInterrupt) as error:
        if isinstance(error, BrokenStream):
            # Python would try to flush what is left at its exit, and complain.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        failure = failure_of(error, arguments)
        if failure is None:
            raise
        return failure.report(as_json="--json" in arguments or bool(os.environ.get("OLLAMA_FERRY_JSON")))
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    return 0


def _speak_utf8() -> None:
    """Have pipes and files get UTF-8 on Windows, whose code pages know few of the names that models have.

    A terminal is written to in Unicode anyway. Who has asked Python for another encoding gets that.
    """
    if os.name != "nt" or os.environ.get("PYTHONIOENCODING"):
        return
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and not is_terminal(stream):
            stream.reconfigure(encoding="utf-8")


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
