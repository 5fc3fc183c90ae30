"""Orders to end an attempt: first a notice, then a kill; both are the agent's to carry out."""

from dataclasses import replace

from fray.cluster.controller.attempt import Attempt, AttemptState, Stop, StopKind
from fray.cluster.controller.draft import Draft
from fray.cluster.controller.events import AttemptChanged

_OVERRIDES: dict[StopKind, tuple[StopKind, ...]] = {
    StopKind.JOB: (StopKind.GANG, StopKind.PREEMPT, StopKind.ACTOR),
    StopKind.PREEMPT: (StopKind.GANG,),
    StopKind.GANG: (),
    StopKind.ACTOR: (),
}
"""By the account on which an attempt is to stop: the accounts that it replaces."""


def stop(
    draft: Draft,
    attempt: Attempt,
    kind: StopKind,
    reason: str,
    grace_s: float,
    unit_id: str = "",
) -> None:
    """Orders the end of a live attempt; its agent carries it out.

    An attempt that is being stopped already only changes the account on which it is, where the
    new one weighs more, and its grace, where the new one is shorter.

    Args:
        draft: Where.
        attempt: Which.
        kind: On whose account.
        reason: For its log.
        grace_s: From the notice to the kill, in seconds; at least 0.
        unit_id: For whom it is preempted.
    """
    order = Stop(kind, reason, grace_s, unit_id)
    old = attempt.stop
    if old is not None:
        heavier = order if old.kind in _OVERRIDES[kind] else old
        order = replace(heavier, grace_s=min(old.grace_s, grace_s))
        if order == old:
            return
    changed = replace(attempt, state=AttemptState.STOPPING, stop=order)
    draft.attempts[attempt.attempt_id] = changed
    worker = draft.workers[attempt.worker_id]
    draft.workers[attempt.worker_id] = replace(worker, generation=worker.generation + 1)
    if old is None:
        draft.emit(AttemptChanged(changed.attempt_id, changed.worker_id, changed.state))


__all__ = ["stop"]
