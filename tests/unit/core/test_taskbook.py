"""Which Tasks are written when, and which go (E1)."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from blockvault.core.task_record import Record
from blockvault.core.taskbook import (
    KEPT,
    PROGRESS_SECONDS,
    SWEEP_EVERY,
    SWEEP_PAUSE,
    Kept,
    TaskBook,
    kept_of,
    to_remove,
)

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
BEGUN = Record(
    "Backup", "backup-1", "shop", "Backup", "b", "u-1", started="2026-11-23T12:00:00Z", reason="Moving"
)
ENDED = replace(BEGUN, phase="Succeeded", ended="2026-11-23T12:01:00Z")


def written(book: TaskBook, moment: float) -> list[Record]:
    """Write what is due, as the loop does."""
    found = book.due(moment)
    for record in found:
        book.written(record, moment)
    return found


def test_a_beginning_and_an_end_are_written_at_once_and_progress_now_and_then() -> None:
    book, seen = TaskBook(), []
    for second in range(100):
        book.put(replace(BEGUN, percent=second), 1000.0 + second)
        seen += [record.percent for record in written(book, 1000.0 + second)]
    assert seen == list(range(0, 100, int(PROGRESS_SECONDS)))
    book.put(ENDED, 1100.5)
    assert written(book, 1100.5) == [ENDED]


def test_a_beginning_stays_what_it_was() -> None:
    """Also where what is said later knows of no other beginning than now."""
    book = TaskBook()
    book.put(BEGUN, 0.0)
    written(book, 0.0)
    book.put(replace(ENDED, started="2026-11-23T12:00:59Z"), 1.0)
    assert book.due(1.0) == [ENDED]


def test_what_is_not_new_is_not_written() -> None:
    book = TaskBook()
    book.put(BEGUN, 0.0)
    assert written(book, 0.0) == [BEGUN]
    book.put(BEGUN, 60.0)
    assert book.due(10**6) == []
    assert book.seconds(60.0) is None


def test_a_wait_that_turns_into_work_is_written_at_once() -> None:
    book = TaskBook()
    book.put(replace(BEGUN, started=None), 0.0)
    written(book, 0.0)
    book.put(BEGUN, 1.0)
    assert book.due(1.0) == [BEGUN]


def test_the_last_change_of_one_that_waits_is_written_in_the_end() -> None:
    """It may stay so for hours."""
    book = TaskBook()
    book.put(BEGUN, 0.0)
    written(book, 0.0)
    last = replace(BEGUN, reason="VaultNotAvailable")
    book.put(replace(BEGUN, percent=1), 2.0)
    book.put(last, 3.0)
    assert book.due(3.0) == []
    assert book.seconds(3.0) == PROGRESS_SECONDS - 3.0
    assert book.due(PROGRESS_SECONDS) == [last]


def test_an_end_is_never_taken_back() -> None:
    book = TaskBook()
    book.put(ENDED, 0.0)
    book.put(BEGUN, 1.0)
    book.put(replace(ENDED, phase="Failed"), 1.0)
    assert book.due(2.0) == [ENDED]


def test_what_could_not_be_written_waits_and_what_came_meanwhile_too() -> None:
    book = TaskBook()
    book.put(BEGUN, 0.0)
    assert book.due(5.0) == book.due(6.0) == [BEGUN]
    book.put(ENDED, 7.0)  # while the first one was on its way
    book.written(BEGUN, 8.0)
    assert book.due(8.0) == [ENDED]
    book.drop(BEGUN)
    assert book.due(8.0) == [ENDED]


def test_who_goes_on_is_known_by_the_object() -> None:
    book = TaskBook()
    book.adopt(BEGUN)
    assert book.open_of("u-1") == [BEGUN]
    book.put(ENDED, 0.0)
    book.adopt(BEGUN)
    assert book.open_of("u-1") == []
    written(book, 0.0)
    assert book.open_of("u-1") == []
    assert book.said(BEGUN) is None


def test_a_namespace_is_at_work_while_something_in_it_goes_on() -> None:
    book = TaskBook()
    assert not book.at_work("shop")
    book.put(BEGUN, 0.0)
    assert book.at_work("shop")
    assert not book.at_work("other")
    written(book, 0.0)
    assert book.at_work("shop")
    book.put(ENDED, 1.0)
    written(book, 1.0)
    assert not book.at_work("shop")


def kept(name: str, days: float | None, namespace: str = "shop") -> Kept:
    return Kept(namespace, name, name, None if days is None else NOW - timedelta(days=days))


REMOVALS: list[tuple[str, list[Kept], int, set[str]]] = [
    ("none", [], 5, set()),
    ("after 30 days and not before", [kept("a", 29.9), kept("b", 30), kept("c", 400)], 5, {"b", "c"}),
    ("never what runs", [kept("a", None), kept("b", None)], 1, set()),
    ("the oldest beyond the most", [kept(str(n), n) for n in range(8)], 5, {"5", "6", "7"}),
    ("what runs counts", [kept("r", None), *(kept(str(n), n) for n in range(5))], 5, {"4"}),
    ("each namespace by itself", [*(kept(f"a{n}", n, "a") for n in range(3)), *(kept(f"b{n}", n, "b") for n in range(2))], 2, {"a2"}),
    ("what is old does not count", [kept("old", 31), kept("a", 1), kept("b", 2)], 2, {"old"}),
    ("the clock was set back", [kept("a", -3), kept("b", -1)], 5, set()),
]  # fmt: skip


@pytest.mark.parametrize(("what", "tasks", "most", "gone"), REMOVALS, ids=[row[0] for row in REMOVALS])
def test_what_is_removed(what: str, tasks: list[Kept], most: int, gone: set[str]) -> None:
    assert {task.name for task in to_remove(tasks, NOW, most)} == gone


@pytest.mark.parametrize(
    ("status", "since"),
    [
        ({"phase": "Running"}, None),
        ({"phase": "Failed", "completedAt": "2026-11-20T00:00:00Z"}, datetime(2026, 11, 20, tzinfo=UTC)),
        ({"phase": "Failed"}, datetime(2026, 11, 19, tzinfo=UTC)),
        ({}, datetime(2026, 11, 19, tzinfo=UTC)),
        ({"phase": "Failed", "completedAt": "yesterday"}, datetime(2026, 11, 19, tzinfo=UTC)),
        ({"phase": "Failed", "completedAt": "2026-11-20T00:00:00"}, datetime(2026, 11, 19, tzinfo=UTC)),
        # By a clock that was years ahead: it would stay for as long.
        ({"phase": "Failed", "completedAt": "2036-01-01T00:00:00Z"}, datetime(2026, 11, 19, tzinfo=UTC)),
    ],
    ids=str,
)
def test_since_when_a_task_is_kept(status: dict[str, Any], since: datetime | None) -> None:
    meta = {"name": "t", "namespace": "shop", "uid": "u", "creationTimestamp": "2026-11-19T00:00:00Z"}
    assert kept_of({"metadata": meta, "status": status}, NOW).since == since


def test_all_are_looked_through_twice_a_day_and_where_too_many_come() -> None:
    book, most = TaskBook(), 20
    assert book.sweep_is_due(NOW, 0.0, most)
    book.sweep_done([kept(str(n), n % 5) for n in range(20)], NOW, 0.0, most)
    assert not book.sweep_is_due(NOW + SWEEP_EVERY / 2, 1000.0, most)
    assert book.sweep_is_due(NOW + SWEEP_EVERY, 1000.0, most)
    assert book.sweep_is_due(NOW - SWEEP_EVERY, 1000.0, most), "a clock that was set back does not stop it"
    for number in range(3):
        assert not book.sweep_is_due(NOW, 1000.0, most)
        book.written(replace(ENDED, name=str(number)), 1000.0, made=True)
    assert book.sweep_is_due(NOW, 1000.0, most), "three more than the most"
    assert not book.sweep_is_due(NOW, SWEEP_PAUSE / 2, most), "not again and again"
    assert timedelta(days=30) == KEPT
