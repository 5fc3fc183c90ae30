"""Processes as ``/proc`` shows them: who they are, whose they are, and signalling the right one.

A pid alone is no identity, for it is used again. Here a process is (pid, start time), and no signal
is sent to anything else: the process is pinned by a pidfd first, compared, then signalled.
Standard library only (see the package).
"""

from __future__ import annotations

import os
import signal
import time

CLOCK_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class ProcessStat:
    """What ``/proc/<pid>/stat`` says; see proc(5).

    Attributes:
        pid: The process.
        state: One letter: R, S, D, Z, T, ...
        ppid: Its parent.
        start_time: When it began, in clock ticks since boot: with the pid, its identity.
        cpu_ticks: What it used itself, user and system.
        reaped_cpu_ticks: What its ended and awaited-for children had used.
        resident_pages: Its resident set, shared pages included.
    """

    __slots__ = (
        "cpu_ticks",
        "pid",
        "ppid",
        "reaped_cpu_ticks",
        "resident_pages",
        "start_time",
        "state",
    )

    def __init__(self, raw: bytes) -> None:
        # The command's name is in parentheses and may itself hold spaces and parentheses.
        fields = raw[raw.rindex(b")") + 2 :].split()
        self.pid = int(raw[: raw.index(b" ")])
        self.state = fields[0].decode("ascii")
        self.ppid = int(fields[1])
        self.cpu_ticks = int(fields[11]) + int(fields[12])
        self.reaped_cpu_ticks = int(fields[13]) + int(fields[14])
        self.start_time = int(fields[19])
        self.resident_pages = int(fields[21])

    @property
    def ended(self) -> bool:
        """Whether it is a zombie: it runs no more and holds nothing but its pid."""
        return self.state in ("Z", "X")


def boot_id() -> str:
    """The kernel's name for this boot of the host: pids and start times mean nothing beyond it."""
    return read_text("/proc/sys/kernel/random/boot_id").strip()


def read_stat(pid: int) -> ProcessStat | None:
    """Looks at one process.

    Args:
        pid: Which.

    Returns:
        None where there is none.
    """
    raw = _read(f"/proc/{pid}/stat")
    return ProcessStat(raw) if raw else None


def read_io(pid: int) -> tuple[int, int]:
    """What a process has read from and written to disks, in bytes; nothing where it is not told.

    Args:
        pid: Which.
    """
    read = written = 0
    for line in _read(f"/proc/{pid}/io").splitlines():
        name, _, value = line.partition(b": ")
        if name == b"read_bytes":
            read = int(value)
        elif name == b"write_bytes":
            written = int(value)
    return read, written


def read_text(path: str) -> str:
    """Reads a file that the kernel makes up.

    Args:
        path: In /proc or /sys.

    Returns:
        Empty where there is no such file, or it may not be read.
    """
    return _read(path).decode("utf-8", "surrogateescape")


def _read(path: str) -> bytes:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        parts: list[bytes] = []
        while part := os.read(fd, 65536):
            parts.append(part)
        return b"".join(parts)
    except OSError:  # ESRCH: it ended between the open and the read
        return b""
    finally:
        os.close(fd)


def all_processes() -> list[ProcessStat]:
    """Everything that runs, in order of pid. About 15 µs per process of the host."""
    pids = sorted(int(name) for name in os.listdir("/proc") if name.isdigit())
    stats = (read_stat(pid) for pid in pids)
    return [stat for stat in stats if stat is not None]


def descendants(ancestor: int) -> list[ProcessStat]:
    """All that descends from a process, zombies included, parents before children.

    With a subreaper as the ancestor that is the whole tree, whatever detached itself.

    Args:
        ancestor: Its pid; not part of the answer.
    """
    children: dict[int, list[ProcessStat]] = {}
    for stat in all_processes():
        children.setdefault(stat.ppid, []).append(stat)
    found: list[ProcessStat] = []
    queue = [ancestor]
    for pid in queue:
        for child in children.pop(pid, ()):
            found.append(child)
            queue.append(child.pid)
    return found


def marked(markers: list[str]) -> list[ProcessStat]:
    """Every living process that began with all of some environment variables.

    It also finds processes that were forked and not yet replaced, for these still have their
    parent's environment. It does not see processes of other users, unless asked by root.

    Args:
        markers: ``NAME=value`` strings.
    """
    wanted = [marker.encode() for marker in markers]
    found: list[ProcessStat] = []
    for stat in all_processes():
        if not stat.ended:
            variables = _read(f"/proc/{stat.pid}/environ").split(b"\0")
            if all(marker in variables for marker in wanted):
                found.append(stat)
    return found


def send_signal(stat: ProcessStat, signal_number: int) -> bool:
    """Signals exactly this process, never a later one that has its pid.

    Args:
        stat: Which, as seen before.
        signal_number: What to send.

    Returns:
        Whether it was sent: False where the process is gone, or is not ours to signal.
    """
    try:
        pidfd = os.pidfd_open(stat.pid)
    except ProcessLookupError:
        return False
    except OSError:  # no pidfd before Linux 5.3 or in some sandboxes: compare, then signal
        return _send_unpinned(stat, signal_number)
    try:
        now = read_stat(stat.pid)
        if now is None or now.start_time != stat.start_time:
            return False
        signal.pidfd_send_signal(pidfd, signal_number)
    except (ProcessLookupError, PermissionError):
        return False
    finally:
        os.close(pidfd)
    return True


def _send_unpinned(stat: ProcessStat, signal_number: int) -> bool:
    now = read_stat(stat.pid)
    if now is None or now.start_time != stat.start_time:
        return False
    try:
        os.kill(stat.pid, signal_number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def sweep(
    markers: list[str], pid: int, start_time: int, extra_pids: list[int], timeout_s: float
) -> list[int]:
    """Kills what is left of an attempt whose supervisor is gone. Blocks.

    Args:
        markers: Environment variables that only this attempt's processes have.
        pid: The attempt's main process.
        start_time: Its start time.
        extra_pids: More processes that are known to belong to it (its memory group's).
        timeout_s: How long to try.

    Returns:
        The pids of those that would not end.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        left = {stat.pid: stat for stat in marked(markers)}
        for candidate in (pid, *extra_pids):
            stat = read_stat(candidate)
            if stat is None or stat.ended or (candidate == pid and stat.start_time != start_time):
                continue
            left[candidate] = stat
        for stat in left.values():
            send_signal(stat, signal.SIGKILL)
        if not left or time.monotonic() >= deadline:
            return sorted(left)
        time.sleep(0.005)
