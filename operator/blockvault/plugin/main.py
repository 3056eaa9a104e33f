"""Entry point of `kubectl blockvault`: finds the command, runs it, turns errors into words and exit codes."""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

import click

from blockvault.exitcodes import INTERNAL, OK, TEMPORARY, USAGE, flush_or_end
from blockvault.plugin.commands import COMPLETER, PROGRAM, cli
from blockvault.plugin.errors import PluginError


def main() -> None:
    """Run; does not return."""
    if os.path.basename(sys.argv[0]).startswith(COMPLETER):
        from blockvault.plugin.completion import candidates

        sys.stdout.write(candidates(sys.argv[1:]))
        sys.exit(OK)
    # As Ctrl-C: what runs in the cluster goes on, and the words say so.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    code = run(None)
    flush_or_end(code)
    sys.exit(code)


def run(arguments: list[str] | None) -> int:
    """The exit code of a command line; None: that of this process."""
    try:
        ended = cli.main(arguments, prog_name=PROGRAM, standalone_mode=False)
    except PluginError as error:
        complain(error.message, error.remedy)
        return error.code
    except click.exceptions.NoArgsIsHelpError as error:
        sys.stderr.write(error.format_message() + "\n")
        return USAGE
    except click.ClickException as error:
        context = error.ctx if isinstance(error, click.UsageError) else None
        asked = PROGRAM if context is None else context.command_path
        complain(error.format_message(), f"`{asked} --help` shows how it is used.")
        return USAGE
    except (click.Abort, KeyboardInterrupt):
        complain("stopped", "Nothing was changed after that; what was begun in the cluster goes on.")
        return TEMPORARY
    except BrokenPipeError:
        return INTERNAL
    except Exception as error:  # noqa: BLE001 - whatever it is, it must end with words and a code
        return _unexpected(error)
    return ended if isinstance(ended, int) else OK


def complain(message: str, remedy: str) -> None:
    """An error on stderr: what and why, then what to do."""
    sys.stderr.write(f"{PROGRAM}: {message}\n  {remedy}\n")


def _unexpected(error: Any) -> int:
    import traceback

    traceback.print_exception(error)
    complain(f"{type(error).__name__}: {error}", "This is a defect: report it with what is above.")
    return INTERNAL
