"""Quantities, and models that an older operator reads from a newer definition."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blockvault.api import Vault, as_dict, format_quantity, parse_quantity

GIB = 2**30


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("10Gi", 10 * GIB),
        ("1.5Gi", 3 * GIB // 2),
        ("10485760Gi", 10485760 * GIB),
        ("500M", 500_000_000),
        ("2e9", 2_000_000_000),
        ("1k", 1000),
        (4096, 4096),
        ("0", 0),
        (".5Ki", 512),
        ("0.3", 1),  # rounded up, as apimachinery does
    ],
)
def test_quantities_are_those_of_kubernetes(text: str | int, size: int) -> None:
    assert parse_quantity(text) == size


@pytest.mark.parametrize("text", ["", "Gi", "-1Gi", "10 Gi", "10gi", "1Zi", "ten", "1.2.3", "1e", "٣Gi"])
def test_what_is_no_quantity_is_refused_by_name(text: str) -> None:
    with pytest.raises(ValueError, match="is not a quantity of bytes such as 10Gi"):
        parse_quantity(text)


@given(st.integers(0, 2**63))
def test_formatting_loses_nothing(size: int) -> None:
    assert parse_quantity(format_quantity(size)) == size


def test_formatting_is_short() -> None:
    assert [format_quantity(n) for n in (0, 1000, 1536, 10 * GIB, 2**40)] == [
        "0",
        "1000",
        "1536",
        "10Gi",
        "1Ti",
    ]


def test_fields_of_a_newer_definition_are_passed_over() -> None:
    body = {
        "metadata": {"name": "v", "creationTimestamp": "2026-11-23T12:00:00Z", "managedFields": []},
        "spec": {"capacity": "10Gi", "className": "gold", "fromTheFuture": {"a": 1}},
        "status": {"phase": "Available", "alsoNew": True},
    }
    vault = Vault.model_validate(body)
    assert vault.spec.capacity_bytes == 10 * GIB
    assert as_dict(vault.spec) == {
        "type": "Disk",
        "capacity": "10Gi",
        "className": "gold",
        "dissociation": "Delete",
    }
