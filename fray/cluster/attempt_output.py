"""The output of one attempt: from its host while that answers, else from the log archive."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from fray.cluster.control import LogPiece
from fray.errors import ClusterUnavailable, FrayError, JobNotFoundError, PayloadError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from fray.cluster.archive.reader import ArchiveReader
    from fray.cluster.base import LogRange
    from fray.cluster.control import AgentApi
    from fray.cluster.reports import AttemptPlace, JobReport
    from fray.ids import JobId

LOG_BYTES = 256 << 10
LOG_WAIT_S = 5.0
"""How long one question for more output waits; then the job's state is looked at again."""

LINE_BYTES_MAX = 1 << 20
"""A line that is longer is told in parts: whoever prints no ends of lines is heard, too."""

LOOK_S = 0.2
"""How often an attempt is looked for that its host does not know yet."""

TAIL_BYTES = 64 << 10
TAIL_BYTES_MAX = 64 << 20
"""How far from its end the last lines of an output are looked for, first and at most."""


class Sources(Protocol):
    """Where output is found."""

    async def report(self, job_id: JobId) -> JobReport:
        """All that is known of a job."""
        ...

    async def wait_a_moment(self, job_id: JobId, wait_s: float) -> None:
        """Returns when a job has finished, or after ``wait_s`` seconds."""
        ...

    def agent(self, address: str) -> AgentApi:
        """A host's agent."""
        ...

    def archive(self) -> ArchiveReader | None:
        """What is kept for the time after the hosts; None where nothing is."""
        ...


class _Lost(FrayError):
    """There is no more to be had; the message says why, and is empty where all is well."""


class AttemptOutput:
    """Reads what an attempt prints.

    Args:
        sources: Where it is found.
        job_id: The job.
        index: Which task of it.
        place: The attempt, and where it is or was.
        follow: Whether to go on until the attempt has ended.
    """

    def __init__(
        self, sources: Sources, job_id: JobId, index: int, place: AttemptPlace, *, follow: bool
    ) -> None:
        self._sources = sources
        self._job_id = job_id
        self._index = index
        self._place = place
        self._follow = follow
        self._archive = sources.archive()
        self._asks_host = bool(place.agent_address)
        self._why = "" if self._asks_host else f"host {place.worker_id} cannot be asked"

    async def lines(self, where: LogRange) -> AsyncIterator[bytes]:
        """Its lines, without their ends; where something is missing, a line that says so.

        Args:
            where: From where on.

        Raises:
            JobNotFoundError: The job is not known any more.
            ClusterUnavailable: The controller does not answer.
        """
        rest = b""
        wait_s = LOG_WAIT_S if self._follow else 0.0
        try:
            offset = await self._begin(where)
            while True:
                piece = await self._read(offset, wait_s)
                offset = piece.next_offset
                *whole, rest = (rest + piece.data).split(b"\n")
                if len(rest) > LINE_BYTES_MAX:
                    whole.append(rest)
                    rest = b""
                for line in whole:
                    yield line
                if piece.end or (not self._follow and not piece.data):
                    break
        except _Lost as exc:
            if rest:
                yield rest
            if str(exc):
                yield f"[fray] {exc}".encode()
            return
        if rest:
            yield rest

    # ---- where to begin

    async def _begin(self, where: LogRange) -> int:
        offset = where.offset
        if where.since is not None:
            offset = max(offset, await self._offset_at(where.since))
        if where.tail_lines is not None:
            offset = max(offset, await self._offset_of_last(where.tail_lines))
        return offset

    async def _offset_at(self, time: float) -> int:
        attempt_id = self._place.attempt_id
        if self._asks_host:
            try:
                return await self._sources.agent(self._place.agent_address).log_offset(
                    attempt_id, time
                )
            except (JobNotFoundError, ClusterUnavailable):
                pass  # what follows asks again, and says what is wrong
        try:
            return 0 if self._archive is None else await self._archive.offset_at(attempt_id, time)
        except (ClusterUnavailable, PayloadError):
            return 0  # all of it, rather than none

    async def _offset_of_last(self, lines: int) -> int:
        """Where the last lines begin: looked for from the end, ever further."""
        size = TAIL_BYTES
        while True:
            begin, data = await self._from_end(size)
            found = data.rstrip(b"\n").count(b"\n") + 1 if data else 0
            if found > lines or begin == 0 or size >= TAIL_BYTES_MAX:
                return begin + _start_of_last(data, lines)
            size *= 4

    async def _from_end(self, size: int) -> tuple[int, bytes]:
        """The last bytes, and where they begin; what is before a gap is left out."""
        piece = await self._read(-size, 0.0)
        begin, end, data = piece.offset, piece.next_offset, piece.data
        while piece.data:
            if end - begin != len(data):  # something is missing in it
                begin, data = end, b""
            piece = await self._read(end, 0.0)
            data += piece.data
            end = piece.next_offset
        return begin, data

    # ---- reading

    async def _read(self, offset: int, wait_s: float) -> LogPiece:
        """A piece; an empty one where it is to be asked for again.

        Raises:
            _Lost: No more is to be had.
        """
        if self._asks_host:
            agent = self._sources.agent(self._place.agent_address)
            try:
                return await agent.read_log(
                    self._place.attempt_id, offset, LOG_BYTES, wait_s=wait_s
                )
            except JobNotFoundError:
                if await self._is_coming():
                    return LogPiece(b"", offset, end=False, offset=offset)
                self._asks_host = False  # forgotten, or it never began
            except ClusterUnavailable as exc:
                found = await self._find()
                if found is not None and found.live and self._follow:
                    self._place = found  # its agent may be started again, and be elsewhere
                    return LogPiece(b"", offset, end=False, offset=offset)
                self._asks_host = False
                self._why = f"host {self._place.worker_id} does not tell its output: {exc}"
        return await self._archived(offset)

    async def _archived(self, offset: int) -> LogPiece:
        if self._archive is None:
            raise _Lost(self._why if self._place.agent_address else "")
        try:
            piece = await self._archive.read(self._place.attempt_id, offset, LOG_BYTES)
        except JobNotFoundError:
            more = f"{self._why}, and the log archive has none of its output" if self._why else ""
            raise _Lost(more) from None
        except (ClusterUnavailable, PayloadError) as exc:
            raise _Lost(f"{self._why or 'its host has forgotten it'}; {exc}") from exc
        if not piece.data and not piece.end:
            raise _Lost(
                f"{self._why or 'its host has forgotten it'}; what it printed after this is not in "
                "the log archive"
            )
        return LogPiece(piece.data, piece.next_offset, piece.end, piece.offset)

    async def _is_coming(self) -> bool:
        """Whether its host has an order to begin an attempt of which it did not know just now."""
        found = await self._find()
        if found is None or not found.live or not self._follow:
            return False
        await self._sources.wait_a_moment(self._job_id, LOOK_S)
        return True

    async def _find(self) -> AttemptPlace | None:
        report = await self._sources.report(self._job_id)
        attempts = report.tasks[self._index].attempts
        return next((a for a in attempts if a.attempt_id == self._place.attempt_id), None)


def _start_of_last(data: bytes, lines: int) -> int:
    """Where the last lines of some bytes begin."""
    if lines == 0:
        return len(data)
    at = len(data) - 1 if data.endswith(b"\n") else len(data)
    for _ in range(lines):
        at = data.rfind(b"\n", 0, at)
        if at < 0:
            return 0
    return at + 1


__all__ = ["LINE_BYTES_MAX", "LOG_BYTES", "AttemptOutput", "Sources"]
