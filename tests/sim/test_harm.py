"""What a test may do to a simulated cluster, beyond crashes and partitions."""

from __future__ import annotations

import asyncio

import pytest

from fray.cluster import Entrypoint, JobRequest, JobStatus, ResourceConfig
from fray.errors import ActorDied, DeathKind
from fray.testing import promises
from tests.sim.actors import Counter, job


async def test_an_actor_is_stopped_just_before_it_registers(sim_cluster):
    await sim_cluster.add_hosts(2)
    counter = Counter.options(name="counter").remote()
    with sim_cluster.pause_at("names.register", counter) as barrier:
        process = await barrier.reached()
        assert process.frozen
        assert process is sim_cluster.process_of(counter)
        assert "names.register" in str(barrier)
        call = counter.add.remote(1)
        await asyncio.sleep(20)
        assert not call.done()
    assert await call == 1


async def test_a_barrier_that_nobody_reaches_holds_nobody(sim_cluster):
    await sim_cluster.add_hosts(1)
    barrier = sim_cluster.pause_at("names.register", "host-1")
    barrier.release()
    assert await (await Counter.remote(1)).add.remote(1) == 2
    assert barrier.process is None


async def test_a_preempted_host_gives_notice_and_its_work_goes_elsewhere(sim_cluster):
    [host] = await sim_cluster.add_hosts(1, preemptible=True)
    counter = await Counter.options(name="counter").remote(7)  # max_restarts=0: no failure is left
    call = counter.sleep.remote(1000)
    await asyncio.sleep(1)
    [other] = await sim_cluster.add_hosts(1)
    sim_cluster.preempt(host, notice_s=60)
    with pytest.raises(ActorDied) as told:
        await call
    assert told.value.cause.kind in (DeathKind.PREEMPTED, DeathKind.STOPPED)
    assert await counter.add.remote(1) == 8
    assert sim_cluster.host_of(counter) is other
    assert host.up
    await asyncio.sleep(70)
    assert not host.up
    sim_cluster.restart(host)


async def test_a_host_that_is_preempted_without_notice_is_just_gone(sim_cluster):
    [host] = await sim_cluster.add_hosts(1)
    await sim_cluster.add_hosts(1)
    counter = await Counter.remote(7)
    lost = sim_cluster.host_of(counter)
    sim_cluster.preempt(lost, notice_s=0)
    assert not lost.up
    assert await counter.add.remote(1) == 8
    assert host in sim_cluster.hosts


async def test_a_slow_reader_makes_a_large_call_late_and_loses_nothing(sim_cluster):
    [host] = await sim_cluster.add_hosts(1)
    counter = await Counter.remote()
    await counter.plain.remote()
    before = sim_cluster.now
    # It takes numbers; what matters is that it arrives.
    with sim_cluster.slow_reader(host, bytes_per_s=100_000), pytest.raises(TypeError):
        await counter.add.remote(bytes(3_000_000))
    assert 30 < sim_cluster.now - before < 40
    assert await counter.add.remote(1) == 1


async def test_the_hosts_of_a_slice_run_a_gang_which_falls_and_rises_as_one(sim_cluster):
    hosts = await sim_cluster.add_hosts(2, slice="v4-16")
    assert len(hosts) == 4  # two slices of two
    await sim_cluster.add_hosts(1)

    async def work():
        await asyncio.sleep(1000)

    resources = ResourceConfig.with_tpu("v4-16")
    entrypoint = Entrypoint.from_callable(work)
    job_id = await sim_cluster.launch(JobRequest("gang", entrypoint, resources=resources))
    await sim_cluster.until(lambda: len(sim_cluster.processes_of(job_id)) == 2)
    before = {process.host for process in sim_cluster.processes_of(job_id)}
    assert before in ({*hosts[:2]}, {*hosts[2:]})
    sim_cluster.crash(sim_cluster.processes_of(job_id)[1].host)
    await sim_cluster.until(
        lambda: {p.host for p in sim_cluster.processes_of(job_id)} == {*hosts} - before
    )
    assert (await sim_cluster.wait(job_id)).status is JobStatus.SUCCEEDED


async def test_users_code_sees_virtual_time(sim_cluster):
    import time

    await sim_cluster.add_hosts(1, clock_skew_s=100.0)

    async def work():
        wall, ticks = time.time(), time.monotonic()
        await asyncio.sleep(3600)
        print(round(time.time() - wall), round(time.monotonic() - ticks))

    job_id = await sim_cluster.launch(job("work", work))
    await sim_cluster.wait(job_id)
    assert [line.text async for line in sim_cluster.logs(job_id)] == ["3600 3600"]


async def test_the_snapshot_shows_names_and_mailboxes(sim_cluster):
    await sim_cluster.add_hosts(1)
    counter = await Counter.options(name="counter").remote()
    calls = [counter.sleep.remote(100) for _ in range(3)]
    await asyncio.sleep(10)
    told = sim_cluster.snapshot()
    assert "name test/counter -> a-" in told
    assert "2 calls wait, 1 run, in sleep for 10.0 s" in told
    await asyncio.gather(*calls)
    assert sim_cluster.leaks() == []


async def test_a_ledger_that_breaks_a_promise_fails_the_test(sim_cluster, monkeypatch):
    await sim_cluster.add_hosts(1)
    monkeypatch.setattr(promises, "violations", lambda tables: ["one device is given twice"])
    await Counter.remote()  # changes the ledger
    errors = [error["message"] for error in sim_cluster.sim.errors]
    assert errors[0] == "the cluster broke a promise: one device is given twice"
    sim_cluster.sim.errors.clear()
    monkeypatch.undo()
