"""Short stories in which one safeguard matters. Told as tests, and to `tests.sim.mutations`."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

import fray
from fray.actor.resolver import fray_resolver
from fray.actor.server import FrayActorServer
from fray.errors import (
    ActorNotFoundError,
    ActorUnavailable,
    DeathCause,
    DeathKind,
    FrayError,
    MailboxFull,
    Started,
)
from fray.runtime.calls import STREAM_ITEMS_WINDOW
from fray.runtime.children import ChildSpec, TaskChild
from fray.runtime.supervisor import Supervisor
from tests.sim.actors import Counter
from tests.sim.callers import call, running

if TYPE_CHECKING:
    from fray.testing import SimCluster, Simulation


@fray.actor(mailbox_calls_max=5)
class Narrow:
    async def rest(self, delay_s: float) -> None:
        await asyncio.sleep(delay_s)


@fray.actor
class Tap:
    def __init__(self) -> None:
        self.given = 0

    async def flow(self):
        while True:
            await asyncio.sleep(1e-3)
            self.given += 1
            yield self.given

    @fray.method(concurrent=True)
    async def meter(self) -> int:
        return self.given


async def a_full_mailbox_says_so(sim_cluster: SimCluster) -> None:
    await sim_cluster.add_hosts(1)
    narrow = await Narrow.remote()
    calls = [narrow.rest.remote(10) for _ in range(10)]
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [type(None)] * 6 + [MailboxFull] * 4


async def a_stream_is_never_far_ahead_of_its_reader(sim_cluster: SimCluster) -> None:
    await sim_cluster.add_hosts(1)
    tap = await Tap.remote()
    items = aiter(tap.flow.remote())
    assert await anext(items) == 1
    await asyncio.sleep(2)
    assert await tap.meter.remote() <= STREAM_ITEMS_WINDOW + 1
    del items


async def a_waiting_call_that_is_cancelled_never_runs(sim_cluster: SimCluster) -> None:
    await sim_cluster.add_hosts(1)
    counter = await Counter.remote()
    busy = counter.sleep.remote(10)
    waiting = counter.add.remote(1)
    await asyncio.sleep(1)
    waiting.cancel()
    await busy
    assert await counter.plain.remote() == 0


async def calls_made_before_the_actor_is_there_run_in_order(sim_cluster: SimCluster) -> None:
    counter = Counter.remote()
    calls = [counter.add.remote(1) for _ in range(10)]
    await sim_cluster.add_hosts(1)
    assert await asyncio.gather(*calls) == list(range(1, 11))


async def a_name_that_a_server_has_is_not_given_to_another(sim_cluster: SimCluster) -> None:
    await sim_cluster.add_hosts(1)
    server = FrayActorServer(fray_resolver())
    await server.register_async("name", Counter(7))
    try:
        with pytest.raises(FrayError, match="belongs to"):
            await Counter.options(name="name").remote(1)
        found = await sim_cluster.resolver.lookup_async("name")
        assert await found.plain.remote() == 7
    finally:
        await server.shutdown_async()


async def a_name_ends_with_the_lease_of_a_host_that_was_lost(sim_cluster: SimCluster) -> None:
    await sim_cluster.add_hosts(1)

    async def main(cluster) -> None:
        await FrayActorServer(cluster.resolver).register_async("name", Counter(5))
        await asyncio.Event().wait()

    driver = sim_cluster.start_driver(main)
    await asyncio.sleep(1)
    found = await sim_cluster.resolver.lookup_async("name")
    assert await found.plain.remote() == 5
    sim_cluster.crash(driver.host)
    await asyncio.sleep(200)
    with pytest.raises(ActorNotFoundError):
        await sim_cluster.resolver.lookup_async("name")


async def what_was_accepted_survives_the_controllers_power(sim_cluster: SimCluster) -> None:
    await sim_cluster.add_hosts(1)
    host = sim_cluster.controller_host
    host.disk.sync_delay_s = (1.0, 1.0)
    counter = Counter.options(name="counter").remote()
    await sim_cluster.system.created(counter.key)  # accepted: it will be made
    sim_cluster.crash(host)
    await asyncio.sleep(20)
    host.disk.sync_delay_s = (1e-3, 1e-3)
    sim_cluster.restart_controller()
    assert await counter.add.remote(1) == 1


async def a_call_to_a_past_incarnation_is_refused(sim: Simulation) -> None:
    class Number:
        def get(self) -> int:
            return 1

    async def program(process) -> None:
        async with running(process, 7000) as made:
            first = made.host("actor/1", label="actor")
            await first.start(Number)
            first.kill(DeathCause(DeathKind.STOPPED, "it has a successor"))
            await made.host("actor/2", label="actor").start(Number)
            await asyncio.Event().wait()

    sim.process("a", program)
    await asyncio.sleep(1)
    async with running(sim.driver) as me:
        assert await call(me, "a:7000", "actor/2", "get") == 1
        outcome = await call(me, "a:7000", "actor/1", "get")
    assert isinstance(outcome, ActorUnavailable)
    assert outcome.started is Started.NO


async def children_stop_in_the_reverse_of_their_order(sim: Simulation) -> None:
    stopped: list[str] = []

    def child(name: str) -> ChildSpec:
        async def run() -> None:
            try:
                await asyncio.Event().wait()
            finally:
                stopped.append(name)

        async def start() -> TaskChild:
            return TaskChild(run, name=name)

        return ChildSpec(name, start)

    root = Supervisor("root", [child(name) for name in "abc"], clock=sim.clock)
    await root.start()
    await asyncio.sleep(1)
    await root.stop(DeathCause(DeathKind.STOPPED, "enough"))
    assert stopped == ["c", "b", "a"]


async def a_name_ends_with_the_process_that_had_it(sim_cluster: SimCluster) -> None:
    await sim_cluster.add_hosts(1)
    counter = await Counter.options(name="name").remote()
    sim_cluster.crash(sim_cluster.process_of(counter))
    await asyncio.sleep(5)
    with pytest.raises(ActorNotFoundError):
        await sim_cluster.resolver.lookup_async("name")


IN_A_CLUSTER = [
    a_name_ends_with_the_process_that_had_it,
    a_full_mailbox_says_so,
    a_stream_is_never_far_ahead_of_its_reader,
    a_waiting_call_that_is_cancelled_never_runs,
    calls_made_before_the_actor_is_there_run_in_order,
    a_name_that_a_server_has_is_not_given_to_another,
    a_name_ends_with_the_lease_of_a_host_that_was_lost,
    what_was_accepted_survives_the_controllers_power,
]
BARE = [
    a_call_to_a_past_incarnation_is_refused,
    children_stop_in_the_reverse_of_their_order,
]
