"""`make demo`: the main job from end to end, on this machine alone, in well under a minute.

Real: the operator and the movers (processes of their own, started by their own entry points), the bytes,
the store's format, S3 over HTTP. Emulated: the Kubernetes API with its storage and Job controllers.
Everything printed is measured in this run. Exit 0 only if every byte came back.
"""

from __future__ import annotations

import argparse
import copy
import json
import signal
import sys
import time
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.table import Table

from . import demo_data
from .cluster import ROOT, EmbeddedCluster
from .console import Kubectl, StepError
from .files import clone
from .kinds import Object

SIZE = 256 << 20
TIMEOUT = 60.0


@dataclass
class Row:
    """One line of the table: bytes and seconds of one step, as measured. None: does not apply."""

    step: str
    scanned: int | None
    changed: int | None
    stored: int | None
    written: int | None
    seconds: float


class Demo:
    """One run."""

    def __init__(
        self, cluster: EmbeddedCluster, console: Console, manifests: dict[str, list[tuple[str, Object]]]
    ) -> None:
        self._cluster, self._console, self._manifests = cluster, console, manifests
        self.rows: list[Row] = []
        self._kubectl = Kubectl(cluster.url, cluster.namespace, console)

    def run(self) -> bool:
        """All steps. Returns whether everything came back as it was. Raises StepError when a step fails."""
        claim = self._first("PersistentVolumeClaim")["metadata"]["name"]
        vault = self._first("Vault")["metadata"]["name"]
        self._heading("A vault, and a claim to protect")
        self._apply("Namespace", "Secret", "VaultClass", "BackupPolicy", "Vault", "PersistentVolumeClaim")
        image, volume = self._fill(claim)
        self._kubectl.say(f"kubectl get vault {vault}")
        self._kubectl.show("Vault", self._kubectl.wait("Vault", vault, "Available", TIMEOUT))

        self._heading("The first backup reads everything")
        first = self._back_up(self._first("Backup"), "Full backup")
        with self._clock() as spent:
            changed = demo_data.write_changes(image, volume)
        self._heading("One percent changes")
        where = f"in {image.changed_files} of {image.files} files" if image.files else "in one place"
        self._say(f"{_bytes(changed)} rewritten {where}, in {spent():.1f} s")

        self._heading("The second backup stores what changed")
        second = self._back_up(_named(self._first("Backup"), 2), "Incremental backup")

        self._heading("Both come back, into new claims")
        self._lose_snapshots()
        ok = True
        for number, (backup, expected) in enumerate(((first, image.before), (second, image.after)), start=1):
            target = self._restore(backup, number)
            restored = self._cluster.volume_path(self._cluster.namespace, target)
            ok &= self._compare(target, restored, expected, image)
        self._table()
        return ok

    def _lose_snapshots(self) -> None:
        """What restores begin with where they can: without it everything has to come from the store."""
        for snapshot in self._cluster.list("vs"):
            meta = snapshot["metadata"]
            self._cluster.delete("vs", meta["name"], meta["namespace"])
            self._cluster.wait_for("vs", meta["name"], lambda s: s is None, namespace=meta["namespace"])
        self._say("The local snapshot is gone: all that comes back comes from the store")

    def _fill(self, claim: str) -> tuple[demo_data.Image, Path]:
        namespace = self._cluster.namespace
        self._kubectl.wait("PersistentVolumeClaim", claim, "Bound", TIMEOUT)
        volume = self._cluster.volume_path(namespace, claim)
        folder = self._cluster.directory / "images"
        folder.mkdir()
        with self._clock() as spent:
            image = demo_data.make_images(folder, SIZE)
            clone(image.before, volume)
        held = _bytes(volume.stat().st_blocks * 512)
        files = f" with {image.files} files" if image.files else ""
        self._say(
            f"Claim {claim}: {_bytes(SIZE)}, holding {image.sort}{files}, {held} in all ({spent():.1f} s)"
        )
        return image, volume

    def _back_up(self, manifest: Object, step: str) -> Object:
        name = manifest["metadata"]["name"]
        with self._clock() as spent:
            self._apply_one("backup", manifest)
            self._kubectl.say(f"kubectl get backup {name} --watch")
            done = self._watch("Backup", name, "Available")
        volume = done["status"]["volumes"][0]
        scanned, changed, stored = (volume[key] for key in ("bytesScanned", "bytesChanged", "bytesStored"))
        self.rows.append(Row(step, scanned, changed, stored, None, spent()))
        return done

    def _restore(self, backup: Object, number: int) -> str:
        manifest = _named(self._first("Restore"), number)
        spec = manifest["spec"]
        spec["backupRef"] = {"name": backup["metadata"]["name"]}
        new_claim = spec["target"]["newClaim"]
        new_claim["name"] = _numbered(new_claim["name"], number)
        name = manifest["metadata"]["name"]
        with self._clock() as spent:
            self._apply_one("restore", manifest)
            self._kubectl.say(f"kubectl get restore {name} --watch")
            done = self._watch("Restore", name, "Completed")
        result = done["status"].get("result") or done["status"].get("progress") or {}
        step = f"Restore {number}"
        self.rows.append(Row(step, None, None, None, result.get("bytesWritten"), spent()))
        return str(new_claim["name"])

    def _watch(self, kind: str, name: str, phase: str) -> Object:
        last = ""

        def show(obj: Object) -> None:
            nonlocal last
            status = obj.get("status") or {}
            text = f"{status.get('phase', '')}: {status.get('message', '')}"
            if status and text != last:
                self._console.print(f"  {name}  {text}", highlight=False, style="dim")
                last = text

        obj = self._kubectl.wait(kind, name, phase, TIMEOUT, show)
        self._kubectl.show(kind, obj)
        return obj

    def _compare(self, claim: str, restored: Path, expected: Path, image: demo_data.Image) -> bool:
        with self._clock() as spent:
            same = demo_data.same_bytes(restored, expected, image.size)
            sound = demo_data.is_sound(restored) if image.files else None
        check = {None: "", True: "; e2fsck finds nothing to mend", False: "; e2fsck finds DAMAGE"}[sound]
        word = "[green]identical, byte by byte[/]" if same else "[bold red]DIFFERENT[/]"
        self._say(f"{_bytes(image.size)} of {claim} compared: {word}{check} ({spent():.1f} s)")
        return same and sound is not False

    # Small things

    def _first(self, kind: str) -> Object:
        return self._manifests[kind][0][1]

    def _apply(self, *kinds: str) -> None:
        for kind in kinds:
            for path, manifest in self._manifests.get(kind, []):
                self._kubectl.say(f"kubectl apply -f {path}")
                self._kubectl.apply(manifest)

    def _apply_one(self, word: str, manifest: Object) -> None:
        path = self._manifests[manifest["kind"]][0][0]
        if manifest["metadata"]["name"] != self._first(manifest["kind"])["metadata"]["name"]:
            path = f"{path}, with the names of another {word}"
        self._kubectl.say(f"kubectl apply -f {path}")
        self._kubectl.apply(manifest)

    def _heading(self, text: str) -> None:
        self._console.print()
        self._console.rule(f"[bold]{text}", align="left")

    def _say(self, text: str) -> None:
        self._console.print(text, highlight=False)

    @contextmanager
    def _clock(self) -> Iterator[Any]:
        start, end = time.perf_counter(), None

        def spent() -> float:
            return (end or time.perf_counter()) - start

        yield spent
        end = time.perf_counter()

    def _table(self) -> None:
        table = Table(title="Measured in this run", title_justify="left")
        table.add_column("", no_wrap=True)
        for column in ("scanned", "changed", "stored", "written", "seconds"):
            table.add_column(column, justify="right")
        for row in self.rows:
            figures = (row.scanned, row.changed, row.stored, row.written)
            table.add_row(row.step, *("" if f is None else _bytes(f) for f in figures), f"{row.seconds:.1f}")
        self._console.print()
        self._console.print(table)


