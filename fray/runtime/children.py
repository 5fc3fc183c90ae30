"""What a supervisor can own: anything that says when it has ended and that can be stopped.

A hosted actor (`Cell`) and a nested `Supervisor` are children as they are; `TaskChild` makes one of
a coroutine function. A `ChildSpec` says how to make one, again and again.

This room knows what a child is, and nothing of when it is restarted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Any, Protocol

from fray.errors import DeathCause, DeathKind
from fray.runtime.failures import Failure, sentence
from fray.runtime.restart import RestartType
from fray.runtime.tasks import Scope

if TYPE_CHECKING:
    from fray.runtime.cell import Cell

STOP_GRACE_S = 5.0
"""How long a child may take to stop by default."""


class Child(Protocol):
    """Something that runs until it ends by itself, is stopped or is killed."""

    @property
    def stopped(self) -> asyncio.Future[DeathCause]:
        """Done once it has ended, whatever the reason. Wait for it behind `asyncio.shield`."""
        ...

    async def stop(self, cause: DeathCause, *, grace_s: float) -> None:
        """Ends it in good order; returns when it has ended.

        Args:
            cause: Why.
            grace_s: How long its present work may go on, in seconds; may be infinite. Cleaning up
                may take as long again.
        """
        ...

    def kill(self, cause: DeathCause) -> None:
        """Ends it at once: `stopped` is done when this returns.

        Args:
            cause: Why.
        """
        ...


StartChild = Callable[[], Awaitable[Child]]
"""Makes a child and returns it once it runs. If it raises, or is cancelled, it leaves nothing."""


@dataclass(frozen=True, slots=True)
class ChildSpec:
    """How a supervisor makes and treats a child.

    Attributes:
        name: Unique among its siblings.
        start: Makes it; called for each restart.
        restart: When it is restarted.
        stop_grace_s: How long its present work may go on when it is to stop, in seconds, ≥ 0;
            infinite for as long as it likes, as befits a supervisor.
        significant: The supervisor stops when this child has ended and is not restarted; such a
            child is transient or temporary.
    """

    name: str
    start: StartChild
    restart: RestartType = RestartType.PERMANENT
    stop_grace_s: float = STOP_GRACE_S
    significant: bool = False

    def __post_init__(self) -> None:
        if not self.name:
            raise ValueError("a child's name is not empty")
        if not self.stop_grace_s >= 0:
            raise ValueError(f"stop_grace_s must be at least 0, not {self.stop_grace_s}")
        if self.significant and self.restart is RestartType.PERMANENT:
            raise ValueError(
                f"child {self.name} is permanent: it never ends, so is not significant"
            )


def failure_of(name: str, child: Child) -> Failure:
    """What is known of the end of a child.

    Args:
        name: Its name.
        child: A child that has ended.
    """
    known = getattr(child, "failure", None)
    if isinstance(known, Failure):
        return Failure(name, known.cause, known.error, known.because)
    if child.stopped.cancelled():
        message = "somebody cancelled the future that tells its end; it was killed"
        return Failure(name, DeathCause(DeathKind.UNKNOWN, message))
    return Failure(name, child.stopped.result())


class TaskChild:
    """A background task as a child. Begins at once.

    A coroutine that returns is a child that has ended normally; one that raises has failed.

    Args:
        run: Makes the coroutine.
        name: For people.

    Attributes:
        stopped: See `Child.stopped`.
        failure: How it ended, with what it raised; None while it runs, or if it was stopped.
    """

    def __init__(self, run: Callable[[], Coroutine[Any, Any, object]], *, name: str) -> None:
        self.name = name
        self.failure: Failure | None = None
        self.stopped: asyncio.Future[DeathCause] = asyncio.get_running_loop().create_future()
        self._told: DeathCause | None = None  # why it is to end
        self._scope = Scope(name, self._raised)
        self._task = self._scope.spawn(run())
        self._task.add_done_callback(self._ended)

    def __repr__(self) -> str:
        if not self.stopped.done():
            return f"<TaskChild {self.name} running>"
        return f"<TaskChild {self.name} ended: {self.stopped.result()}>"

    async def stop(self, cause: DeathCause, *, grace_s: float) -> None:
        """See `Child.stop`. A task is cancelled at once; the grace is for its ``finally`` blocks.

        Args:
            cause: Why.
            grace_s: How long they may take, in seconds; then it is given up.
        """
        if self.stopped.done():
            return
        self._told = self._told or cause
        self._task.cancel(str(cause))
        await asyncio.wait([self._task], timeout=None if grace_s == inf else grace_s)
        self.kill(cause)

    def kill(self, cause: DeathCause) -> None:
        """See `Child.kill`. A task that does not react to being cancelled is given up.

        Args:
            cause: Why.
        """
        self._told = self._told or cause
        self._task.cancel(str(cause))
        self._end(self._told)

    def _raised(self, name: str, exc: BaseException) -> None:
        if self._told is None:
            cause = DeathCause(DeathKind.APP_ERROR, sentence(exc))
            self.failure = Failure(self.name, cause, error=exc)
        else:
            told = {"message": f"task {self.name} failed while it was stopped", "exception": exc}
            asyncio.get_running_loop().call_exception_handler(told)

    def _ended(self, task: asyncio.Task[object]) -> None:
        if self._told is not None:
            self._end(self._told)
        elif self.failure is not None:
            self._end(self.failure.cause)
        elif task.cancelled():
            self._end(DeathCause(DeathKind.APP_ERROR, "it was cancelled"))
        else:
            self._end(DeathCause(DeathKind.STOPPED, "it has returned"))

    def _end(self, cause: DeathCause) -> None:
        if not self.stopped.done():
            self.stopped.set_result(cause)


def task_child(run: Callable[[], Coroutine[Any, Any, object]], *, name: str) -> StartChild:
    """How to start a background task as a child.

    Args:
        run: Makes the coroutine; called for each restart.
        name: For people.
    """

    async def start() -> Child:
        return TaskChild(run, name=name)

    return start


def cell_child(
    host: Callable[[int], Cell],
    factory: Callable[[], Any],
    *,
    register: Callable[[Cell], Awaitable[object]] | None = None,
) -> StartChild:
    """How to start an actor as a child.

    Args:
        host: Makes the cell of an incarnation, which counts from 1: frames name it, so that none
            for an earlier one is taken.
        factory: Makes the instance; see `Cell.start`.
        register: Tells others where the actor is, each time that it has started. If it raises, the
            actor is killed, and has failed to start.
    """
    incarnation = 0

    async def start() -> Child:
        nonlocal incarnation
        incarnation += 1
        cell = host(incarnation)
        await cell.start(factory)
        if register is not None:
            try:
                await register(cell)
            except BaseException as exc:
                message = f"it could not be registered: {sentence(exc)}"
                cell.kill(DeathCause(DeathKind.APP_ERROR, message))
                raise
        return cell

    return start


__all__ = [
    "STOP_GRACE_S",
    "Child",
    "ChildSpec",
    "StartChild",
    "TaskChild",
    "cell_child",
    "failure_of",
    "task_child",
]
