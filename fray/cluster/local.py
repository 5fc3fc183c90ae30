"""The local cluster: the controller and an agent, embedded in the driver's process.

It is the same controller and the same agent as anywhere else, on a loop thread of their own. What
differs: the ledger lives in memory; functions run in threads and actors in the driver's process
where nothing about them needs a process; CPUs are oversubscribed and accelerators are virtual.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING

from fray.actor.system import ActorSystem
from fray.checks import check_whole
from fray.cluster.base import SyncCluster
from fray.cluster.client import AsyncFrayCluster
from fray.cluster.connect import JOB_LOOKUP_TIMEOUT_S, make_process
from fray.cluster.control import ClusterFacts
from fray.cluster.controller.journal import MemoryStore
from fray.cluster.controller.specs import WorkerSpec
from fray.cluster.controller.tree import Controller
from fray.cluster.files import write_once
from fray.cluster.scratch import Scratch
from fray.cluster.worker.agent import Agent
from fray.cluster.worker.hosts import host_resources
from fray.cluster.worker.local import LocalLauncher
from fray.cluster.worker.service import serve_agent
from fray.cluster.worker.subprocesses import SubprocessLauncher
from fray.ids import WorkerId
from fray.runtime.clock import SystemClock
from fray.runtime.loopthread import LoopThread

if TYPE_CHECKING:
    from fray.cluster.identity import Identity
    from fray.cluster.worker.taskfile import TaskFile
    from fray.runtime.process import Process

log = logging.getLogger("fray")

MAX_WORKERS = 4

STOP_TIMEOUT_S = 20.0
"""So long everything on the cluster may take to end."""


class _Embedded:
    """A controller and an agent, on a loop thread of their own."""

    def __init__(self, max_workers: int, strict: bool) -> None:
        self._max_workers = max_workers
        self._strict = strict
        self._thread = LoopThread("fray-controller")
        self._scratch = Scratch()
        self._home = self._scratch.path
        self._pid = os.getpid()
        self.token = SystemClock().token(32)
        self._token_file = self._home / "token"
        write_once(self._token_file, self.token.encode())
        self._process: Process | None = None
        self._controller: Controller | None = None
        self._agent: Agent | None = None
        self._system: ActorSystem | None = None
        self.launcher: LocalLauncher | None = None
        self.address = ""

    def start(self) -> None:
        """Starts both. Blocks for the few milliseconds that it takes."""
        self._thread.start()
        try:
            self._thread.run(self._start)
        except BaseException:
            self.stop()
            raise

    async def _start(self) -> None:
        process = self._process = make_process(self.token, label="local cluster")
        await process.start()
        self.address = process.address
        facts = ClusterFacts("local", local=True)
        self._controller = Controller(process, MemoryStore(), self._home / "blobs", facts)
        await self._controller.start()
        clock = process.clock
        processes = SubprocessLauncher(self._home / "run", clock, embedded=True)
        self.launcher = LocalLauncher(clock, processes)
        system = self._system = ActorSystem(process, None, namespace="")
        spec = WorkerSpec(
            worker_id=WorkerId("local"),
            address=process.address,
            capacity=host_resources().capacity,
            oversubscribe=not self._strict,
            slots=self._max_workers,
        )
        self._agent = Agent(
            system,
            spec,
            clock.token(8),
            controller=process.address,
            launcher=self.launcher,
            home=self._home,
            token_file=str(self._token_file),
            environments=True,
        )
        await serve_agent(process, self._agent)
        await self._agent.ready()

    def stop(self) -> None:
        """Ends everything that was started here, and removes its files; in a fork, nothing."""
        if os.getpid() != self._pid:
            return
        try:
            self._thread.run(self._stop, timeout_s=STOP_TIMEOUT_S)
        except (RuntimeError, TimeoutError) as exc:
            _tell_of_disorder(exc)
        finally:
            self._remove()

    async def stop_async(self) -> None:
        """As `stop`, from the loop on which actors run that have to be stopped."""
        if os.getpid() != self._pid:
            return
        try:
            async with asyncio.timeout(STOP_TIMEOUT_S):
                await self._thread.run_async(self._stop)
        except (RuntimeError, TimeoutError) as exc:
            _tell_of_disorder(exc)
        finally:
            self._remove()

    def _remove(self) -> None:
        self._thread.stop()
        self._scratch.remove()

    async def _stop(self) -> None:
        if self._agent is not None:
            await self._agent.close(kill=True)
        if self._controller is not None:
            await self._controller.close()
        if self._system is not None:
            self._system.close()
        if self._process is not None:
            await self._process.close()


def _tell_of_disorder(exc: Exception) -> None:
    """What is left ends with this process."""
    log.warning("the local cluster did not end in order: %s", str(exc) or "it took too long")


async def _open_driver(
    embedded: _Embedded, identity: Identity, *, use_processes: bool, isolated_env: bool
) -> AsyncFrayCluster:
    """The driver's connection, on the running loop; it also hosts local actors and jobs."""
    process = make_process(embedded.token, label="driver")
    await process.start()
    cluster = AsyncFrayCluster(
        process,
        embedded.address,
        identity,
        isolate=use_processes,
        isolated_env=isolated_env,
    )

    async def inside(task: TaskFile) -> AsyncFrayCluster:
        own = AsyncFrayCluster(
            process,
            embedded.address,
            task.identity(),
            lookup_timeout_s=JOB_LOOKUP_TIMEOUT_S,
            isolate=use_processes,
            isolated_env=isolated_env,
            owns_process=False,
        )
        await own.open()
        return own

    assert embedded.launcher is not None
    embedded.launcher.attach(process.loop, inside)
    await cluster.open()
    return cluster


