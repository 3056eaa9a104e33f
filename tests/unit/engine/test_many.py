"""Several backups at once: one that fails does not stop the others, and all stay within one budget."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from blockvault.engine import BackupRequest, BackupResult, BadRequest, Repository, SourceNotFound
from blockvault.engine.many import BASE_MEMORY, MIB, Budget, Share, back_up, footprint, share
from tests.unit.engine.support import MemoryStore


@pytest.mark.parametrize(
    ("budget", "backups", "expected"),
    [
        (Budget(threads=3), 1, Share(1, 3)),
        (Budget(threads=8), 2, Share(2, 4)),
        (Budget(threads=8), 20, Share(4, 2)),
        (Budget(at_once=10, threads=8), 20, Share(10, 1)),
        (Budget(at_once=10, threads=8), 3, Share(3, 2)),
        (Budget(threads=8, memory=BASE_MEMORY + 2 * footprint(4)), 2, Share(2, 4)),
        (Budget(threads=8, memory=BASE_MEMORY + 2 * footprint(4) - 1), 2, Share(2, 3)),
        (Budget(threads=8, memory=BASE_MEMORY + 2 * footprint(1) - 1), 2, Share(1, 8)),
        (Budget(threads=8, memory=BASE_MEMORY + footprint(1)), 4, Share(1, 1)),
    ],
)
def test_a_budget_is_divided(budget: Budget, backups: int, expected: Share) -> None:
    assert share(budget, backups) == expected
    if budget.memory is not None:
        assert BASE_MEMORY + expected.at_once * footprint(expected.threads) <= budget.memory


def test_a_budget_too_small_for_one_backup_says_what_is_needed() -> None:
    with pytest.raises(BadRequest, match="too few") as caught:
        share(Budget(memory=100 * MIB), 1)
    least = int(caught.value.remedy.split()[3])
    assert share(Budget(memory=least * MIB), 9) == Share(1, 1)


@pytest.fixture
def sources(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"source{n}" for n in range(6)]
    for n, path in enumerate(paths):
        path.write_bytes(bytes([n + 1]) * 20_000)
    return paths


@pytest.mark.usefixtures("small")
def test_one_that_fails_does_not_stop_the_others(store: MemoryStore, sources: list[Path]) -> None:
    sources[1].unlink()
    requests = [BackupRequest(str(path), f"v{n}") for n, path in enumerate(sources)]
    ended: list[str] = []
    outcomes = back_up(
        Repository.open(store), requests, Budget(at_once=2, threads=2), lambda r, _: ended.append(r.volume)
    )
    assert isinstance(outcomes[1], SourceNotFound)
    results = [outcome for outcome in outcomes if isinstance(outcome, BackupResult)]
    assert [result.volume for result in results] == ["v0", "v2", "v3", "v4", "v5"]
    assert sorted(ended) == [request.volume for request in requests]
    assert len(Repository.open(store).list()) == 5


@pytest.mark.usefixtures("small")
def test_no_more_at_once_than_allowed_and_each_counts_its_own_requests(
    store: MemoryStore, sources: list[Path]
) -> None:
    running: set[str] = set()
    most = 0
    lock = threading.Lock()
    met = threading.Barrier(2, timeout=10)

    def report_of(volume: str) -> object:
        def report(_: object) -> None:
            nonlocal most
            with lock:
                first = volume not in running
                running.add(volume)
                most = max(most, len(running))
            if first and volume in ("v0", "v1"):
                met.wait()  # two of them are really side by side

        return report

    requests = [
        BackupRequest(str(path), f"v{n}", report=report_of(f"v{n}"))  # type: ignore[arg-type]
        for n, path in enumerate(sources)
    ]
    outcomes = back_up(
        Repository.open(store),
        requests,
        Budget(at_once=2, threads=2),
        lambda request, _: running.discard(request.volume),
    )
    assert most == 2
    counts = {outcome.requests for outcome in outcomes if isinstance(outcome, BackupResult)}
    assert len(counts) == 1


@pytest.mark.usefixtures("small")
def test_a_defect_in_one_lets_the_others_end(store: MemoryStore, sources: list[Path]) -> None:
    def defect(_: object) -> None:
        raise ZeroDivisionError

    requests = [BackupRequest(str(path), f"v{n}") for n, path in enumerate(sources)]
    requests[0].report = defect
    with pytest.raises(ZeroDivisionError):
        back_up(Repository.open(store), requests, Budget(at_once=2, threads=2))
    assert len(Repository.open(store).list()) == 5
