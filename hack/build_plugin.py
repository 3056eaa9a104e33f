"""Build kubectl-blockvault for this platform, with a Python of its own: dist/kubectl-blockvault-<os>-<arch>.tar.gz.

Beside it dist/blockvault.yaml, the krew manifest that names the archives there are in dist/. A directory in an archive
and not one executable: that would unpack itself into /tmp at every start, which takes longer and fails where nothing
in /tmp may be executed. Krew unpacks an archive once and links to the program in it.
"""

from __future__ import annotations

import argparse
import hashlib
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

import yaml

from blockvault import __version__
from blockvault.exitcodes import OK, TEMPORARY
from blockvault.plugin.completion import SCRIPT

ROOT = Path(__file__).resolve().parent.parent
DIST = ROOT / "dist"
NAME = "kubectl-blockvault"
COMPLETER = "kubectl_complete-blockvault"
# Where the archives will be found, unless --releases says another place.
RELEASES = "https://blockvault.dev/releases"
ARCHITECTURES = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64"}
# What the client's and rich's optional parts would bring along.
LEFT_OUT = ("tkinter", "IPython", "numpy", "setuptools", "pytest", "hypothesis", "mypy", "cryptography")

DESCRIPTION = """\
Looks at Blockvault's vaults, policies, backups and restores, trouble first;
backs up, restores, cancels, deletes and brings back; says which claims are
protected, what retention would remove, and why something is stuck."""


def semantic(version: str) -> str:
    """The version as krew wants it: 0.1.0.dev0 is 0.1.0-dev0."""
    return version.replace(".dev", "-dev")


def platform_of() -> tuple[str, str]:
    """Operating system and architecture as krew names them."""
    return platform.system().lower(), ARCHITECTURES[platform.machine().lower()]


def build(work: Path) -> Path:
    """The directory with the program."""
    entry = work / "entry.py"
    entry.write_text("from blockvault.plugin.main import main\n\nmain()\n")
    excluded = [word for module in LEFT_OUT for word in ("--exclude-module", module)]
    subprocess.run(
        [
            sys.executable, "-m", "PyInstaller", "--noconfirm", "--onedir", "--name", NAME, "--log-level", "WARN",
            "--collect-submodules", "blockvault.plugin", "--collect-data", "tzdata", *excluded,
            "--distpath", str(work / "dist"), "--workpath", str(work / "work"), "--specpath", str(work), str(entry),
        ],
        check=True,
    )  # fmt: skip
    return work / "dist" / NAME


def pack(directory: Path, target: Path) -> None:
    """An archive of the program, the completer and the licence: files only, as krew unpacks no links."""
    shutil.copy(ROOT / "LICENSE", directory / "LICENSE")
    completer = directory / COMPLETER
    completer.write_text(SCRIPT)
    completer.chmod(0o755)
    with tarfile.open(target, "w:gz", dereference=True) as archive:
        archive.add(directory, arcname=NAME)


def platforms(archives: list[Path], version: str, releases: str) -> list[dict[str, Any]]:
    """What the krew manifest says of each archive."""
    found = []
    for archive in sorted(archives):
        system, architecture = archive.name.removesuffix(".tar.gz").removeprefix(f"{NAME}-").split("-")
        found.append(
            {
                "selector": {"matchLabels": {"os": system, "arch": architecture}},
                "uri": f"{releases}/v{version}/{archive.name}",
                "sha256": hashlib.sha256(archive.read_bytes()).hexdigest(),
                "files": [{"from": f"{NAME}/*", "to": "."}],
                "bin": NAME,
            }
        )
    return found


def manifest(archives: list[Path], version: str, releases: str) -> dict[str, Any]:
    """The krew manifest of these archives."""
    return {
        "apiVersion": "krew.googlecontainertools.github.com/v1alpha2",
        "kind": "Plugin",
        "metadata": {"name": "blockvault"},
        "spec": {
            "version": f"v{version}",
            "homepage": "https://blockvault.dev",
            "shortDescription": "Back up and restore volumes with Blockvault",
            "description": DESCRIPTION,
            "platforms": platforms(archives, version, releases),
        },
    }


def try_out(archive: Path, entry: dict[str, Any], work: Path) -> str:
    """Install an archive as krew does by its manifest, and run it in an empty environment; returns its version.

    Krew unpacks, moves what `files` says, and makes a link to `bin`, which is what the PATH has.
    """
    unpacked, store, path = (work / name for name in ("unpacked", "store", "bin"))
    for directory in (unpacked, store, path):
        directory.mkdir()
    with tarfile.open(archive) as opened:
        opened.extractall(unpacked, filter="data")
    for each in entry["files"]:
        for source in unpacked.glob(each["from"]):
            source.rename(store / each["to"] / source.name)
    (path / NAME).symlink_to(store / entry["bin"])

    def said(*arguments: str, code: int) -> str:
        done = subprocess.run(
            [str(path / NAME), *arguments], env={}, capture_output=True, text=True, timeout=300
        )
        if done.returncode != code:
            raise SystemExit(f"{arguments}: {done.returncode} and not {code}: {done.stdout}{done.stderr}")
        return done.stdout

    # Nobody answers there, but to find that out takes the whole client.
    for command in ("status", "coverage", "preview", "doctor"):
        said(command, "--server", "http://127.0.0.1:1", code=TEMPORARY)
    return said("--version", code=OK).split()[-1]


def main() -> int:
    """Build, pack, and write the manifest anew."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--releases", default=RELEASES, metavar="URL", help="where the archives will be found"
    )
    releases = parser.parse_args().releases
    DIST.mkdir(exist_ok=True)
    target = DIST / f"{NAME}-{'-'.join(platform_of())}.tar.gz"
    with tempfile.TemporaryDirectory() as work:
        pack(build(Path(work)), target)
        (entry,) = platforms([target], semantic(__version__), releases)
        version = try_out(target, entry, Path(work))
        if version != __version__:
            raise SystemExit(f"the program says that it is {version}, and not {__version__}")
    archives = list(DIST.glob(f"{NAME}-*-*.tar.gz"))
    text = yaml.safe_dump(manifest(archives, semantic(__version__), releases), sort_keys=False)
    (DIST / "blockvault.yaml").write_text(text)
    print(f"{target.relative_to(ROOT)}: {target.stat().st_size >> 20} MiB; dist/blockvault.yaml names it")
    return 0


if __name__ == "__main__":
    sys.exit(main())
