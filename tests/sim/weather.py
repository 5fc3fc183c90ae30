"""What fails, when: faults of all kinds at random moments, each of which ends by itself."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

    from fray.testing import Fault, SimCluster, SimHost, SimProcess

FAULT_S_MAX = 150.0
"""No fault lasts longer. Hosts are given up after 90 s of silence, connections after some 150 s."""


class Deed(NamedTuple):
    """Something that was made to fail: when, what, and the host that was drawn for it."""

    at: float
    kind: str
    host: str


class Weather:
    """Makes things fail.

    Args:
        cluster: Whose.
        seed: Decides what fails when.

    Attributes:
        faults: How often what was done.
        deeds: What was done when, and to which host.
        drivers: Names of driver processes that may be crashed.
    """

    def __init__(self, cluster: SimCluster, seed: str) -> None:
        self.cluster = cluster
        self.sim = cluster.sim
        self.dice = random.Random(seed)
        self.faults: Counter[str] = Counter()
        self.deeds: list[Deed] = []
        self.drivers: list[str] = []
        self._lasting: list[Fault] = []

    def kinds(self) -> list[Callable[[SimHost], bool]]:
        """What may happen to a host; each says whether it did. Who is there twice is likelier."""
        return [
            self.kill_a_task,
            self.freeze_a_task,
            self.crash_a_host,
            self.freeze_a_host,
            self.shut_a_host_down,
            self.crash_an_agent,
            self.freeze_an_agent,
            self.cut_a_host_off,
            self.cut_two_hosts_apart,
            self.make_a_host_slow,
            self.lose_packets,
            self.reset_connections,
            self.crash_the_controller,
            self.crash_the_controllers_host,
            self.freeze_the_controller,
            self.crash_a_driver,
            self.set_a_clock,
        ]

    async def rage(self, count: int, within_s: float) -> None:
        """Does some harm, and then lets all be well.

        Args:
            count: How many faults.
            within_s: In how much time.
        """
        kinds = self.kinds()
        for _ in range(count):
            await asyncio.sleep(self.dice.uniform(0, 2 * within_s / count))
            kind = self.dice.choice(kinds)
            host = self.dice.choice(self.cluster.hosts)
            if kind(host):
                self.faults[kind.__name__] += 1
                self.deeds.append(Deed(self.cluster.now, kind.__name__, host.name))
                self.sim.note(f"weather: {kind.__name__}")

    def clear_up(self) -> None:
        """Ends all faults: from now on everything works."""
        for fault in self._lasting:
            fault.remove()
        self.cluster.heal()
        for host in [*self.cluster.hosts, self.cluster.controller_host]:
            for process in list(host.processes.values()):
                if process.frozen:
                    self.cluster.thaw(process)
            if not host.up:
                self.cluster.restart(host)
        for host in self.cluster.hosts:
            if not any(name.endswith("/agent") for name in host.processes):
                self.cluster.restart(host)
        if not self.cluster.controller_host.processes:
            self.cluster.restart_controller()

    # ---- means

    def _later(self, act: Callable[..., Any], *args: Any, within_s: float = FAULT_S_MAX) -> None:
        self.sim.loop.call_later(self.dice.uniform(0, within_s), act, *args)

    def _lasts(self, fault: Fault) -> bool:
        self._lasting.append(fault)
        self._later(fault.remove)
        return True

    def _freeze(self, name: str) -> bool:
        process = self.sim.find(name)
        self.cluster.freeze(process)
        self._later(self.cluster.thaw, process)
        return True

    def _agent(self, host: SimHost) -> str:
        return next((n for n in host.processes if n.endswith("/agent")), "")

    def _a_task(self, host: SimHost) -> str:
        tasks = [name for name in host.processes if not name.endswith("/agent")]
        return self.dice.choice(tasks) if tasks else ""

    def _boot(self, host: SimHost) -> None:
        if not host.up:
            self.cluster.restart(host)

    # ---- faults

    def kill_a_task(self, host: SimHost) -> bool:
        task = self._a_task(host)
        if task:
            self.cluster.crash(task)
        return bool(task)

    def freeze_a_task(self, host: SimHost) -> bool:
        task = self._a_task(host)
        return bool(task) and self._freeze(task)

    def crash_a_host(self, host: SimHost) -> bool:
        if not host.up:
            return False
        self.cluster.crash(host)
        self._later(self._boot, host)
        return True

    def freeze_a_host(self, host: SimHost) -> bool:
        return all([self._freeze(name) for name in list(host.processes)])

    def shut_a_host_down(self, host: SimHost) -> bool:
        """As a cloud does that takes it back, with notice; it gives it back, too."""

        def again(boots: int) -> None:
            if host.boots == boots and not self._agent(host):
                self.cluster.restart(host)

        agent = self._agent(host)
        if not agent:
            return False
        self.cluster.stop(agent)
        self.sim.loop.call_later(self.dice.uniform(20, FAULT_S_MAX), again, host.boots)
        return True

    def crash_an_agent(self, host: SimHost) -> bool:
        if not self._agent(host):
            return False
        agent = self.cluster.agent_of(host)
        self.cluster.crash(agent)
        self._later(self._agent_again, agent, host.boots)
        return True

    def _agent_again(self, agent: SimProcess, boots: int) -> None:
        host = agent.host
        if host.up and host.boots == boots and not self._agent(host):
            self.cluster.restart(agent)

    def freeze_an_agent(self, host: SimHost) -> bool:
        return bool(self._agent(host)) and self._freeze(self._agent(host))

    def cut_a_host_off(self, host: SimHost) -> bool:
        others = self.dice.choice(["controller", "test", None])
        return self._lasts(self.cluster.partition(host, others, one_way=self.dice.random() < 0.3))

    def cut_two_hosts_apart(self, host: SimHost) -> bool:
        other = self.dice.choice(self.cluster.hosts)
        if other is host:
            return False
        return self._lasts(self.cluster.partition(host, other, one_way=self.dice.random() < 0.3))

    def make_a_host_slow(self, host: SimHost) -> bool:
        return self._lasts(self.sim.delay(host, None, 0.0, self.dice.choice([0.1, 2.0, 8.0])))

    def lose_packets(self, host: SimHost) -> bool:
        return self._lasts(self.sim.lose(host, None, self.dice.uniform(0.01, 0.5)))

    def reset_connections(self, host: SimHost) -> bool:
        others = [self.cluster.controller_host.name, "test", *map(str, self.cluster.hosts)]
        return self.sim.network.reset_links(host.name, self.dice.choice(others)) > 0

    def crash_the_controller(self, _: SimHost) -> bool:
        if not self.cluster.controller_host.processes:
            return False
        self.cluster.crash_controller()
        self._later(self._controller_again, within_s=30)
        return True

    def _controller_again(self) -> None:
        if not self.cluster.controller_host.processes:
            self.cluster.restart_controller()

    def crash_the_controllers_host(self, _: SimHost) -> bool:
        host = self.cluster.controller_host
        if not host.up:
            return False
        host.disk.torn_writes = self.dice.random() < 0.5
        self.cluster.crash(host)
        self._later(self._controller_again, within_s=30)
        return True

    def freeze_the_controller(self, _: SimHost) -> bool:
        names = list(self.cluster.controller_host.processes)
        return bool(names) and self._freeze(names[0])

    def crash_a_driver(self, _: SimHost) -> bool:
        living = [
            name
            for name in self.drivers
            if name in self.sim.hosts[name.partition("/")[0]].processes
        ]
        if not living:
            return False
        self.cluster.crash(self.dice.choice(living))
        return True

    def set_a_clock(self, host: SimHost) -> bool:
        """Its wall clock jumps, as when it is set, and its drift changes."""
        host.time.set_skew(self.dice.uniform(-1000, 1000))
        host.time.set_drift(self.dice.uniform(-1e-3, 1e-3))
        return True
