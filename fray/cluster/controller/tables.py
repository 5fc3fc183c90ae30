"""The ledger's tables, and what can be found in them without a search.

Records are frozen, so a reader that holds one is never surprised; only `draft.Draft` changes the
tables.
"""

from dataclasses import dataclass, field
from typing import TypeVar

from fray.cluster.controller.attempt import Attempt
from fray.cluster.controller.records import Gang, Group, Job, Task, Worker
from fray.cluster.controller.reservation import Reservation
from fray.cluster.scheduling.accounts import Standing
from fray.cluster.scheduling.policy import DEFAULT_POLICY, Policy
from fray.cluster.scheduling.view import (
    Claim,
    TaskKey,
)
from fray.cluster.types import JobStatus
from fray.ids import ActorId, AttemptId, JobId, Namespace, ReservationId, WorkerId

K = TypeVar("K")
V = TypeVar("V")


Ids = dict[K, dict[V, None]]
"""Ordered sets by key."""


def _put(index: Ids[K, V], key: K, value: V) -> None:
    index.setdefault(key, {})[value] = None


def _drop(index: Ids[K, V], key: K, value: V) -> None:
    held = index.get(key)
    if held is not None and value in held:
        del held[value]
        if not held:
            del index[key]


def _hold(index: dict[K, JobId], key: K, job_id: JobId, *, lives: bool) -> None:
    if lives:
        index[key] = job_id
    elif index.get(key) == job_id:
        del index[key]


@dataclass(slots=True)
class Indexes:
    """What can be found without a search; derived from the tables, never stored.

    Attributes:
        on_worker: Live attempts by host.
        unplaced: Tasks that have no attempt and want one, by job.
        children: Jobs that end with their parent, by parent, while they have not.
        by_session: Jobs of actors that end with their driver, by session, while they have not.
        by_actor: The job of each actor that has not ended.
        by_name: The job of the actor that has an exclusive name (namespace, name) or is to get it,
            while it has not ended.
        starting: Groups that have not been admitted.
        mapped: Jobs by the names that lead to their ports (namespace, name), while they live.
        queued: Until when jobs may wait to run, where there is a limit.
        drawing: Live attempts that use a reservation, by reservation.
    """

    on_worker: Ids[WorkerId, AttemptId] = field(
        default_factory=dict[WorkerId, dict[AttemptId, None]]
    )
    unplaced: Ids[JobId, int] = field(default_factory=dict[JobId, dict[int, None]])
    children: Ids[JobId, JobId] = field(default_factory=dict[JobId, dict[JobId, None]])
    by_session: Ids[str, JobId] = field(default_factory=dict[str, dict[JobId, None]])
    by_actor: dict[ActorId, JobId] = field(default_factory=dict[ActorId, JobId])
    by_name: dict[tuple[Namespace, str], JobId] = field(
        default_factory=dict[tuple[Namespace, str], JobId]
    )
    starting: dict[str, None] = field(default_factory=dict[str, None])
    mapped: Ids[tuple[Namespace, str], JobId] = field(
        default_factory=dict[tuple[Namespace, str], dict[JobId, None]]
    )
    queued: dict[JobId, float] = field(default_factory=dict[JobId, float])
    drawing: Ids[str, AttemptId] = field(default_factory=dict[str, dict[AttemptId, None]])

    def note_attempt(self, attempt: Attempt, *, there: bool) -> None:
        """Follows an attempt that comes or goes.

        Args:
            attempt: Which.
            there: Whether it is live.
        """
        change = _put if there else _drop
        change(self.on_worker, attempt.worker_id, attempt.attempt_id)
        if attempt.reservation:
            change(self.drawing, attempt.reservation, attempt.attempt_id)

    def note_task(self, task: Task, *, there: bool) -> None:
        """Follows a task.

        Args:
            task: As it is.
            there: Whether it still exists.
        """
        wants = there and task.status is JobStatus.PENDING and task.live is None
        (_put if wants else _drop)(self.unplaced, task.job_id, task.index)

    def note_job(self, job: Job, *, there: bool) -> None:
        """Follows a job.

        Args:
            job: As it is.
            there: Whether it still exists.
        """
        spec, lives = job.spec, there and not job.status.finished()
        change = _put if lives else _drop
        if spec.parent is not None and not spec.detached:
            change(self.children, spec.parent, spec.job_id)
        for mapping in job.mappings:
            change(self.mapped, (mapping.namespace, mapping.actor_name), spec.job_id)
        waits = lives and job.started_at is None and job.verdict is None
        if waits and spec.queue_limit_s is not None:
            self.queued[spec.job_id] = job.submitted_at + spec.queue_limit_s
        else:
            self.queued.pop(spec.job_id, None)
        if spec.actor is None:
            return
        if spec.actor.owner_session and not spec.detached:
            change(self.by_session, spec.actor.owner_session, spec.job_id)
        _hold(self.by_actor, spec.actor.actor_id, spec.job_id, lives=lives)
        if spec.actor.name:
            name = (spec.namespace, spec.actor.name)
            _hold(self.by_name, name, spec.job_id, lives=lives)

    def note_group(self, group: Group, *, there: bool) -> None:
        """Follows a group.

        Args:
            group: As it is.
            there: Whether it still exists.
        """
        if there and not group.admitted:
            self.starting[group.group_id] = None
        else:
            self.starting.pop(group.group_id, None)


