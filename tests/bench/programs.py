"""What is compared: each program makes an empty repository in its folder, and gives the commands to measure."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Protocol

from tests.bench import peers, process
from tests.bench.process import run

BARE = Path(__file__).with_name("bare")


class Program(Protocol):
    """One program with one repository."""

    environment: dict[str, str]
    repository: Path  # where it stores, if that is a directory

    def prepare(self) -> None:
        """Make the repository."""

    def backup(self, image: Path) -> list[str]:
        """The command that stores an image, reading all of it."""

    def restore(self, target: Path) -> list[str]:
        """The command that writes the newest backup to a new file, or into a new folder."""

    def restored(self, target: Path) -> Path:
        """The file that this wrote."""


class Blockvault:
    """Blockvault on a directory, or on S3 with the environment that says where."""

    def __init__(
        self,
        folder: Path,
        *,
        encrypted: bool = False,
        url: str | None = None,
        s3: dict[str, str] | None = None,
    ) -> None:
        self.repository = folder / "store"
        self.url = url or f"file://{self.repository}"
        self._program = str(Path(sys.executable).with_name("blockvault"))
        self._key = folder / "vault.key" if encrypted else None
        self.environment = {"XDG_STATE_HOME": str(folder / "state"), **(s3 or {})}

    def _command(self, *words: str) -> list[str]:
        key = ["--key-file", str(self._key)] if self._key else []
        return [self._program, *words, *key, "--output", "json"]

    def prepare(self) -> None:
        """See Program."""
        if self._key:
            run([self._program, "key", "generate", str(self._key)], self.environment)
        run(self._command("init", self.url), self.environment)

    def backup(self, image: Path, *options: str) -> list[str]:
        """See Program."""
        return self._command("backup", str(image), self.url, "--volume", "v", "--progress", "none", *options)

    def restore(self, target: Path, *options: str) -> list[str]:
        """See Program."""
        return self._command(
            "restore", self.url, str(target), "--volume", "v", "--progress", "none", *options
        )

    def restored(self, target: Path) -> Path:
        """See Program."""
        return target

    def newest(self) -> str:
        """The id of the newest backup."""
        found = json.loads(run(self._command("list", self.url), self.environment))
        return str(found["backups"][-1]["backupId"])


class Restic:
    """restic as it comes. --force: it reads everything, as a device has no modification time to trust."""

    def __init__(self, folder: Path, *, url: str | None = None, s3: dict[str, str] | None = None) -> None:
        self.repository = folder / "repository"
        self._program = str(peers.peer("restic"))
        self.environment = {
            "RESTIC_PASSWORD": "x",
            "RESTIC_REPOSITORY": url or str(self.repository),
            "RESTIC_CACHE_DIR": str(folder / "cache"),
            **(s3 or {}),
        }
        self._image = ""

    def prepare(self) -> None:
        """See Program."""
        run([self._program, "init"], self.environment)

    def backup(self, image: Path) -> list[str]:
        """See Program."""
        self._image = str(image)
        return [self._program, "backup", "--force", "--quiet", str(image)]

    def restore(self, target: Path) -> list[str]:
        """See Program."""
        return [
            self._program, "restore", f"latest:{Path(self._image).parent}", "--sparse", "--quiet", "--target", str(target),
        ]  # fmt: skip

    def restored(self, target: Path) -> Path:
        """See Program."""
        return target / Path(self._image).name


class Kopia:
    """kopia with its quickest settings: zstd-fastest, BLAKE3. It stores the image's folder."""

    def __init__(self, folder: Path) -> None:
        self.repository = folder / "repository"
        self._folder, self._name = folder, ""
        self._program = str(peers.peer("kopia"))
        self.environment = {
            "KOPIA_PASSWORD": "x",
            "KOPIA_CONFIG_PATH": str(folder / "config"),
            "KOPIA_LOG_DIR": str(folder / "logs"),
            "KOPIA_CACHE_DIRECTORY": str(folder / "cache"),
            "KOPIA_CHECK_FOR_UPDATES": "false",
        }

    def prepare(self) -> None:
        """See Program."""
        self.repository.mkdir()
        create = [self._program, "repository", "create", "filesystem", "--path", str(self.repository)]
        run([*create, "--block-hash=BLAKE3-256"], self.environment)
        run([self._program, "policy", "set", "--global", "--compression=zstd-fastest"], self.environment)

    def backup(self, image: Path) -> list[str]:
        """See Program."""
        self._name = image.name
        create = [
            self._program,
            "snapshot",
            "create",
            "--force-hash=100",
            "--no-progress",
            "--no-auto-maintenance",
        ]
        return [*create, str(image.parent)]

    def restore(self, target: Path) -> list[str]:
        """See Program."""
        newest = json.loads(run([self._program, "snapshot", "list", "--json"], self.environment))[-1]["id"]
        options = ["--write-sparse-files", "--no-progress", "--no-auto-maintenance"]
        return [self._program, "snapshot", "restore", *options, newest, str(target)]

    def restored(self, target: Path) -> Path:
        """See Program."""
        return target / self._name


class BareLoop:
    """The machine's limit: tests/bench/bare, without a format, a protocol, or anything to keep it safe."""

    def __init__(self, folder: Path) -> None:
        self.repository, self.environment = folder / "bare", {}

    def prepare(self) -> None:
        """See Program."""
        self.repository.mkdir()

    def _paths(self) -> list[str]:
        return [str(self.repository / "data"), str(self.repository / "index")]

    def backup(self, image: Path) -> list[str]:
        """See Program."""
        return [sys.executable, str(BARE / "store.py"), str(image), *self._paths()]

    def restore(self, target: Path) -> list[str]:
        """See Program."""
        return [sys.executable, str(BARE / "fetch.py"), *self._paths(), str(target)]

    def restored(self, target: Path) -> Path:
        """See Program."""
        return target


def read_bare(source: Path) -> list[str]:
    """The command that only reads what is not a hole."""
    return [sys.executable, str(BARE / "read.py"), str(source)]


def result(measured: process.Measured) -> dict[str, float]:
    """The JSON that blockvault prints."""
    return json.loads(measured.output)
