"""The deletion of a Vault, step by step: nothing goes without intent, and no crash changes how it ends (A6, F11, F18)."""

from __future__ import annotations

import json
import random
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blockvault.api import Backup, DeletionHold, MassDeletion, Vault, as_dict
from blockvault.core.admission import check_place
from blockvault.core.conditions import timestamp
from blockvault.core.decision import Missing, Refusal
from blockvault.core.hold import Answer, VaultHoldView, decide_vault_hold
from blockvault.core.other_vaults import deleted_together, sharing
from blockvault.core.plan_vault_deletion import (
    ERASED,
    Action,
    DeletionView,
    Step,
    decide_deletion,
    deletes_data,
    deletion_policy,
    keeps_data,
    own_backups,
    waits_for_vault,
)

from . import world

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
DELETED = NOW - timedelta(minutes=1)
DONE = {
    "volumes": 1, "foreign": 0, "lockedObjects": 0, "deletedBytes": 5, "deletedObjects": 2, "errors": [], "failed": 0,
}  # fmt: skip


def vault(spec: Any = "Delete", deleted: datetime | None = DELETED, **status: Any) -> Vault:
    body = deepcopy(world.VAULT)
    body["metadata"] |= {"generation": 2, "deletionTimestamp": timestamp(deleted) if deleted else None}
    body["spec"]["deletionPolicy"] = spec
    body["status"] = {
        "phase": "Available",
        "storeId": "s",
        "location": "s3://b/v",
        "observedGeneration": 1,
    } | status
    return Vault.model_validate(body)


def backup(name: str, deleted: bool = False, location: str | None = "s3://b/v") -> Backup:
    meta = {"name": name, "namespace": "shop", "uid": f"u-{name}", "creationTimestamp": timestamp(NOW)}
    if deleted:
        meta["deletionTimestamp"] = timestamp(NOW)
    spec = {"vaultRef": {"name": "disks"}, "resource": {"kind": "PersistentVolumeClaim", "name": "db"}}
    return Backup.model_validate(
        {"metadata": meta, "spec": spec, "status": {"phase": "Available", "location": location}}
    )


@pytest.mark.parametrize(
    ("spec", "shown", "observed", "policy"),
    [
        ("Delete", None, 1, "Delete"),
        ("Retain", "Delete", 1, "Retain"),
        (None, None, 1, "Retain"),
        (None, "Delete", 1, "Delete"),  # the class's default, as everybody could see it
        (None, "Delete", 0, "Retain"),  # of a spec that was another one: somebody may have taken it out
    ],
)
def test_f18_only_what_is_shown_or_written_deletes(spec: Any, shown: Any, observed: int, policy: str) -> None:
    found = vault(spec, deletionPolicy=shown, observedGeneration=observed)
    assert deletion_policy(found) == policy
    assert deletes_data(found) == (policy == "Delete")
    assert not deletes_data(vault(spec, None, deletionPolicy=shown))


@pytest.mark.parametrize(
    "view",
    [
        DeletionView(NOW, vault("Retain"), backups=[backup("a")]),
        DeletionView(NOW, vault(), leaving=True, backups=[backup("a")]),
        DeletionView(NOW, vault(deletion={"total": 2, "left": 1}), leaving=True, backups=[backup("a")]),
        DeletionView(NOW, vault("Retain", deletion={"total": 2, "left": 1}), backups=[backup("a")]),
        DeletionView(NOW, vault(), shared="shop/other"),
        DeletionView(NOW, vault(storeId=None), problem=Refusal("SecretInvalid", "x")),
        DeletionView(NOW, vault(), problem=Refusal("LocationInUse", "x")),
        DeletionView(NOW, vault(), hold=(Answer.KEEP_DATA, DeletionHold(token="t", since="s", message="m"))),
    ],
    ids=[
        "Retain",
        "namespace",
        "namespace-late",
        "Retain-late",
        "shared",
        "never-stored",
        "anothers-place",
        "keep",
    ],
)
def test_f18_what_is_not_meant_lets_go_at_once(view: DeletionView) -> None:
    step = decide_deletion(view)
    assert (step.done, step.action, step.deletion) == (True, None, None)
    # Where the data is, is said; unless nothing can be, or nothing is there.
    stays = not view.leaving and view.vault.status and view.vault.status.store_id and view.problem is None
    assert step.reason == (("StoreShared" if view.shared else "DataKept") if stays else "")
    assert not stays or "s3://b/v" in step.message


