"""The manifests of examples/: no misspelt field, nothing that is not served, placeholders named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from blockvault.api import Backup, Restore, Vault, VaultClass, not_served
from blockvault.api.kinds import KINDS
from blockvault.api.schema import definition
from tests.embedded.schema import complete, problems

ROOT = Path(__file__).parents[3]
FILES = sorted((ROOT / "examples").glob("**/*.yaml"))
SCHEMAS = {
    kind.name: definition(kind)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    for kind in KINDS
}
MODELS = {"VaultClass": VaultClass, "Vault": Vault, "Backup": Backup, "Restore": Restore}


def manifests(path: Path) -> list[dict[str, Any]]:
    found = [each for each in yaml.safe_load_all(path.read_text()) if each]
    assert found, path
    return found


def within(part: Any, whole: Any) -> bool:
    """Whether all that stands in `part` stands in `whole` too."""
    if isinstance(part, dict):
        return all(key in whole and within(value, whole[key]) for key, value in part.items())
    return bool(part == whole)


def test_every_kind_that_people_write_has_an_example() -> None:
    found = {each["kind"] for path in FILES for each in manifests(path)}
    assert found >= SCHEMAS.keys() - {"Task"}
    assert "Task" not in found


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_examples_are_valid_and_served(path: Path) -> None:
    for manifest in manifests(path):
        schema, model = SCHEMAS.get(manifest["kind"]), MODELS.get(manifest["kind"])
        if schema is not None:
            spec = complete(manifest["spec"], schema)
            assert within(manifest["spec"], spec), "a field that the definition does not have"
            assert list(problems(spec, schema)) == []
        if model is not None:
            manifest["metadata"]["creationTimestamp"] = "2026-11-23T12:00:00Z"
            assert not_served(model.model_validate(manifest)) == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_examples_say_what_to_replace(path: Path) -> None:
    """Addresses, buckets, keys and storage classes are never those of the reader's cluster."""
    text = path.read_text()
    assert text.startswith("#"), "a comment says what the file is for"
    if any(word in text for word in ("replace-me", "example.com", "storageClassName: bv-")):
        assert "Placeholder" in text
