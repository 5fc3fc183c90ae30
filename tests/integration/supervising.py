"""A program whose root is a supervisor: ``python -m tests.integration.supervising``.

Prints the process ids of its actors, one a line, and then waits for the supervisor to end.
"""

from __future__ import annotations

import asyncio
import os

import fray


@fray.actor
class Worker:
    def pid(self) -> int:
        return os.getpid()


async def main() -> None:
    specs = [fray.ChildSpec(name, Worker.options(name=name)) for name in ("left", "right")]
    supervisor = fray.Supervisor(specs, name="program", intensity=0)
    async with fray.connect(), supervisor:
        for name in ("left", "right"):
            print(await supervisor[name].pid.remote(), flush=True)
        await supervisor.wait()


if __name__ == "__main__":
    asyncio.run(main())
