"""From what a cluster tells to tables for people and JSON for scripts. Pure.

The keys of the JSON stay as they are: scripts read them. Times are seconds since 1970; what is not
there is null.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from fray.cli.amounts import needs_json, needs_text, resources_json
from fray.cluster.types import JobStatus
from fray.runtime.clock import duration

if TYPE_CHECKING:
    from fray.cluster.reports import HostReport, JobReport, TaskReport

GOOD, WARN, BAD, DIM = "green", "yellow", "red", "dim"

_STATUS_STYLES = {
    JobStatus.PENDING: WARN,
    JobStatus.RUNNING: GOOD,
    JobStatus.SUCCEEDED: DIM,
    JobStatus.FAILED: BAD,
    JobStatus.STOPPED: DIM,
}

_HEALTH_STYLES = {"healthy": GOOD, "lost": BAD, "quarantined": BAD}

REASON_LENGTH_MAX = 80
"""Of a reason in a list; `show` and `why` have the whole of it."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One place of a table.

    Attributes:
        text: What stands there.
        style: How, as rich calls it; empty for plain.
    """

    text: str
    style: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under a heading, for people.

    Attributes:
        columns: The heading.
        rows: Each as long as the heading.
    """

    columns: tuple[str, ...]
    rows: list[tuple[Cell, ...]] = field(default_factory=list[tuple[Cell, ...]])

    def add(self, *cells: str | Cell) -> None:
        """Adds a row.

        Args:
            *cells: As many as there are columns.
        """
        self.rows.append(tuple(c if isinstance(c, Cell) else Cell(c) for c in cells))


# ---- amounts of time


def run_time(report: JobReport, now: float) -> str:
    """How long a job has run, or ran; empty before.

    Args:
        report: The job's.
        now: Seconds since 1970.
    """
    if report.started_at is None:
        return ""
    return duration((report.ended_at or now) - report.started_at)


# ---- jobs


def job_json(report: JobReport, task: int | None = None) -> dict[str, Any]:
    """A job for scripts.

    Args:
        report: The job's.
        task: Only this one of its tasks; None: all.
    """
    return {
        "job_id": report.job_id,
        "name": report.name,
        "user": report.user,
        "namespace": report.namespace,
        "status": report.status.value,
        "error": report.error or None,
        "waits_for": list(report.waits_for),
        "submitted_at": report.submitted_at,
        "started_at": report.started_at,
        "ended_at": report.ended_at,
        "group": report.group or None,
        "parent": report.parent or None,
        "actor_id": report.actor_id or None,
        "resources": needs_json(report.resources) if report.resources else None,
        "tasks": [_task_json(index, each) for index, each in _tasks(report, task)],
    }


def _tasks(report: JobReport, only: int | None) -> list[tuple[int, TaskReport]]:
    return [(i, task) for i, task in enumerate(report.tasks) if only is None or i == only]


def _task_json(index: int, task: TaskReport) -> dict[str, Any]:
    return {
        "index": index,
        "status": task.status.value,
        "error": task.error or None,
        "failures": task.failures,
        "preemptions": task.preemptions,
        "attempts": [
            {
                "attempt_id": attempt.attempt_id,
                "number": attempt.number,
                "worker": attempt.worker_id or None,
                "state": attempt.state,
                "live": attempt.live,
            }
            for attempt in task.attempts
        ],
    }


def reason_of(report: JobReport) -> str:
    """Why a job is as it is, in one line; empty where nothing is to be said.

    Args:
        report: The job's.
    """
    if report.waits_for:
        return "; ".join(report.waits_for)
    return " ".join(report.error.split())


def job_table(reports: Iterable[JobReport], now: float) -> Table:
    """Jobs for people.

    Args:
        reports: In the order of the rows.
        now: Seconds since 1970.
    """
    table = Table(("JOB", "STATUS", "RUNNING", "AGE", "RAN", "REASON"))
    for report in reports:
        table.add(
            report.job_id,
            status_cell(report.status),
            _running(report),
            duration(now - report.submitted_at),
            run_time(report, now),
            shortened(reason_of(report)),
        )
    return table


def _running(report: JobReport) -> str:
    """How many tasks run, of how many: ``3/4``."""
    running = sum(1 for task in report.tasks if task.status is JobStatus.RUNNING)
    return f"{running}/{len(report.tasks)}"


def status_cell(status: JobStatus) -> Cell:
    """A status in its colour.

    Args:
        status: The status.
    """
    return Cell(status.value, _STATUS_STYLES[status])


def shortened(text: str, length_max: int = REASON_LENGTH_MAX) -> str:
    """The beginning of a text that is too long for a row.

    Args:
        text: One line.
        length_max: Characters, at least 1.
    """
    return text if len(text) <= length_max else text[: length_max - 1].rstrip() + "…"


