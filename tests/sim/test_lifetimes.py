"""How long actors live: restarts elsewhere, what comes back from the dead, detached ones, hooks."""

from __future__ import annotations

import asyncio
import gc
import itertools
from typing import Any

import pytest

import fray
from fray.errors import (
    ActorDied,
    ActorNotFoundError,
    ActorUnavailable,
    CallError,
    DeathKind,
    NameTakenError,
    Started,
)
from tests.sim.actors import Counter, job

SEEDS = pytest.mark.parametrize("sim_seed", range(5), indirect=True, ids="seed{}".format)

HEARD: list[Any] = []
"""What the hooks of the running test were told; all simulated processes share it."""


@pytest.fixture(autouse=True)
def _nothing_yet() -> None:
    HEARD.clear()


@fray.actor
class Hooked:
    """Tells of its hooks, and of how its calls end."""

    def __init__(self, clean_up_s: float = 0.0) -> None:
        self.clean_up_s = clean_up_s

    async def work(self, delay_s: float) -> str:
        try:
            await asyncio.sleep(delay_s)
        except asyncio.CancelledError:
            HEARD.append("cancelled")
            raise
        HEARD.append("worked")
        return "worked"

    async def on_stop(self, reason: Any) -> None:
        HEARD.append((reason.kind, reason.message))
        await asyncio.sleep(self.clean_up_s)
        HEARD.append("cleaned up")


# Restarts elsewhere -------------------------------------------------------------------------------


@SEEDS
@pytest.mark.parametrize("fault", ["process", "host", "partition"])
async def test_an_actor_is_restarted_where_there_is_room_and_its_handles_and_name_work_again(
    sim_cluster, fault
):
    await sim_cluster.add_hosts(3, cpus=2)
    await Counter.options(num_cpus=1).remote()
    counter = await Counter.options(name="counter", num_cpus=2, max_restarts=1).remote()
    assert await counter.add.remote(1) == 1
    before = sim_cluster.process_of(counter)
    if fault == "process":
        sim_cluster.crash(before)
    elif fault == "host":
        sim_cluster.crash(before.host)
    else:
        sim_cluster.partition(before.host)
    with pytest.raises((ActorDied, ActorUnavailable)):
        await counter.add.remote(1)  # it went there before anybody could know
    assert await counter.add.remote(1) == 1
    found = await sim_cluster.resolver.lookup_async("counter")
    assert await found.add.remote(1) == 2
    after = sim_cluster.processes_of(counter)[-1]
    assert (after.host is before.host) <= (fault == "process")


@SEEDS
async def test_an_actor_that_is_preempted_again_and_again_has_not_failed(sim_cluster):
    hosts = await sim_cluster.add_hosts(3)
    counter = await Counter.options(max_restarts=0, max_preemptions=2).remote()
    for number in range(3):
        host = sim_cluster.host_of(counter)
        hosts.remove(host)
        with fray.monitor(counter) as watching:
            await sim_cluster.cluster.fleet.drain(host.name, "maintenance")
            down = await watching
        assert (down.incarnation, down.cause.kind) == (number + 1, DeathKind.PREEMPTED)
        assert (down.over is None) == (number < 2)
        if number < 2:
            assert await counter.add.remote(1) == 1
            assert sim_cluster.host_of(counter) in hosts


async def test_a_failure_does_not_use_the_budget_of_preemptions_nor_the_other_way_round(
    sim_cluster,
):
    await sim_cluster.add_hosts(2)
    counter = await Counter.options(max_restarts=1, max_preemptions=0).remote()
    sim_cluster.crash(sim_cluster.process_of(counter))
    await asyncio.sleep(5)
    assert await counter.add.remote(1) == 1
    with fray.monitor(counter) as watching:
        sim_cluster.crash(sim_cluster.host_of(counter))
        down = await watching
    assert (down.cause.kind, down.over is None) == (DeathKind.HOST_LOST, False)


# Back from the dead -------------------------------------------------------------------------------


@SEEDS
async def test_who_was_suspended_for_too_long_answers_nobody_when_it_goes_on(sim_cluster):
    [host] = await sim_cluster.add_hosts(1)
    counter = await Counter.options(name="counter").remote()
    assert await counter.add.remote(5) == 5
    zombie = sim_cluster.process_of(counter)
    sim_cluster.freeze(host)
    await asyncio.sleep(200)
    sim_cluster.thaw(host)
    assert zombie.exit is None  # its supervisor looks once in a second
    [answer] = await asyncio.gather(counter.add.remote(1), return_exceptions=True)
    if isinstance(answer, ActorDied):  # it was on its way when the supervisor looked
        assert answer.started is Started.UNKNOWN
        answer = await counter.add.remote(1)
    assert answer == 1
    assert zombie.exit is not None


