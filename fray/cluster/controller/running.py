"""What runs, as the scheduler sees it."""

from collections.abc import Sequence

from fray.cluster.controller.attempt import Attempt
from fray.cluster.controller.draft import Draft
from fray.cluster.controller.units import priority_of
from fray.cluster.scheduling.view import (
    Part,
    Running,
)


def running_of(draft: Draft, attempts: Sequence[Attempt]) -> Running:
    """An attempt, or those of a gang, as one thing that runs.

    Args:
        draft: Where.
        attempts: One, or live members of one gang.
    """
    first = attempts[0]
    job = draft.jobs[first.job_id]
    spec = job.spec
    gang = spec.gang_of(first.task_index)
    ends_at = None
    if spec.time_limit_s is not None:
        ends_at = max(each.assigned_at for each in attempts) + spec.time_limit_s
    return Running(
        unit_id=f"gang:{gang}" if gang else f"task:{first.key}",
        job_id=first.job_id,
        user=spec.user,
        priority=priority_of(job),
        evictable=spec.evictable,
        reservation=first.reservation,
        parts=tuple(
            Part(each.attempt_id, each.worker_id, each.allocation, each.guaranteed)
            for each in attempts
        ),
        saved_at=max(max(each.assigned_at, each.saved_at) for each in attempts),
        ends_at=ends_at,
        stopping=any(each.stop is not None for each in attempts),
    )


__all__ = ["running_of"]
