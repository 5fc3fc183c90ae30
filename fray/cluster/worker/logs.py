"""The log files of attempts: appending to them, reading them from any offset, following them.

A log is one file that only grows, in offsets; what is kept of it on disk is bounded by freeing its
middle (`fray.cluster.worker.shim.system.LogTrimmer` says how, and what it costs). An offset
therefore means the same byte for ever, for every reader, over restarts of everything. A reader that
comes to the freed part gets one line in its place that says how much is missing.

Files are read on the event loop: a chunk is small and was just written, so it comes from memory.
This room knows nothing of attempts or processes, nor of who asks for the log.
"""

from __future__ import annotations

import errno
import os
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fray.cluster.worker.launcher import LOG_BYTES_MAX
from fray.cluster.worker.shim.system import LogTrimmer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from fray.runtime.clock import Clock

CHUNK_BYTES_MAX = 256 * 1024
"""How much is read at once, unless a caller says otherwise."""

FOLLOW_DELAY_MIN_S = 0.01
FOLLOW_DELAY_MAX_S = 0.25
"""Between two looks at a file: short after output, doubling while there is none."""

_LINE_BYTES_MAX = 64 * 1024
"""How far a line is looked for that a hole cut in two."""


_DROPPED = "[fray] {} bytes of output were dropped here to bound this log"


@dataclass(frozen=True, slots=True)
class LogChunk:
    """A piece of a log.

    Attributes:
        data: The bytes; where some are missing, with a line of their own in place of them.
        next_offset: Where to go on reading.
        eof: Whether this was all that is written so far.
        dropped_bytes: How many bytes between the asked offset and `next_offset` are missing.
    """

    data: bytes
    next_offset: int
    eof: bool
    dropped_bytes: int = 0


def read_log(path: Path, offset: int = 0, max_bytes: int = CHUNK_BYTES_MAX) -> LogChunk:
    """Reads a piece of a log.

    Args:
        path: The file. One that does not exist is empty.
        offset: Where to begin, at least 0: a `LogChunk.next_offset`, or 0.
        max_bytes: The most to read, at least 1; `LogChunk.data` may be longer by one line about
            missing bytes.

    Raises:
        OSError: The file cannot be read.
        ValueError: A bound is broken.
    """
    if offset < 0 or max_bytes < 1:
        raise ValueError(f"cannot read {max_bytes} bytes from offset {offset}")
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return LogChunk(b"", offset, eof=True)
    try:
        extent = _read_extent(fd, offset, max_bytes)
        if not extent.data:
            return LogChunk(b"", offset, eof=True)
        starts_line = offset == 0 or os.pread(fd, 1, offset - 1) == b"\n"
        data, dropped = bridged(extent, offset, starts_line=starts_line)
        return LogChunk(data, extent.end, extent.end >= os.fstat(fd).st_size, dropped)
    finally:
        os.close(fd)


@dataclass(frozen=True, slots=True)
class Extent:
    """Bytes of a log as they were written, without anything in place of what is missing.

    Attributes:
        start: The offset of the first one; behind the asked one where that is missing.
        data: The bytes; none at the end of what was written so far.
    """

    start: int
    data: bytes

    @property
    def end(self) -> int:
        """The offset behind the last one."""
        return self.start + len(self.data)


def read_extent(path: Path, offset: int, max_bytes: int) -> Extent:
    """Reads what is left of a log from an offset on, up to where bytes are missing.

    Args:
        path: The file. One that does not exist is empty.
        offset: Where to begin, at least 0.
        max_bytes: The most to read, at least 1.

    Raises:
        OSError: The file cannot be read.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return Extent(offset, b"")
    try:
        return _read_extent(fd, offset, max_bytes)
    finally:
        os.close(fd)


def _read_extent(fd: int, offset: int, max_bytes: int) -> Extent:
    if offset >= os.fstat(fd).st_size:
        return Extent(offset, b"")
    while True:
        start = _seek(fd, offset, os.SEEK_DATA)
        end = min(_seek(fd, start, os.SEEK_HOLE), start + max_bytes)
        data = os.pread(fd, end - start, start)
        # What was freed during the read came as zeros, so look again whether it is still there.
        if _seek(fd, start, os.SEEK_DATA) == start and _seek(fd, start, os.SEEK_HOLE) >= end:
            return Extent(start, data)


def bridged(extent: Extent, offset: int, *, starts_line: bool) -> tuple[bytes, int]:
    """What is told to a reader: where bytes are missing, a line of its own says how many.

    Args:
        extent: What was read.
        offset: From where on it was asked for.
        starts_line: Whether a line begins there.

    Returns:
        The bytes for the reader, and how many are missing.
    """
    if extent.start == offset:
        return extent.data, 0
    # The first line behind a hole lacks its beginning: it goes too.
    partial = extent.data.find(b"\n", 0, _LINE_BYTES_MAX) + 1
    dropped = extent.start - offset + partial
    marker = f"{_DROPPED.format(dropped)}\n".encode()
    return (b"" if starts_line else b"\n") + marker + extent.data[partial:], dropped


def dropped_bytes_of(line: str) -> int:
    """How many bytes are missing where a line of a log stands; 0 for a line that was written.

    Args:
        line: Without its end. A program may print the same: it is good for reports only.
    """
    before, after = _DROPPED.split("{}")
    number = line.removeprefix(before).removesuffix(after)
    return int(number) if line == _DROPPED.format(number) and number.isdecimal() else 0


def _seek(fd: int, offset: int, whence: int) -> int:
    """The next data or hole; a file's end is a hole."""
    try:
        return os.lseek(fd, offset, whence)
    except OSError as error:
        if error.errno == errno.EINVAL and whence == os.SEEK_DATA:
            return offset  # the file system knows no holes: all is data
        if error.errno in (errno.EINVAL, errno.ENXIO):
            return os.fstat(fd).st_size
        raise


