"""Calls that wait, through others, for their own caller are told so; no others are."""

from __future__ import annotations

import asyncio

import pytest

import fray
from fray.errors import CallCycle, Started
from fray.testing import SimCluster, simulate

MANY, SOME = range(20), range(4)
"""Seeds: where several things race, and where little does."""


@fray.actor
class Node:
    """Calls others, and is called by them."""

    def __init__(self) -> None:
        self.ran: list[str] = []
        self.others: list = []

    async def meet(self, *others) -> None:
        self.others = list(others)

    async def note(self, what: str) -> str:
        self.ran.append(what)
        return what

    async def call_on(self, depth: int) -> str:
        """Calls the next one, that one its next one, ``depth`` times."""
        if depth == 0:
            return await self.note("reached")
        return await self.others[0].call_on.remote(depth - 1)

    async def call_soon(self, delay_s: float) -> str:
        await asyncio.sleep(delay_s)
        return await self.others[0].note.remote("called")

    async def log(self) -> list[str]:
        return self.ran

    async def items(self):
        yield "item"

    @fray.method(concurrent=True)
    async def health(self) -> str:
        return "well"


@fray.actor(reentrant=True)
class Reentrant(Node):
    pass


def on_hosts(scenario, *classes, seeds=SOME):
    """Runs a scenario with actors on hosts of their own that know each other in a ring."""

    async def main(sim):
        async with SimCluster(sim) as cluster:
            await cluster.add_hosts(len(classes), cpus=1)
            nodes = [await cls.remote() for cls in classes]
            assert len({cluster.host_of(node).name for node in nodes}) == len(classes)
            for number, node in enumerate(nodes):
                await node.meet.remote(*nodes[number + 1 :], *nodes[:number], node)
            async with asyncio.timeout(60):
                await scenario(cluster, *nodes)

    for seed in seeds:
        simulate(seed, main)


def test_an_actor_that_is_called_back_while_it_waits_raises_the_cycle_where_it_is_closed():
    async def scenario(cluster, a, b):
        with pytest.raises(
            CallCycle, match=r"(?s)Node\.call_on awaits .*Node\.call_on awaits"
        ) as told:
            await a.call_on.remote(2)
        assert told.value.started is Started.UNKNOWN  # raised by a method, which a has run
        assert await asyncio.gather(a.log.remote(), b.log.remote()) == [[], []]

    on_hosts(scenario, Node, Node)


def test_a_cycle_of_three_hosts_is_found_within_seconds():
    async def scenario(cluster, a, b, c):
        began = cluster.now
        with pytest.raises(CallCycle):
            await a.call_on.remote(3)
        assert 1 <= cluster.now - began < 3
        assert await a.note.remote("on") == await c.note.remote("on") == "on"

    on_hosts(scenario, Node, Node, Node, seeds=MANY)


def test_of_two_calls_that_cross_one_is_taken_out_and_the_other_goes_on():
    async def scenario(cluster, a, b):
        calls = [a.call_soon.remote(0.2), b.call_soon.remote(0.2)]
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        cycles = [each for each in outcomes if isinstance(each, CallCycle)]
        assert len(cycles) == 1, outcomes
        assert outcomes.count("called") == 1
        ran = await asyncio.gather(a.log.remote(), b.log.remote())
        assert sorted(ran) == [[], ["called"]]  # what was taken out has not run, and does not later

    on_hosts(scenario, Node, Node, seeds=MANY)


def test_of_three_calls_that_cross_in_a_ring_one_is_taken_out():
    async def scenario(cluster, a, b, c):
        calls = [node.call_soon.remote(0.2) for node in (a, b, c)]
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        assert sum(isinstance(each, CallCycle) for each in outcomes) == 1, outcomes
        assert outcomes.count("called") == 2

    on_hosts(scenario, Node, Node, Node, seeds=MANY)


def test_an_actor_that_awaits_itself_is_told():
    class Selfish(Node):
        async def call(self, how: str):
            me = self.others[-1]
            if how == "wait_for":
                return await asyncio.wait_for(me.note.remote("x"), 50)
            if how == "gather":
                return await asyncio.gather(me.health.remote(), me.note.remote("x"))
            if how == "group":
                async with asyncio.TaskGroup() as group:
                    group.create_task(self.call("await"))
                return None
            if how == "stream":
                return [item async for item in me.items.remote()]
            if how == "shield":
                return await asyncio.shield(me.note.remote("x"))
            return await me.note.remote("x")

    async def scenario(cluster, a):
        for how in ("await", "wait_for", "gather", "stream", "shield"):
            with pytest.raises(CallCycle, match=r"Selfish\.call awaits Selfish"):
                await a.call.remote(how)
        with pytest.raises(ExceptionGroup) as told:
            await a.call.remote("group")
        assert isinstance(told.value.exceptions[0], CallCycle)
        assert await a.log.remote() == []

    on_hosts(scenario, fray.actor(Selfish))


def test_a_reentrant_actor_runs_what_is_called_from_inside_beside_the_call_that_waits():
    async def scenario(cluster, a, b):
        began = cluster.now
        assert await a.call_on.remote(4) == "reached"
        assert cluster.now - began < 0.5  # at once, not after somebody has looked

    on_hosts(scenario, Reentrant, Reentrant)


