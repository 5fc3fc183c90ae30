"""The simulated cluster: production controller, agents and handles, whatever fails around them."""

from __future__ import annotations

import asyncio
import functools
import os
import subprocess
import sys
import time
from collections import Counter as Tally
from pathlib import Path

import pytest

import fray
from fray.actor.directory import ActorKey
from fray.actor.server import FrayActorServer
from fray.cluster import Entrypoint, JobRequest, JobStatus, ResourceConfig, current_cluster
from fray.cluster.controller.fleet import Fleet
from fray.cluster.reports import JobQuery
from fray.cluster.worker.launcher import LaunchSpec
from fray.errors import (
    ActorDied,
    ActorNotFoundError,
    ActorUnavailable,
    BlockingCallError,
    ClusterError,
    DeadlineExceeded,
    DeathKind,
    InfeasibleError,
    InvalidRequestError,
    NameTakenError,
    Started,
)
from fray.ids import AttemptId
from fray.testing import SimCluster, SimUnsupported, simulate
from tests.sim import storm
from tests.sim.actors import Counter, job, serve_member

ROOT = Path(__file__).resolve().parents[2]

# Hosts ----------------------------------------------------------------------------------------


async def test_survives_host_loss(sim_cluster):
    a, b = await sim_cluster.add_hosts(2, cpus=8, region="us-central1")
    counter = await Counter.options(name="counter").remote()
    sim_cluster.crash(sim_cluster.host_of(counter))
    assert await counter.add.remote(1) == 1  # restarted elsewhere, name re-registered
    assert a.up != b.up


async def test_a_call_in_flight_to_a_lost_host_ends_with_the_fleets_word(sim_cluster):
    await sim_cluster.add_hosts(2)
    counter = await Counter.options(name="counter").remote()
    assert await counter.add.remote(1) == 1
    lost = sim_cluster.host_of(counter)
    call = counter.sleep.remote(3600)
    items = counter.numbers.remote(3600)
    await asyncio.sleep(1)
    crashed_at = sim_cluster.now
    sim_cluster.crash(lost)
    with pytest.raises(ActorDied) as told:
        await call
    assert told.value.cause.kind is DeathKind.HOST_LOST
    assert told.value.cause.host == lost.name
    with pytest.raises(ActorDied):
        _ = [item async for item in items]
    assert sim_cluster.now - crashed_at < 100
    assert await counter.add.remote(1) == 1


async def test_an_idempotent_call_to_a_lost_host_is_repeated_elsewhere(sim_cluster):
    await sim_cluster.add_hosts(2)
    counter = await Counter.remote()
    assert await counter.add.remote(1) == 1
    call = counter.nap.remote(10)
    await asyncio.sleep(1)
    sim_cluster.crash(sim_cluster.host_of(counter))
    assert await call == "rested"


async def test_a_call_between_two_actors_ends_when_the_others_host_is_lost(sim_cluster):
    await sim_cluster.add_hosts(2, cpus=1)
    one, other = await Counter.remote(), await Counter.remote()
    assert sim_cluster.host_of(one) is not sim_cluster.host_of(other)

    @fray.actor(num_cpus=0)
    class Caller:
        async def call(self, callee):
            try:
                return await callee.sleep.remote(3600)
            except ActorDied as exc:
                return str(exc.cause.kind)

    caller = await Caller.remote()
    victim = one if sim_cluster.host_of(other) is sim_cluster.host_of(caller) else other
    call = caller.call.remote(victim)
    await asyncio.sleep(1)
    sim_cluster.crash(sim_cluster.host_of(victim))
    assert await call == "host_lost"


async def test_a_rebooted_host_takes_work_again(sim_cluster):
    [host] = await sim_cluster.add_hosts(1)
    counter = await Counter.options(name="counter").remote()
    sim_cluster.crash(host)
    await asyncio.sleep(1)
    sim_cluster.restart(host)
    assert await counter.add.remote(1) == 1
    assert sim_cluster.now < 30


async def test_a_host_that_is_shut_down_is_replaced_at_once(sim_cluster):
    await sim_cluster.add_hosts(2)
    counter = await Counter.options(name="counter").remote()
    before = sim_cluster.process_of(counter)
    sim_cluster.stop(sim_cluster.agent_of(before.host))
    await before.wait()
    assert await counter.add.remote(1) == 1
    assert sim_cluster.host_of(counter) is not before.host
    assert sim_cluster.now < 30


