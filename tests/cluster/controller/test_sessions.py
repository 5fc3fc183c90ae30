"""Drivers' sessions."""

from __future__ import annotations

import asyncio

from fray.cluster.control import ClusterFacts
from fray.cluster.controller.book import Book
from fray.cluster.controller.journal import MemoryStore
from fray.cluster.controller.security import Security
from fray.cluster.controller.sessions import Sessions
from fray.runtime.clock import SystemClock


class JumpingClock(SystemClock):
    """A clock whose sleeps end when the test says so, at the time that it says."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self._asleep: asyncio.Future[None] | None = None

    def monotonic(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self._asleep = asyncio.get_running_loop().create_future()
        await self._asleep

    async def jump(self, seconds: float) -> None:
        while self._asleep is None or self._asleep.done():
            await asyncio.sleep(0)
        self.now += seconds
        self._asleep.set_result(None)
        await asyncio.sleep(0)
        while self._asleep.done():
            await asyncio.sleep(0)


async def test_a_controller_that_stood_still_does_not_take_its_drivers_for_gone():
    clock = JumpingClock()
    book = await Book.open(MemoryStore(), clock)
    sessions = Sessions(book, clock, ClusterFacts("test", local=False), Security(clock))
    running = asyncio.create_task(sessions.run())
    await sessions.renew("driver", 60.0)
    await clock.jump(1.0)
    await clock.jump(300.0)  # the machine slept, or somebody sent SIGSTOP
    assert repr(sessions) == "<Sessions 1>"
    for _ in range(61):  # but silence is silence
        await clock.jump(1.0)
    assert repr(sessions) == "<Sessions 0>"
    running.cancel()
    await asyncio.wait([running])
    await book.close()
