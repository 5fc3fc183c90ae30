"""The launcher of the local cluster: in the driver's process where that will do.

A function runs in a thread; an actor is hosted by the driver's own process. What needs a process
of its own (`TaskFile.isolation`) gets one from the launcher of real clusters.

A thread cannot be killed. Told to stop, every call of fray's in it raises `JobStopped`; then that
is raised between two bytecodes of whatever it runs; and if it still goes on after that, inside some
C function, it is abandoned. Such threads are daemons: they keep no interpreter alive.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import inspect
import logging
import os
import threading
from contextvars import copy_context
from typing import TYPE_CHECKING, Any

from fray.actor.current import CURRENT_SYSTEM
from fray.cluster.base import SyncCluster
from fray.cluster.blobs import unpack
from fray.cluster.current import CURRENT_CLUSTER
from fray.cluster.entrypoint import rest_of
from fray.cluster.worker import exits
from fray.cluster.worker.hosting import host_actor
from fray.cluster.worker.launcher import Exit, Launcher, LaunchSpec, Running, Usage
from fray.cluster.worker.logs import LogWriter
from fray.cluster.worker.output import routed
from fray.cluster.worker.showing import show_output
from fray.cluster.worker.stopping import drain_s, read_note
from fray.cluster.worker.task import print_failure
from fray.cluster.worker.taskfile import TaskFile, TaskKind, write_error
from fray.errors import ClusterError, DeathCause, DeathKind, JobStopped
from fray.runtime.blocking import CURRENT_STOP, StopToken
from fray.runtime.loopthread import on_loop
from fray.runtime.serialization import loads
from fray.runtime.tasks import Scope

if TYPE_CHECKING:
    from fray.cluster.client import AsyncFrayCluster
    from fray.ids import AttemptId
    from fray.runtime.cell import Cell
    from fray.runtime.clock import Clock


log = logging.getLogger("fray")

GENTLE_S = 0.05
"""Between telling a thread by its own calls and raising in it."""

ABANDON_S = 0.5
"""What a thread has at the least to unwind."""

LAST_WORDS_S = 1.0
"""What is left of the output of actors that have ended is shown in that time."""

CLOSE_S = 3.0
"""What an attempt's connection has to end in order."""

Inside = "Callable[[TaskFile], Coroutine[Any, Any, AsyncFrayCluster]]"
"""Gives a task its connection, on the driver's loop."""


class _Local:
    """An attempt within the driver's process. A `Running`."""

    def __init__(
        self, spec: LaunchSpec, clock: Clock, cluster: AsyncFrayCluster, scope: Scope
    ) -> None:
        self._spec = spec
        self._clock = clock
        self._cluster = cluster
        self._home = cluster.system.process
        self._scope = scope
        self._is_ending = False
        self._loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[Exit] = self._loop.create_future()
        self.started_at = clock.time()

    @property
    def attempt_id(self) -> AttemptId:
        return self._spec.attempt_id

    @property
    def pid(self) -> int:
        return os.getpid()

    @property
    def exit(self) -> Exit | None:
        return self._ended.result() if self._ended.done() else None

    async def wait(self) -> Exit:
        return await asyncio.shield(self._ended)

    async def stop(self, grace_s: float | None = None) -> Exit:
        raise NotImplementedError

    async def kill(self) -> Exit:
        return await self.stop(0.0)

    def usage(self) -> Usage:
        return Usage(0.0, 0, 0 if self._ended.done() else 1)

    def end(self, exit_code: int | None, cause: DeathCause | None) -> None:
        """It has ended, or is given up. The first word counts. On the agent's loop."""
        if self._is_ending:
            return
        self._is_ending = True
        ended = Exit(
            attempt_id=self.attempt_id,
            exit_code=exit_code,
            signal=None,
            out_of_memory=False,
            cause=cause,
            ended_at=self._clock.time(),
        )
        if self._scope.closed:
            self._ended.set_result(ended)
        else:
            self._scope.spawn(self._end(ended), name=f"end {self.attempt_id}")

    async def _end(self, ended: Exit) -> None:
        """Ends what the attempt has in this process, as its own process's death would.

        Else it would renew its names for ever, and its actors would answer.
        """
        try:
            if not self._home.scope.closed:  # the driver's end ends all that is in it
                async with asyncio.timeout(CLOSE_S):
                    await on_loop(self._home.loop, self._cluster.close)
        except (RuntimeError, TimeoutError):
            pass  # the driver's loop has ended, or stands still: so does what is on it
        finally:
            self._ended.set_result(ended)