async def test_what_no_host_can_ever_run_is_refused(sim_cluster):
    await sim_cluster.add_hosts(1, cpus=8, gpus={"H100": 2})
    assert await (await Counter.options(num_gpus=2).remote(1)).plain.remote() == 1
    with pytest.raises(InfeasibleError, match="the largest host"):
        await Counter.options(num_cpus=9).remote()


# Processes ------------------------------------------------------------------------------------


async def test_a_crashed_process_is_restarted_within_its_budget_and_then_not(sim_cluster):
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


async def test_a_frozen_incarnation_that_has_a_successor_changes_nothing_any_more(sim_cluster):
    first, second = await sim_cluster.add_hosts(2)
    counter = await Counter.options(name="counter").remote()
    before = sim_cluster.process_of(counter)
    sim_cluster.freeze(before.host)
    await sim_cluster.until(lambda: len(sim_cluster.processes_of(counter)) == 2)
    assert await counter.add.remote(1) == 1
    sim_cluster.thaw(before.host)
    await asyncio.sleep(2)  # it had a second to notice that its lease is long over
    assert before.exit is not None
    assert sim_cluster.host_of(counter) is (second if before.host is first else first)
    assert await counter.add.remote(1) == 2
    assert await (await sim_cluster.resolver.lookup_async("counter")).plain.remote() == 2


async def test_nobody_is_led_to_what_wakes_up_on_a_host_that_was_given_up(sim_cluster):
    [host] = await sim_cluster.add_hosts(1)
    counter = await Counter.options(name="counter").remote()
    before = sim_cluster.process_of(counter)
    sim_cluster.freeze(host)
    await asyncio.sleep(120)  # it is given up, and there is no other
    sim_cluster.thaw(host)
    directory, seen = sim_cluster.system.directory, set()
    key = ActorKey("test", name="counter")
    while 1 not in seen:  # until it has a successor
        await asyncio.sleep(0.001)
        located = await directory.locate(key, wait_s=0)
        seen |= {endpoint.incarnation - 1 for endpoint in located.endpoints}
    assert seen == {1}
    assert before.exit is not None
    assert await counter.add.remote(1) == 1


async def test_actors_make_actors_and_streams_flow(sim_cluster):
    await sim_cluster.add_hosts(2)
    counter = await Counter.remote()
    assert await counter.make_another.remote(4) == 5
    assert [number async for number in counter.numbers.remote(5)] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("crashed", ["agent", "agent, cut off"])
async def test_an_agent_that_is_started_again_finds_its_tasks(sim_cluster, crashed):
    [host] = await sim_cluster.add_hosts(1)
    counter = await Counter.remote()
    process = sim_cluster.process_of(counter)
    agent = sim_cluster.agent_of(host)
    cut = sim_cluster.partition(host, "controller")
    if crashed == "agent":
        cut.remove()
    sim_cluster.crash(agent)
    await asyncio.sleep(20)
    sim_cluster.restart(agent)
    await asyncio.sleep(20)
    cut.remove()
    await asyncio.sleep(200)
    assert await counter.add.remote(1) == 1
    assert sim_cluster.process_of(counter) is process


async def test_an_agent_that_is_started_again_gives_no_port_twice(sim_cluster, tmp_path):
    [host] = await sim_cluster.add_hosts(1)

    async def work(path):
        path.write_text(os.environ["FRAY_PORT_HTTP"])
        await asyncio.sleep(100)

    async def port_of(name):
        path = tmp_path / name
        entrypoint = Entrypoint.from_callable(work, args=(path,))
        await sim_cluster.launch(JobRequest(name, entrypoint, ports=["http"]))
        await sim_cluster.until(path.exists)
        return path.read_text()

    first = await port_of("first")
    agent = sim_cluster.agent_of(host)
    sim_cluster.crash(agent)
    sim_cluster.restart(agent)
    assert await port_of("second") != first
    await asyncio.sleep(200)  # what ends gives its ports back
    sim_cluster.restart(sim_cluster.agent_of(host))
    assert await port_of("third") == first


