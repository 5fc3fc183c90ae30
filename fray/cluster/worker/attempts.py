"""One attempt, seen from an agent: reading what its supervisor writes, and telling it to stop.

Everything goes through the files of the run directory (`fray.cluster.worker.shim.records`), so that
an attempt of this agent and one that it adopted are the same thing.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import cattrs
import orjson

from fray.cluster.worker import exits
from fray.cluster.worker.launcher import STOP_GRACE_S, Exit, Usage
from fray.cluster.worker.shim import cgroups, procfs, records
from fray.cluster.worker.shim.system import run_briefly
from fray.errors import ClusterError
from fray.ids import AttemptId

if TYPE_CHECKING:
    from pathlib import Path


T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptRecord:
    """Who is who in an attempt: `records.ATTEMPT`, as its supervisor wrote it.

    Attributes:
        attempt_id: Which attempt.
        boot_id: The boot of the host within which the pids mean something.
        pid: Of the main process.
        start_time: Its start, in clock ticks since boot.
        supervisor_pid: Of the supervisor.
        supervisor_start_time: Its start.
        started_at: Seconds since 1970.
        memory_limit_bytes: The limit, where it is enforced.
        group: The memory group's path and cgroup version, where there is one.
        stop_grace_s: What `stop` uses unless told otherwise.
        kill_timeout_s: How long its supervisor tries to kill.
        cleanup_argv: What is run once it has ended.
    """

    attempt_id: str
    boot_id: str
    pid: int
    start_time: int
    supervisor_pid: int
    supervisor_start_time: int
    started_at: float
    memory_limit_bytes: int | None = None
    group: tuple[str, int] | None = None
    stop_grace_s: float = STOP_GRACE_S
    kill_timeout_s: float = 30.0
    cleanup_argv: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ExitRecord:
    """How an attempt ended: `records.EXIT`, as its supervisor wrote it.

    Attributes:
        exit_code: Of the main process, where it exited.
        signal: What ended the main process, where a signal did.
        out_of_memory: See `exits.OutOfMemory`.
        stop_reason: See `exits.StopReason`.
        survivors: The processes that could not be killed.
        ended_at: Seconds since 1970.
        cpu_s: CPU time of the whole tree.
    """

    exit_code: int | None
    signal: int | None
    out_of_memory: exits.OutOfMemory | None
    stop_reason: exits.StopReason | None
    survivors: tuple[int, ...]
    ended_at: float
    cpu_s: float


def read_attempt(run_dir: Path) -> AttemptRecord | None:
    """Reads who is who.

    Args:
        run_dir: The attempt's run directory.

    Returns:
        None where no program was ever started there.

    Raises:
        ClusterError: A newer fray wrote it, or it is damaged.
        OSError: It cannot be read.
    """
    return _read(run_dir / records.ATTEMPT, AttemptRecord)


def _read(path: Path, kind: type[T]) -> T | None:
    try:
        data = orjson.loads(path.read_bytes())
        if data["version"] <= records.VERSION:
            return cattrs.structure(data, kind)
    except FileNotFoundError:
        return None
    except (orjson.JSONDecodeError, cattrs.BaseValidationError, KeyError, TypeError) as error:
        raise ClusterError(f"{path} is damaged: {error}") from error
    raise ClusterError(f"{path} was written by a newer fray, which this one cannot read")


def order_stop(run_dir: Path, grace_s: float) -> bool:
    """Tells an attempt's supervisor to stop it; no effect where there is no supervisor any more.

    Args:
        run_dir: The attempt's run directory.
        grace_s: Between SIGTERM and SIGKILL, at least 0.

    Returns:
        Whether it can have heard: not where there is none, or where the directory is gone.
    """
    try:
        fd = os.open(run_dir / records.CONTROL, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:  # no such file, or ENXIO: nobody reads
        return False
    try:
        os.write(fd, f"stop {grace_s}\n".encode())
    finally:
        os.close(fd)
    return True


class SupervisedAttempt:
    """Implements `fray.cluster.worker.launcher.Running` for a real process.

    To be made in the thread of the event loop that it belongs to.

    Args:
        record: Who is who.
        run_dir: Its run directory.
    """

    def __init__(self, record: AttemptRecord, run_dir: Path) -> None:
        self._record = record
        self._run_dir = run_dir
        self._loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[Exit] = self._loop.create_future()
        self._life = -1
        self._watch()

    def __repr__(self) -> str:
        state = "running" if self.exit is None else f"ended: {self.exit.cause or 'success'}"
        return f"<attempt {self.attempt_id} pid {self.pid} {state}>"

    @property
    def attempt_id(self) -> AttemptId:
        """See `Running.attempt_id`."""
        return AttemptId(self._record.attempt_id)

    @property
    def run_dir(self) -> Path:
        """Its run directory."""
        return self._run_dir

    @property
    def pid(self) -> int:
        """See `Running.pid`."""
        return self._record.pid

    @property
    def started_at(self) -> float:
        """See `Running.started_at`."""
        return self._record.started_at

    @property
    def exit(self) -> Exit | None:
        """See `Running.exit`."""
        if not self._ended.done() or self._ended.exception() is not None:
            return None
        return self._ended.result()

    async def wait(self) -> Exit:
        """See `Running.wait`."""
        return await asyncio.shield(self._ended)

    async def stop(self, grace_s: float | None = None) -> Exit:
        """See `Running.stop`."""
        if grace_s is None:
            grace_s = self._record.stop_grace_s
        if not grace_s >= 0:
            raise ValueError(f"a grace of {grace_s} s: it must be at least 0")
        timeout_s = grace_s + 2 * self._record.kill_timeout_s
        if not self._ended.done() and not order_stop(self._run_dir, grace_s):
            timeout_s = 0.0
        try:
            async with asyncio.timeout(timeout_s):
                return await self.wait()
        except TimeoutError:
            # The supervisor hangs, or cannot be told: this agent sweeps up after it (see _swept).
            supervisor = self._supervisor()
            if supervisor is not None:
                procfs.send_signal(supervisor, signal.SIGKILL)
            return await self.wait()

    async def kill(self) -> Exit:
        """See `Running.kill`."""
        return await self.stop(0)

    def usage(self) -> Usage:
        """See `Running.usage`."""
        if self.exit is not None:
            return Usage(self.exit.cpu_s, 0, 0)
        supervisor = self._supervisor()
        if supervisor is None:  # it has just ended
            return Usage(0.0, 0, 0)
        tree = procfs.descendants(supervisor.pid)
        ticks = supervisor.reaped_cpu_ticks
        ticks += sum(stat.cpu_ticks + stat.reaped_cpu_ticks for stat in tree)
        group = self._group()
        if group is not None:
            memory_bytes = group.usage_bytes()
        else:
            memory_bytes = sum(stat.resident_pages for stat in tree) * procfs.PAGE_BYTES
        pids = tuple(stat.pid for stat in tree if not stat.ended)
        # A process's own figures have those of the children in them that it has waited for.
        moved = [procfs.read_io(pid) for pid in (supervisor.pid, *pids)]
        return Usage(
            ticks / procfs.CLOCK_TICKS_PER_S,
            memory_bytes,
            len(pids),
            read_bytes=sum(read for read, _ in moved),
            written_bytes=sum(written for _, written in moved),
            pids=pids,
        )

    def close(self) -> None:
        """Watches no longer; the attempt runs on."""
        self._unwatch()
        if not self._ended.done():
            self._ended.set_exception(
                ClusterError(f"the launcher was closed; attempt {self.attempt_id} runs on")
            )
            self._ended.exception()  # it is no bug that nobody waits

    def forget(self) -> None:
        """Removes the run directory of an attempt that has ended.

        Raises:
            OSError: It cannot be removed.
            ValueError: It still runs.
        """
        if self.exit is None:
            raise ValueError(f"attempt {self.attempt_id} still runs")
        with contextlib.suppress(FileNotFoundError):  # its task has removed it
            shutil.rmtree(self._run_dir)
        group = self._group()
        if group is not None:
            group.remove()

    def _group(self) -> cgroups.Group | None:
        return None if self._record.group is None else cgroups.Group(*self._record.group)

    def _supervisor(self) -> procfs.ProcessStat | None:
        """The supervisor, if it lives: never another process that has its pid now."""
        stat = procfs.read_stat(self._record.supervisor_pid)
        if stat is None or stat.ended or stat.start_time != self._record.supervisor_start_time:
            return None
        return stat

    def _watch(self) -> None:
        """Waits for the supervisor to let go of the FIFO's other end, which it may have done."""
        flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
        self._life = os.open(self._run_dir / records.LIFE, flags)
        self._loop.add_reader(self._life, self._look)
        self._look()

    def _unwatch(self) -> None:
        if self._life >= 0:
            self._loop.remove_reader(self._life)
            os.close(self._life)
            self._life = -1

    def _look(self) -> None:
        try:
            data = os.read(self._life, 1)
        except BlockingIOError:  # the supervisor lives
            return
        assert not data, "nobody writes into this FIFO"
        self._unwatch()
        try:
            record = _read(self._run_dir / records.EXIT, ExitRecord)
        except (ClusterError, OSError) as error:
            self._end(self._unseen(exits.unsupervised(str(error))))
            return
        if record is not None:
            self._end(self._exit_of(record))
        elif self._record.boot_id != procfs.boot_id():
            self._end(self._unseen(exits.rebooted()))
        else:
            self._loop.run_in_executor(None, self._sweep).add_done_callback(self._swept)

    def _end(self, told: Exit) -> None:
        # Nothing starts inside it any more; its variables may be secrets, and the rest of the
        # directory stays until the controller has what it needs.
        with contextlib.suppress(OSError):
            (self._run_dir / records.ENVIRON).unlink(missing_ok=True)
        self._ended.set_result(told)

    def _exit_of(self, record: ExitRecord) -> Exit:
        ending = exits.Ending(
            exit_code=record.exit_code,
            signal=record.signal,
            out_of_memory=record.out_of_memory,
            stop_reason=record.stop_reason,
            memory_limit_bytes=self._record.memory_limit_bytes,
            survivors=record.survivors,
        )
        return Exit(
            attempt_id=self.attempt_id,
            exit_code=record.exit_code,
            signal=record.signal,
            out_of_memory=record.out_of_memory is not None,
            cause=exits.death_cause(ending),
            survivors=record.survivors,
            ended_at=record.ended_at,
            cpu_s=record.cpu_s,
        )

    def _unseen(self, cause: exits.DeathCause, survivors: tuple[int, ...] = ()) -> Exit:
        return Exit(
            attempt_id=self.attempt_id,
            exit_code=None,
            signal=None,
            out_of_memory=False,
            cause=cause,
            survivors=survivors,
        )

    def _sweep(self) -> list[int]:
        """Kills what a killed supervisor left behind; in a thread, for it scans and waits."""
        group = self._group()
        markers = [
            f"{records.MARKER_ATTEMPT}={self.attempt_id}",
            f"{records.MARKER_RUN_DIR}={self._run_dir}",
        ]
        survivors = procfs.sweep(
            markers,
            self._record.pid,
            self._record.start_time,
            group.pids() if group is not None else [],
            self._record.kill_timeout_s,
        )
        if self._record.cleanup_argv:
            with contextlib.suppress(OSError), open(os.devnull, "wb") as nowhere:
                run_briefly(list(self._record.cleanup_argv), dict(os.environ), nowhere.fileno())
        return survivors

    def _swept(self, sweep: asyncio.Future[list[int]]) -> None:
        if self._ended.done():  # closed meanwhile
            return
        if sweep.cancelled():
            self._ended.cancel()
            return
        error = sweep.exception()
        if error is not None:
            self._ended.set_exception(error)
            return
        survivors = tuple(sweep.result())
        cause = exits.unsupervised(_last_line(self._run_dir / records.ERRORS), survivors)
        self._end(self._unseen(cause, survivors))


def _last_line(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").rstrip().rpartition("\n")[2]
    except FileNotFoundError:
        return ""


__all__ = ["AttemptRecord", "ExitRecord", "SupervisedAttempt", "order_stop", "read_attempt"]
