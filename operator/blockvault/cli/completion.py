"""`blockvault completion`: what a shell needs to complete its commands."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

VARIABLE = "_BLOCKVAULT_COMPLETE"


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print what makes SHELL complete commands and options.

    \b
    Examples:
      blockvault completion bash > /etc/bash_completion.d/blockvault
      blockvault completion fish > ~/.config/fish/completions/blockvault.fish
    """
    kind = get_completion_class(shell)
    assert kind is not None, "click knows the shells that we offer"
    click.echo(kind(context.find_root().command, {}, "blockvault", VARIABLE).source())
