"""A plain method that blocks on another call: what becomes of it when its own caller goes."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import fray
from fray.errors import CallCancelled

pytestmark = [
    pytest.mark.usefixtures("cluster"),
    pytest.mark.leftovers("the module's cluster keeps idle threads"),
]


@fray.actor(max_concurrency=8)
class Sleeper:
    def __init__(self) -> None:
        self.entered = asyncio.Event()
        self.ended = asyncio.Event()

    async def sleep(self) -> None:
        self.entered.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.ended.set()

    async def until_entered(self) -> None:
        await self.entered.wait()

    async def until_ended(self) -> None:
        await self.ended.wait()

    async def add(self, number: int) -> int:
        return number + 1


@fray.actor
class Middle:
    def __init__(self, sleeper: Any) -> None:
        self.sleeper = sleeper
        self.seen: list[Any] = []

    def directly(self) -> None:
        self._note(lambda: self.sleeper.sleep())

    def by_its_future(self) -> None:
        self._note(lambda: self.sleeper.sleep.remote().result())

    def _note(self, block: Any) -> None:
        try:
            block()
        except CallCancelled as exc:
            self.seen.append(str(exc))
            raise
        finally:
            self.seen.append(self.sleeper.add(1))  # cleaning up may block

    def what_was_seen(self) -> list[Any]:
        return self.seen


@pytest.mark.parametrize("method", ["directly", "by_its_future"])
@pytest.mark.parametrize("process", ["shared", "own"])
async def test_a_method_that_blocks_on_a_call_is_woken_when_its_own_call_is_cancelled(
    method: str, process: str
) -> None:
    sleeper = await Sleeper.options(process="shared").remote()
    middle = await Middle.options(process=process).remote(sleeper)
    call = getattr(middle, method).remote()
    await sleeper.until_entered.remote()
    call.cancel()
    seen = await asyncio.wait_for(middle.what_was_seen.remote(), 30)  # its turn has come
    assert seen == [f"{method} was cancelled by its caller while it waited", 2]
    if method == "directly":  # nobody else can have its future
        await asyncio.wait_for(sleeper.until_ended.remote(), 30)
    await middle.kill()
    await sleeper.kill()
