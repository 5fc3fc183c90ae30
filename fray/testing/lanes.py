"""Lanes: how one event loop carries many simulated processes.

Every callback and every task belongs to one `Lane`. A lane is strictly first in, first out, because
asyncio promises that order and correct programs rely on it; *between* lanes there is no order at
all, and the seed picks which lane runs next. So a simulated process behaves as it does on a loop
of its own, and all interleavings of processes can happen.

Which lane a callback belongs to is written in its context (`LANE`), so it is inherited by whatever
a process starts, however deep in a library.

This module knows nothing of time, seeds, networks or hosts.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections import deque
from typing import TYPE_CHECKING, Any, TypeVar, cast

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from contextvars import Context

    from fray.testing.scheduler import Scheduler

_T = TypeVar("_T")

LANE: contextvars.ContextVar[Lane] = contextvars.ContextVar("fray_sim_lane")
"""The lane of the code that runs; absent in code that belongs to the test itself."""


class Lane:
    """One queue of callbacks: one incarnation of one simulated process.

    Attributes:
        name: For reports and traces.
        number: Counts from 0 in order of creation.
        context: A pristine context that leads into this lane. Run copies of it, never it itself:
            a context cannot be entered twice, and what runs in one may change it.
        queue: Callbacks that are ready, oldest first.
        listed: Whether the loop need not be told that the queue is no longer empty: it knows
            already, or must not run this lane.
        alive: False once the process is gone; then nothing of it ever runs again.
        signal_handlers: What the process registered with ``loop.add_signal_handler``.
    """

    __slots__ = (
        "alive",
        "context",
        "frozen",
        "listed",
        "name",
        "number",
        "queue",
        "signal_handlers",
    )

    def __init__(self, name: str, number: int) -> None:
        self.name = name
        self.number = number
        self.queue: deque[SimHandle] = deque()
        self.listed = False
        self.alive = True
        self.frozen = False
        self.signal_handlers: dict[int, Callable[[], object]] = {}
        # Empty, not a copy: a new process inherits no context variables of whoever started it.
        self.context = contextvars.Context()
        self.context.run(LANE.set, self)

    def kill(self) -> None:
        """Drops all that waits here and all that will ever come.

        A queue that holds nothing makes scheduling free of any question about who is alive.
        """
        self.alive = False
        self.frozen = False
        self.listed = True
        self.queue = deque(maxlen=0)
        self.signal_handlers.clear()

    def __repr__(self) -> str:
        state = "frozen" if self.frozen else "alive" if self.alive else "dead"
        return f"<Lane {self.name} {state}, {len(self.queue)} ready>"


class SimHandle(asyncio.TimerHandle):
    """A scheduled callback.

    It is a `asyncio.TimerHandle` for the sake of those who ask, but keeps its state in slots of
    its own and skips the constructor of its parents, which costs more than all the rest.
    """

    __slots__ = ("args", "at", "callback", "context", "lane", "loop", "number", "timed")

    def __init__(  # pyright: ignore[reportMissingSuperCall] - see the docstring of the class
        self,
        number: int,
        at: float,
        callback: Callable[..., object],
        args: tuple[Any, ...],
        loop: Scheduler,
        context: Context,
        lane: Lane,
    ) -> None:
        self.number = number
        self.at = at
        self.callback: Callable[..., object] | None = callback
        self.args = args
        self.loop = loop
        self.context = context
        self.lane = lane
        self.timed = False

    def cancel(self) -> None:
        """The callback will not run."""
        if self.callback is not None:
            self.callback = None
            self.args = ()
            if self.timed:
                self.loop.timer_cancelled()

    def cancelled(self) -> bool:
        """Whether `cancel` was called."""
        return self.callback is None

    def when(self) -> float:
        """The virtual time at which it is or was due."""
        return self.at

    def get_context(self) -> Context:
        """The context in which the callback runs."""
        return self.context

    def __hash__(self) -> int:
        return self.number

    def __eq__(self, other: object) -> bool:
        return self is other

    def __repr__(self) -> str:
        if self.callback is None:
            return f"<SimHandle {self.number} cancelled>"
        return f"<SimHandle {self.number} of {self.lane.name}: {describe_callback(self.callback)}>"


class SimTask(asyncio.Task[_T]):
    """A task that hashes by its number.

    `asyncio.TaskGroup`, `asyncio.wait` and `asyncio.all_tasks` keep tasks in sets. With the usual
    hash, an address, the order in which such a set is walked differs from run to run.
    """

    __slots__ = ("lane", "number")

    number: int
    lane: Lane | None

    def __new__(cls, *args: Any, loop: Any = None, **kwargs: Any) -> SimTask[_T]:  # noqa: D102
        self = super().__new__(cls)
        # Before __init__, which already puts the task into a set. While a simulation runs this
        # class stands in for asyncio.Task, so another thread's loop may be meant, which counts not.
        count = getattr(loop or asyncio.get_running_loop(), "next_task_number", None)
        self.number = id(self) if count is None else count()
        return self

    def __init__(
        self,
        coro: Coroutine[Any, Any, _T],
        *,
        loop: asyncio.AbstractEventLoop | None = None,
        name: str | None = None,
        context: Context | None = None,
        **kwargs: Any,
    ) -> None:
        if context is None:
            context = contextvars.copy_context()
        self.lane = context.get(LANE)
        # asyncio's own default names count over the whole interpreter, hence over earlier tests.
        super().__init__(
            coro, loop=loop, name=name or f"task-{self.number}", context=context, **kwargs
        )

    def __hash__(self) -> int:
        return self.number


def describe_callback(callback: Callable[..., object]) -> str:
    """Names a callback: the task that it steps, or the function; never an address.

    Args:
        callback: What a handle runs.
    """
    owner = getattr(callback, "__self__", None)
    if isinstance(owner, asyncio.Task):
        return f"task {cast('asyncio.Task[Any]', owner).get_name()}"
    function = getattr(callback, "func", callback)
    return str(getattr(function, "__qualname__", type(function).__qualname__))


__all__ = ["LANE", "Lane", "SimHandle", "SimTask", "describe_callback"]
