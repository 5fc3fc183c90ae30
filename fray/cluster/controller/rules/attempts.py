"""How attempts begin, are observed and come to an end; what follows is `endings`'s.

`OBSERVED` is the whole of an attempt's life as its agent may tell it: what the ledger makes of a
state that is reported while it believes in another. What is not in it is old news and ignored.
"""

from dataclasses import replace

from fray.cluster.controller.attempt import LIVE, Attempt, AttemptState
from fray.cluster.controller.commands import ObservedAttempt
from fray.cluster.controller.draft import Draft
from fray.cluster.controller.events import AttemptChanged, JobChanged
from fray.cluster.controller.records import FAULTS_MAX, HostFault, Job, Task, Worker
from fray.cluster.controller.rules import endings, reservations
from fray.cluster.controller.rules.users import charge_user
from fray.cluster.controller.specs import JobKind
from fray.cluster.scheduling.hosts import Holding
from fray.cluster.scheduling.inventory import Allocation, charge
from fray.cluster.types import JobStatus
from fray.errors import DeathCause, DeathKind
from fray.ids import AttemptId, WorkerId

_A = AttemptState

ENDED = tuple(state for state in AttemptState if state not in LIVE)
"""The states from which nothing leads on."""

CHECKPOINT_S = 5.0
"""Checkpoints that follow each other faster are one: each is a write to the journal."""

OBSERVED: dict[AttemptState, tuple[AttemptState, ...]] = {
    _A.ASSIGNED: (_A.BUILDING, _A.RUNNING, *ENDED),
    _A.BUILDING: (_A.RUNNING, *ENDED),
    _A.RUNNING: ENDED,
    _A.STOPPING: ENDED,
}
"""By the state that the ledger believes in: the reported states that it follows."""
_KINDS = {_A.STOPPED: DeathKind.STOPPED, _A.PREEMPTED: DeathKind.PREEMPTED}
"""What an attempt died of that was told to stop, by how it counts."""


def start(
    draft: Draft,
    task: Task,
    worker_id: WorkerId,
    allocation: Allocation,
    *,
    guaranteed: bool = False,
) -> None:
    """Begins a task's next attempt.

    Args:
        draft: Where.
        task: A task without a live attempt.
        worker_id: Its host.
        allocation: What it has of that.
        guaranteed: Whether that is what its reservation has there.
    """
    job, worker = draft.jobs[task.job_id], draft.workers[worker_id]
    gang = draft.gangs.get(job.spec.gang_of(task.index))
    attempt = Attempt(
        attempt_id=AttemptId(f"{task.key}#{task.attempts}"),
        job_id=task.job_id,
        task_index=task.index,
        number=task.attempts,
        worker_id=worker_id,
        boot_id=worker.boot_id,
        generation=worker.generation + 1,
        gang_epoch=gang.epoch if gang else 0,
        allocation=allocation,
        state=_A.ASSIGNED,
        assigned_at=draft.now,
        reservation=job.spec.reservation,
        guaranteed=guaranteed,
    )
    draft.attempts[attempt.attempt_id] = attempt
    draft.put_task(replace(task, attempts=task.attempts + 1, live=attempt.attempt_id))
    draft.workers[worker_id] = replace(
        _hold(worker, job, live=1),
        generation=attempt.generation,
        used=worker.used + allocation.resources,
        devices=charge(worker.devices, worker.spec.capacity, allocation, 1),
    )
    reservations.draw(draft, attempt, 1)
    charge_user(draft, job.spec.user, allocation.resources, 1)
    draft.emit(AttemptChanged(attempt.attempt_id, worker_id, attempt.state))


