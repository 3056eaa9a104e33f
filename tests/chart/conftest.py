"""Helm for the tests of the chart."""

from __future__ import annotations

from pathlib import Path

import pytest

from .helm import Helm, Object, find_helm


@pytest.fixture(scope="session")
def helm(tmp_path_factory: pytest.TempPathFactory) -> Helm:
    binary = find_helm()
    if binary is None:
        pytest.skip(
            "LAYER MISSING: chart. There is no helm on this machine: put it on PATH, name it in "
            "BLOCKVAULT_HELM, or run `make test-cluster`, which builds it"
        )
    return Helm(binary, Path(tmp_path_factory.mktemp("helm")))


@pytest.fixture(scope="session")
def defaults(helm: Helm) -> list[Object]:
    """The chart rendered with its own values."""
    return helm.render()
