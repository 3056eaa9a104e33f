"""Kinds of which there are few, and which every look at a Vault needs: kept in memory, and told by their events.

Asked for anew each time, fifty Vaults in idle were most of what the operator asks, and each answer held all of them. An
event is here in milliseconds; what was missed for good is mended by a listing of now and then.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ValidationError

from blockvault.core.objects import Object

from .gateway import Gateway
from .resources import Resource

# All of them are listed again after so long.
LISTED_SECONDS = 600.0
# So many in one answer: a Vault of 256 claims is 150 KiB.
AT_ONCE = 20

T = TypeVar("T", bound=BaseModel)


class Kept(Generic[T]):
    """All objects of one kind as models, without the fields named in `without` (`status.resources`)."""

    def __init__(self, resource: Resource, model: type[T], without: tuple[tuple[str, str], ...] = ()) -> None:
        self._resource, self._model, self._without = resource, model, without
        self._objects: dict[str, T] = {}
        self._listed: float | None = None
        self._lock = asyncio.Lock()
        # What events say while a listing is under way, which may be older.
        self._news: dict[str, T | None] | None = None

    def note(self, obj: Object, *, gone: bool = False) -> None:
        """An event of one of them."""
        uid = str(obj["metadata"]["uid"])
        news = None if gone else self._parsed(obj)
        if news is None:
            self._objects.pop(uid, None)
        else:
            self._objects[uid] = news
        if self._news is not None:
            self._news[uid] = news

    async def all(self, gateway: Gateway) -> list[T]:
        """All of them. Raises GatewayError where they had to be listed, and could not be."""
        if self._is_old():
            async with self._lock:  # one lists, for all that ask meanwhile
                if self._is_old():
                    now = time.monotonic()
                    await self._list(gateway)
                    self._listed = now
        return list(self._objects.values())

    def _is_old(self) -> bool:
        return self._listed is None or time.monotonic() - self._listed > LISTED_SECONDS

    async def _list(self, gateway: Gateway) -> None:
        self._news = {}
        found: dict[str, T] = {}
        async for page in gateway.pages(self._resource, at_once=AT_ONCE):
            found |= {
                str(o["metadata"]["uid"]): model for o in page if (model := self._parsed(o)) is not None
            }
        for uid, news in self._news.items():
            found.pop(uid, None)
            if news is not None:
                found[uid] = news
        self._objects, self._news = found, None

    def _parsed(self, obj: Object) -> T | None:
        slim: dict[str, Any] = dict(obj)
        for part, name in self._without:
            if name in (slim.get(part) or {}):
                slim[part] = {key: value for key, value in slim[part].items() if key != name}
        try:
            return self._model.model_validate(slim)
        except ValidationError:  # of a newer version: whoever reads it by itself says so
            return None
