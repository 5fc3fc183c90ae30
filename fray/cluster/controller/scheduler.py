"""The scheduler: reads a view, makes a plan, sends it to the ledger; for ever."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from fray.cluster.controller.codec import encode_view
from fray.cluster.controller.commands import ApplyPlan, SetPolicy
from fray.cluster.controller.outlook import beside, is_long, look
from fray.cluster.guard import caller
from fray.cluster.scheduling.explain import Explanation, as_told_to, explain
from fray.cluster.scheduling.planner import plan
from fray.cluster.scheduling.policy import Policy
from fray.cluster.security.claims import Role
from fray.ids import JobId

if TYPE_CHECKING:
    from fray.cluster.controller.book import Book
    from fray.cluster.scheduling.plan import Assignment, Plan
    from fray.runtime.clock import Clock


TASKS_AT_ONCE = 5
"""Tasks that the ledger places at once, unless one unit has more: half a millisecond."""

PAUSE_S_MAX = 0.5
"""At the most, after a long plan."""


class Scheduler:
    """Gives waiting tasks their places. See `SchedulerApi`.

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

    async def why(self, job_id: JobId) -> Explanation:
        """See `SchedulerApi.why`."""
        self._book.ledger.job(job_id)  # an unknown one is told
        snapshot, now = await look(self._book, self._clock), self._clock.time()
        told = await beside(snapshot, lambda view: explain(view, now, job_id))
        return told if caller().role == Role.ADMIN else as_told_to(told, caller().user)

    async def view(self) -> str:
        """See `SchedulerApi.view`."""
        snapshot, now = await look(self._book, self._clock), self._clock.time()
        return await beside(snapshot, lambda view: encode_view(view, now).decode())

    async def set_policy(self, policy: Policy) -> None:
        """See `SchedulerApi.set_policy`."""
        await self._book.commit(SetPolicy(policy))

    async def _round(self) -> float | None:
        clock, began_at = self._clock, self._clock.monotonic()
        snapshot, now = await look(self._book, clock), clock.time()
        self._seen = snapshot.revision
        made = await beside(snapshot, lambda view: plan(view, now))
        took_s = clock.monotonic() - began_at
        self._book.figures.plan_s.observe(took_s)
        self._book.reasons = made.reasons
        self._book.spares = made.spares
        planned_at = clock.monotonic()
        if made.assignments or made.preemptions or made.overdue or made.claims != snapshot.claims:
            await self._apply(made)
        if is_long(snapshot):
            # Planning takes turns with all else that is to be done here, as taking plans does.
            applied_s = clock.monotonic() - planned_at
            await clock.sleep(min(max(took_s - applied_s, 0.0), PAUSE_S_MAX))
        return made.next_at

    async def _apply(self, made: Plan) -> None:
        """Sends a plan to the ledger, a few units at a time: others have their turn in between.

        All but assignments goes with the last part: claims are what is left after those.
        """
        *first, last = parts_of(made.assignments)
        for part in first:
            self._book.begin(ApplyPlan(made.revision, part, (), made.claims))
            await asyncio.sleep(0)
        await self._book.commit(command_of(replace(made, assignments=last)))


def parts_of(assignments: Sequence[Assignment]) -> list[tuple[Assignment, ...]]:
    """Assignments in parts that are taken at once; what is placed as one is never torn apart.

    Args:
        assignments: In order.

    Returns:
        At least one part.
    """
    parts: list[list[Assignment]] = [[]]
    tasks = 0
    for each in assignments:
        tasks += len(each.placements)
        if parts[-1] and tasks > TASKS_AT_ONCE:
            parts.append([])
            tasks = len(each.placements)
        parts[-1].append(each)
    return [tuple(part) for part in parts]


def command_of(made: Plan) -> ApplyPlan:
    """What of a plan the ledger is told.

    Args:
        made: The plan.
    """
    return ApplyPlan(made.revision, made.assignments, made.preemptions, made.claims, made.overdue)


__all__ = ["Scheduler", "command_of", "parts_of"]
