"""The workers of a pool, as actors: they are made, told what to do, and listened to."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Protocol

from fray.actor.current import using
from fray.actor.decorator import ActorFactory, options_of
from fray.errors import FrayError, InvalidRequestError, PayloadError
from fray.job.looking import look
from fray.job.parts import Parts, parts_of
from fray.job.worker import TaskWorker
from fray.runtime.tasks import Scope

if TYPE_CHECKING:
    from fray.actor.handle import ActorHandle
    from fray.actor.system import ActorSystem
    from fray.job.link import TaskSpec

PUSH_BYTES_MAX = 4 << 20
"""Arguments that go to a worker in one call."""

STOP_S = 1.0
"""What a worker without tasks has to end."""

Message = tuple[Any, ...]


class Boss(Protocol):
    """Who is told what becomes of workers. On the loop."""

    def worker_started(self, worker: int) -> None:
        """A worker is ready."""
        ...

    def worker_told(self, worker: int, batch: list[Message]) -> None:
        """A worker has told something."""
        ...

    def worker_lost(self, worker: int, reason: str, hopeless: bool) -> None:
        """A worker is gone, or could not be had; hopeless: nor could another one."""
        ...


class Staff:
    """The workers of a pool. On the loop.

    Args:
        system: Whose connections are used.
        pool: What the pool is called.
        options: Of the workers' actors, see `ActorOptions`.
        desk: Gives the pool as workers see it.
        boss: Is told what becomes of them.
    """

    def __init__(
        self,
        system: ActorSystem,
        pool: str,
        options: dict[str, Any],
        desk: Callable[[], Awaitable[ActorHandle[Any]]],
        boss: Boss,
    ) -> None:
        self._system = system
        self._pool = pool
        self._options = options_of(TaskWorker).replace(**options)
        self._desk = desk
        self._boss = boss
        self._handles: dict[int, ActorHandle[Any]] = {}
        self._scope = Scope(f"{pool} workers")

    def __contains__(self, worker: int) -> bool:
        return worker in self._handles

    def handle(self, worker: int) -> ActorHandle[Any]:
        """A worker's actor.

        Args:
            worker: Its number.

        Raises:
            KeyError: There is no such worker.
        """
        return self._handles[worker]

    def employ(self, worker: int) -> None:
        """Has a worker made.

        Args:
            worker: Its number.
        """
        self._scope.spawn(self._employ(worker), name=f"worker {worker}")

    async def _employ(self, worker: int) -> None:
        reason, hopeless = "it ended", False
        try:
            desk = await self._desk()
            self._system.check_open()  # else the worker would be made elsewhere
            with using(self._system):
                factory = ActorFactory(TaskWorker, self._options)
                handle = factory.remote(worker, self._pool, desk)
            self._handles[worker] = handle
            await handle
            self._boss.worker_started(worker)
            async for batch in handle.results.remote():
                self._boss.worker_told(worker, batch)
        except Exception as exc:
            reason = str(exc) if isinstance(exc, FrayError) else repr(exc)
            hopeless = isinstance(exc, InvalidRequestError | PayloadError) or self._system.closed
        finally:
            self._handles.pop(worker, None)
        self._boss.worker_lost(worker, reason, hopeless)

    def dismiss(self, worker: int) -> None:
        """Ends a worker that has no tasks.

        Args:
            worker: Its number.
        """
        handle = self._handles.get(worker)
        if handle is not None:
            look(handle.stop(grace_s=STOP_S))

    def send(self, worker: int, tasks: list[tuple[TaskSpec, dict[int | str, Parts]]]) -> None:
        """Gives tasks to a worker.

        Args:
            worker: Its number.
            tasks: Each with those values of its references that are here.
        """
        handle = self._handles[worker]
        functions: dict[bytes, int] = {}
        batch: list[Message] = []
        nbytes = 0
        for spec, inline in tasks:
            index = -1
            if spec.function is not None:
                index = functions.setdefault(bytes(spec.function.data), len(functions))
            refs = {place: ref for place, ref in spec.refs.items() if place not in inline}
            arguments = parts_of(spec.arguments)
            batch.append(
                (
                    spec.task,
                    spec.label,
                    index,
                    spec.function_ref,
                    arguments,
                    inline,
                    refs,
                    spec.streams,
                )
            )
            nbytes += spec.arguments.nbytes
            if nbytes > PUSH_BYTES_MAX:
                look(handle.push.remote(list(functions), batch))
                functions, batch, nbytes = {}, [], 0
        if batch:
            look(handle.push.remote(list(functions), batch))

    def recall(self, worker: int, tasks: tuple[int, ...]) -> None:
        """Asks for tasks back that a worker has not begun.

        Args:
            worker: Its number.
            tasks: Which.
        """
        handle = self._handles.get(worker)
        if handle is not None:
            look(handle.recall.remote(list(tasks)))

    def grant(self, worker: int, task: int, items: int) -> None:
        """Tells a generator that items were taken.

        Args:
            worker: Where it runs.
            task: Which.
            items: How many; 0 to close it.
        """
        handle = self._handles.get(worker)
        if handle is not None:
            look(handle.grant.remote(task, items))

    def forget(self, worker: int, values: list[int]) -> None:
        """Tells a worker which values nobody wants.

        Args:
            worker: Its number.
            values: Which.
        """
        handle = self._handles.get(worker)
        if handle is not None:
            look(handle.forget.remote(values))

    async def close(self) -> None:
        """Ends all of them."""
        ends = [handle.kill() for handle in self._handles.values()]
        for end in ends:
            with contextlib.suppress(FrayError, asyncio.TimeoutError):
                await end
        await self._scope.close()


__all__ = ["Boss", "Message", "Staff"]