def load_manifests(folder: Path, cluster: EmbeddedCluster, size: int) -> dict[str, list[tuple[str, Object]]]:
    """The manifests of a folder by kind, with their paths; what is a placeholder in them is filled in."""
    found: dict[str, list[tuple[str, Object]]] = {}
    for path in sorted(folder.glob("*.yaml")):
        for manifest in filter(None, yaml.safe_load_all(path.read_text())):
            _fill_in(manifest, cluster, f"{size >> 20}Mi")
            shown = str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else path.name
            found.setdefault(manifest["kind"], []).append((shown, manifest))
    return found


def _fill_in(manifest: Object, cluster: EmbeddedCluster, size: str) -> None:
    """The address and credentials of the store, and the storage class, are those of this cluster."""
    spec, s3 = manifest.get("spec") or {}, cluster.s3
    if manifest["kind"] == "Secret":
        keys = {**manifest.pop("stringData", {}), **manifest.get("data", {})}
        if "AWS_ACCESS_KEY_ID" in keys:
            values = {"AWS_ACCESS_KEY_ID": s3.access_key, "AWS_SECRET_ACCESS_KEY": s3.secret_key}
            manifest["data"] = {key: b64encode(value.encode()).decode() for key, value in values.items()}
    elif manifest["kind"] == "PersistentVolumeClaim":
        spec |= {
            "storageClassName": "bv-immediate",
            "resources": {"requests": {"storage": size}},
        }
    elif manifest["kind"] == "Restore" and "newClaim" in spec.get("target", {}):
        spec["target"]["newClaim"] |= {"storageClassName": "bv-immediate", "size": size}
    elif "s3" in (spec.get("storage") or {}):
        place = {"endpoint": s3.endpoint, "region": s3.region, "bucket": s3.bucket, "addressing": "path"}
        spec["storage"]["s3"] |= place
        spec["storage"]["s3"].pop("caBundleSecretRef", None)