def observe(draft: Draft, attempt: Attempt, seen: ObservedAttempt) -> None:
    """Follows what an agent says of an attempt.

    Args:
        draft: Where.
        attempt: As the ledger believes it to be.
        seen: As its agent sees it.
    """
    follows = seen.state in OBSERVED[attempt.state]
    if follows and seen.state in ENDED:
        if seen.ran_s is not None:  # so fast, perhaps, that it was never told to run
            _running(draft, attempt, max(draft.now - seen.ran_s, attempt.assigned_at))
        cause = seen.cause or DeathCause(host=attempt.worker_id)
        end(draft, attempt, seen.state, cause, host_fault=seen.host_fault)
        return
    if seen.state in ENDED:
        return
    changed = replace(
        attempt,
        state=seen.state if follows else attempt.state,
        ports=dict(seen.ports) if seen.ports else attempt.ports,
        address=seen.address or attempt.address,
        blocked=seen.blocked,
    )
    if seen.checkpoints != attempt.checkpoints and draft.now >= attempt.saved_at + CHECKPOINT_S:
        saved_at = draft.now if seen.checkpoints else attempt.saved_at  # none yet: a new agent
        changed = replace(changed, checkpoints=seen.checkpoints, saved_at=saved_at)
    if changed == attempt:
        return
    draft.attempts[attempt.attempt_id] = changed
    if changed.blocked != attempt.blocked:
        job, worker = draft.jobs[attempt.job_id], draft.workers[attempt.worker_id]
        draft.workers[attempt.worker_id] = _hold(worker, job, blocked=1 if changed.blocked else -1)
    if changed.state is not attempt.state:
        draft.emit(AttemptChanged(changed.attempt_id, changed.worker_id, changed.state))
        if changed.state is _A.RUNNING:
            _running(draft, changed, draft.now)


def _running(draft: Draft, attempt: Attempt, since: float) -> None:
    task, job = draft.tasks[attempt.key], draft.jobs[attempt.job_id]
    draft.put_task(replace(task, status=JobStatus.RUNNING))
    if job.status is JobStatus.PENDING:
        draft.jobs[attempt.job_id] = replace(
            draft.jobs[attempt.job_id], status=JobStatus.RUNNING, started_at=since
        )
        draft.emit(JobChanged(attempt.job_id, JobStatus.RUNNING))


def end(
    draft: Draft,
    attempt: Attempt,
    state: AttemptState,
    cause: DeathCause,
    *,
    host_fault: bool = False,
) -> None:
    """Ends a live attempt: nothing of it is on its host any more.

    Args:
        draft: Where.
        attempt: Which.
        state: How it ended, as far as its host goes; what counts is `endings.final`'s.
        cause: Why.
        host_fault: Whether it failed by the host's fault.
    """
    ended = endings.final(attempt, state)
    if attempt.stop is not None and ended is not _A.SUCCEEDED:
        kind = _KINDS.get(ended, cause.kind)
        cause = replace(cause, kind=kind, message=attempt.stop.reason)
    job, worker = draft.jobs[attempt.job_id], draft.workers[attempt.worker_id]
    del draft.attempts[attempt.attempt_id]
    freed = _hold(worker, job, live=-1, blocked=-1 if attempt.blocked else 0)
    draft.workers[attempt.worker_id] = replace(
        freed,
        generation=worker.generation + 1,
        used=worker.used - attempt.allocation.resources,
        devices=charge(worker.devices, worker.spec.capacity, attempt.allocation, -1),
        faults=_faults(draft, worker, job, cause)
        if ended is _A.FAILED and host_fault
        else worker.faults,
    )
    reservations.draw(draft, attempt, -1)
    charge_user(draft, job.spec.user, attempt.allocation.resources, -1)
    told = None if ended is _A.SUCCEEDED else cause
    draft.emit(AttemptChanged(attempt.attempt_id, attempt.worker_id, ended, told))
    endings.attempt_ended(draft, attempt, ended, cause, host_fault=host_fault)
    if attempt.reservation:
        reservations.trim(draft, attempt.reservation)


def _faults(draft: Draft, worker: Worker, job: Job, cause: DeathCause) -> tuple[HostFault, ...]:
    """What a host has failed at, with one more."""
    job_id = job.spec.job_id
    fault = HostFault(job_id, draft.now, cause.message)
    return (*(each for each in worker.faults if each.job_id != job_id), fault)[-FAULTS_MAX:]


def _hold(worker: Worker, job: Job, *, live: int = 0, blocked: int = 0) -> Worker:
    """Keeps what a job has on a host with slots; elsewhere, and of actors, nothing is kept."""
    if worker.spec.slots is None or job.spec.kind is JobKind.ACTOR:
        return worker
    holdings = dict(worker.holdings)
    held = holdings.pop(job.spec.job_id, Holding(0))
    if held.live + live:
        holdings[job.spec.job_id] = Holding(held.live + live, held.blocked + blocked)
    return replace(worker, holdings=holdings)


__all__ = ["ENDED", "OBSERVED", "end", "observe", "start"]
