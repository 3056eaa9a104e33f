"""Goals, series and the choice of rows: what the figures are held against, and how they are put together."""

import pytest

from tests.bench import __main__ as command
from tests.bench import registry
from tests.bench.rows import Bench, Goal, Outcome
from tests.bench.series import Series, in_turn


@pytest.mark.parametrize(
    ("value", "limit", "at_least", "met"),
    [(5, 5, True, True), (4.99, 5, True, False), (1, 1, False, True), (1.01, 1, False, False)],
)
def test_a_goal_is_met_at_its_limit_and_on_its_good_side(value, limit, at_least, met):
    assert Goal("x", value, limit, at_least).met is met


def test_an_outcome_says_in_its_json_whether_goals_are_met():
    outcome = Outcome(["a"], [["x"]], [Goal("slow", 2, 1), Goal("quick", 2, 1, at_least=True)])
    assert [goal["met"] for goal in outcome.to_json()["goals"]] == [False, True]


def test_a_table_holds_medians_and_the_samples_every_measurement():
    series = Series()
    for wall in (3.0, 1.0, 100.0):
        series.add("ours", {"wall s": wall, "requests": 7})
        series.add("theirs", {"wall s": wall * 2})
    outcome = series.outcome()
    assert outcome.columns == ["program", "wall s", "requests"]
    assert outcome.lines == [["ours", 3.0, 7], ["theirs", 6.0, None]]
    assert outcome.samples["ours: wall s"] == [3.0, 1.0, 100.0]
    assert series.ratio("wall s", "theirs", "ours") == 2


def test_the_order_of_programs_is_turned_round_from_round_to_round(tmp_path):
    order = []

    def step(name):
        return lambda: order.append(name) or {"wall s": 1.0}

    found = in_turn(Bench(tmp_path, full=False, rounds=3), {name: step(name) for name in "abc"})
    assert "".join(order) == "abccbaabc"
    assert [line[0] for line in found.outcome().lines] == ["a", "b", "c"]


def test_rows_have_names_of_their_own_and_are_found_by_them():
    names = [row.name for row in (*registry.ROWS, *registry.IN_THE_CLUSTER)]
    assert len(set(names)) == len(names)
    assert [row.name for row in command.pick(["restore", "full"], registry.ROWS)] == ["restore", "full"]
    assert command.pick(["full", "fool"], registry.ROWS) == "fool"
