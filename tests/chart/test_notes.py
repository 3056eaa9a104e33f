"""What the chart tells after an installation is right: its manifests fit the custom resource definitions."""

from __future__ import annotations

import re
import textwrap
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
import yaml

from .helm import CHART, ROOT, Object

NOTES = (CHART / "templates" / "NOTES.txt").read_text()
# A manifest begins at apiVersion, is indented by five, and ends at an empty line or a template action.
MANIFESTS = [
    textwrap.dedent(block) for block in re.findall(r"(?m)^     apiVersion: .*\n(?:     .*\n)*", NOTES)
]


def closed(schema: Any) -> Any:
    """The schema with every object closed: the API server would drop an unknown field without a word."""
    if isinstance(schema, list):
        return [closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    result = {key: closed(value) for key, value in schema.items()}
    if isinstance(result.get("properties"), dict) and result.get("type") == "object":
        result.setdefault("additionalProperties", False)
    return result


def schema_of(kind: str) -> Object:
    for path in (ROOT / "crds").glob("*.yaml"):
        spec = yaml.safe_load(path.read_text())["spec"]
        if spec["names"]["kind"] == kind:
            schema: Object = spec["versions"][0]["schema"]["openAPIV3Schema"]
            properties = schema["properties"] | {"metadata": {"type": "object"}}
            return closed(schema | {"properties": properties})  # type: ignore[no-any-return]
    raise AssertionError(f"no custom resource definition of kind {kind}")


def test_all_manifests_are_found() -> None:
    assert len(MANIFESTS) == NOTES.count("apiVersion:") == 3


@pytest.mark.parametrize("manifest", MANIFESTS)
def test_manifests_fit_the_definitions(manifest: str) -> None:
    document = yaml.safe_load(manifest)
    assert document["apiVersion"] == "blockvault.dev/v1alpha1"
    jsonschema.validate(document, schema_of(document["kind"]))


@pytest.mark.parametrize("wrong", [{"vaultref": {"name": "disks"}}, {"description": 1}])
def test_a_wrong_manifest_would_be_found(wrong: Object) -> None:
    document = next(yaml.safe_load(each) for each in MANIFESTS if "kind: Backup" in each)
    document["spec"] |= wrong
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(document, schema_of("Backup"))
