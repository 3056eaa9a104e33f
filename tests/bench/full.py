"""Rows of full backups: to a directory, and to a real S3 store."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.bench import images, peers, process, series
from tests.bench.gateway import Gateway
from tests.bench.process import MIB, drop_cache, measured, used
from tests.bench.programs import BareLoop, Blockvault, Kopia, Program, Restic, result
from tests.bench.rows import Bench, Goal, Outcome, Row
from tests.bench.series import CPU, PEAK, STORED, WALL, Series, figures, in_turn

BV, SEALED, BARE = "blockvault", "blockvault, encrypted", "bare loop"
REQUESTS, PUTS = "requests", "PUTs"
ENCRYPTION = "restic and kopia always encrypt, the bare loop never does; goals are held against blockvault without encryption."
PEER_SETTINGS = (
    f"restic {peers.version('restic')} with its defaults; kopia {peers.version('kopia')} with zstd-fastest and BLAKE3. "
    "The bare loop: blocks of 256 KiB, BLAKE3, zstd 1, two threads."
)


def _to_directory(bench: Bench, image: images.Image, make: Callable[[Path], Program]) -> dict[str, float]:
    with bench.folder() as folder:
        program = make(folder)
        program.prepare()
        before = used(program.repository)
        drop_cache([image.path], memory=bench.memory)
        took = measured(program.backup(image.path), program.environment)
        found = figures(took, **{STORED: (used(program.repository) - before) / MIB})
        if isinstance(program, Blockvault):
            found[REQUESTS] = result(took)["requests"]
        return found


def full(bench: Bench) -> Outcome:
    """The first backup of a volume with ordinary files."""
    image = images.ordinary(bench)
    found = in_turn(
        bench,
        {
            BV: lambda: _to_directory(bench, image, Blockvault),
            SEALED: lambda: _to_directory(bench, image, lambda folder: Blockvault(folder, encrypted=True)),
            "restic": lambda: _to_directory(bench, image, Restic),
            "kopia": lambda: _to_directory(bench, image, Kopia),
            BARE: lambda: _to_directory(bench, image, BareLoop),
        },
    )
    outcome = found.outcome()
    outcome.goals += [
        Goal("times as quick as restic", found.ratio(WALL, "restic", BV), 5, at_least=True),
        Goal("times as quick as kopia", found.ratio(WALL, "kopia", BV), 3.5, at_least=True),
        Goal("speed, bare loop = 1", found.ratio(WALL, BARE, BV), 0.85, at_least=True),
        Goal("bytes stored, restic = 1", found.ratio(STORED, BV, "restic"), 1.12),
        Goal("peak memory, MiB", found.median(BV, PEAK), 200),
    ]
    outcome.notes += [*image.notes, process.cache_note(), process.TOUCHED, PEER_SETTINGS, ENCRYPTION]
    outcome.notes.append(
        "Each program ends when its bytes are on the disk; kopia alone does not wait for that."
    )
    outcome.charts += [_speed(found), found.chart("Full backup: bytes stored", STORED)]
    return outcome


def _speed(found: Series) -> series.Chart:
    return found.chart("Full backup: time", WALL)


def _to_gateway(
    bench: Bench, image: images.Image, gateway: Gateway, make: Callable[[Path, str], Program]
) -> dict[str, float]:
    with bench.folder() as folder, gateway.bucket() as bucket:
        program = make(folder, bucket.name)
        program.prepare()
        drop_cache([image.path], memory=bench.memory)
        before, served = bucket.used(), gateway.counters()
        took = measured(program.backup(image.path), program.environment)
        after = gateway.counters()
        return figures(
            took,
            **{
                "server CPU s": after.cpu - served.cpu,
                STORED: (bucket.used() - before) / MIB,
                REQUESTS: after.requests - served.requests,
                PUTS: after.puts - served.puts,
            },
        )


def full_rgw(bench: Bench) -> Outcome:
    """The same to Ceph's gateway."""
    image = images.ordinary(bench)
    with Gateway.started() as gateway:
        keys, url = gateway.environment, gateway.endpoint

        def blockvault(folder: Path, bucket: str, encrypted: bool = False) -> Program:
            return Blockvault(folder, url=f"s3://{bucket}/b", s3=keys, encrypted=encrypted)

        def restic(folder: Path, bucket: str) -> Program:
            return Restic(folder, url=f"s3:{url}/{bucket}/r", s3=keys)

        def sealed(folder: Path, bucket: str) -> Program:
            return blockvault(folder, bucket, encrypted=True)

        found = in_turn(
            bench,
            {
                BV: lambda: _to_gateway(bench, image, gateway, blockvault),
                SEALED: lambda: _to_gateway(bench, image, gateway, sealed),
                "restic": lambda: _to_gateway(bench, image, gateway, restic),
            },
        )
    outcome = found.outcome()
    constant = found.median(BV, PUTS) - found.median(BV, STORED) / 30
    outcome.goals += [
        Goal("times as quick as restic", found.ratio(WALL, "restic", BV), 3, at_least=True),
        Goal("the client's CPU seconds, restic = 1", found.ratio(CPU, BV, "restic"), 0.25),
        Goal("PUTs beyond one per 30 MiB stored", constant, 10),
    ]
    outcome.notes += [*image.notes, process.cache_note(), process.TOUCHED, ENCRYPTION]
    outcome.notes.append(
        "Store: Ceph's RADOS Gateway with one OSD in memory, on the same cores; its processor seconds are a column of "
        "their own. Requests and PUTs are counted by the gateway."
    )
    outcome.charts.append(
        series.Chart(
            "Full backup to Ceph RGW: CPU seconds",
            "CPU s",
            bars={
                f"{name}, {side}": outcome.samples[f"{name}: {figure}"]
                for name in (BV, "restic")
                for side, figure in (("client", CPU), ("server", "server CPU s"))
            },
        )
    )
    return outcome


ROWS = (
    Row("full", "Full backup to a directory", full),
    Row("full-rgw", "Full backup to S3 (Ceph RGW)", full_rgw),
)
