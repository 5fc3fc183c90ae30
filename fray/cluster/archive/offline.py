"""Reading a job's output from the archive alone, when no controller runs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from fray.cluster.archive.reader import ArchiveReader, places_by_task
from fray.cluster.base import ALL_OUTPUT, LogLine, LogRange
from fray.cluster.reports import AttemptPlace, JobReport, TaskReport
from fray.cluster.tails import Tail
from fray.cluster.types import JobStatus
from fray.errors import ClusterUnavailable, InvalidRequestError, JobNotFoundError
from fray.ids import WorkerId
from fray.wording import counted

if TYPE_CHECKING:
    from fray.cluster.control import AgentApi
    from fray.ids import JobId


class ArchivedJob:
    """What the archive knows of a job; see `fray.cluster.attempt_output.Sources`.

    Args:
        reader: The archive.
    """

    def __init__(self, reader: ArchiveReader) -> None:
        self._reader = reader

    async def report(self, job_id: JobId) -> JobReport:
        """A report of which only the tasks and attempts mean something.

        Args:
            job_id: The job.

        Raises:
            JobNotFoundError: The archive has nothing of it.
        """
        by_task = places_by_task(await self._reader.attempts(job_id))
        if not by_task:
            raise JobNotFoundError(f"the log archive has nothing of job {job_id}")
        tasks: list[TaskReport] = []
        for index in range(max(by_task) + 1):
            places = [
                AttemptPlace(attempt_id, number, WorkerId("?"), "", live=False, state="")
                for number, attempt_id in by_task.get(index, [])
            ]
            tasks.append(TaskReport(JobStatus.STOPPED, attempts=tuple(places)))
        return JobReport(job_id, job_id, "", "", JobStatus.STOPPED, tuple(tasks))

    async def wait_a_moment(self, job_id: JobId, wait_s: float) -> None:
        """Nothing more happens to an archived job."""

    def agent(self, address: str) -> AgentApi:
        """No host is asked.

        Raises:
            ClusterUnavailable: Always.
        """
        raise ClusterUnavailable(f"host {address} is not asked: only the archive is read")

    def archive(self) -> ArchiveReader:
        """As given."""
        return self._reader


async def archived_lines(
    reader: ArchiveReader,
    job_id: JobId,
    *,
    task_index: int | None = None,
    where: LogRange = ALL_OUTPUT,
) -> AsyncIterator[LogLine]:
    """What a job has printed, as far as it is archived, task by task.

    Args:
        reader: The archive.
        job_id: The job.
        task_index: Only this task; None for all.
        where: Which part of it.

    Raises:
        JobNotFoundError: The archive has nothing of it.
        InvalidRequestError: It has nothing of that task or attempt.
        ClusterUnavailable: It cannot be read.
    """
    sources = ArchivedJob(reader)
    count = len((await sources.report(job_id)).tasks)
    if task_index is not None and not 0 <= task_index < count:
        tasks = counted(count, "task")
        raise InvalidRequestError(f"the log archive has {tasks} of job {job_id}, from 0")
    for index in range(count) if task_index is None else [task_index]:
        async for line in Tail(sources, job_id, index, follow=False, where=where).lines():
            yield line


__all__ = ["ArchivedJob", "archived_lines"]
