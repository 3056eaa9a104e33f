"""What is drawn on the terminal besides tables: what wants attention, and colours where it has some."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from blockvault.plugin.words import arrow
from blockvault.terminal import as_table

if TYPE_CHECKING:
    from blockvault.plugin.checks import Finding
    from blockvault.plugin.picture import Section
    from blockvault.plugin.trouble import Trouble

# Lines of text are no longer than this, on the widest terminal; without one too.
WIDEST, NARROWEST = 110, 40

_STYLES = {"error": "bold red", "warning": "yellow", "note": "cyan"}
_MARKS = {"error": "!!", "warning": "! ", "note": "i "}
_GOOD = ("Available", "Ready", "Completed", "Succeeded", "Protected", "ok", "Restored")
_BAD = ("Error", "Failed", "Unprotected", "fail")
_BUSY = ("Pending", "Deleting", "Locked", "Disabled", "Refused", "Waiting", "warn", "Cancelled")
PHASES = dict.fromkeys(_GOOD, "green") | dict.fromkeys(_BAD, "bold red") | dict.fromkeys(_BUSY, "yellow")

HINT = """\
Begin with a vault, a policy and a claim: see docs/resources.md, or look where there are some:
`kubectl blockvault status -A`."""


def console() -> Console:
    """A console on stdout, coloured where it is a terminal that wants colours."""
    found = Console(markup=False, highlight=False, soft_wrap=True)
    if not sys.stdout.isatty():
        found.width = WIDEST
    return found


def coloured(word: str) -> Text | str:
    """A phase in its colour."""
    style = PHASES.get(word.partition(" ")[0])
    return Text(word, style=style) if style else word


def status(
    first: str, troubles: Sequence[Trouble], sections: Sequence[Section], *, everywhere: bool, empty: bool
) -> None:
    """The whole picture."""
    out = console()
    out.print(Text(first, style="bold"))
    if empty:
        out.print(HINT)
        return
    if troubles:
        out.print()
        for each in troubles:
            attention(out, each, everywhere=everywhere)
    for section in sections:
        out.print()
        shown = section.within(out.width) if sys.stdout.isatty() else section
        out.print(Text(section.title, style="bold underline" if sys.stdout.isatty() else ""))
        as_table(shown.columns, [_painted(shown.columns, row) for row in shown.rows])


def attention(out: Console, trouble: Trouble, *, everywhere: bool = False) -> None:
    """One thing that wants attention: its headline, its message, what to do."""
    where = f"{trouble.namespace}: " if everywhere and trouble.namespace else ""
    mark = _MARKS[trouble.level]
    lines = paragraphs(f"{where}{trouble.what} {trouble.headline}", out.width, "", mark + " ", "   ")
    out.print(Text(lines, style=_STYLES[trouble.level]))
    if trouble.message:
        out.print(paragraphs(trouble.message, out.width, "   "))
    if trouble.remedy:
        out.print(paragraphs(trouble.remedy, out.width, "   ", f"   {arrow()} ", "     "))


def findings(found: Sequence[Finding]) -> None:
    """What the doctor found: level and check, and beside them what there is to say."""
    out = console()
    width = max((len(f.check) for f in found), default=0)
    for each in found:
        line = Text()
        line.append(f"{each.level:<4}", style=PHASES.get(each.level, ""))
        line.append(f"  {each.check:<{width}}  ")
        indent = " " * (width + 8)
        body = paragraphs(each.detail, out.width, indent)
        if each.remedy:
            body += "\n" + paragraphs(each.remedy, out.width, indent, f"{indent}{arrow()} ", f"{indent}  ")
        line.append(body[len(indent) :])
        out.print(line)


def paragraphs(text: str, width: int, indent: str, first: str | None = None, later: str | None = None) -> str:
    """Text in lines of at most the terminal's width, no word cut that a person may want to copy."""
    return textwrap.fill(
        " ".join(text.split()),
        max(NARROWEST, min(width, WIDEST)),
        initial_indent=indent if first is None else first,
        subsequent_indent=indent if later is None else later,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _painted(columns: Sequence[str], row: Sequence[str]) -> list[Text | str]:
    return [coloured(cell) if column == "PHASE" else cell for column, cell in zip(columns, row, strict=True)]
