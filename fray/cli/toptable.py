"""What `fray top` shows, from what hosts tell. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from fray.cli.reports import BAD, DIM, GOOD, WARN, Cell, Table
from fray.cluster.reports import HostReport
from fray.cluster.resources import format_bytes
from fray.cluster.usage import HostUse
from fray.runtime.clock import duration
from fray.wording import and_others

if TYPE_CHECKING:
    from fray.cluster.usage import AttemptUse

BAR_WIDTH = 10

TASKS_MAX = 30
"""So many tasks are shown to people, those that use most."""


class SortBy(StrEnum):
    """What the tasks are sorted by, the largest first."""

    CPU = "cpu"
    MEMORY = "memory"
    GPU = "gpu"
    AGE = "age"


class Problem(StrEnum):
    """Why a host tells nothing of itself."""

    LOST = "lost"
    SILENT = "silent"
    REFUSED = "refused"
    FAILED = "failed"


_PROBLEMS = {
    Problem.LOST: "lost",
    Problem.SILENT: "does not answer",
    Problem.REFUSED: "what hosts use is told to administrators only",
}


@dataclass(frozen=True, slots=True)
class HostRow:
    """A host, and what it tells of itself.

    Attributes:
        report: What the controller knows.
        use: What its agent says; None where it does not.
        problem: Why it does not.
        error: What went wrong, where that is no more than a failure.
    """

    report: HostReport
    use: HostUse | None
    problem: Problem | None = None
    error: str = ""


def bar(share: float, text: str) -> Cell:
    """A share as a bar, with a text behind it.

    Args:
        share: From 0 to 1; more is shown as 1.
        text: What stands behind.
    """
    filled = round(min(max(share, 0.0), 1.0) * BAR_WIDTH)
    style = BAD if share > 0.9 else WARN if share > 0.7 else GOOD
    return Cell(f"{'█' * filled}{'░' * (BAR_WIDTH - filled)} {text}", style)


def share_of(used: float, total: float) -> float:
    """How much of something is used; 0 of nothing.

    Args:
        used: So much.
        total: Of so much.
    """
    return used / total if total else 0.0


def host_rows_table(rows: Iterable[HostRow]) -> Table:
    """Hosts for people.

    Args:
        rows: In their order.
    """
    table = Table(("HOST", "HEALTH", "CPU", "MEMORY", "ACCELERATORS", "DISK FREE", "TASKS"))
    for row in rows:
        health = Cell(row.report.health, GOOD if row.report.health == "healthy" else BAD)
        if row.use is None:
            unknown = [Cell("-", DIM)] * (len(table.columns) - 2)
            table.add(str(row.report.worker_id), health, *unknown)
            continue
        host, cpus = row.use.host, row.use.cpus
        memory = host.memory_total_bytes - host.memory_available_bytes
        table.add(
            str(row.report.worker_id),
            health,
            bar(share_of(cpus or 0.0, host.cpus), f"{_cpus(cpus)}/{host.cpus}"),
            bar(
                share_of(memory, host.memory_total_bytes),
                f"{format_bytes(memory)}/{format_bytes(host.memory_total_bytes)}",
            ),
            _accelerators(row.use),
            format_bytes(host.disk_free_bytes),
            str(len(row.use.attempts)),
        )
    return table


def host_rows_notes(rows: Iterable[HostRow]) -> list[str]:
    """Why hosts tell nothing of themselves, for people: a line for each reason.

    Args:
        rows: In their order.
    """
    hosts: dict[str, list[str]] = {}
    for row in rows:
        if row.problem is not None:
            hosts.setdefault(_PROBLEMS.get(row.problem, row.error), []).append(row.report.worker_id)
    return [f"{and_others(ids[0], len(ids) - 1)}: {why}" for why, ids in hosts.items()]


def _accelerators(use: HostUse) -> Cell:
    every = use.host.accelerators
    if not every:
        return Cell("")
    busy = [each.busy for each in every if each.busy is not None]
    used = sum(each.memory_used_bytes for each in every)
    total = sum(each.memory_total_bytes for each in every)
    share = sum(busy) / len(busy) if busy else share_of(used, total)
    told = f"{round(100 * share)}% of {len(every)}" if busy else f"{len(every)}"
    return bar(share, f"{told}, {format_bytes(used)}/{format_bytes(total)}")


def _cpus(cpus: float | None) -> str:
    return "?" if cpus is None else f"{cpus:.1f}"


def sorted_tasks(rows: Iterable[HostRow], by: SortBy) -> list[tuple[HostRow, AttemptUse]]:
    """All attempts, the one that uses most first.

    Args:
        rows: The hosts.
        by: Of what.
    """
    every = [(row, use) for row in rows if row.use is not None for use in row.use.attempts]
    return sorted(every, key=lambda each: (_rank(each[1], by), each[1].attempt_id))


def _rank(use: AttemptUse, by: SortBy) -> tuple[float, float]:
    """Smaller for what is shown first; of equals the one that has used most CPU."""
    amounts = {
        SortBy.CPU: -(use.cpus or 0.0),
        SortBy.MEMORY: -float(use.memory_bytes),
        SortBy.GPU: -float(use.gpu_memory_bytes),
        SortBy.AGE: use.started_at,
    }
    return amounts[by], -use.cpu_s


def task_rows_table(tasks: Sequence[tuple[HostRow, AttemptUse]], now: float) -> Table:
    """Tasks for people.

    Args:
        tasks: Sorted.
        now: Seconds since 1970.
    """
    table = Table(("TASK", "HOST", "STATE", "CPU", "MEMORY", "GPU MEMORY", "AGE", "OUTPUT"))
    for row, use in tasks[:TASKS_MAX]:
        total = row.use.host.memory_total_bytes if row.use else 0
        age = duration(now - use.started_at) if use.started_at else ""
        table.add(
            use.attempt_id,
            str(row.report.worker_id),
            use.state,
            bar(share_of(use.cpus or 0.0, row.use.host.cpus if row.use else 0), _cpus(use.cpus)),
            bar(share_of(use.memory_bytes, total), format_bytes(use.memory_bytes)),
            format_bytes(use.gpu_memory_bytes) if use.gpu_memory_bytes else "",
            age,
            format_bytes(use.log_bytes),
        )
    return table


def top_json(rows: Iterable[HostRow]) -> list[dict[str, Any]]:
    """Hosts and their tasks for scripts.

    Args:
        rows: The hosts.
    """
    return [
        {
            "worker": row.report.worker_id,
            "health": row.report.health,
            "problem": row.problem,
            "error": row.error or None,
            "cpus": row.use.cpus if row.use else None,
            "host": asdict(row.use.host) if row.use else None,
            "attempts": [asdict(use) for use in row.use.attempts] if row.use else [],
        }
        for row in rows
    ]


__all__ = [
    "HostRow",
    "Problem",
    "SortBy",
    "bar",
    "host_rows_notes",
    "host_rows_table",
    "share_of",
    "sorted_tasks",
    "task_rows_table",
    "top_json",
]
