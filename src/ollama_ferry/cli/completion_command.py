"""``ollama-ferry completion``."""

from __future__ import annotations

import click

from ollama_ferry.cli.terminal import say_lines


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish", "powershell"]))
@click.pass_context
def command(ctx: click.Context, shell: str) -> None:
    """Print the completion script of a shell: commands, options, models of the store or the archive, places.

    \b
      bash:        echo 'eval "$(ollama-ferry completion bash)"' >> ~/.bashrc
      zsh:         echo 'eval "$(ollama-ferry completion zsh)"' >> ~/.zshrc
      fish:        ollama-ferry completion fish > ~/.config/fish/completions/ollama-ferry.fish
      PowerShell:  ollama-ferry completion powershell >> $PROFILE
    """
    from ollama_ferry.cli.completions import script

    say_lines(script(shell, ctx.find_root().command))
