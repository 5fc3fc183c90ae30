"""A supervisor's gang that takes a whole TPU slice: one actor on each of its hosts."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import pytest

import fray
from fray.cluster import Entrypoint, JobRequest, ReservationConfig, ResourceConfig
from fray.errors import InvalidRequestError, SupervisorFailed
from tests.sim.actors import Counter

TYPE = "v4-16"  # two hosts


def members(number: int = 0, hosts: Any = range(2), **options: Any) -> list[fray.ChildSpec]:
    actors = [Counter.options(tpu=TYPE, slice_host=host, **options) for host in hosts]
    return [fray.ChildSpec(f"{number}-{host}", actor) for host, actor in enumerate(actors)]


@fray.actor
class Host:
    async def environment(self) -> tuple[str, str]:
        return os.environ["TPU_WORKER_ID"], os.environ["TPU_WORKER_HOSTNAMES"]


def places(sim_cluster: Any, gang: fray.Supervisor, number: int = 0) -> list[str]:
    return [sim_cluster.host_of(gang[f"{number}-{host}"]).name for host in range(2)]


async def test_a_gang_takes_all_hosts_of_one_slice_in_their_order(sim_cluster):
    await sim_cluster.add_hosts(2, slice=TYPE)
    specs = members(0) + members(1)
    async with fray.Supervisor(specs, strategy="gang") as gang:
        found = [places(sim_cluster, gang, number) for number in range(2)]
    assert sorted(found) == [["host-1", "host-2"], ["host-3", "host-4"]]


async def test_an_actor_on_a_slice_finds_in_its_environment_what_jax_needs(sim_cluster):
    await sim_cluster.add_hosts(2, slice=TYPE)
    specs = [
        fray.ChildSpec(f"host-{i}", Host.options(tpu=TYPE, slice_host=i % 2)) for i in range(4)
    ]
    async with fray.Supervisor(specs, strategy="gang") as gang:
        found = [await gang[f"host-{i}"].environment.remote() for i in range(4)]
    assert [worker for worker, _ in found] == ["0", "1", "0", "1"]
    assert [len(hosts.split(",")) for _, hosts in found] == [2] * 4
    assert found[0][1] == found[1][1] != found[2][1] == found[3][1]


async def test_a_gang_waits_for_a_slice_that_is_whole_and_free(sim_cluster):
    await sim_cluster.add_hosts(1, slice=TYPE)
    async with fray.Supervisor(members(), strategy="gang"):
        second = fray.Supervisor(members(1), strategy="gang")
        starting = asyncio.ensure_future(second.start())
        await asyncio.sleep(50)
        assert not starting.done()
        await sim_cluster.add_hosts(1, slice=TYPE)
        await starting
        assert places(sim_cluster, second, 1) == ["host-3", "host-4"]
        await second.stop()


async def test_a_gang_that_loses_one_host_moves_to_another_slice(sim_cluster):
    await sim_cluster.add_hosts(2, slice=TYPE)
    async with fray.Supervisor(members(), strategy="gang") as gang:
        before = places(sim_cluster, gang)
        sim_cluster.crash(sim_cluster.host_of(gang["0-1"]))
        with fray.monitor(gang["0-0"]) as ended:
            await ended
        assert await gang["0-0"].add.remote(1) == 1
        assert await gang["0-1"].add.remote(1) == 1
        assert not set(places(sim_cluster, gang)) & set(before)


async def test_slices_of_gangs_count_as_replicas_of_their_reservation(sim_cluster):
    await sim_cluster.add_hosts(3, slice=TYPE)
    client = sim_cluster.cluster
    least, most = (ResourceConfig.with_tpu(TYPE, slice_count=count) for count in (1, 8))
    reservation = await client.create_reservation(ReservationConfig(least, most))
    async with (
        fray.Supervisor(members(0), strategy="gang"),
        fray.Supervisor(members(1), strategy="gang"),
    ):
        info = await client.get_reservation(reservation)
        assert info.allocated_resources.replicas == 3  # one more would be there at once
        request = JobRequest(
            "rest",
            Entrypoint.from_callable(asyncio.sleep, args=(1000,)),
            resources=ResourceConfig.with_tpu(TYPE),
            priority="high",
            reservation_id=reservation,
        )
        await client.launch(request)
        await asyncio.sleep(5)
        info = await client.get_reservation(reservation)
        assert info.allocated_resources.replicas == 3


@pytest.mark.parametrize(
    ("specs", "told"),
    [
        (members(hosts=[0]), "hosts 0 to 1"),
        (members(hosts=[1, 0]), "hosts 0 to 1"),
        (members(hosts=[0, 0]), "hosts 0 to 1"),
        ([*members(hosts=[0]), *members(1, hosts=[1], num_cpus=3)], "need the same"),
    ],
)
async def test_a_gang_that_is_no_whole_slice_is_refused(sim_cluster, specs, told):
    await sim_cluster.add_hosts(1, slice=TYPE)
    with pytest.raises(SupervisorFailed, match=told):
        async with fray.Supervisor(specs, strategy="gang", intensity=0):
            pytest.fail("it started")


async def test_a_host_of_a_slice_is_refused_to_an_actor_without_a_gang(sim_cluster):
    await sim_cluster.add_hosts(1, slice=TYPE)
    with pytest.raises(InvalidRequestError, match="only a child of a supervisor"):
        await Counter.options(tpu=TYPE, slice_host=1).remote()


def test_a_host_that_a_slice_does_not_have_is_refused_where_it_is_written():
    with pytest.raises(InvalidRequestError, match="has 2 hosts"):
        Counter.options(tpu=TYPE, slice_host=2)
    with pytest.raises(InvalidRequestError, match="needs a tpu"):
        Counter.options(slice_host=0)
    with pytest.raises(ValueError, match="at least 0"):
        Counter.options(tpu=TYPE, slice_host=-1)


async def test_a_slice_of_a_type_that_is_not_here_is_refused_at_once(sim_cluster):
    await sim_cluster.add_hosts(1, slice=TYPE)
    actors = [Counter.options(tpu="v4-32", slice_host=host) for host in range(4)]
    specs = [fray.ChildSpec(f"m{host}", actor) for host, actor in enumerate(actors)]
    with pytest.raises(SupervisorFailed, match="v4-32"):
        async with fray.Supervisor(specs, strategy="gang", intensity=0):
            pytest.fail("it started")
