"""Fill the tables of docs/resources.md from the models, of docs/troubleshooting.md from the reasons.

With --check nothing is written. What people write stays as it is; only what stands between `<!-- fields: Kind.part -->`
or `<!-- reasons: section -->` and `<!-- end -->` is replaced.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

from blockvault.api.kinds import KINDS
from blockvault.api.schema import definition
from blockvault.core.reasons import SECTIONS

DOCS = Path(__file__).resolve().parent.parent / "docs"
TARGETS = [DOCS / "resources.md", DOCS / "troubleshooting.md"]
SECTION = re.compile(r"(<!-- (fields|reasons): (\w+)(?:\.(\w+))? -->\n).*?(<!-- end -->)", re.DOTALL)
GOES_ON = {"waits": "yes", "stopped": "no", "works": "yes", "told": "–"}


def fields(kind: str, part: str) -> str:
    """The table of all fields of `spec` or `status`."""
    crd = next(definition(each) for each in KINDS if each.name == kind)
    schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"][part]
    rows = "".join(_rows(schema, ""))
    return f"| field | type | meaning |\n| --- | --- | --- |\n{rows}"


def _rows(schema: dict[str, Any], path: str) -> list[str]:
    rows = []
    for name, node in schema.get("properties", {}).items():
        where = f"{path}{name}"
        if where == "conditions":
            rows.append(_row(where, "list", node["description"]))
            continue
        needed = "**required.** " if name in schema.get("required", []) else ""
        rows.append(_row(where, _type(node), needed + " ".join(node.get("description", "").split())))
        inner = node["items"] if node["type"] == "array" else node
        rows += _rows(inner, f"{where}[]." if inner is not node else f"{where}.")
    return rows


def _row(path: str, type: str, text: str) -> str:
    return f"| `{path}` | {type} | {text} |\n"


def _type(node: dict[str, Any]) -> str:
    inner = node.get("items", node)
    if "enum" in inner:
        text = ", ".join(f"`{value}`" for value in inner["enum"])
    elif "minimum" in inner and "maximum" in inner:
        text = f"{inner['minimum']} to {inner['maximum']}"
    elif "additionalProperties" in inner:
        text = "map"
    else:
        text = inner["type"]
    if inner is not node:
        text = f"list of {text}" if inner["type"] != "object" else "list"
        text += f", at most {node['maxItems']}" if "maxItems" in node else ""
    if node.get("default") not in (None, "", [], {}):
        text += f"; default `{json.dumps(node['default'])}`".replace('"', "")
    return text


def reasons(section: str) -> str:
    """The table of the reasons of one section."""
    rows = SECTIONS[section]
    if section == "working":
        body = "".join(f"| `{word}` | {row.on} | {row.cause} |\n" for word, row in sorted(rows.items()))
        return f"| reason | on | what it means |\n| --- | --- | --- |\n{body}"
    body = "".join(
        f"| `{word}` | {row.on} | {GOES_ON[row.sort]} | {row.cause} | {row.remedy or 'nothing'} |\n"
        for word, row in sorted(rows.items())
    )
    head = "| reason | on | goes on | what has happened | what to do |\n| --- | --- | --- | --- | --- |\n"
    return head + body


def filled(text: str) -> str:
    """The text with its tables made anew."""

    def fill(match: re.Match[str]) -> str:
        start, what, name, part, end = match.groups()
        return f"{start}{fields(name, part) if what == 'fields' else reasons(name)}{end}"

    return SECTION.sub(fill, text)


def main() -> int:
    """Exit status: 1 when --check finds another text."""
    different = []
    for target in TARGETS:
        text = target.read_text(encoding="utf-8")
        wanted = filled(text)
        if wanted == text:
            continue
        different.append(target.name)
        if "--check" not in sys.argv[1:]:
            target.write_text(wanted, encoding="utf-8")
    if different and "--check" in sys.argv[1:]:
        names = ", ".join(f"docs/{name}" for name in different)
        sys.stderr.write(f"{names}: not what models and reasons say: run hack/gen_docs.py\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
