"""The actor ``jobs``: takes submissions, tells of jobs, stops them."""

from __future__ import annotations

import dataclasses
import itertools
from typing import TYPE_CHECKING

from fray.cluster.control import AttemptPlace, JobReport, TaskReport
from fray.cluster.controller.commands import StopJob, SubmitJobs
from fray.cluster.controller.events import JobsSubmitted
from fray.cluster.types import JobStatus
from fray.cluster.worker.taskfile import HostedActor
from fray.errors import JobNotFoundError, NameTakenError
from fray.ids import JobId, Namespace, WorkerId
from fray.runtime.jsoncodec import json_loads

if TYPE_CHECKING:
    from fray.cluster.controller.attempt import Attempt
    from fray.cluster.controller.book import Book
    from fray.cluster.controller.names import Names
    from fray.cluster.controller.records import Job, Task
    from fray.cluster.controller.specs import JobSpec
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
        if not self._is_known(submission):
            specs = tuple(self._complete(spec) for spec in submission.jobs)
            submission = dataclasses.replace(submission, jobs=specs)
            for spec in specs:
                await self._until_free(spec)
                self._check_name(spec)
            if self._book.ledger.tables.workers:  # without hosts nothing can be said yet
                self._book.ledger.check_feasible(submission)
        applied = await self._book.commit(submission)
        for event in applied.events:
            if isinstance(event, JobsSubmitted):
                return list(event.job_ids)
        raise AssertionError("a submission answers with its jobs")

    def _is_known(self, submission: SubmitJobs) -> bool:
        return submission.submission_id in self._book.ledger.tables.submissions

    def _complete(self, spec: JobSpec) -> JobSpec:
        """Gives a job an id that was never used: its prefix and a few random digits."""
        jobs = self._book.ledger.tables.jobs
        for nbytes in itertools.count(2):  # short ones while there are many free
            job_id = JobId(f"{spec.job_id}-{self._clock.token(nbytes)}")
            if job_id not in jobs:
                return dataclasses.replace(spec, job_id=job_id)
        raise AssertionError("counting does not end")

    async def _until_free(self, spec: JobSpec) -> None:
        """Waits while an exclusive name belongs to an actor that is being stopped."""
        hosted = _hosted(spec)
        if hosted is None or not hosted.name:
            return

        def holder_ends() -> bool:
            rival = self._book.actor_to_be(hosted.namespace, hosted.name)
            job_id = None if rival is None else self._book.job_of_actor(rival)
            return job_id is not None and self._book.ledger.job(job_id).verdict is not None

        await self._book.changed.until(lambda: not holder_ends(), NAME_WAIT_S)

    def _check_name(self, spec: JobSpec) -> None:
        """Refuses an exclusive name that a living actor has, or will have."""
        hosted = _hosted(spec)
        if hosted is None or spec.actor is None or not hosted.name:
            return
        rival = self._book.actor_to_be(hosted.namespace, hosted.name)
        if rival is not None and rival != spec.actor.actor_id:
            job_id = self._book.job_of_actor(rival)
            if job_id is not None:
                raise NameTakenError(
                    f"the name {hosted.name!r} belongs to the actor of job {job_id}; choose "
                    "another, stop that one, or use get_if_exists=True"
                )
        holder = self._names.holder(hosted.namespace, hosted.name)
        if holder is not None and (rival is None or holder.actor_id != rival):
            raise NameTakenError(
                f"the name {hosted.name!r} belongs to an actor at {holder.address}; choose another"
            )

    async def jobs(self, job_ids: list[JobId] | None, namespace: str | None) -> list[JobReport]:
        """See `JobsApi.jobs`."""
        if job_ids is None:
            within = None if namespace is None else Namespace(namespace)
            job_ids = list(self._book.ledger.list_jobs(namespace=within))
        return [self.report(job_id) for job_id in job_ids]

    async def wait(self, job_id: JobId, wait_s: float) -> JobReport:
        """See `JobsApi.wait`."""
        ledger = self._book.ledger
        ledger.job(job_id)  # an unknown one is told at once
        await self._book.changed.until(lambda: _has_ended(self._book, job_id), wait_s)
        return self.report(job_id)

    async def stop(self, job_id: JobId, reason: str, grace_s: float) -> None:
        """See `JobsApi.stop`."""
        await self._book.commit(StopJob(job_id, reason, grace_s))

    def report(self, job_id: JobId) -> JobReport:
        """All that is told of a job.

        Args:
            job_id: Which.

        Raises:
            JobNotFoundError: There is no such job.
        """
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
            waits_for=self._waits_for(job),
            submitted_at=job.submitted_at,
            started_at=job.started_at,
            ended_at=job.ended_at,
            group=job.group_id,
            parent=job.spec.parent or "",
            actor_id=job.spec.actor.actor_id if job.spec.actor else "",
            resources=_describe(job.spec),
        )

    def _waits_for(self, job: Job) -> tuple[str, ...]:
        if job.status is not JobStatus.PENDING:
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
        return worker.spec.address if worker is not None else ""


def _hosted(spec: JobSpec) -> HostedActor | None:
    if spec.actor is None:
        return None
    return json_loads(spec.hints["actor"].encode(), HostedActor)


def _has_ended(book: Book, job_id: JobId) -> bool:
    try:
        return book.ledger.job(job_id).status.finished()
    except JobNotFoundError:  # forgotten while it was waited for
        return True


def _describe(spec: JobSpec) -> str:
    resources = spec.resources
    parts = [f"{resources.cpu:g} cpu", resources.ram]
    if resources.device.kind != "cpu":
        parts.append(f"{resources.device.kind} {resources.device.variant}")
    text = ", ".join(parts)
    return text if resources.replicas == 1 else f"{resources.replicas} × ({text})"


__all__ = ["Jobs"]
