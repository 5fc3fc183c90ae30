"""A controller's garbage: collected now and then, and never in between."""

from __future__ import annotations

import asyncio
import gc
import weakref

import pytest

from fray.cluster.controller.garbage import LOOK_S, SHARE, collect_garbage
from fray.runtime.clock import SystemClock


class SteppedClock(SystemClock):
    """Goes on when it is told to; a collection takes as long as is said."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.took_s = 0.0
        self.wakes = asyncio.Event()
        gc.callbacks.append(self._collecting)

    def _collecting(self, phase: str, _: dict[str, int]) -> None:
        if phase == "stop":
            self.now += self.took_s

    def close(self) -> None:
        gc.callbacks.remove(self._collecting)

    def monotonic(self) -> float:
        return self.now

    async def sleep(self, delay_s: float) -> None:
        await self.wakes.wait()
        self.wakes.clear()
        self.now += delay_s

    async def look(self) -> None:
        self.wakes.set()
        while self.wakes.is_set():
            await asyncio.sleep(0)
        await asyncio.sleep(0)


class Knot:
    """Refers to itself, so only a collection removes it."""

    def __init__(self) -> None:
        self.itself = self


@pytest.fixture
async def clock():
    made = SteppedClock()
    collecting = asyncio.create_task(collect_garbage(made))
    await asyncio.sleep(0)
    yield made
    collecting.cancel()
    await asyncio.wait([collecting])
    made.close()
    assert gc.isenabled()
    assert gc.get_freeze_count() == 0


def knot() -> weakref.ref[Knot]:
    return weakref.ref(Knot())


async def test_garbage_goes_at_the_next_look_and_not_before(clock):
    assert not gc.isenabled()
    there = knot()
    assert [object() for _ in range(10_000)]
    assert there() is not None
    await clock.look()
    assert there() is None


async def test_collections_that_take_long_are_rare(clock):
    clock.took_s = 0.1
    await clock.look()
    there, looks = knot(), 0
    while there() is not None:
        await clock.look()
        looks += 1
    assert looks == pytest.approx(clock.took_s / SHARE / LOOK_S, abs=1)


async def test_a_heap_that_grows_is_looked_at_however_long_that_takes(clock, monkeypatch):
    monkeypatch.setattr("fray.cluster.controller.garbage.GROWTH_MAX", 50_000)
    clock.took_s = 100.0
    await clock.look()
    there = knot()
    grown = [[] for _ in range(60_000)]
    await clock.look()
    assert there() is None
    assert len(grown) == 60_000
