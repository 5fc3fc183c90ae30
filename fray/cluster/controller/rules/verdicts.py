"""How jobs end: it is decided, all that is left of them is stopped, and then they have ended.

What a job launched ends with it, however it ends: nobody is left to want it.
"""

from dataclasses import replace

from fray.cluster.controller.attempt import StopKind
from fray.cluster.controller.commands import STOP_GRACE_S
from fray.cluster.controller.draft import Draft
from fray.cluster.controller.events import JobChanged, JobEnding
from fray.cluster.controller.records import Verdict
from fray.cluster.controller.rules.stopping import stop
from fray.cluster.types import JobStatus
from fray.errors import DeathKind
from fray.ids import AttemptId, JobId


def condemn(
    draft: Draft,
    job_id: JobId,
    status: JobStatus,
    message: str,
    *,
    grace_s: float = STOP_GRACE_S,
    kind: DeathKind | None = None,
) -> None:
    """Decides how a job ends, and stops all that is left of it.

    Its status changes when the last attempt is gone. Of a job that is ending only the grace can
    still change, and of one that has ended nothing.

    Args:
        draft: Where.
        job_id: Which job.
        status: FAILED or STOPPED.
        message: Why.
        grace_s: From the notice to the kill, in seconds.
        kind: What an actor died of, where its supervisor says it.
    """
    job = draft.jobs[job_id]
    if job.status.finished():
        return
    if job.verdict is None:
        job = replace(job, verdict=Verdict(status, message, kind), error_message=message)
        draft.jobs[job_id] = job
        draft.emit(JobEnding(job_id, status, message))
        draft.ending.append(job_id)
    for task in draft.tasks_of(job):
        if task.live is not None:
            stop(draft, draft.attempts[task.live], StopKind.JOB, message, grace_s)
        elif not task.status.finished():
            draft.put_task(replace(task, status=JobStatus.STOPPED))
    settle(draft, job_id)


def settle(draft: Draft, job_id: JobId) -> None:
    """Ends a job of which nothing is left to do.

    Args:
        draft: Where.
        job_id: Which job.
    """
    job = draft.jobs[job_id]
    if job.status.finished() or job.tally.live:
        return
    if job.verdict is not None:
        status, message = job.verdict.status, job.verdict.message
    elif job.tally.succeeded == job.spec.num_tasks:
        status, message = JobStatus.SUCCEEDED, ""
        draft.ending.append(job_id)
    else:
        return
    draft.jobs[job_id] = replace(job, status=status, ended_at=draft.now)
    draft.emit(JobChanged(job_id, status, message))


def stop_children(draft: Draft) -> None:
    """Ends the children of all jobs that have begun to end, and theirs in turn.

    Args:
        draft: Where.
    """
    while draft.ending:
        parent = draft.ending.pop(0)
        for child in draft.children_of(parent):
            actor = draft.jobs[child].spec.actor
            if actor is not None and draft.attempts.get(AttemptId(actor.owner_attempt)):
                continue  # its supervisor stops it, in order; what it leaves ends after it
            message = f"the job that launched it, {parent}, has ended"
            condemn(draft, child, JobStatus.STOPPED, message)


__all__ = ["condemn", "settle", "stop_children"]
