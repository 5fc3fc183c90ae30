"""The hosts of a simulated cluster: what boots on a worker, and on the controller's machine.

The programs here are the simulated twins of ``fray.cluster.worker.main`` and
``fray.cluster.controller.main``: the same agent and the same controller, on simulated seams.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from fray.actor.system import ActorSystem
from fray.cluster.control import ClusterFacts
from fray.cluster.controller.specs import WorkerSpec
from fray.cluster.controller.tree import Controller
from fray.cluster.worker.agent import Agent
from fray.cluster.worker.lives import LIVES_MAX
from fray.cluster.worker.ports import PortRange
from fray.cluster.worker.service import serve_agent
from fray.errors import SupervisorFailed
from fray.ids import WorkerId
from fray.runtime.failures import explain
from fray.testing.attempts import HostAttempts, SimAttempt
from fray.testing.launcher import SimLauncher
from fray.testing.store import SimStore
from fray.testing.tasks import runtime_of

if TYPE_CHECKING:
    from fray.cluster.controller.book import Book
    from fray.cluster.controller.names import Names
    from fray.cluster.resources import Resources
    from fray.cluster.scheduling.hosts import SliceMember
    from fray.cluster.worker.launcher import LaunchSpec
    from fray.testing.attempts import TaskProgram
    from fray.testing.process import SimHost, SimProcess
    from fray.testing.world import World

CONTROLLER_PORT = 50051


class WorkerHost:
    """A worker: its agent, and what its kernel knows of attempts.

    Args:
        world: Where it is.
        host: The simulated host.
        capacity: What it has.
        home: Its directory for run directories, logs and blobs; on a real disk.
        controller: The controller's ``host:port``.
        programs: What attempts run there.
        on_launch: Told of each attempt.
        preemptible: Whether the cloud may take it back.
        slice_member: Its part in a TPU slice, if it has one.

    Attributes:
        host: As given.
        attempts: All attempts of the host.
        registered: Set once the controller knows it.
    """

    def __init__(
        self,
        world: World,
        host: SimHost,
        capacity: Resources,
        *,
        home: Path,
        controller: str,
        programs: Callable[[LaunchSpec], TaskProgram | None],
        on_launch: Callable[[SimAttempt], None],
        preemptible: bool = False,
        slice_member: SliceMember | None = None,
    ) -> None:
        self.host = host
        self.attempts = HostAttempts(world, host, on_launch)
        self.registered = asyncio.Event()
        self._capacity = capacity
        self._preemptible = preemptible
        self._slice = slice_member
        self._home = home
        self._controller = controller
        self._programs = programs
        self._boot = 0
        self._lives: tuple[str, ...] = ()  # the present one first

    def __repr__(self) -> str:
        return f"<WorkerHost {self.host.name}>"

    async def agent(self, process: SimProcess) -> None:
        """The agent's process: ends at SIGTERM, with all that runs there.

        Args:
            process: Its simulated process.
        """
        stop = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
        if self._boot != self.host.boots:
            self._boot = self.host.boots
            self._remember_boot(process.clock.token(8))
        async with runtime_of(process) as runtime:
            system = ActorSystem(runtime, None, namespace="")
            agent = Agent(
                system,
                WorkerSpec(
                    worker_id=WorkerId(self.host.name),
                    address=runtime.address,
                    capacity=self._capacity,
                    region=self.host.region,
                    zone=self.host.zone,
                    preemptible=self._preemptible,
                    slice=self._slice,
                ),
                self._lives[0],
                controller=self._controller,
                launcher=SimLauncher(self.attempts, process, self._home / "run", self._programs),
                home=self._home,
                token_file=str(self._home.parent / "token"),
                earlier=self._lives[1:],
                remember_boot_id=self._remember_boot,
                ports=PortRange(is_free=lambda port: True),  # the agent's own word is enough
            )
            await serve_agent(runtime, agent)
            await agent.ready()
            self.registered.set()
            try:
                stopping = runtime.scope.spawn(stop.wait(), name="stop")
                await asyncio.wait((stopping, agent.failed), return_when=asyncio.FIRST_COMPLETED)
                if agent.failed.done():
                    agent.failed.result()
            finally:
                await agent.close(kill=not agent.failed.done())
                system.close()

    def _remember_boot(self, boot_id: str) -> None:
        self._lives = (boot_id, *self._lives)[:LIVES_MAX]


class ControllerHost:
    """The controller's machine, with the journal on its disk.

    Args:
        world: Where it is.
        home: Its directory for blobs, on a real disk.

    Attributes:
        process: The process of the present controller, or of the last one.
    """

    def __init__(self, world: World, home: Path) -> None:
        self.process: SimProcess | None = None
        self._world = world
        self._home = home
        self._controller: Controller | None = None

    @property
    def book(self) -> Book | None:
        """That of the present controller, or of the last one; None before the first."""
        return self._controller.book if self._controller is not None else None

    @property
    def names(self) -> Names | None:
        """Likewise its names."""
        return self._controller.names if self._controller is not None else None

    async def controller(self, process: SimProcess) -> int:
        """The controller's process: ends at SIGTERM. Gives the exit code: 1 if it failed for good.

        Args:
            process: Its simulated process.
        """
        stop = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
        self.process = process
        async with runtime_of(process, port=CONTROLLER_PORT) as runtime:
            facts = ClusterFacts("simulated", local=False)
            store = SimStore(process.disk, self._world.note)
            controller = Controller(runtime, store, self._home / "blobs", facts)
            try:
                await controller.start()
            except SupervisorFailed as exc:
                self._world.note(f"the controller cannot start: {_first_line(str(exc))}")
                return 1
            self._controller = controller
            try:
                stopping = runtime.scope.spawn(stop.wait(), name="stop")
                failed = controller.root.stopped
                await asyncio.wait((stopping, failed), return_when=asyncio.FIRST_COMPLETED)
                if controller.root.failure is not None:
                    why = _first_line(explain(controller.root.failure))
                    self._world.note(f"the controller failed: {why}")
                    return 1
            finally:
                await controller.close()
        return 0


def _first_line(text: str) -> str:
    return text.partition("\n")[0]


__all__ = ["CONTROLLER_PORT", "ControllerHost", "WorkerHost"]
