"""Call cycles through plain methods, whose threads block: on real threads, in one process."""

from __future__ import annotations

import asyncio
import threading

import pytest

import fray
from fray.errors import CallCycle
from fray.runtime.waits import holds_up

BOTH = threading.Barrier(2)


@fray.actor
class Plain:
    def meet(self, other) -> None:
        self.other = other

    def call(self, depth: int) -> str:
        return self.other.call(depth - 1) if depth else "reached"

    def call_all(self) -> list[str]:
        return fray.gather(self.other.name.remote(), self.other.call.remote(1)).result()

    def call_when_both_are_here(self) -> str:
        BOTH.wait(20)
        return self.other.name()

    def name(self) -> str:
        return "plain"


@fray.actor(reentrant=True)
class PlainReentrant(Plain):
    pass


@pytest.fixture
async def cluster():
    async with fray.connect("local") as connected:
        yield connected


async def ring(cls):
    one, other = cls.remote(), cls.remote()
    await asyncio.gather(one.meet.remote(other), other.meet.remote(one))
    return one, other


async def test_a_plain_method_that_blocks_for_its_own_caller_is_told(cluster):
    one, _ = await ring(Plain)
    with pytest.raises(CallCycle, match=r"Plain\.call awaits Plain\.call"):
        await one.call.remote(2)
    with pytest.raises(CallCycle):
        await one.call_all.remote()
    assert await one.call.remote(1) == "reached"


async def test_plain_methods_of_reentrant_actors_call_back_as_deep_as_they_like(cluster):
    one, _ = await ring(PlainReentrant)
    assert await one.call.remote(7) == "reached"


async def test_of_plain_calls_that_cross_one_is_taken_out(cluster):
    one, other = await ring(Plain)
    calls = [each.call_when_both_are_here.remote() for each in (one, other)]
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert sorted(type(each).__name__ for each in outcomes) == ["CallCycle", "str"]


async def test_plain_calls_that_cross_at_reentrant_actors_both_go_on(cluster):
    one, other = await ring(PlainReentrant)
    calls = [each.call_when_both_are_here.remote() for each in (one, other)]
    assert await asyncio.gather(*calls) == ["plain", "plain"]


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ("await", True),
        ("task", True),
        ("gather", True),
        ("gather_some", True),
        ("shield", True),
        ("wait_for", True),
        ("timeout", True),
        ("group", True),
        ("wait_all", True),
        ("wait_first", False),
        ("wait_in_time", False),
        ("not_awaited", False),
        ("queue", False),
    ],
)
async def test_a_task_is_held_up_by_what_it_cannot_go_on_without(how, expected):
    future = asyncio.get_running_loop().create_future()
    queue = asyncio.Queue()
    others = []

    async def inner():
        await future

    def task(coro):
        others.append(asyncio.create_task(coro))
        return others[-1]

    async def timeout():
        async with asyncio.timeout(60):
            await future

    async def group():
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(inner())
            await asyncio.sleep(0)

    async def queued():
        task(inner()).add_done_callback(queue.put_nowait)
        await queue.get()

    ways = {
        "await": inner,
        "task": lambda: asyncio.gather(task(inner())),
        "gather": lambda: asyncio.gather(inner(), asyncio.sleep(0)),
        "gather_some": lambda: asyncio.gather(inner(), return_exceptions=True),
        "shield": lambda: asyncio.shield(inner()),
        "wait_for": lambda: asyncio.wait_for(inner(), 60),
        "timeout": timeout,
        "group": group,
        "wait_all": lambda: asyncio.wait([task(inner())]),
        "wait_first": lambda: asyncio.wait(
            [task(inner()), task(asyncio.sleep(60))], return_when=asyncio.FIRST_COMPLETED
        ),
        "wait_in_time": lambda: asyncio.wait([task(inner())], timeout=60),
        "not_awaited": lambda: task(inner()) and asyncio.sleep(60),
        "queue": queued,
    }

    async def main():
        await ways[how]()

    waiting = asyncio.create_task(main())
    for _ in range(5):
        await asyncio.sleep(0)
    assert holds_up(future, waiting) is expected
    for each in (waiting, *others):
        each.cancel()
    await asyncio.gather(waiting, *others, return_exceptions=True)
    assert not holds_up(future, waiting)  # it has ended
