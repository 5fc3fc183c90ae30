"""Runs one program to its end, within a deadline, and ends everything that it leaves behind.

Peers start trees of processes, some of which detach themselves. This process adopts orphans (it is
a "child subreaper"), so all that was started below it stays findable, and is ended by its id.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

_PR_SET_CHILD_SUBREAPER = 36
_GRACE_S = 3.0
_POLL_S = 0.05


class RunError(Exception):
    """A program did not do its work; the message ends with what it printed last."""


def adopt_orphans() -> None:
    """Make this process the parent of every descendant that loses its own (Linux only)."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "cannot adopt orphaned processes")


def run(
    command: Sequence[str | Path],
    *,
    deadline_s: float,
    folder: Path,
    environment: Mapping[str, str] | None = None,
) -> str:
    """Run `command` and return what it wrote to standard output.

    Whatever the outcome, an interrupt included, nothing that it started is alive afterwards.

    Args:
        command: Program and arguments.
        deadline_s: Wall-clock time that it may take.
        folder: Its working folder.
        environment: Its whole environment; this process's own if not given.

    Raises:
        RunError: It exited with an error or was still running at the deadline.
    """
    title = " ".join(str(part) for part in command)
    # Files rather than pipes: a grandchild that is left over would keep a pipe's reader waiting.
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        try:
            started = subprocess.Popen(
                command,
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=errors,
            )
            status = started.wait(deadline_s)
        except subprocess.TimeoutExpired:
            raise RunError(
                f"{title}: still running after {deadline_s:g} s\n{_tail(errors)}"
            ) from None
        finally:
            end_descendants()
        if status != 0:
            raise RunError(f"{title}: exit status {status}\n{_tail(errors)}")
        output.seek(0)
        return output.read().decode(errors="replace")


def _tail(stream: IO[bytes], lines: int = 25) -> str:
    stream.seek(0)
    return "\n".join(stream.read().decode(errors="replace").splitlines()[-lines:])


def end_descendants() -> None:
    """End every process below this one: asked first, then killed; and reap them."""
    deadline = time.monotonic() + _GRACE_S
    asked: set[int] = set()
    while pids := descendants():
        force = time.monotonic() > deadline
        for pid in pids:
            if force or pid not in asked:
                _signal(pid, signal.SIGKILL if force else signal.SIGTERM)
                asked.add(pid)
        _reap()
        time.sleep(_POLL_S)
    _reap()


def descendants() -> list[int]:
    """The living processes below this one, zombies left out, parents before children."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                stat = Path("/proc", entry, "stat").read_bytes()
            except OSError:  # it ended while we looked
                continue
            state, parent = stat.rpartition(b")")[2].split()[:2]
            if state not in (b"Z", b"X"):
                children.setdefault(int(parent), []).append(int(entry))
    found: list[int] = []
    level = [os.getpid()]
    while level:
        level = [child for pid in level for child in children.get(pid, ())]
        found += level
    return found


def _signal(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return  # it ended by itself in between, which is all that was wanted


def _reap() -> None:
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return  # no children are left
