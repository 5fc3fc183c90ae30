"""Actors and jobs for the tests that kill things. Imported by the processes that are killed."""

from __future__ import annotations

import asyncio
import hashlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import fray
from fray.actor.current import CURRENT_SYSTEM
from fray.actor.resolver import ActorEndpoint, fray_resolver
from fray.cluster import Entrypoint, JobRequest
from fray.cluster.connect import open_cluster
from fray.cluster.identity import Identity
from fray.ids import ActorId, JobId
from tests.integration.real_cluster import until

FOR_EVER_S = 3600.0


@fray.actor
class Victim:
    """Tells its pid, and can be busy in every way in which a method can."""

    def __init__(self) -> None:
        self.calls = 0

    @fray.method(idempotent=True)
    def pid(self) -> int:
        return os.getpid()

    @fray.method(concurrent=True)
    async def add(self, number: int = 1) -> int:
        self.calls += number
        return self.calls

    @fray.method(concurrent=True)
    async def wait(self) -> None:
        await asyncio.sleep(FOR_EVER_S)

    def block(self) -> None:
        threading.Event().wait(FOR_EVER_S)

    @fray.method(concurrent=True)
    async def stream(self, items: int) -> AsyncIterator[int]:
        for number in range(items):
            yield number
        await asyncio.sleep(FOR_EVER_S)

    @fray.method(concurrent=True)
    def stream_plainly(self, items: int) -> Iterator[int]:
        yield from range(items)
        threading.Event().wait(FOR_EVER_S)

    @fray.method(concurrent=True)
    async def exit(self, code: int) -> None:
        os._exit(code)

    @fray.method(concurrent=True)
    async def raise_signal(self, number: int) -> None:
        os.kill(os.getpid(), number)

    async def compute_on_the_loop(self, seconds: float) -> None:
        """What a method does that should have been a plain one."""
        begin = time.monotonic()
        while time.monotonic() - begin < seconds:
            hashlib.sha256(bytes(1 << 20))

    @fray.method(concurrent=True)
    async def register(self, name: str, ttl_s: int) -> None:
        """Gives itself a name, in the seed's way."""
        resolver = fray_resolver()
        process = resolver.system.process
        facts = {"fray.process_id": process.process_id}
        endpoint = ActorEndpoint(ActorId("a-victim"), process.address, JobId(""), facts)
        await resolver.register_async(name, endpoint, ttl_s)

    @fray.method(concurrent=True)
    async def eat_memory(self) -> None:
        hoard = []
        while True:
            hoard.append(bytearray(b"x" * (16 << 20)))

    @fray.method(concurrent=True)
    def start_child(self, *, stubborn: bool) -> int:
        """Starts a process that holds nothing of this one, and may ignore SIGTERM."""
        code = "import signal, sys, time; signal.signal(15, {}); print(); time.sleep(3600)"
        handler = "signal.SIG_IGN" if stubborn else "signal.SIG_DFL"
        child = subprocess.Popen(
            [sys.executable, "-c", code.format(handler)], stdout=subprocess.PIPE
        )
        assert child.stdout is not None
        child.stdout.readline()
        return child.pid


class Caller:
    """Calls somebody again and again, and keeps count."""

    def __init__(self) -> None:
        self.answers = 0

    def pid(self) -> int:
        return os.getpid()

    @fray.method(concurrent=True)
    async def call(self, name: str) -> None:
        handle = await fray_resolver().lookup_async(name)
        while True:
            await handle.hear.remote()
            self.answers += 1

    @fray.method(concurrent=True)
    async def count(self) -> int:
        return self.answers


class Listener:
    """Hosted by a driver."""

    def __init__(self) -> None:
        self.heard = 0

    async def hear(self) -> int:
        self.heard += 1
        await asyncio.sleep(0.001)
        return self.heard

    async def hears_more(self) -> None:
        seen = self.heard
        await until(lambda: self.heard > seen + 20, "an actor calls the driver")


def tick(path: str, end: str) -> None:
    """A job: adds a line to a file every few milliseconds, until another file is there."""
    with Path(path).open("a") as file:
        file.write(f"{os.getpid()} begins\n")
        while not Path(end).exists():
            file.write(".\n")
            file.flush()
            time.sleep(0.005)
        file.write(f"{os.getpid()} ends\n")


async def drive(address: str, token: str, session_ttl_s: float, files: list[str]) -> None:
    """A driver: makes an actor of its own, a detached one and a job, tells of them, and waits."""
    identity = Identity("tester", "test", session_id=f"d-{os.getpid()}")
    connection = await open_cluster(address, token, identity, session_ttl_s=session_ttl_s)
    CURRENT_SYSTEM.set(connection.system)
    mine = Victim.options(name="mine").remote()
    theirs = Victim.options(name="theirs", lifetime="detached").remote()
    entrypoint = Entrypoint.from_callable(tick, args=files)
    job_id = await connection.launch(JobRequest(name="ticking", entrypoint=entrypoint))
    print(await mine.pid.remote(), await theirs.pid.remote(), job_id, flush=True)
    await asyncio.sleep(FOR_EVER_S)


if __name__ == "__main__":
    secret = Path(sys.argv[2]).read_text().strip()
    asyncio.run(drive(sys.argv[1], secret, float(sys.argv[3]), sys.argv[4:]))
