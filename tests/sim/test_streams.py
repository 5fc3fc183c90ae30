"""Streams between hosts: what is ahead is bounded, and what ends early ends at its actor too."""

from __future__ import annotations

import asyncio

import pytest

import fray
from fray.errors import ActorDied
from fray.runtime.calls import STREAM_BYTES_WINDOW, STREAM_ITEMS_WINDOW


class Trouble(Exception):
    pass


@fray.actor
class Source:
    def __init__(self) -> None:
        self.made = 0
        self.closed: list[str] = []

    async def numbers(self, count: int, size: int = 0):
        try:
            for number in range(count):
                self.made = number + 1
                yield (number, bytes(size)) if size else number
        finally:
            await asyncio.sleep(0.01)  # cleaning up may take a while
            self.closed.append("async")

    def plain_numbers(self, count: int):
        try:
            for number in range(count):
                self.made = number + 1
                yield number
        finally:
            self.closed.append("plain")

    async def failing(self, good: int):
        for number in range(good):
            yield number
        raise Trouble(f"after {good}")

    async def waiting(self):
        yield "first"
        await asyncio.Event().wait()

    @fray.method(concurrent=True)
    async def told(self) -> tuple[int, list[str]]:
        return self.made, self.closed

    @fray.method(concurrent=True)
    async def echo(self, value):
        return value


@pytest.fixture
async def source(sim_cluster):
    await sim_cluster.add_hosts(1)
    return await Source.remote()


METHODS = pytest.mark.parametrize("method", ["numbers", "plain_numbers"])


@METHODS
async def test_everything_comes_in_order_however_slow_its_reader_is(source, sim_cluster, method):
    seen = []
    async for number in getattr(source, method).remote(300):
        if number % 50 == 0:
            await asyncio.sleep(1)
        seen.append(number)
    assert seen == list(range(300))


@METHODS
async def test_a_producer_is_ahead_by_a_window_of_items_and_waits_then(source, method):
    stream = aiter(getattr(source, method).remote(10_000))
    assert await anext(stream) == 0
    await asyncio.sleep(5)
    made, closed = await source.told.remote()
    assert made <= STREAM_ITEMS_WINDOW + 2
    assert closed == []
    for expected in range(1, 200):
        assert await anext(stream) == expected
    await asyncio.sleep(5)
    assert (await source.told.remote())[0] <= 200 + STREAM_ITEMS_WINDOW + 2
    await stream.aclose()


async def test_a_producer_of_large_items_is_ahead_by_a_window_of_bytes(source):
    size = STREAM_BYTES_WINDOW // 4
    stream = aiter(source.numbers.remote(100, size))
    await anext(stream)
    await asyncio.sleep(5)
    made, _ = await source.told.remote()
    assert made <= 4 + 3
    await stream.aclose()


@METHODS
@pytest.mark.parametrize("how", ["break", "close", "cancel"])
async def test_leaving_a_stream_early_ends_its_producer_which_cleans_up(source, method, how):
    if how == "break":
        async for _ in getattr(source, method).remote(10_000):
            break
    else:
        future = getattr(source, method).remote(10_000)
        stream = aiter(future)
        await anext(stream)
        await stream.aclose() if how == "close" else future.cancel()
    await asyncio.sleep(1)
    made, closed = await source.told.remote()
    assert closed == [{"numbers": "async", "plain_numbers": "plain"}[method]]
    assert made <= STREAM_ITEMS_WINDOW + 2
    assert [x async for x in source.numbers.remote(3)] == [0, 1, 2]  # its turn is free again


async def test_cancelling_whoever_waits_for_an_item_ends_the_producer(source):
    async def read() -> None:
        async for _ in source.waiting.remote():
            pass

    reading = asyncio.create_task(read())
    await asyncio.sleep(1)
    reading.cancel()
    await asyncio.wait([reading])
    async with asyncio.timeout(5):
        assert [x async for x in source.numbers.remote(2)] == [0, 1]


@pytest.mark.parametrize("good", [0, 1, STREAM_ITEMS_WINDOW + 10])
async def test_an_error_comes_after_the_items_before_it(source, good):
    items = []
    with pytest.raises(Trouble, match=f"after {good}"):
        async for item in source.failing.remote(good):
            items.append(item)
    assert items == list(range(good))


async def test_a_stream_that_nobody_reads_stops_no_other_call_of_its_link(source, sim_cluster):
    size = STREAM_BYTES_WINDOW // 4
    unread = [aiter(source.numbers.remote(100, size))]
    await anext(unread[0])
    await asyncio.sleep(2)
    for number in range(50):
        began = sim_cluster.now
        assert await source.echo.remote(number) == number
        assert sim_cluster.now - began < 0.05
    assert len(await source.echo.remote(bytes(size))) == size
    await unread[0].aclose()


async def test_a_stream_whose_host_is_lost_ends_with_the_cause_after_its_items(sim_cluster):
    await sim_cluster.add_hosts(2)
    source = await Source.remote()
    stream = aiter(source.waiting.remote())
    assert await anext(stream) == "first"
    sim_cluster.crash(sim_cluster.host_of(source))
    with pytest.raises(ActorDied):
        await anext(stream)
