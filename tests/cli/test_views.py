"""A job in the foreground, as people see it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from fray.cli.views import WAITING_TOLD_S, TextView
from fray.cluster.controller.attempt import AttemptState
from fray.cluster.reports import TaskReport
from fray.cluster.types import JobStatus
from fray.ids import JobId

from .samples import attempt, job


class Hands:
    """A clock that the test sets."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


def test_a_job_that_waits_is_told_once_with_its_reason_where_stderr_is_no_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    clock: Any = Hands()
    view = TextView(clock)
    waiting = job(
        "ann/big-1",
        JobStatus.PENDING,
        tasks=(TaskReport(JobStatus.PENDING),),
        waits_for=("needs 16 chips; 8 are free",),
        position=3,
    )
    view.submitted(waiting.job_id, "here:1")
    view.progress(waiting)
    assert capsys.readouterr().err == ""  # most jobs start at once
    clock.now += WAITING_TOLD_S
    view.progress(waiting)
    view.progress(waiting)
    assert capsys.readouterr().err == (
        "fray: ann/big-1 is queued at 3: needs 16 chips; 8 are free\n"
    )


def test_a_job_that_runs_at_once_says_nothing_where_stderr_is_no_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    clock: Any = Hands()
    view = TextView(clock)
    view.submitted(job().job_id, "here:1")
    clock.now += 60
    view.progress(job())
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("state", "told"),
    [
        (AttemptState.ASSIGNED, "is starting: 1 of 2 tasks have a place, the first on box"),
        (AttemptState.BUILDING, "is building: 1 of 2 tasks have a place, the first on box"),
    ],
)
def test_a_job_that_has_places_is_told_to_be_built_or_started(
    capsys: pytest.CaptureFixture[str], state: AttemptState, told: str
) -> None:
    clock: Any = Hands()
    view = TextView(clock)
    placed = TaskReport(JobStatus.PENDING, attempts=(replace(attempt(), state=state),))
    view.submitted(JobId("ann/big-1"), "here:1")
    clock.now += WAITING_TOLD_S
    tasks = (placed, TaskReport(JobStatus.PENDING))
    view.progress(job("ann/big-1", JobStatus.PENDING, tasks=tasks))
    assert capsys.readouterr().err == f"fray: ann/big-1 {told}\n"
