"""Following what a task prints, over all its attempts, wherever they ran.

Lines come whole and in order. What hosts say comes from their agents, which may be away for a
while; a host that is gone for good took its output along, and a line says so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from fray.cluster.base import LogLine
from fray.errors import ClusterUnavailable, JobNotFoundError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from fray.cluster.control import AgentApi, AttemptPlace, JobReport
    from fray.ids import JobId

LOG_BYTES = 256 << 10
LOG_WAIT_S = 5.0
"""How long one question for more output waits; then the job's state is looked at again."""

LINE_BYTES_MAX = 1 << 20
"""A line that is longer is told in parts: whoever prints no ends of lines is heard, too."""

NEXT_ATTEMPT_WAIT_S = 0.2
"""How often a task between two attempts is looked at."""


class Sources(Protocol):
    """Where a tail finds out about a job."""

    async def report(self, job_id: JobId) -> JobReport:
        """All that the controller tells of it."""
        ...

    async def wait_a_moment(self, job_id: JobId, wait_s: float) -> None:
        """Returns when it has finished, or after ``wait_s`` seconds."""
        ...

    def agent(self, address: str) -> AgentApi:
        """A host's agent."""
        ...


class Tail:
    """The output of one task.

    Args:
        sources: Where it asks.
        job_id: The job.
        index: Which task of it.
        follow: Whether to go on until the job has finished.
    """

    def __init__(self, sources: Sources, job_id: JobId, index: int, *, follow: bool) -> None:
        self._sources = sources
        self._job_id = job_id
        self._index = index
        self._follow = follow

    async def lines(self) -> AsyncIterator[LogLine]:
        """The lines, in order; those of an attempt before those of the next one.

        Raises:
            JobNotFoundError: The job is not known any more.
            ClusterUnavailable: The controller does not answer.
        """
        seen = -1
        while True:
            report = await self._sources.report(self._job_id)
            attempts = [a for a in report.tasks[self._index].attempts if a.number > seen]
            for attempt in attempts:
                async for text in self._lines_of(attempt):
                    yield LogLine(self._index, text.decode(errors="replace"), attempt.number)
                seen = attempt.number
            if not self._follow or (report.status.finished() and not attempts):
                return
            if not attempts:
                await self._sources.wait_a_moment(self._job_id, NEXT_ATTEMPT_WAIT_S)

    async def _lines_of(self, place: AttemptPlace) -> AsyncIterator[bytes]:
        wait_s = LOG_WAIT_S if self._follow else 0.0
        offset, rest = 0, b""
        while place.agent_address:
            agent = self._sources.agent(place.agent_address)
            try:
                piece = await agent.read_log(place.attempt_id, offset, LOG_BYTES, wait_s=wait_s)
            except JobNotFoundError:
                if not await self._is_coming(place):
                    break  # forgotten, or it never began
                continue
            except ClusterUnavailable as exc:
                found = await self._find(place)
                if found is not None and found.live and self._follow:
                    place = found  # its agent may be started again, and be elsewhere
                    continue
                if rest:
                    yield rest
                yield f"[fray] host {place.worker_id} does not tell its output: {exc}".encode()
                return
            offset = piece.next_offset
            *whole, rest = (rest + piece.data).split(b"\n")
            if len(rest) > LINE_BYTES_MAX:
                whole.append(rest)
                rest = b""
            for line in whole:
                yield line
            if piece.end or (not self._follow and not piece.data):
                break
        if rest:
            yield rest

    async def _is_coming(self, place: AttemptPlace) -> bool:
        """Whether its host has an order to begin an attempt of which it did not know just now."""
        found = await self._find(place)
        if found is None or not found.live or not self._follow:
            return False
        await self._sources.wait_a_moment(self._job_id, NEXT_ATTEMPT_WAIT_S)
        return True

    async def _find(self, place: AttemptPlace) -> AttemptPlace | None:
        report = await self._sources.report(self._job_id)
        attempts = report.tasks[self._index].attempts
        return next((a for a in attempts if a.attempt_id == place.attempt_id), None)


__all__ = ["LINE_BYTES_MAX", "Sources", "Tail"]
