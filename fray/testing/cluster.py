"""A simulated cluster: fray's production controller and agents on simulated hosts.

The test itself is the driver. Hosts are added, crashed and cut off while its actors and jobs run
on them; what happens is decided by one seed, and an hour takes no time::

    async def test_survives_host_loss(sim_cluster):
        a, b = await sim_cluster.add_hosts(2, cpus=8)
        counter = await Counter.options(name="counter").remote()
        sim_cluster.crash(sim_cluster.host_of(counter))
        assert await counter.add.remote(1) == 1      # on the other host, under the same name

What is not production code here: the network, the disks, the clocks, the threads, and who starts
processes. Each has a real counterpart that passes the same tests.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fray.cluster.accelerators import canonical_gpu, tpu_topology
from fray.cluster.identity import Identity
from fray.cluster.resources import MILLI, Resources, parse_bytes
from fray.cluster.scheduling.hosts import SliceMember
from fray.testing import inspection
from fray.testing.errors import SimulationError
from fray.testing.harm import CONTROLLER, Harm
from fray.testing.hosts import CONTROLLER_PORT, ControllerHost, WorkerHost
from fray.testing.keepalive import Keepalive
from fray.testing.promises import LedgerWatch
from fray.testing.recorder import Recorder
from fray.testing.tasks import TOKEN, TaskPrograms, connected
from fray.testing.whereabouts import Whereabouts

if TYPE_CHECKING:
    from types import TracebackType

    from fray.actor.handle import ActorHandle
    from fray.actor.resolver import SystemResolver
    from fray.actor.system import ActorSystem
    from fray.cluster.base import LogLine
    from fray.cluster.client import AsyncFrayCluster
    from fray.cluster.types import JobGroupConfig, JobInfo, JobRequest
    from fray.ids import JobId
    from fray.testing.attempts import SimAttempt, TaskProgram
    from fray.testing.history import History
    from fray.testing.process import SimHost, SimProcess
    from fray.testing.simulation import Simulation

NAMESPACE = "test"
"""The namespace of the test's own connection."""

USER = "test"
"""Whose the test's own connection is."""

EVENTS_TOLD = 25
"""So many of the latest events are in a snapshot."""

_CHATTER = re.compile(r" receives \d+ B | synced | listens at ")

UNTIL_S = 600.0
"""How long `SimCluster.until` and new hosts may take, in virtual seconds."""


