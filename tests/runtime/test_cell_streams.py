"""Streams: items in order, as fast as the consumer takes them, and an end in any case."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from fray.errors import ActorDied, PayloadError, Started
from fray.runtime.calls import CURRENT_INVOCATION, STREAM_BYTES_WINDOW, STREAM_ITEMS_WINDOW

from .hosted import BYE, Actors, actors, ask, call, concurrent

if TYPE_CHECKING:
    from fray.testing import Simulation

__all__ = ["actors"]  # a fixture

BOTH = pytest.mark.parametrize("count", ["count_async", "count"])


class Streamer:
    def __init__(self) -> None:
        self.made = 0
        self.closed: list[str] = []

    async def count_async(
        self, n: int, fail_at: int = -1, delay_s: float = 0
    ) -> AsyncIterator[int]:
        try:
            for i in range(n):
                if i == fail_at:
                    raise ValueError("no more")
                self.made += 1
                await asyncio.sleep(delay_s)
                yield i
        finally:
            self.closed.append("async")

    def count(self, n: int, fail_at: int = -1) -> Iterator[int]:
        try:
            for i in range(n):
                if i == fail_at:
                    raise ValueError("no more")
                self.made += 1
                yield i
        finally:
            self.closed.append("plain")

    async def chunks(self, n: int, nbytes: int) -> AsyncIterator[bytes]:
        for _ in range(n):
            self.made += 1
            yield bytes(nbytes)

    async def never(self) -> AsyncIterator[int]:
        try:
            await asyncio.Event().wait()
            yield 1
        finally:
            self.closed.append("never")

    async def unpicklable(self) -> AsyncIterator[Any]:
        yield 1
        yield asyncio.get_running_loop()

    async def bad_end_async(self) -> AsyncIterator[int]:
        try:
            while True:
                yield 1
        finally:
            raise OSError("cannot close")

    def bad_end(self) -> Iterator[int]:
        try:
            while True:
                yield 1
        finally:
            raise OSError("cannot close")

    def whose(self) -> Iterator[str]:
        for _ in range(2):
            invocation = CURRENT_INVOCATION.get()
            yield invocation.method if invocation else "nobody's"

    def not_an_iterator(self) -> int:
        return 1

    def quick(self) -> str:
        return "ok"

    async def slow(self) -> None:
        await asyncio.Event().wait()

    @concurrent
    def beside(self) -> Iterator[int]:
        yield from range(3)

    @concurrent
    async def beside_async(self) -> AsyncIterator[int]:
        for i in range(3):
            yield i


@BOTH
async def test_items_come_in_order_and_then_the_end(actors: Actors, count: str):
    cell = await actors.start(Streamer)
    stream = call(cell, count, 10)
    assert await stream.ended == list(range(10))
    assert stream.outcome == "end"
    assert len(cell.instance.closed) == 1


@BOTH
async def test_an_error_comes_after_the_items_before_it(actors: Actors, count: str):
    cell = await actors.start(Streamer)
    stream = call(cell, count, 10, fail_at=3)
    error = await stream.error()
    assert (type(error), str(error), stream.outcome) == (ValueError, "no more", "error")
    assert stream.items == [0, 1, 2]


@BOTH
async def test_a_stream_may_be_empty_or_fail_at_once(actors: Actors, count: str):
    cell = await actors.start(Streamer)
    assert await ask(cell, count, 0) == []
    assert isinstance(await call(cell, count, 1, fail_at=0).error(), ValueError)
    assert isinstance(await call(cell, count, "x").error(), TypeError)
    assert isinstance(await call(cell, count).error(), TypeError)


async def test_an_item_that_cannot_be_pickled_ends_the_stream(actors: Actors):
    cell = await actors.start(Streamer)
    stream = call(cell, "unpicklable")
    assert isinstance(await stream.error(), PayloadError)
    assert stream.items == [1]


@BOTH
async def test_a_producer_is_ahead_of_its_consumer_by_a_window_of_items(actors: Actors, count: str):
    cell = await actors.start(Streamer)
    stream = call(cell, count, 1000)
    await asyncio.sleep(10)
    assert len(stream.items) == STREAM_ITEMS_WINDOW
    assert cell.instance.made == STREAM_ITEMS_WINDOW + 1  # one is ready
    stream.invocation.grant(10, 0)
    await asyncio.sleep(10)
    assert len(stream.items) == STREAM_ITEMS_WINDOW + 10
    stream.invocation.grant(1000, 0)
    assert await stream.ended == list(range(1000))


async def test_a_producer_is_ahead_of_its_consumer_by_a_window_of_bytes(actors: Actors):
    cell = await actors.start(Streamer)
    nbytes = STREAM_BYTES_WINDOW // 2
    stream = call(cell, "chunks", 10, nbytes)
    await asyncio.sleep(10)
    assert len(stream.items) == 2
    stream.invocation.grant(0, nbytes)
    await asyncio.sleep(10)
    assert len(stream.items) == 3
    stream.invocation.grant(0, 20 * nbytes)
    assert len(await stream.ended) == 10


async def test_one_item_may_be_larger_than_the_window_of_bytes(actors: Actors):
    cell = await actors.start(Streamer)
    stream = call(cell, "chunks", 3, STREAM_BYTES_WINDOW + 1)
    await asyncio.sleep(10)
    assert len(stream.items) == 1
    stream.invocation.grant(1, STREAM_BYTES_WINDOW + 1)
    await asyncio.sleep(10)
    assert len(stream.items) == 2


@BOTH
async def test_closing_a_stream_early_closes_its_producer(actors: Actors, count: str):
    cell = await actors.start(Streamer)
    stream = call(cell, count, 1000)
    await asyncio.sleep(10)
    stream.cancel()
    assert await ask(cell, "quick") == "ok"
    assert len(cell.instance.closed) == 1
    assert cell.instance.made == STREAM_ITEMS_WINDOW + 1
    assert not stream.done


async def test_a_producer_that_waits_is_closed_too(actors: Actors):
    cell = await actors.start(Streamer)
    stream = call(cell, "never")
    await asyncio.sleep(10)
    stream.cancel()
    assert await ask(cell, "quick") == "ok"
    assert cell.instance.closed == ["never"]


async def test_a_stream_that_is_cancelled_before_it_began_never_begins(actors: Actors):
    cell = await actors.start(Streamer)
    stream = call(cell, "count_async", 5)
    stream.cancel()
    assert await ask(cell, "quick") == "ok"
    assert (cell.instance.made, stream.items) == (0, [])


@pytest.mark.parametrize("method", ["bad_end", "bad_end_async"])
async def test_a_producer_that_cannot_be_closed_does_not_fail_silently(
    sim: Simulation, actors: Actors, method: str
):
    cell = await actors.start(Streamer)
    stream = call(cell, method)
    await asyncio.sleep(1)
    stream.cancel()
    assert await ask(cell, "quick") == "ok"
    (error,) = sim.errors
    assert error["message"] == "closing a stream of actor failed"
    assert str(error["exception"]) == "cannot close"
    sim.errors.clear()


@BOTH
async def test_a_stream_is_a_call_and_others_wait_for_its_end(actors: Actors, count: str):
    cell = await actors.start(Streamer)
    stream, other = call(cell, count, 100), call(cell, "quick")
    await asyncio.sleep(10)
    assert not other.done
    stream.invocation.grant(100, 0)
    await stream.ended
    assert await other.ended == "ok"


@pytest.mark.parametrize("method", ["beside", "beside_async"])
async def test_a_concurrent_stream_does_not_wait_for_other_calls(actors: Actors, method: str):
    cell = await actors.start(Streamer)
    call(cell, "slow")
    assert await ask(cell, method) == [0, 1, 2]


@BOTH
async def test_a_slow_consumer_holds_up_no_other_stream(actors: Actors, count: str):
    cell = await actors.start(Streamer, max_concurrency=2)
    call(cell, count, 1000)
    await asyncio.sleep(10)
    assert await ask(cell, count, 50) == list(range(50))


async def test_a_plain_generator_can_see_the_call_that_it_serves(actors: Actors):
    cell = await actors.start(Streamer)
    assert await ask(cell, "whose") == ["whose"] * 2


@BOTH
@pytest.mark.parametrize("grace_s", [0, 5])
async def test_stopping_the_actor_ends_its_streams(actors: Actors, count: str, grace_s: float):
    cell = await actors.start(Streamer)
    stream = call(cell, count, 1000)
    await asyncio.sleep(10)
    await cell.stop(BYE, grace_s=grace_s)
    error = await stream.error()
    assert isinstance(error, ActorDied)
    assert (error.cause, error.started) == (BYE, Started.UNKNOWN)
    assert len(cell.instance.closed) == 1


@BOTH
async def test_a_stream_that_ends_within_the_grace_of_a_stop_is_complete(
    sim: Simulation, actors: Actors, count: str
):
    cell = await actors.start(Streamer)
    stream = call(cell, count, 100)
    await asyncio.sleep(10)
    sim.loop.call_later(2, stream.invocation.grant, 100, 0)
    await cell.stop(BYE, grace_s=5)
    assert await stream.ended == list(range(100))


@BOTH
async def test_killing_the_actor_ends_its_streams(actors: Actors, count: str):
    cell = await actors.start(Streamer)
    stream = call(cell, count, 1000)
    await asyncio.sleep(10)
    cell.kill(BYE)
    assert isinstance(await stream.error(), ActorDied)
    await asyncio.sleep(10)
    assert cell.instance.made == STREAM_ITEMS_WINDOW + 1


async def test_an_item_that_is_ready_when_the_stream_is_closed_is_not_sent(actors: Actors):
    cell = await actors.start(Streamer)
    stream = call(cell, "count_async", 5, delay_s=1)
    await asyncio.sleep(2.5)
    stream.cancel()
    await asyncio.sleep(10)
    assert stream.items == [0, 1]
