"""Gangs fall as one.

When one member is down the others are stopped, and only when the last of them is gone the fall is
judged, once for all: was any host preempted or lost meanwhile, then the fall is nobody's fault,
for members die of each other's absence before the cause is known. Then either the whole gang
waits for a place again, under a new epoch, or its job has failed.
"""

from dataclasses import replace

from fray.cluster.controller.attempt import Attempt, AttemptState, StopKind
from fray.cluster.controller.commands import STOP_GRACE_S
from fray.cluster.controller.draft import Draft
from fray.cluster.controller.events import GangRestarting
from fray.cluster.controller.records import Fall, Gang, Task
from fray.cluster.controller.rules.budgets import overspent, retry_at, unbuildable
from fray.cluster.controller.rules.stopping import stop
from fray.cluster.controller.rules.verdicts import condemn
from fray.cluster.types import JobStatus
from fray.errors import DeathCause


def member_down(
    draft: Draft,
    gang: Gang,
    task: Task,
    state: AttemptState,
    cause: DeathCause,
    *,
    innocent: bool,
) -> Gang:
    """Brings the rest of a gang down, or adds what a member died of to what is known.

    Args:
        draft: Where.
        gang: Whose member.
        task: The member, which did not succeed.
        state: How it ended.
        cause: Why.
        innocent: Whether it was not the member's own fault.

    Returns:
        The gang as it is then.
    """
    fall = gang.fall
    host_fault = innocent and state is AttemptState.FAILED
    if fall is None:
        fall = Fall(innocent, None if innocent else task.index, cause, host_fault)
        gang = replace(gang, fall=fall)
        draft.gangs[gang.gang_id] = gang
        for index in range(gang.first, gang.first + gang.size):
            live = draft.task(gang.job_id, index).live
            if live is not None:
                reason = f"task {task.index} of its gang is down: {cause}"
                kind, grace_s = StopKind.GANG, STOP_GRACE_S
                stop(draft, draft.attempts[live], kind, reason, grace_s)
    elif innocent and not fall.preempted:
        fall = replace(fall, preempted=True, cause=cause, host_fault=host_fault)
        gang = replace(gang, fall=fall)
        draft.gangs[gang.gang_id] = gang
    return gang


def judge(draft: Draft, gang: Gang) -> None:
    """Starts a fallen gang again, or fails its job, once the last member is gone.

    Args:
        draft: Where.
        gang: A gang that is going down.
    """
    job, fall = draft.jobs[gang.job_id], gang.fall
    members = [draft.task(gang.job_id, gang.first + i) for i in range(gang.size)]
    if fall is None or job.verdict is not None or any(m.live is not None for m in members):
        return
    gang = replace(gang, fall=None, workers=())
    if all(member.status is JobStatus.SUCCEEDED for member in members):
        draft.gangs[gang.gang_id] = gang
        return
    if fall.preempted:
        gang = replace(gang, preemptions=gang.preemptions + 1)
    else:
        gang = replace(gang, failures=gang.failures + 1)
    culprit = members[0].index if fall.first is None else fall.first
    who = f"task {culprit}" if fall.first is not None and not fall.preempted else "its gang"
    message = overspent(job, who, gang.failures, gang.preemptions, fall.preempted)
    for member in members:
        message = message or unbuildable(who, member, fall.cause, fall.host_fault)
    if message:
        draft.gangs[gang.gang_id] = gang
        task = draft.task(gang.job_id, culprit)
        draft.put_task(replace(task, status=JobStatus.FAILED, error=str(fall.cause)))
        condemn(draft, gang.job_id, JobStatus.FAILED, f"{message}: {fall.cause}")
        return
    gang = replace(gang, epoch=gang.epoch + 1)
    draft.gangs[gang.gang_id] = gang
    spent = gang.preemptions if fall.preempted else gang.failures
    ready_at = retry_at(draft.now, spent if fall.host_fault or not fall.preempted else 0)
    for member in members:
        draft.put_task(replace(member, status=JobStatus.PENDING, ready_at=ready_at))
    draft.emit(GangRestarting(gang.gang_id, gang.epoch, fall.cause))


def evict(
    draft: Draft, attempt: Attempt, cause: DeathCause, grace_s: float, unit_id: str = ""
) -> None:
    """Takes an attempt's place away; its whole gang goes with it.

    Args:
        draft: Where.
        attempt: Which.
        cause: Why, for people.
        grace_s: From the notice to the kill, in seconds.
        unit_id: For whom, if for somebody.
    """
    job = draft.jobs[attempt.job_id]
    gang = draft.gangs.get(job.spec.gang_of(attempt.task_index))
    if gang is not None and gang.fall is None:
        draft.gangs[gang.gang_id] = replace(gang, fall=Fall(True, None, cause))
    for index in job.spec.members(attempt.task_index):
        live = draft.task(attempt.job_id, index).live
        if live is not None:
            attempt, kind = draft.attempts[live], StopKind.PREEMPT
            stop(draft, attempt, kind, cause.message, grace_s, unit_id)


__all__ = ["evict", "judge", "member_down"]
