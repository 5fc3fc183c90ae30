"""The service ``limits``: ends jobs that wait longer than they may."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fray.cluster.controller.commands import EndOverdue

if TYPE_CHECKING:
    from fray.cluster.controller.book import Book
    from fray.runtime.clock import Clock

LOOK_S = 1.0
"""How often it is looked whether a limit is over, while there are any."""


class Limits:
    """Watches how long jobs wait; how long they run is the scheduler's.

    Args:
        book: The ledger.
        clock: The process's clock.
    """

    def __init__(self, book: Book, clock: Clock) -> None:
        self._book = book
        self._clock = clock

    def __repr__(self) -> str:
        return f"<Limits of {len(self._book.ledger.tables.indexes.queued)} waiting jobs>"

    async def run(self) -> None:
        """Ends what is overdue, for ever."""
        while True:
            queued = self._book.ledger.tables.indexes.queued
            if not queued:
                await self._book.changed.wait()
                continue
            now = self._clock.time()
            overdue = sorted(job_id for job_id, until in queued.items() if until <= now)
            if overdue:
                why = {job_id: self._book.waits_for(job_id) for job_id in overdue}
                await self._book.commit(EndOverdue(why))
            await self._clock.sleep(LOOK_S)


__all__ = ["Limits"]
