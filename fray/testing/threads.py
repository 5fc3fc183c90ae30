"""Simulated threads: functions that run by themselves, at seeded moments, on the loop's thread.

What a thread does for a program is that something else may happen between the moment at which work
is handed over and the moment at which it runs, and between two pieces of work. That is kept. What
is not kept is that both run at once: a function runs in one go, takes no virtual time, and cannot
wait for anything (it is told so if it tries; see `fray.testing.isolation`).
"""

from __future__ import annotations

import asyncio
import contextvars
import random
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from fray.testing.loop import THREAD_DELAY_S_MAX, run_as_thread

if TYPE_CHECKING:
    from contextvars import Context

    from fray.testing.lanes import Lane
    from fray.testing.loop import SimLoop

_T = TypeVar("_T")


class _Job(NamedTuple):
    future: asyncio.Future[Any]
    call: Callable[[], Any]


class SimThreadLane:
    """Runs functions one after the other; see `fray.runtime.threads.Lane`. Made by `SimThreads`."""

    def __init__(self, loop: SimLoop, process: Lane, dice: random.Random, name: str) -> None:
        self.name = name
        self._loop = loop
        self._process = process
        self._dice = dice
        self._jobs: deque[_Job] = deque()
        self._closed = False

    def __repr__(self) -> str:
        state = "closed" if self._closed else "open"
        return f"<SimThreadLane {self.name} {state} waiting={len(self._jobs)}>"

    def submit(
        self, fn: Callable[..., _T], args: tuple[Any, ...] = (), context: Context | None = None
    ) -> asyncio.Future[_T]:
        """See `Lane.submit`. The function must not wait for anything."""
        loop = asyncio.get_running_loop()  # none in a function that runs on a lane, as on a thread
        if self._closed:
            raise RuntimeError(f"lane {self.name} is closed")
        run = (contextvars.copy_context() if context is None else context).run
        future: asyncio.Future[_T] = loop.create_future()
        self._jobs.append(_Job(future, lambda: run(fn, *args)))
        if len(self._jobs) == 1:
            self._schedule()
        return future

    def close(self) -> None:
        """See `Lane.close`. What has not begun is dropped, and its futures are cancelled."""
        self._closed = True
        jobs, self._jobs = self._jobs, deque()
        for job in jobs:
            job.future.cancel()

    def _schedule(self) -> None:
        self._loop.call_later(
            self._dice.random() * THREAD_DELAY_S_MAX,
            self._run_one,
            context=self._process.context.copy(),
        )

    def _run_one(self) -> None:
        if not self._jobs:  # closed meanwhile
            return
        job = self._jobs.popleft()
        try:
            run_as_thread(job.future, job.call)
        finally:
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
        self._closed = False

    def lane(self, name: str, /, *, thread_affinity: bool = False) -> SimThreadLane:
        """See `Threads.lane`.

        Args:
            name: For people.
            thread_affinity: Promised anyhow: there is one thread.

        Raises:
            RuntimeError: The threads are closed.
        """
        if self._closed:
            raise RuntimeError("these threads are closed")
        lane = SimThreadLane(self._loop, self._process, self._dice, name)
        self._lanes.append(lane)
        return lane

    def close(self) -> None:
        """See `Threads.close`."""
        self._closed = True
        for lane in self._lanes:
            lane.close()
        self._lanes.clear()


__all__ = ["SimThreadLane", "SimThreads"]
