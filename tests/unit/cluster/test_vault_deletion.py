"""What the status of a Vault that is deleted says."""

from __future__ import annotations

from datetime import timedelta

import pytest

from blockvault.api import DeletionHold, Vault
from blockvault.cluster import vault_deletion
from blockvault.core.plan_vault_deletion import Step
from tests.unit.core import world
from tests.unit.core.world import NOW


def test_f11_a_hold_that_stands_changes_nothing_in_the_status(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looked at every few seconds, it is written once."""
    hold = DeletionHold(token="abc", since="2026-11-23T12:00:00Z", message="it waits")
    step = Step("DeletionHeld", hold.message, hold=hold, stuck=True)
    monkeypatch.setattr(vault_deletion, "utc_now", lambda: NOW)
    first = vault_deletion._status(world.vault(), step)
    shown = Vault.model_validate({**world.VAULT, "status": first})
    monkeypatch.setattr(vault_deletion, "utc_now", lambda: NOW + timedelta(seconds=10))
    assert vault_deletion._status(shown, step)["conditions"] == first["conditions"]
