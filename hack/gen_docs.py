"""Fill the tables of docs/resources.md from the models and the errors. With --check nothing is written.

What people write stays as it is; only what stands between `<!-- fields: Kind.part -->` or `<!-- errors -->`
and `<!-- end -->` is replaced.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

from blockvault.api.kinds import KINDS
from blockvault.api.schema import definition
from blockvault.engine import errors as engine_errors
from blockvault.stores import errors as store_errors

TARGET = Path(__file__).resolve().parent.parent / "docs" / "resources.md"
SECTION = re.compile(r"(<!-- (fields|errors)(?:: (\w+)\.(\w+))? -->\n).*?(<!-- end -->)", re.DOTALL)


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


def errors() -> str:
    """The table of what mover and store say, by reason."""
    rows: dict[str, str] = {}
    for module in (store_errors, engine_errors):
        for each in vars(module).values():
            if isinstance(each, type) and issubclass(each, store_errors.BlockvaultError) and each.__doc__:
                about = " ".join(each.__doc__.split())
                rows.setdefault(each.reason, f"| `{each.reason}` | {about} | {each.remedy} |\n")
    for base in ("Internal", "StoreError", "EngineError"):  # only the roots of the others
        rows.pop(base, None)
    return "| reason | meaning | what to do |\n| --- | --- | --- |\n" + "".join(rows[r] for r in sorted(rows))


def filled(text: str) -> str:
    """The text with its tables made anew."""

    def fill(match: re.Match[str]) -> str:
        start, what, kind, part, end = match.groups()
        return f"{start}{fields(kind, part) if what == 'fields' else errors()}{end}"

    return SECTION.sub(fill, text)


def main() -> int:
    """Exit status: 1 when --check finds another text."""
    text = TARGET.read_text(encoding="utf-8")
    wanted = filled(text)
    if wanted == text:
        return 0
    if "--check" in sys.argv[1:]:
        sys.stderr.write("docs/resources.md is not what the models say: run hack/gen_docs.py\n")
        return 1
    TARGET.write_text(wanted, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
