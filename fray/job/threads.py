"""Threads for tasks: so many run at once, and one that waits for another task does not count.

A bounded pool in which tasks wait for tasks of the same pool comes to a standstill once all of its
threads wait. Here a thread that is about to wait gives its turn to another one, so some task always
runs, and there are never more turns than allowed: what has waited goes on at once, and what is
queued has to wait until that fits again.
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Generator
from contextvars import ContextVar

from fray.runtime.blocking import wait

Work = Callable[[], "bool | None"]
"""What a thread runs. It raises nothing; True if its turn goes on elsewhere, until `leave`."""


class TaskThreads:
    """Runs work on threads, in the order in which it was added.

    Args:
        turns: How much may run at once, ≥ 1.
        start: Has a function run on a thread that is free or new. Called by any thread, without
            locks.
        changed: Told, by any thread, that another number of turns waits.
    """

    def __init__(
        self,
        turns: int,
        start: Callable[[Callable[[], None]], None],
        changed: Callable[[int], None] | None = None,
    ) -> None:
        self._turns = turns
        self._start = start
        self._changed = changed
        self._lock = threading.Lock()  # of what follows
        self._queue: deque[Work] = deque()
        self._running = 0  # turns that are taken and do not wait
        self._waiting = 0

    def __repr__(self) -> str:
        return f"<TaskThreads running={self._running} waiting={self._waiting}>"

    def add(self, works: list[Work]) -> None:
        """Queues work.

        Args:
            works: In this order.
        """
        with self._lock:
            self._queue.extend(works)
        self._fill()

    def take_back(self, works: list[Work]) -> list[Work]:
        """Drops work that has not begun.

        Args:
            works: Which.

        Returns:
            What was dropped: it will never run.
        """
        wanted = {id(work) for work in works}
        with self._lock:
            dropped = [work for work in self._queue if id(work) in wanted]
            gone = {id(work) for work in dropped}
            self._queue = deque(work for work in self._queue if id(work) not in gone)
        return dropped

    def clear(self) -> list[Work]:
        """Drops all work that has not begun, and gives it."""
        with self._lock:
            dropped, self._queue = list(self._queue), deque()
        return dropped

    def leave(self) -> None:
        """The turn of work that went on elsewhere is over."""
        with self._lock:
            self._running -= 1
        self._fill()

    def lend(self, turns: int) -> None:
        """A task begins to wait: its turn is another's.

        Args:
            turns: 1; or -1 where it goes on.
        """
        with self._lock:
            self._running -= turns
            self._waiting += turns
            waiting = self._waiting
        if self._changed is not None:
            self._changed(waiting)
        if turns > 0:
            self._fill()

    def _fill(self) -> None:
        while True:
            with self._lock:
                if not self._queue or self._running >= self._turns:
                    return
                self._running += 1
            self._start(self._drain)

    def _drain(self) -> None:
        while True:
            with self._lock:
                # Whoever came back from waiting has its turn beside those that took it.
                if not self._queue or self._running > self._turns:
                    self._running -= 1
                    break
                work = self._queue.popleft()
            if work():
                return
        self._fill()  # something may have been queued since


class Turn:
    """The turn of one task, which is lent while any part of the task waits.

    Args:
        threads: Whose turn it is.
    """

    def __init__(self, threads: TaskThreads) -> None:
        self._threads = threads
        self._lock = threading.Lock()
        self._waits = 0  # an async task may wait for several things at once

    @contextlib.contextmanager
    def lent(self) -> Generator[None]:
        """While the block runs, the task waits."""
        with self._lock:
            self._waits += 1
            if self._waits == 1:
                self._threads.lend(1)
        try:
            yield
        finally:
            with self._lock:
                self._waits -= 1
                if self._waits == 0:
                    self._threads.lend(-1)


CURRENT_TURN: ContextVar[Turn | None] = ContextVar("fray_task_turn", default=None)
"""The turn of the running task, set by whoever runs it; None outside of tasks."""


def block(event: threading.Event, timeout_s: float | None = None) -> bool:
    """Blocks this thread until an event is set; the turn of a task is another's meanwhile.

    Args:
        event: What to wait for.
        timeout_s: Seconds; None for no limit.

    Returns:
        Whether it was set in time.
    """
    if event.is_set():
        return True
    turn = CURRENT_TURN.get()
    if turn is None:
        return wait(event, timeout_s)
    with turn.lent():
        return wait(event, timeout_s)


__all__ = ["CURRENT_TURN", "TaskThreads", "Turn", "Work", "block"]
