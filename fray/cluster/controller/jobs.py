"""The actor ``jobs``: takes submissions, tells of jobs, stops them."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from fray.cluster.controller.commands import MapPort, StopJob, SubmitJobs
from fray.cluster.controller.events import JobsSubmitted
from fray.cluster.controller.jobids import with_ids
from fray.cluster.controller.outlook import beside, look
from fray.cluster.controller.records import Health, PortMapping
from fray.cluster.controller.speclimits import check_counts, check_size
from fray.cluster.controller.specs import Environment, JobSpec
from fray.cluster.reports import (
    AttemptPlace,
    JobCounts,
    JobPreview,
    JobQuery,
    JobReport,
    TaskReport,
)
from fray.cluster.scheduling.planner import plan
from fray.cluster.types import JobStatus
from fray.errors import JobNotFoundError, NameTakenError
from fray.ids import JobId, Namespace, WorkerId

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fray.cluster.controller.attempt import Attempt
    from fray.cluster.controller.book import Book
    from fray.cluster.controller.names import Names
    from fray.cluster.controller.records import Job, Task
    from fray.runtime.clock import Clock


NAME_WAIT_S = 20.0
"""How long a new actor waits for a name whose holder is being stopped."""


class Jobs:
    """See `JobsApi`.

    Args:
        book: The ledger.
        names: Who has which name.
        clock: The process's clock.
    """

    def __init__(self, book: Book, names: Names, clock: Clock) -> None:
        self._book = book
        self._names = names
        self._clock = clock

    async def submit(self, submission: SubmitJobs) -> list[JobId]:
        """See `JobsApi.submit`."""
        check_counts(submission.jobs)
        for spec in submission.jobs:
            check_size(spec)
        if not self._is_known(submission):
            for spec in submission.jobs:
                await self._until_free(spec)
        try:
            applied = await self._book.commit_made(lambda: self._made(submission))
        except NameTakenError:
            await self._book.durable()  # whoever has it may be being written down just now
            raise
        for event in applied.events:
            if isinstance(event, JobsSubmitted):
                return list(event.job_ids)
        raise AssertionError("a submission answers with its jobs")

    def _made(self, submission: SubmitJobs) -> SubmitJobs:
        """A submission as it is added, which must be at once: nobody else gets its ids or names."""
        if self._is_known(submission):
            return submission
        for spec in submission.jobs:
            self._check_name(spec)
        specs = [self._inherited(spec) for spec in submission.jobs]
        specs = with_ids(specs, self._book.ledger.tables, lambda: self._clock.token(1))
        submission = dataclasses.replace(submission, jobs=specs)
        if self._book.ledger.tables.workers:  # without hosts nothing can be said yet
            self._book.ledger.check_feasible(submission)
        return submission

    async def preview(self, spec: JobSpec) -> JobPreview:
        """See `JobsApi.preview`."""
        check_counts([spec])
        check_size(spec)
        await look(self._book, self._clock)
        (spec,) = with_ids([spec], self._book.ledger.tables, lambda: self._clock.token(1))
        ledger = self._book.ledger
        submission = SubmitJobs(f"preview of {spec.job_id}", (spec,))
        now = self._clock.time()
        snapshot = ledger.preview(submission, now)
        if ledger.tables.workers:
            ledger.check_feasible(submission)
        made = await beside(snapshot, lambda view: plan(view, now))
        placed = [p for each in made.assignments for p in each.placements]
        return JobPreview(
            hosts={p.task_index: p.worker_id for p in placed if p.job_id == spec.job_id},
            tasks=spec.num_tasks,
            waits_for=tuple(str(reason) for reason in made.reasons.get(spec.job_id, ())),
            resources=spec.resources,
            ahead=self._pending_before(None),
        )

    def _pending_before(self, rank: int | None) -> int:
        """How many jobs are pending, of those that came before one; None: of all."""
        return sum(
            1
            for job in self._book.ledger.tables.jobs.values()
            if job.status is JobStatus.PENDING and (rank is None or job.rank < rank)
        )

    def _is_known(self, submission: SubmitJobs) -> bool:
        return submission.submission_id in self._book.ledger.tables.submissions

    def _inherited(self, spec: JobSpec) -> JobSpec:
        """Gives a job that asks for no environment that of the job which launches it."""
        parent = self._book.ledger.tables.jobs.get(spec.parent) if spec.parent else None
        if parent is None or spec.environment != Environment():
            return spec
        return dataclasses.replace(spec, environment=parent.spec.environment)

    async def _until_free(self, spec: JobSpec) -> None:
        """Waits while an exclusive name belongs to an actor that is being stopped."""
        role = spec.actor
        if role is None or not role.name:
            return

        def holder_ends() -> bool:
            job_id = self._book.ledger.job_of_name(spec.namespace, role.name)
            return job_id is not None and self._book.ledger.job(job_id).verdict is not None

        await self._book.changed.until(lambda: not holder_ends(), NAME_WAIT_S)

    def _check_name(self, spec: JobSpec) -> None:
        """Refuses an exclusive name that an actor has of which the ledger does not know."""
        if spec.actor is None or not spec.actor.name:
            return
        name = spec.actor.name
        holder = self._names.holder(spec.namespace, name)
        rival = self._book.actor_to_be(spec.namespace, name)  # of that the ledger itself tells
        if holder is not None and holder.actor_id != rival:
            raise NameTakenError(
                f"the name {name!r} belongs to an actor at {holder.address}; choose another"
            )

    async def report(self, job_id: JobId) -> JobReport:
        """See `JobsApi.report`."""
        return self._report(job_id)

    async def list(self, query: JobQuery) -> list[JobReport]:
        """See `JobsApi.list`."""
        return [self._report(job.spec.job_id) for job in self._chosen(query)]

    async def ids(self, query: JobQuery) -> list[JobId]:
        """See `JobsApi.ids`."""
        return [job.spec.job_id for job in self._chosen(query)]

    async def counts(self, query: JobQuery) -> JobCounts:
        """See `JobsApi.counts`."""
        jobs = {status.value: 0 for status in JobStatus}
        actors = dict(jobs)
        for job in self._meant(query):
            of_kind = jobs if job.spec.actor is None else actors
            of_kind[job.status.value] += 1
        return JobCounts(jobs, actors)

    def _meant(self, query: JobQuery) -> list[Job]:
        jobs = self._book.ledger.tables.jobs
        known = jobs.values()
        if query.job_ids is not None:
            known = [jobs[job_id] for job_id in query.job_ids if job_id in jobs]
        return [job for job in known if _is_meant(job, query)]

    def _chosen(self, query: JobQuery) -> list[Job]:
        chosen = self._meant(query)
        chosen.sort(key=lambda job: job.rank)
        return chosen[-query.newest :] if query.newest else chosen

    async def wait(self, job_id: JobId, wait_s: float) -> JobReport:
        """See `JobsApi.wait`."""
        ledger = self._book.ledger
        ledger.job(job_id)  # an unknown one is told at once
        await self._book.topics.until(job_id, lambda: _has_ended(self._book, job_id), wait_s)
        report, job = self._report(job_id), ledger.job(job_id)
        if job.status is JobStatus.PENDING:
            return dataclasses.replace(report, position=self._pending_before(job.rank) + 1)
        return report

    async def stop(self, job_id: JobId, reason: str, grace_s: float) -> None:
        """See `JobsApi.stop`."""
        await self._book.commit(StopJob(job_id, reason, grace_s))

    async def create_mapping(
        self, job_id: JobId, port_name: str, namespace: Namespace, actor_name: str
    ) -> None:
        """See `JobsApi.create_mapping`."""
        rival = self._book.actor_to_be(namespace, actor_name)
        holder = self._book.job_of_actor(rival) if rival is not None else None
        if holder is not None and holder != job_id:
            raise NameTakenError(
                f"{actor_name!r} cannot be mapped to job {job_id}: the name belongs to the actor "
                f"of job {holder}; choose another, or stop that one"
            )
        await self._book.commit(MapPort(job_id, PortMapping(port_name, namespace, actor_name)))

    def _report(self, job_id: JobId) -> JobReport:
        ledger = self._book.ledger
        job = ledger.job(job_id)
        live = {attempt.task_index: attempt for attempt in ledger.attempts(job_id)}
        tasks = ledger.tasks(job_id)
        return JobReport(
            job_id=job_id,
            name=job.spec.name,
            user=job.spec.user,
            namespace=job.spec.namespace,
            status=job.status,
            tasks=tuple(self._task_report(task, live.get(task.index)) for task in tasks),
            error=job.error_message,
            waits_for=self._waits_for(job, tasks, live),
            submitted_at=job.submitted_at,
            started_at=job.started_at,
            ended_at=job.ended_at,
            group=job.group_id,
            parent=job.spec.parent or "",
            actor_id=job.spec.actor.actor_id if job.spec.actor else "",
            resources=job.spec.resources,
            ports=job.spec.ports,
        )

    def _waits_for(
        self, job: Job, tasks: Sequence[Task], live: Mapping[int, Attempt]
    ) -> tuple[str, ...]:
        """Why a job, or some task of one that runs, has no place."""
        if job.status is not JobStatus.PENDING:
            wants = job.status is JobStatus.RUNNING and job.verdict is None
            waiting = (t for t in tasks if t.status is JobStatus.PENDING and t.index not in live)
            if not wants or next(waiting, None) is None:
                return ()
        return (self._book.waits_for(job.spec.job_id),)

    def _task_report(self, task: Task, live: Attempt | None) -> TaskReport:
        places = [
            AttemptPlace(
                attempt_id=ended.attempt_id,
                number=int(ended.attempt_id.rpartition("#")[2]),
                worker_id=ended.worker_id,
                agent_address=self._agent_address(ended.worker_id),
                live=False,
                state=ended.state,
            )
            for ended in task.history
        ]
        if live is not None:
            places.append(
                AttemptPlace(
                    attempt_id=live.attempt_id,
                    number=live.number,
                    worker_id=live.worker_id,
                    agent_address=self._agent_address(live.worker_id),
                    live=True,
                    state=live.state,
                )
            )
        return TaskReport(
            status=task.status,
            error=task.error,
            failures=task.failures,
            preemptions=task.preemptions,
            attempts=tuple(places),
        )

    def _agent_address(self, worker_id: WorkerId) -> str:
        worker = self._book.ledger.tables.workers.get(worker_id)
        if worker is None or worker.health is Health.LOST:
            return ""
        return worker.spec.address


def _is_meant(job: Job, query: JobQuery) -> bool:
    spec = job.spec
    return (
        (query.with_actors or spec.actor is None)
        and (not query.statuses or job.status in query.statuses)
        and query.namespace in ("", spec.namespace)
        and query.user in ("", spec.user)
    )


def _has_ended(book: Book, job_id: JobId) -> bool:
    try:
        return book.ledger.job(job_id).status.finished()
    except JobNotFoundError:  # forgotten while it was waited for
        return True


__all__ = ["Jobs"]
