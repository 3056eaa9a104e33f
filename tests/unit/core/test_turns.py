"""How many Backups work at once, and in which order (F10)."""

from __future__ import annotations

import random
from collections import Counter
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from blockvault.core.turns import Turns, Waiting, chosen

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)


def wait(number: int, vault: str = "a", most: int | None = None) -> Waiting:
    return Waiting(NOW + timedelta(seconds=number), f"b{number}", vault, most)


def test_the_oldest_goes_first() -> None:
    assert chosen({}, [wait(3), wait(1), wait(2)], 2) == {"b1", "b2"}
    assert chosen({"x": "a"}, [wait(3), wait(1)], 2) == {"b1"}
    assert chosen({"x": "a", "y": "a"}, [wait(1)], 2) == set()


def test_a_full_vault_holds_up_no_other_one() -> None:
    waiting = [wait(1, "a", 1), wait(2, "a", 1), wait(3, "b")]
    assert chosen({"x": "a"}, waiting, 4) == {"b3"}
    assert chosen({}, waiting, 4) == {"b1", "b3"}


def test_a_place_is_kept_until_it_is_left_and_then_given_on() -> None:
    turns = Turns(1)
    assert turns.take(wait(1))
    assert not turns.take(wait(2))
    assert turns.waits("b2")
    assert turns.take(wait(1)), "asked again by who has it"
    assert turns.leave("b1") == ["b2"]
    assert not turns.waits("b2")
    assert turns.take(wait(2))


def test_one_that_cannot_begin_for_another_reason_holds_up_nobody() -> None:
    turns = Turns(1)
    assert turns.take(wait(9))
    assert not turns.take(wait(1))
    assert turns.leave("b1") == []
    assert not turns.take(wait(2))
    assert turns.leave("b9") == ["b2"]


def test_after_a_restart_those_at_work_count_even_beyond_the_limit() -> None:
    turns = Turns(1)
    turns.keep("b5", "a")
    turns.keep("b6", "a")
    assert not turns.take(wait(1))
    assert turns.leave("b5") == []
    assert turns.leave("b6") == ["b1"]
    assert "0 of this vault" in turns.words("a")


@given(st.integers(0, 2**32), st.integers(1, 4))
def test_the_limits_hold_and_all_come_to_their_turn(seed: int, most: int) -> None:
    chance = random.Random(seed)
    turns, limits = Turns(most), {"a": 1, "b": 2, "c": None}
    left = [wait(n, chance.choice("abc")) for n in range(12)]
    left = [Waiting(w.created, w.uid, w.vault, limits[w.vault]) for w in left]
    working: dict[str, str] = {}
    done = 0
    for _ in range(2000):
        if left and chance.random() < 0.6:
            each = chance.choice(left)
            if turns.take(each):
                left.remove(each)
                working[each.uid] = each.vault
        elif working:
            uid = chance.choice(sorted(working))
            del working[uid]
            turns.leave(uid)
            done += 1
        assert len(working) <= most
        assert all(
            limits[vault] is None or n <= (limits[vault] or 0)
            for vault, n in Counter(working.values()).items()
        )
        if done == 12:
            return
    raise AssertionError(f"{12 - done} never came to their turn")


def test_one_namespace_holds_up_no_other_by_what_it_has_piled_up() -> None:
    piled = [wait(n, f"greedy/v{n % 3}") for n in range(100)]
    assert chosen({}, [*piled, wait(200, "other/v")], 2) == {"b0", "b200"}
    assert chosen({"x": "greedy/v0", "y": "greedy/v1"}, [*piled, wait(200, "other/v")], 3) == {"b200"}
