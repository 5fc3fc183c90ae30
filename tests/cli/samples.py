"""Reports as a controller would give them."""

from __future__ import annotations

from typing import Any

from fray.cluster.reports import AttemptPlace, HostReport, JobReport, TaskReport
from fray.cluster.resources import Resources
from fray.cluster.types import JobStatus
from fray.ids import AttemptId, JobId, WorkerId

NOW = 1_000_000.0


def attempt(number: int = 0, *, worker: str = "box", state: str = "running") -> AttemptPlace:
    return AttemptPlace(
        attempt_id=AttemptId(f"ann/train-7f3a/0#{number}"),
        number=number,
        worker_id=WorkerId(worker),
        agent_address="127.0.0.1:9",
        live=state == "running",
        state=state,
    )


def job(
    job_id: str = "ann/train-7f3a", status: JobStatus = JobStatus.RUNNING, **fields: Any
) -> JobReport:
    fields.setdefault("tasks", (TaskReport(status, attempts=(attempt(),)),))
    fields.setdefault("submitted_at", NOW - 100)
    fields.setdefault("namespace", "ann-1")
    return JobReport(
        job_id=JobId(job_id),
        name=job_id.partition("/")[2].rpartition("-")[0],
        user=job_id.partition("/")[0],
        status=status,
        **fields,
    )


def host(worker: str = "box", health: str = "healthy", **fields: Any) -> HostReport:
    return HostReport(
        worker_id=WorkerId(worker),
        address="127.0.0.1:9",
        health=health,
        capacity=Resources(8000),
        used=Resources(1000),
        attempts=1,
        **fields,
    )
