"""A busy hour of production runtimes, printed: ``python -m tests.sim.replay_runtime``."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING

from fray.testing import Simulation
from tests.sim.callers import call, hosting, running

if TYPE_CHECKING:
    from fray.testing import SimProcess


class Counter:
    def __init__(self) -> None:
        self.total = 0

    def add(self, number: int) -> int:
        self.total += number
        return self.total

    async def add_later(self, number: int) -> int:
        await asyncio.sleep(1)
        return self.add(number)


async def hour(sim: Simulation) -> None:
    async def caller(process: SimProcess) -> None:
        async with running(process) as made:
            while True:
                method = process.clock.random.choice(["add", "add_later"])
                outcome = await call(made, "server:7000", "actor", method, 1)
                sim.note(f"{process.name}: {outcome}")
                await process.clock.sleep(process.clock.random.uniform(0, 60))

    sim.host("server", hosting(Counter))
    for number in range(4):
        sim.process(f"caller{number}", caller)
    for minute in range(60):
        await asyncio.sleep(60)
        if minute % 7 == 3:
            sim.restart("server")
        if minute % 11 == 5:
            sim.loop.call_later(90, sim.partition("server", "caller1").remove)


def run(seed: int) -> str:
    with Simulation(seed) as sim:
        sim.run(hour(sim))
        sim.check()
        return f"{sim.trace}\n{sim.loop.steps} {sim.digest}\n"


if __name__ == "__main__":
    sys.stdout.write(run(1))