def test_a_reentrant_actor_keeps_other_callers_out_while_it_waits():
    async def scenario(cluster, a, b):
        inside = a.call_soon.remote(1)
        outside = a.note.remote("outside")
        await asyncio.sleep(0.5)
        assert not outside.done()
        assert await inside == "called"
        assert await outside == "outside"

    on_hosts(scenario, Reentrant, Node)


def test_calls_that_cross_at_a_reentrant_actor_both_go_on():
    async def scenario(cluster, a, b):
        calls = [a.call_soon.remote(0.2), b.call_soon.remote(0.2)]
        assert await asyncio.gather(*calls) == ["called", "called"]

    on_hosts(scenario, Reentrant, Node)


# Nobody is accused who will go on ---------------------------------------------------------------


def test_a_call_back_that_nobody_awaits_runs_when_the_actor_is_free():
    class Polite(Node):
        async def call_back(self, caller, how: str) -> str:
            if how == "not at all":
                caller.note.remote("later").add_done_callback(lambda future: future.exception())
                await asyncio.sleep(5)
            elif how == "in a task":
                self.task = asyncio.create_task(self._tell(caller))
                await asyncio.sleep(5)
            elif how == "until the first":
                tasks = [
                    asyncio.create_task(self._tell(caller)),
                    asyncio.create_task(asyncio.sleep(5)),
                ]
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            return "done"

        async def _tell(self, caller):
            return await caller.note.remote("later")

        async def call(self, how: str) -> str:
            return await self.others[0].call_back.remote(self.others[-1], how)

    async def scenario(cluster, a, b):
        for number, how in enumerate(("not at all", "in a task", "until the first"), 1):
            assert await a.call.remote(how) == "done"
            assert await a.log.remote() == ["later"] * number

    polite = fray.actor(Polite)
    on_hosts(scenario, polite, polite)


def test_a_diamond_of_calls_is_no_cycle():
    class Busy(Node):
        async def top(self) -> list[str]:
            return await asyncio.gather(*[node.side.remote() for node in self.others[:2]])

        async def side(self) -> str:
            [bottom] = [node for node in self.others if node == self.others[self.where]]
            return await bottom.slow.remote()

        async def place(self, where: int) -> None:
            self.where = where

        async def slow(self) -> str:
            await asyncio.sleep(5)
            return "slept"

    async def scenario(cluster, top, left, right, bottom):
        await left.place.remote(1)  # after itself come right and bottom
        await right.place.remote(0)
        assert await top.top.remote() == ["slept", "slept"]  # the second waits for its turn

    on_hosts(scenario, *[fray.actor(Busy)] * 4, seeds=MANY)


def test_a_call_back_to_a_concurrent_method_or_a_free_place_is_no_cycle():
    class Open(Node):
        async def call(self, method: str) -> str:
            return await self.others[0].ask.remote(self.others[-1], method)

        async def ask(self, caller, method: str) -> str:
            await asyncio.sleep(3)
            if method == "health":
                return await caller.health.remote()
            return await caller.note.remote("here")

    async def scenario(cluster, a, b):
        assert await a.call.remote("health") == "well"
        assert await b.call.remote("note") == "here"

    on_hosts(scenario, fray.actor(Open), Open.options(max_concurrency=2))


def test_a_wait_that_is_given_up_leaves_no_cycle_behind():
    async def scenario(cluster, a, b):
        calls = [a.call_soon.remote(0.2), b.call_soon.options(timeout=0.9).remote(0.2)]
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        assert outcomes[0] == "called"
        assert isinstance(outcomes[1], TimeoutError)

    on_hosts(scenario, Node, Node)


def test_an_actor_with_several_places_is_not_held_up_by_one_of_its_calls():
    class Busy(Node):
        async def ask(self, delay_s: float) -> str:
            await asyncio.sleep(delay_s)
            return await self.others[0].note.remote("asked")

        async def nap(self, delay_s: float) -> str:
            await asyncio.sleep(delay_s)
            return "slept"

    async def scenario(cluster, a, b):
        calls = [a.ask.remote(0.2), b.ask.remote(0.2), b.nap.remote(5)]
        assert await asyncio.gather(*calls) == ["asked", "asked", "slept"]

    on_hosts(scenario, fray.actor(Busy), Busy.options(max_concurrency=2))


def test_what_was_true_only_at_different_moments_is_no_cycle():
    """The second gives up while the question is on its way to the third, which then awaits."""

    class Slow(Node):
        async def call(self, before_s: float, timeout: float | None = None, after_s: float = 0):
            await asyncio.sleep(before_s)
            try:
                return await self.others[0].note.options(timeout=timeout).remote("called")
            except fray.DeadlineExceeded:
                await asyncio.sleep(after_s)
                return "gave up"

    async def scenario(cluster, a, b, c):
        hosts = [cluster.host_of(node).name for node in (a, b, c)]
        for node in (a, b, c):
            assert await node.call.remote(0) == "called"  # their links are open
        cluster.sim.delay(hosts[1], hosts[2], 3.0, 3.0)
        calls = [c.call.remote(4), b.call.remote(0.2, 2.5, 5), a.call.remote(0.2)]
        assert await asyncio.gather(*calls) == ["called", "gave up", "called"]

    slow = fray.actor(Slow)
    on_hosts(scenario, slow, slow, slow, seeds=MANY)