@dataclass(slots=True)
class Tables:
    """All that the ledger knows.

    Attributes:
        revision: Counts the commands that changed something.
        submitted: Counts the jobs that were ever submitted.
        workers: Hosts by id.
        jobs: Jobs by id.
        tasks: Tasks by job and index.
        attempts: Live attempts by id.
        gangs: Gangs by id.
        groups: Groups by id.
        submissions: The jobs of each submission, by its id.
        users: How users stand, by name.
        reservations: Reservations by id.
        claims: Places that are being freed for somebody, by unit.
        policy: How places are given.
        indexes: Derived from the above.
    """

    revision: int = 0
    submitted: int = 0
    workers: dict[WorkerId, Worker] = field(default_factory=dict[WorkerId, Worker])
    jobs: dict[JobId, Job] = field(default_factory=dict[JobId, Job])
    tasks: dict[TaskKey, Task] = field(default_factory=dict[TaskKey, Task])
    attempts: dict[AttemptId, Attempt] = field(default_factory=dict[AttemptId, Attempt])
    gangs: dict[str, Gang] = field(default_factory=dict[str, Gang])
    groups: dict[str, Group] = field(default_factory=dict[str, Group])
    submissions: dict[str, tuple[JobId, ...]] = field(default_factory=dict[str, tuple[JobId, ...]])
    users: dict[str, Standing] = field(default_factory=dict[str, Standing])
    reservations: dict[ReservationId, Reservation] = field(
        default_factory=dict[ReservationId, Reservation]
    )
    claims: dict[str, Claim] = field(default_factory=dict[str, Claim])
    policy: Policy = DEFAULT_POLICY
    indexes: Indexes = field(default_factory=Indexes, compare=False)

    def reservations_of_jobs(self) -> set[str]:
        """The reservations that jobs name which have not ended."""
        return {job.spec.reservation for job in self.jobs.values() if not job.status.finished()}

    def owners(self) -> set[str]:
        """Who has a job or a reservation that is remembered, ended or not."""
        of_jobs = {job.spec.user for job in self.jobs.values()}
        return of_jobs | {each.user for each in self.reservations.values()}

    def reindex(self) -> None:
        """Derives the indexes anew, after the tables were filled from elsewhere."""
        self.indexes = Indexes()
        for attempt in self.attempts.values():
            self.indexes.note_attempt(attempt, there=True)
        for task in self.tasks.values():
            self.indexes.note_task(task, there=True)
        for job in self.jobs.values():
            self.indexes.note_job(job, there=True)
        for group in self.groups.values():
            self.indexes.note_group(group, there=True)


__all__ = ["Indexes", "Tables"]