@pytest.mark.parametrize("sim_seed", range(8), indirect=True, ids="seed{}".format)
async def test_who_was_suspended_for_almost_too_long_goes_on_or_starts_again(sim_cluster):
    [host] = await sim_cluster.add_hosts(1)
    counter = await Counter.options(name="counter", max_restarts=0).remote()
    assert await counter.add.remote(5) == 5
    before = sim_cluster.process_of(counter)
    sim_cluster.freeze(host)
    await asyncio.sleep(62 + sim_cluster.sim.clock.random.random() * 30)
    sim_cluster.thaw(host)
    answer = await counter.add.remote(1)
    assert answer == (6 if sim_cluster.process_of(counter) is before else 1)
    await asyncio.sleep(200)
    assert await counter.add.remote(1) == answer + 1


@SEEDS
async def test_who_was_given_up_does_not_get_its_name_back(sim_cluster):
    [host] = await sim_cluster.add_hosts(1)
    counter = await Counter.options(name="counter", max_preemptions=0).remote()
    assert await counter.add.remote(5) == 5
    zombie = sim_cluster.process_of(counter)
    sim_cluster.freeze(host)
    await asyncio.sleep(150)
    with pytest.raises(ActorNotFoundError):
        await sim_cluster.resolver.lookup_async("counter")
    sim_cluster.thaw(host)
    while zombie.exit is None:  # it renews its names as soon as it goes on
        with pytest.raises(ActorNotFoundError):
            await sim_cluster.resolver.lookup_async("counter")
        await asyncio.sleep(0.01)
    again = await Counter.options(name="counter").remote()
    assert await again.add.remote(1) == 1


@SEEDS
async def test_a_process_that_was_stopped_and_continues_is_who_it_was(sim_cluster):
    await sim_cluster.add_hosts(2)
    counter = await Counter.options(name="counter").remote()
    assert await counter.add.remote(5) == 5
    process = sim_cluster.process_of(counter)
    sim_cluster.freeze(process)  # SIGSTOP: its host is well, so nobody gives it up
    call = counter.add.remote(1)
    await asyncio.sleep(300)
    with pytest.raises(NameTakenError):
        await Counter.options(name="counter").remote()
    sim_cluster.thaw(process)
    assert await call == 6
    assert await (await sim_cluster.resolver.lookup_async("counter")).add.remote(1) == 7


@pytest.mark.parametrize("sim_seed", range(8), indirect=True, ids="seed{}".format)
@pytest.mark.parametrize("one_way", [False, True])
async def test_after_a_first_answer_of_the_successor_nobody_hears_of_its_predecessor(
    sim_cluster, one_way
):
    await sim_cluster.add_hosts(2)
    counter = await Counter.options(name="counter").remote()
    host, answers, over = sim_cluster.host_of(counter), [], asyncio.Event()

    async def call() -> None:
        while not over.is_set():
            try:
                async with asyncio.timeout(200):
                    answers.append(await counter.add.remote(1))
            except CallError:
                pass
            await asyncio.sleep(0.3)

    caller = asyncio.ensure_future(call())
    await asyncio.sleep(2)
    # Around the moments at which the host fences itself, and at which it is given up.
    long_s = 40 + sim_cluster.sim.clock.random.random() * 100
    with sim_cluster.partition(host, "controller", one_way=one_way):
        await asyncio.sleep(long_s)
    await asyncio.sleep(120)
    over.set()
    await caller
    lives = sum(answer == 1 for answer in answers)
    assert lives in (1, 2)
    falls = sum(later <= earlier for earlier, later in itertools.pairwise(answers))
    assert falls == lives - 1


# Detached, or made once ---------------------------------------------------------------------------


@SEEDS
@pytest.mark.parametrize("creator", ["driver that crashes", "driver that leaves", "job that ends"])
async def test_a_detached_actor_outlives_its_creator_and_is_found_again(sim_cluster, creator):
    await sim_cluster.add_hosts(2)

    async def make() -> None:
        kept = await Counter.options(name="kept", lifetime="detached").remote()
        await kept.add.remote(1)
        await Counter.options(name="lost").remote()

    async def main(cluster: Any) -> None:
        await make()
        if creator == "driver that crashes":
            await asyncio.Event().wait()

    if creator == "job that ends":
        await sim_cluster.wait(await sim_cluster.launch(job("maker", make)))
    else:
        driver = sim_cluster.start_driver(main)
        if creator == "driver that crashes":
            await asyncio.sleep(20)
            sim_cluster.crash(driver)
        else:
            await driver.wait()
    await asyncio.sleep(100)  # longer than any lease of its creator
    async with sim_cluster.connect() as other:
        kept = await other.resolver.lookup_async("kept")
        assert await kept.add.remote(1) == 2
        sim_cluster.crash(sim_cluster.host_of(kept))
        await asyncio.sleep(100)
        kept = await other.resolver.lookup_async("kept")
        assert await kept.add.remote(1) == 1
        with pytest.raises(ActorNotFoundError):
            await other.resolver.lookup_async("lost")


