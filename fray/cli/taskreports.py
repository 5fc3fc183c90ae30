"""From what is told of tasks to tables for people and JSON for scripts. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from fray.cli.amounts import needs_text
from fray.cli.reports import BAD, DIM, Cell, Table, job_json, shortened, status_cell
from fray.cluster.resources import format_bytes
from fray.wording import counted

if TYPE_CHECKING:
    from fray.cluster.reports import JobReport, TaskReport
    from fray.cluster.usage import AttemptUse


def task_json(report: JobReport, index: int) -> dict[str, Any]:
    """A task for scripts.

    Args:
        report: Its job.
        index: Which task of it.
    """
    return {"job_id": report.job_id, **job_json(report)["tasks"][index]}


def tasks_table(reports: Iterable[JobReport]) -> Table:
    """Tasks of several jobs for people.

    Args:
        reports: The jobs.
    """
    table = Table(("TASK", "STATUS", "HOST", "ATTEMPT", "FAILURES", "PREEMPTIONS", "ERROR"))
    for report in reports:
        for index, task in enumerate(report.tasks):
            last = task.attempts[-1] if task.attempts else None
            table.add(
                f"{report.job_id}/{index}",
                status_cell(task.status),
                str(last.worker_id) if last else "",
                f"{last.number} {last.state}" if last else "",
                str(task.failures),
                str(task.preemptions),
                shortened(" ".join(task.error.split())),
            )
    return table


def task_facts(report: JobReport, index: int, use: AttemptUse | None) -> list[tuple[str, Cell]]:
    """A task for people.

    Args:
        report: Its job.
        index: Which task of it.
        use: What it uses now; None where that is not known.
    """
    task = report.tasks[index]
    facts = [
        ("task", Cell(f"{report.job_id}/{index}", "bold")),
        ("status", status_cell(task.status)),
        ("resources", Cell(needs_text(report.resources) if report.resources else "")),
        ("failures", Cell(str(task.failures) if task.failures else "")),
        ("preemptions", Cell(str(task.preemptions) if task.preemptions else "")),
        ("error", Cell(task.error.strip(), BAD)),
    ]
    if use is not None:
        read, written = format_bytes(use.read_bytes), format_bytes(use.written_bytes)
        processes = counted(use.processes, "process", "processes")
        gpu = format_bytes(use.gpu_memory_bytes) if use.gpu_memory_bytes else ""
        facts += [
            ("cpu", Cell(f"{use.cpu_s:.1f} s in all")),
            ("memory", Cell(f"{format_bytes(use.memory_bytes)}, {processes}")),
            ("gpu memory", Cell(gpu)),
            ("disk", Cell(f"{read} read, {written} written")),
            ("output", Cell(format_bytes(use.log_bytes))),
        ]
    return [(name, cell) for name, cell in facts if cell.text]


def attempt_table(task: TaskReport) -> Table:
    """The attempts at a task for people.

    Args:
        task: The task.
    """
    table = Table(("ATTEMPT", "STATE", "HOST", "AGENT"))
    for attempt in task.attempts:
        state = Cell(attempt.state, "" if attempt.live else DIM)
        table.add(str(attempt.number), state, str(attempt.worker_id), attempt.agent_address)
    return table


__all__ = ["attempt_table", "task_facts", "task_json", "tasks_table"]
