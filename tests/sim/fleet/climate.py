"""The weather of a fleet: preemption, slow disks and a lonely controller come with the rest."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from fray.testing.disk import SYNC_DELAY_S
from tests.sim.weather import FAULT_S_MAX, Deed, Weather

if TYPE_CHECKING:
    from collections.abc import Callable

    from fray.testing import SimCluster, SimHost
    from fray.testing.barriers import Barrier

NOTICE_S_MAX = 30.0
"""The cloud's notice, at the most."""

INNOCENT = ("kill_a_task", "freeze_a_task", "set_a_clock", "crash_a_driver")
"""What costs no attempt the place on its host, other than the one whose process it is."""


POINTS = (
    "launch.*",
    "launch.*",
    "fleet.register",
    "fleet.report",
    "fleet.orders",
    "blobs.get",
    "names.register",
    "sessions.facts",
    "jobs.submit",
)
"""Where a process may be waited for: just before it launches, reports, asks, or says hello."""


class Climate(Weather):
    """See `Weather`.

    Args:
        cluster: Whose.
        seed: Decides what fails when.
    """

    def __init__(self, cluster: SimCluster, seed: str) -> None:
        super().__init__(cluster, seed)
        self._ambushes: dict[asyncio.Task[None], Barrier] = {}

    def kinds(self) -> list[Callable[[SimHost], bool]]:
        """See `Weather.kinds`."""
        return [
            *super().kinds(),
            self.kill_a_task,
            self.crash_an_agent,
            self.crash_the_controller,
            self.crash_the_controllers_host,
            self.preempt_a_host,
            self.preempt_a_host,
            self.slow_the_controllers_disk,
            self.cut_the_controller_off,
            self.set_the_controllers_clock,
            self.lie_in_ambush,
            self.lie_in_ambush,
            self.lie_in_ambush,
            self.crash_the_controllers_host_as_it_writes,
        ]

    def clear_up(self) -> None:
        """See `Weather.clear_up`."""
        for task, barrier in self._ambushes.items():
            task.cancel()
            barrier.release()
        self._ambushes.clear()
        self.cluster.controller_host.disk.__dict__.pop("append", None)
        super().clear_up()
        self._fast_disk()

    def was_killed(self, host: str, at: float) -> bool:
        """Whether a task was killed there and then.

        Args:
            host: Its name.
            at: The virtual time.
        """
        return any(
            (each.kind, each.host, each.at) == ("kill_a_task", host, at) for each in self.deeds
        )

    def harmed(self, host: str, until: float) -> bool:
        """Whether something has happened that may have cost the attempts of a host their places.

        Args:
            host: Its name.
            until: The virtual time.
        """
        return any(
            each.at <= until
            and each.kind not in INNOCENT
            and (each.host == host or "controller" in each.kind or "two_hosts" in each.kind)
            for each in self.deeds
        )

    # ---- faults

    def preempt_a_host(self, host: SimHost) -> bool:
        """The cloud takes it back, with notice or without, and gives it back later."""
        if not self._agent(host):
            return False
        self.cluster.preempt(host, self.dice.choice([0.0, self.dice.uniform(0, NOTICE_S_MAX)]))
        self.sim.loop.call_later(self.dice.uniform(NOTICE_S_MAX, 120), self._boot, host)
        return True

    def lie_in_ambush(self, host: SimHost) -> bool:
        """Waits until a process of a host is about to do something, and kills or freezes it."""
        barrier = self.cluster.pause_at(self.dice.choice(POINTS), host)
        self._ambushes[asyncio.create_task(self._spring(barrier))] = barrier
        return True

    async def _spring(self, barrier: Barrier) -> None:
        process = await barrier.reached()
        host = process.host
        if self.dice.random() < 0.5:
            await asyncio.sleep(self.dice.choice([0.0, self.dice.uniform(0, FAULT_S_MAX)]))
            barrier.release()
        elif process.name == self._agent(host):
            self.cluster.crash(process)
            self._later(self._agent_again, process, host.boots)
        elif process.exit is None:
            self.deeds.append(Deed(self.cluster.now, "kill_a_task", host.name))
            self.cluster.crash(process)

    def crash_the_controllers_host_as_it_writes(self, _: SimHost) -> bool:
        """The next change of the ledger is on its way to the disk when the power fails."""
        host = self.cluster.controller_host
        disk = host.disk

        def append(name: str, data: bytes) -> None:
            del disk.__dict__["append"]
            disk.append(name, data)
            self._later(self.crash_the_controllers_host, host, within_s=0.01)

        disk.__dict__["append"] = append
        return True

    def slow_the_controllers_disk(self, _: SimHost) -> bool:
        self.cluster.controller_host.disk.sync_delay_s = (0.1, self.dice.choice([0.5, 3.0]))
        self._later(self._fast_disk)
        return True

    def _fast_disk(self) -> None:
        self.cluster.controller_host.disk.sync_delay_s = SYNC_DELAY_S

    def set_the_controllers_clock(self, _: SimHost) -> bool:
        """Its wall clock is set, forward or back."""
        self.cluster.controller_host.time.set_skew(self.dice.uniform(-1000, 1000))
        return True

    def cut_the_controller_off(self, _: SimHost) -> bool:
        controller = self.cluster.controller_host
        one_way = self.dice.random() < 0.3
        return self._lasts(self.cluster.partition(controller, None, one_way=one_way))
