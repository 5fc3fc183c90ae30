"""A cluster inside this very process, its modules imported: how long until an actor has answered?

Run as a program of its own, because a process pays for its first cluster what no later one pays.
"""

from __future__ import annotations

import asyncio

from benchmarks.peers import measure


async def _first_answer() -> None:
    import aiohttp.web  # noqa: F401  # what is imported when it is first needed
    import uvloop  # noqa: F401

    import fray
    import fray.cluster.local

    @fray.actor
    class Adder:
        def add(self, x: int) -> int:
            return x + 1

    before = measure.now()
    async with fray.connect("local"):
        adder = await Adder.remote()
        measure.check(await adder.add.remote(1), 2)
        print((measure.now() - before) * 1e3)


if __name__ == "__main__":
    asyncio.run(_first_answer())
