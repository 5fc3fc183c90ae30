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
