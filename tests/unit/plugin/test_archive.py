"""The archive and the manifest by which krew installs the plugin. Building the program itself is `make plugin`."""

from __future__ import annotations

import hashlib
import importlib.util
import tarfile
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def builder() -> ModuleType:
    spec = importlib.util.spec_from_file_location("build_plugin", ROOT / "hack" / "build_plugin.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def program(directory: Path) -> Path:
    """What a build leaves, with a link in it as shared libraries have."""
    directory.mkdir()
    script = directory / "kubectl-blockvault"
    script.write_text(
        '#!/bin/sh\n[ "$1" = --version ] || exit 75\n'
        'exec /bin/cat "$(/usr/bin/dirname "$(/usr/bin/readlink -f "$0")")/_internal/version"\n'
    )
    script.chmod(0o755)
    (directory / "_internal").mkdir()
    (directory / "_internal" / "real").write_text("kubectl blockvault, version 1.2.3\n")
    (directory / "_internal" / "version").symlink_to("real")
    return directory


def test_the_archive_is_installed_and_run_as_krew_does_it(builder: ModuleType, tmp_path: Path) -> None:
    archive = tmp_path / "kubectl-blockvault-linux-amd64.tar.gz"
    builder.pack(program(tmp_path / "kubectl-blockvault"), archive)
    with tarfile.open(archive) as opened:
        members = {member.name.partition("/")[2]: member for member in opened.getmembers()}
    assert all(member.isfile() or member.isdir() for member in members.values()), "krew unpacks no links"
    assert {"LICENSE", "kubectl_complete-blockvault", "kubectl-blockvault", "_internal/version"} <= set(
        members
    )
    assert members["kubectl_complete-blockvault"].mode & 0o111
    (entry,) = builder.platforms([archive], "1.2.3", "https://example.com/r")
    assert entry["uri"] == "https://example.com/r/v1.2.3/kubectl-blockvault-linux-amd64.tar.gz"
    assert entry["selector"] == {"matchLabels": {"os": "linux", "arch": "amd64"}}
    assert entry["sha256"] == hashlib.sha256(archive.read_bytes()).hexdigest()
    (tmp_path / "work").mkdir()
    assert builder.try_out(archive, entry, tmp_path / "work") == "1.2.3"


def test_the_manifest_names_all_archives_and_a_semantic_version(builder: ModuleType, tmp_path: Path) -> None:
    archives = [tmp_path / f"kubectl-blockvault-{name}.tar.gz" for name in ("linux-amd64", "darwin-arm64")]
    for archive in archives:
        archive.write_bytes(b"x")
    found = builder.manifest(archives, builder.semantic("0.1.0.dev0"), "https://example.com")
    assert found["metadata"]["name"] == "blockvault"
    assert found["spec"]["version"] == "v0.1.0-dev0"
    assert len(found["spec"]["shortDescription"]) <= 50
    selected = [p["selector"]["matchLabels"] for p in found["spec"]["platforms"]]
    assert selected == [{"os": "darwin", "arch": "arm64"}, {"os": "linux", "arch": "amd64"}]


def test_a_program_that_does_not_work_is_found(builder: ModuleType, tmp_path: Path) -> None:
    archive = tmp_path / "kubectl-blockvault-linux-amd64.tar.gz"
    directory = program(tmp_path / "kubectl-blockvault")
    (directory / "kubectl-blockvault").write_text("#!/bin/sh\necho no module; exit 70\n")
    builder.pack(directory, archive)
    (entry,) = builder.platforms([archive], "1.2.3", "https://example.com/r")
    (tmp_path / "work").mkdir()
    with pytest.raises(SystemExit, match="70 and not 75: no module"):
        builder.try_out(archive, entry, tmp_path / "work")
