"""The command line. The environment, the terminal and signals are dealt with here and nowhere else."""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType

import click

from ollama_ferry.cli.commands import ferry
from ollama_ferry.cli.remedies import hint_of
from ollama_ferry.cli.terminal import say, say_lines
from ollama_ferry.errors import BrokenStream, FerryError, NotPermitted, exhaustion_of


def main() -> None:
    """Run the command line and leave the process with an exit code of :mod:`ollama_ferry.errors`."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command.

    Args:
        arguments: without the program's name.

    Returns:
        The exit code. Whatever goes wrong is reported on stderr in one message.
    """
    previous = signal.signal(signal.SIGTERM, _interrupt)
    try:
        ferry.main(arguments, prog_name="ollama-ferry", standalone_mode=False)
        if sys.stdout is not None:
            sys.stdout.flush()
    except FerryError as error:
        if isinstance(error, BrokenStream):
            # Python would try to flush what is left at its exit, and complain.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _print_error(error.message, _hint(error, arguments), error.exit_code)
    except click.exceptions.Exit as stop:
        return int(stop.exit_code)
    except click.UsageError as error:
        where = error.ctx.command_path if error.ctx else "ollama-ferry"
        say_lines(f"error: {error.format_message().expandtabs(4)}", err=True)
        if error.ctx:
            say_lines(error.ctx.get_usage(), err=True)
        say(f"  `{where} --help` says more.", err=True)
        return 2
    except (click.Abort, KeyboardInterrupt):
        return _print_error(
            "interrupted",
            "Run the same command again: no final name has half a file, and import and send go on.",
            130,
        )
    except UnicodeError as error:
        # Of a host, most likely: the network takes no such name.
        return _print_error(f"a name can't be used as it is written: {error}", "", 2)
    except OSError as error:
        return _print_error(f"the operating system refused: {error}", "", 1)
    except Exception as error:
        exhausted = exhaustion_of(error)
        if exhausted is not None:
            return _print_error(exhausted.message, _hint(exhausted, arguments), exhausted.exit_code)
        if os.environ.get("OLLAMA_FERRY_DEBUG"):
            raise
        return _print_error(
            f"internal error: {type(error).__name__}: {error}",
            "This is a mistake in ollama-ferry. Run it again with OLLAMA_FERRY_DEBUG=1 and report what it prints.",
            1,
        )
    finally:
        signal.signal(signal.SIGTERM, previous)
    return 0


def _interrupt(number: int, frame: FrameType | None) -> None:
    # A service manager's stop is to leave as little behind as Ctrl-C does.
    raise KeyboardInterrupt


def _hint(error: FerryError, arguments: list[str]) -> str:
    hint = hint_of(error, next((word for word in arguments if not word.startswith("-")), ""))
    if isinstance(error, NotPermitted) and not hint and hasattr(os, "geteuid") and os.geteuid() != 0:
        from ollama_ferry.cli.sudo import sudo_line

        return f"Run it as root:\n  {sudo_line(sys.argv, os.environ)}"
    return hint


def _print_error(message: str, hint: str, code: int) -> int:
    say(f"error: {message}", err=True)
    if hint:
        say_lines(hint, err=True, indent="  ")
    return code
