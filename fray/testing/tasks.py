"""What runs in the processes of a simulated cluster: fray's own composition, on simulated seams.

`runtime_of` makes the `fray.runtime.process.Process` of a simulated process, `connected` a
connection to the cluster as a driver or a task has it, and `TaskPrograms` says what an attempt
runs: the production code of a task, or a program that the test has given by name.

Simulated processes share one interpreter. What a real process has to itself and these do not:
modules and their globals. A plain function or method runs to its end at one instant, so it cannot
block; it is told so if it tries.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import signal
from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

from fray.actor.current import CURRENT_SYSTEM
from fray.cluster.base import SyncCluster
from fray.cluster.blobs import unpack
from fray.cluster.client import AsyncFrayCluster
from fray.cluster.current import CURRENT_CLUSTER
from fray.cluster.entrypoint import rest_of
from fray.cluster.worker.output import routed
from fray.cluster.worker.task import exit_code_of, serve_actor
from fray.cluster.worker.taskfile import TaskFile, TaskKind
from fray.errors import JobStopped
from fray.runtime.auth import TokenAuthenticator
from fray.runtime.process import Process
from fray.runtime.serialization import loads
from fray.testing.errors import SimUnsupported
from fray.testing.loop import SimLoop
from fray.testing.threads import SimThreads

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from fray.cluster.identity import Identity
    from fray.cluster.worker.launcher import LaunchSpec
    from fray.runtime.calls import OutgoingCall
    from fray.testing.attempts import Execution, TaskProgram
    from fray.testing.process import SimProcess

T = TypeVar("T")

TOKEN = "simulated"
"""What every process of a simulated cluster shows to the others."""

_BLOCKS = (
    "a blocking call in a simulation: plain functions and methods run in one go here, and nobody "
    "else runs meanwhile, so it would wait for ever; write `async def` and await instead"
)

_TASK_MODULE = "fray.cluster.worker.task"


class SimRuntime(Process):
    """A fray process that can be held at barriers.

    Its plain functions cannot wait for its loop, and are told why.

    Args:
        process: The simulated process.
        **how: As for `Process`.
    """

    def __init__(self, process: SimProcess, **how: Any) -> None:
        super().__init__(**how)
        self._process = process

    def send(self, process_id: str, address: str, target: str, call: OutgoingCall) -> None:
        """See `Process.send`."""
        send = functools.partial(super().send, process_id, address, target, call)
        barriers = self._process.barriers
        if barriers is None:
            send()
        else:
            barriers.pass_by(self._process, f"{target.partition('/')[0]}.{call.method}", send)

    def run(
        self, make: Callable[[], Coroutine[Any, Any, T]], *, timeout_s: float | None = None
    ) -> T:
        """See `Process.run`.

        Raises:
            SimUnsupported: A plain function or method called it.
        """
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            raise SimUnsupported(_BLOCKS) from None
        return super().run(make, timeout_s=timeout_s)

    def post(self, fn: Callable[..., object], *args: Any) -> None:
        """See `Process.post`: what plain functions post runs after them, as from a thread."""
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            self.loop.call_soon(super().post, fn, *args, context=self._process.lane.context.copy())
        else:
            super().post(fn, *args)


def runtime_of(process: SimProcess, *, port: int = 0) -> Process:
    """The fray process of a simulated process; not yet started.

    Args:
        process: The simulated process, in whose lane the caller runs.
        port: Port to bind; 0 for any.
    """
    loop = asyncio.get_running_loop()
    assert isinstance(loop, SimLoop)
    runtime = SimRuntime(
        process,
        clock=process.clock,
        transport=process.make_transport(authenticator=TokenAuthenticator(TOKEN), token=TOKEN),
        # Threads of its own: it closes them, and the test's process has several connections.
        threads=SimThreads(loop, process.lane, process.clock.token()),
        host=process.host.name,
        port=port,
        label=process.name,
    )
    process.runtimes.append(runtime)
    return runtime


def _no_imports() -> dict[str, str]:
    """Simulated tasks have this interpreter's modules.

    Where those come from differs from machine to machine. Sent along, it would make messages and
    journals longer or shorter, and with them when snapshots are due: a seed would tell another
    story in another folder.
    """
    return {}


@contextlib.asynccontextmanager
async def connected(
    process: SimProcess, address: str, identity: Identity
) -> AsyncGenerator[AsyncFrayCluster]:
    """A connection to a cluster, which is the current one within the block.

    Args:
        process: The simulated process that connects.
        address: The controller's ``host:port``.
        identity: Who connects.

    Raises:
        ClusterUnavailable: Nobody answers there.
    """
    runtime = runtime_of(process)
    await runtime.start()
    timeout_s = identity.lookup_timeout_s
    cluster = AsyncFrayCluster(
        runtime, address, identity, lookup_timeout_s=timeout_s, imports=_no_imports
    )
    try:
        await cluster.open()
        process.systems.append(cluster.system)
        system = CURRENT_SYSTEM.set(cluster.system)
        current = CURRENT_CLUSTER.set(SyncCluster(cluster))
        try:
            yield cluster
        finally:
            CURRENT_CLUSTER.reset(current)
            CURRENT_SYSTEM.reset(system)
    finally:
        await cluster.close()
        process.runtimes.remove(runtime)
        process.systems = [system for system in process.systems if not system.closed]


class TaskPrograms:
    """What attempts run: tasks as everywhere, and programs that only the simulation has.

    Args:
        programs: Programs by the name under which jobs run them.
    """

    def __init__(self, programs: dict[str, TaskProgram]) -> None:
        self.programs = programs

    def __call__(self, spec: LaunchSpec) -> TaskProgram | None:
        """The program of an attempt; None where there is none.

        Args:
            spec: What is launched.
        """
        if spec.argv[1:3] == ("-m", _TASK_MODULE):
            return run_task
        return self.programs.get(spec.argv[0])


async def run_task(execution: Execution) -> int:
    """The process of a task, as `fray.cluster.worker.task` has it. Gives the exit code.

    Args:
        execution: The attempt.
    """
    run_dir = execution.spec.run_dir
    task, payload = TaskFile.read(run_dir)
    connection = connected(execution.process, task.cluster_address, task.identity())
    with routed(execution.log):
        try:
            if task.kind is TaskKind.ACTOR:
                await serve_actor(task, payload, connection, run_dir)
            else:
                await _run_function(execution.process, payload, connection)
        except asyncio.CancelledError:  # by a SIGTERM that came before there was a handler
            raise
        except BaseException as exc:
            if _is_buried():  # its process crashed long ago: nobody is to hear of its unwinding
                raise
            return exit_code_of(exc, run_dir)
    return 0


def _is_buried() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return True
    return False


async def _run_function(
    process: SimProcess, payload: bytes, connection: AbstractAsyncContextManager[AsyncFrayCluster]
) -> None:
    fn, args, kwargs = loads(unpack(payload), what="the entrypoint")
    call: Callable[[], object] = functools.partial(fn, *args, **kwargs)
    main = asyncio.current_task()
    assert main is not None
    told: list[int] = []

    def on_sigterm() -> None:
        told.append(signal.SIGTERM)
        main.cancel()

    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, on_sigterm)
    try:
        async with connection:
            if inspect.iscoroutinefunction(fn):
                await fn(*args, **kwargs)
            else:
                rest = rest_of(await process.threads.lane("main").submit(call))
                if rest is not None:
                    await rest
    except asyncio.CancelledError:
        if not told:
            raise
        raise JobStopped("the job was told to stop") from None


__all__ = ["TOKEN", "TaskPrograms", "connected", "run_task", "runtime_of"]
