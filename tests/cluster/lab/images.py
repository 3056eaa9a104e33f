"""Container images without a registry: pause, a Python base, and the project's own by its real Dockerfile."""

import hashlib
import io
import json
import os
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.cluster.lab import binaries, versions

PAUSE = "localhost/pause:test"
BASE = "localhost/python-base:test"
POSTGRES = "localhost/postgres:test"
PROJECT = "localhost/blockvault:test"

# The minimal variant and what a Python program needs; without documentation it imports faster.
BASE_PACKAGES = "python3,python3-venv,ca-certificates"
OPTIONS = [
    "--variant=minbase",
    *(f"--dpkgopt=path-exclude=/usr/share/{part}/*" for part in ("man", "doc", "locale", "info")),
]
PROJECT_SOURCES = (
    "operator",
    "requirements.lock",
    "Dockerfile",
    ".dockerignore",
    "pyproject.toml",
    "README.md",
    "LICENSE",
)
# Steps of earlier builds are kept for the next; beyond this number all of them are dropped.
MOST_LAYERS = 60
# For pip behind a company's certificates: the build sees this machine's.
CERTIFICATES = ("/etc/ssl/certs", "/usr/local/share/ca-certificates")


def _directory() -> Path:
    directory = versions.cache_dir() / "images"
    directory.mkdir(exist_ok=True)
    return directory


def _forget_others(pattern: str, keep: Path, at_most: int = 3) -> None:
    """Keep the newest few archives of a kind: branches are switched back and forth."""
    others = [p for p in _directory().glob(pattern) if p != keep]
    for old in sorted(others, key=lambda p: p.stat().st_mtime, reverse=True)[at_most:]:
        old.unlink()


def pause() -> Path:
    """Archive of the pause image: one static program."""
    sources = versions.CLUSTER_DIR / "pause"
    target = _directory() / f"pause-{versions.digest([], [sources])}.tar"
    with binaries.cache_lock("pause"):
        if target.exists():
            return target
        with tempfile.TemporaryDirectory() as scratch:
            program = Path(scratch) / "pause"
            binaries.build(program, "./pause")
            layer = io.BytesIO()
            with tarfile.open(fileobj=layer, mode="w") as archive:
                entry = tarfile.TarInfo("pause")
                entry.size, entry.mode = program.stat().st_size, 0o755
                archive.addfile(entry, io.BytesIO(program.read_bytes()))
        difference = hashlib.sha256(layer.getvalue()).hexdigest()
        config = {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Entrypoint": ["/pause"], "User": "65535:65535"},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{difference}"]},
        }
        manifest = [{"Config": "config.json", "RepoTags": [PAUSE], "Layers": ["layer.tar"]}]
        parts = {
            "layer.tar": layer.getvalue(),
            "config.json": json.dumps(config).encode(),
            "manifest.json": json.dumps(manifest).encode(),
        }
        partial = target.with_suffix(".partial")
        with tarfile.open(partial, "w") as archive:
            for name, content in parts.items():
                entry = tarfile.TarInfo(name)
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))
        partial.rename(target)
        _forget_others("pause-*.tar", target)
    return target


def _buildah(*arguments: str) -> str:
    storage = versions.cache_dir() / "buildah"
    done = subprocess.run(
        ["buildah", "--root", str(storage), "--runroot", str(storage / "run"), *arguments],
        env={**os.environ, "BUILDAH_ISOLATION": "chroot", "STORAGE_DRIVER": "overlay"},
        check=False,
        text=True,
        capture_output=True,
    )
    if done.returncode != 0:
        raise RuntimeError(
            f"buildah {' '.join(arguments)}: exit {done.returncode}\n{done.stdout}{done.stderr}"
        )
    return done.stdout.strip()


def _push(image: str, target: Path) -> None:
    """Write an image as an archive; layers stay uncompressed, which imports faster."""
    partial = target.with_suffix(".partial")
    partial.unlink(missing_ok=True)
    _buildah("push", "--disable-compression", image, f"docker-archive:{partial}:{image}")
    partial.rename(target)


