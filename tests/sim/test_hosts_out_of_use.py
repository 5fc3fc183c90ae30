"""Hosts that are taken out of use: drained with a deadline, and in quarantine by themselves."""

from __future__ import annotations

import asyncio
import errno

import pytest

from fray.cluster import Entrypoint, JobRequest, JobStatus, ResourceConfig
from fray.cluster.controller import cordons
from fray.errors import InvalidRequestError
from fray.ids import WorkerId
from fray.testing.launcher import SimLauncher


async def sleep_for(seconds: float) -> None:
    await asyncio.sleep(seconds)


def request(name: str, seconds: float, **values) -> JobRequest:
    values.setdefault("resources", ResourceConfig(cpu=4))
    return JobRequest(name, Entrypoint.from_callable(sleep_for, args=(seconds,)), **values)


async def host(sim_cluster, name: str):
    return next(h for h in await sim_cluster.cluster.fleet.hosts() if h.worker_id == name)


async def tasks_of(sim_cluster, job_id):
    return (await sim_cluster.cluster.report(job_id)).tasks


async def test_what_ends_before_the_deadline_of_a_drain_is_not_disturbed(sim_cluster):
    (one,) = await sim_cluster.add_hosts(1, cpus=8)
    client = sim_cluster.cluster
    short = await client.launch(request("short", 60.0))
    long = await client.launch(request("long", 1000.0))
    await asyncio.sleep(5)
    await client.fleet.drain(WorkerId(one.name), "a fan", 300.0)
    await sim_cluster.add_hosts(1, cpus=8, name="other")
    told = await host(sim_cluster, one.name)
    assert (told.health, told.reason, told.attempts) == ("draining", "a fan", 2)
    late = await client.launch(request("late", 10.0))
    assert (await client.wait_for(short)).status is JobStatus.SUCCEEDED
    assert (await client.wait_for(late)).status is JobStatus.SUCCEEDED
    (task,) = await tasks_of(sim_cluster, late)
    assert task.attempts[0].worker_id != one.name, "nothing new comes"
    (task,) = await tasks_of(sim_cluster, long)
    assert task.attempts[-1].worker_id == one.name
    await asyncio.sleep(300)
    told = await host(sim_cluster, one.name)
    assert (told.health, told.attempts, told.until) == ("draining", 0, None)
    (task,) = await tasks_of(sim_cluster, long)
    assert (task.failures, task.preemptions) == (0, 1)
    assert task.attempts[-1].live
    assert task.attempts[-1].worker_id != one.name
    assert (await client.wait_for(long)).status is JobStatus.SUCCEEDED


async def test_a_drain_goes_on_after_its_controller_was_started_anew(sim_cluster):
    (one,) = await sim_cluster.add_hosts(1, cpus=8)
    client = sim_cluster.cluster
    long = await client.launch(request("long", 10_000.0))
    await asyncio.sleep(5)
    await client.fleet.drain(WorkerId(one.name), "a fan", 60.0)
    sim_cluster.restart_controller()
    await asyncio.sleep(120)
    (task,) = await tasks_of(sim_cluster, long)
    assert (task.failures, task.preemptions, task.attempts[-1].live) == (0, 1, False)


async def test_a_host_that_is_taken_back_before_the_deadline_keeps_its_tasks(sim_cluster):
    (one,) = await sim_cluster.add_hosts(1, cpus=8)
    client = sim_cluster.cluster
    long = await client.launch(request("long", 1000.0))
    await asyncio.sleep(5)
    await client.fleet.drain(WorkerId(one.name), "a fan", 60.0)
    await client.fleet.undrain(WorkerId(one.name))
    assert (await client.wait_for(long)).status is JobStatus.SUCCEEDED
    (task,) = await tasks_of(sim_cluster, long)
    assert (task.preemptions, len(task.attempts)) == (0, 1)


async def test_a_deadline_that_is_no_time_to_come_is_refused(sim_cluster):
    (one,) = await sim_cluster.add_hosts(1)
    with pytest.raises(InvalidRequestError, match="a deadline is 0 s away or more, not -1 s"):
        await sim_cluster.cluster.fleet.drain(WorkerId(one.name), "", -1.0)
    assert (await host(sim_cluster, one.name)).health == "healthy"


