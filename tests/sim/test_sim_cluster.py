"""The simulated cluster: production controller, agents and handles, whatever fails around them."""

from __future__ import annotations

import asyncio

import pytest

import fray
from fray.cluster import Entrypoint, JobRequest, JobStatus
from fray.errors import ActorDied, DeathKind, NameTakenError


@fray.actor
class Counter:
    def __init__(self, start: int = 0) -> None:
        self.count = start

    async def add(self, amount: int) -> int:
        self.count += amount
        return self.count

    def plain(self) -> int:
        return self.count

    async def sleep(self, delay_s: float) -> str:
        await asyncio.sleep(delay_s)
        return "slept"


def job(name: str, fn, *args, **options) -> JobRequest:
    return JobRequest(name=name, entrypoint=Entrypoint.from_callable(fn, args=args), **options)


async def test_survives_host_loss(sim_cluster):
    a, b = await sim_cluster.add_hosts(2, cpus=8, region="us-central1")
    counter = await Counter.options(name="counter").remote()
    sim_cluster.crash(sim_cluster.host_of(counter))
    assert await counter.add.remote(1) == 1  # restarted elsewhere, name re-registered
    assert a.up != b.up


async def test_crashed_process_is_restarted_within_its_budget_and_then_not(sim_cluster):
    await sim_cluster.add_hosts(1)
    counter = await Counter.options(max_restarts=1).remote(10)
    assert await counter.add.remote(1) == 11
    for outcome in (12, None):
        sim_cluster.crash(sim_cluster.process_of(counter))
        with pytest.raises(ActorDied, match="the call may have run"):
            await counter.add.remote(1)  # sent before anybody could know
        if outcome is not None:
            assert await counter.add.remote(2) == outcome
    with pytest.raises(ActorDied) as told:
        await counter.add.remote(3)
    assert told.value.cause.kind is DeathKind.RESTART_LIMIT
    assert "SIGKILL" in str(told.value)


async def test_a_call_in_flight_to_a_crashed_process_ends_with_its_cause(sim_cluster):
    await sim_cluster.add_hosts(1)
    counter = await Counter.options(max_restarts=1).remote()
    call = counter.sleep.remote(3600)
    await asyncio.sleep(1)
    started = sim_cluster.now
    sim_cluster.crash(sim_cluster.process_of(counter))
    with pytest.raises(ActorDied) as told:
        await call
    assert told.value.cause.kind is DeathKind.SIGNAL
    assert sim_cluster.now - started < 10


async def test_a_controller_that_crashes_disturbs_nobody_and_knows_all_again(sim_cluster):
    await sim_cluster.add_hosts(2)
    counter = await Counter.options(name="counter").remote()
    assert await counter.add.remote(1) == 1
    process = sim_cluster.process_of(counter)
    call = counter.sleep.remote(200)
    await asyncio.sleep(1)
    sim_cluster.crash_controller()
    for _ in range(30):
        await asyncio.sleep(5)
        await counter.add.remote(1)
    sim_cluster.restart_controller()
    found = await sim_cluster.resolver.lookup_async("counter")
    assert await found.add.remote(0) == 31
    assert sim_cluster.process_of(counter) is process
    assert await call == "slept"
    with pytest.raises(NameTakenError):
        await Counter.options(name="counter").remote()


async def test_the_controllers_host_may_lose_its_power(sim_cluster):
    await sim_cluster.add_hosts(2)
    counter = await Counter.options(name="counter").remote()
    process = sim_cluster.process_of(counter)
    sim_cluster.controller_host.disk.torn_writes = True
    sim_cluster.crash(sim_cluster.controller_host)
    await asyncio.sleep(20)
    sim_cluster.restart_controller()
    another = await Counter.options(name="another").remote(5)
    assert await another.add.remote(1) == 6
    assert await counter.add.remote(1) == 1
    assert sim_cluster.process_of(counter) is process


@pytest.mark.parametrize("long_s", [30.0, 200.0])
async def test_a_host_that_is_cut_off_from_the_controller(sim_cluster, long_s):
    await sim_cluster.add_hosts(2)
    counter = await Counter.options(name="counter").remote()
    assert await counter.add.remote(1) == 1
    before = sim_cluster.process_of(counter)
    sim_cluster.partition(before.host, "controller")
    await asyncio.sleep(long_s)
    sim_cluster.heal()
    await asyncio.sleep(30)
    after = sim_cluster.process_of(counter)
    if long_s < 60:
        assert after is before
        assert await counter.add.remote(1) == 2
    else:
        assert after.host is not before.host
        assert before.exit is not None
        assert await counter.add.remote(1) == 1


async def test_jobs_succeed_fail_and_are_tried_again(sim_cluster):
    await sim_cluster.add_hosts(1)

    async def good(what):
        print("hello", what)

    def bad():
        raise ValueError("no good")

    first = await sim_cluster.launch(job("good", good, "world"))
    assert (await sim_cluster.wait(first)).status is JobStatus.SUCCEEDED
    assert [line.text async for line in sim_cluster.logs(first)] == ["hello world"]
    second = await sim_cluster.launch(job("bad", bad))
    info = await sim_cluster.wait(second)
    assert info.status is JobStatus.FAILED
    assert "ValueError: no good" in info.error_message


async def test_a_call_in_flight_to_a_lost_host_ends_with_the_fleets_word(sim_cluster):
    await sim_cluster.add_hosts(2)
    counter = await Counter.options(name="counter").remote()
    assert await counter.add.remote(1) == 1
    lost = sim_cluster.host_of(counter)
    call = counter.sleep.remote(3600)
    await asyncio.sleep(1)
    crashed_at = sim_cluster.now
    sim_cluster.crash(lost)
    with pytest.raises(ActorDied) as told:
        await call
    assert told.value.cause.kind is DeathKind.HOST_LOST
    assert told.value.cause.host == lost.name
    assert sim_cluster.now - crashed_at < 100
    assert await counter.add.remote(1) == 1