@contextlib.asynccontextmanager
async def open_local(
    identity: Identity,
    *,
    max_workers: int = MAX_WORKERS,
    use_processes: bool = False,
    use_isolated_env: bool = False,
    strict: bool = False,
) -> AsyncGenerator[AsyncFrayCluster]:
    """A local cluster for the duration of a block, its driver on the running loop.

    Args:
        identity: Who connects.
        max_workers: See `LocalCluster`.
        use_processes: See `LocalCluster`.
        use_isolated_env: See `LocalCluster`.
        strict: See `LocalCluster`.
    """
    embedded = _Embedded(check_whole("max_workers", max_workers, 1), strict)
    embedded.start()
    try:
        cluster = await _open_driver(
            embedded, identity, use_processes=use_processes, isolated_env=use_isolated_env
        )
        try:
            yield cluster
        finally:
            await cluster.close()
    finally:
        await embedded.stop_async()


class LocalCluster(SyncCluster):
    """Local cluster for development and testing: the real controller, embedded.

    A job runs in a thread where nothing about it needs a process, and in a child process
    otherwise: a program, several replicas, environment variables or packages that the user gave.
    What actors print appears on this process's standard output, from a child process with
    ``[NAME]`` before each line; what jobs print is in their logs.

    A context manager; `shutdown` ends it and everything that runs on it.

    Args:
        max_workers: Jobs that run at once, ≥ 1. Members of a group start together beyond it, and
            a job that waits for others does not count.
        use_processes: Run every job and actor in a child process.
        use_isolated_env: Run every job and actor in a child process, and each job whose environment
            names a workspace with that project's own dependencies and the extras that it asks for,
            built by uv. Else a job has the driver's packages, and those of its ``pip_packages``.
        strict: Count CPUs, memory and accelerators as a real host would.
        identity: Who connects; None for what the environment tells.

    Raises:
        InvalidRequestError: ``max_workers`` is below 1.
    """

    def __init__(
        self,
        max_workers: int = MAX_WORKERS,
        use_processes: bool = False,
        *,
        use_isolated_env: bool = False,
        strict: bool = False,
        identity: Identity | None = None,
    ) -> None:
        from fray.cluster.current import announce, identity_of

        who = identity or identity_of()
        self._embedded = _Embedded(check_whole("max_workers", max_workers, 1), strict)
        self._thread = LoopThread("fray-driver")
        self._embedded.start()
        try:
            self._thread.start()
            self._cluster = self._thread.run(
                lambda: _open_driver(
                    self._embedded,
                    who,
                    use_processes=use_processes,
                    isolated_env=use_isolated_env,
                )
            )
        except BaseException:
            self._thread.stop()
            self._embedded.stop()
            raise
        super().__init__(self._cluster)
        self._block = contextlib.ExitStack()
        announce(self)

    def __enter__(self) -> LocalCluster:
        from fray.cluster.current import using_cluster

        self._block.callback(self.shutdown)
        self._block.enter_context(using_cluster(self))
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._block.close()

    def shutdown(self) -> None:
        """Ends the cluster and everything that runs on it. May be called twice."""
        from fray.cluster.current import retire

        retire(self)
        if not self.system.closed:
            self._thread.run(self._cluster.close, timeout_s=10.0)
            self._embedded.stop()
        self._thread.stop()


__all__ = ["MAX_WORKERS", "LocalCluster", "open_local"]
