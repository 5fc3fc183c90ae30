"""Priorities, checkpoints, reservations and shares, with the production controller and agents."""

from __future__ import annotations

import asyncio

import fray
from fray.cluster import (
    Entrypoint,
    JobGroupConfig,
    JobRequest,
    JobStatus,
    ReservationConfig,
    ResourceConfig,
)
from tests.sim.actors import Counter

FOUR = ResourceConfig(cpu=4)


async def sleep_for(seconds: float) -> None:
    await asyncio.sleep(seconds)


async def work_and_save(seconds: float) -> None:
    await asyncio.sleep(seconds)
    fray.report_checkpoint()
    await asyncio.sleep(10_000)


def request(name: str, fn, *args, **values) -> JobRequest:
    values.setdefault("resources", FOUR)
    return JobRequest(name, Entrypoint.from_callable(fn, args=args), **values)


async def status(sim_cluster, job_id) -> JobStatus:
    return (await sim_cluster.cluster.poll(job_id)).status


async def test_a_more_important_job_takes_the_place_that_loses_the_least_work(sim_cluster):
    await sim_cluster.add_hosts(2, cpus=4)
    client = sim_cluster.cluster
    saved = await client.launch(request("saved", work_and_save, 500.0, priority="batch"))
    unsaved = await client.launch(request("unsaved", work_and_save, 9000.0, priority="batch"))
    await asyncio.sleep(510)
    urgent = await client.launch(request("urgent", sleep_for, 100.0, priority="high"))
    await asyncio.sleep(5)
    why = (await client.report(urgent)).waits_for
    assert why == (f"{saved} stops, to make room for it",) or not why
    info = await client.wait_for(urgent)
    assert info.status is JobStatus.SUCCEEDED
    assert await status(sim_cluster, unsaved) is JobStatus.RUNNING
    tasks = (await client.report(saved)).tasks
    assert (tasks[0].preemptions, tasks[0].failures) == (1, 0)
    await asyncio.sleep(5)
    assert tasks[0].attempts[0].state == "preempted"
    assert (await client.report(saved)).tasks[0].attempts[-1].live  # it goes on


async def test_a_gang_as_large_as_the_cluster_starts_though_small_jobs_never_end(sim_cluster):
    await sim_cluster.add_hosts(2, cpus=4)
    client = sim_cluster.cluster
    for i in range(8):  # they end at different times, so that there never are two hosts free
        small = request(f"first-{i}", sleep_for, 30.0 + 5 * i, resources=ResourceConfig(cpu=1))
        await client.launch(small)
    group = JobGroupConfig("all")
    large = await client.launch_group([request(n, sleep_for, 10.0) for n in "ab"], group)
    many = ResourceConfig(cpu=1, replicas=100)
    flood = await client.launch(request("flood", sleep_for, 60.0, resources=many))
    for job_id in large:
        assert (await client.wait_for(job_id)).status is JobStatus.SUCCEEDED
    report = await client.report(large[0])
    assert report.started_at - report.submitted_at < 300 + 60 + 10
    assert await status(sim_cluster, flood) is JobStatus.RUNNING


async def test_reservations_live_through_a_controller_that_is_killed(sim_cluster):
    await sim_cluster.add_hosts(2, cpus=4)
    client = sim_cluster.cluster
    config = ReservationConfig(FOUR, ResourceConfig(cpu=4, replicas=2), ttl_seconds=600)
    name = await client.create_reservation(config)
    await asyncio.sleep(1)
    info = await client.get_reservation(name)
    assert (info.state, info.allocated_resources.replicas) == ("expanded", 2)
    job = await client.launch(request("mine", sleep_for, 900.0))
    sim_cluster.crash_controller()
    await asyncio.sleep(5)
    sim_cluster.restart_controller()
    await asyncio.sleep(5)
    info = await client.get_reservation(name)
    assert (info.jobs, info.pending_resources.replicas) == ([job], 0)
    await asyncio.sleep(700)
    assert (await client.get_reservation(name)).state == "expiring"
    assert (await client.wait_for(job)).status is JobStatus.SUCCEEDED
    info = await client.get_reservation(name)
    assert (info.state, info.allocated_resources.replicas) == ("released", 0)


async def test_a_renewed_reservation_lasts_and_a_released_one_does_not(sim_cluster):
    await sim_cluster.add_hosts(1, cpus=4)
    client = sim_cluster.cluster
    name = await client.create_reservation(ReservationConfig(FOUR, FOUR, ttl_seconds=100))
    await asyncio.sleep(90)
    before = (await client.get_reservation(name)).expires_at
    assert (await client.renew_reservation(name, 1000)).expires_at > before + 900
    await asyncio.sleep(200)
    assert (await client.get_reservation(name)).state == "satisfied"
    await client.release_reservation(name)
    await client.release_reservation(name)
    assert (await client.get_reservation(name)).state == "released"


async def test_an_actor_that_is_preempted_comes_back_when_there_is_room(sim_cluster):
    await sim_cluster.add_hosts(1, cpus=4)
    counter = await Counter.options(num_cpus=4).remote()
    urgent = await sim_cluster.cluster.launch(request("urgent", sleep_for, 50.0, priority="high"))
    assert (await sim_cluster.cluster.wait_for(urgent)).status is JobStatus.SUCCEEDED
    assert await counter.add.remote(1) == 1
