"""Write docs/cli.md from the commands themselves. With --check, only say whether it is up to date."""

from __future__ import annotations

import re
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import click

from blockvault.cli.main import cli
from blockvault.cli.options import Settings

TARGET = Path(__file__).resolve().parent.parent / "docs" / "cli.md"

COMMON = {field.name for field in fields(Settings)}

HEAD = """\
<!-- Written by hack/gen_cli_doc.py: change operator/blockvault/cli, then run it. -->
# Command line

`blockvault` works on a store alone; it needs no cluster. A STORE is `s3://bucket/prefix` or `file:///directory`. S3
credentials come from the environment, as for every AWS tool.

- Results go to stdout, everything else to stderr. `--output json` prints exactly one object.
- The exit code is 0 only if everything that was asked for was done; [exit-codes.md](exit-codes.md) has the others.
- A backup's ID may be cut to its first 6 or more characters where it stays clear which one is meant.
- Sizes are written `1048576`, `64M` or `1.5G` (powers of 1024), times `90s`, `30m`, `12h`, `7d` or `4w`.
- A key is only ever named by its file. `BLOCKVAULT_KEY_FILE` holds the file's name, never the key.
- A run that is interrupted, or fails for a reason that may pass, prints the command that goes on with it. After a crash
  the same command finds it by itself, by a note under `$XDG_STATE_HOME/blockvault` (`~/.local/state/blockvault`).

How to restore when all else is gone: [disaster-recovery.md](disaster-recovery.md).
"""


def document() -> str:
    """The text of docs/cli.md."""
    return (
        HEAD + _common() + "".join(_command(name, command) for name, command in _commands("blockvault", cli))
    )


def _commands(path: str, group: click.Group) -> Iterator[tuple[str, click.Command]]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from _commands(f"{path} {name}", command)
        else:
            yield f"{path} {name}", command


def _command(path: str, command: click.Command) -> str:
    context = click.Context(command, info_name=path)
    usage = " ".join(command.collect_usage_pieces(context))
    text, _, examples = (command.help or "").partition("\b\n")
    shown, _, after = examples.partition("\n\n")
    commands = "\n".join(line.strip() for line in shown.strip().splitlines()[1:])
    parts = [f"\n## {path}\n\n```\n{path} {usage}\n```\n\n{_paragraphs(text)}\n"]
    if after.strip():
        parts.append(f"\n{_paragraphs(after)}\n")
    parts.append(f"\n```sh\n{commands}\n```\n")
    own = [_row(context, option) for option in command.params if option.name not in COMMON]
    return "".join(parts) + _table([row for row in own if row])


def _row(context: click.Context, option: click.Parameter) -> str:
    if not isinstance(option, click.Option):
        return ""
    written, words = option.get_help_record(context) or ("", "")
    words = re.sub(r"\s*\[x>=1\]", "", words.replace("  [required]", " Required."))
    return f"| `{written.replace('|', chr(92) + '|')}` | {words} |\n"


def _table(rows: list[str]) -> str:
    return "".join(["\n| option | |\n| --- | --- |\n", *rows]) if rows else ""


def _common() -> str:
    command = cli.commands["backup"]
    context = click.Context(command, info_name="blockvault")
    rows = [_row(context, option) for option in command.params if option.name in COMMON]
    return "\n## Options of every command on a store\n" + _table(rows)


def _paragraphs(text: str) -> str:
    words = (" ".join(part.split()) for part in text.strip().split("\n\n"))
    return "\n\n".join(textwrap.fill(part, 120, break_on_hyphens=False) for part in words)


def main() -> int:
    """Exit status: 1 when --check finds another text."""
    if "--check" in sys.argv[1:]:
        if TARGET.exists() and TARGET.read_text(encoding="utf-8") == document():
            return 0
        print("docs/cli.md is not up to date: run hack/gen_cli_doc.py", file=sys.stderr)
        return 1
    TARGET.write_text(document(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
