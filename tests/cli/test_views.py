"""A job in the foreground, as people see it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fray.cli.views import WAITING_TOLD_S, TextView
from fray.cluster.types import JobStatus

from .samples import job

if TYPE_CHECKING:
    import pytest


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
    waiting = job("ann/big-1", JobStatus.PENDING, waits_for=("needs 16 chips; 8 are free",))
    view.submitted(waiting.job_id, "here:1")
    view.progress(waiting)
    assert capsys.readouterr().err == ""  # most jobs start at once
    clock.now += WAITING_TOLD_S
    view.progress(waiting)
    view.progress(waiting)
    assert capsys.readouterr().err == "fray: ann/big-1 waits: needs 16 chips; 8 are free\n"


def test_a_job_that_runs_at_once_says_nothing_where_stderr_is_no_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    clock: Any = Hands()
    view = TextView(clock)
    view.submitted(job().job_id, "here:1")
    clock.now += 60
    view.progress(job())
    assert capsys.readouterr().err == ""
