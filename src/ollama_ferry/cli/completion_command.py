"""``ollama-ferry completion``."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from ollama_ferry.cli.terminal import say_lines


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def command(ctx: click.Context, shell: str) -> None:
    """Print the completion script of a shell; models of the store complete too.

    \b
      bash:  echo 'eval "$(ollama-ferry completion bash)"' >> ~/.bashrc
      zsh:   echo 'eval "$(ollama-ferry completion zsh)"' >> ~/.zshrc
      fish:  ollama-ferry completion fish > ~/.config/fish/completions/ollama-ferry.fish
    """
    found = get_completion_class(shell)
    root = ctx.find_root()
    assert found is not None  # noqa: S101 -- the choices are click's own
    say_lines(found(root.command, {}, "ollama-ferry", "_OLLAMA_FERRY_COMPLETE").source())
