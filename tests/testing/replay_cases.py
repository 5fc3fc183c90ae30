"""Simulations whose outcome is printed, to be compared between interpreters.

Each is of a kind that goes astray easily: sets of tasks, libraries' clocks and dice, garbage,
threads, faults. ``python -m tests.testing.replay_cases`` runs them all.
"""

from __future__ import annotations

import asyncio
import os
import random
import secrets
import sys
import time
import uuid
from typing import TYPE_CHECKING

from fray.testing import Simulation
from tests.testing.talk import Echo, dial, server

if TYPE_CHECKING:
    from fray.testing import SimProcess


async def traffic(sim: Simulation) -> None:
    async def client(process: SimProcess) -> None:
        while True:
            try:
                ear = await dial(process.transport, "server")
                while not ear.lost:
                    ear.link.send([process.clock.token().encode()])
                    await process.clock.sleep(process.clock.random.random())
            except OSError:
                await process.clock.sleep(1)

    sim.process("server", server(Echo))
    for i in range(6):
        sim.process(f"client{i}", client)
    sim.lose(None, None, 0.01)
    await asyncio.sleep(20)
    with sim.partition("client1", ["server", "client2"]):
        sim.crash("server")
        await asyncio.sleep(20)
        sim.restart("server")
        sim.process("server", server(Echo))
        sim.freeze("client3")
        await asyncio.sleep(20)
    sim.thaw("client3")
    sim.stop("client4")
    await asyncio.sleep(20)


async def groups(sim: Simulation) -> None:
    async def child(i: int) -> None:
        try:
            await asyncio.sleep(100)
        finally:
            sim.note(f"child {i} is cancelled")
            await asyncio.sleep(i % 5)

    async def fail() -> None:
        await asyncio.sleep(1)
        raise ValueError

    try:
        async with asyncio.TaskGroup() as group:
            for i in range(50):
                group.create_task(child(i))
            group.create_task(fail())
    except* ValueError:
        sim.note("the group has failed")


async def sets_of_tasks(sim: Simulation) -> None:
    tasks = [asyncio.create_task(asyncio.sleep(i % 7), name=f"t{i}") for i in range(50)]
    done, _ = await asyncio.wait(tasks)
    for task in done:
        sim.note(task.get_name())
    more = [asyncio.create_task(asyncio.sleep(i)) for i in range(50)]
    await asyncio.sleep(0)
    for task in asyncio.all_tasks():
        sim.note(task.get_name())
    await asyncio.gather(*more)
    for first in asyncio.as_completed([asyncio.sleep(i % 3, i) for i in range(30)]):
        sim.note(str(await first))


async def libraries(sim: Simulation) -> None:
    await asyncio.sleep(1.5)
    sim.note(f"{time.time()} {time.monotonic()} {time.perf_counter_ns()}")
    sim.note(f"{uuid.uuid4()} {random.random()} {random.Random().random()}")
    sim.note(f"{os.urandom(4).hex()} {secrets.token_hex(4)} {random.SystemRandom().random()}")
    sim.note(asyncio.create_task(asyncio.sleep(0)).get_name())


async def garbage(sim: Simulation) -> None:
    class Node:
        def __init__(self) -> None:
            self.me = self

        def __del__(self) -> None:
            sim.loop.call_soon(len, "")

    async def fail() -> None:
        raise KeyError

    for i in range(70_000):
        if i % 1000 == 0:
            Node()
            asyncio.create_task(fail())  # noqa: RUF006 - nobody holds it, which is the point
        await asyncio.sleep(0.001)
    sim.note(f"{len(sim.errors)} failures were found")
    sim.errors.clear()


async def threads(sim: Simulation) -> None:
    async def program(process: SimProcess) -> None:
        lanes = [process.threads.lane() for _ in range(3)]
        for i in range(10):
            for number, lane in enumerate(lanes):
                lane.submit(sim.note, (f"{process.name} lane {number} call {i}",))
            await asyncio.to_thread(sim.note, f"{process.name} thread {i}")

    for _ in range(3):
        sim.process("a", program)
    await asyncio.sleep(1)


CASES = (traffic, groups, sets_of_tasks, libraries, garbage, threads)


def run(case: object, seed: int) -> str:
    # Moves what comes after to other addresses.
    ballast = [bytearray(i % 999) for i in range(random.SystemRandom().randrange(5000))]
    with Simulation(seed) as sim:
        sim.run(case(sim))
        del ballast
        return f"{case.__name__} seed {seed}\n{sim.trace}\n{sim.loop.steps} {sim.digest}\n"


if __name__ == "__main__":
    for case in CASES:
        for seed in (1, 2):
            sys.stdout.write(run(case, seed))
