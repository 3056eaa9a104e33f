"""Proving by a canary that a store is fit for backups."""

from __future__ import annotations

from blockvault.engine import runtime
from blockvault.engine.names import CANARIES
from blockvault.stores import AlreadyExists, NoConditionalCreate, ObjectStore, StoreRefused


def clock_of(store: ObjectStore) -> float:
    """The time by the store's own clock, in seconds since 1970: that at which it stores an object now."""
    key = f"{CANARIES}{runtime.random_id()}"
    store.create(key, runtime.random(64))
    try:
        return store.stat(key).modified
    finally:
        store.delete([key])


def check_store(store: ObjectStore, *, single_writer: bool = False) -> None:
    """Prove that the store keeps what it is given and refuses a second creation of a name.

    Raises NoConditionalCreate when it does not refuse, StoreRefused when it gives back other bytes.
    """
    key = f"{CANARIES}{runtime.random_id()}"
    first, second = runtime.random(64), runtime.random(64)
    store.create(key, first)
    try:
        try:
            store.create(key, second)
        except AlreadyExists:
            pass
        else:
            if not single_writer:
                raise NoConditionalCreate(f"{store.url}: the store lets a second creation of one name pass")
            first = second
        if store.get(key) != first:
            raise StoreRefused(
                f"{store.url}/{key}: other bytes come back than were stored",
                remedy="Do not use this store; report it to who runs it.",
            )
    finally:
        store.delete([key])
