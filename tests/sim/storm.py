"""A storm: actors that are called without end while everything around them fails.

Also a program that prints the whole trace of some: ``python -c 'from tests.sim import storm;
storm.main()'``. (With ``-m`` its actors would be pickled with the path of this file.)
"""

from __future__ import annotations

import asyncio
import logging
import random
import sys
from collections import Counter as Tally
from typing import TYPE_CHECKING, Any

import fray
from fray.errors import FrayError
from fray.testing import SimCluster, Simulation

if TYPE_CHECKING:
    from fray.testing import SimHost

CALL_S_MAX = 600.0
"""Longer than any call may take, whatever fails: hosts are given up long before."""


@fray.actor
class Worker:
    def __init__(self) -> None:
        self.count = 0

    async def add(self) -> int:
        self.count += 1
        return self.count

    def add_plainly(self) -> int:
        self.count += 1
        return self.count

    async def add_slowly(self) -> int:
        await asyncio.sleep(3)
        self.count += 1
        return self.count


class Storm:
    """Faults of all kinds at random moments, from the simulation's seed."""

    def __init__(self, cluster: SimCluster) -> None:
        self.cluster = cluster
        self.sim = cluster.sim
        self.dice = random.Random(f"{cluster.seed}/storm")
        self.outcomes: Tally[str] = Tally()
        self.over = asyncio.Event()

    async def call(self, actor: Any) -> None:
        while not self.over.is_set():
            method = self.dice.choice(["add", "add_plainly", "add_slowly"])
            try:
                async with asyncio.timeout(CALL_S_MAX):
                    await getattr(actor, method).remote()
                self.outcomes["ok"] += 1
            except FrayError as exc:
                self.outcomes[type(exc).__name__] += 1
            await asyncio.sleep(self.dice.uniform(0, 10))

    async def rage(self, count: int) -> None:
        faults = [
            self.kill_a_task,
            self.crash_a_host,
            self.crash_an_agent,
            self.cut_a_host_off,
            self.slow_a_host_down,
            self.crash_the_controller,
            self.freeze_an_agent,
        ]
        for _ in range(count):
            await asyncio.sleep(self.dice.uniform(0, 60))
            fault = self.dice.choice(faults)
            self.sim.note(f"storm: {fault.__name__}")
            fault(self.dice.choice(self.cluster.hosts))

    def later(self, within_s: float, act: Any, *args: Any) -> None:
        self.sim.loop.call_later(self.dice.uniform(0, within_s), act, *args)

    def kill_a_task(self, host: SimHost) -> None:
        tasks = [name for name in host.processes if not name.endswith("/agent")]
        if tasks:
            self.cluster.crash(self.dice.choice(tasks))

    def crash_a_host(self, host: SimHost) -> None:
        if host.up:
            self.cluster.crash(host)
            self.later(150, self.cluster.restart, host)

    def crash_an_agent(self, host: SimHost) -> None:
        def again(boots: int) -> None:
            if host.up and host.boots == boots:
                self.cluster.restart(agent)

        if f"{host}/agent" in host.processes:
            agent = self.cluster.agent_of(host)
            self.cluster.crash(agent)
            self.later(120, again, host.boots)

    def cut_a_host_off(self, host: SimHost) -> None:
        others = self.dice.choice(["controller", None])
        fault = self.cluster.partition(host, others, one_way=self.dice.random() < 0.3)
        self.later(150, fault.remove)

    def slow_a_host_down(self, host: SimHost) -> None:
        self.later(150, self.sim.delay(host, None, 0.0, 8.0).remove)

    def crash_the_controller(self, _: SimHost) -> None:
        if not self.cluster.controller_host.up or self.dice.random() < 0.5:
            self.cluster.crash(self.cluster.controller_host)
        else:
            self.cluster.crash_controller()
        self.later(20, self.cluster.restart_controller)

    def freeze_an_agent(self, host: SimHost) -> None:
        if f"{host}/agent" in host.processes:
            agent = self.cluster.agent_of(host)
            self.cluster.freeze(agent)
            self.later(150, self.cluster.thaw, agent)


async def survive(sim: Simulation, *, hosts: int = 2, actors: int = 2, faults: int = 4) -> str:
    """Lives through a storm, and finds everybody well in the end. Gives the digest."""
    async with SimCluster(sim) as cluster:
        await cluster.add_hosts(hosts, cpus=8)
        made = [
            Worker.options(name=f"worker-{number}", max_restarts=-1).remote()
            for number in range(actors)
        ]
        for actor in made:
            await actor
        storm = Storm(cluster)
        async with asyncio.TaskGroup() as group:
            for actor in made:
                group.create_task(storm.call(actor))
            await storm.rage(faults)
            await asyncio.sleep(200)  # all is healed, and what had to be given up was
            storm.over.set()
        for actor in made:
            await actor.add.remote()
            assert len(cluster.processes_of(actor)) == 1
        assert storm.outcomes["ok"] > 10, storm.outcomes
        return sim.digest


def run(seed: int) -> str:
    with Simulation(seed) as sim:
        sim.run(survive(sim))
        sim.check()
        return f"{sim.trace}\n{sim.loop.steps} {sim.digest}\n"


def main() -> None:
    logging.disable()
    for chosen in (1, 2, 3):
        sys.stdout.write(run(chosen))
