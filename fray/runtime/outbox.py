"""The way of outcomes from threads to an event loop, in as few wake-ups as possible."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

Outcome = tuple["asyncio.Future[Any]", Any, "BaseException | None"]
"""A future, and its value or its exception."""


class Outbox:
    """Outcomes on their way to a loop: however many there are, one wake-up carries them.

    Several threads may put at once. That none is forgotten follows from the order of the steps:
    ``put`` adds first and looks at ``_armed`` then, ``_deliver`` disarms first and looks for
    outcomes then.
    """

    __slots__ = ("_armed", "_outcomes", "loop")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._outcomes: deque[Outcome] = deque()
        self._armed = False

    def put(self, outcome: Outcome) -> None:
        """Hands an outcome over, on any thread.

        Args:
            outcome: A future of the loop, and its value or exception. Dropped if the future is
                cancelled before it arrives, or the loop closed.
        """
        self._outcomes.append(outcome)
        if not self._armed:
            self._armed = True
            try:
                self.loop.call_soon_threadsafe(self._deliver)
            except RuntimeError:  # the loop is closed, so nobody waits for these any more
                self._armed = False
                self._outcomes.clear()

    def cancel(self, future: asyncio.Future[Any]) -> None:
        """Cancels a future, at once if this is its loop's thread, else soon.

        Args:
            future: A future of the loop.
        """
        try:
            here = asyncio.get_running_loop() is self.loop
        except RuntimeError:
            here = False
        if here:
            future.cancel()
        elif not self.loop.is_closed():
            self.loop.call_soon_threadsafe(future.cancel)

    def _deliver(self) -> None:
        self._armed = False
        outcomes = self._outcomes
        # Not more than there are now: threads may add to it faster than this empties it.
        for _ in range(len(outcomes)):
            future, value, exc = outcomes.popleft()
            if future.done():  # cancelled while its function ran
                continue
            if exc is None:
                future.set_result(value)
            else:
                future.set_exception(bearable(exc))
        if outcomes and not self._armed:
            self._armed = True
            self.loop.call_soon(self._deliver)


def bearable(exc: BaseException) -> BaseException:
    """The exception, or for one that no future takes, another with this as its cause (PEP 479).

    Args:
        exc: What a function raised.
    """
    if not isinstance(exc, StopIteration):
        return exc
    stand_in = RuntimeError("a function raised StopIteration")
    stand_in.__cause__ = exc
    return stand_in


__all__ = ["Outbox", "Outcome", "bearable"]