class SimCluster(Harm):
    """A simulated cluster. Use it through the fixture ``sim_cluster``.

    Outside of pytest: ``async with SimCluster(sim) as cluster`` in a coroutine of that simulation.

    Args:
        sim: The simulation in which it is.

    Attributes:
        sim: As given: the hosts, the network and the faults beneath.
        programs: Programs that jobs may run by name (`Entrypoint.from_binary`); a simulation starts
            no real ones. Each is a coroutine function of an `Execution`.
        on_launch: Told of each attempt before its first line runs.
        address: The controller's ``host:port``.
    """

    def __init__(self, sim: Simulation) -> None:
        self.sim = sim
        self.programs: dict[str, TaskProgram] = {}
        self.on_launch: list[Callable[[SimAttempt], None]] = []
        self.address = f"{CONTROLLER}:{CONTROLLER_PORT}"
        self._workers: dict[str, WorkerHost] = {}
        self._whereabouts = Whereabouts(sim, self._workers, self._violated)
        self._recorder = Recorder(sim.loop)
        self._stack = contextlib.AsyncExitStack()
        self._home = Path()
        self._controller: ControllerHost | None = None
        self._cluster: AsyncFrayCluster | None = None
        self._drivers = 0
        self._slices = 0

    def __repr__(self) -> str:
        return f"<SimCluster seed {self.seed}, t={self.now:.6f} s, {len(self._workers)} workers>"

    # ---- life

    async def open(self) -> None:
        """Starts the controller and connects the test to it, as the current cluster."""
        self._home = Path(tempfile.mkdtemp(prefix="fray-sim-"))
        self._stack.callback(shutil.rmtree, self._home, ignore_errors=True)
        (self._home / "token").write_text(TOKEN)
        self.sim.network.keepalive = Keepalive(self.sim.loop)
        self._stack.enter_context(self._recorder)
        self._stack.enter_context(LedgerWatch(self.sim.loop, self._violated))
        self._controller = ControllerHost(self.sim, self._home / CONTROLLER)
        self.sim.host(CONTROLLER, self._controller.controller)
        self._stack.callback(self._power_off)
        connection = connected(self.sim.driver, self.address, self._identity(NAMESPACE))
        self._cluster = await self._stack.enter_async_context(connection)

    async def close(self) -> None:
        """Ends the test's connection, and the power of all hosts."""
        await self._stack.aclose()

    async def __aenter__(self) -> SimCluster:
        await self.open()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if exc is not None:
            exc.add_note(self.snapshot())
        await self.close()

    def _power_off(self) -> None:
        for host in [*self.hosts, self.controller_host]:
            if host.up:
                self.sim.crash(host)
        for worker in self._workers.values():
            worker.attempts.close()

    # ---- the test as a driver

    @property
    def cluster(self) -> AsyncFrayCluster:
        """The test's own connection: the current cluster."""
        if self._cluster is None:
            raise SimulationError("the simulated cluster is not open: `async with SimCluster(sim)`")
        return self._cluster

    @property
    def system(self) -> ActorSystem:
        """The actor system of the test's own connection."""
        return self.cluster.system

    @property
    def resolver(self) -> SystemResolver:
        """Finds actors in the test's namespace."""
        return self.cluster.resolver

    async def launch(self, request: JobRequest) -> JobId:
        """See `AsyncCluster.launch`."""
        return await self.cluster.launch(request)

    async def launch_group(
        self, requests: Sequence[JobRequest], group: JobGroupConfig
    ) -> list[JobId]:
        """See `AsyncCluster.launch_group`."""
        return await self.cluster.launch_group(requests, group)

    async def poll(self, job_id: JobId) -> JobInfo:
        """See `AsyncCluster.poll`."""
        return await self.cluster.poll(job_id)

    async def wait(self, job_id: JobId) -> JobInfo:
        """Waits until a job has finished. See `AsyncCluster.wait_for`."""
        return await self.cluster.wait_for(job_id)

    async def terminate(self, job_id: JobId) -> None:
        """See `AsyncCluster.terminate`."""
        await self.cluster.terminate(job_id)

    def logs(self, job_id: JobId, *, follow: bool = True) -> AsyncIterator[LogLine]:
        """See `AsyncCluster.logs`."""
        return self.cluster.logs(job_id, follow=follow)

    def connect(
        self, namespace: str = NAMESPACE, *, user: str = USER
    ) -> AbstractAsyncContextManager[AsyncFrayCluster]:
        """Another connection of the test: another driver, the current one within the block.

        Args:
            namespace: Its namespace.
            user: Whose it is: quotas, budgets and shares are by user.
        """
        return connected(self.sim.driver, self.address, self._identity(namespace, user))

    def start_driver(
        self,
        main: Callable[[AsyncFrayCluster], Coroutine[Any, Any, object]],
        *,
        host: SimHost | str | None = None,
        namespace: str = NAMESPACE,
    ) -> SimProcess:
        """Starts a driver in a simulated process of its own, which can be crashed.

        Args:
            main: What it does; its cluster is the current one there.
            host: Where; a host of its own by default.
            namespace: Its namespace.

        Returns:
            Its process; what `main` returns is the value of its `SimProcess.wait`.
        """
        identity = self._identity(namespace)

        async def driver(process: SimProcess) -> object:
            async with connected(process, self.address, identity) as cluster:
                return await main(cluster)

        return self.sim.process(host or f"driver-{self._drivers}", driver)

    def _identity(self, namespace: str, user: str = USER) -> Identity:
        self._drivers += 1
        return Identity(user, namespace, session_id=f"d-{self._drivers}")

    # ---- hosts

    async def add_hosts(
        self,
        count: int = 1,
        *,
        cpus: float = 8,
        memory: str = "32g",
        gpus: Mapping[str, int] | None = None,
        region: str = "",
        zone: str = "",
        preemptible: bool = False,
        slice: str = "",
        name: str = "host",
        clock_skew_s: float = 0.0,
        clock_drift: float = 0.0,
    ) -> list[SimHost]:
        """Adds workers and waits until the controller knows them.

        Args:
            count: How many; of slices, where `slice` is given.
            cpus: CPUs of each.
            memory: Memory of each, such as ``"32g"``.
            gpus: GPUs of each, by model: ``{"H100": 8}``.
            region: Where they are; decides how far from others.
            zone: Where in the region.
            preemptible: Whether the cloud may take them back (`preempt`).
            slice: A TPU type, such as ``"v5litepod-16"``: each is a whole slice of it, with as many
                hosts as that has.
            name: What they are called, with a number behind it.
            clock_skew_s: How far their wall clocks are ahead.
            clock_drift: How much too fast their clocks run, such as 1e-4.

        Raises:
            TimeoutError: The controller does not answer.
            ValueError: There is no such TPU type.
        """
        members = self._members(slice, count) if slice else [None] * count
        topology = tpu_topology(slice) if slice else None
        capacity = Resources(
            cpu_milli=round(cpus * MILLI),
            memory_bytes=parse_bytes(memory),
            disk_bytes=parse_bytes("100g"),
            gpus={canonical_gpu(model): n * MILLI for model, n in (gpus or {}).items()},
            tpus={topology.family: topology.chips_per_vm} if topology is not None else {},
        )
        added: list[WorkerHost] = []
        for member in members:
            full_name = f"{name}-{len(self._workers) + 1}"
            host = self.sim.host(
                full_name,
                region=region,
                zone=zone,
                clock_skew_s=clock_skew_s,
                clock_drift=clock_drift,
            )
            worker = self._workers[full_name] = WorkerHost(
                self.sim,
                host,
                capacity,
                home=self._home / full_name,
                controller=self.address,
                programs=TaskPrograms(self.programs),
                on_launch=self._launched,
                preemptible=preemptible,
                slice_member=member,
            )
            host.main = worker.agent
            self.sim.process(host, worker.agent)
            added.append(worker)
        async with asyncio.timeout(UNTIL_S):
            for worker in added:
                await worker.registered.wait()
        return [worker.host for worker in added]

    def _launched(self, attempt: SimAttempt) -> None:
        self._whereabouts.launched(attempt)
        for told in self.on_launch:
            told(attempt)

    def _members(self, tpu_type: str, count: int) -> list[SliceMember]:
        size = tpu_topology(tpu_type).vm_count
        self._slices += count
        names = [f"slice-{number + 1}" for number in range(self._slices - count, self._slices)]
        return [SliceMember(name, tpu_type, i, size) for name in names for i in range(size)]

    @property
    def hosts(self) -> list[SimHost]:
        """All workers, up or down, in the order in which they were added."""
        return [worker.host for worker in self._workers.values()]

    def agent_of(self, host: SimHost | str) -> SimProcess:
        """The process of a worker's agent.

        Args:
            host: Which worker.

        Raises:
            LookupError: None runs there.
        """
        name = host if isinstance(host, str) else host.name
        for process in self.sim.hosts[name].processes.values():
            if process.program == self._workers[name].agent:
                return process
        raise LookupError(f"no agent runs on {name}")

    # ---- where things are

    def processes_of(self, what: ActorHandle[Any] | JobId) -> list[SimProcess]:
        """The processes that an actor, a pool of actors or a job has at present.

        Args:
            what: A handle, or a job's id.
        """
        return self._whereabouts.processes_of(what)

    def process_of(self, what: ActorHandle[Any] | JobId) -> SimProcess:
        """The process of an actor, or of a job with one task.

        Args:
            what: A handle, or a job's id.

        Raises:
            LookupError: There is none, or there are several.
        """
        found = self.processes_of(what)
        if len(found) != 1:
            told = [process.name for process in found] or "none"
            raise LookupError(f"{what} has not one process at present but {told}")
        return found[0]

    def host_of(self, what: ActorHandle[Any] | JobId) -> SimHost:
        """The host on which an actor is, or a job with one task.

        Args:
            what: A handle, or a job's id.

        Raises:
            LookupError: There is none, or there are several.
        """
        return self.process_of(what).host

    @property
    def now(self) -> float:
        """Virtual seconds since the simulation began."""
        return self.sim.loop.time()

    @property
    def seed(self) -> int:
        """What decides everything that happens."""
        return self.sim.seed

    async def until(self, condition: Callable[[], bool], timeout_s: float = UNTIL_S) -> None:
        """Waits until something is true, looking every 10 virtual milliseconds.

        Args:
            condition: What.
            timeout_s: At most so long, in virtual seconds.

        Raises:
            TimeoutError: It did not become true.
        """
        async with asyncio.timeout(timeout_s):
            while not condition():  # noqa: ASYNC110 - of the whole world: nobody sets an event
                await asyncio.sleep(0.01)

    # ---- what is true

    @property
    def history(self) -> History:
        """Every call that was made in this cluster, and every run of it."""
        self._recorder.look_at_callers()
        return self._recorder.history

    def leaks(self) -> list[str]:
        """What is left behind, in words: where everything is settled there is nothing.

        Calls that wait or run, links of the dead, names of ended attempts.
        """
        controller = self._controller
        book = controller.book if controller is not None else None
        names = controller.names if controller is not None else None
        return inspection.leaks(self.sim, book, names)

    # ---- for people

    def snapshot(self) -> str:
        """Jobs, workers and attempts at this moment, and what led to it, for people."""
        book = self._controller.book if self._controller is not None else None
        names = self._controller.names if self._controller is not None else None
        lines = [*self._whereabouts.describe(book), *inspection.describe(self.sim, names)]
        lately = [line for line in self.sim.trace if not _CHATTER.search(line)][-EVENTS_TOLD:]
        return "\n".join(
            [
                f"cluster at t={self.now:.6f} s:",
                *(f"  {line}" for line in lines),
                "last events but for messages:",
                *(f"  {line}" for line in lately),
            ]
        )

    def _violated(self, what: str) -> None:
        self.sim.loop.call_exception_handler({"message": f"the cluster broke a promise: {what}"})


__all__ = ["CONTROLLER", "NAMESPACE", "SimCluster"]
