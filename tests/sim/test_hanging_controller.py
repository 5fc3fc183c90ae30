"""A controller that hangs: neither dead, which refuses connections, nor cut off."""

from __future__ import annotations

import asyncio

import fray
from fray.cluster.hosttimes import HostTimes

TIMES = HostTimes()


@fray.actor(max_restarts=3)
class Counter:
    def __init__(self) -> None:
        self.count = 0

    def add(self) -> int:
        self.count += 1
        return self.count


async def hang(cluster, duration_s: float) -> None:
    cluster.freeze("controller")
    await asyncio.sleep(duration_s)
    cluster.thaw("controller")


async def test_a_controller_that_hangs_for_half_of_the_lease_ends_nothing(sim_cluster):
    await sim_cluster.add_hosts(2, cpus=1)
    counter = await Counter.remote()
    for count in range(1, 4):
        await hang(sim_cluster, TIMES.lease_s / 2)
        assert await counter.add.remote() == count
        await asyncio.sleep(TIMES.lost_s)


async def test_hosts_end_what_runs_when_a_controller_hangs_longer_and_it_starts_again_once(
    sim_cluster,
):
    """They cannot tell it from a partition, behind which their tasks are given to others."""
    await sim_cluster.add_hosts(2, cpus=1)
    counter = await Counter.remote()
    assert await counter.add.remote() == 1
    await hang(sim_cluster, TIMES.lost_s + 60)
    assert await counter.add.remote() == 1
