"""Backups of what leaves its vault go by intent only: after a while, and by a word where they are many (A7, F11, F18)."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from blockvault.api import Backup, MassDeletion, Vault
from blockvault.core.conditions import timestamp
from blockvault.core.dissociation import LeavingPlan, LeavingView, plan_leaving

START = datetime(2026, 11, 23, 12, tzinfo=UTC)
LIMIT = MassDeletion(percent=30, minutes=10)


@dataclass
class World:
    """A vault of claims with so many backups each; looks write their status as the operator does."""

    counts: dict[str, int]
    now: datetime = START
    policy: str = "Delete"
    named: set[str] = field(default_factory=set)
    status: dict[str, Any] = field(default_factory=dict)
    word: str = ""
    removed: set[str] = field(default_factory=set)
    told: list[str] = field(default_factory=list)
    backups: dict[str, Backup] = field(default_factory=dict)
    odd: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        self.named = set(self.counts)
        for claim, number in self.counts.items():
            for n in range(number):
                self.add(claim, f"{claim}-{n}", START - timedelta(days=1))

    def add(self, claim: str, name: str, created: datetime, phase: str = "Available") -> None:
        self.backups[name] = Backup.model_validate(
            {
                "metadata": {
                    "name": name, "namespace": "shop", "uid": f"u-{name}", "creationTimestamp": timestamp(created),
                },
                "spec": {"vaultRef": {"name": "disks"}, "resource": {"name": claim}},
                "status": {"phase": phase, "volumes": [{"claim": claim}] if phase == "Available" else []},
            }
        )  # fmt: skip

    def look(self, left: set[str] = frozenset(), *, written: bool = True) -> LeavingPlan:  # type: ignore[assignment]
        """`left`: what has just left; a status that is not written is that of an operator that died."""
        spec = {"capacity": "1Ti", "className": "c", "dissociation": self.policy}
        notes = {"blockvault.dev/allow-deletion": self.word} if self.word else {}
        meta = {
            "name": "disks", "namespace": "shop", "uid": "v", "creationTimestamp": timestamp(START), "annotations": notes,
        }  # fmt: skip
        vault = Vault.model_validate({"metadata": meta, "spec": spec, "status": self.status})
        self.named -= left
        plan = plan_leaving(
            LeavingView(
                self.now, vault, LIMIT, sorted(left), self.named, list(self.backups.values()), self.odd
            )
        )
        for verdict in plan.remove:
            self.removed.add(verdict.name)
            del self.backups[verdict.name]
        self.told += [reason for reason, _ in plan.told]
        if written:
            self.status = {
                "leaving": [each.model_dump(by_alias=True) for each in plan.leaving],
                "dissociationHold": plan.hold.model_dump(by_alias=True) if plan.hold else None,
            }
        return plan

    def later(self, **time: int) -> None:
        self.now += timedelta(**time)


def test_a7_a_few_backups_go_after_a_while() -> None:
    world = World({"db": 2, "web": 10})
    plan = world.look({"db"})
    assert (plan.remove, plan.hold, world.told) == ([], None, ["Dissociated"])
    assert [(each.name, each.backups) for each in plan.leaving] == [("db", 2)]
    assert plan.next_look == 600.5
    # What is made of it by hand since then stays, and what runs ends first.
    world.add("db", "by-hand", START + timedelta(minutes=1))
    world.add("db", "running", START, "Creating")
    world.later(minutes=10)
    assert {v.name for v in world.look().remove} == {"db-0", "db-1"}
    assert world.look().leaving[0].backups == 1
    world.add("db", "running", START)
    assert [v.name for v in world.look().remove] == ["running"]
    assert world.look().leaving == []
    assert "by-hand" in world.backups
    assert len(world.backups) == 11


def test_a7_what_comes_back_in_time_loses_nothing() -> None:
    world = World({"db": 3, "web": 10})
    world.look({"db"})
    world.later(minutes=9)
    world.named.add("db")
    assert world.look().leaving == []
    world.later(hours=1)
    assert world.look() == LeavingPlan()
    assert world.told == ["Dissociated", "Returned"]
    assert not world.removed


def test_a7_retain_keeps_them_also_when_it_is_said_later() -> None:
    world = World({"db": 3, "web": 10}, policy="Retain")
    assert world.look({"db"}).leaving == []
    world = World({"db": 3, "web": 10})
    world.look({"db"})
    world.policy = "Retain"
    world.later(hours=1)
    assert world.look() == LeavingPlan()
    assert not world.removed


def test_f11_a_selector_with_a_typing_error_deletes_nothing() -> None:
    world = World({"a": 2, "b": 2, "c": 2})
    plan = world.look({"a", "b", "c"})
    assert plan.hold is not None
    assert "3 resources have left the vault, with 6 of its 6 backups" in plan.hold.message
    world.later(days=30)
    assert world.look().hold == plan.hold
    world.word = "another"
    assert world.look().hold == plan.hold
    # One comes back: the word for three is none for two.
    world.named.add("a")
    again = world.look().hold
    assert again is not None
    assert again.token != plan.hold.token
    world.word = plan.hold.token
    world.look()
    assert not world.removed
    world.named |= {"b", "c"}
    assert world.look().leaving == []
    assert world.look().hold is None


def test_f11_a_word_lets_them_go_at_once_and_another_keeps_them() -> None:
    world = World({"a": 3, "b": 3, "c": 1})
    hold = world.look({"a", "b"}).hold
    assert hold is not None
    world.word = hold.token
    # An operator that dies before it writes its status does the rest again.
    assert len(world.look(written=False).remove) == 6
    world.look()
    assert world.look() == LeavingPlan()
    assert set(world.backups) == {"c-0"}

    world = World({"a": 3, "b": 3, "c": 1})
    hold = world.look({"a", "b"}).hold
    assert hold is not None
    world.word = f"keep-{hold.token}"
    world.look()
    assert world.look() == LeavingPlan()
    assert not world.removed
    assert world.told[-1] == "BackupsKept"


def test_f11_leaving_one_after_the_other_counts_together() -> None:
    world = World({f"c{n}": 2 for n in range(10)})
    world.look({"c0"})
    world.later(minutes=3)
    assert world.look({"c1"}).hold is None
    world.later(minutes=3)
    assert world.look({"c2"}).hold is None
    world.later(minutes=3)
    assert world.look({"c3"}).hold is not None, "eight of twenty"
    world.later(hours=9)
    world.look()
    assert not world.removed


ACT = st.one_of(
    st.tuples(st.just("leave"), st.integers(0, 4)),
    st.tuples(st.just("return"), st.integers(0, 4)),
    st.tuples(st.just("wait"), st.integers(0, 15)),
    st.tuples(st.just("die"), st.just(0)),
)


@given(st.lists(st.integers(0, 4), min_size=5, max_size=5), st.lists(ACT, max_size=25))
def test_a7_what_the_vault_wants_never_loses_a_backup(counts: list[int], acts: list[tuple[str, int]]) -> None:
    """Whatever leaves and comes back in whatever order, with looks lost; and no word is ever said."""
    world = World({f"c{n}": count for n, count in enumerate(counts)})
    total = sum(counts)
    for act, number in acts:
        left: set[str] = set()
        if act == "leave" and f"c{number}" in world.named:
            left = {f"c{number}"}
        elif act == "return":
            world.named.add(f"c{number}")
        elif act == "wait":
            world.later(minutes=number)
        before, here = set(world.removed), len(world.backups)
        # Status and association are written together: one that was lost has left again the next time.
        if act == "die" or left:
            world.look(left, written=False)
            world.named |= left
        plan = world.look(left)
        now = world.removed - before
        assert {name.split("-")[0] for name in now} & world.named == set()
        if len(now) >= 5:
            assert len(now) * 100 <= 30 * here, "many are held"
        assert plan.hold is None or plan.leaving
    assert len(world.backups) + len(world.removed) == total


def test_f20_what_an_odd_backup_holds_does_not_go_with_its_claim_either() -> None:
    world = World({"db": 2, "web": 1, "other": 10})
    world.look({"db", "web"})
    world.odd = frozenset({"shop/db"})
    world.later(minutes=10)
    assert {v.name for v in world.look().remove} == {"web-0"}
    # It is no reason to look every few seconds.
    assert world.look().next_look is None
    world.odd = frozenset()
    assert {v.name for v in world.look().remove} == {"db-0", "db-1"}