@pytest.mark.parametrize("sim_seed", range(10), indirect=True, ids="seed{}".format)
@pytest.mark.parametrize("hosts", [1, 0])
async def test_two_who_want_an_actor_to_exist_at_the_same_time_get_the_same(sim_cluster, hosts):
    if hosts:
        await sim_cluster.add_hosts(hosts)

    async def main(cluster: Any) -> int:
        options = {"name": "counter", "get_if_exists": True, "lifetime": "detached"}
        counter = Counter.options(**options).remote()
        return await counter.add.remote(1)

    drivers = [sim_cluster.start_driver(main) for _ in range(4)]
    if not hosts:  # nobody is ready for long
        await asyncio.sleep(20)
        await sim_cluster.add_hosts(1)
    values = [(await driver.wait()).value for driver in drivers]
    assert sorted(values) == [1, 2, 3, 4]


async def test_an_actor_that_is_being_stopped_does_not_exist_any_more(sim_cluster):
    await sim_cluster.add_hosts(1)
    options = {"name": "hooked", "get_if_exists": True}
    first = await Hooked.options(**options).remote(clean_up_s=1.0)
    ending = first.stop()
    await asyncio.sleep(0.5)
    second = await Hooked.options(**options).remote()
    assert await second.work.remote(0.1) == "worked"
    await ending
    assert HEARD == [("stopped", "its handle stopped it"), "cleaned up", "worked"]


# Hooks and draining -------------------------------------------------------------------------------


async def test_a_stop_refuses_new_calls_drains_and_tells_the_hook_why(sim_cluster):
    await sim_cluster.add_hosts(1)
    actor = await Hooked.remote()
    present = actor.work.remote(3)
    await asyncio.sleep(1)
    ending = actor.stop(grace_s=10)
    await asyncio.sleep(0.5)
    with pytest.raises(ActorDied, match="did not start"):
        await actor.work.remote(1)
    assert await present == "worked"
    await ending
    assert HEARD == ["worked", ("stopped", "its handle stopped it"), "cleaned up"]


@pytest.mark.parametrize("clean_up_s", [1.0, 1000.0])
async def test_at_the_deadline_of_a_stop_calls_are_cancelled_then_comes_the_hook_then_the_kill(
    sim_cluster, clean_up_s
):
    await sim_cluster.add_hosts(1)
    actor = await Hooked.remote(clean_up_s)
    call = actor.work.remote(1000)
    await asyncio.sleep(1)
    began_at = sim_cluster.now
    await actor.stop(grace_s=5)
    assert HEARD[:2] == ["cancelled", ("stopped", "its handle stopped it")]
    assert HEARD[2:] == (["cleaned up"] if clean_up_s < 5 else [])
    assert 5 < sim_cluster.now - began_at < 12
    with pytest.raises(ActorDied, match="may have run"):
        await call


async def test_a_kill_runs_no_hook(sim_cluster):
    await sim_cluster.add_hosts(1)
    actor = await Hooked.remote()
    call = actor.work.remote(1000)
    await asyncio.sleep(1)
    await actor.kill()
    with pytest.raises(ActorDied):
        await call
    assert HEARD == []


@pytest.mark.parametrize("why", ["drained host", "driver has gone", "end of its job"])
async def test_the_hook_is_told_on_whose_account_the_actor_stops(sim_cluster, why):
    await sim_cluster.add_hosts(1)

    async def make() -> None:
        await Hooked.options(name="hooked").remote()

    async def main(cluster: Any) -> None:
        await make()

    if why == "drained host":
        actor = await Hooked.remote()
        await sim_cluster.cluster.fleet.drain(sim_cluster.host_of(actor).name, "maintenance")
        expected = ("preempted", "host host-1 is draining: maintenance")
    elif why == "driver has gone":
        sim_cluster.start_driver(main)
        expected = ("stopped", "its driver has gone")
    else:
        job_id = await sim_cluster.launch(job("maker", make))
        expected = ("stopped", f"the job that launched it, {job_id}, has ended")
    await sim_cluster.until(lambda: len(HEARD) == 2)
    assert [expected, "cleaned up"] == HEARD


# What others paid for -----------------------------------------------------------------------------


async def test_an_actor_lives_on_when_its_last_handle_is_gone(sim_cluster):
    await sim_cluster.add_hosts(1)
    counter = await Counter.options(name="counter").remote()
    assert await counter.add.remote(5) == 5
    del counter
    gc.collect()
    await asyncio.sleep(1000)
    assert await (await sim_cluster.resolver.lookup_async("counter")).add.remote(1) == 6


@SEEDS
async def test_an_object_that_was_replaced_does_not_take_its_successors_name_along(sim_cluster):
    await sim_cluster.add_hosts(2)
    first = await Counter.options(name="counter").remote(10)
    old_id = first.actor_id
    await first.stop()
    second = await Counter.options(name="counter").remote(20)
    await sim_cluster.resolver.unregister_async("counter", old_id)
    found = await sim_cluster.resolver.lookup_async("counter")
    assert await found.add.remote(1) == 21
    assert await second.add.remote(1) == 22