@pytest.mark.parametrize("shared", [None, "shop/other"])
def test_f18_once_erasing_has_begun_nobody_is_told_that_all_is_kept(shared: str | None) -> None:
    begun = {"total": 2, "left": 0, "run": 1, "startedAt": timestamp(NOW)}
    view = DeletionView(NOW, vault("Delete" if shared else "Retain", deletion=begun), shared=shared)
    step = decide_deletion(view)
    assert (step.done, step.reason) == (True, "PartlyErased")
    assert "s3://b/v" in step.message
    assert "adopt" not in step.message
    ended = begun | {"endedAt": timestamp(NOW), "reason": "Erased"}
    step = decide_deletion(DeletionView(NOW, vault("Retain", deletion=ended)))
    assert (step.done, step.reason) == (True, "")
    # Nor before it is chosen.
    failed = begun | {"endedAt": timestamp(NOW), "reason": "AccessDenied", "message": "m"}
    step = decide_deletion(DeletionView(NOW, vault(deletion=failed)))
    assert "may be gone already" in step.message
    problem = Refusal("StoreUnreachable", "no answer.")
    assert "leave what is stored" in decide_deletion(DeletionView(NOW, vault(), problem=problem)).message


def test_a_vault_made_again_does_not_own_the_former_ones_backups() -> None:
    found = own_backups(
        vault(), [backup("a"), backup("b", location="s3://b/old"), backup("c", location=None)]
    )
    assert [b.metadata.name for b in found] == ["a", "c"]


def test_nothing_begins_before_the_others_of_a_prune_are_seen() -> None:
    step = decide_deletion(DeletionView(DELETED + timedelta(seconds=2), vault(), backups=[backup("a")]))
    assert (step.reason, step.deletion, step.action) == ("Deleting", None, None)
    assert 0 < step.requeue <= 8.2


def test_f18_a_store_that_does_not_answer_stops_it_before_it_begins() -> None:
    problem = Refusal("StoreUnreachable", "s3://b/v: no answer.")
    step = decide_deletion(DeletionView(NOW, vault(), problem=problem, backups=[backup("a")]))
    assert (step.reason, step.deletion, step.action, step.stuck) == ("StoreUnreachable", None, None, True)
    assert "no answer" in step.message
    assert """'{"spec":{"deletionPolicy":"Retain"}}'""" in step.message


@pytest.mark.parametrize(
    ("stored", "here", "everywhere", "vaults", "percent", "held"),
    [
        (0, 3, 9, 9, 30, False),  # nothing is lost
        (4, 1, 1, 1, 30, False),
        (5, 1, 1, 100, 30, True),
        (1, 2, 2, 100, 30, True),
        (1, 1, 5, 16, 30, True),
        (1, 1, 5, 17, 30, False),
        (500, 9, 9, 9, 100, False),  # switched off
    ],
)
def test_f11_a_vault_or_several_are_held(
    stored: int, here: int, everywhere: int, vaults: int, percent: int, held: bool
) -> None:
    limit = MassDeletion(percent=percent)
    view = VaultHoldView(NOW, vault(), limit, stored, here, everywhere, vaults)
    answer, hold = decide_vault_hold(view)
    assert (answer is Answer.WAIT, hold is not None) == (held, held)
    if hold is not None:
        shown = vault(deletionHold=as_dict(hold))
        # It stays, also when the others are through, and its token is its own.
        assert decide_vault_hold(VaultHoldView(NOW, shown, limit, 0)) == (Answer.WAIT, hold)
        shown.metadata.annotations["blockvault.dev/allow-deletion"] = hold.token
        assert decide_vault_hold(VaultHoldView(NOW, shown, limit, 0))[0] is Answer.GO_ON
        later = vault("Delete", NOW, deletionHold=as_dict(hold))
        later.metadata.annotations["blockvault.dev/allow-deletion"] = hold.token
        assert decide_vault_hold(VaultHoldView(NOW, later, limit, 5))[0] is Answer.WAIT


