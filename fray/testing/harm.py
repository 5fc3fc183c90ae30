"""What can be done to a simulated cluster: to hosts, processes, network and controller."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fray.actor.handle import ActorHandle
from fray.testing.errors import SimulationError

if TYPE_CHECKING:
    from fray.testing.barriers import Barrier
    from fray.testing.faults import Fault
    from fray.testing.hosts import ControllerHost
    from fray.testing.process import SimHost, SimProcess
    from fray.testing.simulation import Simulation
    from fray.testing.whereabouts import Whereabouts
    from fray.testing.world import Hosts

CONTROLLER = "controller"
"""The name of the controller's host."""

NOTICE_S = 30.0
"""How long before it takes a host back the cloud says so, by default."""


class Harm:
    """The faults of a `fray.testing.SimCluster`; see there."""

    sim: Simulation
    _whereabouts: Whereabouts
    _controller: ControllerHost | None

    def agent_of(self, host: SimHost | str) -> SimProcess:
        """See `fray.testing.SimCluster.agent_of`."""
        raise NotImplementedError

    @property
    def controller_host(self) -> SimHost:
        """The controller's machine."""
        return self.sim.hosts[CONTROLLER]

    def crash(self, target: SimHost | SimProcess | str) -> None:
        """Takes the power from a host, or ends a process as ``kill -9`` does.

        Args:
            target: Which, by object or by name.
        """
        self.sim.crash(target)

    def stop(self, target: SimHost | SimProcess | str) -> None:
        """Sends SIGTERM. See `Simulation.stop`."""
        self.sim.stop(target)

    def restart(self, target: SimHost | SimProcess | str) -> SimHost | SimProcess:
        """Boots a host, with its agent, or starts an agent anew. See `Simulation.restart`."""
        return self.sim.restart(target)

    def freeze(self, target: SimHost | SimProcess | str) -> None:
        """Suspends a host or process. See `Simulation.freeze`."""
        self.sim.freeze(target)

    def thaw(self, target: SimHost | SimProcess | str) -> None:
        """Lets a frozen host or process go on. See `Simulation.thaw`."""
        self.sim.thaw(target)

    def partition(self, a: Hosts, b: Hosts | None = None, *, one_way: bool = False) -> Fault:
        """Cuts hosts off from each other; the test is ``"test"``, the controller ``"controller"``.

        What is sent waits, but as in reality not for ever: kernels give links up after some
        minutes (`fray.testing.keepalive`). See `Simulation.partition`.
        """
        return self.sim.partition(a, b, one_way=one_way)

    def heal(self, a: Hosts | None = None, b: Hosts | None = None) -> None:
        """Ends partitions. See `Simulation.heal`."""
        self.sim.heal(a, b)

    def crash_controller(self) -> None:
        """Ends the controller's process as ``kill -9`` does; its host answers "refused"."""
        self.crash(self._controller_process())

    def restart_controller(self) -> None:
        """Starts the controller anew, from the journal on its disk; boots its host if it is down.

        Who asks it meanwhile waits; so it need not be waited for.
        """
        if self.controller_host.up:
            self.restart(self._controller_process())
        else:
            self.restart(self.controller_host)

    def _controller_process(self) -> SimProcess:
        if self._controller is None or self._controller.process is None:
            raise SimulationError("the controller has not started yet")
        return self._controller.process

    def preempt(self, host: SimHost | str, notice_s: float = NOTICE_S) -> None:
        """The cloud takes a host back: SIGTERM to its agent, and some time later its power.

        What runs there is told to stop, and goes elsewhere, on the account of preemptions.
        `Simulation.restart` gives the host back.

        Args:
            host: Which.
            notice_s: Between the two, in seconds; 0 for no notice, as if it crashed.
        """
        found = self.sim.hosts[host if isinstance(host, str) else host.name]
        if notice_s <= 0:
            self.crash(found)
            return
        self.stop(self.agent_of(found))
        loop, boots = self.sim.loop, found.boots

        def power_off() -> None:
            if found.up and found.boots == boots:
                self.crash(found)

        loop.call_later(notice_s, power_off, context=loop.main_lane.context.copy())

    def slow_reader(self, host: Hosts, bytes_per_s: float) -> Fault:
        """Lets a host take in only so much of what others send it.

        Args:
            host: Which; several share it.
            bytes_per_s: So much, of all that is sent there.

        Returns:
            The guard, which ends it.
        """
        return self.sim.throttle(None, host, bytes_per_s)

    def pause_at(
        self, point: str, who: ActorHandle[Any] | SimProcess | SimHost | str | None = None
    ) -> Barrier:
        """Stops the next process that comes to a point, just before it does what it says.

        For example ``pause_at("names.register", actor)`` stops an actor's process before it tells
        where it is. The process freezes until the barrier is released.

        Args:
            point: A call, as ``actor.method``: ``names.register``, ``fleet.report``,
                ``blobs.get``, ``jobs.submit``, or that of a user's actor (``*.add``); and
                ``launch.*``, where an agent starts an attempt.
            who: Only this process, those of this host, or that of this actor (which need not run
                yet); also by name. None for any.
        """

        def applies(process: SimProcess) -> bool:
            if who is None:
                return True
            if isinstance(who, ActorHandle):
                return process in self._whereabouts.processes_of(who)
            return who in (process, process.host, process.name, process.host.name)

        return self.sim.barriers.add(point, applies)


__all__ = ["CONTROLLER", "NOTICE_S", "Harm"]
