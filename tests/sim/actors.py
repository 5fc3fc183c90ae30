"""Actors and jobs for the tests of the simulated cluster."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import fray
from fray.actor.resolver import fray_resolver
from fray.actor.server import FrayActorServer
from fray.cluster import Entrypoint, JobRequest


@fray.actor
class Counter:
    def __init__(self, start: int = 0) -> None:
        self.count = start

    async def add(self, amount: int) -> int:
        self.count += amount
        return self.count

    def plain(self) -> int:
        return self.count

    @fray.method(idempotent=True, retries=3)
    async def nap(self, delay_s: float) -> str:
        await asyncio.sleep(delay_s)
        return "rested"

    async def sleep(self, delay_s: float) -> str:
        await asyncio.sleep(delay_s)
        return "slept"

    async def numbers(self, count: int):
        for number in range(count):
            await asyncio.sleep(1)
            yield number

    async def make_another(self, start: int) -> int:
        other = await Counter.remote(start)
        return await other.add.remote(1)


class Member:
    """One of a pool."""

    def place(self) -> str:
        return os.environ["FRAY_TASK_INDEX"]


async def serve_member() -> None:
    server = FrayActorServer(fray_resolver())
    await server.register_async("pool", Member())
    await server.serve_async()


def job(name: str, fn: Any, *args: Any, **options: Any) -> JobRequest:
    return JobRequest(name=name, entrypoint=Entrypoint.from_callable(fn, args=args), **options)
