"""Looks at a fleet from outside while it works: what runs, what is believed, what was promised."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from fray.cluster.types import JobStatus
from tests.sim.fleet.programs import TALLY

if TYPE_CHECKING:
    from fray.cluster.controller.book import Book
    from fray.cluster.controller.state import Ledger
    from fray.ids import JobId
    from fray.testing import SimCluster
    from tests.sim.fleet.truth import Truth
    from tests.sim.fleet.users import Told

LOOK_S = 3.0
"""Between two looks. What wakes up may be at work that long before its host has ended it."""

MUTE_LOOKS_MAX = 12
"""For so many looks in a row a job may wait without a reason: the scheduler has to find it."""


class Audit:
    """See the module.

    Args:
        cluster: What is looked at.
        truth: What really runs there.
        told: What users were told.

    Attributes:
        looks: How often it has looked while there was a controller.
    """

    def __init__(self, cluster: SimCluster, truth: Truth, told: Told) -> None:
        self.looks = 0
        self._cluster = cluster
        self._truth = truth
        self._told = told
        self._mute: dict[JobId, int] = {}

    async def run(self) -> None:
        """Looks, for ever."""
        while True:
            await asyncio.sleep(LOOK_S)
            self.look()

    def look(self) -> None:
        """Looks once, and adds what is wrong to what is known of it."""
        ledger = self._truth.ledger()
        lives = list(self._truth.lives.values())
        for life in lives:
            woke, life.frozen = life.frozen, not life.runs
            if ledger is None or woke or life.frozen:
                continue
            if life.attempt_id not in ledger.tables.attempts:
                self._say(f"{life.attempt_id} runs on {life.host}, and is over for the controller")
        if ledger is None:
            self._mute.clear()
            return
        self.looks += 1
        self._promises(ledger)
        controller = self._cluster._controller
        assert controller is not None
        assert controller.book is not None
        assert controller.process is not None
        if not controller.process.frozen:
            self._reasons(controller.book)
        held = controller.names.held() if controller.names is not None else []
        tallies = [named for _, named in held if named.name == TALLY]
        if len(tallies) > 1:
            self._say(f"the exclusive name {TALLY} belongs to {tallies}")

    def _promises(self, ledger: Ledger) -> None:
        for job_id in self._told.jobs():
            job = ledger.tables.jobs.get(job_id)
            if job is None:
                self._say(f"{job_id} was accepted, and is not known any more")
                continue
            status = self._told.ended.get(job_id)
            if status is not None and job.status is not status:
                self._say(f"somebody was told that {job_id} is {status}; it is {job.status}")
        for reservation_id in self._told.reservations:
            if reservation_id not in ledger.tables.reservations:
                self._say(f"{reservation_id} was made, and is not known any more")

    def _reasons(self, book: Book) -> None:
        """Every task that waits for a place has a reason."""
        waiting: dict[JobId, int] = {}
        for task in book.ledger.tables.tasks.values():
            waits = task.live is None and not task.status.finished() and task.hold is None
            if waits and task.status is JobStatus.PENDING and not book.reasons.get(task.job_id):
                waiting[task.job_id] = self._mute.get(task.job_id, 0) + 1
        self._mute = waiting
        for job_id, looks in waiting.items():
            if looks == MUTE_LOOKS_MAX:
                self._say(f"{job_id} has waited for {looks * LOOK_S:.0f} s, and nobody says why")

    def _say(self, text: str) -> None:
        self._truth.broken.append(f"t={self._cluster.now:.2f}: {text}")
