"""The service ``retention``: what has ended is forgotten in time.

Ended jobs, and their blobs with them; ended reservations; hosts that are gone; and users who have
nothing any more, of whom nothing was said, and whose use has faded: nothing changes for them when
they come again.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from fray.cluster.controller.commands import (
    ForgetJobs,
    ForgetReservations,
    ForgetUsers,
    RemoveWorker,
)
from fray.cluster.controller.records import Health
from fray.cluster.retention import DAY_S, RetentionPolicy

if TYPE_CHECKING:
    from fray.cluster.blobs import BlobStore
    from fray.cluster.controller.book import Book
    from fray.cluster.controller.records import Job
    from fray.cluster.controller.tables import Tables
    from fray.ids import JobId, ReservationId, WorkerId
    from fray.runtime.clock import Clock

LOOK_S = 60.0
"""How often it is looked for what may be forgotten."""

FADED_HALF_LIVES = 10
"""What a user used so long ago counts for a thousandth, and so for nothing."""

FORGET_MAX = 200
"""Jobs that are forgotten at once: others have their turn in between."""

LOST_HOST_S = DAY_S
"""How long a host is remembered that was given up: somebody may look for it."""

LEFT_HOST_S = 3600.0
"""Likewise one that has said itself that it goes, unless somebody drained it."""

SWEEP_S = 3600.0
"""How often blobs are swept: one goes that no job refers to in two sweeps. A submission, which
stores its blobs first, has so much time."""


def forgettable(tables: Tables, policy: RetentionPolicy, now: float) -> list[JobId]:
    """The ended jobs that need not be remembered, the first to have ended first.

    With a job go those that it launched, whenever they ended. One stays while something that it
    launched, and that ends with it, has not ended.

    Args:
        tables: The ledger's.
        policy: How many are kept, and how long.
        now: In seconds since 1970.
    """
    ended = [job for job in tables.jobs.values() if job.ended_at is not None]
    ended = [job for job in ended if job.spec.job_id not in tables.indexes.children]
    ended.sort(key=lambda job: (job.ended_at, job.rank))
    too_many = max(len(ended) - policy.jobs_max, 0)
    chosen: dict[JobId, None] = {}
    for place, job in enumerate(ended):
        if place < too_many or now - (job.ended_at or now) > policy.age_s:
            chosen[job.spec.job_id] = None
    if chosen:
        _add_children(ended, chosen)
    return list(chosen)


def _add_children(ended: list[Job], chosen: dict[JobId, None]) -> None:
    children: dict[JobId, list[JobId]] = {}
    for job in ended:
        if job.spec.parent is not None:
            children.setdefault(job.spec.parent, []).append(job.spec.job_id)
    parents = list(chosen)
    while parents:
        for child in children.get(parents.pop(), ()):
            if child not in chosen:
                chosen[child] = None
                parents.append(child)


def forgettable_reservations(
    tables: Tables, policy: RetentionPolicy, now: float
) -> list[ReservationId]:
    """The ended reservations that need not be remembered, in order of their ids.

    Args:
        tables: The ledger's.
        policy: How many are kept, and how long, as of jobs.
        now: In seconds since 1970.
    """
    ended = [each for each in tables.reservations.values() if each.ended_at is not None]
    if not ended:
        return []
    ended.sort(key=lambda each: (each.ended_at, each.rank))
    too_many = max(len(ended) - policy.jobs_max, 0)
    named = tables.reservations_of_jobs()
    return sorted(
        each.reservation_id
        for place, each in enumerate(ended)
        if (place < too_many or now - (each.ended_at or now) > policy.age_s)
        and each.reservation_id not in named
    )


def forgettable_users(tables: Tables, policy: RetentionPolicy, now: float) -> list[str]:
    """The users who need not be remembered, by name.

    Args:
        tables: The ledger's.
        policy: How long ended jobs are kept: at least so long are users.
        now: In seconds since 1970.
    """
    idle_s = max(policy.age_s, FADED_HALF_LIVES * tables.policy.half_life_s)
    idle = [
        user
        for user, standing in tables.users.items()
        if standing.is_usual and now - standing.account.at > idle_s
    ]
    owners = tables.owners() if idle else set[str]()
    return sorted(user for user in idle if user not in owners)


def forgettable_hosts(tables: Tables, now: float) -> list[WorkerId]:
    """The hosts that are gone and need not be remembered, by name.

    Args:
        tables: The ledger's.
        now: In seconds since 1970.
    """
    due: list[WorkerId] = []
    for worker_id, worker in tables.workers.items():
        if worker.health is Health.LOST:
            gone_at = worker.registered_at if worker.gone_at is None else worker.gone_at
            kept_s = LEFT_HOST_S if worker.left and worker.cordon is None else LOST_HOST_S
            if now - gone_at > kept_s:
                due.append(worker_id)
    return sorted(due)


class Retention:
    """Forgets what has ended, and drops blobs that no job refers to.

    Args:
        book: The ledger.
        blobs: The controller's blobs.
        policy: How many jobs are kept, and how long.
        clock: The process's clock.
    """

    def __init__(self, book: Book, blobs: BlobStore, policy: RetentionPolicy, clock: Clock) -> None:
        self._book = book
        self._blobs = blobs
        self._policy = policy
        self._clock = clock

    def __repr__(self) -> str:
        return f"<Retention {self._policy}>"

    async def run(self) -> None:
        """Forgets what is due, for ever."""
        swept_at = self._clock.monotonic()
        while True:
            await self._clock.sleep(LOOK_S)
            await self.forget()
            if self._clock.monotonic() - swept_at >= SWEEP_S:
                swept_at = self._clock.monotonic()
                await self.sweep()

    async def forget(self) -> int:
        """Forgets the jobs, reservations, users and hosts whose time is over; says how many."""
        tables, now = self._book.ledger.tables, self._clock.time()
        due = forgettable(tables, self._policy, now)
        for at in range(0, len(due), FORGET_MAX):
            await self._book.commit(ForgetJobs(tuple(due[at : at + FORGET_MAX])))
        reservations = forgettable_reservations(tables, self._policy, now)
        if reservations:
            await self._book.commit(ForgetReservations(tuple(reservations)))
        users = forgettable_users(tables, self._policy, now)
        if users:
            await self._book.commit(ForgetUsers(tuple(users)))
        # Nothing is awaited until all are begun: none of them comes back in between.
        hosts = forgettable_hosts(tables, now)
        for worker_id in hosts:
            self._book.begin(RemoveWorker(worker_id))
        await self._book.durable()
        return len(due) + len(reservations) + len(users) + len(hosts)

    async def sweep(self) -> int:
        """Drops blobs that no job has referred to since the last sweep; says how many."""
        wanted: set[str] = set()
        for job in self._book.ledger.tables.jobs.values():
            environment = job.spec.environment
            wanted |= {job.spec.program.blob, environment.workspace, environment.secrets}
        return await asyncio.to_thread(self._blobs.sweep, wanted)


__all__ = [
    "FADED_HALF_LIVES",
    "FORGET_MAX",
    "LEFT_HOST_S",
    "LOOK_S",
    "LOST_HOST_S",
    "SWEEP_S",
    "Retention",
    "forgettable",
    "forgettable_hosts",
    "forgettable_reservations",
    "forgettable_users",
]
