"""Write docs/cli.md and docs/kubectl.md from the commands themselves. With --check, only say whether that was done."""

from __future__ import annotations

import re
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path

import click

from blockvault.cli.main import cli
from blockvault.cli.options import Settings
from blockvault.plugin.commands import cli as plugin
from blockvault.plugin.options import Settings as PluginSettings

DOCS = Path(__file__).resolve().parent.parent / "docs"

CLI_HEAD = """\
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


KUBECTL_HEAD = """\
<!-- Written by hack/gen_cli_doc.py: change operator/blockvault/plugin, then run it. -->
# kubectl blockvault

What people do with their backups at a terminal. It asks the API server and nobody else: what it shows is what the
objects say ([resources.md](resources.md)), what it changes are objects, and what is begun goes on in the cluster when
the terminal is closed.

```sh
kubectl blockvault status                        # trouble first, then vaults, policies, work
kubectl blockvault backup db-data --wait         # now
kubectl blockvault restore                       # asks which backup, and where to
kubectl blockvault doctor                        # will this cluster work
kubectl blockvault doctor manualbk-1a2b          # why is this stuck
```

## Install

- With Python 3.11 or newer: `pip install blockvault` (or `pipx`) puts `kubectl-blockvault` on the PATH, and kubectl
  finds it there.
- Without: `make plugin` builds `dist/kubectl-blockvault-<os>-<arch>.tar.gz`, which brings its own Python. Unpack it
  anywhere, and put a link to the `kubectl-blockvault` in it on the PATH.
- With krew: `kubectl krew install --manifest=dist/blockvault.yaml
  --archive=dist/kubectl-blockvault-<os>-<arch>.tar.gz`. **Krew itself was not run** when this was written: the
  manifest follows its documentation, and `make plugin` unpacks the archive as the manifest says, and runs what is
  named there in an empty environment.

`kubectl blockvault` and `kubectl-blockvault` are the same. Options of kubectl go behind `blockvault`, as with every
plugin.

Completion: kubectl 1.26 or newer asks a program called `kubectl_complete-blockvault`. The Python package brings it,
and the archive has it beside the plugin; krew installs no second program, so there make it by `kubectl blockvault
completion kubectl` (see below).

## What is said where

- Results go to stdout; progress, questions and errors to stderr. `-o json`, `yaml` and, for lists of objects, `name`
  are for programs: JSON and YAML of `list`, `tasks`, `describe`, `backup` and `restore` are the objects themselves.
- Colours and bars are for terminals; `NO_COLOR` turns colours off. Elsewhere there are plain tables, and a line now
  and then in place of a bar.
- [exit-codes.md](exit-codes.md) has the exit codes, one table for this and for `blockvault`. `--wait` ends with 0
  only if all ended well, with 69 if something failed, with 75 if Ctrl-C or `--timeout` ended the waiting: the work
  goes on.
- Times are written `90m`, `24h`, `7d` or `4w`; moments so, as so long ago, or as dates: `2026-11-29`,
  `2026-11-29T22:00:00Z`.
- What may be undone is done at once; what may not, and what replaces data, is shown first and asked for. `--yes` does
  not ask. Where nobody can be asked, `--yes` must be said.

## Who may do what

It has no rights of its own, and shows what you may read. The chart adds to the cluster's built-in roles:

| role in the namespace | commands |
| --- | --- |
| view | `status`, `list`, `describe`, `tasks`, `usage`, `preview`, `estimate`, `coverage`, `hold` (to look), `doctor` |
| edit | also `backup`, `restore`, `confirm`, `rollback`, `cancel`, `delete`, `hold acknowledge` |
| admin | also `undelete`, `hold allow`, `hold keep`: they are said on the Vault |

With `-A` a ClusterRoleBinding is needed. `doctor` says more to who may read StorageClasses, VolumeSnapshotClasses and
VaultClasses. `logs` reads the pods of the operator's namespace where you may, else what the status has.
"""


@dataclass(frozen=True)
class Page:
    """A page about a command line. `whose`: a command that has all the common options."""

    name: str
    program: str
    group: click.Group
    common: frozenset[str]
    whose: str
    head: str
    title: str


PAGES = (
    Page(
        "cli.md", "blockvault", cli, frozenset(f.name for f in fields(Settings)), "backup", CLI_HEAD,
        "Options of every command on a store",
    ),
    Page(
        "kubectl.md", "kubectl blockvault", plugin, frozenset(f.name for f in fields(PluginSettings)), "status",
        KUBECTL_HEAD, "Options of every command on a cluster",
    ),
)  # fmt: skip


def document(name: str = "cli.md") -> str:
    """The text of a page."""
    (page,) = [each for each in PAGES if each.name == name]
    commands = "".join(
        _command(path, command, page.common) for path, command in _commands(page.program, page.group)
    )
    return page.head + _common(page) + commands


def _commands(path: str, group: click.Group) -> Iterator[tuple[str, click.Command]]:
    context = click.Context(group)
    for name in list(group.commands) or group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if not isinstance(command, click.Group) or command.invoke_without_command:
            yield f"{path} {name}", command
        if isinstance(command, click.Group):
            yield from _commands(f"{path} {name}", command)


def _command(path: str, command: click.Command, common: frozenset[str]) -> str:
    context = click.Context(command, info_name=path)
    usage = " ".join(command.collect_usage_pieces(context))
    text, _, examples = (command.help or "").partition("\b\n")
    shown, _, after = examples.partition("\n\n")
    commands = "\n".join(line.strip() for line in shown.strip().splitlines()[1:])
    parts = [f"\n## {path}\n\n```\n{path} {usage}\n```\n\n{_paragraphs(text)}\n"]
    if after.strip():
        parts.append(f"\n{_paragraphs(after)}\n")
    parts.append(f"\n```sh\n{commands}\n```\n")
    own = [_row(context, option) for option in command.params if option.name not in common]
    return "".join(parts) + _table([row for row in own if row])


def _row(context: click.Context, option: click.Parameter) -> str:
    if not isinstance(option, click.Option):
        return ""
    written, words = option.get_help_record(context) or ("", "")
    words = re.sub(r"\s*\[x>=1\]", "", words.replace("  [required]", " Required."))
    return f"| `{written.replace('|', chr(92) + '|')}` | {words} |\n"


def _table(rows: list[str]) -> str:
    return "".join(["\n| option | |\n| --- | --- |\n", *rows]) if rows else ""


def _common(page: Page) -> str:
    command = page.group.get_command(click.Context(page.group), page.whose)
    assert command is not None
    context = click.Context(command, info_name=page.program)
    rows = [_row(context, option) for option in command.params if option.name in page.common]
    return f"\n## {page.title}\n" + _table(rows)


def _paragraphs(text: str) -> str:
    words = (" ".join(part.split()) for part in text.strip().split("\n\n"))
    return "\n\n".join(textwrap.fill(part, 120, break_on_hyphens=False) for part in words)


def main() -> int:
    """Exit status: 1 when --check finds another text."""
    stale = []
    for page in PAGES:
        target, text = DOCS / page.name, document(page.name)
        if "--check" not in sys.argv[1:]:
            target.write_text(text, encoding="utf-8")
        elif not target.exists() or target.read_text(encoding="utf-8") != text:
            stale.append(page.name)
    for name in stale:
        print(f"docs/{name} is not up to date: run hack/gen_cli_doc.py", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
