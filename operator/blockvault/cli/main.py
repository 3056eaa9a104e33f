"""Entry point of `blockvault`: runs a command and turns errors into words and exit codes."""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType

import click

from blockvault import __version__
from blockvault.cli import commands, output
from blockvault.engine import Interrupted, exit_code
from blockvault.engine.exitcodes import INTERNAL, OK, USAGE
from blockvault.stores import BlockvaultError


@click.group(
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="S3 credentials come from the environment, as for every AWS tool. Exit codes: docs/exit-codes.md.",
)
@click.version_option(__version__, prog_name="blockvault")
def cli() -> None:
    """Block-level backups on a store alone, without a cluster."""


for command in (
    commands.init,
    commands.backup,
    commands.restore,
    commands.list_backups,
    commands.show,
    commands.delete,
    commands.usage,
):
    cli.add_command(command)


def _stop(number: int, _: FrameType | None) -> None:
    raise Interrupted(f"stopped by {signal.Signals(number).name}")


def main() -> None:
    """Run; does not return."""
    signal.signal(signal.SIGTERM, _stop)
    signal.signal(signal.SIGINT, _stop)
    code = _run()
    sys.stdout.flush()
    sys.stderr.flush()
    # Threads of a run that was stopped may hang in a request for minutes; they hold nothing that needs care.
    os._exit(code)


def _run() -> int:
    try:
        cli.main(prog_name="blockvault", standalone_mode=False)
    except BlockvaultError as error:
        output.complain(error.message, error.remedy)
        return exit_code(error)
    except click.exceptions.NoArgsIsHelpError as error:
        sys.stderr.write(error.format_message() + "\n")
        return USAGE
    except click.ClickException as error:
        output.complain(error.format_message(), "`blockvault --help` shows how it is used.")
        return USAGE
    except click.exceptions.Exit as error:
        return error.exit_code
    except (click.Abort, BrokenPipeError):
        return INTERNAL
    return OK
