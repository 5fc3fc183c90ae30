"""The ledger's tables, and what can be found in them without a search.

Records are frozen, so a reader that holds one is never surprised; only `draft.Draft` changes the
tables.
"""

from dataclasses import dataclass, field
from typing import TypeVar

from fray.cluster.controller.attempt import Attempt
from fray.cluster.controller.records import Gang, Group, Job, Task, Worker
from fray.cluster.scheduling.view import TaskKey
from fray.cluster.types import JobStatus
from fray.ids import ActorId, AttemptId, JobId, WorkerId

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


@dataclass(slots=True)
class Indexes:
    """What can be found without a search; derived from the tables, never stored.

    Attributes:
        on_worker: Live attempts by host.
        unplaced: Tasks that have no attempt and want one, by job.
        children: Jobs that end with their parent, by parent, while they have not.
        by_session: Jobs of actors that end with their driver, by session, while they have not.
        by_actor: The job of each actor that has not ended.
        starting: Groups that have not been admitted.
    """

    on_worker: Ids[WorkerId, AttemptId] = field(
        default_factory=dict[WorkerId, dict[AttemptId, None]]
    )
    unplaced: Ids[JobId, int] = field(default_factory=dict[JobId, dict[int, None]])
    children: Ids[JobId, JobId] = field(default_factory=dict[JobId, dict[JobId, None]])
    by_session: Ids[str, JobId] = field(default_factory=dict[str, dict[JobId, None]])
    by_actor: dict[ActorId, JobId] = field(default_factory=dict[ActorId, JobId])
    starting: dict[str, None] = field(default_factory=dict[str, None])

    def note_attempt(self, attempt: Attempt, *, there: bool) -> None:
        """Follows an attempt that comes or goes.

        Args:
            attempt: Which.
            there: Whether it is live.
        """
        (_put if there else _drop)(self.on_worker, attempt.worker_id, attempt.attempt_id)

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
        if spec.actor is None:
            return
        if spec.actor.owner_session and not spec.detached:
            change(self.by_session, spec.actor.owner_session, spec.job_id)
        if lives:
            self.by_actor[spec.actor.actor_id] = spec.job_id
        elif self.by_actor.get(spec.actor.actor_id) == spec.job_id:
            del self.by_actor[spec.actor.actor_id]

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
    indexes: Indexes = field(default_factory=Indexes, compare=False)

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
