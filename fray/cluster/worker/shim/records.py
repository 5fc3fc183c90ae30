"""The files of a run directory: all that a supervisor and an agent say to each other.

An agent may die and another come at any time, so nothing is said over a connection::

    attempt.json   written by the supervisor before the task's program begins: who is who
    exit.json      written by the supervisor once nothing of the attempt is left
    control        FIFO; an agent writes "stop <grace_s>" into it
    life           FIFO; the supervisor holds its writing end and agents its reading end, so that
                   the kernel tells each side at once, and without any pid, that the other is gone
    shim.err       the traceback of a supervisor that failed
    environ        written by the agent: the task's variables, for programs that are started inside
                   it later; gone before its end is told

Files appear whole (written aside, then renamed). They are not synced to the disk: a host that
loses power loses its processes too, and the boot id tells.

Standard library only (see the package).
"""

from __future__ import annotations

import json
import os

ATTEMPT = "attempt.json"
EXIT = "exit.json"
CONTROL = "control"
LIFE = "life"
ERRORS = "shim.err"
ENVIRON = "environ"

VERSION = 1
"""Of the records. An agent reads those of older versions; a higher one is an error."""

MARKER_ATTEMPT = "FRAY_ATTEMPT_ID"
MARKER_RUN_DIR = "FRAY_RUN_DIR"
"""Variables in the environment of every process of an attempt, by which an agent finds what a
killed supervisor left behind. The run directory makes them unique among all agents of a host."""

Record = dict[str, object]


_BLOCK_BYTES = 4096


def write(directory: str, name: str, record: Record) -> None:
    """Writes a record so that a reader sees all of it or none.

    Args:
        directory: The run directory.
        name: `ATTEMPT` or `EXIT`.
        record: JSON.

    Raises:
        OSError: The disk is full, where `reserve` was not called, or broken.
    """
    path = os.path.join(directory, name)
    data = json.dumps({"version": VERSION, **record}).encode()
    _fill(f"{path}.tmp", data)
    os.rename(f"{path}.tmp", path)


def reserve(directory: str, name: str) -> None:
    """Takes the disk space for a record that is written later, perhaps onto a full disk.

    Args:
        directory: The run directory.
        name: `EXIT`.

    Raises:
        OSError: The disk is full, or broken.
    """
    _fill(os.path.join(directory, f"{name}.tmp"), b"")


def write_lease(path: str, heard_at: float) -> None:
    """Writes when the host's controller was last heard (`fray.cluster.worker.lease`).

    Args:
        path: The file.
        heard_at: On the host's monotonic clock.

    Raises:
        OSError: It cannot be written.
    """
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, b"%31.6f\n" % heard_at)  # always as long: no reader sees half of it
    finally:
        os.close(fd)


def read_lease(path: str) -> float | None:
    """When the host's controller was last heard; None where that cannot be told.

    Args:
        path: The file.
    """
    try:
        with open(path, "rb") as file:
            return float(file.read())
    except (OSError, ValueError):
        return None


def _fill(path: str, data: bytes) -> None:
    """Writes whole blocks over what is there; blank space is no part of JSON."""
    blocks = len(data) // _BLOCK_BYTES + 1
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, data.ljust(blocks * _BLOCK_BYTES))
    finally:
        os.close(fd)
