"""Changes that are not made yet.

A command is worked out on a `Draft`, which reads through to the tables and keeps what it writes
to itself. If anything goes wrong the draft is dropped and nothing has happened; if not, it is
committed, in time proportional to what it changes.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Generic, TypeVar

from fray.cluster.controller.attempt import Attempt
from fray.cluster.controller.events import DesiredChanged, Event
from fray.cluster.controller.records import Job, Tally, Task, Worker
from fray.cluster.controller.reservation import Reservation
from fray.cluster.controller.tables import Tables
from fray.cluster.scheduling.view import (
    TaskKey,
)
from fray.cluster.types import JobStatus
from fray.errors import InvalidRequestError, JobNotFoundError
from fray.ids import ActorId, JobId, Namespace, WorkerId

K = TypeVar("K")
V = TypeVar("V")


class Overlay(Generic[K, V]):
    """Changes to one table that are not made yet.

    Args:
        base: The table; only `Tables.commit` changes it.
    """

    __slots__ = ("_base", "_changes", "_new")

    def __init__(self, base: dict[K, V]) -> None:
        self._base = base
        self._new: dict[K, V | None] = {}
        self._changes: list[tuple[K, V | None, V | None]] | None = None

    def get(self, key: K) -> V | None:
        """The record as it would be, or None.

        Args:
            key: Whose.
        """
        return self._new[key] if key in self._new else self._base.get(key)

    def __getitem__(self, key: K) -> V:
        value = self.get(key)
        if value is None:
            raise KeyError(key)
        return value

    def __setitem__(self, key: K, value: V) -> None:
        self._new[key] = value
        self._changes = None

    def __delitem__(self, key: K) -> None:
        self._new[key] = None
        self._changes = None

    def written(self) -> Iterator[tuple[K, V | None]]:
        """Key and record (None: removed) of all that was written."""
        yield from self._new.items()

    def changes(self) -> Sequence[tuple[K, V | None, V | None]]:
        """Key, record before and record after, for all that really changes.

        Asked again, records are not compared again unless something was written meanwhile.
        """
        if self._changes is None:
            pairs = ((key, self._base.get(key), new) for key, new in self._new.items())
            self._changes = [
                each for each in pairs if each[1] is not each[2] and each[1] != each[2]
            ]
        return self._changes

    def commit(self) -> None:
        """Makes the changes."""
        for key, new in self._new.items():
            if new is None:
                self._base.pop(key, None)
            else:
                self._base[key] = new


def no_such_job(job_id: JobId) -> str:
    """What is said of a job that the ledger does not know.

    Args:
        job_id: Its supposed id.
    """
    return f"there is no job {job_id}; those that ended long ago are forgotten (`retention`)"


class Draft:
    """The tables as they would be after a command that is being worked out.

    Args:
        tables: As they are.
        now: The command's time, in seconds since 1970.

    Attributes:
        now: The command's time.
        events: What has happened so far, in order.
        ending: Jobs that have begun to end, and whose children have not been told.
    """

    def __init__(self, tables: Tables, now: float) -> None:
        self._tables = tables
        self.now = now
        self.workers = Overlay(tables.workers)
        self.jobs = Overlay(tables.jobs)
        self.tasks = Overlay(tables.tasks)
        self.attempts = Overlay(tables.attempts)
        self.gangs = Overlay(tables.gangs)
        self.groups = Overlay(tables.groups)
        self.submissions = Overlay(tables.submissions)
        self.users = Overlay(tables.users)
        self.reservations = Overlay(tables.reservations)
        self.claims = Overlay(tables.claims)
        self.policy = tables.policy
        self.submitted = tables.submitted
        self.events: list[Event] = []
        self.ending: list[JobId] = []

    def job(self, job_id: JobId) -> Job:
        """A job that somebody asks for.

        Args:
            job_id: Which.

        Raises:
            JobNotFoundError: There is none.
        """
        job = self.jobs.get(job_id)
        if job is None:
            raise JobNotFoundError(no_such_job(job_id))
        return job

    def worker(self, worker_id: WorkerId) -> Worker:
        """A host that somebody asks for.

        Args:
            worker_id: Which.

        Raises:
            InvalidRequestError: There is none.
        """
        worker = self.workers.get(worker_id)
        if worker is None:
            raise InvalidRequestError(f"no worker {worker_id} is registered")
        return worker

    def task(self, job_id: JobId, index: int) -> Task:
        """A task that is known to exist.

        Args:
            job_id: Whose.
            index: Which.
        """
        return self.tasks[TaskKey(job_id, index)]

    def put_task(self, task: Task) -> None:
        """Writes a task, and keeps its job's tally.

        Args:
            task: As it would be.
        """
        old = self.tasks.get(task.key)
        self.tasks[task.key] = task
        live = (task.live is not None) - (old is not None and old.live is not None)
        succeeded = (task.status is JobStatus.SUCCEEDED) - (
            old is not None and old.status is JobStatus.SUCCEEDED
        )
        if live or succeeded:
            job = self.jobs[task.job_id]
            tally = Tally(job.tally.live + live, job.tally.succeeded + succeeded)
            self.jobs[task.job_id] = replace(job, tally=tally)

    def tasks_of(self, job: Job) -> Iterator[Task]:
        """A job's tasks by index, each as it would be at the moment at which it is reached.

        Args:
            job: Whose.
        """
        for index in range(job.spec.num_tasks):
            yield self.task(job.spec.job_id, index)

    def attempts_on(self, worker_id: WorkerId) -> list[Attempt]:
        """A host's live attempts by id.

        Args:
            worker_id: Which host.
        """
        ids = dict(self._tables.indexes.on_worker.get(worker_id, {}))
        ids.update((key, None) for key, new in self.attempts.written() if new is not None)
        found = (self.attempts.get(attempt_id) for attempt_id in sorted(ids))
        return [attempt for attempt in found if attempt and attempt.worker_id == worker_id]

    def unplaced(self, job_id: JobId) -> list[int]:
        """A job's tasks that have no attempt and want one, by index.

        Args:
            job_id: Whose.
        """
        indices = dict(self._tables.indexes.unplaced.get(job_id, {}))
        indices.update(
            (key.task_index, None) for key, _ in self.tasks.written() if key.job_id == job_id
        )
        tasks = (self.task(job_id, index) for index in sorted(indices))
        return [t.index for t in tasks if t.status is JobStatus.PENDING and t.live is None]

    def drawing(self, reservation: str) -> list[Attempt]:
        """The live attempts that use a reservation, by id.

        Args:
            reservation: Which.
        """
        ids = dict(self._tables.indexes.drawing.get(reservation, {}))
        ids.update((key, None) for key, new in self.attempts.written() if new is not None)
        found = (self.attempts.get(attempt_id) for attempt_id in sorted(ids))
        return [attempt for attempt in found if attempt and attempt.reservation == reservation]

    def claimed(self) -> list[str]:
        """Units that have claims, as of before the command, by id."""
        return sorted(self._tables.claims)

    def known_users(self) -> list[str]:
        """Users of whom something is known, as of before the command, by name."""
        return sorted(self._tables.users)

    def known_variants(self) -> dict[str, None]:
        """Kinds of accelerators that hosts have, as of before the command, in no certain order."""
        found: dict[str, None] = {}
        for worker in self._tables.workers.values():
            capacity = worker.spec.capacity
            found.update(dict.fromkeys((*capacity.gpus, *capacity.tpus)))
        return found

    def open_reservations(self) -> list[Reservation]:
        """Reservations that still get something, in no particular order."""
        there = dict.fromkeys(self._tables.reservations)
        there.update((key, None) for key, new in self.reservations.written() if new is not None)
        found = (self.reservations.get(key) for key in there)
        return [each for each in found if each is not None and each.is_open]

    def reservations_of_jobs(self) -> set[str]:
        """See `Tables.reservations_of_jobs`; as of before the command."""
        return self._tables.reservations_of_jobs()

    def owners(self) -> set[str]:
        """See `Tables.owners`; as of before the command."""
        return self._tables.owners()

    def children_of(self, job_id: JobId) -> list[JobId]:
        """Jobs that end with another and have not ended, as of before the command.

        Args:
            job_id: The other.
        """
        return sorted(self._tables.indexes.children.get(job_id, {}))

    def actors_of(self, session: str) -> list[JobId]:
        """Jobs of actors that end with a driver and have not ended, as of before the command.

        Args:
            session: The driver's.
        """
        return sorted(self._tables.indexes.by_session.get(session, {}))

    def job_of_actor(self, actor_id: ActorId) -> JobId | None:
        """The job of an actor that has not ended, as of before the command.

        Args:
            actor_id: Which actor.
        """
        return self._tables.indexes.by_actor.get(actor_id)

    def job_of_name(self, namespace: Namespace, name: str) -> JobId | None:
        """The job of the actor that has an exclusive name, or is to get it, and has not ended.

        As of before the command.

        Args:
            namespace: Where the name is.
            name: The name.
        """
        return self._tables.indexes.by_name.get((namespace, name))

    def emit(self, event: Event) -> None:
        """Says that something has happened.

        Args:
            event: What.
        """
        self.events.append(event)

    def finish(self) -> tuple[str, ...]:
        """Completes the events.

        Returns:
            The ids of all hosts, jobs, gangs, groups and submissions that would change; nothing
            where nothing would.
        """
        for worker_id, old, new in self.workers.changes():
            if new is not None and (old is None or old.generation != new.generation):
                self.emit(DesiredChanged(worker_id, new.generation))
        touched: dict[str, None] = {}  # in an order that a replay has, too
        if self.policy != self._tables.policy:
            touched["policy"] = None
        for overlay in self._overlays():
            for key, _, _ in overlay.changes():
                touched[key.job_id if isinstance(key, TaskKey) else key] = None
        return tuple(touched)

    def commit(self) -> None:
        """Changes the tables; they must be as they were when the draft was begun."""
        index = self._tables.indexes
        _note(index.note_attempt, self.attempts)
        _note(index.note_task, self.tasks)
        _note(index.note_job, self.jobs)
        _note(index.note_group, self.groups)
        for overlay in self._overlays():
            overlay.commit()
        self._tables.submitted = self.submitted
        self._tables.policy = self.policy
        self._tables.revision += 1

    def _overlays(self) -> tuple[Overlay[Any, Any], ...]:
        return (
            self.workers,
            self.jobs,
            self.tasks,
            self.attempts,
            self.gangs,
            self.groups,
            self.submissions,
            self.users,
            self.reservations,
            self.claims,
        )


def _note(note: Callable[..., None], overlay: Overlay[Any, V]) -> None:
    for _, old, new in overlay.changes():
        if old is not None:
            note(old, there=False)
        if new is not None:
            note(new, there=True)


__all__ = ["Draft", "Overlay", "no_such_job"]
