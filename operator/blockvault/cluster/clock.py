"""A clock that tests move: the wall clock and what a file says it is ahead."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

from .context import utc_now

LOOK_SECONDS = 0.5


class MovedClock:
    """The wall clock plus the seconds in a file; zero while there is none."""

    def __init__(self, path: str) -> None:
        self._path = Path(path)

    def __call__(self) -> datetime:
        """The moment, in UTC."""
        return utc_now() + self.ahead()

    def ahead(self) -> timedelta:
        """How far it is ahead. Raises ValueError when the file holds no number."""
        try:
            text = self._path.read_text(encoding="utf-8").strip()
        except FileNotFoundError:
            return timedelta(0)
        return timedelta(seconds=float(text or 0))

    async def watch(self, moved: Callable[[], None]) -> None:
        """Call `moved` whenever the file says another number, for ever."""
        before = self.ahead()
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            now = self.ahead()
            if now != before:
                before = now
                moved()
