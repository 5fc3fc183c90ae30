"""The actor ``logs``: keeps what hosts ship where there is no shared storage, and drops old logs.

Files pass through here unread, and in threads; nothing else of the controller waits for them.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from fray.cluster.archive.layout import Entry, LogRetention, by_job, expired
from fray.errors import ClusterUnavailable

if TYPE_CHECKING:
    from fray.cluster.archive.store import Store
    from fray.cluster.controller.book import Book
    from fray.runtime.clock import Clock

log = logging.getLogger(__name__)

SWEEP_S = 900.0
"""How often it is looked whether there is too much."""


class Logs:
    """See `LogsApi`.

    Args:
        book: The ledger, which says what has not ended.
        clock: The process's clock.
        store: Where the archive is.
        keep: How much of ended jobs stays.
    """

    def __init__(self, book: Book, clock: Clock, store: Store, keep: LogRetention) -> None:
        self._book = book
        self._clock = clock
        self._store = store
        self._keep = keep

    async def run(self) -> None:
        """Drops what is too old or too much, for ever."""
        while True:
            await self._clock.sleep(SWEEP_S)
            try:
                await self.sweep()
            except ClusterUnavailable as exc:
                log.warning("old logs could not be dropped, and will be later: %s", exc)

    async def sweep(self) -> int:
        """Drops what is too old or too much now; gives of how many jobs.

        Raises:
            ClusterUnavailable: The archive cannot be reached now.
        """
        jobs = by_job(await self._store.list(""))
        ledger = self._book.ledger
        live = frozenset(
            job_id for job_id, job in ledger.tables.jobs.items() if not job.status.finished()
        )
        gone = expired(jobs, live, self._clock.time(), self._keep)
        for job in gone:
            await self._store.remove(job.paths)
        if gone:
            freed = sum(job.size_bytes for job in gone)
            log.info("dropped the logs of %d ended jobs (%d MiB)", len(gone), freed >> 20)
        return len(gone)

    # ---- LogsApi

    async def put(self, path: str, data: bytes) -> None:
        """See `LogsApi.put`."""
        await self._store.put(path, data)

    async def get(self, path: str) -> bytes | None:
        """See `LogsApi.get`."""
        return await self._store.get(path)

    async def list(self, folder: str) -> list[Entry]:
        """See `LogsApi.list`."""
        return list(await self._store.list(folder))

    async def remove(self, paths: Sequence[str]) -> None:
        """See `LogsApi.remove`."""
        await self._store.remove(paths)


__all__ = ["SWEEP_S", "Logs"]
