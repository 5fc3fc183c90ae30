"""Calls of a cluster whose parts die: each has its one outcome, whoever is gone."""

from __future__ import annotations

import asyncio

import pytest

import fray
from fray.errors import ActorDied, DeathKind


@fray.actor
class Echo:
    async def echo(self, value):
        return value

    async def never(self) -> None:
        await asyncio.Event().wait()

    def compute(self) -> str:
        return "computed"

    @fray.method(concurrent=True)
    async def health(self) -> str:
        return "well"


async def test_calls_to_an_actor_that_dies_while_nobody_manages_the_cluster_end_too(sim_cluster):
    await sim_cluster.add_hosts(1)
    echo = await Echo.remote()
    calls = [echo.never.remote(), *(echo.echo.remote(i) for i in range(20))]
    await asyncio.sleep(1)
    sim_cluster.crash_controller()
    began = sim_cluster.now
    sim_cluster.crash(sim_cluster.process_of(echo))
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(each) for each in outcomes] == [ActorDied] * len(calls)
    assert outcomes[0].cause.kind is DeathKind.SIGNAL
    assert sim_cluster.now - began < 5
    later = echo.echo.options(timeout=30).remote("later")
    with pytest.raises(fray.CallError):
        await later
    assert sim_cluster.now - began < 60


async def test_a_method_that_never_ends_stops_nothing_but_its_own_actor(sim_cluster):
    await sim_cluster.add_hosts(1)
    stuck, free = await Echo.remote(), await Echo.remote()
    never = stuck.never.remote()
    waiting = stuck.compute.remote()
    for number in range(100):
        assert await free.echo.remote(number) == number
        assert await stuck.health.remote() == "well"
    assert not waiting.done()
    never.cancel()
    assert await waiting == "computed"


async def test_small_calls_take_milliseconds_while_a_large_one_is_on_its_way(sim_cluster):
    await sim_cluster.add_hosts(1)
    echo, other = await Echo.remote(), await Echo.remote()
    assert await asyncio.gather(echo.health.remote(), other.health.remote()) == ["well", "well"]
    large = echo.echo.remote(bytes(64 << 20))
    delays = []
    while not large.done():
        began = sim_cluster.now
        assert await other.health.remote() == "well"
        delays.append(sim_cluster.now - began)
    assert len(await large) == 64 << 20
    assert 0 < max(delays) < 0.05