@pytest.mark.parametrize("what", ["crash", "freeze"])
async def test_tasks_do_not_outlive_their_hosts_lease_without_an_agent(sim_cluster, what):
    first, second = await sim_cluster.add_hosts(2)
    counter = await Counter.remote()
    before = sim_cluster.process_of(counter)
    getattr(sim_cluster, what)(sim_cluster.agent_of(before.host))
    gone_at = sim_cluster.now
    ended = await before.wait()
    assert 60 < sim_cluster.now - gone_at < 85
    assert ended.error is None
    assert await counter.add.remote(1) == 1
    assert sim_cluster.host_of(counter) is (second if before.host is first else first)


# Partitions -----------------------------------------------------------------------------------


@pytest.mark.parametrize("one_way", [False, True])
@pytest.mark.parametrize("long_s", [30.0, 200.0])
async def test_a_host_that_is_cut_off_from_the_controller(sim_cluster, long_s, one_way):
    await sim_cluster.add_hosts(2)
    counter = await Counter.options(name="counter").remote()
    assert await counter.add.remote(1) == 1
    before = sim_cluster.process_of(counter)
    with sim_cluster.partition(before.host, "controller", one_way=one_way):
        await asyncio.sleep(long_s)
    await asyncio.sleep(30)
    after = sim_cluster.process_of(counter)
    if long_s < 60:  # accepted back
        assert after is before
        assert await counter.add.remote(1) == 2
    else:  # it fenced itself before anything ran elsewhere, which the fixture watches
        assert after.host is not before.host
        assert before.exit is not None
        assert await counter.add.remote(1) == 1
    with pytest.raises(NameTakenError):
        await Counter.options(name="counter").remote()


async def test_of_actors_that_are_made_at_once_under_one_name_one_is(sim_cluster):
    await sim_cluster.add_hosts(2)
    made = [Counter.options(name="same").remote() for _ in range(4)]
    outcomes = await asyncio.gather(*made, return_exceptions=True)
    refused = [each for each in outcomes if isinstance(each, NameTakenError)]
    assert len(refused) == 3
    assert "the name 'same' belongs to the actor of job" in str(refused[0])
    made_jobs = (await sim_cluster.cluster.jobs.counts(JobQuery())).actors
    assert sum(made_jobs.values()) == made_jobs[JobStatus.RUNNING] == 1


async def test_actors_that_are_made_at_once_if_there_is_none_of_the_name_are_one(sim_cluster):
    await sim_cluster.add_hosts(2)
    made = [Counter.options(name="same", get_if_exists=True).remote() for _ in range(4)]
    found = await asyncio.gather(*(each.add.remote(1) for each in made))
    assert sorted(found) == [1, 2, 3, 4]


async def test_a_host_that_is_not_answered_dials_anew_rather_than_wait_for_its_kernel(sim_cluster):
    [host] = await sim_cluster.add_hosts(1)
    counter = await Counter.remote()
    process = sim_cluster.process_of(counter)
    with sim_cluster.partition(host, "controller"):
        await asyncio.sleep(45)
        dialled = f"{host.name}/agent gets no answer from controller"
        assert any(dialled in line for line in sim_cluster.sim.trace)
    await asyncio.sleep(12)  # no dial takes longer
    [found] = await sim_cluster.cluster.fleet.hosts()
    assert found.health == "healthy"
    assert sim_cluster.process_of(counter) is process


async def test_a_host_that_ends_its_tasks_because_it_hears_nobody_says_so(sim_cluster):
    await sim_cluster.add_hosts(2)
    counter = await Counter.remote()
    sleeping = counter.sleep.remote(3600.0)
    await asyncio.sleep(1)
    host = sim_cluster.host_of(counter)
    silent = pytest.raises(ActorDied, match=r"has not heard the controller for 6\d s")
    with sim_cluster.partition(host, "controller"), silent as told:
        await sleeping
    assert (told.value.cause.kind, told.value.cause.host) == (DeathKind.HOST_LOST, host.name)
    assert sim_cluster.now < 75  # not only when the controller gives it up


