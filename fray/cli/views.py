"""How a job in the foreground is shown: to a person, or to a script."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from fray.cli.output import console_of, json_line, note, print_line
from fray.cli.reports import job_json, reason_of, run_time, shortened
from fray.cluster.controller.attempt import AttemptState
from fray.cluster.types import JobStatus
from fray.runtime.clock import duration
from fray.wording import counted

if TYPE_CHECKING:
    from rich.status import Status

    from fray.cluster.base import LogLine
    from fray.cluster.reports import JobReport
    from fray.ids import JobId
    from fray.runtime.clock import Clock

REASON_LENGTH_MAX = 200

WAITING_TOLD_S = 2.0
"""How long a job waits before whoever reads a file of ours is told why."""


class TextView:
    """Output of the job on stdout, and what becomes of it on stderr where that is a terminal.

    Args:
        clock: For how long it waits.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._is_terminal = sys.stderr.isatty()
        self._status: Status | None = None
        self._submitted_at = clock.monotonic()
        self._runs = False
        self._several = False
        self._attempts: dict[int, int] = {}
        self._told_waiting = False

    def submitted(self, job_id: JobId, address: str) -> None:
        """See `View.submitted`."""
        self._submitted_at = self._clock.monotonic()
        if self._is_terminal:
            note(f"submitted {job_id}")

    def progress(self, report: JobReport) -> None:
        """See `View.progress`."""
        self._several = len(report.tasks) > 1
        if not self._is_terminal:
            self._tell_waiting(report)
            return
        if report.status is JobStatus.PENDING:
            self._show_waiting(report)
        elif not self._runs:
            self._runs = True
            self._stop_waiting()
            note(f"{report.job_id} runs{_where(report)}")
        self._show_restarts(report)

    def _tell_waiting(self, report: JobReport) -> None:
        """Says once why a job waits: a file is no place for a status that changes."""
        waited_s = self._clock.monotonic() - self._submitted_at
        if report.status is not JobStatus.PENDING or self._told_waiting:
            return
        if waited_s >= WAITING_TOLD_S:
            self._told_waiting = True
            note(f"{report.job_id} is {_stage(report)}: {_waits_for(report)}")

    def _show_waiting(self, report: JobReport) -> None:
        waited = duration(self._clock.monotonic() - self._submitted_at)
        text = f"{_stage(report)} for {waited}: {_waits_for(report)}"
        if self._status is None:
            from rich.text import Text

            self._status = console_of(sys.stderr).status(Text(text, "dim"))
            self._status.start()
        else:
            self._status.update(text)

    def _stop_waiting(self) -> None:
        if self._status is not None:
            self._status.stop()
            self._status = None

    def _show_restarts(self, report: JobReport) -> None:
        for index, task in enumerate(report.tasks):
            number = task.attempts[-1].number if task.attempts else 0
            if number > self._attempts.get(index, 0):
                self._attempts[index] = number
                note(
                    f"task {index} starts again (attempt {number + 1}): {task.error or 'preempted'}"
                )

    def line(self, line: LogLine) -> str:
        """See `View.line`."""
        return prefixed(line, self._several)

    def told(self, text: str) -> None:
        """See `View.told`."""
        self._stop_waiting()
        note(text)

    def finished(self, report: JobReport, exit_code: int) -> None:
        """See `View.finished`. A failure is told wherever stderr goes."""
        self._stop_waiting()
        if report.status is JobStatus.SUCCEEDED:
            if self._is_terminal:
                ran = run_time(report, self._clock.time())
                note(f"{report.job_id} succeeded{f' after {ran}' if ran else ''}")
            return
        reason = " ".join(report.error.split())
        note(f"{report.job_id} {report.status.value}{f': {reason}' if reason else ''}")

    def close(self) -> None:
        """Leaves the terminal as it was."""
        self._stop_waiting()


class JsonView:
    """One JSON object per line on stdout: ``submitted``, ``log``, ``finished``."""

    def submitted(self, job_id: JobId, address: str) -> None:
        """See `View.submitted`."""
        print_line(json_line({"event": "submitted", "job_id": job_id, "cluster": address}))

    def progress(self, report: JobReport) -> None:
        """See `View.progress`."""

    def line(self, line: LogLine) -> str:
        """See `View.line`."""
        return log_event(line)

    def told(self, text: str) -> None:
        """See `View.told`."""
        note(text)

    def finished(self, report: JobReport, exit_code: int) -> None:
        """See `View.finished`."""
        event = {"event": "finished", "exit_code": exit_code, "job": job_json(report)}
        print_line(json_line(event))

    def close(self) -> None:
        """There is nothing to leave behind."""


def prefixed(line: LogLine, several: bool) -> str:
    """A line of a job's, for people.

    Args:
        line: The line.
        several: Whether the job has several tasks.
    """
    return f"[replica-{line.task_index}] {line.text}" if several else line.text


def log_event(line: LogLine) -> str:
    """A line of a job's, for scripts.

    Args:
        line: The line.
    """
    return json_line(
        {"event": "log", "task": line.task_index, "attempt": line.attempt, "line": line.text}
    )


def _stage(report: JobReport) -> str:
    """What a pending job is at."""
    live = [task.attempts[-1] for task in report.tasks if task.attempts and task.attempts[-1].live]
    if live:
        return "building" if any(a.state == AttemptState.BUILDING for a in live) else "starting"
    return f"queued at {report.position}" if report.position else "queued"


def _waits_for(report: JobReport) -> str:
    live = [t.attempts[-1].worker_id for t in report.tasks if t.attempts and t.attempts[-1].live]
    if live:
        tasks = counted(len(report.tasks), "task has", "tasks have")
        return f"{len(live)} of {tasks} a place, the first on {live[0]}"
    return shortened(reason_of(report) or "not scheduled yet", REASON_LENGTH_MAX)


def _where(report: JobReport) -> str:
    hosts = dict.fromkeys(t.attempts[-1].worker_id for t in report.tasks if t.attempts)
    return f" on {next(iter(hosts))}" if len(hosts) == 1 else f" on {len(hosts)} hosts"


__all__ = ["JsonView", "TextView", "log_event", "prefixed"]
