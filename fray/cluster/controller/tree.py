"""The controller: a supervision tree of actors around one book.

::

    controller (rest_for_one)
    ├── book          the ledger and its journal; everything after it starts again with it
    ├── names         who has which name
    └── services (one_for_one)
        ├── jobs, actors, sessions, reservations, users, blobs, retention, security
        ├── scheduler, limits
        └── fleet     last: agents come only when all is there

The services read the book's ledger and send it commands. They keep nothing that they could not
find again in the ledger, or be told again; so one that fails is simply started again. A book that
can write no more takes all down and starts anew from the journal.

Nobody reaches them but through a `fray.cluster.guard.Guard`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fray.cluster.blobs import BlobStore
from fray.cluster.control import (
    ActorsApi,
    BlobsApi,
    ClusterFacts,
    FleetApi,
    JobsApi,
    LogsApi,
    NamesApi,
    SessionsApi,
)
from fray.cluster.controller.actors import Actors
from fray.cluster.controller.blobs import Blobs
from fray.cluster.controller.book import Book
from fray.cluster.controller.fleet import Fleet
from fray.cluster.controller.jobs import Jobs
from fray.cluster.controller.limits import Limits
from fray.cluster.controller.logs import Logs
from fray.cluster.controller.names import Names
from fray.cluster.controller.reservations import Reservations
from fray.cluster.controller.retention import Retention
from fray.cluster.controller.rulebook import Rulebook
from fray.cluster.controller.scheduler import Scheduler
from fray.cluster.controller.security import Security
from fray.cluster.controller.sessions import Sessions
from fray.cluster.controller.users import Users
from fray.cluster.guard import Guard
from fray.cluster.hosttimes import HostTimes
from fray.cluster.retention import RetentionPolicy
from fray.cluster.schedcontrol import ReservationsApi, SchedulerApi, UsersApi
from fray.cluster.security.api import SecurityApi
from fray.cluster.shelflimits import ShelfLimits
from fray.errors import DeathCause, DeathKind
from fray.runtime.cell import CellOptions
from fray.runtime.children import Child, ChildSpec, StartChild, TaskChild
from fray.runtime.payload import Codec
from fray.runtime.restart import RestartPolicy, Strategy
from fray.runtime.root import supervisor_child
from fray.runtime.supervisor import Supervisor
from fray.runtime.tasks import Scope

if TYPE_CHECKING:
    from fray.cluster.archive.layout import LogRetention
    from fray.cluster.archive.store import Store as ArchiveStore
    from fray.cluster.controller.journal import Store
    from fray.runtime.process import Process

CONTROL_CELL = CellOptions(max_concurrency=100_000, codec=Codec.JSON)
"""Actors of the control plane: their methods wait a lot, and none waits for another."""

STOPPING = DeathCause(DeathKind.STOPPED, "the controller is shutting down")
RESTARTING = DeathCause(DeathKind.STOPPED, "this service of the controller starts again")

RESTARTS = 5
PERIOD_S = 60.0
"""A controller that fails more often than this ends, and says why: its journal outlives it."""


class Controller:
    """The actors of a controller, in a process.

    Args:
        process: Where they are hosted; started.
        store: Where the ledger is kept.
        blobs: Where blobs are kept.
        facts: What this cluster is.
        times: How long its hosts may be silent.
        security: Makes and revokes tokens; by default that of an embedded cluster.
        retention: How long ended jobs are remembered.
        environments: How much hosts keep of environments that are not in use.
        archive: Where logs of jobs are archived, and how much stays; None for nowhere.

    Attributes:
        root: The supervision tree.
        rulebook: What is whose, as of the last start; None before.
    """

    def __init__(
        self,
        process: Process,
        store: Store,
        blobs: Path,
        facts: ClusterFacts,
        *,
        times: HostTimes | None = None,
        security: Security | None = None,
        retention: RetentionPolicy | None = None,
        environments: ShelfLimits | None = None,
        archive: tuple[ArchiveStore, LogRetention] | None = None,
    ) -> None:
        self._process = process
        self._store = store
        self._blobs = blobs
        self._facts = facts
        self._times = times or HostTimes()
        self._security = security or Security(process.clock)
        self.rulebook: Rulebook | None = None
        self._retention = retention or RetentionPolicy()
        self._environments = environments or ShelfLimits()
        self._archive = archive
        self._book: Book | None = None
        self._names: Names | None = None
        self.root = Supervisor(
            "controller",
            [
                ChildSpec("book", self._start_book),
                ChildSpec("names", self._service("names", NamesApi, self._make_names)),
                ChildSpec("services", supervisor_child(self._services), stop_grace_s=float("inf")),
            ],
            clock=process.clock,
            policy=self._policy(Strategy.REST_FOR_ONE),
        )

    def __repr__(self) -> str:
        return f"<Controller {self._facts.name} at {self._process.address}: {self.root!r}>"

    @property
    def book(self) -> Book:
        """The ledger and its journal, as of the last start."""
        assert self._book is not None, "the controller has not been started"
        return self._book

    @property
    def names(self) -> Names:
        """Who has which name, as of the last start."""
        assert self._names is not None, "the controller has not been started"
        return self._names

    async def start(self) -> None:
        """Recovers the ledger and opens for business.

        Raises:
            SupervisorFailed: The journal cannot be read, or something else keeps failing.
        """
        await self.root.start()

    async def close(self) -> None:
        """Ends the actors; the ledger is kept."""
        await self.root.stop(STOPPING)
        if self._book is not None:
            await self._book.close()

    # ---- the children

    @staticmethod
    def _policy(strategy: Strategy) -> RestartPolicy:
        return RestartPolicy(strategy, max_restarts=RESTARTS, period_s=PERIOD_S)

    def _services(self) -> Supervisor:
        clock = self._process.clock
        blobs = BlobStore(self._blobs)

        def names() -> Names:
            assert self._names is not None
            return self._names

        security = self._security
        makers: dict[str, tuple[type | None, Callable[[], Any]]] = {
            "jobs": (JobsApi, lambda: Jobs(self.book, names(), clock)),
            "actors": (ActorsApi, lambda: Actors(self.book, names())),
            "sessions": (
                SessionsApi,
                lambda: Sessions(self.book, clock, self._facts, security),
            ),
            "reservations": (
                ReservationsApi,
                lambda: Reservations(self.book, clock, self._facts),
            ),
            "users": (UsersApi, lambda: Users(self.book, clock)),
            "blobs": (BlobsApi, lambda: Blobs(blobs)),
            "retention": (None, lambda: Retention(self.book, blobs, self._retention, clock)),
            "security": (SecurityApi, lambda: security),
            "scheduler": (SchedulerApi, lambda: Scheduler(self.book, clock)),
            "limits": (None, lambda: Limits(self.book, clock)),
            "fleet": (
                FleetApi,
                lambda: Fleet(
                    self.book,
                    clock,
                    self._times,
                    security,
                    self._retention.age_s,
                    self._environments,
                ),
            ),
        }
        archive = self._archive
        if archive is not None:
            makers["logs"] = (LogsApi, lambda: Logs(self.book, clock, *archive))
        return Supervisor(
            "services",
            [
                ChildSpec(name, self._service(name, api, make))
                for name, (api, make) in makers.items()
            ],
            clock=clock,
            policy=self._policy(Strategy.ONE_FOR_ONE),
        )

    async def _start_book(self) -> Child:
        book = self._book = await Book.open(self._store, self._process.clock)
        self.rulebook = Rulebook(book)
        return TaskChild(book.until_failed, name="book")

    def _make_names(self) -> Names:
        book = self.book
        before = self._names
        names = self._names = Names(book, self._process.clock, book.generation)
        if before is not None:
            names.take_over(before)
        book.listeners[:] = [names.on_events]  # in place of those of its predecessor
        return names

    def _service(self, name: str, api: type | None, make: Callable[[], Any]) -> StartChild:
        """A service: an actor that can be called, and what it does by itself, if anything.

        Without an interface it has nothing that could be called.
        """

        async def start() -> Child:
            target = f"{name}/1"
            left = self._process.cells.get(target)
            if left is not None:
                left.kill(RESTARTING)
            instance = make()
            cell = self._process.host(target, label=name, options=CONTROL_CELL)
            assert self.rulebook is not None, "the book has been started"
            guard = Guard(self.rulebook.rules, self._security.audit_log)
            guarded = guard.around(instance, api or object)
            await cell.start(lambda: guarded)

            async def run() -> None:
                async with Scope(name, _told_below) as scope:
                    loops = [scope.spawn(instance.run())] if hasattr(instance, "run") else []
                    try:
                        await asyncio.wait(
                            (cell.stopped, *loops), return_when=asyncio.FIRST_COMPLETED
                        )
                        for loop in loops:
                            if loop.done():
                                loop.result()
                    finally:
                        cell.kill(RESTARTING)

            return TaskChild(run, name=name)

        return start


def _told_below(name: str, exc: BaseException) -> None:
    """A service's loop failed: whoever waits for it raises that."""


__all__ = ["CONTROL_CELL", "STOPPING", "Controller"]
