"""What the lab has found, each told as shortly as it can be. Fixed, and never to come back."""

from __future__ import annotations

import asyncio

import pytest

from fray.errors import ActorDied, Started
from tests.sim.actors import Counter


async def test_a_call_that_was_repeated_in_vain_may_have_run(sim_cluster):
    """The look-up for the second attempt said: dead, and *this* call did not start."""
    [host] = await sim_cluster.add_hosts(1)
    counter = await Counter.remote()
    nap = counter.nap.remote(1000)
    await asyncio.sleep(1)
    sim_cluster.crash(sim_cluster.process_of(counter))
    with pytest.raises(ActorDied, match="may have run") as told:
        await nap
    assert told.value.started is Started.UNKNOWN
    assert host.up


async def test_a_host_that_stood_still_starts_nothing_that_was_given_to_another(sim_cluster):
    """The agent froze between its orders and the launch, and launched when it woke up.

    That nothing runs twice is watched by the fixture.
    """
    [first] = await sim_cluster.add_hosts(1)
    with sim_cluster.pause_at("launch.*", first) as barrier:
        counter = Counter.remote()
        await barrier.reached()
        [second] = await sim_cluster.add_hosts(1)
        await counter
    await asyncio.sleep(60)
    assert sim_cluster.host_of(counter) is second
    assert await counter.add.remote(1) == 1


async def test_names_outlive_a_controller_that_stood_still(sim_cluster):
    """Their leases ran out meanwhile, and their holders had no reason to say them again."""
    await sim_cluster.add_hosts(1)
    await Counter.options(name="counter").remote()
    await asyncio.sleep(30)  # a lease lasts 60 s
    [controller] = sim_cluster.controller_host.processes.values()
    sim_cluster.freeze(controller)
    await asyncio.sleep(45)
    sim_cluster.thaw(controller)
    await asyncio.sleep(5)
    async with asyncio.timeout(10):
        found = await sim_cluster.resolver.lookup_async("counter")
        assert await found.add.remote(0) == 0