async def follow(
    path: Path,
    *,
    clock: Clock,
    ended: Callable[[], bool],
    offset: int = 0,
    max_bytes: int = CHUNK_BYTES_MAX,
) -> AsyncIterator[LogChunk]:
    """Reads a log as it grows, until its writers have ended and all is read.

    The writer is another process that tells nobody, so the file is looked at again and again, after
    10 ms to 250 ms. Nothing that was written before `ended` turned true is missed.

    Args:
        path: The file; it need not exist yet.
        clock: For the waits.
        ended: Whether nothing more can be written.
        offset: Where to begin.
        max_bytes: See `read_log`.

    Yields:
        Chunks that are not empty.

    Raises:
        OSError: The file cannot be read.
    """
    delay_s = FOLLOW_DELAY_MIN_S
    while True:
        last = ended()  # asked before the read: what came before the end is in the file
        chunk = read_log(path, offset, max_bytes)
        if chunk.next_offset > offset:
            offset = chunk.next_offset
            delay_s = FOLLOW_DELAY_MIN_S
            yield chunk
        elif last:
            return
        else:
            await clock.sleep(delay_s)
            delay_s = min(2 * delay_s, FOLLOW_DELAY_MAX_S)


class LogWriter:
    """Appends to a log from inside this process, and bounds it. Safe from any thread.

    For jobs that run in threads; a process writes into its log itself.

    Args:
        path: The file; it and its directory are created, with mode 0600 and 0700.
        bytes_max: Disk space for it, at least `LogTrimmer.BYTES_MIN`.

    Raises:
        OSError: The file cannot be opened.
    """

    def __init__(self, path: Path, bytes_max: int = LOG_BYTES_MAX) -> None:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.path = path
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._trimmer = LogTrimmer(self._fd, bytes_max)
        self._trim_after_bytes = bytes_max // 8
        self._unchecked_bytes = 0
        self._lock = threading.Lock()

    def append(self, data: bytes) -> None:
        """Writes all of it, in one piece among other threads. Nothing once it is closed.

        A job's thread that was abandoned may write long after its log was closed; that is no error.

        Args:
            data: What to write.

        Raises:
            OSError: The disk is full, or broken.
        """
        with self._lock:
            if self._fd < 0:
                return
            view = memoryview(data)
            while view:
                view = view[os.write(self._fd, view) :]
            self._unchecked_bytes += len(data)
            if self._unchecked_bytes >= self._trim_after_bytes:
                self._unchecked_bytes = 0
                self._trimmer.trim()

    def fileno(self) -> int:
        """The file's descriptor, for a child process's output.

        Raises:
            ValueError: It is closed.
        """
        if self._fd < 0:
            raise ValueError(f"the log {self.path} is closed")
        return self._fd

    def close(self) -> None:
        """Writes no more. May be called again."""
        with self._lock:
            if self._fd >= 0:
                self._trimmer.trim()
                os.close(self._fd)
                self._fd = -1


__all__ = [
    "CHUNK_BYTES_MAX",
    "FOLLOW_DELAY_MAX_S",
    "FOLLOW_DELAY_MIN_S",
    "Extent",
    "LogChunk",
    "LogWriter",
    "bridged",
    "dropped_bytes_of",
    "follow",
    "read_extent",
    "read_log",
]
