"""The parent of one attempt: starts it, reaps it, stops it, writes down how it ended.

A life goes through these phases, and never back::

    RUNNING    the task runs
    STOPPING   told to stop (or the task's main process has ended and others are left):
               SIGTERM was sent, the grace runs
    KILLING    SIGKILL goes to whatever is left, again and again
    done       nothing is left (or what is left cannot be killed): exit.json is written

The supervisor is a subreaper, so its descendants *are* the attempt, also those that detached
themselves; it alone reaps them, so the pid of a child is never another's while it looks. If it is
itself killed, the kernel kills the task's main process, and the agent sweeps up the rest: a
task whose end nobody could tell would have to be run again anyway, and must not run twice.

It polls nothing but once a second the log's size, the host's count of memory kills and its lease.

Standard library only (see the package).
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import select
import signal
import socket
import time
import traceback
from typing import Any, NoReturn

from . import cgroups, procfs, records, spawn
from .system import LogTrimmer, become_subreaper, run_briefly, set_process_name

TICK_S = 1.0
"""How often the log's size, the host's memory kills and lease, and its agent are looked at."""

LEFTOVER_GRACE_S = 1.0
"""What processes that outlive their task's main process get between SIGTERM and SIGKILL, unless
the attempt's own grace is shorter."""

OWNER_GONE_GRACE_S = 1.0
"""What an attempt gets between SIGTERM and SIGKILL that ends with the process it belongs to."""

_RUNNING, _STOPPING, _KILLING = range(3)
_NEVER = float("inf")


def supervise(fd: int, begin: spawn.Begin | None = None) -> NoReturn:
    """Runs one attempt, in a process forked for it. Ends the process.

    Args:
        fd: The connection to the agent. A launch request comes in, one line goes out: the attempt's
            record, or an error. It is closed then.
        begin: See `zygote.main`.
    """
    code = 1
    directory = ""
    try:
        connection = socket.socket(fileno=fd)
        request = _receive(connection)
        directory = request["run_dir"]
        os.setsid()
        os.chdir("/")
        set_process_name("fray-supervisor")
        try:
            supervisor = Supervisor(request, connection, begin)
        except OSError as error:
            reply = {"errno": error.errno, "message": error.strerror, "file": error.filename}
            _send(connection, {"error": reply})
        else:
            _send(connection, {"attempt": supervisor.record})
            connection.close()
            supervisor.run()
        code = 0
    except BaseException:
        if directory:
            with open(os.path.join(directory, records.ERRORS), "a", encoding="utf-8") as file:
                traceback.print_exc(file=file)
    finally:
        os._exit(code)  # never back into the zygote's loop, of which this is a copy


def _receive(connection: socket.socket) -> dict[str, Any]:
    with connection.makefile("rb") as stream:
        line = stream.readline()
    if not line.endswith(b"\n"):
        os._exit(0)  # the agent died before it had asked for anything
    return json.loads(line)


def _send(connection: socket.socket, reply: dict[str, Any]) -> None:
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the agent died meanwhile
        connection.sendall(json.dumps(reply).encode() + b"\n")


