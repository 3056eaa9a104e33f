"""The rule of locks, as arithmetic."""

from __future__ import annotations

import pytest

from blockvault.engine.lockrule import LOCKED_UNTIL, LockRule, held, hold, lower
from blockvault.engine.names import NO_EPOCH, NameSource
from blockvault.engine.state import FIGURES, RootEntry
from blockvault.stores import ObjectLock
from tests.unit.engine.locks.locking import DAY, START


def entry(until: float | None) -> RootEntry:
    name = str(NameSource(NO_EPOCH).fresh())
    made = RootEntry("id", "op", name, 1, "", "", 1, "full", None, "", dict.fromkeys(FIGURES))
    hold(made, until)
    return made


@pytest.mark.parametrize(("days", "margin"), [(1, 1), (7, 7), (30, 30), (365, 30)])
def test_the_margin(days: int, margin: int) -> None:
    rule = LockRule(ObjectLock("Governance", days))
    assert rule.of_new == ObjectLock("Governance", days + margin)
    end = rule.end(START)
    assert end == START + (days + margin) * DAY
    assert not rule.due(end, START + 0.89 * margin * DAY)
    assert rule.due(end, START + 0.91 * margin * DAY)
    assert rule.due(None, START)


def test_longer_but_never_shorter() -> None:
    rule = LockRule(ObjectLock("Governance", 30))
    assert rule.at_least(None) is rule.at_least(30) is rule.at_least(3) is rule
    assert rule.at_least(31).lock == ObjectLock("Governance", 31)


@pytest.mark.parametrize(
    ("mine", "others", "then"),
    [(5, [], 5), (5, [9], 5), (5, [9, 3], 3), (5, [None], None), (None, [5], None)],
)
def test_what_needs_others_is_locked_no_longer_than_they(
    mine: int | None, others: list[int | None], then: int | None
) -> None:
    """A mended backup names blocks of a later one."""
    one = entry(mine)
    lower(one, [entry(each) for each in others])
    assert held(one) == then
    assert (LOCKED_UNTIL in one.extra) == (then is not None)
