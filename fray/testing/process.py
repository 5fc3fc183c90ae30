"""Simulated hosts and processes.

A `SimProcess` runs one coroutine function, its program, in a lane of its own, with the clock, the
network, the threads and the disk that a real process would get from its operating system. It can
end in four ways: its program returns or raises, it is stopped (asked to end, as by SIGTERM), or it
crashes (``kill -9``: not one more line of it runs, no ``finally`` block either).

A process that is started again is a new `SimProcess` with the old one's name, host and disk.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, TypeAlias

from fray.testing.clock import HostTime, SimClock
from fray.testing.disk import SimDisk
from fray.testing.threads import SimThreads
from fray.testing.transport import SimTransport

if TYPE_CHECKING:
    from fray.actor.system import ActorSystem
    from fray.runtime.auth import Authenticator
    from fray.runtime.process import Process
    from fray.testing.barriers import Barriers
    from fray.testing.lanes import Lane
    from fray.testing.network import SimNetwork

Program: TypeAlias = "Callable[[SimProcess], Coroutine[Any, Any, object]]"


class ExitKind(StrEnum):
    """How a process ended."""

    RETURNED = "returned"
    RAISED = "raised"
    STOPPED = "stopped"
    CRASHED = "crashed"


@dataclass(frozen=True, slots=True)
class ProcessExit:
    """How a process ended.

    Attributes:
        kind: How.
        value: What its program returned; after ``sys.exit`` the code.
        error: What its program raised.
        with_host: Whether it crashed because its host did.
    """

    kind: ExitKind
    value: Any = None
    error: BaseException | None = None
    with_host: bool = False

    def __str__(self) -> str:
        if self.error is not None:
            return f"{self.kind} {type(self.error).__name__}: {self.error}"
        return f"{self.kind} {self.value!r}" if self.value is not None else str(self.kind)


@dataclass(eq=False)
class SimHost:
    """A simulated machine.

    Attributes:
        name: Its name, which is its network address too.
        disk: Its disk; outlives processes and reboots.
        time: Its clocks.
        region: Where it is.
        zone: Where in the region.
        resources: Whatever the simulated cluster wants to know of it.
        main: The program that starts when it boots, or None.
        up: Whether it runs.
        boots: How often it was booted so far.
        processes: Those that run on it, by name.
    """

    name: str
    disk: SimDisk
    time: HostTime
    region: str = ""
    zone: str = ""
    resources: Mapping[str, float] = field(default_factory=dict[str, float])
    main: Program | None = None
    up: bool = True
    boots: int = 1
    processes: dict[str, SimProcess] = field(default_factory=dict[str, "SimProcess"])

    def __str__(self) -> str:
        return self.name

    def unused_name(self, program: str) -> str:
        """A name for a process: ``host/program``, with a number where that runs already.

        Args:
            program: What it is to be called.
        """
        name, number = f"{self.name}/{program}", 1
        while name in self.processes:
            number += 1
            name = f"{self.name}/{program}-{number}"
        return name


class SimProcess:
    """One incarnation of a simulated process. Made by `Simulation.process`.

    Attributes:
        name: ``host/program``.
        pid: Different for each incarnation of each process; counts from 1.
        host: Where it runs.
        lane: The lane that its code runs in.
        program: What it runs; None for the test itself.
        clock: Its clock; see `fray.runtime.clock.Clock`.
        transport: Its network; everybody may dial it. See `make_transport` for more.
        threads: Its threads; see `fray.runtime.threads.Threads`.
        disk: Its host's disk.
        frozen: Whether it is suspended (`Simulation.freeze`).
        barriers: Those of its world.
        runtimes: The fray processes that it has made, for those who look into them.
        systems: The actor systems of its connections to a cluster, likewise.
    """

    def __init__(
        self,
        network: SimNetwork,
        host: SimHost,
        lane: Lane,
        *,
        name: str,
        pid: int,
        program: Program | None = None,
        check: bool = True,
    ) -> None:
        self.name = name
        self.pid = pid
        self.host = host
        self.lane = lane
        self.program = program
        seed = f"{network.loop.seed}/{name}/{pid}"
        self.clock = SimClock(host.time, seed)
        self.threads = SimThreads(network.loop, lane, seed)
        self.disk = host.disk
        self.check = check
        self.barriers: Barriers | None = None
        self.runtimes: list[Process] = []
        self.systems: list[ActorSystem] = []
        self._network = network
        self._transports: list[SimTransport] = []
        self.transport = self.make_transport()
        self._exited: asyncio.Future[ProcessExit] = network.loop.create_future()
        self._main: asyncio.Task[ProcessExit] | None = None
        self._stop_asked = False

    def __repr__(self) -> str:
        return f"<SimProcess {self.name} pid {self.pid} {self.exit or 'running'}>"

    @property
    def exit(self) -> ProcessExit | None:
        """How it ended; None while it runs."""
        return self._exited.result() if self._exited.done() else None

    @property
    def frozen(self) -> bool:
        """Whether it is suspended."""
        return self.lane.frozen

    async def wait(self) -> ProcessExit:
        """Waits until it has ended, in whatever way. Cancelling only ends the waiting."""
        return await asyncio.shield(self._exited)

    def on_exit(self, told: Callable[[ProcessExit], object]) -> None:
        """Calls a function when it has ended, outside of all processes: as a kernel would notice.

        Args:
            told: Called with how it ended.
        """
        self._exited.add_done_callback(
            lambda exited: told(exited.result()),
            context=self._network.loop.main_lane.context.copy(),
        )

    def make_transport(
        self,
        *,
        authenticator: Authenticator | None = None,
        token: str | Callable[[str], str] = "",
    ) -> SimTransport:
        """Another transport of this process.

        Args:
            authenticator: Judges who dials; without one everybody may come in.
            token: What it shows to those whom it dials.
        """
        transport = SimTransport(
            self._network,
            self.lane,
            host_name=self.host.name,
            process_name=self.name,
            authenticator=authenticator,
            token=token,
        )
        self._transports.append(transport)
        return transport

    # ---- its life, led by the simulation

    def start(self) -> None:
        """Begins to run the program. Called once, by the simulation."""
        context = self.lane.context.copy()
        loop = self._network.loop
        self._network.note(f"{self.name} starts, pid {self.pid}")
        self._main = context.run(
            loop.create_task, self._run(), name=f"{self.name}/main", context=context
        )
        # In the simulation's own lane: this process has no say in how it is buried.
        self._main.add_done_callback(self._done, context=loop.main_lane.context.copy())

    def stop(self) -> None:
        """Asks it to end: runs its handler of SIGTERM if it has one, else cancels its program."""
        if self._main is None or self._main.done() or self._stop_asked:
            return
        self._stop_asked = True
        self._network.note(f"{self.name} is asked to stop")
        context = self.lane.context.copy()
        handler = self.lane.signal_handlers.get(signal.SIGTERM)
        self._network.loop.call_soon(handler or self._main.cancel, context=context)

    def crash(self) -> None:
        """Ends it at once. If it called this itself, it goes on until it next suspends."""
        if not self._exited.done():
            self._end(ProcessExit(ExitKind.CRASHED, with_host=not self.host.up))

    async def _run(self) -> ProcessExit:
        assert self.program is not None
        try:
            ended = ProcessExit(ExitKind.RETURNED, await self.program(self))
        except asyncio.CancelledError:
            ended = ProcessExit(ExitKind.STOPPED)
        except SystemExit as exc:  # of this process, not of the simulation
            ended = ProcessExit(ExitKind.RETURNED, exc.code)
        except Exception as exc:
            ended = ProcessExit(ExitKind.RAISED, error=exc)
        await self._wind_up()
        return ended

    async def _wind_up(self) -> None:
        """What `asyncio.run` does at the end, and what the kernel does when a process has ended."""
        me = asyncio.current_task()
        while others := [t for t in self._network.loop.tasks_of(self.lane) if t is not me]:
            for task in others:
                task.cancel()
            await asyncio.wait(others)
            for task in others:
                if not task.cancelled() and (exc := task.exception()) is not None:
                    self._report(f"{task.get_name()} failed while {self.name} ended", exc)
        for transport in self._transports:
            await transport.close()

    def _done(self, main: asyncio.Task[ProcessExit]) -> None:
        if self._exited.done():
            return
        ended = ProcessExit(ExitKind.STOPPED) if main.cancelled() else main.result()
        if ended.error is not None and self.check:
            self._report(f"the program of {self.name} failed", ended.error)
        self._end(ended)

    def _end(self, ended: ProcessExit) -> None:
        self._network.loop.kill_lanes(self.lane)
        for transport in self._transports:
            transport.die()
        self.host.processes.pop(self.name, None)
        self._network.note(f"{self.name} has ended: {ended}")
        self._exited.set_result(ended)

    def _report(self, message: str, exc: BaseException) -> None:
        self._network.loop.call_exception_handler({"message": message, "exception": exc})


__all__ = ["ExitKind", "ProcessExit", "Program", "SimHost", "SimProcess"]