class Supervisor:
    """One attempt.

    Args:
        request: What an agent asks for; see `fray.cluster.worker.subprocesses`.
        connection: To that agent.
        begin: See `zygote.main`.

    Raises:
        OSError: The task cannot be started; nothing is left behind but the run directory.
    """

    def __init__(
        self,
        request: dict[str, Any],
        connection: socket.socket,
        begin: spawn.Begin | None = None,
    ) -> None:
        self._begin = begin
        self._directory: str = request["run_dir"]
        self._grace_s: float = request["stop_grace_s"]
        self._kill_timeout_s: float = request["kill_timeout_s"]
        self._orphan_timeout_s: float | None = request["orphan_timeout_s"]
        self._phase = _RUNNING
        self._deadline = _NEVER
        self._stop_reason: str | None = None
        self._status: int | None = None
        self._killed_by_us = False
        self._leftovers_told = False
        self._orphan_since: float | None = None
        self._lease_path: str | None = request["lease_path"]
        self._lease_s: float = request["lease_s"]
        self._cleanup_argv: list[str] = request["cleanup_argv"]
        self._env: dict[str, str] = request["env"]
        self._owner: tuple[int, int] | None = request["owner"]
        self._heard_at = time.monotonic()
        self._told_unbounded = False
        self._group: cgroups.Group | None = None
        become_subreaper()
        self._wake = _signal_pipe()
        self._control = self._open_fifo(records.CONTROL, os.O_RDWR)
        self._life = self._open_fifo(records.LIFE, os.O_WRONLY)
        log_flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        self._log = os.open(request["log_path"], log_flags, 0o600)
        self._trimmer = LogTrimmer(self._log, request["log_bytes_max"])
        beside = request["own_group"]
        self._beside = None if beside is None else cgroups.Group(*beside)
        self._oom_counts = [cgroups.oom_kills(self._beside)] * 2
        self._oom_counted_at = time.monotonic()
        records.reserve(self._directory, records.EXIT)
        try:
            self._group = _make_group(request)
            self._start(request, connection)
        except BaseException:
            if self._group is not None:
                self._group.remove()
            raise

    def _open_fifo(self, name: str, mode: int) -> int:
        path = os.path.join(self._directory, name)
        os.mkfifo(path, 0o600)
        # Opening for writing alone fails while nobody reads, so both ends are opened first.
        both = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        if mode == os.O_RDWR:
            return both
        fd = os.open(path, mode | os.O_NONBLOCK | os.O_CLOEXEC)
        os.close(both)
        return fd

    def _start(self, request: dict[str, Any], connection: socket.socket) -> None:
        """Forks the task, writes who it is, and only then lets its program begin."""
        child = spawn.Newborn(request, self._group, self._log, self._begin)
        self._pid = child.pid
        self.record: records.Record = {
            "attempt_id": request["attempt_id"],
            "boot_id": procfs.boot_id(),
            "pid": self._pid,
            "start_time": _start_time(self._pid),
            "supervisor_pid": os.getpid(),
            "supervisor_start_time": _start_time(os.getpid()),
            "started_at": request["started_at"],
            "stop_grace_s": self._grace_s,
            "kill_timeout_s": self._kill_timeout_s,
            "memory_limit_bytes": request["memory_limit_bytes"] if self._group else None,
            "cleanup_argv": self._cleanup_argv,
            "group": [self._group.path, self._group.version] if self._group else None,
        }
        try:
            records.write(self._directory, records.ATTEMPT, self.record)
            # Whoever adopts this directory sees the record from here on. If the agent died before,
            # its successor may have looked too early, so the program must not begin.
            if select.select([connection], [], [], 0)[0]:
                raise ConnectionAbortedError(errno.ECONNABORTED, "the agent is gone")
            if request["start_by"] is not None and time.monotonic() > request["start_by"]:
                raise OSError(errno.ESTALE, "it would begin after the host's lease")
            child.release()
        except BaseException:
            child.abandon()
            os.waitpid(self._pid, 0)
            self._stop_reason = "never started"
            self._write_exit([])
            raise

    def run(self) -> None:
        """Stays until nothing is left of the attempt, and writes how it ended."""
        poller = select.poll()
        poller.register(self._wake, select.POLLIN)
        poller.register(self._control, select.POLLIN)
        next_tick = 0.0
        while True:
            any_left = self._reap()
            now = time.monotonic()
            if now >= next_tick:
                next_tick = now + TICK_S
                self._tick(now)
            survivors = self._advance(now, any_left)
            if survivors is not None:
                break
            pause_s = min(next_tick, self._deadline) - now
            if self._phase == _KILLING:
                pause_s = min(pause_s, 0.02)  # what was forked meanwhile is killed in the next turn
            for fd, _event in poller.poll(max(0.0, pause_s) * 1000 + 1):
                data = os.read(fd, 4096)
                if fd == self._control:
                    self._obey(data)
                elif signal.SIGTERM in data:
                    self._stop("terminated", self._grace_s)
        self._trim()
        self._finish(survivors)

    def _reap(self) -> bool:
        """Takes the status of all that has ended. Returns whether anything is left."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if pid == 0:
                return True
            if pid == self._pid:
                self._status = status

    def _advance(self, now: float, any_left: bool) -> list[int] | None:
        """Moves to the phase that is due. Returns what survives, once all is over."""
        if not any_left:
            return []
        if self._status is not None and not self._leftovers_told and self._phase != _KILLING:
            self._leftovers_told = True
            self._phase = _STOPPING
            self._deadline = min(self._deadline, now + min(LEFTOVER_GRACE_S, self._grace_s))
            self._signal_all(signal.SIGTERM)
        if self._phase == _STOPPING and now >= self._deadline:
            self._phase = _KILLING
            self._deadline = now + self._kill_timeout_s
        if self._phase == _KILLING:
            self._killed_by_us = self._killed_by_us or self._status is None
            self._signal_all(signal.SIGKILL)
            if now >= self._deadline:
                return [stat.pid for stat in procfs.descendants(os.getpid())]
        return None

    def _signal_all(self, number: int) -> None:
        for stat in procfs.descendants(os.getpid()):
            if not stat.ended:
                procfs.send_signal(stat, number)

    def _obey(self, data: bytes) -> None:
        for line in data.splitlines():
            verb, _, argument = line.partition(b" ")
            if verb == b"stop":
                self._stop("requested", float(argument))

    def _stop(self, reason: str, grace_s: float) -> None:
        """Begins to stop, or hastens it: the earliest deadline of all requests holds."""
        if self._phase == _KILLING:
            return
        self._deadline = min(self._deadline, time.monotonic() + grace_s)
        if self._phase == _RUNNING:
            self._phase = _STOPPING
            self._stop_reason = reason
            if grace_s > 0:
                self._terminate_group()

    def _terminate_group(self) -> None:
        # The leader is not reaped yet, so its pid, and its group's, is nobody else's. What was
        # halted by SIGSTOP has to run on to see SIGTERM.
        with contextlib.suppress(PermissionError):  # all of it became another user's (setuid)
            for number in (signal.SIGTERM, signal.SIGCONT):
                os.killpg(self._pid, number)

    def _tick(self, now: float) -> None:
        self._trim()
        if self._status is None and now - self._oom_counted_at >= 5 * TICK_S:
            # A killed process takes a while to die, so what counts is not the last look's number
            # but that of the look before.
            self._oom_counted_at = now
            self._oom_counts = [self._oom_counts[1], cgroups.oom_kills(self._beside)]
        self._look_for_owner()
        self._look_for_agent(now)
        self._look_at_lease(now)

    def _trim(self) -> None:
        with contextlib.suppress(OSError):  # a full or broken disk is no reason to end the task
            self._trimmer.trim()
            if not self._trimmer.supported and not self._told_unbounded:
                self._told_unbounded = True
                os.write(self._log, _UNBOUNDED)

    def _look_for_owner(self) -> None:
        """An embedded cluster is one process: nobody will ever ask for what it leaves behind."""
        if self._owner is None:
            return
        pid, start_time = self._owner
        stat = procfs.read_stat(pid)
        if stat is None or stat.ended or stat.start_time != start_time:
            self._stop("orphaned", min(OWNER_GONE_GRACE_S, self._grace_s))

    def _look_for_agent(self, now: float) -> None:
        if self._orphan_timeout_s is None:
            return
        poller = select.poll()
        poller.register(self._life, 0)  # an error on the writing end: nobody reads
        if not poller.poll(0):
            self._orphan_since = None
        elif self._orphan_since is None:
            self._orphan_since = now
        elif now - self._orphan_since >= self._orphan_timeout_s:
            self._stop("orphaned", self._grace_s)

    def _look_at_lease(self, now: float) -> None:
        """At its end the task may be given to another host: here it must not run any more."""
        if self._lease_path is None:
            return
        heard_at = records.read_lease(self._lease_path)
        if heard_at is not None and heard_at <= now:
            self._heard_at = max(self._heard_at, heard_at)
        left_s = self._heard_at + self._lease_s - now
        if left_s < 0:  # the grace counts from its end: a host that was suspended may be late
            self._stop("fenced", max(left_s + self._grace_s, 0.0))

    def _finish(self, survivors: list[int]) -> None:
        self._clean_up()
        self._write_exit(survivors)
        os.close(self._life)  # now the agents know
        while self._reap():  # rare: what could not be killed is at least not left a zombie
            time.sleep(TICK_S)
        if self._group is not None:
            for _ in range(50):
                if self._group.remove():
                    return
                time.sleep(0.02)

    def _clean_up(self) -> None:
        if not self._cleanup_argv:
            return
        try:
            run_briefly(self._cleanup_argv, self._env, self._log)
        except OSError as error:  # the attempt has ended all the same
            os.write(self._log, f"[fray] cleaning up failed: {error}\n".encode())

    def _write_exit(self, survivors: list[int]) -> None:
        code = None if self._status is None else os.waitstatus_to_exitcode(self._status)
        record: records.Record = {
            "exit_code": code if code is not None and code >= 0 else None,
            "signal": -code if code is not None and code < 0 else None,
            "out_of_memory": self._out_of_memory(code),
            "stop_reason": self._stop_reason,
            "survivors": survivors,
            "ended_at": time.time(),
            "cpu_s": sum(os.times()[2:4]),  # of all that was reaped, which is the whole tree
        }
        if self._group is not None:
            self._group.remove()  # its counters are read
        records.write(self._directory, records.EXIT, record)

    def _out_of_memory(self, code: int | None) -> str | None:
        """What memory was exhausted: its own, its host's, or none as far as can be told."""
        if self._group is not None:
            if self._group.oom_kills() == 0:
                return None
            return "limit" if self._group.reached_limit() else "host"
        killed = code == -signal.SIGKILL and not self._killed_by_us
        if killed and cgroups.oom_kills(self._beside) > self._oom_counts[0]:
            return "host"
        return None


_UNBOUNDED = (
    b"[fray] this file system cannot free the middle of a file, so this log is not bounded\n"
)


def _signal_pipe() -> int:
    """A descriptor that becomes readable at SIGCHLD; SIGTERM becomes a request to stop."""
    read, write = os.pipe()
    os.set_blocking(read, False)
    os.set_blocking(write, False)
    for number in (signal.SIGCHLD, signal.SIGTERM):
        signal.signal(number, lambda _number, _frame: None)
    signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    return read


def _start_time(pid: int) -> int:
    stat = procfs.read_stat(pid)
    assert stat is not None, "a process that its parent has not reaped is there"
    return stat.start_time


def _make_group(request: dict[str, Any]) -> cgroups.Group | None:
    limit_bytes, parent = request["memory_limit_bytes"], request["group_parent"]
    if limit_bytes is None or parent is None:
        return None
    path, version = parent
    group = cgroups.Group(os.path.join(path, f"fray-{os.getpid()}"), version)
    group.remove()  # of an earlier supervisor with this pid, that was killed
    try:
        group.create(limit_bytes)
    except BaseException:
        group.remove()
        raise
    return group
