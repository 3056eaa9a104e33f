"""All that opens a store: where it is, its keys, and who acts. Plain data that goes to other processes."""

from __future__ import annotations

from dataclasses import dataclass, field

from blockvault.engine.keys import KeyRing, VaultKey
from blockvault.engine.repository import Repository
from blockvault.stores import DEFAULT_RETRY_SECONDS, StoreLocation, open_store


@dataclass(frozen=True)
class Access:
    """`key`, `previous_key`: as in a key file (keys.py). `actor`: the cluster that acts; see `Repository.init`."""

    location: StoreLocation
    key: bytes | None = field(default=None, repr=False)
    previous_key: bytes | None = field(default=None, repr=False)
    actor: str | None = None

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
        store = open_store(self.location, retry_seconds=retry_seconds)
        return Repository.open(store, self.ring(), actor=self.actor)

    def make(self, retry_seconds: float = DEFAULT_RETRY_SECONDS) -> Repository:
        """Make the store, or open it, after proving that it is fit. Raises BadKey, and as `Repository.init`."""
        store = open_store(self.location, make=True, retry_seconds=retry_seconds)
        return Repository.init(store, self.ring(), actor=self.actor)
