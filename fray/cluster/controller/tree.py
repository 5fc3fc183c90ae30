"""The controller: actors around one book.

::

    controller
    ├── book          the ledger and its journal; everything after it depends on it
    └── services      names, fleet, jobs, scheduler, sessions, blobs

The services read the book's ledger and send it commands. They keep nothing that they could not
find again in the ledger, or be told again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fray.cluster.blobs import BlobStore
from fray.cluster.controller.blobs import Blobs
from fray.cluster.controller.book import Book
from fray.cluster.controller.fleet import Fleet
from fray.cluster.controller.jobs import Jobs
from fray.cluster.controller.names import Names
from fray.cluster.controller.scheduler import Scheduler
from fray.cluster.controller.sessions import Sessions
from fray.errors import DeathCause, DeathKind
from fray.runtime.cell import Cell, CellOptions
from fray.runtime.payload import Codec
from fray.runtime.tasks import Scope

if TYPE_CHECKING:
    from fray.cluster.control import ClusterFacts
    from fray.cluster.controller.journal import Store
    from fray.runtime.process import Process

log = logging.getLogger(__name__)

CONTROL_CELL = CellOptions(max_concurrency=100_000, codec=Codec.JSON)
"""Actors of the control plane: their methods wait a lot, and none waits for another."""


class Controller:
    """The actors of a controller, in a process.

    Args:
        process: Where they are hosted; started.
        store: Where the ledger is kept.
        blobs: Where blobs are kept.
        facts: What this cluster is.
    """

    def __init__(self, process: Process, store: Store, blobs: Path, facts: ClusterFacts) -> None:
        self._process = process
        self._store = store
        self._blobs = blobs
        self._facts = facts
        self._scope = Scope("controller")
        self._cells: list[Cell] = []
        self.book: Book | None = None

    def __repr__(self) -> str:
        return f"<Controller {self._facts.name} at {self._process.address}>"

    async def start(self) -> None:
        """Recovers the ledger and opens for business.

        Raises:
            ClusterError: The journal cannot be read.
        """
        clock = self._process.clock
        book = self.book = await Book.open(self._store, clock)
        names = Names(book, clock, book.generation)
        fleet = Fleet(book, clock)
        sessions = Sessions(book, clock, self._facts)
        scheduler = Scheduler(book, clock)
        await self._host("names", names)
        await self._host("jobs", Jobs(book, names, clock))
        await self._host("sessions", sessions)
        await self._host("blobs", Blobs(BlobStore(self._blobs)))
        for name, run in (
            ("names", names.run),
            ("fleet", fleet.run),
            ("sessions", sessions.run),
            ("scheduler", scheduler.run),
        ):
            self._scope.spawn(run(), name=name)
        await self._host("fleet", fleet)  # last: agents come only when all is there

    async def _host(self, name: str, instance: Any) -> None:
        cell = self._process.host(f"{name}/1", label=name, options=CONTROL_CELL)
        make: Callable[[], Any] = lambda: instance  # noqa: E731 - a factory, as cells want one
        await cell.start(make)
        self._cells.append(cell)

    async def close(self) -> None:
        """Ends the actors; the ledger is kept."""
        cause = DeathCause(DeathKind.STOPPED, "the controller is shutting down")
        for cell in reversed(self._cells):
            cell.kill(cause)
        await self._scope.close()
        if self.book is not None:
            await self.book.close()


__all__ = ["CONTROL_CELL", "Controller"]
