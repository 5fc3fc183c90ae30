"""The ledger: all that the cluster is, changed by commands and by nothing else.

`Ledger.apply` is a pure state machine around mutable tables: the same commands at the same times
give the same tables and the same events, so a journal of commands is a journal of the state. A
command that makes no sense raises and has changed nothing. A command that changes nothing, such
as a report of what is known already, need not be kept.

Who owns a ledger uses it from one thread, writes what was applied to the journal before anybody
hears of it, and starts anew from the journal if that fails.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from fray.cluster.controller.attempt import Attempt
from fray.cluster.controller.commands import (
    ApplyPlan,
    Command,
    CordonWorker,
    EndActor,
    ForgetJobs,
    MarkWorker,
    RegisterWorker,
    RemoveWorker,
    ReportAttempts,
    SessionEnded,
    StartActor,
    StopActor,
    StopJob,
    SubmitJobs,
    UncordonWorker,
    WorkerLost,
)
from fray.cluster.controller.desired import Desired, Standing, desired
from fray.cluster.controller.draft import Draft
from fray.cluster.controller.events import Event
from fray.cluster.controller.records import Health, Job, Task, Worker
from fray.cluster.controller.rules import actors, jobs, plans, workers
from fray.cluster.controller.rules.verdicts import stop_children
from fray.cluster.controller.tables import Tables
from fray.cluster.controller.units import host_of, waiting_units
from fray.cluster.scheduling.admission import check_feasible
from fray.cluster.scheduling.view import ClusterView, Host
from fray.cluster.types import JobInfo, TaskStatus
from fray.errors import JobNotFoundError
from fray.ids import ActorId, JobId, Namespace, WorkerId


@dataclass(frozen=True, slots=True)
class Applied:
    """What a command did.

    Attributes:
        revision: Of the ledger after it.
        events: What has happened, in order.
        changed: Whether anything is different now; if not, the journal need not have it.
    """

    revision: int
    events: tuple[Event, ...]
    changed: bool


class Ledger:
    """The state of one cluster.

    Args:
        tables: What it starts from, taken over; None starts empty.
    """

    def __init__(self, tables: Tables | None = None) -> None:
        self._tables = tables or Tables()
        self._hosts: dict[WorkerId, tuple[Worker, Host]] = {}

    @property
    def tables(self) -> Tables:
        """All that it knows; to be read, never written."""
        return self._tables

    @property
    def revision(self) -> int:
        """Counts the commands that changed something."""
        return self._tables.revision

    def __repr__(self) -> str:
        t = self._tables
        return (
            f"<Ledger revision {t.revision}: {len(t.workers)} workers, {len(t.jobs)} jobs, "
            f"{len(t.attempts)} live attempts>"
        )

    def apply(self, command: Command, now: float) -> Applied:
        """Does what a command asks.

        Args:
            command: What is asked.
            now: The time, in seconds since 1970; not before that of earlier commands.

        Raises:
            InvalidRequestError: The command makes no sense; nothing has changed.
            JobNotFoundError: It names a job that does not exist; nothing has changed.
        """
        draft = Draft(self._tables, now)
        _RULES[type(command)](draft, command)
        stop_children(draft)
        changed = draft.finish()
        if changed:
            draft.commit()
        return Applied(self._tables.revision, tuple(draft.events), changed)

    def check_feasible(self, command: SubmitJobs, *, elastic: bool = False) -> None:
        """Refuses a submission that no host of this cluster could ever run; changes nothing.

        Args:
            command: The submission.
            elastic: Whether the cluster can grow by itself.

        Raises:
            InfeasibleError: See `fray.cluster.scheduling.admission.check_feasible`.
            InvalidRequestError: The submission makes no sense.
            JobNotFoundError: Its parent does not exist.
        """
        if command.submission_id in self._tables.submissions:
            return  # a repetition is answered, not judged again
        draft = Draft(self._tables, 0.0)
        jobs.submit(draft, command)
        fresh = [spec.job_id for spec in command.jobs]
        groups = [command.submission_id] if command.group is not None else []
        units, _ = waiting_units(draft, fresh, groups)
        check_feasible(units, self._host_views(), elastic=elastic)

    def view(self) -> ClusterView:
        """The cluster as the scheduler sees it; costs hosts plus what waits, not all jobs."""
        draft = Draft(self._tables, 0.0)
        index = self._tables.indexes
        units, held = waiting_units(draft, list(index.unplaced), list(index.starting))
        return ClusterView(self._tables.revision, self._host_views(), tuple(units), held)

    def _host_views(self) -> dict[WorkerId, Host]:
        hosts: dict[WorkerId, Host] = {}
        kept: dict[WorkerId, tuple[Worker, Host]] = {}
        for worker_id, worker in self._tables.workers.items():
            known = self._hosts.get(worker_id)
            host = known[1] if known is not None and known[0] is worker else host_of(worker)
            hosts[worker_id] = host
            kept[worker_id] = worker, host
        self._hosts = kept
        return hosts

    def desired(self, worker_id: WorkerId) -> Desired:
        """All that a host should run, and what of it should stop.

        Args:
            worker_id: Which host; an unknown one should run nothing.
        """
        return desired(Draft(self._tables, 0.0), worker_id)

    def standing(self, worker_id: WorkerId, boot_id: str) -> Standing:
        """Whether an agent may speak for a host.

        Args:
            worker_id: Which host.
            boot_id: The life of it that the agent is in.
        """
        worker = self._tables.workers.get(worker_id)
        if worker is None:
            return Standing.UNKNOWN
        if worker.boot_id != boot_id or worker.health is Health.LOST:
            return Standing.FENCED
        return Standing.CURRENT

    def job(self, job_id: JobId) -> Job:
        """A job's record.

        Args:
            job_id: Which.

        Raises:
            JobNotFoundError: There is no such job.
        """
        job = self._tables.jobs.get(job_id)
        if job is None:
            raise JobNotFoundError(f"there is no job {job_id}")
        return job

    def tasks(self, job_id: JobId) -> Sequence[Task]:
        """A job's tasks by index.

        Args:
            job_id: Whose.

        Raises:
            JobNotFoundError: There is no such job.
        """
        return list(Draft(self._tables, 0.0).tasks_of(self.job(job_id)))

    def attempts(self, job_id: JobId) -> Sequence[Attempt]:
        """A job's live attempts by task.

        Args:
            job_id: Whose.

        Raises:
            JobNotFoundError: There is no such job.
        """
        live = (task.live for task in self.tasks(job_id))
        return [self._tables.attempts[attempt_id] for attempt_id in live if attempt_id]

    def job_of_actor(self, actor_id: ActorId) -> JobId | None:
        """The job that hosts an actor, unless that has ended.

        Args:
            actor_id: Which actor.
        """
        return self._tables.indexes.by_actor.get(actor_id)

    def info(self, job_id: JobId) -> JobInfo:
        """A job as its user sees it.

        Args:
            job_id: Which.

        Raises:
            JobNotFoundError: There is no such job.
        """
        job = self.job(job_id)
        return JobInfo(
            job_id=job_id,
            status=job.status,
            tasks=[TaskStatus(task.status, task.error or None) for task in self.tasks(job_id)],
            name=job.spec.name,
            error_message=job.error_message or None,
        )

    def list_jobs(self, *, namespace: Namespace | None = None) -> Iterator[JobId]:
        """Jobs by order of submission.

        Args:
            namespace: Only those in it; None: all.
        """
        for job in sorted(self._tables.jobs.values(), key=lambda job: job.rank):
            if namespace is None or job.spec.namespace == namespace:
                yield job.spec.job_id


_RULES: dict[type[Any], Callable[[Draft, Any], None]] = {
    ApplyPlan: plans.apply_plan,
    CordonWorker: workers.cordon,
    EndActor: actors.end_actor,
    ForgetJobs: jobs.forget,
    MarkWorker: workers.mark,
    RegisterWorker: workers.register,
    RemoveWorker: workers.remove,
    ReportAttempts: workers.report,
    SessionEnded: jobs.session_ended,
    StartActor: actors.start_actor,
    StopActor: actors.stop_actor,
    StopJob: jobs.stop_job,
    SubmitJobs: jobs.submit,
    UncordonWorker: workers.uncordon,
    WorkerLost: workers.worker_lost,
}
"""What carries out each command; complete, as a test asserts."""


__all__ = ["Applied", "Desired", "Ledger", "Standing"]
