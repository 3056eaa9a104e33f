"""Which claims a Vault holds (A3)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from blockvault.api import Vault
from blockvault.core.association import Associations, associate

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)


def claim(name: str, size: str = "1Gi", phase: str = "Bound", **labels: str) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "labels": labels},
        "spec": {"volumeName": f"pv-{name}"},
        "status": {"phase": phase, "capacity": {"storage": size}},
    }


def by_name(*claims: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {c["metadata"]["name"]: c for c in claims}


def vault(
    name: str = "disks", *names: str, selector: dict[str, str] | None = None, capacity: str = "10Gi", age: int = 1,
    lines: list[Any] | None = None,
) -> Vault:  # fmt: skip
    """A Vault that is so many days old. `lines`: what its status says it holds."""
    spec: dict[str, Any] = {"capacity": capacity, "className": "c"}
    if names:
        spec["resources"] = [{"kind": "PersistentVolumeClaim", "name": n} for n in names]
    if selector is not None:
        spec["resourceSelector"] = {"matchLabels": selector}
    created = (NOW - timedelta(days=age)).strftime("%Y-%m-%dT%H:%M:%SZ")
    meta = {"name": name, "namespace": "shop", "uid": f"uid-{name}", "creationTimestamp": created}
    status = {"resources": [line.model_dump(by_alias=True) for line in lines or []]}
    return Vault.model_validate({"metadata": meta, "spec": spec, "status": status})


def again(of: Vault, held: Associations) -> Vault:
    """The vault with that written into its status."""
    body = of.model_dump(by_alias=True)
    body["status"] = {"resources": [line.model_dump(by_alias=True) for line in held.lines]}
    return Vault.model_validate(body)


def states(held: Associations) -> dict[str, tuple[str | None, str | None]]:
    return {line.name: (line.state, line.reason) for line in held.lines}


def test_a3_by_name_and_by_label_in_the_order_of_the_vault() -> None:
    one = vault("disks", "b", "missing", selector={"backup": "true"})
    claims = by_name(
        claim("a", backup="true"), claim("b"), claim("c", backup="true", phase="Pending"), claim("d")
    )
    held = associate(one, claims, [one], NOW)
    assert list(states(held).items()) == [
        ("b", ("Associated", None)),
        ("missing", ("Waiting", "ClaimNotFound")),
        ("a", ("Associated", None)),
        ("c", ("Waiting", "ClaimNotBound")),
    ]
    assert (held.bytes, [line.since for line in held.held]) == (2 * 2**30, ["2026-11-23T12:00:00Z"] * 2)


def test_a3_an_empty_selector_takes_nothing() -> None:
    one = vault(selector={})
    assert associate(one, by_name(claim("a")), [one], NOW).lines == []


def test_a3_of_two_vaults_the_older_takes_the_claim_and_the_other_says_so() -> None:
    old, young = vault("old", "db", age=9), vault("young", "db", age=1)
    claims = by_name(claim("db"))
    assert states(associate(old, claims, [young, old], NOW)) == {"db": ("Associated", None)}
    refused = associate(young, claims, [old, young], NOW)
    assert states(refused) == {"db": ("Refused", "HeldElsewhere")}
    assert "Vault old" in (refused.lines[0].message or "")
    assert refused.held == []


def test_a3_who_has_it_keeps_it_from_an_older_vault() -> None:
    young, claims = vault("young", "db", age=1), by_name(claim("db"))
    young = again(young, associate(young, claims, [young], NOW))
    old = vault("old", "db", age=9)
    assert states(associate(old, claims, [old, young], NOW)) == {"db": ("Refused", "HeldElsewhere")}
    assert states(associate(young, claims, [old, young], NOW)) == {"db": ("Associated", None)}
    # Let go, it is free: also where the vault that had it is on its way out.
    left = again(vault("young", age=1), associate(young, claims, [young], NOW))
    assert states(associate(old, claims, [old, left], NOW)) == {"db": ("Associated", None)}


def test_a3_what_does_not_fit_waits_for_room_and_what_is_held_stays() -> None:
    one = vault("disks", "a", "b")
    claims = by_name(claim("a", "6Gi"), claim("b", "5Gi"))
    held = associate(one, claims, [one], NOW)
    assert states(held) == {"a": ("Associated", None), "b": ("Refused", "NoRoom")}
    assert "raise spec.capacity" in (held.lines[1].message or "").lower()
    # Another name above it does not push it out, nor does its own growth.
    more = again(vault("disks", "b", "a"), held)
    assert states(associate(more, claims, [more], NOW)) == {
        "b": ("Refused", "NoRoom"),
        "a": ("Associated", None),
    }
    grown = again(vault("disks", "a"), held)
    assert states(associate(grown, by_name(claim("a", "12Gi")), [grown], NOW)) == {"a": ("Associated", None)}
    roomy = again(vault("disks", "a", "b", capacity="11Gi"), held)
    assert states(associate(roomy, claims, [roomy], NOW)) == dict.fromkeys("ab", ("Associated", None))


def test_a3_e3_no_more_than_256_resources() -> None:
    one = vault("disks", selector={"backup": "true"}, capacity="10Ti")
    claims = by_name(*(claim(f"c{n:03}", backup="true") for n in range(300)))
    held = associate(one, claims, [one], NOW)
    assert len(held.held) == 256
    assert states(held)["c256"] == ("Refused", "TooManyResources")


def test_a13_what_is_held_stays_when_its_claim_is_gone_by_name_and_by_label() -> None:
    one = vault("disks", "a", selector={"backup": "true"})
    claims = by_name(claim("a"), claim("b", backup="true"))
    one = again(one, associate(one, claims, [one], NOW))
    gone = associate(one, {}, [one], NOW + timedelta(days=1))
    assert states(gone) == {"a": ("Gone", "ClaimGone"), "b": ("Gone", "ClaimGone")}
    assert (len(gone.held), gone.left, gone.bytes) == (2, [], 2 * 2**30)
    back = associate(again(one, gone), claims, [one], NOW + timedelta(days=2))
    assert states(back) == {"a": ("Associated", None), "b": ("Associated", None)}
    assert {line.since for line in back.lines} == {"2026-11-23T12:00:00Z"}


def test_a7_what_the_vault_no_longer_names_or_selects_has_left() -> None:
    one = vault("disks", "a", selector={"backup": "true"})
    claims = by_name(claim("a"), claim("b", backup="true"))
    held = associate(one, claims, [one], NOW)
    unnamed = again(vault("disks", selector={"backup": "true"}), held)
    assert associate(unnamed, claims, [unnamed], NOW).left == ["a"]
    relabelled = associate(again(one, held), by_name(claim("a"), claim("b")), [one], NOW)
    assert (relabelled.left, states(relabelled)) == (["b"], {"a": ("Associated", None)})


NAMES = st.sampled_from("abcdef")
WANTS = st.lists(NAMES, unique=True, max_size=6)


@given(st.lists(st.tuples(st.integers(0, 2), WANTS, st.lists(NAMES, unique=True)), min_size=1, max_size=12))
def test_a3_no_claim_is_ever_in_two_vaults(steps: list[tuple[int, list[str], list[str]]]) -> None:
    """Vaults change what they name, claims come and go, and any vault is looked at next."""
    vaults = [vault(f"v{n}", age=n, capacity="16Gi") for n in range(3)]
    for index, names, present in steps:
        claims = by_name(*(claim(n) for n in present))
        body = vaults[index].model_dump(by_alias=True)
        body["spec"]["resources"] = [{"kind": "PersistentVolumeClaim", "name": n} for n in names]
        vaults[index] = Vault.model_validate(body)
        held = associate(vaults[index], claims, vaults, NOW)
        vaults[index] = again(vaults[index], held)
        holders = [
            (line.name, v.metadata.name)
            for v in vaults
            for line in (v.status.resources if v.status else None) or []
            if line.since and line.name in [r.name for r in v.spec.resources or []]
        ]
        assert len({name for name, _ in holders}) == len(holders), holders
        # Looking again changes nothing.
        assert associate(vaults[index], claims, vaults, NOW).lines == held.lines


def test_a7_a_claim_made_anew_without_the_labels_has_not_left() -> None:
    """As a restore makes it: only the claim that was held can say by its labels that it leaves (F18)."""
    one = vault(selector={"backup": "true"})
    old = {**claim("a", backup="true"), "metadata": {"name": "a", "uid": "1", "labels": {"backup": "true"}}}
    one = again(one, associate(one, {"a": old}, [one], NOW))
    new = {**claim("a"), "metadata": {"name": "a", "uid": "2", "labels": {}}}
    for _ in range(2):
        found = associate(one, {"a": new}, [one], NOW)
        assert (states(found), found.left) == ({"a": ("Gone", "ClaimReplaced")}, [])
        one = again(one, found)
    back = {**new, "metadata": {"name": "a", "uid": "2", "labels": {"backup": "true"}}}
    one = again(one, associate(one, {"a": back}, [one], NOW))
    assert associate(one, {"a": new}, [one], NOW).left == ["a"], "it says so itself now"