def others(*minutes: int, **status: Any) -> list[Vault]:
    """Vaults with data that were deleted so many minutes after `vault()` was, by numbers."""
    found = []
    for number, after in enumerate(minutes):
        each = vault("Delete", DELETED + timedelta(minutes=after), **({"backups": 4} | status))
        each.metadata.uid = f"u{number}"
        found.append(each)
    return found


def test_f11_those_deleted_together_are_counted_however_late_somebody_looks() -> None:
    limit = MassDeletion(minutes=10)
    mine = vault("Delete", DELETED - timedelta(days=1))
    pruned = others(*[n - 1440 for n in range(-2, 3)])
    assert deleted_together(mine, [mine, *pruned], [], limit) == (["shop"] * 6, 0)
    # Those that have gone since count by when they were deleted, too.
    gone = [(DELETED - timedelta(days=1, minutes=9), "shop"), (DELETED, "shop")]
    assert deleted_together(mine, [mine], gone, limit) == (["shop"] * 2, 1)
    # What waits counts at any time; what is erased since long ago, empty, kept or not deleted, does not.
    assert len(deleted_together(mine, others(0, 500), [], limit)[0]) == 3
    erasing = others(0, -1440, deletion={"total": 1, "left": 0, "run": 1})
    assert len(deleted_together(mine, erasing, [], limit)[0]) == 2
    idle = [*others(0, backups=0), *others(0, deletionPolicy="Retain")]
    idle[1].spec.deletion_policy = None
    assert deleted_together(mine, [*idle, vault("Delete", None, backups=3)], [], limit) == (["shop"], 0)


def test_f18_one_store_behind_two_spellings_is_nobodys_to_erase() -> None:
    mine, other = vault(), vault(location="s3://b/v/", deleted=None)
    other.metadata.uid, other.metadata.name = "other", "tapes"
    assert sharing(mine, [mine, other]) == "shop/tapes"
    assert sharing(mine, [mine]) is None
    assert other.status is not None
    other.status.store_id = "another"
    assert sharing(mine, [mine, other]) is None
    assert sharing(vault(storeId=None), [vault(storeId=None), other]) is None


def test_f11_a_hold_is_shown_and_answered_also_where_the_store_is_away() -> None:
    away = Refusal("StoreUnreachable", "s3://b/v: no answer.")
    answer, hold = decide_vault_hold(VaultHoldView(NOW, vault(), MassDeletion(), 5))
    assert hold is not None
    step = decide_deletion(DeletionView(NOW, vault(), problem=away, hold=(answer, hold)))
    assert (step.reason, step.hold, step.deletion) == ("DeletionHeld", hold, None)
    # The word for it is not forgotten while it cannot be obeyed.
    step = decide_deletion(DeletionView(NOW, vault(), problem=away, hold=(Answer.GO_ON, hold)))
    assert (step.reason, step.hold, step.deletion) == ("StoreUnreachable", hold, None)
    step = decide_deletion(DeletionView(NOW, vault(), problem=away, hold=(Answer.KEEP_DATA, hold)))
    assert (step.reason, step.done) == ("DataKept", True)


