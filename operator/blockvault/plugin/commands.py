"""The commands of `kubectl blockvault`, each loaded when it is run."""

from __future__ import annotations

import importlib

import click
from click.shell_completion import CompletionItem

from blockvault import __version__

PROGRAM = "kubectl blockvault"
COMPLETER = "kubectl_complete-blockvault"

# Where each command is, and what it is for: --help and completion load none of them.
COMMANDS: dict[str, tuple[str, str]] = {
    "status": ("status:status", "The whole picture: trouble first, vaults, policies, what is at work."),
    "list": ("listing:list_backups", "Backups, searched by name, claim, vault, phase, id or time."),
    "describe": ("describing:describe", "All about one vault, policy, backup, restore or task."),
    "tasks": ("listing:tasks", "What was done in the last 30 days, with cause and remedy of failures."),
    "backup": ("making:backup", "Back up claims now."),
    "restore": ("restoring:restore", "Bring a backup back: into a new claim, or in place."),
    "confirm": ("restoring:confirm_command", "Let the former data of a restore in place go."),
    "rollback": ("restoring:rollback", "Bring the former data back after a restore in place."),
    "cancel": ("changing:cancel", "Stop a backup or a restore at work."),
    "delete": ("changing:delete", "Delete backups: into the trash, for the days that it has."),
    "undelete": ("changing:undelete", "Bring a deleted backup back from the trash."),
    "hold": ("holding:hold", "Deletions and expiry that wait for a word; say it."),
    "coverage": ("covering:coverage", "Which claims are protected, excluded, or neither."),
    "preview": ("previewing:preview", "What retention would remove at the next run, and why."),
    "usage": ("listing:usage", "What vaults and claims occupy in the store."),
    "estimate": ("estimating:estimate", "How much capacity is needed, by formula or by what has changed."),
    "logs": ("logs:logs", "What the mover of a backup or restore said."),
    "doctor": ("doctor:doctor", "Will this cluster work, or: why is this stuck?"),
    "completion": ("completion:completion", "Print what makes a shell complete commands and names."),
}


class Lazy(click.Group):
    """A group that loads a command when it is run."""

    def list_commands(self, context: click.Context) -> list[str]:
        """In the order of the table."""
        return list(COMMANDS)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        """Load a command; None of one that is not there."""
        if name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(f"blockvault.plugin.{module}"), attribute)
        return command

    def resolve_command(
        self, context: click.Context, arguments: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """A command; of one that is not there, which one may be meant."""
        try:
            return super().resolve_command(context, arguments)
        except click.UsageError as error:
            import difflib

            near = difflib.get_close_matches(arguments[0], COMMANDS, n=1)
            if not near:
                raise
            raise click.UsageError(f"{error.message} Did you mean {near[0]}?", context) from error

    def shell_complete(self, context: click.Context, incomplete: str) -> list[CompletionItem]:
        """Commands that begin so, without loading any."""
        found = [CompletionItem(name, help=words) for name, (_, words) in COMMANDS.items()]
        options = click.Command.shell_complete(self, context, incomplete)
        return [each for each in found if each.value.startswith(incomplete)] + options

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of --help."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, words) for name, (_, words) in COMMANDS.items()])


@click.group(
    cls=Lazy,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog="Each command has --help with an example, and takes --kubeconfig, --context and -n as kubectl does.",
)
@click.version_option(__version__, prog_name=PROGRAM)
def cli() -> None:
    """Backups of this cluster's volumes: look, back up, restore."""
