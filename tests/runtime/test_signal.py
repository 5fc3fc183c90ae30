"""Signals and topics: who is woken by what."""

from __future__ import annotations

import asyncio

from fray.runtime.signal import Signal, Topics
from fray.testing import Simulation


async def test_who_waits_for_one_topic_is_not_woken_by_another() -> None:
    topics, looks, open_ = Topics(), list[str](), set[str]()

    def condition(topic: str) -> bool:
        looks.append(topic)
        return topic in open_

    async with asyncio.TaskGroup() as group:
        a = group.create_task(topics.until("a", lambda: condition("a"), 60.0))
        b = group.create_task(topics.until("b", lambda: condition("b"), 60.0))
        await asyncio.sleep(0)
        looks.clear()
        open_.add("a")
        topics.notify(["a", "unknown"])
        assert await a
        assert set(looks) == {"a"}
        open_.add("b")
        topics.notify(["b"])
        assert await b


async def test_topics_are_forgotten_with_the_last_who_waits() -> None:
    topics = Topics()
    assert not await topics.until("a", lambda: False, 0.0)
    assert await topics.until("a", lambda: True, 0.0)
    assert not topics._signals  # pyright: ignore[reportPrivateUsage]
    assert not topics._waiting  # pyright: ignore[reportPrivateUsage]


def test_a_condition_that_never_holds_is_waited_for_as_long_as_was_said() -> None:
    async def main() -> float:
        began = asyncio.get_running_loop().time()
        assert not await Signal().until(lambda: False, 30.0)
        return asyncio.get_running_loop().time() - began

    with Simulation(0) as sim:
        assert sim.run(main()) == 30.0
