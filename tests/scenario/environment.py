"""What the scenario needs of a cluster."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from blockvault.stores import Credentials, StoreLocation

Object = dict[str, Any]
OPERATOR_NAMESPACE = "blockvault-system"


@dataclass(frozen=True)
class Write:
    """Bytes that both sides can make from three numbers: `length` bytes from a seed at `offset`.

    The second half of every 4 KiB repeats the first one, so that compression has something to do.
    """

    offset: int
    length: int
    seed: int

    @property
    def data(self) -> bytes:
        """The bytes."""
        source = random.Random(self.seed)
        pieces = []
        for start in range(0, self.length, 4096):
            half = source.randbytes(2048)
            pieces.append((half + half)[: self.length - start])
        return b"".join(pieces)


@dataclass(frozen=True)
class Storage:
    """An S3 bucket as the operator and the movers reach it. `ca_bundle` is PEM, for https only."""

    endpoint: str
    region: str
    bucket: str
    access_key: str
    secret_key: str
    ca_bundle: str | None = None

    def at(self, url: str) -> StoreLocation:
        """A place in it, with all that opens it from outside of the cluster."""
        keys = Credentials(self.access_key, self.secret_key)
        return StoreLocation(
            url, self.endpoint, self.region, "path", ca_bundle=self.ca_bundle, credentials=keys
        )


class Environment(Protocol):
    """A cluster with the operator running. Kinds are named as a person types them (`pvc`, `backup`)."""

    namespace: str
    storage_class: str
    storage: Storage

    def apply(self, *objects: Object) -> None:
        """Create or patch objects; those without a namespace go to `namespace`."""

    def get(self, kind: str, name: str, namespace: str | None = None) -> Object | None:
        """One object, or None."""

    def list(self, kind: str) -> list[Object]:
        """All objects of a kind, in all namespaces."""

    def delete(self, kind: str, name: str, namespace: str | None = None) -> None:
        """Ask for an object's deletion."""

    def wait_for(
        self, kind: str, name: str, test: Callable[[Object | None], Any], *, timeout: float
    ) -> Object:
        """Wait until a test holds, and return the object. Raises TimeoutError that tells the story."""

    def make_claim(self, name: str, size: int) -> None:
        """A raw claim of `storage_class`, bound on return, by a pod where the class waits for one."""

    def write(self, claim: str, writes: Sequence[Write]) -> None:
        """Write to the claim's raw device and flush."""

    def digest(self, claim: str, length: int) -> str:
        """SHA-256 of the first bytes of the claim's raw device, in hex."""


def phase_is(*wanted: str) -> Callable[[Object | None], bool]:
    """A test: the object has one of these phases. Raises AssertionError at an Error that is not wanted."""

    def test(obj: Object | None) -> bool:
        status = (obj or {}).get("status") or {}
        found = status.get("phase")
        assert found != "Error" or "Error" in wanted, f"{(obj or {})['metadata']['name']}: {status}"
        return found in wanted

    return test


def gone(obj: Object | None) -> bool:
    """A test: there is no such object."""
    return obj is None
