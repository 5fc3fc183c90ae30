"""A supervisor's gang on several hosts: all have places or nobody runs, each time it starts."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import fray
from fray.errors import SupervisorFailed
from tests.sim.actors import Counter

SEEDS = pytest.mark.parametrize("sim_seed", range(4), indirect=True, ids="seed{}".format)

ONE_CPU = Counter.options(num_cpus=1)


def members(names: str, **options: Any) -> list[fray.ChildSpec]:
    return [fray.ChildSpec(name, ONE_CPU, **options) for name in names]


def running(sim_cluster: Any) -> list[str]:
    """The processes of all jobs."""
    return [
        name for host in sim_cluster.hosts for name in host.processes if not name.endswith("/agent")
    ]


@SEEDS
async def test_a_gang_waits_for_room_for_all_and_holds_nothing_meanwhile(sim_cluster):
    await sim_cluster.add_hosts(2, cpus=1)
    gang = fray.Supervisor(members("abc"), strategy="gang")
    starting = asyncio.ensure_future(gang.start())
    await asyncio.sleep(100)
    assert running(sim_cluster) == []
    others = [await ONE_CPU.remote() for _ in range(2)]  # so the room is there for others
    await sim_cluster.add_hosts(1, cpus=1)
    for other in others:
        await other.kill()
    await starting
    assert [await gang[name].add.remote(1) for name in "abc"] == [1, 1, 1]
    await gang.stop()


@SEEDS
async def test_a_gang_that_has_lost_a_host_runs_again_when_there_is_room_for_all(sim_cluster):
    await sim_cluster.add_hosts(3, cpus=1)
    async with fray.Supervisor(members("abc"), strategy="gang", intensity=0) as gang:
        lost = sim_cluster.host_of(gang["b"])
        ended = fray.monitor(gang["c"])
        sim_cluster.crash(lost)
        await ended
        await asyncio.sleep(100)
        assert running(sim_cluster) == []
        sim_cluster.restart(lost)
        assert [await gang[name].add.remote(1) for name in "abc"] == [1, 1, 1]


@SEEDS
@pytest.mark.parametrize("strategy", ["gang", "one_for_all"])
async def test_the_next_life_waits_for_a_sibling_that_cannot_be_reached(sim_cluster, strategy):
    await sim_cluster.add_hosts(4, cpus=1)
    async with fray.Supervisor(members("abc", shutdown_s=1), strategy=strategy) as gang:
        cut_off = sim_cluster.process_of(gang["c"])
        with sim_cluster.partition(cut_off.host, "controller"):
            ended = fray.monitor(gang["a"])
            sim_cluster.crash(sim_cluster.process_of(gang["b"]))
            await ended
            while cut_off.exit is None:  # it does not know, and goes on until its lease is over
                assert not sim_cluster.processes_of(gang["a"])
                assert not sim_cluster.processes_of(gang["b"])
                await asyncio.sleep(1)
            assert [await gang[name].add.remote(1) for name in "abc"] == [1, 1, 1]


async def test_a_child_that_is_added_to_a_gang_later_belongs_to_its_next_life(sim_cluster):
    await sim_cluster.add_hosts(3, cpus=1)
    async with fray.Supervisor(members("ab"), strategy="gang", intensity=2) as gang:
        await gang.start_child(members("c")[0])
        with fray.monitor(gang["c"]) as ended:
            sim_cluster.crash(sim_cluster.process_of(gang["a"]))
            await ended
        assert [await gang[name].add.remote(1) for name in "abc"] == [1, 1, 1]
        await gang.delete_child("b")
        with fray.monitor(gang["c"]) as ended:
            sim_cluster.crash(sim_cluster.process_of(gang["a"]))
            await ended
        assert [await gang[name].add.remote(1) for name in "ac"] == [1, 1]


async def test_the_others_of_a_gang_do_not_wait_for_one_that_is_removed_as_it_starts(sim_cluster):
    await sim_cluster.add_hosts(2, cpus=1)
    gang = fray.Supervisor(members("ab"), strategy="gang", max_preemptions=5)
    async with gang:
        sim_cluster.partition(sim_cluster.host_of(gang["b"]), "controller")
        ended = fray.monitor(gang["a"])
        sim_cluster.crash(sim_cluster.process_of(gang["a"]))
        await ended
        await asyncio.sleep(20)
        assert [each.state for each in await gang.which_children()] == ["starting"] * 2
        await gang.delete_child("b")
        async with asyncio.timeout(20):
            assert await gang["a"].add.remote(1) == 1
        sim_cluster.heal()


async def test_a_member_that_no_host_could_ever_run_fails_its_gang(sim_cluster):
    await sim_cluster.add_hosts(2, cpus=1)
    specs = [*members("a"), fray.ChildSpec("big", Counter.options(num_cpus=64))]
    with pytest.raises(SupervisorFailed) as told:
        async with fray.Supervisor(specs, strategy="gang", intensity=1):
            pytest.fail("it was entered")
    assert "64" in str(told.value)
    assert running(sim_cluster) == []


async def test_a_gang_that_waits_for_room_can_be_given_up(sim_cluster):
    await sim_cluster.add_hosts(1, cpus=1)
    gang = fray.Supervisor(members("ab"), strategy="gang")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(50):
            await gang.start()
    await sim_cluster.add_hosts(2, cpus=1)
    await asyncio.sleep(50)
    assert running(sim_cluster) == []
    assert sim_cluster.leaks() == []
