"""A tree of supervisors in a storm: whatever fails, in the end all its actors run, each once."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

import fray
from fray.errors import CallError, FrayError
from fray.testing import SimCluster, Simulation, simulate

CALM_S = 400.0
"""After the last fault: hosts are given up, come back, and the delays of restarts pass."""


@fray.actor(num_cpus=0.5)
class Part:
    async def ping(self) -> str:
        return "pong"


def parts(names: str) -> list[fray.ChildSpec]:
    return [fray.ChildSpec(n, Part.options(name=n), shutdown_s=2) for n in names]


def tree() -> tuple[fray.Supervisor, dict[str, fray.Supervisor]]:
    policy: dict[str, Any] = {"intensity": -1, "max_preemptions": -1, "backoff_max_s": 5.0}
    all_for_one = fray.Supervisor(parts("cd"), name="all", strategy="one_for_all", **policy)
    # Gives up at its first failure, and is started again by its parent.
    brittle = fray.Supervisor(parts("ef"), name="brittle", strategy="rest_for_one", intensity=0)
    gang = fray.Supervisor(parts("gh"), name="gang", strategy="gang", **policy)
    inner = {"all": all_for_one, "brittle": brittle, "gang": gang}
    specs = [*parts("ab"), *(fray.ChildSpec(name, each) for name, each in inner.items())]
    return fray.Supervisor(specs, name="root", **policy), inner


class Storm:
    def __init__(self, cluster: SimCluster, handles: list[Any]) -> None:
        self.cluster = cluster
        self.handles = handles
        self.dice = random.Random(f"{cluster.seed}/supervision")
        self.answered = 0

    async def rage(self, count: int) -> None:
        faults = [
            self.kill_a_part,
            self.kill_a_part,
            self.crash_a_host,
            self.cut_a_host_off,
            self.suspend_a_host,
            self.take_a_host_back,
            self.crash_the_controller,
        ]
        for _ in range(count):
            await asyncio.sleep(self.dice.uniform(0, 40))
            fault = self.dice.choice(faults)
            self.cluster.sim.note(f"storm: {fault.__name__}")
            fault(self.dice.choice(self.cluster.hosts))
        await asyncio.sleep(150)
        self.cluster.heal()
        for host in self.cluster.hosts:
            if not host.up:
                self.cluster.restart(host)

    def later(self, delay_s: float, act: Any, *args: Any) -> None:
        self.cluster.sim.loop.call_later(delay_s, act, *args)

    def kill_a_part(self, _: Any) -> None:
        found = self.cluster.processes_of(self.dice.choice(self.handles))
        if found:
            self.cluster.crash(found[0])

    def crash_a_host(self, host: Any) -> None:
        if host.up:
            self.cluster.crash(host)
            self.later(self.dice.uniform(1, 120), self.boot, host)

    def boot(self, host: Any) -> None:
        if not host.up:
            self.cluster.restart(host)

    def cut_a_host_off(self, host: Any) -> None:
        other = self.dice.choice(["controller", "test", None])
        fault = self.cluster.partition(host, other, one_way=self.dice.random() < 0.5)
        self.later(self.dice.uniform(1, 130), fault.remove)

    def suspend_a_host(self, host: Any) -> None:
        if host.up:
            self.cluster.freeze(host)
            self.later(self.dice.uniform(1, 130), self.wake, host)

    def wake(self, host: Any) -> None:
        if host.up:
            self.cluster.thaw(host)

    def take_a_host_back(self, host: Any) -> None:
        """With notice, and it comes again."""
        try:
            agent = self.cluster.agent_of(host)
        except LookupError:
            return
        if not agent.frozen:
            self.cluster.stop(agent)
            self.later(self.dice.uniform(20, 60), self.start_agent, host, agent)

    def start_agent(self, host: Any, agent: Any) -> None:
        if host.up and agent.exit is not None:
            self.cluster.restart(agent)

    def crash_the_controller(self, _: Any) -> None:
        self.cluster.crash_controller()
        self.cluster.restart_controller()

    async def call(self, handle: Any) -> None:
        """Every call ends, whatever happens."""
        while True:
            try:
                async with asyncio.timeout(700):
                    assert await handle.ping.remote() == "pong"
                self.answered += 1
            except CallError:
                pass
            await asyncio.sleep(self.dice.uniform(0, 20))


async def survive(sim: Simulation) -> tuple[int, list[str]]:
    async with SimCluster(sim) as cluster:
        await cluster.add_hosts(4, cpus=4)
        root, inner = tree()
        async with root:
            handles = [root[n] for n in "ab"]
            handles += [inner["all"][n] for n in "cd"]
            handles += [inner["brittle"][n] for n in "ef"]
            handles += [inner["gang"][n] for n in "gh"]
            storm = Storm(cluster, handles)
            callers = [asyncio.ensure_future(storm.call(handle)) for handle in handles]
            await storm.rage(8)
            await asyncio.sleep(CALM_S)
            for caller in callers:
                caller.cancel()
            await asyncio.wait(callers)
            states = [
                c.state for each in (root, *inner.values()) for c in await each.which_children()
            ]
            assert states == ["up"] * 11
            for handle in handles:
                async with asyncio.timeout(30):
                    assert await handle.ping.remote() == "pong"
                assert len(cluster.processes_of(handle)) == 1
        await cluster.until(lambda: not any(map(cluster.processes_of, handles)), 60)
        for handle in handles:
            with pytest.raises(FrayError):
                await handle.ping.remote()
        return storm.answered, list(sim.trace)


@pytest.mark.parametrize("sim_seed", range(6), indirect=True, ids="seed{}".format)
def test_a_tree_in_a_storm_has_all_its_actors_once_in_the_end(sim_seed: int):
    answered, _ = simulate(sim_seed, survive)
    assert answered > 50


def test_the_storm_is_the_same_again():
    assert simulate(3, survive) == simulate(3, survive)
