"""The definitions in a real API server: it compiles every rule and says what we say it says.

The same objects are judged by the emulation in tests/unit/api, so that the two cannot drift apart.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.kube import Kube
from tests.cluster.lab import Cluster, LabError
from tests.unit.api.definitions import BAD, TAKEN, Case, Object

pytestmark = pytest.mark.cluster

ROOT = Path(__file__).parents[2]
NAMESPACE = "definitions"
CASES = [*BAD, *TAKEN]


def named(obj: Object, number: int) -> Object:
    """An object under the name of its case."""
    return {**obj, "metadata": {"name": f"case-{number}"}}


@pytest.fixture(scope="module")
def defined(cluster: Cluster, installed_operator: object) -> Iterator[Kube]:
    """kubectl where the chart's definitions are, and the objects that are to be changed."""
    kube = Kube(cluster, NAMESPACE)
    cluster.kubectl("create", "namespace", NAMESPACE)
    before = [named(case.before, number) for number, case in enumerate(CASES) if case.before is not None]
    kube.kubectl("create", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": before}))
    yield kube
    classes = [obj["metadata"]["name"] for obj in before if obj["kind"] == "VaultClass"]
    cluster.kubectl("delete", "vaultclasses", *classes)
    cluster.kubectl("delete", "namespace", NAMESPACE, "--wait=false")


def verdict(kube: Kube, number: int) -> str:
    """What the API server says to the object of a case; empty when it would take it. Nothing is changed."""
    case = CASES[number]
    verb = "create" if case.before is None else "replace"
    try:
        kube.kubectl(verb, "--dry-run=server", "-f", "-", stdin=json.dumps(named(case.given, number)))
    except LabError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("number", range(len(BAD)), ids=[str(case) for case in BAD])
def test_what_is_wrong_is_refused_in_words_that_help(defined: Kube, number: int) -> None:
    assert CASES[number].words in verdict(defined, number)


@pytest.mark.parametrize("number", range(len(BAD), len(CASES)), ids=[str(case) for case in TAKEN])
def test_what_is_right_is_taken(defined: Kube, number: int) -> None:
    """The largest objects among them show that no rule costs more than it may."""
    assert verdict(defined, number) == ""


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("**/*.yaml")), ids=lambda path: path.name)
def test_every_example_is_taken(defined: Kube, path: Path) -> None:
    """Unknown fields are an error here: a misspelt one would pass in silence else."""
    text = path.read_text().replace("namespace: blockvault-system", f"namespace: {NAMESPACE}")
    defined.cluster.kubectl("apply", "--dry-run=server", "--validate=strict", "-f", "-", stdin=text)


def test_objects_are_found_by_their_fields(defined: Kube) -> None:
    """C11: a Backup is found by vault, by resource and by phase, without listing the others' fields."""
    case = Case("Backup", "taken", {"vaultRef.name": "found-by", "resource.name": "found-by"})
    found_name = "backup.blockvault.dev/case"
    defined.kubectl("create", "-f", "-", stdin=json.dumps(case.given))
    try:
        for selector, found in {
            "spec.vaultRef.name=found-by": found_name,
            "spec.resource.name=found-by,spec.resource.kind=PersistentVolumeClaim": found_name,
            "spec.vaultRef.name=absent": "",
            "status.phase=Restoring": "",  # the operator runs, and may have refused it by now
        }.items():
            words = ("get", "bvbackup", "--field-selector", selector, "--output=name")
            assert defined.kubectl(*words).strip() == found, selector
    finally:
        defined.kubectl("delete", "bvbackup", "case")
