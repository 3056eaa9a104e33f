"""Store work that answers at once, in the real worker processes with all that they import."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from blockvault.engine import Access
from blockvault.stores import open_store
from blockvault.storework import work


def check(access: Access) -> work.StoreStatus:
    """A store that is well."""
    open_store(access.location)
    return work.StoreStatus(f"store-of-{access.location.url}", 1 << 40, 200)


def list_backups(access: Access, volume: str | None) -> list[dict[str, Any]]:
    """Nothing that has no object."""
    return []


STUBS: dict[str, Callable[..., Any]] = {each.__name__: each for each in (check, list_backups)}