async def test_a_host_that_fails_what_it_is_given_gets_no_more_until_it_is_taken_back(
    sim_cluster, monkeypatch
):
    hosts = await sim_cluster.add_hosts(3, cpus=8)
    broken = hosts[0].name
    launch = SimLauncher.launch
    failed: list[str] = []

    async def launch_or_fail(self, spec):
        if self._host.host.name == broken:
            failed.append(spec.attempt_id)
            raise OSError(errno.ENOSPC, "No space left on device")
        return await launch(self, spec)

    monkeypatch.setattr(SimLauncher, "launch", launch_or_fail)
    client = sim_cluster.cluster
    for number in range(12):
        job = await client.launch(request(f"job{number}", 1.0))
        assert (await client.wait_for(job)).status is JobStatus.SUCCEEDED
        await asyncio.sleep(2)
    told = await host(sim_cluster, broken)
    assert told.health == "quarantined"
    assert "failed 3 jobs within 10 min by its own fault" in told.reason
    assert "No space left on device" in told.reason
    assert len(failed) == cordons.JOBS_MIN
    big = await client.launch(request("big", 50.0, resources=ResourceConfig(cpu=8, replicas=3)))
    await asyncio.sleep(5)
    why = str(await client.scheduler.why(big))
    assert f"{broken}" in why
    assert "is quarantined: it failed 3 jobs" in why
    monkeypatch.undo()
    await client.fleet.undrain(WorkerId(broken))
    assert (await client.wait_for(big)).status is JobStatus.SUCCEEDED
    assert (await host(sim_cluster, broken)).health == "healthy"


async def test_a_quarantine_ends_by_itself(sim_cluster, monkeypatch):
    hosts = await sim_cluster.add_hosts(3, cpus=8)
    launch = SimLauncher.launch

    async def fail(self, spec):
        if self._host.host.name == hosts[0].name:
            raise OSError(errno.EIO, "a fork that failed")
        return await launch(self, spec)

    monkeypatch.setattr(SimLauncher, "launch", fail)
    for number in range(12):
        await sim_cluster.cluster.wait_for(
            await sim_cluster.cluster.launch(request(f"job{number}", 1.0))
        )
    await asyncio.sleep(5)
    assert (await host(sim_cluster, hosts[0].name)).health == "quarantined"
    await asyncio.sleep(cordons.QUARANTINE_S)
    assert (await host(sim_cluster, hosts[0].name)).health == "healthy"


async def test_what_fails_on_every_host_puts_none_into_quarantine(sim_cluster, monkeypatch):
    await sim_cluster.add_hosts(6, cpus=8)

    async def fail(self, spec):
        raise OSError(errno.ETIMEDOUT, "the package index does not answer")

    monkeypatch.setattr(SimLauncher, "launch", fail)
    jobs = [
        await sim_cluster.cluster.launch(request(f"job{n}", 1.0, max_retries_preemption=5))
        for n in range(6)
    ]
    for job in jobs:
        assert (await sim_cluster.cluster.wait_for(job)).status is JobStatus.FAILED
    health = [h.health for h in await sim_cluster.cluster.fleet.hosts()]
    assert health.count("quarantined") <= 2


async def test_a_task_that_lost_its_place_says_what_it_waits_for(sim_cluster):
    (one,) = await sim_cluster.add_hosts(1, cpus=4)
    client = sim_cluster.cluster
    job = await client.launch(request("moved", 1000.0))
    await asyncio.sleep(5)
    report = await client.report(job)
    assert (report.status, report.waits_for) == (JobStatus.RUNNING, ())
    await client.fleet.drain(WorkerId(one.name), "a fan", 0.0)
    await asyncio.sleep(60)
    report = await client.report(job)
    assert (report.status, report.tasks[0].status) == (JobStatus.RUNNING, JobStatus.PENDING)
    (reason,) = report.waits_for
    assert reason == f"{one.name}: is draining: a fan"
    told = await client.scheduler.why(job)
    assert (told.waiting, told.reasons) == (True, report.waits_for)
    await client.jobs.stop(job, "enough", 0.0)
    await client.wait_for(job)
    assert (await client.report(job)).waits_for == ()