class _ThreadAttempt(_Local):
    """A function in a thread."""

    def __init__(
        self,
        spec: LaunchSpec,
        clock: Clock,
        cluster: AsyncFrayCluster,
        scope: Scope,
        payload: bytes,
    ) -> None:
        super().__init__(spec, clock, cluster, scope)
        self._payload = payload
        self._token = StopToken()
        self._raising = threading.Lock()
        self._over = False
        context = copy_context()
        context.run(CURRENT_SYSTEM.set, cluster.system)
        context.run(CURRENT_CLUSTER.set, SyncCluster(cluster))
        context.run(CURRENT_STOP.set, self._token)
        self._thread = threading.Thread(
            target=context.run, args=(self._main,), name=f"fray {spec.attempt_id}", daemon=True
        )
        self._thread.start()

    def _main(self) -> None:
        """Runs the function, and tells how it ended, wherever `JobStopped` comes in between."""
        log = LogWriter(self._spec.log_path, self._spec.log_bytes_max)
        cause: DeathCause | None = None
        try:
            try:
                with routed(log):
                    cause = self._call()
            except BaseException as exc:  # `JobStopped`, between two lines of ours; or a full disk
                cause = exits.raised(exc)
        except JobStopped as exc:
            cause = exits.raised(exc)
        while True:
            try:
                self._is_over()
                log.close()
                break
            except JobStopped:  # it was on its way when the function returned
                continue
        code = 0 if cause is None else cause.exit_code
        with contextlib.suppress(RuntimeError):  # the loop has ended: nobody waits any more
            self._loop.call_soon_threadsafe(self.end, code, cause)

    def _is_over(self) -> None:
        """From here on nothing is raised in this thread; what was on its way is taken back."""
        with self._raising:
            self._over = True
            _raise_in(threading.get_ident(), None)

    def _call(self) -> DeathCause | None:
        try:
            fn, args, kwargs = loads(unpack(self._payload), what="the entrypoint")
            if inspect.iscoroutinefunction(fn):
                self._cluster.system.run(lambda: fn(*args, **kwargs))
            else:
                rest = rest_of(fn(*args, **kwargs))
                if rest is not None:
                    self._cluster.system.run(lambda: rest)
        except BaseException as exc:
            cause = exits.raised(exc)
            if cause is not None and cause.kind is not DeathKind.STOPPED:
                print_failure(exc)
            return cause
        return None

    async def stop(self, grace_s: float | None = None) -> Exit:
        self._token.stop("the job was told to stop")
        grace_s = self._spec.stop_grace_s if grace_s is None else grace_s
        if not await self._gone(min(GENTLE_S, max(grace_s, 0.0))):
            ident = self._thread.ident
            assert ident is not None
            with self._raising:
                if not self._over:
                    _raise_in(ident, JobStopped)
            if not await self._gone(max(grace_s, ABANDON_S)):
                self.end(None, DeathCause(DeathKind.STOPPED, "thread abandoned"))
        return await self.wait()

    async def _gone(self, within_s: float) -> bool:
        done, _ = await asyncio.wait([self._ended], timeout=within_s)
        return bool(done)


def _raise_in(ident: int, exception: type[BaseException] | None) -> None:
    """Has a thread raise an exception at its next instruction; None takes back what is pending."""
    what = None if exception is None else ctypes.py_object(exception)
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(ident), what)


