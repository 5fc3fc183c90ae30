"""The scheduler: reads a view, makes a plan, sends it to the ledger; for ever."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from fray.cluster.controller.commands import ApplyPlan
from fray.cluster.scheduling.planner import plan

if TYPE_CHECKING:
    from fray.cluster.controller.book import Book
    from fray.runtime.clock import Clock


class Scheduler:
    """Gives waiting tasks their places.

    Args:
        book: The ledger.
        clock: The process's clock.
    """

    def __init__(self, book: Book, clock: Clock) -> None:
        self._book = book
        self._clock = clock
        self._seen = -1

    def __repr__(self) -> str:
        return f"<Scheduler at revision {self._seen}>"

    async def run(self) -> None:
        """Plans whenever something has changed, or a unit's time has come."""
        while True:
            next_at = await self._round()
            delay_s = None if next_at is None else max(next_at - self._clock.time(), 0.0)
            try:
                async with asyncio.timeout(delay_s):
                    while self._book.ledger.revision == self._seen:
                        await self._book.changed.wait()
            except TimeoutError:
                pass  # the time of something that waits has come

    async def _round(self) -> float | None:
        view = self._book.ledger.view()
        self._seen = view.revision
        made = plan(view, self._clock.time())
        self._book.reasons = made.reasons
        if made.assignments:
            await self._book.commit(ApplyPlan(made.revision, made.assignments))
        return made.next_at


__all__ = ["Scheduler"]
