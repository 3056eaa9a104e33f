"""All that opens a store: where it is, its keys, and who acts. Plain data that goes to other processes."""

from __future__ import annotations

from dataclasses import dataclass, field

from blockvault.engine.keys import KeyRing, VaultKey
from blockvault.engine.names import STORE
from blockvault.engine.repository import Repository
from blockvault.stores import (
    DEFAULT_RETRY_SECONDS,
    ObjectLock,
    ObjectNotFound,
    ObjectStore,
    StoreLocation,
    open_store,
)


@dataclass(frozen=True)
class Access:
    """`key`, `previous_key`: as in a key file (keys.py). `actor`: the cluster that acts; see `Repository.init`.

    `lock`: of a store that is made; that of one that is there stays as it is. `limit_rate`: bytes of payload a second,
    both ways together, while the store is used.
    """

    location: StoreLocation
    key: bytes | None = field(default=None, repr=False)
    previous_key: bytes | None = field(default=None, repr=False)
    actor: str | None = None
    limit_rate: int | None = None
    lock: ObjectLock | None = None

    @property
    def url(self) -> str:
        """Of the store."""
        return self.location.url

    def ring(self) -> KeyRing:
        """The keys. Raises BadKey."""
        keys = [None if raw is None else VaultKey.parse(raw) for raw in (self.key, self.previous_key)]
        return KeyRing(*keys)

    def open(self, retry_seconds: float = DEFAULT_RETRY_SECONDS) -> Repository:
        """Open what is there. Raises BadKey, and as `Repository.open`."""
        store = open_store(self.location, retry_seconds=retry_seconds, limit_rate=self.limit_rate)
        return Repository.open(store, self.ring(), actor=self.actor)

    def make(self, retry_seconds: float = DEFAULT_RETRY_SECONDS) -> Repository:
        """Make the store, or open it, after proving that it is fit. Raises BadKey, and as `Repository.init`."""
        store = open_store(self.location, make=True, retry_seconds=retry_seconds)
        lock = None if self.lock is None or _is_there(store) else self.lock
        return Repository.init(store, self.ring(), lock=lock, actor=self.actor)


def _is_there(store: ObjectStore) -> bool:
    try:
        store.stat(STORE)
    except ObjectNotFound:
        return False
    return True
