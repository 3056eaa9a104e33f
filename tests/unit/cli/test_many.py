"""Several volumes in one run, as processes see it."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.unit.cli.support import MIB, inside, inside_json, result, words_of


def test_those_that_fail_are_told_and_the_others_are_made(place: Path) -> None:
    store = f"file://{place}/store"
    arguments = ("backup", store, "--source", f"a={place}/volume", "--source", f"b={place}/absent",
                 "--source", f"c={place}/volume")  # fmt: skip
    found = inside_json(*arguments, code=66)
    assert [each["volume"] for each in found["results"]] == ["a", "c"]
    (error,) = found["errors"]
    assert (error["volume"], error["reason"], error["exitCode"], error["retryable"], error["resume"]) == (
        "b", "SourceNotFound", 66, False, None,
    )  # fmt: skip
    done = inside(*arguments, code=66)
    assert "b: " in words_of(done)[0]
    assert "absent: does not exist" in words_of(done)[0]
    assert len(done.stdout.splitlines()) == 3


def test_the_code_is_that_of_what_repeating_does_not_help(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from blockvault.engine import SourceUnreadable
    from blockvault.engine.backup import BackupRun
    from blockvault.stores import StoreUnreachable

    upload = BackupRun._upload

    def fail(self: BackupRun, *more: object) -> object:
        if self._request.volume in failing:
            raise failing[self._request.volume]
        return upload(self, *more)  # type: ignore[arg-type]

    monkeypatch.setattr(BackupRun, "_upload", fail)
    arguments = [
        "backup",
        f"file://{place}/store",
        "--source",
        f"a={place}/volume",
        "--source",
        f"b={place}/volume",
    ]
    failing: dict[str, Exception] = {"a": StoreUnreachable("gone"), "b": SourceUnreadable("bad sector")}
    assert len(inside_json(*arguments, code=74)["errors"]) == 2
    failing = {"a": StoreUnreachable("gone")}
    (error,) = inside_json(*arguments, code=75)["errors"]
    failing = {}
    assert (
        f"--operation-id {inside_json('show', f'file://{place}/store', '--volume', 'b')['operationId']}"
        not in error["resume"]
    )
    done = inside(*arguments)
    assert "a: going on with the run" in done.stderr
    operation = inside_json("show", f"file://{place}/store", "--volume", "a")["operationId"]
    assert f"--operation-id {operation}" in error["resume"]


def test_one_operation_id_may_serve_several_volumes(place: Path) -> None:
    arguments = ("backup", f"file://{place}/store", "--source", f"a={place}/volume", "--source",
                 f"b={place}/volume", "--operation-id", "night-1")  # fmt: skip
    first = [each["backupId"] for each in inside_json(*arguments)["results"]]
    assert [each["backupId"] for each in inside_json(*arguments)["results"]] == first


def test_memory_stays_within_its_limit(place: Path) -> None:
    for name in "abc":
        (place / name).write_bytes(random.Random(name).randbytes(120 * MIB))
    refused = inside("backup", str(place / "a"), f"file://{place}/store", "--volume", "a",
                     "--memory-limit", "50M", code=64)  # fmt: skip
    least = int(words_of(refused)[1].split()[3])
    sources = [word for name in "abc" for word in ("--source", f"{name}={place}/{name}")]
    found = result("backup", f"file://{place}/store", *sources, "--memory-limit", f"{least}M")["results"]
    assert max(each["peakMemoryBytes"] for each in found) <= least * MIB


@pytest.mark.parametrize("size", ["0", "-1", "12X", "many", "1.5.2G"])
def test_sizes_that_are_none_are_refused(place: Path, size: str) -> None:
    done = inside("backup", str(place / "volume"), f"file://{place}/store", "--volume", "v",
                  f"--limit-rate={size}", code=64)  # fmt: skip
    assert "is not a number of bytes" in words_of(done)[0]


@pytest.mark.parametrize(
    ("text", "size"), [("1", 1), ("64k", 65536), ("1.5G", 3 << 29), ("20MiB/s", 20 << 20), ("2 TB", 2 << 40)]
)
def test_sizes(text: str, size: int) -> None:
    from blockvault.cli.values import SIZE

    assert SIZE.convert(text, None, None) == size
