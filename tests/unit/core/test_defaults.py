"""What a Vault leaves out is its class's (F14), and what it holds only grows (A2)."""

from __future__ import annotations

from typing import Any

import pytest

from blockvault.api import Vault, parse_quantity
from blockvault.core.admission import check_vault
from blockvault.core.defaults import grows_from, in_force, refuse_endless
from blockvault.core.vault_status import locked_status

from . import world
from .test_plan_vault import vault_class
from .world import NOW

DEFAULTS = {"capacity": "100Gi", "policyRef": {"name": "nightly"}, "deletionPolicy": "Delete"}


def vault(status: dict[str, Any] | None = None, **spec: Any) -> Vault:
    return Vault.model_validate({"metadata": world.VAULT["metadata"], "spec": spec, "status": status})


def facts(found: Vault) -> tuple[str | None, str | None, str | None]:
    spec = found.spec
    return spec.capacity, spec.policy_ref.name if spec.policy_ref else None, spec.deletion_policy


@pytest.mark.parametrize(
    ("spec", "status", "defaults", "found"),
    [
        ({}, None, DEFAULTS, ("100Gi", "nightly", "Delete")),
        ({}, None, None, (None, None, "Retain")),
        (
            {"capacity": "20Gi", "policyRef": {"name": "own"}, "deletionPolicy": "Retain"},
            None,
            DEFAULTS,
            ("20Gi", "own", "Retain"),
        ),
        # A class that offers less takes nothing away, and more counts at once.
        ({}, {"capacity": "200Gi"}, DEFAULTS, ("200Gi", "nightly", "Delete")),
        ({}, {"capacity": "50Gi"}, DEFAULTS, ("100Gi", "nightly", "Delete")),
        # Nor does it have data deleted that was to stay, before the Vault itself says so.
        ({}, {"storeId": "s", "deletionPolicy": "Retain"}, DEFAULTS, ("100Gi", "nightly", "Retain")),
        ({}, {"storeId": "s", "deletionPolicy": "Delete"}, DEFAULTS, ("100Gi", "nightly", "Delete")),
        ({}, {"storeId": "s", "deletionPolicy": "Delete"}, None, (None, None, "Retain")),
        ({}, {"deletionPolicy": "Retain"}, DEFAULTS, ("100Gi", "nightly", "Delete")),
        (
            {"deletionPolicy": "Delete"},
            {"storeId": "s", "deletionPolicy": "Retain"},
            DEFAULTS,
            ("100Gi", "nightly", "Delete"),
        ),
        ({"capacity": "20Gi"}, {"capacity": "100Gi"}, DEFAULTS, ("100Gi", "nightly", "Delete")),
    ],
)
def test_f14_a_class_fills_in_what_is_left_out(
    spec: dict[str, Any], status: dict[str, Any] | None, defaults: dict[str, Any] | None, found: Any
) -> None:
    chosen = vault_class("gold", defaults=defaults)
    assert facts(in_force(vault(status, **spec), chosen)) == found


def test_f14_a_class_that_cannot_be_told_changes_nothing() -> None:
    status = {
        "capacity": "100Gi",
        "deletionPolicy": "Delete",
        "policy": {"name": "nightly", "state": "Applied", "message": "m"},
    }
    assert facts(in_force(vault(status), None)) == ("100Gi", "nightly", "Delete")
    # With storage of its own there is none: what is taken out of the spec is out.
    own = in_force(vault(status, storage=world.VAULT["spec"]["storage"]), None)
    assert facts(own) == ("100Gi", None, "Retain")


def test_a_vault_without_any_capacity_is_refused() -> None:
    refusal = refuse_endless(in_force(vault(), vault_class("gold")))
    assert refusal is not None
    assert refusal.reason == "NoCapacity"
    assert refuse_endless(in_force(vault(), vault_class("gold", defaults=DEFAULTS))) is None


@pytest.mark.parametrize(
    ("phase", "former", "wanted", "grows"),
    [
        ("Available", "100Gi", "101Gi", "100Gi"),
        ("Available", "100Gi", "100Gi", None),
        ("Available", "102400Mi", "100Gi", None),
        ("Available", None, "100Gi", None),
        ("Locked", "100Gi", "101Gi", None),
        ("Error", "100Gi", "101Gi", None),
    ],
)
def test_a2_growing_locks_for_as_long_as_the_store_is_asked(
    phase: str, former: str | None, wanted: str, grows: str | None
) -> None:
    subject = vault({"phase": phase, "capacity": former}, capacity=wanted)
    assert grows_from(subject) == grows
    if grows:
        status = locked_status(subject, grows, NOW)
        assert (status["phase"], "capacity" in status) == ("Locked", False)
        assert "from 100Gi to 101Gi" in status["message"]
        shown = vault({**status, "capacity": former}, capacity=wanted)
        assert check_vault("disks", shown) is None, "backups and restores go on"


def test_a_raised_capacity_counts_before_it_is_in_force() -> None:
    status = {"phase": "Available", "capacity": "100Gi", "usedBytes": parse_quantity("150Gi")}
    full = check_vault("disks", vault(status, capacity="100Gi"))
    assert full is not None
    assert full.reason == "VaultFull"
    assert check_vault("disks", vault(status, capacity="200Gi")) is None
    # Nor is one full whose class alone says how large it is.
    assert check_vault("disks", vault({**status, "usedBytes": 5})) is None
