"""`fray.monitor`: every end is told, with its cause, also when it has happened already."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import fray
from fray.actor.server import FrayActorServer
from fray.cluster import ResourceConfig
from fray.errors import ActorNotFoundError, ClusterClosed, DeathKind
from tests.sim.actors import Counter, job, serve_member

SEEDS = pytest.mark.parametrize("sim_seed", range(4), indirect=True, ids="seed{}".format)


@SEEDS
async def test_the_end_of_a_crashed_process_is_told_with_its_cause(sim_cluster):
    [host] = await sim_cluster.add_hosts(1)
    counter = await Counter.options(name="counter").remote()
    watching = fray.monitor(counter)
    await asyncio.sleep(100)
    crashed_at = sim_cluster.now
    sim_cluster.crash(sim_cluster.process_of(counter))
    down = await watching
    assert sim_cluster.now - crashed_at < 5
    assert (down.actor, down.actor_id, down.incarnation) == ("counter", counter.actor_id, 1)
    assert (down.cause.kind, down.cause.signal, down.cause.host) == ("signal", 9, host.name)
    assert down.over is not None


@SEEDS
async def test_an_end_that_happened_before_anybody_asked_is_told_at_once(sim_cluster):
    await sim_cluster.add_hosts(1)
    counter = await Counter.options(name="counter").remote()
    await counter.stop()
    await asyncio.sleep(1000)
    asked_at = sim_cluster.now
    by_name = sim_cluster.resolver.lookup("counter")
    for handle in (counter, by_name):
        down = await fray.monitor(handle)
        assert (down.cause.kind, down.incarnation) == (DeathKind.STOPPED, 1)
        assert down.over is not None
    assert sim_cluster.now - asked_at < 1


@SEEDS
async def test_each_incarnation_is_told_until_there_will_be_none(sim_cluster):
    await sim_cluster.add_hosts(2)
    counter = await Counter.options(max_restarts=2).remote()
    watching = fray.monitor(counter)
    for _ in range(3):
        assert await counter.add.remote(1) == 1
        sim_cluster.crash(sim_cluster.process_of(counter))
        down = await watching
        assert down.cause.kind is DeathKind.SIGNAL
    assert (down.incarnation, down.over.kind) == (3, DeathKind.RESTART_LIMIT)
    assert [later async for later in watching] == []
    with pytest.raises(ActorNotFoundError, match="all of that was told"):
        await watching
    again = [down.incarnation async for down in fray.monitor(counter)]
    assert again == [3]  # the last one, of an actor that is over


@SEEDS
async def test_ends_that_nobody_fetches_meanwhile_are_kept(sim_cluster):
    await sim_cluster.add_hosts(1)
    counter = await Counter.options(max_restarts=2).remote()
    watching = fray.monitor(counter)
    for _ in range(3):
        await counter
        sim_cluster.crash(sim_cluster.process_of(counter))
        await asyncio.sleep(10)
    assert [down.incarnation async for down in watching] == [1, 2, 3]


@SEEDS
@pytest.mark.parametrize("how", ["crash", "partition"])
async def test_a_lost_host_is_told_when_the_fleet_has_given_it_up(sim_cluster, how):
    await sim_cluster.add_hosts(2)
    counter = await Counter.options(name="counter").remote()
    lost, began_at = sim_cluster.host_of(counter), sim_cluster.now
    watching = fray.monitor(counter)
    if how == "crash":
        sim_cluster.crash(lost)
    else:
        sim_cluster.partition(lost)
    down = await watching
    assert (down.cause.kind, down.cause.host, down.over) == (DeathKind.HOST_LOST, lost.name, None)
    assert 85 < sim_cluster.now - began_at < 100
    assert await counter.add.remote(1) == 1
    assert sim_cluster.host_of(counter) is not lost or how == "partition"
    sim_cluster.heal()


@SEEDS
async def test_a_driver_follows_detached_actors_that_another_made(sim_cluster):
    await sim_cluster.add_hosts(1)

    async def main(cluster: Any) -> None:
        await Counter.options(name="counter", lifetime="detached").remote()

    await sim_cluster.start_driver(main).wait()
    async with sim_cluster.connect() as other:
        counter = await other.resolver.lookup_async("counter")
        actor_id, watching = counter.actor_id, fray.monitor(counter)
        await counter.add.remote(1)
        sim_cluster.crash(sim_cluster.process_of(counter))
        down = await watching
    assert (down.actor_id, down.cause.kind) == (actor_id, DeathKind.SIGNAL)


async def test_of_what_nobody_knows_the_end_is_told_at_once(sim_cluster):
    await sim_cluster.add_hosts(1)
    nobody = sim_cluster.resolver.lookup("nobody")
    downs = [down async for down in fray.monitor(nobody)]
    assert [(d.cause.kind, d.incarnation) for d in downs] == [(DeathKind.NOT_FOUND, 0)]
    refused = Counter.options(num_cpus=99).remote()
    down = await fray.monitor(refused)
    assert down.cause.kind is DeathKind.NOT_FOUND
    assert "99" in down.cause.message


async def test_an_actor_that_is_still_being_made_has_not_ended(sim_cluster):
    counter = Counter.remote()  # there is no host yet
    watching = fray.monitor(counter)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(100):
            await watching
    await sim_cluster.add_hosts(1)
    await counter
    sim_cluster.crash(sim_cluster.process_of(counter))
    assert (await watching).incarnation == 1


@SEEDS
async def test_a_pool_tells_of_each_member_that_goes_until_nobody_is_left(sim_cluster):
    await sim_cluster.add_hosts(3, cpus=1)
    resources = ResourceConfig.with_cpu(cpu=1, replicas=3)
    job_id = await sim_cluster.launch(job("pool", serve_member, resources=resources))
    async with asyncio.timeout(100):
        while len(await sim_cluster.resolver.lookup_all_async("pool")) < 3:
            await asyncio.sleep(0.1)
    pool = sim_cluster.resolver.lookup("pool")
    watching = fray.monitor(pool)
    members = {each.actor_id for each in await sim_cluster.resolver.lookup_all_async("pool")}
    await asyncio.sleep(1)
    victim = sim_cluster.processes_of(job_id)[0]
    sim_cluster.crash(victim)
    first = await watching
    assert (first.cause.kind, first.actor_id in members) == (DeathKind.SIGNAL, True)
    rest = [down.actor_id async for down in watching]
    assert sorted([first.actor_id, *rest]) == sorted(members)


async def test_an_object_of_a_server_has_ended_when_that_unregisters_it(sim_cluster):
    await sim_cluster.add_hosts(1)
    server = FrayActorServer(sim_cluster.resolver)
    await server.register_async("counter", Counter())
    found = await sim_cluster.resolver.lookup_async("counter")
    watching = fray.monitor(found)
    await asyncio.sleep(10)
    await server.unregister_async("counter")
    down = await watching
    assert (down.cause.kind, down.cause.message) == ("stopped", "its server unregistered it")


@SEEDS
async def test_a_controller_that_was_away_tells_what_has_happened_meanwhile(sim_cluster):
    await sim_cluster.add_hosts(1)
    counter = await Counter.options(max_restarts=1).remote()
    watching = fray.monitor(counter)
    await asyncio.sleep(1)
    sim_cluster.crash_controller()
    sim_cluster.crash(sim_cluster.process_of(counter))
    await asyncio.sleep(300)
    sim_cluster.restart_controller()
    down = await watching
    assert (down.incarnation, down.cause.kind, down.over) == (1, DeathKind.SIGNAL, None)


async def test_the_end_of_the_connection_ends_its_monitors(sim_cluster):
    await sim_cluster.add_hosts(1)
    counter = await Counter.options(name="counter").remote()
    async with sim_cluster.connect() as other:
        watching = fray.monitor(other.resolver.lookup("counter"))
        await asyncio.sleep(1)
    with pytest.raises(ClusterClosed, match="not followed any longer"):
        await watching
    assert await counter.add.remote(1) == 1


async def test_who_looks_away_is_told_nothing(sim_cluster):
    await sim_cluster.add_hosts(1)
    counter = await Counter.remote()
    with fray.monitor(counter) as watching:
        await asyncio.sleep(1)
    sim_cluster.crash(sim_cluster.process_of(counter))
    assert [down async for down in watching] == []
