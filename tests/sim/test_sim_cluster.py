"""The simulated cluster: production controller, agents and handles, whatever fails around them."""

from __future__ import annotations

import fray


@fray.actor
class Counter:
    def __init__(self, start: int = 0) -> None:
        self.count = start

    async def add(self, amount: int) -> int:
        self.count += amount
        return self.count


async def test_survives_host_loss(sim_cluster):
    a, b = await sim_cluster.add_hosts(2, cpus=8, region="us-central1")
    counter = await Counter.options(name="counter").remote()
    sim_cluster.crash(sim_cluster.host_of(counter))
    assert await counter.add.remote(1) == 1  # restarted elsewhere, name re-registered
    assert a.up != b.up
