"""Retention as a table: the guide's worked examples (5.2, 10.6.2), what it leaves open, and what must always hold."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blockvault.api import Keep, Retention
from blockvault.core.retention import Made, Rule, Verdict, expires_at, judge, months_later

MONTH = Retention(months=1)
SEVEN = Retention(count=7)
FOREVER = Retention(permanent=True)


def moment(text: str) -> datetime:
    """`08-05 10:00` of 2026, in UTC."""
    return datetime.strptime(f"2026-{text}", "%Y-%m-%d %H:%M").replace(tzinfo=UTC)


def number(count: int) -> Retention:
    """A rule by number; the schema takes 2 and more, the function any."""
    return Retention.model_construct(count=count)


def nightly(first: str, last: str, rule: Retention | None) -> list[Made]:
    """A backup at 02:00 on each day from the first to the last, named by its day."""
    day, made = moment(f"{first} 02:00"), []
    while day <= moment(f"{last} 02:00"):
        made.append(Made(f"{day:%m-%d}", day, day + timedelta(minutes=20), rule))
        day += timedelta(days=1)
    return made


def manual(at: str) -> Made:
    return Made(f"manual {at}", moment(at), moment(at) + timedelta(minutes=5))


def staying(verdicts: list[Verdict]) -> list[str]:
    return sorted(v.name for v in verdicts if not v.goes)


def stays(backups: list[Made], rule: Rule | None, now: str) -> list[str]:
    return staying(judge(backups, rule, moment(now)))


# In 2026, the 6th of July is a Monday.
WEEK = ["07-06", "07-07", "07-08", "07-09", "07-10", "07-11"]


def test_b4_of_three_that_are_kept_older_ones_go() -> None:
    """5.2: set on Monday at 10:00; on Saturday at 11:00 those of Thursday to Saturday are there."""
    rule = Rule(number(3), moment("07-06 10:00"))
    made = nightly("07-07", "07-11", rule.retention)
    assert stays(made, rule, "07-11 11:00") == ["07-09", "07-10", "07-11"]


@pytest.mark.parametrize("by_hand", [True, False])
def test_b8_a_new_number_counts_for_all_from_the_next_run_on(by_hand: bool) -> None:
    """10.6.2, first example: three become one on Thursday at 10:00, and any backup after that sees to it."""
    made = nightly("07-07", "07-09", number(3))
    rule = Rule(number(1), moment("07-09 10:00"))
    assert stays(made, rule, "07-09 10:00") == ["07-07", "07-08", "07-09"]
    assert stays(made, rule, "07-09 23:00") == ["07-07", "07-08", "07-09"]
    if by_hand:
        assert stays([*made, manual("07-09 12:00")], rule, "07-09 12:10") == ["07-09", "manual 07-09 12:00"]
    else:
        assert stays([*made, *nightly("07-10", "07-10", number(1))], rule, "07-10 02:30") == ["07-10"]


@pytest.mark.parametrize("later", [MONTH, FOREVER])
def test_b8_number_to_time_or_permanent_leaves_the_old_ones_alone(later: Retention) -> None:
    """10.6.2, second example: the three of the old rule stay until somebody deletes them."""
    rule = Rule(later, moment("07-09 10:00"))
    made = [*nightly("07-07", "07-09", number(3)), *nightly("07-10", "08-12", later)]
    left = stays(made, rule, "08-12 11:00")
    assert {"07-07", "07-08", "07-09"} <= set(left)
    assert ("07-12" in left) == (later is FOREVER)  # a month after the 12th of July at 02:00 is over by then
    assert "07-13" in left


def test_b8_time_to_time_each_keeps_the_rule_it_was_made_under() -> None:
    """10.6.2, third example: a month becomes three on the 8th of August."""
    rule = Rule(Retention(months=3), moment("08-08 10:00"))
    made = [*nightly("08-06", "08-08", MONTH), *nightly("08-09", "12-01", rule.retention)]
    assert "08-06" in stays(made, rule, "09-06 01:59")
    assert "08-06" not in stays(made, rule, "09-06 02:00")
    assert "08-07" in stays(made, rule, "09-06 02:00")
    assert "08-09" in stays(made, rule, "11-09 01:59")
    assert "08-09" not in stays(made, rule, "11-09 02:00")


def test_b8_time_to_permanent_the_old_ones_still_expire() -> None:
    rule = Rule(FOREVER, moment("08-08 10:00"))
    made = [*nightly("08-06", "08-08", MONTH), *nightly("08-09", "08-10", FOREVER)]
    assert stays(made, rule, "10-01 00:00") == ["08-09", "08-10"]


def test_b8_time_to_number_the_new_rule_counts_the_old_ones() -> None:
    """10.6.2, fourth example: a month becomes seven on the 8th; on the 15th those of the 9th to the 15th are there."""
    rule = Rule(SEVEN, moment("08-08 10:00"))
    made = [*nightly("08-06", "08-08", MONTH), *nightly("08-09", "08-15", SEVEN)]
    assert stays(made, rule, "08-15 10:00") == [f"08-{day:02}" for day in range(9, 16)]


def test_b8_time_to_number_the_old_rule_still_counts_for_the_old_ones() -> None:
    """10.6.2, fifth example: three days become seven on the 8th; on the 10th those of the 8th to the 10th are there."""
    rule = Rule(SEVEN, moment("08-08 10:00"))
    made = [*nightly("08-06", "08-08", Retention(days=3)), *nightly("08-09", "08-10", SEVEN)]
    assert stays(made, rule, "08-10 10:00") == ["08-08", "08-09", "08-10"]


def test_b9_without_a_policy_time_goes_on_and_numbers_stay() -> None:
    timed, counted = nightly("07-01", "07-03", MONTH), nightly("07-04", "07-20", number(2))
    assert stays([*timed, *counted], None, "12-01 00:00") == [b.name for b in counted]


def test_b4_permanent_in_either_writing_stays_and_counts_for_nothing() -> None:
    forever = [*nightly("07-01", "07-01", FOREVER), *nightly("07-02", "07-02", Retention(days=99999))]
    rule = Rule(number(2), moment("07-02 10:00"))
    made = [*forever, *nightly("07-03", "07-06", rule.retention)]
    assert stays(made, rule, "07-06 03:00") == ["07-01", "07-02", "07-05", "07-06"]
    assert [expires_at(b) for b in forever] == [None, None]


def test_b5_a_pinned_one_stays_and_does_not_count() -> None:
    rule = Rule(number(2), moment("07-01 00:00"))
    made = nightly("07-01", "07-05", rule.retention)
    pinned = [Made(b.name, b.taken, b.ended, b.rule, pinned=b.name in ("07-02", "07-05")) for b in made]
    assert stays(pinned, rule, "07-05 03:00") == ["07-02", "07-03", "07-04", "07-05"]


def test_c7_one_that_is_being_restored_goes_later_and_counts() -> None:
    rule = Rule(number(2), moment("07-01 00:00"))
    made = nightly("07-01", "07-05", rule.retention)
    busy = [Made(b.name, b.taken, b.ended, b.rule, busy=b.name in ("07-02", "07-05")) for b in made]
    verdicts = judge(busy, rule, moment("07-05 03:00"))
    assert staying(verdicts) == ["07-02", "07-04", "07-05"]
    assert next(v for v in verdicts if v.name == "07-02").reason == "InUse"


def test_b6_of_failed_periodic_runs_ten_stay_for_a_month() -> None:
    made = [
        Made(b.name, b.taken, b.ended, b.rule, failed=True)
        for b in nightly("07-01", "07-15", Retention(days=2))
    ]
    by_hand = Made("by hand", moment("06-01 00:00"), moment("06-01 00:00"), failed=True)
    assert stays([*made, by_hand], None, "07-15 12:00") == [*(f"07-{d:02}" for d in range(6, 16)), "by hand"]
    assert stays([*made, by_hand], None, "08-14 12:00") == ["07-15", "by hand"]
    assert stays([*made, by_hand], None, "08-16 00:00") == ["by hand"]


def test_f20_the_last_good_one_stays_whatever_the_rules_say() -> None:
    failed = Made("08-01", moment("08-01 02:00"), moment("08-01 02:01"), MONTH, failed=True)
    made = [*nightly("07-01", "07-03", Retention(days=2)), failed]
    verdicts = judge(made, None, moment("08-02 00:00"))
    assert staying(verdicts) == ["07-03", "08-01"]
    assert {v.name: v.reason for v in verdicts}["07-03"] == "LastGood"
    # One by hand that is newer is as good.
    assert stays([*made, manual("07-04 00:00")], None, "08-02 00:00") == ["08-01", "manual 07-04 00:00"]


def test_f20_a_scheme_keeps_the_last_of_each_period() -> None:
    keep = Keep(last=2, daily=3, weekly=2, monthly=2, yearly=1)
    rule = Rule(Retention(keep=keep), moment("01-01 00:00"))
    made = nightly("05-28", "07-12", rule.retention)
    # A Sunday is the last of its week; May has its last on the 31st, which is a Sunday as well.
    assert stays(made, rule, "07-12 03:00") == ["06-30", "07-05", "07-10", "07-11", "07-12"]
    verdicts = {v.name: v.message for v in judge(made, rule, moment("07-12 03:00"))}
    for why in ("last 1 of 2", "daily 1 of 3", "weekly 1 of 2", "monthly 1 of 2", "yearly 1 of 1"):
        assert why in verdicts["07-12"]
    assert "monthly 2 of 2" in verdicts["06-30"]


def test_f20_days_of_a_scheme_are_those_of_the_policy_s_time_zone() -> None:
    keep = Retention(keep=Keep(daily=1))
    late, early = (Made(at, moment(at), moment(at), keep) for at in ("07-01 21:30", "07-01 22:30"))
    # In Berlin the second is of the next day, in UTC of the same.
    assert stays(
        [late, early],
        Rule(Retention(keep=Keep(daily=2)), moment("01-01 00:00"), "Europe/Berlin"),
        "07-02 00:00",
    ) == [
        "07-01 21:30",
        "07-01 22:30",
    ]
    assert stays(
        [late, early], Rule(Retention(keep=Keep(daily=2)), moment("01-01 00:00")), "07-02 00:00"
    ) == ["07-01 22:30"]


def test_f20_hours_that_come_twice_are_two_hours() -> None:
    keep = Retention(keep=Keep(hourly=9))
    # On the 25th of October Berlin has 02:30 twice.
    made = [Made(at, moment(at), moment(at), keep) for at in ("10-25 00:30", "10-25 01:30", "10-25 02:30")]
    rule = Rule(keep, moment("01-01 00:00"), "Europe/Berlin")
    assert len(stays(made, rule, "10-25 03:00")) == 3


@pytest.mark.parametrize(
    ("taken", "months", "zone", "expected"),
    [
        ("2026-01-31T02:00+00:00", 1, "UTC", "2026-02-28T02:00+00:00"),
        ("2027-11-30T02:00+00:00", 3, "UTC", "2028-02-29T02:00+00:00"),
        ("2026-12-06T02:00+00:00", 1, "UTC", "2027-01-06T02:00+00:00"),
        ("2026-08-06T02:00+00:00", 12, "UTC", "2027-08-06T02:00+00:00"),
        # 02:00 in Berlin is 01:00 in winter and 00:00 in summer.
        ("2026-03-06T01:00+00:00", 1, "Europe/Berlin", "2026-04-06T00:00+00:00"),
    ],
)
def test_b4_a_month_is_one_of_the_calendar(taken: str, months: int, zone: str, expected: str) -> None:
    found = months_later(datetime.fromisoformat(taken), months, zone)
    assert found == datetime.fromisoformat(expected)


RULES = st.one_of(
    st.builds(Retention, days=st.integers(2, 40)),
    st.builds(Retention, months=st.sampled_from([1, 3])),
    st.builds(Retention, count=st.integers(2, 9)),
    st.just(FOREVER),
    st.builds(
        lambda daily, weekly: Retention(keep=Keep(daily=daily, weekly=weekly)),
        st.integers(1, 5),
        st.integers(0, 5),
    ),
)
START = moment("01-01 00:00")


@st.composite
def histories(draw: st.DrawFn) -> list[Made]:
    """Backups of one resource, at moments of their own."""
    hours = draw(st.lists(st.integers(0, 24 * 90), unique=True, max_size=20))
    made = []
    for hour in hours:
        taken = START + timedelta(hours=hour)
        rule = draw(st.one_of(st.none(), RULES))
        state = draw(st.sampled_from(["good", "good", "good", "failed", "pinned", "busy"]))
        made.append(
            Made(
                f"b{hour}", taken, taken + timedelta(minutes=30), rule,
                failed=state == "failed", pinned=state == "pinned", busy=state == "busy",
            )
        )  # fmt: skip
    return made


@given(
    histories(),
    st.one_of(
        st.none(), st.builds(Rule, RULES, st.integers(0, 24 * 90).map(lambda h: START + timedelta(hours=h)))
    ),
    st.integers(0, 24 * 200).map(lambda h: START + timedelta(hours=h)),
    st.randoms(use_true_random=False),
)
def test_f20_what_must_hold_whatever_happened(
    made: list[Made], rule: Rule | None, now: datetime, chance: object
) -> None:
    verdicts = judge(made, rule, now)
    assert {v.name for v in verdicts} == {b.name for b in made}
    gone = {v.name for v in verdicts if v.goes}
    by_name = {b.name: b for b in made}
    for name in gone:
        backup = by_name[name]
        assert backup.rule is not None, "made by hand"
        assert not backup.busy
        assert backup.failed or not (backup.pinned or backup.rule.permanent)
    good = [b for b in made if not b.failed]
    if good:
        assert max(good, key=lambda b: b.taken).name not in gone
    # The order in which they are seen does not matter.
    chance.shuffle(made)  # type: ignore[attr-defined]
    assert judge(made, rule, now) == verdicts
    # What stays is judged the same without what went: a removal asks for no other.
    left = [b for b in made if b.name not in gone]
    again = {v.name for v in judge(left, rule, now) if v.goes}
    assert not again


@given(histories(), st.integers(2, 9), st.integers(0, 24 * 90))
def test_b4_a_number_keeps_that_many(made: list[Made], count: int, hour: int) -> None:
    """Of those that count, unless their own time is over or fewer are there."""
    rule = Rule(Retention(count=count), START)
    now = START + timedelta(hours=hour)
    counted = [b for b in made if b.rule and not (b.failed or b.pinned or b.rule.permanent)]
    left = [v.name for v in judge(made, rule, now) if not v.goes and v.reason != "LastGood"]
    staying_counted = [b for b in counted if b.name in left and not b.busy]
    assert len(staying_counted) <= count
