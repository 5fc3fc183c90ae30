"""Actors whose supervisor, and not the cluster, says when they are started again."""

from dataclasses import replace

from fray.cluster.controller.attempt import AttemptState, EndedAttempt, StopKind
from fray.cluster.controller.commands import EndActor, StartActor, StartTogether, StopActor
from fray.cluster.controller.draft import Draft
from fray.cluster.controller.events import AttemptChanged
from fray.cluster.controller.records import HISTORY_MAX, Group, Hold, Task
from fray.cluster.controller.rules.groups import leave_group
from fray.cluster.controller.rules.stopping import stop
from fray.cluster.controller.rules.verdicts import condemn
from fray.cluster.controller.slicegangs import check_whole
from fray.cluster.names import check_job_name
from fray.cluster.types import JobStatus
from fray.errors import DeathCause, DeathKind, InvalidRequestError
from fray.ids import AttemptId, JobId, WorkerId


def start_actor(draft: Draft, command: StartActor) -> None:
    """Lets an actor that is down have a place again.

    Args:
        draft: Where.
        command: Which.

    Raises:
        JobNotFoundError: There is no such job.
        InvalidRequestError: It is no supervised actor's, it has ended for good, what ran before is
            not gone yet, or it has one of several hosts of a slice.
    """
    task = _startable(draft, command)
    if task is not None:
        check_whole([draft.job(task.job_id).spec])
        draft.put_task(replace(task, hold=None))


def start_together(draft: Draft, command: StartTogether) -> None:
    """Lets actors that are down have places, once there are places for all of them.

    Args:
        draft: Where.
        command: Which.

    Raises:
        JobNotFoundError: One of their jobs does not exist.
        InvalidRequestError: As for `start_actor`, of any of them; or they have hosts of slices, and
            not all of each. None is started then.
    """
    if draft.groups.get(command.group_id) is not None:
        return  # that was heard before
    check_job_name(command.name, what="gang name")
    found = [_startable(draft, each) for each in command.starts]
    tasks = [task for task in found if task is not None]
    if not tasks:
        return
    check_whole([draft.jobs[task.job_id].spec for task in tasks])
    for task in tasks:
        draft.put_task(replace(task, hold=None))
        leave_group(draft, draft.jobs[task.job_id])
        draft.jobs[task.job_id] = replace(draft.jobs[task.job_id], group_id=command.group_id)
    draft.groups[command.group_id] = Group(
        group_id=command.group_id,
        name=command.name,
        job_ids=tuple(task.job_id for task in tasks),
        same_region=False,
        whole=True,
    )


def _startable(draft: Draft, command: StartActor) -> Task | None:
    """The actor's task, as long as the attempt has not begun; None if that was heard before."""
    task = _task(draft, command.job_id)
    job = draft.job(command.job_id)
    if job.verdict is not None or job.status.finished():
        why = job.error_message or job.status
        raise InvalidRequestError(f"actor {job.spec.name} has ended for good: {why}")
    if task.attempts > command.number:
        return None
    if task.live is not None or task.attempts < command.number:
        runs = task.live or f"attempt {task.attempts - 1} at the most"
        raise InvalidRequestError(
            f"attempt {command.number} of actor {job.spec.name} cannot begin: it runs as {runs}"
        )
    return task


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
    if task.live is None and task.hold is None:
        task = _taken_back(draft, task, command.reason)
    draft.put_task(replace(task, hold=hold))
    if task.live is not None:
        attempt = draft.attempts[task.live]
        stop(draft, attempt, StopKind.ACTOR, command.reason, command.grace_s)


def _taken_back(draft: Draft, task: Task, reason: str) -> Task:
    """The end of a life that was ordered and had no place yet: who waits for it is to be told."""
    ended = EndedAttempt(
        attempt_id=AttemptId(f"{task.key}#{task.attempts}"),
        worker_id=WorkerId(""),
        state=AttemptState.STOPPED,
        cause=DeathCause(DeathKind.STOPPED, reason),
        assigned_at=draft.now,
        ended_at=draft.now,
    )
    draft.emit(AttemptChanged(ended.attempt_id, ended.worker_id, ended.state, ended.cause))
    history = (*task.history, ended)[-HISTORY_MAX:]
    return replace(task, attempts=task.attempts + 1, history=history)


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


__all__ = ["end_actor", "start_actor", "start_together", "stop_actor"]
