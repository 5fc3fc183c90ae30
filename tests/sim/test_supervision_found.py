"""What the lab has found of supervision, each told as shortly as it can be."""

from __future__ import annotations

import asyncio

import pytest

import fray
from fray.errors import ActorDied, SupervisorFailed
from tests.sim.actors import Counter


@pytest.mark.parametrize("strategy", ["one_for_all", "gang"])
async def test_a_temporary_child_that_goes_with_its_siblings_is_gone_for_its_callers(
    sim_cluster, strategy
):
    await sim_cluster.add_hosts(1)
    specs = [fray.ChildSpec("a", Counter), fray.ChildSpec("b", Counter, restart="temporary")]
    async with fray.Supervisor(specs, strategy=strategy) as supervisor:
        gone = supervisor["b"]
        sim_cluster.crash(sim_cluster.process_of(supervisor["a"]))
        async with asyncio.timeout(20):
            assert [down.over is None async for down in fray.monitor(gone)] in ([True], [False])
            with pytest.raises(ActorDied, match=r"restarted together with a|of its gang is down"):
                await gone.add.remote(1)
        again = await supervisor.start_child(specs[1])  # its name is free
        assert await again.add.remote(1) == 1


async def test_a_temporary_child_that_has_ended_does_not_keep_its_supervisor_from_starting_again(
    sim_cluster,
):
    await sim_cluster.add_hosts(1)
    specs = [fray.ChildSpec("a", Counter), fray.ChildSpec("b", Counter, restart="temporary")]
    inner = fray.Supervisor(specs, name="inner", intensity=0)
    async with fray.Supervisor([fray.ChildSpec("inner", inner)], intensity=1):
        sim_cluster.crash(sim_cluster.process_of(inner["b"]))
        await asyncio.sleep(5)
        sim_cluster.crash(sim_cluster.process_of(inner["a"]))
        await asyncio.sleep(5)
        assert [await inner[name].add.remote(1) for name in "ab"] == [1, 1]


async def test_who_adds_a_temporary_child_to_a_gang_that_falls_meanwhile_is_told(sim_cluster):
    await sim_cluster.add_hosts(1, cpus=1)
    one_cpu = Counter.options(num_cpus=1)
    async with fray.Supervisor([fray.ChildSpec("a", one_cpu)], strategy="gang") as gang:
        spec = fray.ChildSpec("b", one_cpu, restart="temporary")
        adding = asyncio.ensure_future(gang.start_child(spec))  # there is no room for it
        await asyncio.sleep(10)
        sim_cluster.crash(sim_cluster.process_of(gang["a"]))
        async with asyncio.timeout(20):
            with pytest.raises(SupervisorFailed, match=r"a of its gang is down|together with a"):
                await adding
        assert await gang["a"].add.remote(1) == 1


async def test_a_child_that_is_stopped_while_it_waits_for_a_place_starts_all_the_same(sim_cluster):
    (host,) = await sim_cluster.add_hosts(1)
    async with fray.Supervisor([fray.ChildSpec("a", Counter)]) as supervisor:
        child = supervisor["a"]
        sim_cluster.stop(sim_cluster.agent_of(host))  # as when it is preempted
        await asyncio.sleep(30)
        async with asyncio.timeout(10):
            await child.kill()  # there is nothing to kill at present
        sim_cluster.restart(host)
        async with asyncio.timeout(60):
            assert await child.add.remote(1) == 1


async def test_a_child_that_is_terminated_while_it_waits_for_a_place_can_be_started_again(
    sim_cluster,
):
    (host,) = await sim_cluster.add_hosts(1)
    async with fray.Supervisor([fray.ChildSpec("a", Counter)]) as supervisor:
        child = supervisor["a"]
        sim_cluster.stop(sim_cluster.agent_of(host))
        await asyncio.sleep(30)
        async with asyncio.timeout(60):
            await supervisor.terminate_child("a")
            starting = asyncio.ensure_future(supervisor.restart_child("a"))
            await asyncio.sleep(5)
            sim_cluster.restart(host)
            await starting
            assert await child.add.remote(1) == 1


async def test_a_look_up_by_name_of_a_child_that_is_down_says_so_and_waits_no_longer(sim_cluster):
    await sim_cluster.add_hosts(1)
    async with fray.Supervisor([fray.ChildSpec("a", Counter.options(name="a"))]) as supervisor:
        await supervisor.terminate_child("a")
        async with asyncio.timeout(20):
            with pytest.raises(ActorDied, match="terminate"):
                await sim_cluster.resolver.lookup_async("a")
        await supervisor.restart_child("a")
        found = await sim_cluster.resolver.lookup_async("a")
        assert await found.add.remote(1) == 1


async def test_a_start_that_is_taken_back_at_whatever_moment_leaves_nothing(sim_cluster):
    [host] = await sim_cluster.add_hosts(1)
    sim_cluster.controller_host.disk.sync_delay_s = (0.01, 0.01)
    async with fray.Supervisor() as supervisor:
        for number in range(60):
            spec = fray.ChildSpec(f"child-{number}", Counter)
            adding = asyncio.ensure_future(supervisor.start_child(spec))
            await asyncio.sleep(number * 0.0005)
            if not adding.cancel():  # it was faster
                await supervisor.delete_child(spec.name)
            await asyncio.wait([adding])
        await asyncio.sleep(20)
        assert list(host.processes) == [sim_cluster.agent_of(host).name]


async def test_callers_are_told_of_a_supervisor_that_ended_while_the_controller_was_away(
    sim_cluster,
):
    (host,) = await sim_cluster.add_hosts(1)
    async with fray.Supervisor([fray.ChildSpec("a", Counter)]) as supervisor:
        child = supervisor["a"]
        assert await child.add.remote(1) == 1
        sim_cluster.stop(sim_cluster.agent_of(host))
        await asyncio.sleep(30)  # now it waits for a place
        sim_cluster.freeze("controller/controller")
    await asyncio.sleep(20)  # whoever has left it waits for nothing any longer
    sim_cluster.thaw("controller/controller")
    async with asyncio.timeout(60):
        with pytest.raises(ActorDied, match="supervisor was stopped"):
            await child.add.remote(1)


async def test_a_child_that_is_added_to_a_gang_that_waits_for_room_starts_after_it(sim_cluster):
    (host,) = await sim_cluster.add_hosts(1)
    specs = [fray.ChildSpec(name, Counter) for name in "ab"]
    async with fray.Supervisor(specs, strategy="gang") as gang:
        sim_cluster.stop(sim_cluster.agent_of(host))
        await asyncio.sleep(30)  # now both wait for a place
        adding = asyncio.ensure_future(gang.start_child(fray.ChildSpec("c", Counter)))
        await asyncio.sleep(5)
        sim_cluster.restart(host)
        async with asyncio.timeout(60):
            await adding
            assert [await gang[name].add.remote(1) for name in "abc"] == [1, 1, 1]
