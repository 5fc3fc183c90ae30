"""Long work on a loop that others use too: a little of it in each of the loop's turns.

A loop answers nobody while a function runs on it. Work that can be long is therefore given as many
small steps (`in_turns`), or as functions that are short but may become many at once (`Turns`); in
each turn of the loop as much is done as fits into `TURN_S`, and then others have their turn.
Where time stands still, as in a simulation, a turn never ends, and all is done at once.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from fray.runtime.clock import Clock

T = TypeVar("T")

TURN_S = 0.0005
"""So long others may have to wait for one turn; a step that is longer ends its turn."""


async def in_turns(steps: Iterable[object], clock: Clock, turn_s: float = TURN_S) -> int:
    """Takes steps until there are no more, in as many turns as that needs.

    Args:
        steps: Each is taken by asking for the next; others may do anything between two turns.
        clock: The process's clock.
        turn_s: How long a turn may be, in seconds.

    Returns:
        How often others had their turn in between.
    """
    between = 0
    until = clock.monotonic() + turn_s
    for _ in steps:
        if clock.monotonic() >= until:
            await asyncio.sleep(0)
            between += 1
            until = clock.monotonic() + turn_s
    return between


class Turns:
    """Runs functions in the order in which they come, at once where the turn has time left.

    For one loop.

    Args:
        clock: The process's clock.
        turn_s: How long a turn may be, in seconds.
    """

    def __init__(self, clock: Clock, turn_s: float = TURN_S) -> None:
        self._clock = clock
        self._turn_s = turn_s
        self._left_s = turn_s
        self._waiting: deque[tuple[Callable[[], Any], asyncio.Future[Any]]] = deque()
        self._next: asyncio.Handle | None = None

    def __repr__(self) -> str:
        return f"<Turns, {len(self._waiting)} waiting>"

    async def run(self, work: Callable[[], T]) -> T:
        """Runs a function, now or in a later turn. One that is cancelled before is not run.

        Args:
            work: What to run.

        Returns:
            What it returns; what it raises is raised.
        """
        if not self._waiting and self._left_s > 0:
            return self.run_now(work)
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._waiting.append((work, future))
        self._call_next()
        return await future

    def run_now(self, work: Callable[[], T]) -> T:
        """Runs a function before all that wait; what it takes counts for this turn, too.

        Args:
            work: What to run.

        Returns:
            What it returns; what it raises is raised.
        """
        began_at = self._clock.monotonic()
        try:
            return work()
        finally:
            took_s = self._clock.monotonic() - began_at
            if took_s:
                self._left_s -= took_s
                self._call_next()

    def _call_next(self) -> None:
        if self._next is None:
            self._next = asyncio.get_running_loop().call_soon(self._turn)

    def _turn(self) -> None:
        self._next, self._left_s = None, self._turn_s
        while self._waiting and self._left_s > 0:
            work, future = self._waiting.popleft()
            if future.done():  # whoever wanted it was cancelled
                continue
            try:
                future.set_result(self.run_now(work))
            except Exception as exc:  # it is for whoever wanted it
                future.set_exception(exc)
        if self._waiting:
            self._call_next()


__all__ = ["TURN_S", "Turns", "in_turns"]