def failing_thrice(monkeypatch, method: str) -> list[object]:
    """The controller fails at what hosts ask it; gives what they asked."""
    asked, failed = getattr(Fleet, method), []

    @functools.wraps(asked)  # the annotations say how arguments are read
    async def fail(self, *args, **kwargs):
        if len(failed) < 3:
            failed.append(args)
            raise TypeError("a bug")
        return await asked(self, *args, **kwargs)

    monkeypatch.setattr(Fleet, method, fail)
    return failed


@pytest.mark.parametrize("method", ["report", "orders"])
async def test_a_controller_that_fails_at_a_host_is_no_reason_to_end_what_runs(
    sim_cluster, monkeypatch, method
):
    [host] = await sim_cluster.add_hosts(1)
    counter = await Counter.options(name="counter").remote()
    process = sim_cluster.process_of(counter)
    failed = failing_thrice(monkeypatch, method)
    sim_cluster.crash_controller()
    sim_cluster.restart_controller()
    await sim_cluster.until(lambda: len(failed) == 3)
    await asyncio.sleep(10)
    assert sim_cluster.process_of(counter) is process
    assert await counter.add.remote(1) == 1
    [found] = await sim_cluster.cluster.fleet.hosts()
    assert (found.worker_id, found.health) == (host.name, "healthy")


async def test_a_host_at_which_a_controller_fails_tries_again(sim_cluster, monkeypatch):
    failed = failing_thrice(monkeypatch, "register")
    await sim_cluster.add_hosts(1)
    assert len(failed) == 3
    assert await (await Counter.remote()).add.remote(1) == 1


async def test_a_report_that_is_refused_is_no_reason_to_end_what_runs(sim_cluster, monkeypatch):
    [host] = await sim_cluster.add_hosts(1)
    counter = await Counter.options(name="counter").remote()
    process = sim_cluster.process_of(counter)
    report, refused = Fleet.report, []

    @functools.wraps(report)  # the annotations say how arguments are read
    async def refuse(self, told):
        if len(refused) < 3:
            refused.append(told)
            raise InvalidRequestError("that makes no sense")
        return await report(self, told)

    monkeypatch.setattr(Fleet, "report", refuse)

    async def work():
        await asyncio.sleep(30)

    job_id = await sim_cluster.launch(JobRequest("work", Entrypoint.from_callable(work)))
    await sim_cluster.until(lambda: len(refused) == 3)
    assert (await sim_cluster.wait(job_id)).status is JobStatus.SUCCEEDED  # told after all
    assert sim_cluster.process_of(counter) is process
    assert await counter.add.remote(1) == 1
    [found] = await sim_cluster.cluster.fleet.hosts()
    assert (found.worker_id, found.health) == (host.name, "healthy")


@pytest.mark.parametrize("long_s", [150.0, 1000.0])
async def test_a_driver_that_is_cut_off_from_an_actor_waits_until_the_kernel_gives_up(
    sim_cluster, long_s
):
    [host] = await sim_cluster.add_hosts(1)
    counter = await Counter.remote()
    await counter.add.remote(1)
    with sim_cluster.partition("test", host):
        calls = [counter.add.remote(1) for _ in range(3)]
        await asyncio.sleep(long_s)
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    if long_s < 180:
        assert outcomes == [2, 3, 4]
        assert await counter.plain.remote() == 4
    else:
        assert [type(outcome) for outcome in outcomes] == [ActorUnavailable] * 3
        assert await counter.plain.remote() == 1


# The controller -------------------------------------------------------------------------------


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


async def test_a_controller_whose_disk_fails_ends_and_comes_back_with_all_that_was_kept(
    sim_cluster,
):
    await sim_cluster.add_hosts(1)
    counter = await Counter.options(name="counter").remote()
    sim_cluster.controller_host.disk.fail()
    with pytest.raises(ClusterError, match="disk fails"):
        await Counter.options(name="late").remote()
    await sim_cluster.until(lambda: not sim_cluster.controller_host.processes)
    sim_cluster.controller_host.disk.fail(None)
    sim_cluster.restart_controller()
    assert await (await Counter.options(name="late").remote(7)).plain.remote() == 7
    assert await counter.add.remote(1) == 1


async def test_a_host_lost_while_the_controller_was_down_is_noticed(sim_cluster):
    await sim_cluster.add_hosts(2)
    counter = await Counter.options(name="counter").remote()
    lost = sim_cluster.host_of(counter)
    sim_cluster.crash_controller()
    sim_cluster.crash(lost)
    await asyncio.sleep(100)
    sim_cluster.restart_controller()
    await asyncio.sleep(1)
    assert await counter.add.remote(1) == 1
    assert sim_cluster.host_of(counter) is not lost


