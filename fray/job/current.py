"""The job context that running code uses: of the task or block it belongs to."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fray.job.base import JobContext

CURRENT_JOB_CONTEXT: ContextVar[JobContext | None] = ContextVar(
    "fray_current_job_context", default=None
)
"""The context whose task, or whose `fray_default_job_ctx` block, the running code belongs to."""

__all__ = ["CURRENT_JOB_CONTEXT"]
