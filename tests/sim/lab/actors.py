"""Actors of all kinds for the lab."""

from __future__ import annotations

import asyncio
from typing import Any

import fray
from fray.actor.resolver import fray_resolver
from fray.actor.server import FrayActorServer

ASK_S = 120.0
"""How long an actor that asks another waits: two that ask each other must not wait for ever."""


@fray.actor
class Worker:
    """Counts what it is asked to add; each incarnation from 0."""

    def __init__(self) -> None:
        self.total = 0
        self.friends: list[Any] = []

    async def add(self, amount: int) -> int:
        self.total += amount
        return self.total

    def add_plainly(self, amount: int) -> int:
        self.total += amount
        return self.total

    async def add_slowly(self, delay_s: float) -> int:
        before = self.total
        await asyncio.sleep(delay_s)
        self.total = before + 1
        return self.total

    @fray.method(idempotent=True, retries=3)
    async def look(self, delay_s: float) -> int:
        await asyncio.sleep(delay_s)
        return self.total

    @fray.method(concurrent=True)
    async def health(self) -> str:
        return "well"

    async def count(self, number: int, pause_s: float):
        for each in range(number):
            await asyncio.sleep(pause_s)
            yield each

    def count_plainly(self, number: int):
        yield from range(number)

    async def fail(self, why: str) -> None:
        raise ValueError(why)

    async def echo(self, data: bytes) -> bytes:
        return data

    async def meet(self, friend: Any) -> int:
        self.friends = [*self.friends, friend][-3:]
        return len(self.friends)

    async def ask_friends(self) -> list[int]:
        asked = [friend.add.options(timeout=ASK_S).remote(1) for friend in self.friends]
        answers = await asyncio.gather(*asked, return_exceptions=True)
        return [answer for answer in answers if isinstance(answer, int)]


@fray.actor(max_concurrency=4)
class Wide(Worker):
    """Serves several calls at once."""


async def serve_member() -> None:
    """A job: a member of a pool, which serves until it is stopped."""
    server = FrayActorServer(fray_resolver())
    await server.register_async("pool", Wide())
    await server.serve_async()


async def errand(name: str, calls: int) -> None:
    """A job that calls an actor and ends.

    Args:
        name: Which actor.
        calls: How often.
    """
    actor = await fray_resolver().lookup_async(name)
    for _ in range(calls):
        await asyncio.gather(actor.add.options(timeout=ASK_S).remote(1), return_exceptions=True)
        await asyncio.sleep(1)