def test_a_backup_waits_for_its_vault_until_that_begins() -> None:
    assert waits_for_vault(vault(), backup("a"))
    assert not waits_for_vault(vault(deletion={"total": 1, "left": 1}), backup("a"))
    assert not waits_for_vault(vault(), backup("a", location="s3://b/old"))
    assert not waits_for_vault(vault("Retain"), backup("a"))
    assert not waits_for_vault(None, backup("a"))
    assert keeps_data(None)
    assert keeps_data(vault("Retain"))
    assert not keeps_data(vault())
    assert not keeps_data(vault("Retain", None))


class World:
    """A Vault that is being deleted: applies steps as the effects would, or not at all, or their status only."""

    def __init__(self, backups: int, outcomes: list[dict[str, Any] | None]) -> None:
        self.now = NOW
        self.status: dict[str, Any] = {"upkeep": {"run": 4}}
        self.backups = {f"b{n}": False for n in range(backups)}
        self.secret, self.jobs, self.erased, self.runs = True, {4: "Running"}, False, 0
        self.outcomes = outcomes
        self.words: dict[str, Any] | None = None
        self.pods = False

    def view(self) -> DeletionView:
        found = vault(**self.status)
        run = (self.status.get("deletion") or {}).get("run") or 4
        state = self.jobs.get(run)
        job = None
        if state:
            conditions = [{"type": state, "status": "True"}] if state in ("Complete", "Failed") else []
            job = {
                "metadata": {"creationTimestamp": timestamp(self.now), "uid": f"job-{run}"},
                "status": {"conditions": conditions},
            }
        pods = []
        if job and state != "Running":
            ended = {"terminated": {"message": json.dumps(self.words)}} if self.words else {"running": {}}
            pods = [
                {
                    "metadata": {
                        "name": "p",
                        "creationTimestamp": timestamp(self.now),
                        "ownerReferences": [{"uid": f"job-{run}"}],
                    },
                    "status": {"phase": "Succeeded", "containerStatuses": [{"state": ended}]},
                }
            ]
        return DeletionView(
            self.now,
            found,
            backups=[backup(name, deleted) for name, deleted in self.backups.items()],
            job=job,
            pods=pods if self.pods else [],
            has_secret=self.secret,
        )

    def apply(self, step: Step, *, status: bool = True, effect: bool = True) -> None:
        if status and step.deletion is not None:
            self.status["deletion"] = {**(self.status.get("deletion") or {}), **step.deletion}
        run = (self.status.get("deletion") or {}).get("run") or 4
        if not effect or step.action is None:
            return
        if step.action is Action.DELETE_BACKUPS:
            assert not self.erased
            self.backups = dict.fromkeys(self.backups, True)
        elif step.action is Action.CREATE_SECRET:
            self.secret = True
        elif step.action is Action.CREATE_JOB:
            assert self.secret
            assert run > 4
            assert not self.backups, "the data goes last"
            self.jobs.setdefault(run, "Running")
            self.pods = True
        elif step.action is Action.DELETE_JOB:
            self.jobs.pop(run, None)
            self.pods = False
        elif step.action is Action.DELETE_SECRET:
            self.secret = False
        elif step.action is Action.DELETE_PODS:
            self.pods = False

    def happen(self, rng: random.Random) -> None:
        """What others do: finalizers go, the mover ends."""
        for name in [n for n, deleted in self.backups.items() if deleted and rng.random() < 0.5]:
            del self.backups[name]
        run = (self.status.get("deletion") or {}).get("run")
        if run and self.jobs.get(run) == "Running" and rng.random() < 0.7:
            self.words = self.outcomes.pop(0) if self.outcomes else {"ok": True, "result": DONE}
            good = self.words is None or self.words["ok"]
            self.jobs[run] = "Complete" if good else "Failed"
            self.erased = self.erased or good
            self.runs += 1
        self.now += timedelta(seconds=rng.choice([1, 5, 70]))


FAILED = {"ok": False, "error": {"reason": "StoreUnreachable", "message": "gone", "remedy": "Look."}}
PARTLY = {
    "ok": True,
    "result": DONE
    | {"failed": 1, "errors": [{"volume": "shop/db", "reason": "StoredDataDamaged", "message": "m"}]},
}


