"""Coverage kept up by events says what a look at everything says, and counts no more than what changed (F23)."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blockvault.core import coveragebook
from blockvault.core.coverage import cover, exclusions
from blockvault.core.coveragebook import CoverageBook
from blockvault.core.naming import EXCLUDE_ANNOTATION

Object = dict[str, Any]


def claim(
    name: str = "db", namespace: str = "shop", phase: str = "Bound", exclude: str | None = None
) -> Object:
    notes = {} if exclude is None else {EXCLUDE_ANNOTATION: exclude}
    meta = {"name": name, "namespace": namespace, "annotations": notes}
    return {"metadata": meta, "spec": {"volumeName": "pv"}, "status": {"phase": phase}}


def namespace(name: str, exclude: str) -> Object:
    return {"metadata": {"name": name, "annotations": {EXCLUDE_ANNOTATION: exclude}}}


def line(name: str = "db") -> Object:
    held = {"state": "Associated", "lastBackupAt": "T1", "nextRun": "T2"}
    return {"kind": "PersistentVolumeClaim", "name": name, **held}


def vault(*lines: Object, name: str = "disks", namespace: str = "shop") -> Object:
    meta = {"name": name, "namespace": namespace, "uid": name}
    return {"metadata": meta, "status": {"phase": "Available", "resources": list(lines)}}


SPACES = ("a", "b")
EVENTS = st.tuples(
    st.sampled_from(["claim", "gone", "pending", "excluded", "vault", "no vault", "space", "space excluded"]),
    st.sampled_from(SPACES),
    st.sampled_from(["db", "web"]),
    st.booleans(),
)


@given(st.lists(EVENTS, max_size=30))
def test_f23_events_in_any_order_add_up_to_what_is_there(events: list[Any]) -> None:
    book = CoverageBook()
    claims: dict[Any, Any] = {}
    vaults: dict[Any, Any] = {}
    spaces: dict[str, Any] = {}
    for what, space, name, look in events:
        if what == "gone":
            claims.pop((space, name), None)
            book.drop_claim(space, name)
        elif what in ("claim", "pending", "excluded"):
            phase, why = ("Pending" if what == "pending" else "Bound"), "x" if what == "excluded" else None
            claims[space, name] = claim(name, space, phase, why)
            book.put_claim(claims[space, name])
        elif what == "vault":
            vaults[space, name] = vault(line(name), name=name, namespace=space)
            book.put_vault(vaults[space, name])
        elif what == "no vault":
            vaults.pop((space, name), None)
            book.drop_vault(space, name)
        else:
            spaces[space] = namespace(space, "x") if "excluded" in what else {"metadata": {"name": space}}
            book.put_namespace(spaces[space])
        if look:
            book.counted()
    rows = cover(claims.values(), vaults.values(), exclusions(spaces.values()))
    assert book.counted() == Counter((row.namespace, row.state, row.why) for row in rows)


def test_e2_what_did_not_change_is_not_counted_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A scrape of a big cluster costs what happened since the one before."""
    judged: list[str] = []

    def counting(claims: Any, *rest: Any) -> Any:
        judged.extend(each["metadata"]["namespace"] for each in claims)
        return cover(claims, *rest)

    monkeypatch.setattr(coveragebook, "cover", counting)
    book = CoverageBook()
    for number in range(50):
        book.put_claim(claim(f"c-{number}", "a"))
        book.put_claim(claim(f"c-{number}", "b"))
    book.put_vault(vault(line("c-1"), namespace="a"))
    book.counted()
    assert len(judged) == 100
    judged.clear()
    book.put_claim(claim("c-1", "a"))  # an event that says nothing new
    book.put_vault(vault(line("c-1"), namespace="a"))
    book.counted()
    assert judged == []
    book.put_claim(claim("c-1", "a", exclude="scratch"))
    book.counted()
    assert judged == ["a"] * 50


def test_a_namespace_that_is_gone_takes_its_claims_along() -> None:
    book = CoverageBook()
    book.put_claim(claim(namespace="a"))
    book.put_vault(vault(line(), namespace="a"))
    assert book.counted() == {("a", "Protected", "Scheduled"): 1}
    book.drop_namespace("a")
    assert book.counted() == {}


def test_claims_that_went_while_nobody_looked_are_forgotten() -> None:
    """A watch that begins again tells of those that are there, and not of those that are not."""
    book = CoverageBook()
    for name in ("stays", "went"):
        book.put_claim(claim(name, "a"))
    book.begin_listing()
    book.put_claim(claim("stays", "a"))
    assert book.counted() == {("a", "Unprotected", "NoVault"): 2}, "it may be on the next page"
    book.end_listing()
    assert book.counted() == {("a", "Unprotected", "NoVault"): 1}
