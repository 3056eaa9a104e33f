"""Entry point of `blockvault`: runs a command and turns errors into words and exit codes."""

from __future__ import annotations

import errno
import os
import sys
import traceback

import click

from blockvault import __version__
from blockvault.cli import catalogue, output, stopping, upkeep
from blockvault.cli.backup import backup
from blockvault.cli.completion import completion
from blockvault.cli.doctor import doctor
from blockvault.cli.history import commits
from blockvault.cli.key import key
from blockvault.cli.restore import restore
from blockvault.cli.verify import verify
from blockvault.engine import exit_code, memory
from blockvault.exitcodes import INTERNAL, OK, USAGE, flush_or_end
from blockvault.stores import BlockvaultError, TooManyOpenFiles


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog="S3 credentials come from the environment, as for every AWS tool. Each command has --help with an example.",
)
@click.version_option(__version__, prog_name="blockvault")
def cli() -> None:
    """Block-level backups on a store alone, without a cluster."""


for command in (
    upkeep.init,
    backup,
    restore,
    catalogue.list_backups,
    catalogue.show,
    catalogue.delete,
    catalogue.undelete,
    verify,
    upkeep.collect,
    upkeep.accept_rollback,
    upkeep.branches,
    commits,
    upkeep.usage,
    doctor,
    key,
    completion,
):
    cli.add_command(command)


def main() -> None:
    """Run; does not return."""
    memory.keep_little()
    stopping.install()
    code = run(None)
    flush_or_end(code)
    # Threads of a run that was stopped may hang in a request for minutes; they hold nothing that needs care.
    os._exit(code)


def run(arguments: list[str] | None) -> int:
    """The exit code of a command line; None: that of this process."""
    try:
        ended = cli.main(arguments, prog_name="blockvault", standalone_mode=False)
    except BlockvaultError as error:
        return _told(error)
    except click.exceptions.NoArgsIsHelpError as error:
        sys.stderr.write(error.format_message() + "\n")
        return USAGE
    except click.ClickException as error:
        context = error.ctx if isinstance(error, click.UsageError) else None
        asked = "blockvault" if context is None else context.command_path
        output.complain(error.format_message(), f"`{asked} --help` shows how it is used.")
        return USAGE
    except (click.Abort, BrokenPipeError):
        return INTERNAL
    except Exception as error:  # noqa: BLE001 - whatever it is, it must end with words and a code
        return _unexpected(error)
    return ended if isinstance(ended, int) else OK  # click gives back the code of its Exit


def _unexpected(error: Exception) -> int:
    """What no part of the engine has put into words: a limit of this machine, or a defect."""
    if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
        return _told(TooManyOpenFiles(f"{error.filename or 'opening a file'}: {error.strerror}"))
    traceback.print_exception(error)
    return _told(BlockvaultError(f"{type(error).__name__}: {error}"))


def _told(error: BlockvaultError) -> int:
    output.complain(error.message, error.remedy)
    return exit_code(error)
