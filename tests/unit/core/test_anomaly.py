"""What is suddenly nearly empty or nearly all new holds expiry, and what happens every day does not (F20)."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blockvault.core.anomaly import EMPTY, LEAST_USED, REWRITTEN, Run, judge_runs
from blockvault.core.conditions import timestamp

from .runs import World, policy

GIB, MIB = 2**30, 2**20
START = datetime(2026, 7, 6, 10, 0, tzinfo=UTC)


def runs(*figures: tuple[str, float, float]) -> list[Run]:
    """(F or I, GiB changed, GiB stored), a day apart."""
    return [
        Run(f"b{n}", START + timedelta(days=n), kind == "F", int(changed * GIB), int(stored * GIB))
        for n, (kind, changed, stored) in enumerate(figures)
    ]


def signs(*figures: tuple[str, float, float]) -> list[tuple[str, str]]:
    return [(sign.name, sign.reason) for sign in judge_runs(runs(*figures))[0]]


USUAL = (("F", 100, 50), ("I", 3, 1), ("I", 2, 1), ("I", 4, 2))


@pytest.mark.parametrize(
    ("last", "reason"),
    [
        (("I", 4, 2), None),
        (("I", 0, 0), None),
        # A disk that was wiped: blocks that became zero cost nothing; one full of one byte next to nothing.
        (("I", 100, 0.0001), EMPTY),
        (("I", 60, 0.0001), EMPTY),
        (("I", 40, 0.0001), None),
        (("F", 5, 2), EMPTY),
        (("F", 0, 0), EMPTY),
        (("F", 50, 20), None),
        (("F", 500, 20), None),
        # Files that somebody encrypted, in place or beside the old ones.
        (("I", 95, 95), REWRITTEN),
        (("I", 200, 110), REWRITTEN),
        (("I", 50, 50), None),
        # A database that touches each block and few sectors of each.
        (("I", 100, 1), None),
        # Far more than there was: somebody filled it.
        (("I", 900, 400), None),
    ],
)
def test_f20_thresholds(last: tuple[str, float, float], reason: str | None) -> None:
    assert signs(*USUAL, last) == ([("b4", reason)] if reason else [])


def test_f20_what_is_always_so_is_not_odd() -> None:
    """A nightly dump over the whole volume; a volume that is new and being filled."""
    assert signs(("F", 100, 50), *[("I", 98, 49)] * 9) == []
    assert signs(("F", 100, 50), ("I", 95, 50), ("I", 95, 50)) == []
    assert signs(("F", 1, 1), ("I", 2, 1), ("I", 2, 1), ("I", 50, 40)) == []


def test_f20_afterwards_the_new_state_is_what_counts() -> None:
    """Once empty it is not empty again, and what fills it is no anomaly."""
    assert signs(*USUAL, ("I", 100, 0.0001), ("I", 0.001, 0), ("I", 0.5, 0.2)) == [("b4", EMPTY)]
    assert signs(*USUAL, ("I", 100, 0.0001), ("I", 90, 60)) == [("b4", EMPTY)]
    assert signs(*USUAL, ("F", 1, 0.5), ("F", 1, 0.5)) == [("b4", EMPTY)]


RUN = st.tuples(st.booleans(), st.integers(0, 200 * MIB), st.integers(0, 200 * MIB))


@given(st.lists(RUN, max_size=12), st.randoms(use_true_random=False))
def test_f20_the_order_of_looking_does_not_matter_and_the_small_is_never_judged(
    figures: list[tuple[bool, int, int]], rng: Any
) -> None:
    made = [
        Run(f"b{n}", START + timedelta(hours=n), full, changed, min(stored, changed))
        for n, (full, changed, stored) in enumerate(figures)
    ]
    found, known = judge_runs(made)
    shuffled = list(made)
    rng.shuffle(shuffled)
    assert judge_runs(shuffled) == (found, known)
    # What comes later changes nothing of what was said before, and what was there before may be gone.
    for n in range(len(made)):
        early, then = judge_runs(made[:n])
        late, end = judge_runs(made[n // 2 :], then)
        assert (early + late, end) == (found, known)
    small = [Run(r.name, r.ended, r.full, min(r.changed, LEAST_USED - 1), r.stored) for r in made]
    assert judge_runs(small)[0] == []
    assert "b0" not in [sign.name for sign in found], "the first has nothing to be compared with"


def back_up(world: World, day: int, changed: float, stored: float, kind: str = "Incremental") -> str:
    (name,) = world.at(f"07-{day:02} 02:00").turn(end=False)
    world.end(name, kind=kind)
    world.backups[name]["status"]["volumes"] = [
        {"claim": "db", "bytesChanged": int(changed * GIB), "bytesStored": int(stored * GIB)}
    ]
    world.turn()
    return name


def history(world: World) -> list[str]:
    world.turn()
    names = [back_up(world, 7, 100, 50, "Full")]
    return names + [back_up(world, day, 3, 1) for day in (8, 9)]


class Recording(World):
    """A World whose status has the anomalies too."""

    def record(self, plan: Any) -> None:
        super().record(plan)
        found = plan.anomalies
        self.status["anomalies"] = [each.model_dump(by_alias=True) for each in found.entries]


def test_f20_expiry_is_held_until_somebody_says_the_token() -> None:
    world = Recording(policy({"count": 2}))
    history(world)
    assert len(world.backups) == 2
    odd = back_up(world, 10, 100, 90)
    plan = world.look()
    assert [(a.backup, a.reason, a.acknowledged) for a in plan.anomalies.entries] == [(odd, REWRITTEN, False)]
    assert plan.policy is not None
    assert plan.policy.would_remove == 0
    for day in range(11, 16):
        back_up(world, day, 3, 1)
    assert len(world.backups) == 8, "none of them goes"
    token = plan.anomalies.entries[0].token
    assert f"acknowledge={token}" in plan.anomalies.entries[0].message
    world.annotations["blockvault.dev/acknowledge"] = "another"
    world.turn()
    assert len(world.backups) == 8
    world.annotations["blockvault.dev/acknowledge"] = f"another, {token}"
    world.turn()
    assert len(world.backups) == 2
    # The word may be taken away again, and what is left is not judged anew by less than there was.
    world.annotations.clear()
    world.turn()
    assert world.look().anomalies.held == frozenset()


def test_f20_the_word_on_the_backup_counts_too_and_a_backup_that_is_deleted_holds_nothing() -> None:
    for word in (True, False):
        world = Recording(policy({"count": 2}))
        history(world)
        odd = back_up(world, 10, 100, 0.0001)
        assert world.look().anomalies.held
        if word:
            token = world.look().anomalies.entries[0].token
            world.backups[odd]["metadata"]["annotations"]["blockvault.dev/acknowledge"] = token
        else:
            del world.backups[odd]
        assert not world.look().anomalies.held


def test_f20_each_is_judged_once() -> None:
    """With the usual ones gone, what was usual would look odd."""
    world = Recording(policy({"count": 99}))
    world.turn()
    back_up(world, 7, 100, 50, "Full")
    for day in (8, 9, 10, 11):
        back_up(world, day, 90, 50)
    for day in (12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22):
        back_up(world, day, 1, 1)
    assert world.look().anomalies.entries == []
    for name in sorted(world.backups, key=lambda n: world.backups[n]["status"]["slot"])[1:3]:
        del world.backups[name]
    assert world.look().anomalies.entries == []


def test_f20_no_claim_of_many_is_forgotten_at_the_second_look() -> None:
    claims = tuple(f"db{n}" for n in range(256))
    world = Recording(policy({"count": 2}), claims)
    world.turn()
    for day, (changed, stored) in enumerate([(100, 50), (3, 1), (3, 1), (100, 90)], start=7):
        world.at(f"07-{day:02} 02:00")
        for name in world.turn(end=False):
            world.end(name, kind="Full" if day == 7 else "Incremental")
            figures = {"bytesChanged": int(changed * GIB), "bytesStored": int(stored * GIB)}
            world.backups[name]["status"]["volumes"] = [{"claim": "db", **figures}]
    plan = world.look()
    assert len(plan.anomalies.held) == 256
    world.record(plan)
    plan = world.look()
    assert (len(plan.anomalies.held), plan.remove) == (256, [])


def test_f20_beyond_all_bounds_each_volume_keeps_a_hold() -> None:
    world = Recording(policy({"count": 99}), ("a",))
    history(world)
    world.status["anomalies"] = []
    for number in range(1024):
        name = f"x-{number}"
        meta = {"name": name, "namespace": "shop", "uid": name, "creationTimestamp": timestamp(START)}
        spec = {"vaultRef": {"name": "disks"}, "resource": {"kind": "PersistentVolumeClaim", "name": "b"}}
        world.backups[name] = {"metadata": meta, "spec": spec, "status": {"phase": "Available"}}
        token = hashlib.sha256(f"anomaly/{name}".encode()).hexdigest()[:8]
        entry = {"backup": name, "token": token, "reason": EMPTY, "message": "m"}
        world.status["anomalies"].append(entry)
    back_up(world, 10, 100, 90)
    assert len(world.status["anomalies"]) == 1024
    assert world.look().anomalies.held == {"shop/a", "shop/b"}


def test_f20_taking_a_claim_out_of_its_vault_lifts_no_hold() -> None:
    world = Recording(policy({"count": 2}), ("db", "web"), states={"web": "Waiting"})
    history(world)
    odd = back_up(world, 10, 100, 90)
    world.turn()
    world.status["resources"] = [r for r in world.status["resources"] if r["name"] == "web"]
    for _ in range(2):
        plan = world.look()
        assert [each.backup for each in plan.anomalies.entries] == [odd]
        assert len(plan.anomalies.held) == 1
        world.record(plan)