# Drivers --------------------------------------------------------------------------------------


async def test_two_drivers_share_a_namespace_or_have_their_own(sim_cluster):
    await sim_cluster.add_hosts(2)
    counter = await Counter.options(name="counter").remote(1)
    async with sim_cluster.connect() as other:
        found = await other.resolver.lookup_async("counter")
        assert await found.add.remote(1) == 2
        assert current_cluster().asynchronous is other
    async with sim_cluster.connect(namespace="elsewhere") as other:
        with pytest.raises(ActorNotFoundError):
            await other.resolver.lookup_async("counter")
        theirs = await Counter.options(name="counter").remote(10)
        assert await theirs.add.remote(1) == 11
    assert current_cluster().asynchronous is sim_cluster.cluster
    assert await counter.add.remote(1) == 3


async def test_a_drivers_actors_end_after_it_unless_they_are_detached(sim_cluster):
    await sim_cluster.add_hosts(1)

    async def main(cluster):
        await Counter.options(name="mine").remote()
        await Counter.options(name="kept", lifetime="detached").remote(3)
        await asyncio.Event().wait()

    driver = sim_cluster.start_driver(main)
    await asyncio.sleep(5)
    mine = await sim_cluster.resolver.lookup_async("mine")
    assert await mine.plain.remote() == 0
    sim_cluster.crash(driver)
    await asyncio.sleep(30)
    assert await mine.plain.remote() == 0
    await asyncio.sleep(60)
    with pytest.raises(ActorNotFoundError):
        await sim_cluster.resolver.lookup_async("mine")
    kept = await sim_cluster.resolver.lookup_async("kept")
    assert await kept.plain.remote() == 3


async def test_an_actor_that_a_lost_driver_hosted_is_given_up(sim_cluster):
    await sim_cluster.add_hosts(1)

    async def main(cluster):
        server = FrayActorServer(cluster.resolver)
        await server.register_async("mine", Counter(5))
        await asyncio.Event().wait()

    driver = sim_cluster.start_driver(main)
    await asyncio.sleep(1)
    mine = await sim_cluster.resolver.lookup_async("mine")
    assert await mine.plain.remote() == 5
    assert sim_cluster.process_of(mine) is driver
    call = mine.sleep.remote(3600)
    await asyncio.sleep(1)
    sim_cluster.crash(driver.host)
    with pytest.raises((ActorDied, ActorUnavailable)) as told:
        await call
    assert told.value.started is Started.UNKNOWN
    await asyncio.sleep(200)  # no agent speaks for a driver: its lease, or the kernel, runs out
    with pytest.raises((ActorNotFoundError, ActorUnavailable)):
        await mine.plain.remote()


# Jobs -----------------------------------------------------------------------------------------


async def test_jobs_succeed_fail_and_are_tried_again(sim_cluster):
    await sim_cluster.add_hosts(1)

    async def good(what):
        print("hello", what)

    def bad():
        raise ValueError("no good")

    def flaky():
        if int(os.environ["FRAY_ATTEMPT"]) < 2:
            raise RuntimeError("not yet")

    first = await sim_cluster.launch(job("good", good, "world"))
    assert (await sim_cluster.wait(first)).status is JobStatus.SUCCEEDED
    assert [line.text async for line in sim_cluster.logs(first)] == ["hello world"]
    second = await sim_cluster.wait(await sim_cluster.launch(job("bad", bad)))
    assert second.status is JobStatus.FAILED
    assert "ValueError: no good" in second.error_message
    third = await sim_cluster.launch(job("flaky", flaky, max_retries_failure=2))
    assert (await sim_cluster.wait(third)).status is JobStatus.SUCCEEDED
    assert (await sim_cluster.poll(third)).status is JobStatus.SUCCEEDED


