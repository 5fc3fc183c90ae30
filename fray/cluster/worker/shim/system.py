"""Two Linux system calls that the standard library lacks: ``prctl`` and ``fallocate``.

This room knows nothing of tasks. Standard library only (see the package).
"""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import time

_libc = ctypes.CDLL(None, use_errno=True)

_PR_SET_PDEATHSIG = 1
_PR_SET_NAME = 15
_PR_SET_CHILD_SUBREAPER = 36
_FALLOC_FL_KEEP_SIZE = 1
_FALLOC_FL_PUNCH_HOLE = 2

BRIEFLY_S = 30.0
"""For what is run once an attempt has ended."""

HOLE_ALIGN_BYTES = 64 * 1024
"""Holes begin and end at multiples of this, a multiple of every usual block size: a file system
frees whole blocks, and tells the edges of a hole (``SEEK_DATA``) only in whole blocks."""


def _prctl(option: int, argument: int) -> None:
    if _libc.prctl(option, ctypes.c_ulong(argument), 0, 0, 0) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def become_subreaper() -> None:
    """Makes this process the new parent of every orphan among its descendants.

    A daemon that detached itself (``setsid``, double fork) is found as a child, whatever it did to
    its session or environment. See prctl(2), PR_SET_CHILD_SUBREAPER; Linux 3.4.

    Raises:
        OSError: The kernel refused.
    """
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def die_with_parent(signal_number: int) -> None:
    """Asks for a signal when the thread that forked this process ends.

    Survives ``execve`` of an ordinary program, not a change of user: call it after that. See
    prctl(2), PR_SET_PDEATHSIG.

    Args:
        signal_number: Which signal.

    Raises:
        OSError: The kernel refused.
    """
    _prctl(_PR_SET_PDEATHSIG, signal_number)


def run_briefly(argv: list[str], environment: dict[str, str], output: int) -> None:
    """Runs a program to its end, or kills it after a while.

    Args:
        argv: Its command line; the program's path comes first.
        environment: All its variables.
        output: The descriptor for what it prints.

    Raises:
        OSError: It cannot be started.
        TimeoutError: It took too long.
    """
    files = [(os.POSIX_SPAWN_DUP2, output, 1), (os.POSIX_SPAWN_DUP2, output, 2)]
    pid = os.posix_spawn(argv[0], argv, environment, file_actions=files)
    deadline = time.monotonic() + BRIEFLY_S
    while os.waitpid(pid, os.WNOHANG)[0] == 0:
        if time.monotonic() > deadline:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            raise TimeoutError(errno.ETIMEDOUT, f"it took more than {BRIEFLY_S:g} s", argv[0])
        time.sleep(0.01)


def set_process_name(name: str) -> None:
    """Sets what ``ps`` and ``top`` show as this process's command.

    Args:
        name: The kernel keeps its first 15 bytes.
    """
    buffer = ctypes.create_string_buffer(name.encode()[:15])
    _libc.prctl(_PR_SET_NAME, buffer, 0, 0, 0)


def punch_hole(fd: int, start: int, end: int) -> bool:
    """Frees the disk blocks of a range of a file; its size and all offsets stay as they are.

    Args:
        fd: Open for writing.
        start: First byte, a multiple of `HOLE_ALIGN_BYTES`.
        end: First byte behind, a multiple of `HOLE_ALIGN_BYTES`.

    Returns:
        False where the file system cannot do it (NFS before 4.2, FUSE without it).

    Raises:
        OSError: Anything else.
    """
    assert start % HOLE_ALIGN_BYTES == 0
    assert end % HOLE_ALIGN_BYTES == 0
    mode = _FALLOC_FL_PUNCH_HOLE | _FALLOC_FL_KEEP_SIZE
    result = _libc.fallocate(
        ctypes.c_int(fd), ctypes.c_int(mode), ctypes.c_int64(start), ctypes.c_int64(end - start)
    )
    if result == 0:
        return True
    code = ctypes.get_errno()
    if code in (errno.EOPNOTSUPP, errno.ENOSYS):
        return False
    raise OSError(code, os.strerror(code))


class LogTrimmer:
    """Bounds a file that other processes append to, by freeing its middle.

    The head says how a run began and the tail how it ended, so both stay. A quarter of the bound is
    kept for the head, half for the tail, and the last quarter is slack, so that a hole is made once
    per quarter written and not at every look. Nothing is copied or moved, the writer notices
    nothing, no byte is lost unseen, and every byte keeps its offset for ever; readers recognise the
    hole by ``SEEK_DATA``.

    What it costs: ``ls`` shows the size of all that was ever written (``du`` shows the truth), a
    copy by a tool that does not know holes is full of zeros, and between two looks the file may
    outgrow the bound by what is written meanwhile.

    Args:
        fd: The file, open for writing. Stays the caller's.
        bytes_max: How much may stay on disk, at least `BYTES_MIN`.
    """

    BYTES_MIN = 4 * HOLE_ALIGN_BYTES

    def __init__(self, fd: int, bytes_max: int) -> None:
        if bytes_max < self.BYTES_MIN:
            raise ValueError(f"a log cannot be bounded to less than {self.BYTES_MIN} bytes")
        quarter = bytes_max // 4 // HOLE_ALIGN_BYTES * HOLE_ALIGN_BYTES
        self._fd = fd
        self._head = quarter
        self._tail = 2 * quarter
        self._slack = quarter
        self._freed_to = quarter
        self.supported = True

    def trim(self) -> bool:
        """Looks at the file's size and frees what is too much.

        Returns:
            Whether a hole was made. `supported` turns false for ever where none can be.
        """
        if not self.supported:
            return False
        size = os.fstat(self._fd).st_size
        if size < self._freed_to:  # a program may truncate its own log: "> /dev/stderr" does
            self._freed_to = self._head
        if size - self._freed_to <= self._tail + self._slack:
            return False
        end = (size - self._tail) // HOLE_ALIGN_BYTES * HOLE_ALIGN_BYTES
        self.supported = punch_hole(self._fd, self._freed_to, end)
        if self.supported:
            self._freed_to = end
        return self.supported
