"""Actors whose supervisor, and not the cluster, says when they are started again."""

from dataclasses import replace

from fray.cluster.controller.attempt import StopKind
from fray.cluster.controller.commands import EndActor, StartActor, StopActor
from fray.cluster.controller.draft import Draft
from fray.cluster.controller.records import Hold, Task
from fray.cluster.controller.rules.stopping import stop
from fray.cluster.controller.rules.verdicts import condemn
from fray.cluster.types import JobStatus
from fray.errors import InvalidRequestError
from fray.ids import JobId


def start_actor(draft: Draft, command: StartActor) -> None:
    """Lets an actor that is down have a place again.

    Args:
        draft: Where.
        command: Which.

    Raises:
        JobNotFoundError: There is no such job.
        InvalidRequestError: It is no supervised actor's, it has ended for good, or what ran before
            is not gone yet.
    """
    task = _task(draft, command.job_id)
    job = draft.job(command.job_id)
    if job.verdict is not None or job.status.finished():
        why = job.error_message or job.status
        raise InvalidRequestError(f"actor {job.spec.name} has ended for good: {why}")
    if task.attempts > command.number:
        return  # that was heard before
    if task.live is not None or task.attempts < command.number:
        runs = task.live or f"attempt {task.attempts - 1} at the most"
        raise InvalidRequestError(
            f"attempt {command.number} of actor {job.spec.name} cannot begin: it runs as {runs}"
        )
    draft.put_task(replace(task, hold=None))


def stop_actor(draft: Draft, command: StopActor) -> None:
    """Stops an actor, and keeps it down.

    Args:
        draft: Where.
        command: Which.

    Raises:
        JobNotFoundError: There is no such job.
        InvalidRequestError: It is no supervised actor's, or the grace is negative.
    """
    task = _task(draft, command.job_id)
    job = draft.job(command.job_id)
    if command.grace_s < 0:
        raise InvalidRequestError(f"grace_s must be at least 0, not {command.grace_s}")
    if job.verdict is not None or job.status.finished():
        return
    hold = Hold.DOWN if command.down else (task.hold or Hold.SUPERVISOR)
    draft.put_task(replace(task, hold=hold))
    if task.live is not None:
        attempt = draft.attempts[task.live]
        stop(draft, attempt, StopKind.ACTOR, command.reason, command.grace_s)


def end_actor(draft: Draft, command: EndActor) -> None:
    """Takes note that an actor will not be started again.

    Args:
        draft: Where.
        command: Which.

    Raises:
        JobNotFoundError: There is no such job.
        InvalidRequestError: It is no supervised actor's.
    """
    _task(draft, command.job_id)
    reason, kind = command.reason, command.kind
    condemn(draft, command.job_id, JobStatus.FAILED, reason, grace_s=0.0, kind=kind)


def _task(draft: Draft, job_id: JobId) -> Task:
    job = draft.job(job_id)
    if not job.spec.supervised:
        raise InvalidRequestError(f"job {job_id} is no actor that has a supervisor")
    return draft.task(job_id, 0)


__all__ = ["end_actor", "start_actor", "stop_actor"]
