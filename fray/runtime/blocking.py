"""Blocking a thread: everything of fray that blocks goes through `wait`.

So a job that runs in a thread can be stopped while it waits, a method whose caller has gone gives
its actor free again, and a simulation could take over. A thread belongs to a `StopToken` by a
context variable; a token that is stopped wakes its threads, and from then on each attempt to wait,
or to call an actor, raises `JobStopped`.
"""

from __future__ import annotations

import threading
from contextvars import ContextVar

from fray.errors import JobStopped
from fray.runtime.calls import CURRENT_INVOCATION


class StopToken:
    """Says that the job of some threads is to stop. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: dict[object, threading.Event] = {}  # by waiter: several may want one event
        self._reason: str | None = None

    @property
    def stopped(self) -> bool:
        """Whether `stop` was called."""
        return self._reason is not None

    def stop(self, reason: str) -> None:
        """Wakes the job's threads.

        Args:
            reason: What `JobStopped` says in them.
        """
        with self._lock:
            if self._reason is None:
                self._reason = reason
            waiting = list(self._waiting.values())
        for event in waiting:
            event.set()

    def check(self) -> None:
        """Raises if the job is to stop.

        Raises:
            JobStopped: It is.
        """
        if self._reason is not None:
            raise JobStopped(self._reason)

    def wait(self, event: threading.Event, timeout_s: float | None) -> bool:
        """`wait`, for the threads of this token."""
        waiter = object()
        with self._lock:
            self._waiting[waiter] = event
        try:
            self.check()
            happened = event.wait(timeout_s)
            self.check()
            return happened
        finally:
            with self._lock:
                del self._waiting[waiter]


CURRENT_STOP: ContextVar[StopToken | None] = ContextVar("fray_current_stop", default=None)
"""The token of the job that runs in this thread; None where it runs in a process of its own."""


def wait(event: threading.Event, timeout_s: float | None = None) -> bool:
    """Blocks this thread until an event is set.

    Args:
        event: What to wait for.
        timeout_s: Seconds; None for no limit.

    Returns:
        Whether it was set in time.

    Raises:
        JobStopped: The job that runs in this thread is to stop.
        CallCancelled: The caller of the method that runs in this thread has gone.
        DeadlineExceeded: The time of the call that runs in this thread is up.
    """
    call = CURRENT_INVOCATION.get()
    if call is None:
        return _wait(event, timeout_s)
    with call.blocking(event):
        return _wait(event, timeout_s)


def _wait(event: threading.Event, timeout_s: float | None) -> bool:
    token = CURRENT_STOP.get()
    return event.wait(timeout_s) if token is None else token.wait(event, timeout_s)


def check_stopped() -> None:
    """Raises if the job that runs in this thread is to stop.

    Raises:
        JobStopped: It is.
    """
    token = CURRENT_STOP.get()
    if token is not None:
        token.check()


__all__ = ["CURRENT_STOP", "StopToken", "check_stopped", "wait"]
