"""A run: callers that never rest, while servers are added, killed and removed."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from examples.inference.load import Load, Served
from examples.inference.server import POOL
from fray.rpc import fray_resolver

if TYPE_CHECKING:
    from examples.inference.pool import InferencePool


@dataclass(frozen=True, slots=True)
class Phase:
    """A stretch of time in which nothing was done to the pool.

    Attributes:
        what: Was done to it before.
        servers: How many there were.
        began_s: Since the load began.
        ended_s: Likewise.
    """

    what: str
    servers: int
    began_s: float
    ended_s: float

    def served(self, load: Load) -> list[Served]:
        """What was had in it."""
        return [each for each in load.served if self.began_s <= each.ended_s < self.ended_s]


@dataclass(slots=True)
class Story:
    """What has happened.

    Attributes:
        load: What the callers went through.
        phases: In their order.
        events: When something was done to the pool, and what.
    """

    load: Load = field(default_factory=Load)
    phases: list[Phase] = field(default_factory=list[Phase])
    events: list[tuple[float, str]] = field(default_factory=list[tuple[float, str]])


async def tell(
    pool: InferencePool, callers: int, phase_s: float, show: Callable[[str], object]
) -> Story:
    """Puts a pool of one server under load, and does to it whatever happens to pools.

    Args:
        pool: With one server, which is there.
        callers: How many call at the same time.
        phase_s: How long nothing happens in between, in seconds.
        show: Told of each step.
    """
    server = await fray_resolver().lookup_async(POOL)
    story, over = Story(), asyncio.Event()
    load = story.load

    async def add() -> None:
        await asyncio.to_thread(pool.add)
        await asyncio.to_thread(pool.wait_until_there, len(pool))

    async def kill() -> None:
        os.kill(await server.pid.remote(), signal.SIGKILL)  # its job starts it again
        await asyncio.to_thread(pool.wait_until_there, len(pool) - 1)
        await asyncio.to_thread(pool.wait_until_there, len(pool))

    async def remove() -> None:
        await asyncio.to_thread(pool.remove)

    deeds = {
        "one server": None,
        "a server is added": add,
        "a server is killed": kill,
        "a server is removed": remove,
    }
    async with asyncio.TaskGroup() as group:
        group.create_task(load.run(server, callers, over))
        for what, deed in deeds.items():
            began = load.now_s()
            show(f"{began:6.1f}s  {what}")
            if deed is not None:
                story.events.append((began, what))
                await deed()
            await asyncio.sleep(phase_s)
            story.phases.append(Phase(what, len(pool), began, load.now_s()))
        over.set()
    return story