def _named(manifest: Object, number: int) -> Object:
    other = copy.deepcopy(manifest)
    other["metadata"]["name"] = _numbered(other["metadata"]["name"], number)
    return other


def _numbered(name: str, number: int) -> str:
    """The name of the n-th of a kind, after the first one's: data-1, data-2; copy, copy-2."""
    if number == 1:
        return name
    return f"{name.removesuffix('-1')}-{number}"


def _bytes(count: int) -> str:
    return f"{count / (1 << 20):,.1f} MiB"


def main() -> int:
    """Run the demo. Exit 0 when everything came back, 1 when not."""
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument("--json", type=Path, help="also write the table's figures to this file")
    options = parser.parse_args()
    # As with Ctrl-C, what was started is stopped.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    console, start = Console(), time.perf_counter()
    console.print("[bold]Blockvault, from end to end on this machine[/]")
    console.print(
        "Real: operator, movers, blocks, S3 over HTTP. Emulated: the Kubernetes API and its controllers.\n"
        "Lines that start with [bold green]$[/] are what you would type; here the API client does it.",
        highlight=False,
    )
    namespace = _namespace(ROOT / "examples")
    with EmbeddedCluster(namespace=namespace) as cluster:
        cluster.start_operator()
        console.print(f"The operator is ready ({time.perf_counter() - start:.1f} s).", highlight=False)
        demo = Demo(cluster, console, load_manifests(ROOT / "examples", cluster, SIZE))
        try:
            ok = demo.run()
        except (StepError, TimeoutError, RuntimeError) as error:
            console.print(f"[bold red]{error}[/]\n{cluster.story()}", highlight=False)
            return 1
    seconds = time.perf_counter() - start
    verdict = "Everything came back." if ok else "SOMETHING DIFFERS."
    console.print(f"{verdict} {seconds:.1f} s in all.", highlight=False)
    if options.json:
        options.json.write_text(
            json.dumps({"rows": [asdict(r) for r in demo.rows], "seconds": seconds, "ok": ok})
        )
    return 0 if ok else 1


def _namespace(folder: Path) -> str:
    """The namespace in which the examples' Backup lies."""
    for path in sorted(folder.glob("*.yaml")):
        for manifest in filter(None, yaml.safe_load_all(path.read_text())):
            if manifest["kind"] == "Backup":
                return str(manifest["metadata"].get("namespace", "default"))
    raise SystemExit(f"{folder} has no Backup")


if __name__ == "__main__":
    sys.exit(main())
