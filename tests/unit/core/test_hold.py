"""The hold on mass deletion (F11)."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from blockvault.api import Backup, DeletionHold, MassDeletion, Vault
from blockvault.core.hold import Answer, HoldView, counts, decide_hold

from . import world

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)


def view(
    going: int,
    present: int,
    done: int = 0,
    *,
    hold: DeletionHold | None = None,
    word: str = "",
    percent: int = 30,
) -> HoldView:
    body = {**world.VAULT, "status": {"deletionHold": hold.model_dump(by_alias=True)} if hold else {}}
    body["metadata"] = {
        **body["metadata"],
        "annotations": {"blockvault.dev/allow-deletion": word} if word else {},
    }
    return HoldView(NOW, Vault.model_validate(body), MassDeletion(percent=percent), going, present, done)


@pytest.mark.parametrize(
    ("going", "present", "done", "answer"),
    [
        (1, 100, 0, Answer.GO_ON),
        (30, 100, 0, Answer.GO_ON),
        (31, 100, 0, Answer.WAIT),
        # One after the other is as many as all at once.
        (1, 70, 30, Answer.WAIT),
        (1, 71, 29, Answer.GO_ON),
        # A few are never many.
        (4, 4, 0, Answer.GO_ON),
        (1, 1, 3, Answer.GO_ON),
        (5, 5, 0, Answer.WAIT),
    ],
)
def test_f11_more_than_the_share_of_a_vault_waits(
    going: int, present: int, done: int, answer: Answer
) -> None:
    found, hold = decide_hold(view(going, present, done))
    assert found is answer
    assert (hold is not None) == (answer is Answer.WAIT)
    if hold is not None:
        assert f"allow-deletion={hold.token}" in hold.message
        assert f"allow-deletion=keep-{hold.token}" in hold.message
        assert f"{going + done} of {present + done}" in hold.message


def test_f11_a_hold_stays_until_its_own_word_is_said() -> None:
    _, hold = decide_hold(view(40, 100))
    assert hold is not None
    # Also when the time is over in which they were counted.
    assert decide_hold(view(2, 100, hold=hold)) == (Answer.WAIT, hold)
    assert decide_hold(view(40, 100, hold=hold, word="another")) == (Answer.WAIT, hold)
    assert decide_hold(view(40, 100, hold=hold, word=hold.token)) == (Answer.GO_ON, hold)
    assert decide_hold(view(40, 100, hold=hold, word=f"keep-{hold.token}")) == (Answer.KEEP_DATA, hold)
    assert decide_hold(view(0, 60, 40, hold=hold, word=hold.token))[1] is None


def test_f11_a_word_that_was_said_before_does_not_count_again() -> None:
    _, first = decide_hold(view(40, 100))
    assert first is not None
    later = HoldView(NOW.replace(hour=13), view(40, 100, word=first.token).vault, MassDeletion(), 40, 100, 0)
    answer, second = decide_hold(later)
    assert second is not None
    assert (answer, second.token != first.token) == (Answer.WAIT, True)


@pytest.mark.parametrize(
    ("status", "counted"),
    [
        ({"volumes": [{"claim": "db"}]}, True),
        ({"volumes": [{"claim": "db"}], "removedBy": "Expired"}, False),
        ({"volumes": [{"claim": "db"}], "cluster": "another"}, False),
        ({}, False),
    ],
)
def test_f11_only_what_people_delete_counts_and_no_word_of_theirs_makes_it_a_rules(
    status: dict[str, object], counted: bool
) -> None:
    notes = {"blockvault.dev/removed-by-rule": "Expired", "blockvault.dev/removed-by": "Expired"}
    body = {
        "metadata": {"name": "a", "uid": "u", "creationTimestamp": NOW, "annotations": notes},
        "spec": {"vaultRef": {"name": "disks"}},
        "status": status,
    }
    assert counts(Backup.model_validate(body)) is counted
