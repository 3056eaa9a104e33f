"""Actors that take turns: each runs in a thread of its own, exactly one at a time, and a seed decides who.

The baton is handed over only where an actor pauses: at each request to the store and at each sleep. Time is counted,
not waited for.
"""

from __future__ import annotations

import heapq
import random
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from typing import Any

# Simulated time begins here: seconds since 1970.
EPOCH = 1_800_000_000.0


class Stopped(BaseException):
    """The whole run ends: unwinds an actor that waits for its turn."""


class Stuck(AssertionError):
    """More turns than any run should need."""


class Actor:
    """Somebody who acts. `wake`: the time before which it is not its turn."""

    def __init__(self, name: str, work: Callable[[], None]) -> None:
        self.name = name
        self.work = work
        self.wake = 0.0
        self.done = False
        self.gate = threading.Semaphore(0)


class Scheduler:
    """Decides whose turn it is. `sticky`: how likely an actor simply goes on."""

    def __init__(self, chance: random.Random, sticky: float, most_turns: int) -> None:
        self.now = 0.0
        self.error: BaseException | None = None
        self._chance = chance
        self._sticky = sticky
        self._left = most_turns
        self._actors: list[Actor] = []
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._sequence = 0
        self._over = threading.Semaphore(0)
        self.current: Actor | None = None

    def add(self, name: str, work: Callable[[], None]) -> None:
        """An actor, who begins when it is his turn."""
        self._actors.append(Actor(name, work))

    def at(self, time: float, effect: Callable[[], None]) -> None:
        """Let something happen as soon as that time has come."""
        self._sequence += 1
        heapq.heappush(self._timers, (time, self._sequence, effect))

    def settle(self) -> None:
        """Let everything happen that is still under way."""
        while self._timers:
            self.now = max(self.now, self._timers[0][0])
            self._fire()

    def run(self) -> None:
        """Until all actors are done. Raises what the first of them raised."""
        threads = [
            threading.Thread(target=self._live, args=(actor,), name=actor.name, daemon=True)
            for actor in self._actors
        ]
        for thread in threads:
            thread.start()
        if self._actors:
            self._hand_over(None)
            self._over.acquire()
        for thread in threads:
            thread.join()
        self._actors = []
        self.current = None
        if self.error is not None:
            raise self.error

    def pause(self, seconds: float = 0.0) -> None:
        """Give others a turn, for at least that long. Outside of `run`, only the time goes on."""
        me = self.current
        if me is None:
            self.now += seconds
            self._fire()
            return
        self._left -= 1
        if self._left < 0:
            raise Stuck("an actor goes round in circles")
        me.wake = self.now + seconds
        if self._hand_over(me) is not me:
            me.gate.acquire()
        if self.error is not None:
            raise Stopped

    def _live(self, actor: Actor) -> None:
        actor.gate.acquire()
        try:
            if self.error is None:
                actor.work()
        except Stopped:
            pass
        except BaseException as error:  # noqa: BLE001 - raised again by `run`
            self.error = self.error or error
        actor.done = True
        self._hand_over(actor)

    def _hand_over(self, me: Actor | None) -> Actor | None:
        """Whose turn it is now. From then on that one runs, so nothing may be looked at after it."""
        waiting = [actor for actor in self._actors if not actor.done]
        if not waiting:
            self._over.release()
            return None
        following = waiting[0] if self.error is not None else self._choose(waiting, me)
        self.current = following
        if following is not me:
            following.gate.release()
        return following

    def _choose(self, waiting: list[Actor], me: Actor | None) -> Actor:
        while True:
            ready = [actor for actor in waiting if actor.wake <= self.now]
            if ready:
                break
            first = min(actor.wake for actor in waiting)
            self.now = max(self.now, min(first, self._timers[0][0]) if self._timers else first)
            self._fire()
        if me in ready and self._chance.random() < self._sticky:
            return me  # type: ignore[return-value]
        return self._chance.choice(ready)

    def _fire(self) -> None:
        while self._timers and self._timers[0][0] <= self.now:
            heapq.heappop(self._timers)[2]()


class TurnExecutor(Executor):
    """A pool of threads without threads: work waits until a seed lets it run, in no certain order.

    As many wait as there would be threads, so what was handed in may be done much later, as in a real pool.
    """

    def __init__(self, threads: int, chance: random.Random) -> None:
        self._threads = threads
        self._chance = chance
        self._waiting: list[tuple[_Later, Callable[[], Any]]] = []

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """See Executor."""
        future = _Later(self)
        self._waiting.append((future, lambda: fn(*args, **kwargs)))
        while len(self._waiting) >= self._threads or (self._waiting and self._chance.random() < 0.5):
            self.run_one()
        return future

    def run_one(self) -> None:
        """Do one of those that wait. What is no Exception is the process's end, not the future's business."""
        future, work = self._waiting.pop(self._chance.randrange(len(self._waiting)))
        try:
            result = work()
        except Exception as error:  # noqa: BLE001 - it belongs to whoever asks for the result
            future.set_exception(error)
        else:
            future.set_result(result)

    def map(
        self, fn: Callable[..., Any], *iterables: Iterable[Any], timeout: Any = None, chunksize: int = 1
    ) -> Iterator[Any]:
        """See Executor."""
        return iter([future.result() for future in [self.submit(fn, *args) for args in zip(*iterables)]])  # noqa: B905

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """See Executor. What need not be waited for may or may not still happen."""
        if cancel_futures:
            for future, _ in self._waiting:
                future.cancel()
            self._waiting.clear()
        while self._waiting:
            self.run_one()


class _Later(Future[Any]):
    """Runs what its pool has waiting when somebody asks for its result."""

    def __init__(self, pool: TurnExecutor) -> None:
        super().__init__()
        self._pool = pool

    def result(self, timeout: float | None = None) -> Any:
        while not self.done():
            self._pool.run_one()
        return super().result(0)

    def exception(self, timeout: float | None = None) -> BaseException | None:
        while not self.done():
            self._pool.run_one()
        return super().exception(0)
