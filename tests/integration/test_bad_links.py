"""A driver and an actor that both live, and a network between them that does what networks do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from fray.errors import ActorUnavailable, DeadlineExceeded, Started
from fray.runtime.calls import STREAM_BYTES_WINDOW
from fray.runtime.clock import SystemClock
from tests.integration import netns, witness
from tests.integration.proxy import MARK, Proxy, proxying
from tests.integration.real_cluster import DEADLINE_S, outcome, until
from tests.integration.sites import Actor, Site, all_healthy

if TYPE_CHECKING:
    from pathlib import Path

    from fray.cluster.client import AsyncFrayCluster

pytestmark = [
    pytest.mark.integration,
    pytest.mark.timeout(120),
    pytest.mark.skipif(
        (why := netns.unavailable()) is not None, reason=why or "there are network namespaces"
    ),
]

MIB = 1 << 20
BIG_MIB = 200
PARTED_S = 2.0
"""Shorter than what makes a kernel give up: what was sent arrives after all."""

ALIVE_S = 2.0
"""What a call may take that has nothing to wait for, on a busy machine."""


@asynccontextmanager
async def through_proxy(actor: Actor, **options: Any) -> AsyncGenerator[Proxy]:
    """Puts a proxy between the driver and an actor that it has not called yet."""
    endpoint = await actor.endpoint()
    async with proxying(**options) as proxy:
        with actor.site.net.detour(actor.site.driver, endpoint.address, proxy.port, mark=MARK):
            yield proxy


async def settle(calls: dict[int, Any]) -> dict[int, Any]:
    """Every call has an outcome within a bounded time."""
    async with asyncio.timeout(DEADLINE_S):
        outcomes = await asyncio.gather(*map(outcome, calls.values()))
    return dict(zip(calls, outcomes, strict=True))


def check_outcomes(actor: Actor, outcomes: dict[int, Any]) -> None:
    """One for each; in order; nothing twice; and no dead where nobody died."""
    actor.record.check_at_most_once(outcomes)
    ran = actor.record.numbers()
    assert ran == sorted(ran), "calls of one caller overtook each other"
    for number, told in outcomes.items():
        if told != number:
            assert isinstance(told, ActorUnavailable), repr(told)
            assert told.started is Started.UNKNOWN or number not in ran, "it ran and is denied"
    assert len(actor.record.pids()) == 1


# ---- partitions


@pytest.mark.parametrize("lost", ["both ways", "calls", "answers"])
async def test_calls_between_a_driver_and_an_actor_that_cannot_hear_each_other_run_once(
    site: Site, actor: Actor, lost: str
):
    host = await actor.host_when_ready()
    calls = {n: actor.handle.note_slowly.remote(n, 0.02) for n in range(20)}
    await until(lambda: bool(actor.record.numbers()), "calls run")
    a, b = (host, site.driver) if lost == "answers" else (site.driver, host)
    with site.net.parted(a, b, one_way=lost != "both ways"):
        clock = SystemClock()
        end = clock.monotonic() + PARTED_S
        calls |= {n: actor.handle.note.remote(n) for n in range(20, 40)}
        hasty = await outcome(actor.handle.note.options(timeout=0.5).remote(40))
        assert isinstance(hasty, DeadlineExceeded), repr(hasty)
        assert clock.monotonic() < end
        await until(lambda: clock.monotonic() > end, "the partition lasts")
        assert await actor.attempts() == [(host.name, "running")]  # the controller hears it
    assert await settle(calls) == {n: n for n in range(40)}
    assert actor.record.numbers() in ([*range(40)], [*range(41)])
    assert len(actor.record.pids()) == 1


# ---- connections that are lost


async def test_calls_in_flight_over_connections_that_are_reset_have_one_outcome_each(
    site: Site, actor: Actor
):
    host = await actor.host_when_ready()
    outcomes: dict[int, Any] = {}
    for begin in range(0, 40, 20):
        calls = {n: actor.handle.note_slowly.remote(n, 0.01) for n in range(begin, begin + 20)}
        await until(lambda begin=begin: begin + 3 in actor.record.numbers(), "calls run")
        site.net.reset(site.driver, host)
        outcomes |= await settle(calls)
    async with asyncio.timeout(ALIVE_S):
        assert await actor.handle.note.remote(100) == 100
    check_outcomes(actor, outcomes)
    assert await actor.attempts() == [(host.name, "running")]


async def test_a_connection_of_which_only_the_caller_knows_that_it_is_gone_is_replaced(
    actor: Actor,
):
    async with through_proxy(actor) as proxy:
        outcomes: dict[int, Any] = {}
        for begin in (0, 20):
            calls = {n: actor.handle.note_slowly.remote(n, 0.01) for n in range(begin, begin + 20)}
            await until(lambda begin=begin: begin + 3 in actor.record.numbers(), "calls run")
            proxy.drop_all(half_open=True)
            outcomes |= await settle(calls)
        async with asyncio.timeout(ALIVE_S):
            assert await actor.handle.note.remote(100) == 100
        check_outcomes(actor, outcomes)


async def test_a_stream_over_a_connection_that_is_reset_ends_once_after_the_items_before(
    site: Site, actor: Actor
):
    host = await actor.host_when_ready()
    stream = aiter(actor.handle.stream.remote(100))
    seen = [numbered(await anext(stream)) for _ in range(10)]
    site.net.reset(site.driver, host)
    with pytest.raises((ActorUnavailable, StopAsyncIteration)) as end:
        async with asyncio.timeout(DEADLINE_S):
            while True:
                seen.append(numbered(await anext(stream)))
    assert seen == list(range(len(seen)))
    assert len(seen) == 100 or end.type is ActorUnavailable


async def test_a_slow_line_that_drops_connections_keeps_order_and_answers_each_call_once(
    actor: Actor,
):
    async with through_proxy(actor, seed=7, accepts=lambda number: number % 4 != 3) as proxy:
        for way in (proxy.up, proxy.down):
            way.delay_s, way.jitter_s = 0.1, 0.05
        calls: dict[int, Any] = {}
        for number in range(400):
            calls[number] = actor.handle.note.remote(number)
            await asyncio.sleep(0.005)
            if number % 100 == 80:
                await until(calls[number - 60].done, "an outcome")
                proxy.drop_all()
        outcomes = await settle(calls)
        check_outcomes(actor, outcomes)
        assert proxy.accepted > 4
        assert sum(told == number for number, told in outcomes.items()) > 100
        assert await settle({400: actor.handle.note.remote(400)}) == {400: 400}


# ---- readers that are slow


def numbered(piece: bytes) -> int:
    assert len(piece) == witness.PIECE_BYTES
    return int.from_bytes(piece[:4], "big")


async def check_others_are_served(actor: Actor, other: Actor) -> None:
    """Both sides of a connection that stands still talk to everybody else."""
    for _ in range(5):
        async with asyncio.timeout(ALIVE_S):
            await other.handle.beat.remote()
            await other.handle.ask.remote(actor.handle, "beat")
    assert await all_healthy(actor.connection)


async def test_a_stream_to_a_reader_that_stands_still_costs_no_memory_and_disturbs_nobody(
    site: Site, driver: AsyncFrayCluster, tmp_path: Path
):
    actor = Actor(site, driver, tmp_path / "witness")
    other = Actor(site, driver, tmp_path / "other")
    await other.handle.beat.remote()
    async with through_proxy(actor) as proxy:
        sender = psutil.Process(await actor.handle.pid.remote())
        before = sender.memory_info().rss
        stream = aiter(actor.handle.stream.remote(BIG_MIB))
        seen = [numbered(await anext(stream)) for _ in range(3)]
        proxy.down.stall()
        reading = asyncio.ensure_future(drain(stream, seen))
        try:
            await check_others_are_served(actor, other)
            produced = await other.handle.ask.remote(actor.handle, "has_produced")
            # What the reader has room for, and what kernels and proxy hold.
            assert produced * MIB <= len(seen) * MIB + STREAM_BYTES_WINDOW + 32 * MIB
            assert sender.memory_info().rss - before < 64 * MIB
            assert await other.handle.ask.remote(actor.handle, "has_produced") == produced
        finally:
            proxy.down.resume()
        async with asyncio.timeout(DEADLINE_S):
            await reading
        assert seen == list(range(BIG_MIB))


async def drain(stream: Any, seen: list[int]) -> None:
    async for piece in stream:
        seen.append(numbered(piece))


async def test_a_large_result_to_a_reader_that_stands_still_is_kept_once_and_disturbs_nobody(
    site: Site, driver: AsyncFrayCluster, tmp_path: Path
):
    actor = Actor(site, driver, tmp_path / "witness")
    other = Actor(site, driver, tmp_path / "other")
    await other.handle.beat.remote()
    async with through_proxy(actor) as proxy:
        sender = psutil.Process(await actor.handle.pid.remote())
        before = sender.memory_info().rss
        proxy.down.stall()
        result = actor.handle.big.remote(BIG_MIB * MIB)
        await until(lambda: sender.memory_info().rss - before > BIG_MIB * MIB, "it has a result")
        await check_others_are_served(actor, other)
        assert sender.memory_info().rss - before < (BIG_MIB + 64) * MIB
        assert not result.done()
        proxy.down.resume()
        async with asyncio.timeout(DEADLINE_S):
            assert len(await result) == BIG_MIB * MIB


async def test_a_small_call_passes_a_large_result_on_a_slow_line(actor: Actor):
    async with through_proxy(actor) as proxy:
        await actor.handle.beat.remote()
        proxy.down.bytes_per_s = 20 * MIB
        result = actor.handle.big.remote(60 * MIB)
        [connection] = proxy.connections
        passed = connection.down.passed_bytes
        await until(lambda: connection.down.passed_bytes > passed + MIB, "it is on its way")
        for _ in range(3):
            async with asyncio.timeout(ALIVE_S):
                await actor.handle.beat.remote()
        assert not result.done()
        async with asyncio.timeout(DEADLINE_S):
            assert len(await result) == 60 * MIB
