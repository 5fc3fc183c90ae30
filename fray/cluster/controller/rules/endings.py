"""What follows for a task, its gang and its job when an attempt ends."""

from dataclasses import replace

from fray.cluster.controller.attempt import Attempt, AttemptState, EndedAttempt, StopKind
from fray.cluster.controller.draft import Draft
from fray.cluster.controller.records import HISTORY_MAX, Hold, Job, Task
from fray.cluster.controller.rules import gangs
from fray.cluster.controller.rules.budgets import overspent, retry_at, unbuildable
from fray.cluster.controller.rules.verdicts import condemn, settle
from fray.cluster.types import JobStatus
from fray.errors import DeathCause

AVOID_MAX = 4
"""Hosts that a task is kept away from; the oldest is forgiven."""

ORPHAN_GRACE_S = 10.0
"""From the notice to the kill of actors whose supervisor is gone: its successor waits for that."""

_A = AttemptState

FINAL: dict[StopKind | None, dict[AttemptState, AttemptState]] = {
    None: {
        _A.SUCCEEDED: _A.SUCCEEDED,
        _A.FAILED: _A.FAILED,
        _A.PREEMPTED: _A.PREEMPTED,
        _A.WORKER_LOST: _A.WORKER_LOST,
        # Its host ended it and nobody had asked for it: its place was taken away.
        _A.STOPPED: _A.PREEMPTED,
    },
    StopKind.JOB: {
        _A.SUCCEEDED: _A.SUCCEEDED,
        _A.FAILED: _A.STOPPED,
        _A.PREEMPTED: _A.STOPPED,
        _A.WORKER_LOST: _A.STOPPED,
        _A.STOPPED: _A.STOPPED,
    },
    StopKind.GANG: {
        _A.SUCCEEDED: _A.SUCCEEDED,
        _A.FAILED: _A.STOPPED,
        _A.PREEMPTED: _A.PREEMPTED,
        _A.WORKER_LOST: _A.WORKER_LOST,
        _A.STOPPED: _A.STOPPED,
    },
    StopKind.ACTOR: {
        _A.SUCCEEDED: _A.SUCCEEDED,
        _A.FAILED: _A.STOPPED,
        _A.PREEMPTED: _A.PREEMPTED,
        _A.WORKER_LOST: _A.WORKER_LOST,
        _A.STOPPED: _A.STOPPED,
    },
    StopKind.PREEMPT: {
        _A.SUCCEEDED: _A.SUCCEEDED,
        _A.FAILED: _A.PREEMPTED,
        _A.PREEMPTED: _A.PREEMPTED,
        _A.WORKER_LOST: _A.WORKER_LOST,
        _A.STOPPED: _A.PREEMPTED,
    },
}
"""How an attempt counts, by the account on which it was being stopped and how it went."""


def final(attempt: Attempt, state: AttemptState) -> AttemptState:
    """How an attempt counts that its host says has ended.

    Args:
        attempt: Which.
        state: How it ended, as far as its host goes.
    """
    return FINAL[attempt.stop.kind if attempt.stop else None][state]


def attempt_ended(
    draft: Draft,
    attempt: Attempt,
    state: AttemptState,
    cause: DeathCause,
    *,
    host_fault: bool,
) -> None:
    """Decides what comes after an attempt, which is gone from the tables already.

    Args:
        draft: Where.
        attempt: Which.
        state: How it counts.
        cause: Why it ended.
        host_fault: Whether it failed by the host's fault.
    """
    job, task = draft.jobs[attempt.job_id], _remember(draft, attempt, state, cause, host_fault)
    innocent = state in (_A.PREEMPTED, _A.WORKER_LOST) or (state is _A.FAILED and host_fault)
    gang = draft.gangs.get(job.spec.gang_of(task.index))
    if job.spec.supervised and job.verdict is None:
        hold = task.hold or Hold.SUPERVISOR
        draft.put_task(replace(task, status=JobStatus.PENDING, hold=hold))
    elif state is _A.SUCCEEDED:
        draft.put_task(replace(task, status=JobStatus.SUCCEEDED, error=""))
    elif job.verdict is not None:
        draft.put_task(replace(task, status=JobStatus.STOPPED))
    elif gang is None:
        _charge_task(draft, job, task, state, cause, innocent=innocent)
    else:
        draft.put_task(replace(task, status=JobStatus.PENDING))
        gang = gangs.member_down(draft, gang, task, state, cause, innocent=innocent)
    if gang is not None and gang.fall is not None:
        gangs.judge(draft, gang)
    _end_supervised(draft, attempt, cause)
    settle(draft, attempt.job_id)


def _end_supervised(draft: Draft, attempt: Attempt, cause: DeathCause) -> None:
    """Actors whose supervisor was in an attempt have nobody who would start them again."""
    for job_id in draft.children_of(attempt.job_id):
        actor = draft.jobs[job_id].spec.actor
        if actor is not None and actor.owner_attempt == attempt.attempt_id:
            message = f"the process of its supervisor has ended: {cause}"
            condemn(draft, job_id, JobStatus.STOPPED, message, grace_s=ORPHAN_GRACE_S)


def _remember(
    draft: Draft, attempt: Attempt, state: AttemptState, cause: DeathCause, host_fault: bool
) -> Task:
    task = draft.tasks[attempt.key]
    ended = EndedAttempt(
        attempt_id=attempt.attempt_id,
        worker_id=attempt.worker_id,
        state=state,
        cause=cause,
        assigned_at=attempt.assigned_at,
        ended_at=draft.now,
    )
    avoid = task.avoid
    if host_fault and state is _A.FAILED:
        avoid = (*(w for w in avoid if w != attempt.worker_id), attempt.worker_id)[-AVOID_MAX:]
    return replace(
        task,
        live=None,
        history=(*task.history, ended)[-HISTORY_MAX:],
        avoid=avoid,
        error=task.error if state in (_A.SUCCEEDED, _A.STOPPED) else str(cause),
    )


def _charge_task(
    draft: Draft,
    job: Job,
    task: Task,
    state: AttemptState,
    cause: DeathCause,
    *,
    innocent: bool,
) -> None:
    """Starts a task again, or fails its job where the budget is spent."""
    if innocent:
        task = replace(task, preemptions=task.preemptions + 1)
    else:
        task = replace(task, failures=task.failures + 1)
    who = f"task {task.index}"
    message = overspent(job, who, task.failures, task.preemptions, innocent)
    message = message or unbuildable(who, task, cause, innocent)
    if message:
        draft.put_task(replace(task, status=JobStatus.FAILED))
        condemn(draft, task.job_id, JobStatus.FAILED, f"{message}: {cause}")
    else:
        spent = task.preemptions if innocent else task.failures
        ready_at = retry_at(draft.now, spent if state is _A.FAILED else 0)
        draft.put_task(replace(task, status=JobStatus.PENDING, ready_at=ready_at))


__all__ = ["AVOID_MAX", "FINAL", "attempt_ended", "final"]
