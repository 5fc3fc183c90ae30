"""What exists in a simulation, and what can be done to it.

A `World` has hosts with processes and a network between them. It starts them, crashes, stops,
freezes and restarts them, and cuts the network; it is a god without a clock of its own: all of this
happens at the virtual time at which it is called.

How time passes, and how a test runs in it, is the matter of `fray.testing.simulation`.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, TypeAlias, overload

from fray.testing.barriers import Barriers
from fray.testing.clock import HostTime, SimClock
from fray.testing.disk import SimDisk
from fray.testing.faults import Delay, Fault, Loss, Partition, Route, Throttle
from fray.testing.lanes import LANE, Lane
from fray.testing.network import SimNetwork
from fray.testing.process import Program, SimHost, SimProcess
from fray.testing.trace import Trace

if TYPE_CHECKING:
    from fray.testing.loop import SimLoop
    from fray.testing.transport import SimTransport

Hosts: TypeAlias = "str | SimHost | SimProcess | Iterable[str | SimHost | SimProcess]"
"""One host or several, by name or by object; a process stands for its host."""

TEST_HOST = "test"
"""The host on which the test itself runs."""


class World:
    """Hosts, processes, and the network between them.

    Args:
        loop: The loop on which everything runs; its seed decides everything.
        trace_lines_max: How many lines of the trace are kept.

    Attributes:
        loop: As given.
        network: The network.
        barriers: Where processes are held.
        trace: What has happened so far, one line each.
        hosts: All hosts by name.
        driver: The process that the test itself is.
    """

    def __init__(self, loop: SimLoop, trace_lines_max: int) -> None:
        self.loop = loop
        self.trace = Trace(loop.time, trace_lines_max)
        self.network = SimNetwork(loop, self.trace)
        self.barriers = Barriers(loop, self.note)
        self.hosts: dict[str, SimHost] = {}
        self._random = random.Random(f"{loop.seed}/world")
        self._pids = 0
        self._host_times: dict[Lane, HostTime] = {}
        host = self._add_host(SimHost(TEST_HOST, self._new_disk(TEST_HOST), self._new_time(0.0)))
        self.driver = self._new_process(host, loop.main_lane, TEST_HOST, None, check=True)

    @property
    def clock(self) -> SimClock:
        """The test's own clock; it never drifts, and its monotonic time is the virtual time."""
        return self.driver.clock

    @property
    def transport(self) -> SimTransport:
        """The test's own network, on a host of its own."""
        return self.driver.transport

    def note(self, event: str) -> None:
        """Writes a line into the trace.

        Args:
            event: One line.
        """
        self.trace.note(event)

    # ---- hosts and processes

    def host(
        self,
        name: str,
        main: Program | None = None,
        *,
        region: str = "",
        zone: str = "",
        resources: Mapping[str, float] | None = None,
        clock_skew_s: float = 0.0,
        clock_drift: float = 0.0,
    ) -> SimHost:
        """Adds a host and boots it.

        Args:
            name: Its name and network address.
            main: The program that starts whenever it boots.
            region: Where it is; decides how far away others are.
            zone: Where in the region.
            resources: For whoever schedules on it; nothing here reads them.
            clock_skew_s: How far its wall clock is ahead; may be negative.
            clock_drift: How much too fast its clocks run, for example 1e-5.

        Raises:
            ValueError: There is one of that name, or the name cannot be an address.
        """
        # Nobody may rely on what a monotonic clock shows: it began when the host booted, some day.
        time = self._new_time(self._random.uniform(1e3, 1e6), clock_skew_s, clock_drift)
        disk = self._new_disk(name)
        host = self._add_host(SimHost(name, disk, time, region, zone, dict(resources or {}), main))
        self.note(f"{name} boots")
        if main is not None:
            self.process(host, main)
        return host

    def process(
        self,
        host: str | SimHost,
        program: Program,
        *,
        name: str | None = None,
        check: bool = True,
    ) -> SimProcess:
        """Starts a process.

        Args:
            host: Where; a name that is not known yet adds a host.
            program: Its program, a coroutine function of one argument, the `SimProcess`.
            name: What it is called, after its host's name; by default as its program is.
            check: Whether it fails the test if the program raises.

        Raises:
            RuntimeError: The host is down.
        """
        if isinstance(host, str):
            host = self.hosts[host] if host in self.hosts else self.host(host)
        if not host.up:
            raise RuntimeError(f"host {host.name} is down: sim.restart({host.name!r}) boots it")
        full_name = host.unused_name(name or getattr(program, "__name__", "main"))
        lane = self.loop.new_lane(full_name)
        process = self._new_process(host, lane, full_name, program, check=check)
        process.start()
        return process

    def find(self, target: str | SimHost | SimProcess) -> SimHost | SimProcess:
        """A host or process by name.

        Args:
            target: ``host`` or ``host/process``; an object is given back as it is.

        Raises:
            LookupError: There is none.
        """
        if not isinstance(target, str):
            return target
        if target in self.hosts:
            return self.hosts[target]
        host = self.hosts.get(target.partition("/")[0])
        if host is None or target not in host.processes:
            running = [name for host in self.hosts.values() for name in host.processes]
            raise LookupError(f"no host or running process {target!r}; there are {running}")
        return host.processes[target]

    def disk(self, host: str | SimHost) -> SimDisk:
        """The disk of a host.

        Args:
            host: Which.
        """
        return (self.hosts[host] if isinstance(host, str) else host).disk

    # ---- life and death

    def crash(self, target: str | SimHost | SimProcess) -> None:
        """Ends a process as ``kill -9`` does, or a host as the loss of its power.

        No code of theirs runs any more, ``finally`` blocks neither. The links of a process are
        reset; those of a host fall silent, and its disk keeps what was synced.

        Args:
            target: Which; not the test itself.
        """
        target = self._victim(target)
        self.note(f"crash of {target if isinstance(target, SimHost) else target.name}")
        if isinstance(target, SimProcess):
            target.crash()
            return
        target.up = False
        self.network.host_down(target.name)
        processes = list(target.processes.values())
        self.loop.kill_lanes(*(process.lane for process in processes))
        for process in processes:
            process.crash()
        target.disk.crash()

    def stop(self, target: str | SimHost | SimProcess) -> None:
        """Asks a process, or all of a host, to end: SIGTERM's handler, else cancellation.

        It takes the time that it takes; see `SimProcess.wait`.

        Args:
            target: Which; not the test itself.
        """
        target = self._victim(target)
        processes = [target] if isinstance(target, SimProcess) else target.processes.values()
        for process in list(processes):
            process.stop()

    @overload
    def restart(self, target: SimHost) -> SimHost: ...

    @overload
    def restart(self, target: SimProcess) -> SimProcess: ...

    @overload
    def restart(self, target: str) -> SimHost | SimProcess: ...

    def restart(self, target: str | SimHost | SimProcess) -> SimHost | SimProcess:
        """Starts a process anew, or reboots a host, which runs its ``main``. Crashes it first.

        Args:
            target: A process, dead or alive, or a host, up or down; not the test itself.

        Returns:
            The new process, or the host.
        """
        target = self._victim(target)
        if isinstance(target, SimProcess):
            assert target.program is not None
            if target.exit is None:
                self.crash(target)
            name = target.name.partition("/")[2]
            return self.process(target.host, target.program, name=name, check=target.check)
        if target.up:
            self.crash(target)
        self.note(f"{target.name} boots")
        target.up = True
        target.boots += 1
        self.network.host_up(target.name)
        if target.main is not None:
            self.process(target, target.main)
        return target

    def freeze(self, target: str | SimHost | SimProcess) -> None:
        """Suspends a process, or all of a host: it is alive, and does nothing.

        So behaves a process that swaps, is debugged, or computes without letting its loop run.

        Args:
            target: Which; not the test itself.
        """
        for process in self._processes(target):
            self.note(f"{process.name} freezes")
            self.loop.freeze_lane(process.lane)

    def thaw(self, target: str | SimHost | SimProcess) -> None:
        """Lets a frozen process go on; all that came due meanwhile happens now.

        Args:
            target: Which.
        """
        for process in self._processes(target):
            self.note(f"{process.name} thaws")
            self.loop.thaw_lane(process.lane)

    def _processes(self, target: str | SimHost | SimProcess) -> list[SimProcess]:
        target = self._victim(target)
        return [target] if isinstance(target, SimProcess) else list(target.processes.values())

    def _victim(self, target: str | SimHost | SimProcess) -> SimHost | SimProcess:
        target = self.find(target)
        if target is self.driver or target is self.driver.host:
            raise ValueError("that is the test itself")
        return target

    # ---- the network

    def partition(self, a: Hosts, b: Hosts | None = None, *, one_way: bool = False) -> Fault:
        """Cuts hosts off from each other. What is sent waits, in order, and no link is lost.

        Args:
            a: These hosts.
            b: From those; None for all others.
            one_way: Only what goes from `a` to `b` is cut.

        Returns:
            The guard, which heals it: by ``remove()``, or at the end of a ``with``.
        """
        return self.network.add_fault(Partition(self._route(a, b, both_ways=not one_way)))

    def heal(self, a: Hosts | None = None, b: Hosts | None = None) -> None:
        """Ends partitions: those between the two, those of the one, or all.

        Args:
            a: One side has some of these; None for any.
            b: And the other side some of those; None for any.
        """
        first, second = self._names(a), self._names(b)
        for fault, rule in self.network.faults.partitions():
            sides = rule.route.sources, rule.route.targets
            if _meet(sides, (first, second)) or _meet(sides, (second, first)):
                fault.remove()

    def delay(self, a: Hosts | None, b: Hosts | None, low_s: float, high_s: float) -> Fault:
        """Makes all that goes between hosts late.

        Args:
            a: These hosts; None for all.
            b: And those; None for all.
            low_s: Least additional delay, in seconds.
            high_s: Greatest additional delay.
        """
        return self.network.add_fault(Delay(self._route(a, b), low_s, high_s, self._dice("delay")))

    def throttle(self, a: Hosts | None, b: Hosts | None, bytes_per_s: float) -> Fault:
        """Makes the network between hosts narrow: large messages take long, and senders wait.

        Args:
            a: What these hosts send; None for all.
            b: And to those; None for all.
            bytes_per_s: So much gets through, together.
        """
        route = self._route(a, b, both_ways=False)
        return self.network.add_fault(Throttle(route, bytes_per_s, self.loop.time))

    def lose(self, a: Hosts | None, b: Hosts | None, probability: float) -> Fault:
        """Loses packets between hosts; they are retransmitted, which makes them late.

        Args:
            a: These hosts; None for all.
            b: And those; None for all.
            probability: Of a packet to be lost; from 0 to below 1.
        """
        return self.network.add_fault(Loss(self._route(a, b), probability, self._dice("loss")))

    def _dice(self, purpose: str) -> random.Random:
        return random.Random(f"{self.loop.seed}/{purpose}/{self._random.getrandbits(64)}")

    def _route(self, a: Hosts | None, b: Hosts | None, *, both_ways: bool = True) -> Route:
        return Route(self._names(a), self._names(b), both_ways)

    def _names(self, hosts: Hosts | None) -> frozenset[str] | None:
        if hosts is None:
            return None
        some = [hosts] if isinstance(hosts, str | SimHost | SimProcess) else list(hosts)
        found = [self.find(host) for host in some]
        return frozenset(h.host.name if isinstance(h, SimProcess) else h.name for h in found)

    # ---- inside

    def _new_disk(self, host: str) -> SimDisk:
        return SimDisk(
            f"{self.loop.seed}/{host}", lambda event: self.note(f"disk of {host}: {event}")
        )

    def _new_time(self, zero_s: float, skew_s: float = 0.0, drift: float = 0.0) -> HostTime:
        return HostTime(self.loop.time, monotonic_zero_s=zero_s, skew_s=skew_s, drift=drift)

    def _add_host(self, host: SimHost) -> SimHost:
        self.network.add_host(host.name, region=host.region, zone=host.zone)
        self.hosts[host.name] = host
        return host

    def _new_process(
        self, host: SimHost, lane: Lane, name: str, program: Program | None, *, check: bool
    ) -> SimProcess:
        self._pids += 1
        self._host_times[lane] = host.time
        process = SimProcess(
            self.network, host, lane, name=name, pid=self._pids, program=program, check=check
        )
        process.barriers = self.barriers
        if program is not None:
            host.processes[name] = process
        return process

    def current_host_time(self) -> HostTime:
        """The clocks of the host whose code runs."""
        return self._host_times[LANE.get(self.loop.main_lane)]


def _meet(
    sides: tuple[frozenset[str] | None, frozenset[str] | None],
    wanted: tuple[frozenset[str] | None, frozenset[str] | None],
) -> bool:
    return all(
        side is None or some is None or not side.isdisjoint(some)
        for side, some in zip(sides, wanted, strict=True)
    )


__all__ = ["TEST_HOST", "Hosts", "World"]
