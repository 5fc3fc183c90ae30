"""What the controller counts of its own work, and its figures for Prometheus."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fray.cluster.controller.attempt import LIVE, AttemptState
from fray.cluster.controller.events import Event, JobChanged
from fray.cluster.controller.records import CordonKind, Health
from fray.cluster.metrics.histogram import LONG_S, SHORT_S, Histogram
from fray.cluster.metrics.table import Reading
from fray.cluster.types import JobStatus

if TYPE_CHECKING:
    from fray.cluster.controller.state import Ledger


class Figures:
    """Counts, since this controller began.

    Attributes:
        plan_s: How long plans took to make.
        commit_s: How long changes took to become durable.
        wait_s: How long jobs waited for their first task.
    """

    def __init__(self) -> None:
        self.plan_s = Histogram(SHORT_S)
        self.commit_s = Histogram(SHORT_S)
        self.wait_s = Histogram(LONG_S)

    def note(self, ledger: Ledger, events: Sequence[Event]) -> None:
        """Counts what has happened.

        Args:
            ledger: As it is after that.
            events: What has happened.
        """
        for event in events:
            if isinstance(event, JobChanged) and event.status is JobStatus.RUNNING:
                job = ledger.tables.jobs.get(event.job_id)
                if job is not None and job.started_at is not None:
                    self.wait_s.observe(max(job.started_at - job.submitted_at, 0.0))


def controller_readings(
    ledger: Ledger, figures: Figures, now: float, journal: Path | None
) -> list[Reading]:
    """What a controller shows.

    Args:
        ledger: Its ledger.
        figures: What it has counted.
        now: Seconds since 1970.
        journal: The journal's file; None where it has none.
    """
    tables = ledger.tables
    statuses = Counter(job.status for job in tables.jobs.values())
    states = Counter(attempt.state for attempt in tables.attempts.values())
    health = Counter(
        worker.cordon.kind if worker.cordon else worker.health for worker in tables.workers.values()
    )
    pending = [job for job in tables.jobs.values() if job.status is JobStatus.PENDING]
    waiting = (
        sum(
            1
            for job_id, job in tables.jobs.items()
            if not job.status.finished()
            for task in ledger.tasks(job_id)
            if task.status is JobStatus.PENDING
        )
        - states[AttemptState.ASSIGNED]
        - states[AttemptState.BUILDING]
    )
    oldest_s = max((now - job.submitted_at for job in pending), default=0.0)
    return [
        *(Reading("fray_jobs", statuses[s], {"status": s.value}) for s in JobStatus),
        Reading("fray_queue_tasks", max(waiting, 0)),
        Reading("fray_queue_oldest_seconds", max(oldest_s, 0.0)),
        Reading("fray_job_wait_seconds", figures.wait_s),
        *(Reading("fray_attempts", states[s], {"state": s.value}) for s in LIVE),
        *(Reading("fray_hosts", health[h], {"health": h.value}) for h in (*Health, *CordonKind)),
        Reading("fray_plan_seconds", figures.plan_s),
        Reading("fray_commit_seconds", figures.commit_s),
        Reading("fray_journal_revision", ledger.revision),
        Reading("fray_journal_bytes", _size(journal)),
    ]


def _size(journal: Path | None) -> int:
    """The size of an SQLite database with what lies beside it."""
    if journal is None:
        return 0
    total = 0
    for path in (journal, journal.with_name(f"{journal.name}-wal")):
        try:
            total += path.stat().st_size
        except OSError:
            continue
    return total


__all__ = ["Figures", "controller_readings"]
