"""Following what a task prints, over all its attempts, wherever they ran.

Lines come whole and in order. Where each attempt's are found is the matter of
`fray.cluster.attempt_output`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from fray.cluster.attempt_output import LINE_BYTES_MAX, AttemptOutput, Sources
from fray.cluster.base import ALL_OUTPUT, LogLine, LogRange
from fray.errors import InvalidRequestError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from fray.cluster.reports import AttemptPlace, JobReport
    from fray.ids import JobId

NEXT_ATTEMPT_WAIT_S = 0.2
"""How often a task between two attempts is looked at."""


class Tail:
    """The output of one task.

    Args:
        sources: Where it asks.
        job_id: The job.
        index: Which task of it.
        follow: Whether to go on until the job has finished.
        where: Which part of it. An offset, and last lines, are of one attempt: the last one, unless
            it says which; those that begin later are told whole.

    Raises:
        InvalidRequestError: Something is below 0.
    """

    def __init__(
        self,
        sources: Sources,
        job_id: JobId,
        index: int,
        *,
        follow: bool,
        where: LogRange = ALL_OUTPUT,
    ) -> None:
        if min(where.offset, where.tail_lines or 0, where.attempt or 0) < 0:
            raise InvalidRequestError(f"offsets, lines and attempts count from 0: {where}")
        self._sources = sources
        self._job_id = job_id
        self._index = index
        self._follow = follow
        self._where = where

    async def lines(self) -> AsyncIterator[LogLine]:
        """The lines, in order; those of an attempt before those of the next one.

        Raises:
            JobNotFoundError: The job is not known any more.
            InvalidRequestError: The task has had no such attempt.
            ClusterUnavailable: The controller does not answer.
        """
        where = self._where
        seen = -1
        while True:
            report = await self._sources.report(self._job_id)
            attempts = [a for a in self._wanted(report) if a.number > seen]
            if (
                seen < 0
                and where.attempt is None
                and (where.offset or where.tail_lines is not None)
            ):
                attempts = attempts[-1:]
            for place in attempts:
                output = AttemptOutput(
                    self._sources, self._job_id, self._index, place, follow=self._follow
                )
                async for text in output.lines(where):
                    yield LogLine(self._index, text.decode(errors="replace"), place.number)
                seen = place.number
                where = replace(where, offset=0, tail_lines=None)
            if not self._follow or (report.status.finished() and not attempts):
                return
            if attempts and self._where.attempt is not None:
                return
            if not attempts:
                await self._sources.wait_a_moment(self._job_id, NEXT_ATTEMPT_WAIT_S)

    def _wanted(self, report: JobReport) -> list[AttemptPlace]:
        attempts = report.tasks[self._index].attempts
        number = self._where.attempt
        if number is None:
            return list(attempts)
        found = [a for a in attempts if a.number == number]
        if not found and (report.status.finished() or not self._follow):
            numbers = ", ".join(str(a.number) for a in attempts) or "none"
            raise InvalidRequestError(
                f"task {self._index} of job {self._job_id} has no attempt {number} (known: "
                f"{numbers})"
            )
        return found


__all__ = ["LINE_BYTES_MAX", "Sources", "Tail"]
