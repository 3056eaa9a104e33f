"""The definitions of the six kinds: what they refuse and what they take (A1, A2, A9, B2, B4, C1)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from blockvault.api.kinds import KINDS
from blockvault.api.schema import definition
from tests.embedded.schema import complete, problems
from tests.unit.api.definitions import BAD, TAKEN, Case

ROOT = Path(__file__).parents[3]
DEFINITIONS = {kind.name: definition(kind) for kind in KINDS}


def schema_of(kind: str) -> dict[str, Any]:
    (version,) = DEFINITIONS[kind]["spec"]["versions"]
    schema: dict[str, Any] = version["schema"]["openAPIV3Schema"]
    return schema


def verdict(case: Case) -> str:
    schema = schema_of(case.kind)
    before = None if case.before is None else complete(case.before, schema)
    return "\n".join(problems(complete(case.given, schema), schema, before))


@pytest.mark.parametrize("case", [case for case in BAD if not case.server_only], ids=str)
def test_what_is_wrong_is_refused_in_words_that_help(case: Case) -> None:
    assert case.words in verdict(case)


@pytest.mark.parametrize("case", TAKEN, ids=str)
def test_what_is_right_is_taken(case: Case) -> None:
    assert verdict(case) == ""


def rules_of(node: Any) -> list[str]:
    """The messages of all rules in a schema."""
    found = []
    if isinstance(node, dict):
        found += [rule["message"] for rule in node.get("x-kubernetes-validations", [])]
        found += [message for child in node.values() for message in rules_of(child)]
    return found


@pytest.mark.parametrize("kind", sorted(DEFINITIONS))
def test_every_rule_has_an_object_that_breaks_it(kind: str) -> None:
    words = [case.words for case in BAD if case.kind == kind]
    assert [m for m in rules_of(schema_of(kind)) if not any(w in m for w in words)] == []


def test_committed_definitions_are_those_of_the_models() -> None:
    check = subprocess.run(
        [sys.executable, ROOT / "hack" / "gen_crds.py", "--check"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert check.returncode == 0, check.stderr


@pytest.mark.parametrize("kind", sorted(DEFINITIONS))
def test_definitions_serve_people_and_tools(kind: str) -> None:
    """E1, C11: columns that fit a line, fields to select by, short names that nobody else has."""
    spec = DEFINITIONS[kind]["spec"]
    (version,) = spec["versions"]
    columns = version["additionalPrinterColumns"]
    assert len([c for c in columns if not c.get("priority")]) <= (7 if kind == "Task" else 6)
    assert {"name": "Message", "type": "string", "jsonPath": ".status.message", "priority": 1} in columns
    # kubectl shows a date to come as <invalid>
    assert [c["name"] for c in columns if c["type"] == "date"] == ["Age"]
    assert {"jsonPath": ".status.phase"} in version["selectableFields"]
    assert len(version["selectableFields"]) <= 8
    # A Task has one writer, and one write says all of it.
    assert version.get("subresources") == (None if kind == "Task" else {"status": {}})
    assert all(name.startswith("bv") for name in spec["names"]["shortNames"])
    assert spec["names"]["categories"] == ["blockvault"]
    assert spec["scope"] == ("Cluster" if kind == "VaultClass" else "Namespaced")


def nodes(node: dict[str, Any], path: str = "") -> list[tuple[str, dict[str, Any]]]:
    """All nodes of a schema with their paths."""
    found = [(path, node)]
    for name, child in node.get("properties", {}).items():
        found += nodes(child, f"{path}.{name}")
    for word in ("items", "additionalProperties"):
        if isinstance(node.get(word), dict):
            found += nodes(node[word], f"{path}[]")
    return found


@pytest.mark.parametrize("kind", sorted(DEFINITIONS))
def test_every_field_of_a_spec_is_typed_bounded_and_explained(kind: str) -> None:
    spec = schema_of(kind)["properties"]["spec"]
    for path, node in nodes(spec):
        assert "type" in node, path
        if not path.endswith("[]"):
            assert node.get("description"), f"{path} has no description"
        if node["type"] == "string":
            assert {"maxLength", "enum"} & node.keys(), f"{path} has no bound"
        if node["type"] == "array":
            assert "maxItems" in node, path
        if "additionalProperties" in node:
            assert "maxProperties" in node, path


def test_conditions_are_a_list_by_type() -> None:
    """Server-side apply and `kubectl wait` find a condition by its type."""
    for kind in DEFINITIONS.keys() - {"Task"}:  # a record of what was has no health
        conditions = schema_of(kind)["properties"]["status"]["properties"]["conditions"]
        assert conditions["x-kubernetes-list-type"] == "map"
        assert conditions["x-kubernetes-list-map-keys"] == ["type"]