async def test_a_job_survives_its_host_and_a_crash_counts_as_its_own_failure(sim_cluster):
    await sim_cluster.add_hosts(2)

    async def long():
        await asyncio.sleep(1000)

    job_id = await sim_cluster.launch(job("long", long))
    await sim_cluster.until(lambda: bool(sim_cluster.processes_of(job_id)))
    sim_cluster.crash(sim_cluster.host_of(job_id))
    await sim_cluster.until(lambda: bool(sim_cluster.processes_of(job_id)))
    assert (await sim_cluster.poll(job_id)).status is JobStatus.RUNNING
    sim_cluster.crash(sim_cluster.process_of(job_id))
    info = await sim_cluster.wait(job_id)
    assert info.status is JobStatus.FAILED
    assert "SIGKILL" in info.error_message


async def test_a_job_that_is_terminated_unwinds(sim_cluster):
    await sim_cluster.add_hosts(1)

    async def long():
        try:
            await asyncio.sleep(1000)
        finally:
            print("unwound")

    job_id = await sim_cluster.launch(job("long", long))
    await sim_cluster.until(lambda: bool(sim_cluster.processes_of(job_id)))
    await asyncio.sleep(1)
    await sim_cluster.terminate(job_id)
    assert (await sim_cluster.wait(job_id)).status is JobStatus.STOPPED
    assert [line.text async for line in sim_cluster.logs(job_id)] == ["unwound"]


async def test_a_program_is_what_the_simulation_has_under_its_name(sim_cluster):
    await sim_cluster.add_hosts(1)

    async def train(execution):
        execution.print(f"{execution.spec.argv[1:]} in {os.environ['FRAY_JOB_NAME']}\n")
        await execution.process.clock.sleep(60)
        return 3

    sim_cluster.programs["train"] = train
    request = JobRequest(name="run", entrypoint=Entrypoint.from_binary("train", ["--fast"]))
    job_id = await sim_cluster.launch(request)
    info = await sim_cluster.wait(job_id)
    assert "exited with code 3" in info.error_message
    assert [line.text async for line in sim_cluster.logs(job_id)] == ["('--fast',) in run"]
    request = JobRequest(name="run", entrypoint=Entrypoint.from_binary("other", []))
    info = await sim_cluster.wait(await sim_cluster.launch(request))
    assert "no such program in this simulation" in info.error_message


async def test_plain_functions_that_would_block_are_told_why_they_cannot(sim_cluster):
    await sim_cluster.add_hosts(1)

    def sleeps():
        time.sleep(1)

    def calls():
        Counter.remote().add(1)

    for fn, why in ((sleeps, "virtual time cannot pass"), (calls, "write `async def` and await")):
        info = await sim_cluster.wait(await sim_cluster.launch(job("plain", fn)))
        assert info.status is JobStatus.FAILED
        assert why in info.error_message
    with pytest.raises(BlockingCallError):
        current_cluster().poll("none")


# Pools ----------------------------------------------------------------------------------------


async def test_a_named_pool_is_balanced_over_hosts_and_shrinks_and_grows(sim_cluster):
    hosts = await sim_cluster.add_hosts(3, cpus=1)
    resources = ResourceConfig.with_cpu(cpu=1, replicas=3)
    await sim_cluster.launch(job("pool", serve_member, resources=resources))
    pool = sim_cluster.resolver.lookup("pool")

    async def places(calls):
        calls = [pool.place.remote() for _ in range(calls)]
        return Tally(await asyncio.gather(*calls, return_exceptions=True))

    async def until_found(count):
        async with asyncio.timeout(200):
            while len(await sim_cluster.resolver.lookup_all_async("pool")) != count:
                await asyncio.sleep(1)
        for _ in range(2):  # calls have the members asked for again, and may find one gone
            await places(1)
            await asyncio.sleep(5)

    await until_found(3)
    assert await places(300) == {"0": 100, "1": 100, "2": 100}
    assert sorted(p.host.name for p in sim_cluster.processes_of(pool)) == [h.name for h in hosts]
    sim_cluster.crash(hosts[0])
    await until_found(2)
    assert sorted((await places(300)).values()) == [150, 150]
    sim_cluster.restart(hosts[0])
    await until_found(3)
    assert sorted((await places(300)).values()) == [100, 100, 100]


# The simulation itself ------------------------------------------------------------------------


@pytest.mark.parametrize("sim_seed", range(20), indirect=True, ids="seed{}".format)
def test_a_storm_is_survived_and_is_the_same_again(sim_seed):
    assert simulate(sim_seed, storm.survive) == simulate(sim_seed, storm.survive)


