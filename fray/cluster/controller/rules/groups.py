"""Groups: jobs that are admitted together, and how they come apart."""

from dataclasses import replace

from fray.cluster.controller.draft import Draft
from fray.cluster.controller.records import Job


def leave_group(draft: Draft, job: Job) -> None:
    """Takes a job out of its group, if it has one, and drops a group that nobody is left in.

    Args:
        draft: Where.
        job: Which; its own record is the caller's to change.
    """
    group = draft.groups.get(job.group_id)
    if group is None:
        return
    left = tuple(job_id for job_id in group.job_ids if job_id != job.spec.job_id)
    if any(draft.jobs.get(job_id) is not None for job_id in left):
        draft.groups[group.group_id] = replace(group, job_ids=left)
    else:
        del draft.groups[group.group_id]


__all__ = ["leave_group"]