@given(
    st.integers(0, 2**32),
    st.integers(0, 3),
    st.lists(st.sampled_from([FAILED, PARTLY, None]), max_size=3),
)
def test_a6_it_ends_erased_whatever_is_lost_on_the_way(
    seed: int, backups: int, outcomes: list[dict[str, Any] | None]
) -> None:
    """Steps are lost, done twice, or done without their status; runs fail, or lose their words."""
    rng, made = random.Random(seed), World(backups, list(outcomes))
    before = len(outcomes)
    for _ in range(400):
        step = decide_deletion(made.view())
        if step.done:
            break
        luck = rng.random()
        # The status is written first, so an effect never comes without it.
        made.apply(step, status=luck > 0.1, effect=luck > 0.3)
        if luck > 0.9:
            made.apply(step)
        made.happen(rng)
    assert step.done
    assert made.status["deletion"]["reason"] == ERASED
    assert made.runs == before + 1, "it is erased when the mover says so, and not run again"
    assert not made.secret
    assert made.jobs.get(made.status["deletion"]["run"]) != "Running"


@pytest.mark.parametrize(
    ("result", "owner", "reason"),
    [
        (DONE, "job-1", "Erased"),
        # A pod of the last run of upkeep, which bears the Vault's label too.
        ({"deletedBytes": 1, "deletedObjects": 1, "errors": [], "failed": 0}, "job-0", "MoverLost"),
        (DONE, "job-0", "MoverLost"),
        ({"deletedBytes": 1, "deletedObjects": 1, "errors": [], "failed": 0}, "job-1", "MoverLost"),
        # A report is cut to what fits.
        (DONE | {"failed": 2}, "job-1", "Failed"),
    ],
)
def test_a6_only_the_erasing_movers_own_words_say_that_all_is_gone(
    result: dict[str, Any], owner: str, reason: str
) -> None:
    job = {
        "metadata": {"creationTimestamp": timestamp(NOW), "uid": "job-1"},
        "status": {"conditions": [{"type": "Complete", "status": "True"}]},
    }
    meta = {"name": "p", "creationTimestamp": timestamp(NOW), "ownerReferences": [{"uid": owner}]}
    words = {"terminated": {"message": json.dumps({"ok": True, "result": result})}}
    pod = {
        "metadata": meta,
        "status": {"phase": "Succeeded", "containerStatuses": [{"state": words}]},
    }
    found = vault(deletion={"total": 0, "left": 0, "run": 1, "startedAt": timestamp(NOW)})
    step = decide_deletion(DeletionView(NOW, found, job=job, pods=[pod]))
    assert step.deletion is not None
    assert step.deletion["reason"] == reason


def test_what_other_clusters_keep_is_told() -> None:
    made = World(0, [{"ok": True, "result": DONE | {"foreign": 2, "foreignNames": ["a/b", "c/d"]}}])
    rng = random.Random(1)
    for _ in range(100):
        step = decide_deletion(made.view())
        made.apply(step)
        made.happen(rng)
    assert "2 volumes of other clusters, or of nobody, stay: a/b, c/d." in made.status["deletion"]["message"]
    assert made.status["deletion"]["deletedBytes"] == 5


def test_f18_a_backup_of_a_former_vault_says_where_it_lies() -> None:
    found = check_place(backup("a", location="s3://b/old"), vault(deleted=None))
    assert isinstance(found, Refusal)
    assert found.reason == "StoredElsewhere"
    assert "lies at s3://b/old" in found.message
    gone = check_place(backup("a"), None)
    assert isinstance(gone, Missing)
    assert (gone.reason, "spec.adopt" in gone.message) == ("VaultNotFound", True)
    assert check_place(backup("a"), vault(deleted=None)) is None
    assert check_place(backup("a", location=None), None) is None
