"""A method that waits for another call: what becomes of it when its own call is over."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest

import fray
from fray.errors import CallError, DeadlineExceeded

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
        except CallError as exc:
            self.seen.append(f"{type(exc).__name__}: {exc}")
            raise
        finally:
            self.seen.append(self.sleeper.add(1))  # cleaning up may block

    async def one_after_another(self) -> None:
        calls = [self.sleeper.sleep.remote() for _ in range(2)]
        for call in calls:
            await call

    async def leave_running(self) -> None:
        self.sleeper.sleep.remote()

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
    assert seen == [f"CallCancelled: {method} was cancelled by its caller while it waited", 2]
    if method == "directly":  # nobody else can have its future
        await asyncio.wait_for(sleeper.until_ended.remote(), 30)
    await middle.kill()
    await sleeper.kill()


@pytest.mark.parametrize("method", ["directly", "by_its_future"])
@pytest.mark.parametrize("process", ["shared", "own"])
async def test_a_method_that_blocks_on_a_call_when_its_time_is_up_is_told_of_the_time(
    method: str, process: str
) -> None:
    sleeper = await Sleeper.options(process=process).remote()
    middle = await Middle.options(process=process).remote(sleeper)
    with pytest.raises(DeadlineExceeded):
        await getattr(middle, method).options(timeout=1).remote()
    [told, *_] = await asyncio.wait_for(middle.what_was_seen.remote(), 30)
    assert told.startswith("DeadlineExceeded: ")
    await asyncio.wait_for(sleeper.until_ended.remote(), 30)
    await middle.kill()
    await sleeper.kill()


@pytest.mark.parametrize("method", ["directly", "by_its_future", "one_after_another"])
async def test_what_ends_since_the_time_of_the_call_around_it_is_up_is_not_logged_as_well(
    method: str, caplog: pytest.LogCaptureFixture
) -> None:
    sleeper = await Sleeper.options(process="shared").remote()
    middle = await Middle.options(process="shared").remote(sleeper)
    for _ in range(10):
        with pytest.raises(DeadlineExceeded):
            await getattr(middle, method).options(timeout=0.02).remote()
    await asyncio.wait_for(middle.what_was_seen.remote(), 30)
    await middle.kill()
    await sleeper.kill()
    gc.collect()
    assert [r.message for r in caplog.records if "nobody looked" in r.message] == []


async def test_a_call_that_its_method_left_running_is_logged_when_its_time_is_up(
    caplog: pytest.LogCaptureFixture,
) -> None:
    sleeper = await Sleeper.options(process="shared").remote()
    middle = await Middle.options(process="shared").remote(sleeper)
    await middle.leave_running.options(timeout=1).remote()
    await asyncio.wait_for(sleeper.until_ended.remote(), 30)
    await middle.kill()
    await sleeper.kill()
    gc.collect()
    assert len([r for r in caplog.records if "nobody looked" in r.message]) == 1
