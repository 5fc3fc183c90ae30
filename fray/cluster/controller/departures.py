"""Who is gone: told to those who wait for answers from there.

When a process ends, its host says so to everybody who is connected to it. When a host loses its
power, or is cut off, nobody says anything; but in the end the fleet gives it up, and from then on
nothing that it says counts. Those with calls in flight to it ask here, and are told at once when it
happens, so nobody waits for TCP to give up.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING

from fray.actor.directory import Departure, Endpoint
from fray.cluster.controller.attempt import AttemptState
from fray.cluster.scheduling.view import (
    TaskKey,
)
from fray.errors import DeathCause, DeathKind
from fray.ids import AttemptId, JobId

if TYPE_CHECKING:
    from fray.cluster.controller.book import Book
    from fray.cluster.controller.records import Task

SILENT_MAX = 1000
"""So many processes without an attempt are remembered whose leases lapsed."""


class Departures:
    """Knows of each endpoint whether it is gone, and wakes those who want to know.

    Args:
        book: The ledger: what became of attempts.
    """

    def __init__(self, book: Book) -> None:
        self._book = book
        self._silent: OrderedDict[str, None] = OrderedDict()
        self._watching: dict[str, list[asyncio.Event]] = {}

    def __repr__(self) -> str:
        return f"<Departures watched={len(self._watching)} silent={len(self._silent)}>"

    async def wait(self, endpoints: Sequence[Endpoint], wait_s: float) -> list[Departure]:
        """Those that are gone; waits until there is one.

        Args:
            endpoints: Which are asked for.
            wait_s: At most so long, in seconds.
        """
        gone = self._gone(endpoints)
        if gone:
            return gone
        woken = asyncio.Event()
        keys = list(dict.fromkeys(_key(endpoint) for endpoint in endpoints))
        for key in keys:
            self._watching.setdefault(key, []).append(woken)
        try:
            async with asyncio.timeout(wait_s):
                await woken.wait()
        except TimeoutError:
            return []
        finally:
            for key in keys:
                self._unwatch(key, woken)
        return self._gone(endpoints)

    def cause_of_end(self, endpoint: Endpoint) -> DeathCause | None:
        """Why the attempt of an endpoint is over; None while it goes on, or if it has none.

        Args:
            endpoint: Which.
        """
        return self._cause(endpoint) if endpoint.attempt_id else None

    # ---- what happens

    def attempt_ended(self, attempt_id: AttemptId) -> None:
        """An attempt is over.

        Args:
            attempt_id: Which.
        """
        self._wake(attempt_id)

    def fell_silent(self, endpoint: Endpoint) -> None:
        """Nobody renews an endpoint any more. Says nothing of attempts: the fleet speaks for them.

        Args:
            endpoint: Which.
        """
        if not endpoint.attempt_id:
            self._silent[endpoint.process_id] = None
            while len(self._silent) > SILENT_MAX:
                self._silent.popitem(last=False)
            self._wake(endpoint.process_id)

    def was_heard(self, endpoint: Endpoint) -> None:
        """An endpoint is renewed: its process lives.

        Args:
            endpoint: Which.
        """
        self._silent.pop(endpoint.process_id, None)

    # ---- inside

    def _gone(self, endpoints: Sequence[Endpoint]) -> list[Departure]:
        causes = [(endpoint.target, self._cause(endpoint)) for endpoint in endpoints]
        return [Departure(target, cause) for target, cause in causes if cause is not None]

    def _cause(self, endpoint: Endpoint) -> DeathCause | None:
        if not endpoint.attempt_id:
            if endpoint.process_id in self._silent:
                return DeathCause(DeathKind.HOST_LOST, "its process has fallen silent")
            return None
        attempt_id = AttemptId(endpoint.attempt_id)
        tables = self._book.ledger.tables
        if attempt_id in tables.attempts:
            return None
        job_id, _, index = attempt_id.rpartition("#")[0].rpartition("/")
        if not index.isdecimal():
            return None  # no attempt of this cluster's
        task = tables.tasks.get(TaskKey(JobId(job_id), int(index)))
        if task is None:
            return DeathCause(DeathKind.STOPPED, "its job has ended long ago")
        return _cause_of(task, attempt_id)

    def _wake(self, key: str) -> None:
        for woken in self._watching.pop(key, ()):
            woken.set()

    def _unwatch(self, key: str, woken: asyncio.Event) -> None:
        left = [other for other in self._watching.get(key, ()) if other is not woken]
        if left:
            self._watching[key] = left
        else:
            self._watching.pop(key, None)


def _key(endpoint: Endpoint) -> str:
    return endpoint.attempt_id or endpoint.process_id


def _cause_of(task: Task, attempt_id: AttemptId) -> DeathCause:
    for ended in task.history:
        if ended.attempt_id == attempt_id:
            if ended.state is AttemptState.SUCCEEDED:
                return DeathCause(DeathKind.STOPPED, "its process has ended")
            return ended.cause
    return DeathCause(DeathKind.UNKNOWN, "its attempt ended long ago")


__all__ = ["SILENT_MAX", "Departures"]
