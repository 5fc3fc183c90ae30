"""The exit code of `fray run`: its job's. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from fray.cli.errors import FAILED
from fray.cluster.types import JobStatus

if TYPE_CHECKING:
    from fray.cluster.reports import JobReport
    from fray.errors import DeathCause

SIGNAL_BASE = 128
"""A process that a signal ended has this much more than the signal's number, as in a shell."""


def job_exit_code(
    report: JobReport, causes: Mapping[int, DeathCause], *, interrupted_by: int | None = None
) -> int:
    """How a command ends whose job has ended.

    Args:
        report: The job's.
        causes: Why its tasks failed, by index, as far as that is known.
        interrupted_by: The signal for which this command stopped the job.

    Returns:
        0 for a job that succeeded; 128 plus the signal for one that was interrupted; the exit code
        of the first failed task (128 plus the signal that ended it) where that is known; else 1.
    """
    if report.status is JobStatus.SUCCEEDED:
        return 0
    if interrupted_by is not None:
        return SIGNAL_BASE + interrupted_by
    for index in failed_tasks(report):
        code = _code_of(causes.get(index))
        if code is not None:
            return code
    return FAILED


def failed_tasks(report: JobReport) -> list[int]:
    """The tasks that failed themselves, by index: not those that were stopped on their account.

    Args:
        report: The job's.
    """
    return [i for i, task in enumerate(report.tasks) if task.status is JobStatus.FAILED]


def _code_of(cause: DeathCause | None) -> int | None:
    if cause is None:
        return None
    if cause.signal is not None:
        return SIGNAL_BASE + cause.signal
    if cause.exit_code is not None and 0 < cause.exit_code < 256:
        return cause.exit_code
    return None


__all__ = ["SIGNAL_BASE", "failed_tasks", "job_exit_code"]
