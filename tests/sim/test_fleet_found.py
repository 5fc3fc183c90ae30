"""What random histories of fleets have found, each told as shortly as it can be."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from fray.cluster import Entrypoint, JobGroupConfig, JobRequest, JobStatus, ResourceConfig
from fray.cluster.controller.store import Entry
from fray.testing.disk import SimDisk
from fray.testing.store import SimStore

if TYPE_CHECKING:
    from fray.testing import SimCluster, Simulation


async def sleep_for(seconds: float) -> None:
    await asyncio.sleep(seconds)


def request(name: str, seconds: float = 10.0, **values: object) -> JobRequest:
    return JobRequest(name, Entrypoint.from_callable(sleep_for, args=(seconds,)), **values)


async def test_a_quota_counts_all_jobs_of_a_group(sim_cluster: SimCluster) -> None:
    """Of two slices of two hosts, and something else, only one host was counted."""
    await sim_cluster.add_hosts(2, slice="v4-16")
    client = sim_cluster.cluster
    await client.users.set("test", None, {"cpus": 4.0}, None)
    slices = ResourceConfig.with_tpu("v4-16", 2)
    requests = [request("two", resources=slices), request("one")]
    jobs = await client.launch_group(requests, JobGroupConfig("three"))
    await asyncio.sleep(5)
    [why] = (await client.report(jobs[0])).waits_for
    assert "wants 5 cpus" in why
    assert "quota is 4 cpus" in why
    await client.users.set("test", None, {"cpus": 5.0}, None)
    for job_id in jobs:
        assert (await client.wait_for(job_id)).status is JobStatus.SUCCEEDED


async def test_a_journal_can_be_taken_over_after_a_crash_while_it_was_taken_over(
    sim: Simulation,
) -> None:
    """What the simulated disk kept of the owner's number was no number, and no controller started.

    (SQLite, which keeps the real one, cannot be torn so.)
    """
    for seed in range(20):
        disk = SimDisk(f"{sim.seed}/{seed}")
        disk.torn_writes = True
        for before in range(12):
            assert (await SimStore(disk).load()).generation > before
        last = SimStore(disk)
        await last.load()
        await last.append([Entry(1, 0.0, b"{}")])
        taking_over = asyncio.create_task(SimStore(disk).load())
        await asyncio.sleep(0)
        taking_over.cancel()
        disk.crash()
        kept = await SimStore(disk).load()
        assert kept.generation > 13
        assert len(kept.entries) == 1


async def test_a_task_that_begins_while_nobody_manages_the_cluster_waits(
    sim_cluster: SimCluster,
) -> None:
    """It failed after half a minute, at the expense of its own budget of failures."""
    [host] = await sim_cluster.add_hosts(1)
    with sim_cluster.pause_at("sessions.facts", host) as barrier:
        job_id = await sim_cluster.launch(request("early"))
        await barrier.reached()
        sim_cluster.crash_controller()
    await asyncio.sleep(600)
    sim_cluster.restart_controller()
    assert (await sim_cluster.wait(job_id)).status is JobStatus.SUCCEEDED
    [task] = (await sim_cluster.cluster.report(job_id)).tasks
    assert (task.failures, len(task.attempts)) == (0, 1)
