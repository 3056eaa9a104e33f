"""The chart's custom resource definitions: the project's own, and kept when the release goes (F18)."""

from __future__ import annotations

import subprocess
import sys

import yaml

from .helm import ROOT, Helm, Object

KINDS = {"VaultClass", "Vault", "BackupPolicy", "Backup", "Restore", "Task"}


def test_the_charts_copy_is_in_step() -> None:
    """Needs no Helm: whoever changes a resource learns of it at once."""
    check = subprocess.run(
        [sys.executable, ROOT / "hack" / "sync_chart_crds.py", "--check"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert check.returncode == 0, check.stderr


def rendered_crds(objects: list[Object]) -> dict[str, Object]:
    crds = [each for each in objects if each["kind"] == "CustomResourceDefinition"]
    return {each["spec"]["names"]["kind"]: each for each in crds}


def test_rendered_are_the_projects_own_and_kept(defaults: list[Object]) -> None:
    crds = rendered_crds(defaults)
    source = [yaml.safe_load(path.read_text()) for path in (ROOT / "crds").glob("*.yaml")]
    assert crds.keys() == KINDS == {each["spec"]["names"]["kind"] for each in source}
    for expected in source:
        rendered = crds[expected["spec"]["names"]["kind"]]
        annotations = rendered["metadata"].pop("annotations")
        assert annotations.pop("helm.sh/resource-policy") == "keep"
        assert annotations == expected["metadata"].pop("annotations", {})
        assert rendered == expected


def test_crds_managed_elsewhere_are_left_out(helm: Helm) -> None:
    assert rendered_crds(helm.render({"crds": {"install": False}})) == {}
