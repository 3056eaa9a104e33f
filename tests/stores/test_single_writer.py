"""Stores that cannot create exclusively: a proxy that drops the condition, and a real one (Garage) in soak."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from blockvault.engine import BackupRequest, Repository, check_store
from blockvault.stores import NoConditionalCreate, StoreLocation, open_store
from tests.servers.garage import binary, garage
from tests.servers.unconditional import without_conditions
from tests.stores import test_conformance as conformance
from tests.stores.conftest import BUCKET, KEYS

MIB = 1 << 20


@pytest.fixture(scope="session")
def garage_server() -> Iterator[StoreLocation]:
    if not binary().exists():
        pytest.skip(
            f"{binary()} is not built: cargo install garage --locked --version 2.5.0 --root {binary().parents[1]}"
        )
    with garage() as place:
        yield place


@pytest.fixture(params=["proxy", pytest.param("garage", marks=pytest.mark.soak)])
def loose(request: pytest.FixtureRequest) -> Iterator[StoreLocation]:
    """A fresh place in such a store."""
    prefix = f"loose-{secrets.token_hex(6)}"
    if request.param == "garage":
        place = request.getfixturevalue("garage_server")
        yield replace(place, url=f"{place.url}/{prefix}")
        return
    endpoint = request.getfixturevalue("moto_endpoint")
    with without_conditions(
        StoreLocation(f"s3://{BUCKET}/{prefix}", endpoint=endpoint, credentials=KEYS)
    ) as place:
        yield place


def test_a_second_creation_overwrites(loose: StoreLocation) -> None:
    store = open_store(loose, retry_seconds=5)
    store.create("once", b"first")
    store.create("once", b"second")
    assert store.get("once") == b"second"


def test_it_is_refused_unless_it_is_meant(loose: StoreLocation) -> None:
    store = open_store(loose, retry_seconds=5)
    with pytest.raises(NoConditionalCreate):
        check_store(store)
    with pytest.raises(NoConditionalCreate):
        Repository.init(store)
    check_store(store, single_writer=True)
    assert list(store.list("")) == []


def test_backups_with_a_single_writer(loose: StoreLocation, tmp_path: Path) -> None:
    Repository.init(open_store(loose, retry_seconds=5), single_writer=True)
    source, target = tmp_path / "source", tmp_path / "target"
    for content in (b"one" * MIB, b"two" * MIB):
        source.write_bytes(content)
        made = Repository.open(open_store(loose, retry_seconds=5)).backup(BackupRequest(str(source), "v"))
        Repository.open(open_store(loose, retry_seconds=5)).restore("v", str(target), made.backup_id)
        assert target.read_bytes() == content
        target.unlink()
    assert len(Repository.open(open_store(loose)).list("v")) == 2


SAME_AS_EVERYWHERE = [
    getattr(conformance, name)
    for name in dir(conformance)
    if name.startswith("test_")
    and not any(word in name for word in ("creation", "creators", "canary", "made_once", "without_asking"))
]


@pytest.mark.soak
@pytest.mark.parametrize("test", SAME_AS_EVERYWHERE, ids=lambda test: test.__name__)
def test_the_rest_is_as_everywhere(garage_server: StoreLocation, test: object) -> None:
    """The conformance suite, but for exclusive creation, on Garage."""
    place = replace(garage_server, url=f"{garage_server.url}/rest-{secrets.token_hex(6)}")
    known = {"store": open_store(place, retry_seconds=5), "location": place}
    names = test.__code__.co_varnames[: test.__code__.co_argcount]  # type: ignore[attr-defined]
    cases = [m.args[1] for m in getattr(test, "pytestmark", []) if m.name == "parametrize"] or [[()]]
    for case in cases[0]:
        given = dict(zip([n for n in names if n not in known], case, strict=True))
        test(**{n: known[n] for n in names if n in known}, **given)  # type: ignore[operator]