def job_facts(report: JobReport, now: float) -> list[tuple[str, Cell]]:
    """What `fray job show` says before the tasks: what there is, by its name.

    Args:
        report: The job's.
        now: Seconds since 1970.
    """
    submitted = f"{duration(now - report.submitted_at)} ago"
    facts = [
        ("job", Cell(report.job_id, "bold")),
        ("status", status_cell(report.status)),
        ("user", Cell(report.user)),
        ("namespace", Cell(report.namespace)),
        ("resources", Cell(needs_text(report.resources) if report.resources else "")),
        ("ports", Cell(", ".join(report.ports))),
        ("group", Cell(report.group)),
        ("launched by", Cell(report.parent)),
        ("actor", Cell(report.actor_id)),
        ("submitted", Cell(submitted)),
        ("ran for", Cell(run_time(report, now))),
        *(("waits for", Cell(reason, WARN)) for reason in report.waits_for),
        ("error", Cell(report.error.strip(), BAD)),
    ]
    return [(name, cell) for name, cell in facts if cell.text]


def task_table(report: JobReport, only: int | None = None) -> Table:
    """The tasks of a job for people, with the last attempt at each.

    Args:
        report: The job's.
        only: Only this one of its tasks; None: all.
    """
    table = Table(("TASK", "STATUS", "HOST", "ATTEMPT", "FAILURES", "PREEMPTIONS", "ERROR"))
    for index, task in _tasks(report, only):
        last = task.attempts[-1] if task.attempts else None
        table.add(
            str(index),
            status_cell(task.status),
            str(last.worker_id) if last else "",
            f"{last.number} {last.state}" if last else "",
            str(task.failures),
            str(task.preemptions),
            shortened(" ".join(task.error.split())),
        )
    return table


def why(report: JobReport, only: int | None = None) -> list[str]:
    """Why a job does not run, line by line; or that it does, or did.

    Args:
        report: The job's.
        only: Only what is to be said of this task of it; None: of all.
    """
    if report.status is JobStatus.PENDING:
        unknown = "it has just been submitted, and the scheduler has not looked at it yet"
        return [f"{report.job_id} waits:", *(f"  {r}" for r in report.waits_for or (unknown,))]
    lines = [f"{report.job_id} is {report.status.value}" if not report.status.finished() else ""]
    if report.status.finished():
        lines = [f"{report.job_id} has {_ENDED[report.status]}"]
    lines += [f"  {line}" for line in report.error.splitlines() if line.strip()]
    for index, task in _tasks(report, only):
        if task.error and task.error not in report.error:
            lines.append(f"  task {index} ({task.status.value}): {' '.join(task.error.split())}")
    lines += [f"  waits for a place: {reason}" for reason in report.waits_for]
    return lines


_ENDED = {
    JobStatus.SUCCEEDED: "succeeded",
    JobStatus.FAILED: "failed",
    JobStatus.STOPPED: "been stopped",
}


# ---- hosts


def host_json(host: HostReport) -> dict[str, Any]:
    """A host for scripts.

    Args:
        host: The host's report.
    """
    return {
        "worker": host.worker_id,
        "address": host.address,
        "health": host.health,
        "capacity": resources_json(host.capacity),
        "used": resources_json(host.used),
        "attempts": host.attempts,
        "region": host.region or None,
        "zone": host.zone or None,
        "reason": host.reason or None,
        "until": host.until,
        "held": [{"kind": e.kind, "index": e.index, "by": e.by} for e in host.held],
    }


def host_table(hosts: Iterable[HostReport]) -> Table:
    """Hosts for people.

    Args:
        hosts: In the order of the rows.
    """
    table = Table(("HOST", "HEALTH", "RUNS", "USED", "CAPACITY", "WHERE", "ADDRESS"))
    for host in hosts:
        table.add(
            str(host.worker_id),
            Cell(host.health, _HEALTH_STYLES.get(host.health, WARN)),
            str(host.attempts),
            host.used.describe(),
            host.capacity.describe(),
            host.zone or host.region,
            host.address,
        )
    return table


def host_notes(hosts: Iterable[HostReport], now: float) -> list[str]:
    """Why hosts, or devices of theirs, take nothing new, for people: a line each.

    Args:
        hosts: In the order of the lines.
        now: Seconds since 1970.
    """
    lines: list[str] = []
    for host in hosts:
        if host.reason:
            lines.append(f"{host.worker_id} is {host.health}: {host.reason}{_until(host, now)}")
        lines += [f"{host.worker_id}: {each}" for each in host.held]
    return lines


def _until(host: HostReport, now: float) -> str:
    if host.until is None:
        return ""
    left = duration(host.until - now)
    if host.health == "draining":
        return f"; what is there in {left} is stopped"
    return f"; for another {left}, or until `fray undrain {host.worker_id}`"


def counts_line(counts: Mapping[str, int], what: str) -> str:
    """Counts for people, as in ``jobs: 2 running, 1 failed``.

    Args:
        counts: By status.
        what: Of what, in the plural.
    """
    there = ", ".join(f"{number} {name}" for name, number in counts.items() if number)
    return f"{what}: {there or 'none'}"


__all__ = [
    "Cell",
    "Table",
    "counts_line",
    "host_json",
    "host_notes",
    "host_table",
    "job_facts",
    "job_json",
    "job_table",
    "reason_of",
    "run_time",
    "shortened",
    "status_cell",
    "task_table",
    "why",
]
