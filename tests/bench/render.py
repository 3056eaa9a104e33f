"""Results as text: tables in Markdown, between marks in a document or on a terminal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.bench.rows import Cell

BEGIN = "<!-- results: written by make bench, not by hand -->"
END = "<!-- end of results -->"


def cell(value: Cell) -> str:
    """A figure to the digits that mean something."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if value == 0 or (float(value).is_integer() and abs(value) < 1e6):
        return f"{value:.0f}"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def table(columns: list[str], lines: list[list[Cell]]) -> str:
    """A table in Markdown."""
    rows = [columns, ["---"] * len(columns), *([cell(value) for value in line] for line in lines)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def goals(found: list[dict[str, Any]]) -> str:
    """The goals of a row, met or missed."""
    lines: list[list[Cell]] = [
        [
            goal["text"],
            f"{'>=' if goal['at_least'] else '<='} {cell(goal['limit'])}",
            goal["value"],
            "met" if goal["met"] else "**missed**",
        ]
        for goal in found
    ]
    return table(["goal", "to reach", "measured", ""], lines)


def section(name: str, entry: dict[str, Any], pictures: list[str]) -> str:
    """A row's part of the document."""
    rounds = f"medians of {entry['rounds']} rounds" if entry["rounds"] > 1 else "one round"
    small = "" if entry["scale"] == "full" else "; **a small run, which shows only that the row works**"
    parts = [
        f"### {entry['title']}",
        f"Row `{name}`, {entry['date']}, commit {entry['commit']}; {rounds}; {entry['machine']}{small}.",
        table(entry["columns"], entry["lines"]),
    ]
    if entry["goals"]:
        parts.append(goals(entry["goals"]))
    if pictures:
        parts.append("\n".join(f"![{entry['title']}]({picture})" for picture in pictures))
    if entry["notes"]:
        parts.append("\n".join(f"- {note}" for note in entry["notes"]))
    return "\n\n".join(parts)


def into(document: str, body: str) -> str:
    """The document with what is between its marks replaced. Raises ValueError if it has no marks."""
    before, begin, rest = document.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the document lacks the marks {BEGIN} and {END}")
    return f"{before}{BEGIN}\n\n{body}\n\n{END}{after}"


def document(path: Path, record: dict[str, Any], pictures: dict[str, list[str]]) -> None:
    """Write a record into a document, as it lies beside its pictures."""
    body = "\n\n".join(section(name, entry, pictures.get(name, [])) for name, entry in record.items())
    path.write_text(into(path.read_text(), body))
