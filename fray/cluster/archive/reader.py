"""Reading what an attempt printed from the archive, from any offset, whole or while it grows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fray.cluster.archive.layout import (
    ABOUT,
    END,
    About,
    Ending,
    Entry,
    attempt_folder,
    attempt_of,
    by_job,
    segment_start,
    unpacked,
)
from fray.cluster.archive.marks import Marks
from fray.cluster.worker.logs import Extent, bridged
from fray.errors import JobNotFoundError, PayloadError
from fray.runtime.jsoncodec import json_loads

if TYPE_CHECKING:
    from fray.cluster.archive.store import Store
    from fray.ids import AttemptId, JobId


@dataclass(frozen=True, slots=True)
class ArchivePiece:
    """Part of what is archived of an attempt's output.

    Attributes:
        data: The bytes; where some are missing, with a line of their own in place of them.
        next_offset: Where the next piece begins.
        end: Whether the attempt has ended, all of its output was archived, and this is its end.
        offset: Where this one was looked for.
    """

    data: bytes
    next_offset: int
    end: bool
    offset: int


@dataclass(frozen=True, slots=True)
class _Folder:
    """What is there of an attempt, as it was when it was looked at."""

    segments: tuple[Entry, ...]
    ending: Ending | None


class ArchiveReader:
    """Reads an archive. Remembers the last segment, so that small pieces cost no more than large.

    Args:
        store: Where it is.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._folders: dict[AttemptId, _Folder] = {}
        self._last: tuple[Entry, bytes] | None = None

    def __repr__(self) -> str:
        return f"<ArchiveReader of {self._store!r}>"

    async def read(self, attempt_id: AttemptId, offset: int, max_bytes: int) -> ArchivePiece:
        """A piece of an attempt's output.

        Args:
            attempt_id: The attempt.
            offset: Where to begin; below 0 counts from the present end.
            max_bytes: The most to give, but for a line about missing bytes.

        Returns:
            No data where nothing more is there yet.

        Raises:
            JobNotFoundError: Nothing is there of that attempt.
            PayloadError: A file is damaged.
            ClusterUnavailable: The archive cannot be read now.
        """
        if offset < 0:
            offset = max(await self.size_bytes(attempt_id) + offset, 0)
        folder = self._folders.get(attempt_id) or await self._look(attempt_id)
        extent = await self._extent(folder, offset)
        if not extent.data and folder.ending is None:
            folder = await self._look(attempt_id)  # it may have grown
            extent = await self._extent(folder, offset)
        if extent.data:
            cut = Extent(extent.start, extent.data[:max_bytes])
            starts_line = offset == 0 or await self._byte_before(folder, offset) == b"\n"
            data, _ = bridged(cut, offset, starts_line=starts_line)
            return ArchivePiece(data, cut.end, end=False, offset=offset)
        return ArchivePiece(b"", offset, end=folder.ending is not None, offset=offset)

    async def size_bytes(self, attempt_id: AttemptId) -> int:
        """How much of an attempt's output is archived so far, with what was dropped.

        Args:
            attempt_id: The attempt.

        Raises:
            JobNotFoundError: Nothing is there of that attempt.
            ClusterUnavailable: The archive cannot be read now.
        """
        folder = await self._look(attempt_id)
        if not folder.segments:
            return 0
        start, data = await self._segment(folder.segments[-1])
        return start + len(data)

    async def offset_at(self, attempt_id: AttemptId, time: float) -> int:
        """An offset before which nothing was printed at or after a time; 0 where nothing is known.

        Args:
            attempt_id: The attempt.
            time: Seconds since 1970.

        Raises:
            ClusterUnavailable: The archive cannot be read now.
        """
        raw = await self._store.get(f"{attempt_folder(attempt_id)}/{ABOUT}")
        return Marks(json_loads(raw, About).marks).offset_at(time) if raw else 0

    async def attempts(self, job_id: JobId) -> list[AttemptId]:
        """The attempts of a job of which there is something, by task and number.

        Args:
            job_id: The job.

        Raises:
            ClusterUnavailable: The archive cannot be read now.
        """
        found = {attempt_of(e.path.rpartition("/")[0]) for e in await self._store.list(job_id)}
        of_job = [a for a in found if a is not None and a.rpartition("/")[0] == job_id]
        return sorted(of_job, key=_order)

    async def jobs(self) -> list[JobId]:
        """All jobs of which there is something, those with the latest output last.

        Raises:
            ClusterUnavailable: The archive cannot be read now.
        """
        jobs = by_job(await self._store.list(""))
        return [job.job_id for job in sorted(jobs, key=lambda job: (job.modified_at, job.job_id))]

    # ---- inside

    async def _look(self, attempt_id: AttemptId) -> _Folder:
        name = attempt_folder(attempt_id)
        entries = await self._store.list(name)
        if not entries:
            raise JobNotFoundError(f"the log archive has nothing of attempt {attempt_id}")
        # The end is written last: all that is listed beside it is whole.
        ending = None
        if any(entry.path == f"{name}/{END}" for entry in entries):
            raw = await self._store.get(f"{name}/{END}")
            ending = json_loads(raw, Ending) if raw else None
        segments = tuple(entry for entry in entries if segment_start(entry.path) is not None)
        folder = self._folders[attempt_id] = _Folder(segments, ending)
        return folder

    async def _extent(self, folder: _Folder, offset: int) -> Extent:
        """The bytes from an offset on, or from where they go on behind a gap."""
        starts = [segment_start(entry.path) or 0 for entry in folder.segments]
        first = max(sum(1 for start in starts if start <= offset) - 1, 0)
        for entry in folder.segments[first : first + 2]:
            start, data = await self._segment(entry)
            if start + len(data) > offset:
                begin = max(offset - start, 0)
                return Extent(start + begin, data[begin:])
        return Extent(offset, b"")

    async def _segment(self, entry: Entry) -> tuple[int, bytes]:
        start = segment_start(entry.path)
        assert start is not None, "only segments are among them"
        if self._last is None or self._last[0] != entry:
            raw = await self._store.get(entry.path)
            if raw is None:  # the middle of a long log, dropped just now
                return start, b""
            self._last = (entry, unpacked(raw))
        return start, self._last[1]

    async def _byte_before(self, folder: _Folder, offset: int) -> bytes:
        extent = await self._extent(folder, offset - 1)
        return extent.data[:1] if extent.start == offset - 1 else b"\n"


def _order(attempt_id: AttemptId) -> tuple[int, int]:
    task, _, number = attempt_id.rpartition("/")[2].partition("#")
    try:
        return int(task), int(number)
    except ValueError as exc:
        raise PayloadError(f"{attempt_id!r} is no id of an attempt") from exc


def places_by_task(attempts: Sequence[AttemptId]) -> dict[int, list[tuple[int, AttemptId]]]:
    """Attempts by their tasks, each with its number, ascending.

    Args:
        attempts: Of one job.
    """
    found: dict[int, list[tuple[int, AttemptId]]] = {}
    for attempt_id in sorted(attempts, key=_order):
        task, number = _order(attempt_id)
        found.setdefault(task, []).append((number, attempt_id))
    return found


__all__ = ["ArchivePiece", "ArchiveReader", "places_by_task"]
