"""F10: whatever works at once, together it keeps within the bandwidth."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from blockvault.api import Limits
from blockvault.api.common import parse_quantity
from blockvault.core.rates import backup_rate, most_at_once, restore_rate

LIMITS = st.builds(
    Limits,
    bandwidth=st.none() | st.sampled_from(["1k", "1Mi", "200Mi", "7G"]),
    concurrent_backups=st.none() | st.integers(1, 256),
)


@given(LIMITS, st.none() | st.integers(1, 10**10), st.integers(1, 100))
def test_f10_all_that_may_work_at_once_together_keep_within_each_bound(
    limits: Limits, overall: int | None, places: int
) -> None:
    rate = backup_rate(limits, overall, places)
    if limits.bandwidth is None and overall is None:
        assert rate is None
        return
    assert rate is not None
    assert rate > 0
    if limits.bandwidth is not None:
        at_once = most_at_once(limits)
        assert at_once is not None, "a number is known, or nobody could keep to it"
        assert rate == 1 or rate * at_once <= parse_quantity(limits.bandwidth)
    if overall is not None:
        assert rate == 1 or rate * places <= overall


def test_f10_one_by_one_with_all_of_the_bandwidth_unless_more_are_asked_for() -> None:
    one, four = Limits(bandwidth="200Mi"), Limits(bandwidth="200Mi", concurrent_backups=4)
    assert (most_at_once(one), backup_rate(one, None, 8)) == (1, 200 << 20)
    assert (most_at_once(four), backup_rate(four, None, 8)) == (4, 50 << 20)
    assert most_at_once(Limits()) is None
    assert backup_rate(Limits(), 800, 8) == 100


def test_f10_a_restore_has_all_of_the_bandwidth_as_somebody_waits_for_it() -> None:
    assert restore_rate(Limits(bandwidth="200Mi", concurrent_backups=4), None) == 200 << 20
    assert restore_rate(Limits(bandwidth="200Mi"), 1 << 20) == 1 << 20
    assert restore_rate(Limits(), None) is None