def test_a_storm_is_the_same_in_every_interpreter_and_folder(tmp_path):
    elsewhere = tmp_path / ("deeper/" * 9) / "elsewhere"
    elsewhere.mkdir(parents=True)
    for package in ("fray", "tests"):
        (elsewhere / package).symlink_to(ROOT / package)
    running = [
        subprocess.Popen(
            [sys.executable, "-c", "from tests.sim import storm; storm.main()"],
            cwd=folder,
            env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(folder)},
            stdout=subprocess.PIPE,
        )
        for hash_seed, folder in (("0", ROOT), ("1", ROOT), ("random", elsewhere))
    ]
    first, *others = [process.communicate(timeout=100)[0].splitlines() for process in running]
    assert len(first) > 1000
    for other in others:
        assert other == first


async def test_a_task_that_runs_twice_fails_the_test(sim_cluster, tmp_path):
    hosts = await sim_cluster.add_hosts(2)

    async def program(execution):
        await asyncio.sleep(100)

    for number, host in enumerate(hosts):
        spec = LaunchSpec(
            attempt_id=AttemptId(f"test/twin-1/0#{number}"),
            argv=("twin",),
            run_dir=tmp_path / str(number),
            log_path=tmp_path / f"{number}.log",
        )
        sim_cluster._workers[host.name].attempts.launch(spec, program)
    [error] = sim_cluster.sim.errors
    assert "test/twin-1/0#1 starts on host-2 while test/twin-1/0#0" in error["message"]
    sim_cluster.sim.errors.clear()


def test_a_plain_test_may_have_a_cluster_too(sim_cluster, sim):
    async def main():
        await sim_cluster.add_hosts(1)
        return await (await Counter.remote(1)).add.remote(1)

    assert sim.run(main()) == 2
    assert sim_cluster.seed == sim.seed
    assert "worker host-1 up" in sim_cluster.snapshot()


async def test_what_is_nowhere_cannot_be_found(sim_cluster):
    [host] = await sim_cluster.add_hosts(1)
    with pytest.raises(LookupError, match="not one process"):
        sim_cluster.process_of("test/none-1")
    sim_cluster.crash(host)
    with pytest.raises(LookupError, match="no agent"):
        sim_cluster.agent_of(host)
    with pytest.raises(SimUnsupported, match="connect"):
        import socket

        with socket.socket() as real:
            real.connect(("127.0.0.1", 9))


def test_starting_a_cluster_takes_milliseconds():
    async def main(sim):
        before = real_clock()
        async with SimCluster(sim):
            times_s.append(real_clock() - before)

    real_clock, times_s = time.perf_counter, []
    # `time` is virtual inside; the function object that was taken before is not.
    for seed in range(5):
        simulate(seed, main)
    assert min(times_s) < 0.05


async def test_a_coroutine_that_a_plain_function_returns_is_run(sim_cluster: SimCluster) -> None:
    await sim_cluster.add_hosts(1)

    async def work() -> None:
        await asyncio.sleep(3600)
        print("an hour later")

    job = await sim_cluster.launch(JobRequest("work", Entrypoint.from_callable(lambda: work())))
    assert (await sim_cluster.wait(job)).status is JobStatus.SUCCEEDED
    assert [line.text async for line in sim_cluster.logs(job)] == ["an hour later"]


async def test_an_actor_that_does_not_fit_is_told_of_with_the_reason_once(
    sim_cluster: SimCluster, caplog: pytest.LogCaptureFixture
) -> None:
    await sim_cluster.add_hosts(1, cpus=1)
    first = await Counter.remote()
    second = Counter.remote()
    call = second.add.options(timeout=2).remote(1)
    with pytest.raises(DeadlineExceeded, match=r"was not sent: Counter is not ready yet: .*cpu"):
        await call
    assert "is not ready yet" not in caplog.text  # most actors are, by then
    waiting = second.add.remote(1)
    await asyncio.sleep(60)
    (told,) = (r for r in caplog.records if "is not ready yet" in r.getMessage())
    assert told.levelname == "WARNING"
    assert "cpu" in told.getMessage()
    await first.stop()
    assert await waiting == 1
