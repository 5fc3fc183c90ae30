"""Which file of the archive holds which bytes of which attempt. Pure.

::

    <job id>/<task>-<attempt>/about.json                     whose output this is
    <job id>/<task>-<attempt>/00000000000000000000.gz        its bytes from offset 0 on, ...
    <job id>/<task>-<attempt>/00000000000000262144.gz        ... from offset 262144 on
    <job id>/<task>-<attempt>/end.json                       it has ended, and all of it is here

The names are the index: they say where each segment begins, and its length is that of its content.
The last segment is replaced by a longer one while it grows; bytes between two segments are missing.
"""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from fray.errors import InvalidRequestError, PayloadError
from fray.ids import AttemptId, JobId

SEGMENT_BYTES = 256 * 1024
"""Of a whole segment, before it is compressed."""

ATTEMPT_BYTES_MAX = 64 * 1024 * 1024
"""What is kept of one attempt's output: its beginning and its end, as on its host."""

ABOUT = "about.json"
END = "end.json"

PATH_LENGTH_MAX = 1024

_SEGMENT = re.compile(r"(\d{20})\.gz")
_FOLDER = re.compile(r"(\d+)-(\d+)")
_LEVEL = 3  # twice as fast as the default, and a tenth larger


@dataclass(frozen=True, slots=True)
class About:
    """Whose output it is, and when it was printed.

    Attributes:
        attempt_id: The attempt.
        host: Where it ran.
        marks: Pairs of a time, in seconds since 1970, and how much was printed by then.
    """

    attempt_id: AttemptId
    host: str
    marks: tuple[tuple[float, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Ending:
    """An attempt has ended, and what it printed is in the archive as a whole.

    Attributes:
        size_bytes: How much it printed.
        ended_at: When that was noticed, in seconds since 1970.
    """

    size_bytes: int
    ended_at: float


@dataclass(frozen=True, slots=True)
class Entry:
    """A file of a store.

    Attributes:
        path: Relative to the store.
        size_bytes: Its size.
        modified_at: When it was written, in seconds since 1970; 0 where that is not known.
    """

    path: str
    size_bytes: int
    modified_at: float = 0.0


def attempt_folder(attempt_id: AttemptId) -> str:
    """The folder of an attempt.

    Args:
        attempt_id: ``<job id>/<task index>#<attempt>``.

    Raises:
        InvalidRequestError: It is none.
    """
    folder = attempt_id.replace("#", "-")
    check_path(folder)
    return folder


def attempt_of(folder: str) -> AttemptId | None:
    """The inverse of `attempt_folder`; None for another folder.

    Args:
        folder: Its path.
    """
    job_id, _, last = folder.rpartition("/")
    match = _FOLDER.fullmatch(last)
    return AttemptId(f"{job_id}/{match[1]}#{match[2]}") if job_id and match else None


def check_path(path: str) -> None:
    """Refuses a path that leads out of the store, or to a place that no store has.

    Args:
        path: Relative.

    Raises:
        InvalidRequestError: It does.
    """
    parts = path.split("/")
    if len(path) > PATH_LENGTH_MAX or any(
        p in ("", ".", "..") or "\0" in p or "\\" in p for p in parts
    ):
        raise InvalidRequestError(f"{path[:200]!r} is no path of the log archive")


def segment_path(folder: str, start: int) -> str:
    """The file of a segment.

    Args:
        folder: The attempt's.
        start: The offset of its first byte.
    """
    return f"{folder}/{start:020d}.gz"


def segment_start(path: str) -> int | None:
    """Where a segment begins; None for another file.

    Args:
        path: Of a file.
    """
    match = _SEGMENT.fullmatch(path.rpartition("/")[2])
    return int(match[1]) if match else None


def packed(data: bytes) -> bytes:
    """A segment as it is kept. Takes 2 ms for a whole one.

    Args:
        data: What was printed.
    """
    return gzip.compress(data, _LEVEL, mtime=0)


def unpacked(data: bytes) -> bytes:
    """The inverse of `packed`.

    Args:
        data: Of a file.

    Raises:
        PayloadError: It is damaged.
    """
    try:
        return gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as exc:
        raise PayloadError(f"a segment of the log archive is damaged: {exc}") from exc


def surplus(starts: Sequence[int], bytes_max: int = ATTEMPT_BYTES_MAX) -> list[int]:
    """The segments that go, so that an attempt's output stays bounded: those of its middle.

    A quarter of the bound is kept of the beginning, the rest of the end.

    Args:
        starts: Where its segments begin, ascending. They count as whole ones.
        bytes_max: How much may stay.
    """
    segments_max = max(bytes_max // SEGMENT_BYTES, 4)
    head = segments_max // 4
    return list(starts[head : max(head, len(starts) - (segments_max - head))])


# ---- what is kept of ended jobs


@dataclass(frozen=True, slots=True)
class LogRetention:
    """How much of ended jobs' output is kept.

    Attributes:
        bytes_max: All in all; > 0.
        age_max_s: How long after the last output; > 0.
    """

    bytes_max: int = 20 << 30
    age_max_s: float = 30 * 86400.0


@dataclass(slots=True)
class JobFiles:
    """What is kept of one job.

    Attributes:
        job_id: The job.
        paths: Its files.
        size_bytes: Their size.
        modified_at: When the last one was written.
    """

    job_id: JobId
    paths: list[str] = field(default_factory=list[str])
    size_bytes: int = 0
    modified_at: float = 0.0


def by_job(entries: Iterable[Entry]) -> list[JobFiles]:
    """The files of an archive, by job; what belongs to none is left out.

    Args:
        entries: All files.
    """
    found: dict[JobId, JobFiles] = {}
    for entry in entries:
        attempt_id = attempt_of(entry.path.rpartition("/")[0])
        if attempt_id is None:
            continue
        job_id = JobId(attempt_id.rpartition("/")[0])
        job = found.setdefault(job_id, JobFiles(job_id))
        job.paths.append(entry.path)
        job.size_bytes += entry.size_bytes
        job.modified_at = max(job.modified_at, entry.modified_at)
    return list(found.values())


def expired(
    jobs: Iterable[JobFiles], live: frozenset[JobId], now: float, keep: LogRetention
) -> list[JobFiles]:
    """The jobs whose output goes: what is too old, and the oldest of what is too much.

    Args:
        jobs: All of the archive.
        live: Jobs that have not ended. Theirs counts, and stays.
        now: Seconds since 1970.
        keep: How much is kept.
    """
    every = list(jobs)
    left = sum(job.size_bytes for job in every)
    gone: list[JobFiles] = []
    for job in sorted(every, key=lambda job: (job.modified_at, job.job_id)):
        if job.job_id in live:
            continue
        if left > keep.bytes_max or now - job.modified_at > keep.age_max_s:
            gone.append(job)
            left -= job.size_bytes
    return gone


__all__ = [
    "ABOUT",
    "ATTEMPT_BYTES_MAX",
    "END",
    "SEGMENT_BYTES",
    "About",
    "Ending",
    "Entry",
    "JobFiles",
    "LogRetention",
    "attempt_folder",
    "attempt_of",
    "by_job",
    "check_path",
    "expired",
    "packed",
    "segment_path",
    "segment_start",
    "surplus",
    "unpacked",
]
