"""`kubectl blockvault completion`, and what kubectl itself asks when somebody presses the tab key."""

from __future__ import annotations

import click
from click.shell_completion import ShellComplete, get_completion_class

from blockvault.plugin.commands import COMPLETER, PROGRAM, cli

VARIABLE = "_KUBECTL_BLOCKVAULT_COMPLETE"
# What cobra's scripts read after the words: do not offer file names; or: nothing special.
NO_FILES, DEFAULT = ":4", ":0"

SCRIPT = f"""\
#!/bin/sh
# Put this on PATH as {COMPLETER}, executable: kubectl 1.26 or newer asks it.
exec kubectl-blockvault completion kubectl -- "$@"
"""


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish", "kubectl"]))
@click.argument("words", nargs=-1, type=click.UNPROCESSED)
def completion(shell: str, words: tuple[str, ...]) -> None:
    """Print what makes SHELL complete `kubectl-blockvault`; or what makes kubectl complete `kubectl blockvault`.

    kubectl asks a program called kubectl_complete-blockvault, which comes with the Python package. Where only
    kubectl-blockvault is installed, `completion kubectl` prints such a program.

    \b
    Examples:
      kubectl blockvault completion kubectl | install -m 755 /dev/stdin ~/bin/kubectl_complete-blockvault
      kubectl blockvault completion bash > /etc/bash_completion.d/kubectl-blockvault
    """
    if shell == "kubectl":
        # Without words it is a person, with them that program.
        click.echo(candidates(list(words)) if words else SCRIPT, nl=False)
        return
    kind = get_completion_class(shell)
    assert kind is not None, "click knows the shells that we offer"
    click.echo(kind(cli, {}, "kubectl-blockvault", VARIABLE).source())


def candidates(words: list[str]) -> str:
    """The answer to kubectl, as cobra's scripts read it. `words`: what was typed after the plugin, the last unfinished.

    One candidate a line, a tab and what it is for, and a line of what the shell may offer besides.
    """
    if words[:1] == ["__complete"]:
        words = words[1:]
    *before, typed = words or [""]
    found = ShellComplete(cli, {}, PROGRAM, VARIABLE).get_completions(before, typed)
    lines = [
        f"{item.value}\t{item.help}" if item.help else str(item.value)
        for item in found
        if item.type == "plain"
    ]
    files = any(item.type in ("file", "dir") for item in found)
    return "".join(f"{line}\n" for line in [*lines, DEFAULT if files else NO_FILES])
