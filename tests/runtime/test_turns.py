"""Turns: much work is done a little at a time, in order, and others have their turn in between."""

from __future__ import annotations

import asyncio

import pytest

from fray.runtime.clock import SystemClock
from fray.runtime.turns import Turns, in_turns


class WorkClock(SystemClock):
    """Time passes as work is done, and not otherwise."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock() -> WorkClock:
    return WorkClock()


def steps(clock: WorkClock, count: int, done: list[int]):
    for number in range(count):
        clock.now += 0.25
        done.append(number)
        yield


async def test_between_two_turns_others_have_theirs(clock):
    done: list[int] = []
    working = asyncio.create_task(in_turns(steps(clock, 10, done), clock, turn_s=1.0))
    seen = []
    while not working.done():
        await asyncio.sleep(0)
        seen.append(len(done))
    assert seen == [4, 8, 10]


async def test_where_time_stands_still_all_is_done_in_one_turn(clock):
    turns, done = Turns(clock), []
    working = [asyncio.create_task(turns.run(lambda n=n: done.append(n))) for n in range(100)]
    await asyncio.sleep(0)
    assert done == list(range(100))
    await asyncio.gather(*working)


async def test_of_many_functions_as_many_run_in_a_turn_as_there_is_time_for(clock):
    turns, done = Turns(clock, turn_s=1.0), []

    def work(number: int) -> int:
        clock.now += 0.5
        done.append(number)
        return number

    working = [asyncio.create_task(turns.run(lambda n=n: work(n))) for n in range(6)]
    seen = []
    while len(done) < 6:
        await asyncio.sleep(0)
        seen.append(len(done))
    assert seen == [2, 4, 6]
    assert await asyncio.gather(*working) == [0, 1, 2, 3, 4, 5]


async def test_who_comes_later_does_not_overtake(clock):
    turns, done = Turns(clock, turn_s=1.0), []

    def work(number: int) -> None:
        clock.now += 1.0
        done.append(number)

    async def late() -> None:
        while len(done) < 2:
            await asyncio.sleep(0)
        await turns.run(lambda: work(99))

    await asyncio.gather(*(turns.run(lambda n=n: work(n)) for n in range(4)), late())
    assert done == [0, 1, 2, 3, 99]


async def test_what_a_function_raises_is_for_who_asked_for_it(clock):
    turns = Turns(clock, turn_s=1.0)

    def fail() -> None:
        clock.now += 1.0
        raise LookupError("not there")

    failing = [asyncio.create_task(turns.run(fail)) for _ in range(3)]
    for each in failing:
        with pytest.raises(LookupError):
            await each
    assert await turns.run(lambda: "goes on") == "goes on"


async def test_work_that_is_cancelled_before_its_turn_is_not_done(clock):
    turns, done = Turns(clock, turn_s=1.0), []

    def work(number: int) -> None:
        clock.now += 1.0
        done.append(number)

    working = [asyncio.create_task(turns.run(lambda n=n: work(n))) for n in range(4)]
    await asyncio.sleep(0)
    working[2].cancel()
    await asyncio.wait(working)
    assert done == [0, 1, 3]
