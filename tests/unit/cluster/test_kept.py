"""Few objects that every look needs are in memory as their events and listings say."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from blockvault.api import Vault
from blockvault.cluster import kept as module
from blockvault.cluster.context import Context, utc_now
from blockvault.cluster.kept import Kept
from blockvault.cluster.resources import VAULTS


def vault(name: str, *, uid: str = "", capacity: str = "10Gi") -> dict[str, Any]:
    meta = {
        "name": name,
        "namespace": "shop",
        "uid": uid or name,
        "creationTimestamp": "2026-01-01T00:00:00Z",
    }
    resources = [{"kind": "PersistentVolumeClaim", "name": "db"}]
    return {"metadata": meta, "spec": {"type": "Disk", "capacity": capacity, "resources": resources}}


class Gateway:
    """Lists what it has, and counts how often."""

    def __init__(self, *objects: dict[str, Any]) -> None:
        self.objects, self.listed = list(objects), 0
        self.meanwhile: Any = lambda: None

    async def pages(self, *_: Any, **__: Any) -> AsyncIterator[list[dict[str, Any]]]:
        self.listed += 1
        page = list(self.objects)
        await asyncio.sleep(0)
        self.meanwhile()
        yield page


@pytest.fixture
def kept() -> Kept[Vault]:
    return Kept(VAULTS, Vault, (("spec", "resources"),))


async def names(kept: Kept[Vault], gateway: Any) -> set[str]:
    return {each.metadata.name for each in await kept.all(gateway)}


async def test_they_are_listed_once_and_events_tell_the_rest(kept: Kept[Vault]) -> None:
    gateway = Gateway(vault("a"), vault("b"))
    assert await names(kept, gateway) == {"a", "b"}
    kept.note(vault("c"))
    kept.note(vault("a"), gone=True)
    kept.note(vault("b", capacity="20Gi"))
    assert {v.metadata.name: v.spec.capacity for v in await kept.all(gateway)} == {"b": "20Gi", "c": "10Gi"}  # type: ignore[arg-type]
    assert gateway.listed == 1


async def test_an_event_during_a_listing_is_newer_than_what_it_lists(kept: Kept[Vault]) -> None:
    gateway = Gateway(vault("a"), vault("b"))

    def meanwhile() -> None:
        kept.note(vault("a"), gone=True)
        kept.note(vault("c"))

    gateway.meanwhile = meanwhile
    assert await names(kept, gateway) == {"b", "c"}


async def test_one_lists_for_all_that_ask(kept: Kept[Vault]) -> None:
    gateway = Gateway(vault("a"))
    found = await asyncio.gather(*(names(kept, gateway) for _ in range(5)))
    assert found == [{"a"}] * 5
    assert gateway.listed == 1


async def test_a_missed_event_is_mended_by_the_next_listing(
    kept: Kept[Vault], monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway = Gateway(vault("a"))
    await names(kept, gateway)
    gateway.objects = [vault("b")]
    assert await names(kept, gateway) == {"a"}
    monkeypatch.setattr(module, "LISTED_SECONDS", -1.0)
    assert await names(kept, gateway) == {"b"}


async def test_what_is_left_out_is_not_held_and_the_event_stays_as_it_is(kept: Kept[Vault]) -> None:
    obj = vault("a")
    kept.note(obj)
    assert [v.spec.resources for v in await kept.all(Gateway(obj))] in ([None], [[]])  # type: ignore[arg-type]
    assert obj["spec"]["resources"]


@pytest.mark.parametrize(
    ("vaults", "seconds"), [(0, 60.0), (1, 60.0), (10, 60.0), (50, 300.0), (1000, 900.0)]
)
def test_many_vaults_are_looked_at_less_often_each(vaults: int, seconds: float) -> None:
    context = Context(None, None, None, None, clock=utc_now)  # type: ignore[arg-type]
    context.vaults = {str(number): "shop" for number in range(vaults)}
    assert context.pace(60.0, 6.0, 900.0) == seconds
