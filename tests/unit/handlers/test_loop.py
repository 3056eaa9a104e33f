"""Loops of objects: one of each, as long as its object wants it."""

from __future__ import annotations

import asyncio
import time

import pytest

from blockvault.cluster.context import Context, utc_now
from blockvault.handlers import loop as module
from blockvault.handlers.loop import Loops, run_loop


@pytest.fixture
def context() -> Context:
    return Context(None, None, None, None, clock=utc_now)  # type: ignore[arg-type]


async def test_an_object_has_one_loop_however_often_it_is_wanted() -> None:
    loops, begun = Loops(), []

    async def loop() -> None:
        begun.append(1)
        await asyncio.sleep(60)

    for _ in range(3):
        loops.want("a", loop)
        await asyncio.sleep(0)
    assert len(begun) == 1
    await loops.close()


async def test_a_loop_that_has_ended_can_be_wanted_again_and_is_not_kept() -> None:
    loops, begun = Loops(), []

    async def loop() -> None:
        begun.append(1)

    for _ in range(2):
        loops.want("a", loop)
        await asyncio.sleep(0.01)
    assert len(begun) == 2
    assert loops._tasks == {}


async def test_an_object_that_goes_ends_its_loop_wherever_it_is() -> None:
    loops, ended = Loops(), []

    async def loop() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ended.append(1)

    loops.want("a", loop)
    await asyncio.sleep(0)
    await loops.end("a", "b")
    assert ended == [1]
    assert loops._tasks == {}


async def test_an_object_that_comes_back_while_its_loop_ends_has_a_new_one() -> None:
    loops, begun = Loops(), []

    async def loop() -> None:
        begun.append(1)
        await asyncio.sleep(60)

    loops.want("a", loop)
    await asyncio.sleep(0)
    await loops.end("a")
    loops.want("a", loop)
    await asyncio.sleep(0.01)
    assert len(begun) == 2
    await loops.close()


async def test_what_happens_during_the_first_look_wakes_the_loop(context: Context) -> None:
    looks: list[int] = []

    async def look() -> float | None:
        looks.append(1)
        if len(looks) == 1:
            context.wakeups.wake("v")
        return 60.0 if len(looks) == 1 else None

    await asyncio.wait_for(run_loop(context, "Vault", "v", look), 10)


async def test_a_loop_of_a_crowd_is_not_driven_by_what_wakes_it(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A Vault's look at all its claims takes long: 256 Backups that end must not make 256 of them."""
    monkeypatch.setattr(module, "REST", 10.0)
    looks: list[float] = []

    async def look() -> float | None:
        looks.append(time.monotonic())
        await asyncio.sleep(0.05)
        return 60.0 if len(looks) < 3 else None

    async def wake() -> None:
        while True:
            context.wakeups.wake("v")
            await asyncio.sleep(0.005)

    waking = asyncio.create_task(wake())
    await asyncio.wait_for(run_loop(context, "Vault", "v", look, crowd=asyncio.Semaphore(2)), 30)
    waking.cancel()
    assert looks[1] - looks[0] >= 0.5
    assert looks[2] - looks[1] >= 0.5


async def test_of_a_crowd_two_look_at_a_time(context: Context) -> None:
    looking, most = 0, 0

    async def look() -> float | None:
        nonlocal looking, most
        looking += 1
        most = max(most, looking)
        await asyncio.sleep(0.01)
        looking -= 1
        return None

    crowd = asyncio.Semaphore(2)
    await asyncio.gather(*(run_loop(context, "Vault", str(n), look, crowd=crowd) for n in range(6)))
    assert most == 2