def base() -> Path:
    """Archive of the Python base image, which also serves as the image of test pods."""
    return _debian("base", BASE, BASE_PACKAGES)


def postgres() -> Path:
    """Archive of Debian's PostgreSQL with its tools, on nothing else."""
    return _debian("postgres", POSTGRES, "postgresql,postgresql-contrib,ca-certificates")


def _archive_of(word: str, packages: str) -> Path:
    return _directory() / f"{word}-{versions.digest([versions.SUITE, f'--include={packages}', *OPTIONS])}.tar"


def _debian(word: str, image: str, packages: str, *, to_build_on: bool = False) -> Path:
    options = [f"--include={packages}", *OPTIONS]
    target = _archive_of(word, packages)
    if target.exists() and not to_build_on:  # who has it waits for no other build
        return target
    with binaries.cache_lock("images"):
        if target.exists() and _buildah("images", "--noheading", "--filter", f"reference={image}"):
            return target
        started = time.monotonic()
        print(f"building the image {image} ...", flush=True)
        with tempfile.TemporaryDirectory(dir=_directory()) as scratch:
            root = Path(scratch) / "root.tar"
            command = ["mmdebstrap", "--quiet", *options, versions.SUITE, str(root)]
            subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
            container = _buildah("from", "scratch")
            _buildah("add", container, str(root), "/")
            _buildah(
                "config",
                "--cmd",
                "/bin/sh",
                "--env",
                "PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
                container,
            )
            _buildah("commit", "--rm", container, image)
        _push(image, target)
        _forget_others(f"{word}-*.tar", target, 0)
        print(f"built the image {image} in {time.monotonic() - started:.0f} s", flush=True)
    return target


def with_files(image: str, files: Mapping[str, Path]) -> Path:
    """Archive of an image of the base and programs at these places; made anew when one of them changed."""
    name = image.rpartition("/")[2].partition(":")[0]
    base_name = _archive_of("base", BASE_PACKAGES).name
    key = versions.digest([base_name, *(f"{at} {_hash(file)}" for at, file in files.items())])
    target = _directory() / f"{name}-{key}.tar"
    _debian("base", BASE, BASE_PACKAGES, to_build_on=True)
    with binaries.cache_lock("images"):
        if not target.exists():
            container = _buildah("from", "--pull-never", BASE)
            for at, file in files.items():
                _buildah("add", "--chmod", "0755", container, str(file), at)
            _buildah("commit", "--rm", container, image)
            _push(image, target)
            _forget_others(f"{name}-*.tar", target, 0)
    return target


def _hash(file: Path) -> str:
    with file.open("rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()


def project(extra: Sequence[str] = ()) -> Path:
    """Archive of the project's image, built by the project's Dockerfile when one of its sources changed."""
    sources = [versions.ROOT / name for name in PROJECT_SOURCES]
    key = versions.digest([_archive_of("base", BASE_PACKAGES).name, *extra], sources)
    target = _directory() / f"blockvault-{key}.tar"
    if target.exists():
        os.utime(target)  # the oldest go first
        return target
    _debian("base", BASE, BASE_PACKAGES, to_build_on=True)
    with binaries.cache_lock("images"):
        if target.exists():
            return target
        started = time.monotonic()
        print("building the project's image ...", flush=True)
        volumes = [f"--volume={path}:{path}:ro" for path in CERTIFICATES if Path(path).is_dir()]
        command = [
            "bud",
            "--layers",
            "--pull-never",
            f"--build-arg=BASE={BASE}",
            *volumes,
            *extra,
            "-t",
            PROJECT,
        ]
        _buildah(*command, "-f", str(versions.ROOT / "Dockerfile"), str(versions.ROOT))
        _push(PROJECT, target)
        layers = versions.cache_dir() / "buildah" / "overlay"
        if len(list(layers.iterdir())) > MOST_LAYERS:
            _buildah("rmi", "--prune", "--force")
        _forget_others("blockvault-*.tar", target)
        print(f"built the project's image in {time.monotonic() - started:.0f} s", flush=True)
    return target