class _ActorAttempt(_Local):
    """An actor in the driver's process."""

    def __init__(
        self, spec: LaunchSpec, clock: Clock, cluster: AsyncFrayCluster, scope: Scope
    ) -> None:
        super().__init__(spec, clock, cluster, scope)
        self._cell: Cell | None = None

    async def begin(self, task: TaskFile, payload: bytes) -> None:
        """Makes the actor, on the driver's loop."""
        self._home.post(self._begin, task, payload)

    def _begin(self, task: TaskFile, payload: bytes) -> None:
        if self._home.scope.closed:
            self._tell(DeathCause(DeathKind.STOPPED, "its process is shutting down"))
        else:
            self._home.scope.spawn(self._serve(task, payload), name="actor")

    async def _serve(self, task: TaskFile, payload: bytes) -> None:
        try:
            assert task.actor is not None
            system = self._cluster.system
            cell = self._cell = await host_actor(system, task.actor, task.number + 1, payload)
            cause = await cell.stopped
            if cell.failure is not None:
                told = exits.raised(cell.failure)
                write_error(self._spec.run_dir, told.message if told else "it exited with code 0")
                print_failure(cell.failure)
        except asyncio.CancelledError:
            self._tell(DeathCause(DeathKind.STOPPED, "its process is shutting down"))
            raise
        except BaseException as exc:
            self._tell(exits.raised(exc) or DeathCause(DeathKind.STOPPED, "it exited with code 0"))
        else:
            self._tell(cause)

    def _tell(self, cause: DeathCause) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended: nobody waits any more
            self._loop.call_soon_threadsafe(self.end, None, cause)

    async def stop(self, grace_s: float | None = None) -> Exit:
        grace_s = self._spec.stop_grace_s if grace_s is None else grace_s
        cause = read_note(self._spec.run_dir).cause

        async def stop_cell() -> None:
            cell = self._cell
            if cell is None:
                return
            if grace_s > 0:
                try:
                    await cell.stop(cause, grace_s=drain_s(grace_s))
                except asyncio.CancelledError:
                    raise
                except BaseException as exc:  # the user's own matter: the actor has ended
                    log.error("what %s does as it stops failed", cell.label, exc_info=exc)
            else:
                cell.kill(cause)

        if not self._ended.done():
            if self._cell is None:  # still being made: its end is not waited for
                self.end(None, cause)
            await on_loop(self._home.loop, stop_cell)
        return await self.wait()


class LocalLauncher:
    """Implements `Launcher` for the local cluster.

    Args:
        clock: The agent's clock.
        processes: Launches what needs a process.
    """

    def __init__(self, clock: Clock, processes: Launcher) -> None:
        self._clock = clock
        self._processes = processes
        self._inside: Any = None
        self._driver_loop: asyncio.AbstractEventLoop | None = None
        self._running: dict[AttemptId, _Local] = {}
        self._scope = Scope("local attempts")
        self._shown = Scope("output of actors")

    @property
    def limits_memory(self) -> bool:
        """See `Launcher.limits_memory`."""
        return self._processes.limits_memory

    def attach(self, loop: asyncio.AbstractEventLoop, inside: Any) -> None:
        """Says where the driver is. Before that, nothing can be launched.

        Args:
            loop: The driver's loop.
            inside: Gives a task its connection there.
        """
        self._driver_loop = loop
        self._inside = inside

    async def launch(self, spec: LaunchSpec) -> Running:
        """See `Launcher.launch`."""
        task, payload = TaskFile.read(spec.run_dir)
        if task.kind is TaskKind.PROGRAM or task.isolation != "thread":
            apart = await self._processes.launch(spec)
            if task.actor is not None:  # a job's output is its log, wherever it runs
                show = show_output(
                    spec.log_path, task.actor.label, self._clock, lambda: apart.exit is not None
                )
                self._shown.spawn(show, name=task.actor.label)
            return apart
        if self._inside is None or self._driver_loop is None:
            raise ClusterError("the local cluster has no driver yet")
        cluster: AsyncFrayCluster = await on_loop(self._driver_loop, lambda: self._inside(task))
        spec.log_path.parent.mkdir(parents=True, exist_ok=True)
        running: _Local
        if task.kind is TaskKind.ACTOR:
            actor = _ActorAttempt(spec, self._clock, cluster, self._scope)
            await actor.begin(task, payload)
            running = actor
        else:
            running = _ThreadAttempt(spec, self._clock, cluster, self._scope, payload)
        self._running[spec.attempt_id] = running
        return running

    async def adopt(self) -> list[Running]:
        """See `Launcher.adopt`: what ran in an earlier process is gone with it."""
        return []

    async def forget(self, attempt_id: AttemptId) -> None:
        """See `Launcher.forget`."""
        if self._running.pop(attempt_id, None) is None:
            await self._processes.forget(attempt_id)

    async def close(self, kill: bool) -> None:
        """See `Launcher.close`. Nothing here outlives its process, so all is stopped."""
        stops = [running.stop(0.0) for running in self._running.values() if running.exit is None]
        if stops:
            await asyncio.gather(*stops)
        await self._scope.close()
        await self._processes.close(kill)
        try:
            async with asyncio.timeout(LAST_WORDS_S):
                await self._shown.finished()
        except TimeoutError:
            log.debug("the last output of actors could not be shown")
        finally:
            await self._shown.close()


__all__ = ["LocalLauncher"]
