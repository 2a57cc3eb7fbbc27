"""The commands by name. A command's module is imported when the command runs, so that the others cost nothing."""

from __future__ import annotations

from importlib import import_module

import click

from ollama_ferry._version import __version__
from ollama_ferry.cli.configuration import Configuration, prepare
from ollama_ferry.cli.terminal import say_lines

COMMANDS = {
    "export": "Export models into an archive that plain tar restores.",
    "import": "Import models of an archive into the store: verified, atomic, resumable.",
    "send": "Send models to other machines over ssh, or into a folder: only what is missing.",
    "fetch": "Fetch models from another machine, or from a folder.",
    "push": "Push models to a registry: only what is missing there.",
    "pull": "Pull models out of registries, into the store or straight into an archive.",
    "serve": "Serve models to other machines, which get them by `ollama pull`.",
    "list": "List the models of the store, an archive, or another host.",
    "show": "Show a model's manifest and layers.",
    "verify": "Hash every blob of the store, an archive, or another host.",
    "lock": "Print exactly which models these are, for import, pull, send and verify to be held to.",
    "inventory": "Print what this machine has, so that an export elsewhere can leave it out.",
    "kit": "Write this program beside the models, for a machine without a network.",
    "prune": "Put what no model names into a trash folder, and back.",
    "doctor": "Find what is wrong with Ollama's models on this machine.",
    "config": "Show what variables and the file of options set.",
    "demo": "Try everything out on a small sample; needs no Ollama.",
    "completion": "Print the shell's completion script.",
}


# What other programs call it. Each is answered with ours, and none is one: a word has one meaning here.
_ELSEWHERE = {
    "ls": "list", "ps": "list", "models": "list", "search": "list", "info": "show", "inspect": "show",
    "save": "export", "backup": "export", "pack": "export", "dump": "export", "tar": "export",
    "load": "import", "restore": "import", "unpack": "import", "extract": "import",
    "copy": "send", "cp": "send", "sync": "send", "upload": "push", "download": "pull", "get": "fetch",
    "check": "verify", "repair": "verify", "fix": "doctor", "status": "doctor", "sign": "lock",
    "autocomplete": "completion",
}  # fmt: skip
_OLLAMAS = {"run", "create", "rm", "stop", "launch"}


class _Commands(click.Group):
    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args[:1] == ["help"]:
            args = [*args[1:2], "--help"]
        elif args[:1] == ["version"]:
            args = ["--version"]
        return super().parse_args(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command = import_module(f"ollama_ferry.cli.{cmd_name}_command").command
        assert isinstance(command, click.Command)  # noqa: S101
        if isinstance(ctx.obj, Configuration) and cmd_name != "config":
            ctx.default_map = {cmd_name: prepare(command, cmd_name, ctx.obj)}
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        from difflib import get_close_matches

        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            word = args[0].lower()
            if word in _OLLAMAS:
                raise click.UsageError(f"{error.message} `ollama {word}` is Ollama's own.", ctx) from error
            close = [_ELSEWHERE[word]] if word in _ELSEWHERE else get_close_matches(word, COMMANDS, n=1)
            if not close:
                raise
            raise click.UsageError(f"{error.message} Did you mean {close[0]!r}?", ctx) from error

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        # The summaries stand here, so that --help need not import every command.
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(
    cls=_Commands,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="`ollama-ferry help COMMAND` says more.  "
    "Exit codes: 0 done, 1 other failure, 2 usage, 3 no such model or store, 4 damaged, 5 not permitted, "
    "6 no space, 7 already exists, 8 unreachable, 130 interrupted.",
)
@click.version_option(__version__, "-V", "--version", prog_name="ollama-ferry", message="%(prog)s %(version)s")
@click.pass_context
def ferry(ctx: click.Context) -> None:
    """Move chosen Ollama models between machines: exactly the manifest, its config and its layers.

    \b
    On the machine that has the model:
      ollama-ferry export deepseek-r1:8b ./deepseek-r1-8b.tar.gz
    On the one that wants it:
      ollama-ferry import ./deepseek-r1-8b.tar.gz
    Or there without ollama-ferry, into the models of Ollama's service:
      sudo tar -xzf ./deepseek-r1-8b.tar.gz -C /usr/share/ollama/.ollama/models
    """
    if ctx.invoked_subcommand is None:
        say_lines(ctx.get_help())
