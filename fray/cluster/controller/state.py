"""The ledger: all that the cluster is, changed by commands and by nothing else.

`Ledger.apply` is a pure state machine around mutable tables: the same commands at the same times
give the same tables and the same events, so a journal of commands is a journal of the state. A
command that makes no sense raises and has changed nothing. A command that changes nothing, such
as a report of what is known already, need not be kept.

Who owns a ledger uses it from one thread, writes what was applied to the journal before anybody
hears of it, and starts anew from the journal if that fails.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from fray.cluster.controller.attempt import Attempt
from fray.cluster.controller.commands import (
    ApplyPlan,
    Command,
    CordonWorker,
    CreateReservation,
    EndActor,
    EndOverdue,
    ExpireReservations,
    ForgetJobs,
    ForgetReservations,
    ForgetUsers,
    MapPort,
    MarkWorker,
    RegisterWorker,
    ReleaseReservation,
    RemoveWorker,
    RenewReservation,
    ReportAttempts,
    SessionEnded,
    SetPolicy,
    SetUser,
    StartActor,
    StartTogether,
    StopActor,
    StopJob,
    SubmitJobs,
    UncordonWorker,
    WorkerLost,
)
from fray.cluster.controller.desired import Desired, Standing, desired
from fray.cluster.controller.draft import Draft, no_such_job
from fray.cluster.controller.events import Event
from fray.cluster.controller.records import Health, Job, Task
from fray.cluster.controller.rules import actors, jobs, plans, reservations, users, workers
from fray.cluster.controller.rules.verdicts import stop_children
from fray.cluster.controller.specs import GangScope, JobSpec
from fray.cluster.controller.tables import Tables
from fray.cluster.controller.units import replica_of, replicas_beside, waiting_units
from fray.cluster.controller.views import Snapshot, Views
from fray.cluster.scheduling.admission import check_feasible
from fray.cluster.scheduling.view import (
    ClusterView,
)
from fray.cluster.types import JobInfo, TaskStatus
from fray.errors import JobNotFoundError
from fray.ids import ActorId, JobId, Namespace, ReservationId, WorkerId


@dataclass(frozen=True, slots=True)
class Applied:
    """What a command did.

    Attributes:
        revision: Of the ledger after it.
        events: What has happened, in order.
        touched: The ids of the hosts, jobs, gangs and so on that are different now.
    """

    revision: int
    events: tuple[Event, ...]
    touched: tuple[str, ...]

    @property
    def changed(self) -> bool:
        """Whether anything is different now; if not, the journal need not have it."""
        return bool(self.touched)


class Ledger:
    """The state of one cluster.

    Args:
        tables: What it starts from, taken over; None starts empty.
    """

    def __init__(self, tables: Tables | None = None) -> None:
        self._tables = tables or Tables()
        self._views = Views(self._tables)

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
        touched = draft.finish()
        if touched:
            self._views.forget(draft)
            draft.commit()
        return Applied(self._tables.revision, tuple(draft.events), touched)

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
        jobs.submit(draft, replace(command, jobs=tuple(map(_let_go, command.jobs))))
        fresh = [spec.job_id for spec in command.jobs]
        groups = [command.submission_id] if command.group is not None else []
        units, _ = waiting_units(draft, fresh, groups)
        views = self._views
        check_feasible(units, views.hosts(), elastic=elastic, passed=views.feasible)

    def check_reservable(self, command: CreateReservation) -> None:
        """Refuses a reservation of which not even one replica could ever be here.

        Args:
            command: The reservation.

        Raises:
            InfeasibleError: No host could ever have it.
            InvalidRequestError: It makes no sense.
        """
        if not self._tables.workers:
            return  # nothing can be said yet
        draft = Draft(self._tables, 0.0)
        reservations.create(draft, command)
        made = draft.reservations[command.reservation_id]
        views = self._views
        check_feasible([replica_of(made, 0)], views.hosts(), passed=views.feasible)

    def replicas_beside(self, reservation_id: ReservationId) -> int:
        """How many replicas of a reservation's run outside of what it keeps.

        Args:
            reservation_id: Which.
        """
        reservation = self._tables.reservations[reservation_id]
        return replicas_beside(Draft(self._tables, 0.0), reservation)

    def jobs_of_reservation(self, reservation_id: ReservationId) -> list[JobId]:
        """The jobs that use a reservation and have not ended, by order of submission.

        Args:
            reservation_id: Which.
        """
        jobs = (j for j in self._tables.jobs.values() if j.spec.reservation == reservation_id)
        lasting = [job for job in jobs if not job.status.finished()]
        return [job.spec.job_id for job in sorted(lasting, key=lambda job: job.rank)]

    def view(self) -> ClusterView:
        """The cluster as the scheduler sees it."""
        return self._views.snapshot().view()

    def snapshot(self) -> Snapshot:
        """The cluster as it is, for a view; costs what has changed since the last `refresh`."""
        return self._views.snapshot()

    def refresh(self) -> Iterator[None]:
        """Prepares for `snapshot`, in small steps: commands may be applied between two of them."""
        return self._views.refresh()

    def preview(self, command: SubmitJobs, now: float) -> Snapshot:
        """The cluster as it would be after a submission; changes nothing.

        Args:
            command: The submission, of jobs without a group.
            now: Seconds since 1970.

        Raises:
            InvalidRequestError: The submission makes no sense.
            JobNotFoundError: Its parent does not exist.
        """
        draft = Draft(self._tables, now)
        jobs.submit(draft, command)
        fresh, held = waiting_units(draft, [spec.job_id for spec in command.jobs], [])
        now_there = self.snapshot()
        units, held = (*now_there.units, fresh), {**now_there.held, **held}
        return replace(now_there, units=units, held=held)

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
            raise JobNotFoundError(no_such_job(job_id))
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

    def job_of_name(self, namespace: Namespace, name: str) -> JobId | None:
        """The job of the actor that has an exclusive name, or is to get it, and has not ended.

        Args:
            namespace: Where the name is.
            name: The name.
        """
        return self._tables.indexes.by_name.get((namespace, name))

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


def _let_go(spec: JobSpec) -> JobSpec:
    """A job as it is when its supervisor does not hold it any longer; of a slice, all hosts."""
    if spec.slice_host is not None:
        hosts = spec.slice_hosts
        scope = GangScope.REPLICA if hosts > 1 else GangScope.TASK
        spec = replace(spec, slice_host=None, hosts_per_replica=hosts, gang=scope)
    if spec.actor is None or not spec.actor.held:
        return spec
    return replace(spec, actor=replace(spec.actor, held=False))


_RULES: dict[type[Any], Callable[[Draft, Any], None]] = {
    ApplyPlan: plans.apply_plan,
    CordonWorker: workers.cordon,
    CreateReservation: reservations.create,
    EndActor: actors.end_actor,
    EndOverdue: jobs.end_overdue,
    ExpireReservations: reservations.expire,
    ForgetJobs: jobs.forget,
    ForgetReservations: reservations.forget,
    ForgetUsers: users.forget,
    MapPort: jobs.map_port,
    MarkWorker: workers.mark,
    RegisterWorker: workers.register,
    ReleaseReservation: reservations.release,
    RemoveWorker: workers.remove,
    RenewReservation: reservations.renew,
    ReportAttempts: workers.report,
    SessionEnded: jobs.session_ended,
    SetPolicy: users.set_policy,
    SetUser: users.set_user,
    StartActor: actors.start_actor,
    StartTogether: actors.start_together,
    StopActor: actors.stop_actor,
    StopJob: jobs.stop_job,
    SubmitJobs: jobs.submit,
    UncordonWorker: workers.uncordon,
    WorkerLost: workers.worker_lost,
}
"""What carries out each command; complete, as a test asserts."""


__all__ = ["Applied", "Desired", "Ledger", "Snapshot", "Standing"]
