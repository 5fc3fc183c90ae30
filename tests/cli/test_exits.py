from __future__ import annotations

import signal

import pytest

from fray.cli.errors import Failure, UsageFailure, exit_code_of, one_line
from fray.cli.exits import failed_tasks, job_exit_code
from fray.cluster.reports import TaskReport
from fray.cluster.types import JobStatus
from fray.errors import DeathCause, DeathKind, InvalidRequestError, JobNotFoundError

from .samples import job

FAILED = TaskReport(JobStatus.FAILED)
STOPPED = TaskReport(JobStatus.STOPPED)


def test_job_that_succeeded_ends_with_zero() -> None:
    assert job_exit_code(job(status=JobStatus.SUCCEEDED), {}) == 0


def test_job_ends_with_the_exit_code_of_its_first_failed_task() -> None:
    report = job(status=JobStatus.FAILED, tasks=(STOPPED, FAILED, FAILED))
    causes = {1: DeathCause(exit_code=7), 2: DeathCause(exit_code=9)}
    assert failed_tasks(report) == [1, 2]
    assert job_exit_code(report, causes) == 7


@pytest.mark.parametrize(
    ("cause", "code"),
    [
        (DeathCause(DeathKind.SIGNAL, signal=9), 137),
        (DeathCause(exit_code=255), 255),
        (DeathCause(exit_code=0), 1),
        (DeathCause(exit_code=256), 1),
        (DeathCause(DeathKind.HOST_LOST), 1),
    ],
)
def test_causes_become_exit_codes_as_in_a_shell(cause: DeathCause, code: int) -> None:
    assert job_exit_code(job(status=JobStatus.FAILED, tasks=(FAILED,)), {0: cause}) == code


def test_failure_whose_cause_nobody_knows_ends_with_one() -> None:
    assert job_exit_code(job(status=JobStatus.FAILED, tasks=(FAILED,)), {}) == 1
    assert job_exit_code(job(status=JobStatus.STOPPED, tasks=(STOPPED,)), {}) == 1


def test_interrupted_job_ends_as_an_interrupted_program() -> None:
    stopped = job(status=JobStatus.STOPPED, tasks=(STOPPED,))
    assert job_exit_code(stopped, {}, interrupted_by=signal.SIGINT) == 130
    assert job_exit_code(stopped, {}, interrupted_by=signal.SIGTERM) == 143


def test_job_that_succeeded_in_spite_of_an_interrupt_has_succeeded() -> None:
    report = job(status=JobStatus.SUCCEEDED)
    assert job_exit_code(report, {}, interrupted_by=signal.SIGINT) == 0


def test_errors_are_told_in_one_line() -> None:
    assert one_line(InvalidRequestError("first\n  second")) == "first second"
    assert one_line(InvalidRequestError("what\n\nRemote traceback:\n…")) == "what"
    assert one_line(JobNotFoundError("no such job")) == "no such job"
    assert one_line(Failure("")) == "Failure"
    assert one_line(PermissionError(13, "denied", "/x")) == (
        "PermissionError: [Errno 13] denied: '/x'"
    )


def test_error_that_fray_did_not_mean_is_called_a_bug() -> None:
    assert one_line(KeyError("x")) == (
        "unexpected KeyError: 'x' (a bug in fray; FRAY_DEBUG=1 shows where)"
    )


def test_wrong_usage_ends_with_two_and_failures_with_one() -> None:
    assert [exit_code_of(e) for e in (UsageFailure("x"), Failure("x"), OSError())] == [2, 1, 1]
