"""Fixtures of the emulation's own tests."""

from __future__ import annotations

import hashlib
import json
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.scenario import manifests
from tests.scenario.environment import Write, phase_is
from tests.scenario.incremental import MIB

from .cluster import EmbeddedCluster
from .environment import EmbeddedEnvironment

Http = Callable[..., tuple[int, Any]]

WIDGETS: dict[str, Any] = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "widgets.example.dev"},
    "spec": {
        "group": "example.dev",
        "scope": "Namespaced",
        "names": {"kind": "Widget", "plural": "widgets", "singular": "widget", "shortNames": ["wi"]},
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "subresources": {"status": {}},
                "selectableFields": [{"jsonPath": ".status.phase"}],
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "required": ["spec"],
                        "properties": {
                            "spec": {
                                "type": "object",
                                "required": ["size"],
                                "properties": {
                                    "size": {"type": "integer", "minimum": 1, "maximum": 9},
                                    "colour": {"type": "string", "enum": ["red", "blue"], "default": "red"},
                                    "name": {"type": "string", "pattern": "^[a-z]+$"},
                                    "parts": {"type": "array", "maxItems": 2, "items": {"type": "string"}},
                                },
                                "x-kubernetes-validations": [
                                    {"rule": "self.size >= oldSelf.size", "message": "size only grows"},
                                    {
                                        "rule": "!has(self.parts) || self.parts.all(p, p.startsWith('p'))",
                                        "message": "parts start with p",
                                    },
                                ],
                            },
                            "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
                        },
                    }
                },
            }
        ],
    },
}


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[EmbeddedCluster]:
    """A cluster with the kind Widget and without an operator."""
    crds = tmp_path / "crds"
    crds.mkdir()
    (crds / "widgets.yaml").write_text(yaml.safe_dump(WIDGETS))
    with EmbeddedCluster(namespace="shop", crds=crds) as running:
        yield running


@pytest.fixture(scope="module")
def running() -> Iterator[EmbeddedCluster]:
    """A cluster with the real operator and a vault."""
    with EmbeddedCluster(namespace="shop") as cluster:
        env = EmbeddedEnvironment(cluster)
        cluster.start_operator()
        env.apply(*manifests.vault_class("v", env.storage, "v"), manifests.vault("v", "v"))
        env.wait_for("vault", "v", phase_is("Available"), timeout=30)
        yield cluster


def word_of(request: pytest.FixtureRequest) -> str:
    """A short word for a test, the same in every run."""
    return hashlib.sha256(request.node.name.encode()).hexdigest()[:6]


def claim_of(request: pytest.FixtureRequest) -> str:
    """The claim of a test, in a cluster that several tests share."""
    return f"data-{word_of(request)}"


def with_data(cluster: EmbeddedCluster, request: pytest.FixtureRequest, size: int) -> EmbeddedEnvironment:
    """The cluster with the test's claim, in which one MiB is written."""
    environment = EmbeddedEnvironment(cluster)
    environment.make_claim(claim_of(request), size)
    environment.write(claim_of(request), [Write(MIB, MIB, seed=1)])
    return environment


@pytest.fixture
def http(cluster: EmbeddedCluster) -> Http:
    """Ask the API over HTTP: status and the parsed answer."""

    def ask(method: str, path: str, body: Any = None, patch: str = "merge-patch") -> tuple[int, Any]:
        kind = f"application/{patch}+json" if method == "PATCH" else "application/json"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(cluster.url + path, data, {"Content-Type": kind}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    return ask


def claim(name: str, size: str = "8Mi", storage_class: str = "bv-immediate", **spec: Any) -> dict[str, Any]:
    """A raw claim's manifest."""
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "volumeMode": "Block",
            "storageClassName": storage_class,
            "resources": {"requests": {"storage": size}},
        }
        | spec,
    }


def phase(wanted: str | None) -> Callable[[dict[str, Any] | None], bool]:
    """A test for `wait_for`: the object's phase; None: the object is gone."""
    if wanted is None:
        return lambda obj: obj is None
    return lambda obj: obj is not None and (obj.get("status") or {}).get("phase") == wanted
