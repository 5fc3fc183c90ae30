"""Simulated threads: functions that run by themselves, at seeded moments, on the loop's thread.

What a thread does for a program is that something else may happen between the moment at which work
is handed over and the moment at which it runs, and between two pieces of work. That is kept. What
is not kept is that both run at once: a function runs in one go, takes no virtual time, and cannot
wait for anything (it is told so if it tries; see `fray.testing.isolation`).
"""

from __future__ import annotations

import contextvars
import random
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from fray.testing.loop import THREAD_DELAY_S_MAX, run_as_thread

if TYPE_CHECKING:
    import asyncio
    from contextvars import Context

    from fray.testing.lanes import Lane
    from fray.testing.loop import SimLoop

_T = TypeVar("_T")


class _Job(NamedTuple):
    future: asyncio.Future[Any]
    call: Callable[[], Any]


class SimThreadLane:
    """Runs functions one after the other; see `fray.runtime.threads.Lane`.

    Args:
        loop: The loop of the simulation.
        process: The lane of the process.
        dice: Decides when.
    """

    def __init__(self, loop: SimLoop, process: Lane, dice: random.Random) -> None:
        self._loop = loop
        self._process = process
        self._dice = dice
        self._jobs: deque[_Job] = deque()
        self._closed = False

    def submit(
        self, fn: Callable[..., _T], args: tuple[Any, ...] = (), context: Context | None = None
    ) -> asyncio.Future[_T]:
        """Runs a function after all that were submitted before.

        Args:
            fn: What to run. It must not wait for anything.
            args: Its arguments.
            context: The context to run in; a copy of the current one by default.

        Returns:
            The outcome. Cancelling it before the function's turn keeps it from running.

        Raises:
            RuntimeError: The lane is closed.
        """
        if self._closed:
            raise RuntimeError("the lane is closed")
        run = (context or contextvars.copy_context()).run
        future: asyncio.Future[_T] = self._loop.create_future()
        self._jobs.append(_Job(future, lambda: run(fn, *args)))
        if len(self._jobs) == 1:
            self._schedule()
        return future

    def close(self) -> None:
        """Accepts nothing more; what was submitted still runs. Idempotent."""
        self._closed = True

    def _schedule(self) -> None:
        self._loop.call_later(
            self._dice.random() * THREAD_DELAY_S_MAX,
            self._run_one,
            context=self._process.context.copy(),
        )

    def _run_one(self) -> None:
        job = self._jobs[0]
        try:
            run_as_thread(job.future, job.call)
        finally:
            self._jobs.popleft()
            if self._jobs:
                self._schedule()


class SimThreads:
    """The threads of a simulated process; see `fray.runtime.threads.Threads`.

    Args:
        loop: The loop of the simulation.
        process: The lane of the process.
        seed: Decides when functions run.
    """

    def __init__(self, loop: SimLoop, process: Lane, seed: str) -> None:
        self._loop = loop
        self._process = process
        self._dice = random.Random(f"{seed}/threads")
        self._lanes: list[SimThreadLane] = []

    def lane(self, label: str = "", *, thread_affinity: bool = False) -> SimThreadLane:
        """A lane: what is submitted to one runs in order, and never two at once.

        Args:
            label: For people.
            thread_affinity: Promised anyhow: there is one thread.
        """
        lane = SimThreadLane(self._loop, self._process, self._dice)
        self._lanes.append(lane)
        return lane

    def close(self) -> None:
        """Closes all lanes. Idempotent."""
        for lane in self._lanes:
            lane.close()
        self._lanes.clear()


__all__ = ["SimThreadLane", "SimThreads"]
