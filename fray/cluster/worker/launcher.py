"""The seam between an agent and the processes that it starts.

The agent decides what runs; a `Launcher` runs it, and tells how it ended. Two sides implement it:
`fray.cluster.worker.subprocesses` with real processes, and the simulator with simulated ones. Both
pass the conformance suite in ``tests/cluster/worker/launcher_conformance.py``.

This room knows nothing of jobs, controllers, environments or names. Words:

- An *attempt* is one run of a task's program, and everything that this program starts: its *tree*.
- An attempt *ends* when nothing of its tree is left, not when its main process exits. What it held
  (memory, ports, an accelerator) is free then.
- A launcher *adopts* the attempts of an earlier agent of the same host: attempts outlive agents.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from fray.errors import DeathCause
from fray.ids import AttemptId

LOG_BYTES_MAX = 64 * 1024 * 1024
"""Disk space for the output of one attempt, unless its spec says otherwise."""

STOP_GRACE_S = 10.0
"""Between SIGTERM and SIGKILL, unless a spec says otherwise: docker's default."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchSpec:
    """What to run, and how.

    Attributes:
        attempt_id: Never used before on this host.
        argv: The program and its arguments; visible to every user of the host, so no secrets. A
            program without a slash is looked up in ``env``'s ``PATH``.
        run_dir: A directory for the launcher's own files, directly below its root; created with
            mode 0700 where it does not exist. One per attempt.
        log_path: Where standard output and standard error go together, appended. Its directory is
            created. Standard input is empty.
        env: Environment variables, beside (and over) those that the launcher gives to all.
        cwd: The working directory; ``None`` is the file system's root.
        memory_limit_bytes: The most that the tree may use together. Enforced where
            `Launcher.limits_memory`.
        stop_grace_s: Between SIGTERM and SIGKILL where nobody says otherwise.
        log_bytes_max: Disk space for the log; head and tail are kept.
        orphan_timeout_s: How long it may run with no agent on the host before it is stopped.
            ``None`` is for ever.
        lease_path: The host's lease (`fray.cluster.worker.lease`); ``None`` for none.
        lease_s: How long the attempt may run after the lease was last renewed, whether or not there
            is an agent: shorter, by the time that stopping takes, than the time after which the
            controller gives the task to another host, or it would run twice.
        start_by: When, on the host's monotonic clock, it must have begun: the host may have stood
            still since it was asked for, and its tasks be elsewhere. ``None`` is any time.
        cleanup_argv: A program that is run, for half a minute at the most, once nothing of the tree
            is left, whether or not there is an agent then: it ends what is not of the tree. Its
            output goes to the log. Empty for none.
        may_prestart: Whether this is fray's task module (``argv`` is a Python interpreter, ``-m``,
            that module and its argument), so that an interpreter that has imported it already may
            take it over.
        user: The account to run under, which needs root; ``None`` is the agent's own.
        opens_run_dir: Whether accounts other than the agent's may pass through the run directory,
            to files of theirs; where there is a ``user`` they may.
    """

    attempt_id: AttemptId
    argv: tuple[str, ...]
    run_dir: Path
    log_path: Path
    env: Mapping[str, str] = field(default_factory=dict[str, str])
    cwd: str | None = None
    memory_limit_bytes: int | None = None
    stop_grace_s: float = STOP_GRACE_S
    log_bytes_max: int = LOG_BYTES_MAX
    orphan_timeout_s: float | None = None
    lease_path: Path | None = None
    lease_s: float = 0.0
    start_by: float | None = None
    user: str | None = None
    cleanup_argv: tuple[str, ...] = ()
    may_prestart: bool = False
    opens_run_dir: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Exit:
    """How an attempt ended.

    Attributes:
        attempt_id: Which.
        exit_code: Of its main process, where that exited.
        signal: What ended its main process, where a signal did.
        out_of_memory: Whether the kernel killed something of it for want of memory.
        cause: Why it failed; ``None`` is success. It does not know the host's name.
        survivors: The processes that could not be killed, for they hang inside the kernel: what
            they hold is not free, and the host wants attention. Empty but in that rare case.
        ended_at: When, in seconds since 1970; 0 where nobody saw it.
        cpu_s: CPU time that the whole tree used.
    """

    attempt_id: AttemptId
    exit_code: int | None
    signal: int | None
    out_of_memory: bool
    cause: DeathCause | None
    survivors: tuple[int, ...] = ()
    ended_at: float = 0.0
    cpu_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Usage:
    """What an attempt's tree uses.

    Attributes:
        cpu_s: CPU time since its start, of ended processes too.
        memory_bytes: Memory in use now. Exact where the attempt has a memory limit that is
            enforced; else the sum of the resident sets, which counts shared pages for each process
            and so is an upper bound.
        processes: How many there are now.
        read_bytes: Read from disks since its start; 0 where that cannot be told.
        written_bytes: Likewise written.
        pids: The processes.
    """

    cpu_s: float
    memory_bytes: int
    processes: int
    read_bytes: int = 0
    written_bytes: int = 0
    pids: tuple[int, ...] = ()


class Running(Protocol):
    """An attempt that was launched or adopted; it may have ended meanwhile.

    Belongs to the event loop of its launcher.
    """

    @property
    def attempt_id(self) -> AttemptId:
        """Which attempt."""
        ...

    @property
    def pid(self) -> int:
        """Of its main process. For people: it may have ended, and the number be another's."""
        ...

    @property
    def started_at(self) -> float:
        """Seconds since 1970."""
        ...

    @property
    def exit(self) -> Exit | None:
        """How it ended, as far as is known already."""
        ...

    async def wait(self) -> Exit:
        """Waits until nothing of it is left. Any number may wait, also long after the end.

        Cancelling a wait does nothing to the attempt or to other waits.

        Raises:
            ClusterError: The launcher was closed; the attempt runs on.
        """
        ...

    async def stop(self, grace_s: float | None = None) -> Exit:
        """Stops it: SIGTERM to its process group, then SIGKILL to its whole tree.

        May be called again to hasten it; the earliest deadline holds. Cancelling the call does not
        take back the order. No effect on what has ended.

        Args:
            grace_s: Seconds between the two, at least 0 (which skips SIGTERM); ``None`` is what the
                attempt's spec says.

        Returns:
            How it ended, once nothing of it is left. Bounded: grace plus half a minute, after which
            `Exit.survivors` says what cannot be killed.

        Raises:
            ClusterError: The launcher was closed; the order may have been given.
        """
        ...

    async def kill(self) -> Exit:
        """Is ``stop(grace_s=0)``."""
        ...

    def usage(self) -> Usage:
        """What it uses now; after its end the total, with no memory and no processes."""
        ...


class Launcher(Protocol):
    """Starts attempts on this host, and finds those that earlier launchers started."""

    @property
    def limits_memory(self) -> bool:
        """Whether `LaunchSpec.memory_limit_bytes` is enforced here."""
        ...

    async def launch(self, spec: LaunchSpec) -> Running:
        """Starts an attempt.

        Returns when its program runs. Attempts are independent: any number may be launched at once.
        Where the call fails or is cancelled nothing of the attempt is left running.

        Args:
            spec: What to run.

        Raises:
            OSError: It cannot be started: no such program, no such working directory, no
                permission, no memory. ``filename`` says what it is about.
            FileExistsError: The run directory was used before.
            ValueError: The spec is wrong in itself.
            TimeoutError: The host is too busy to start anything.
            ClusterError: The launcher was closed.
        """
        ...

    async def adopt(self) -> Sequence[Running]:
        """All attempts of this host that run, or that ended and were not forgotten.

        Those of this launcher are among them (the same objects). In order of their start. To be
        called once before the first launch.
        """
        ...

    async def forget(self, attempt_id: AttemptId) -> None:
        """Removes what is kept of an attempt that ended, but for its log.

        Until then every `adopt` tells of it again. No effect on an unknown one.

        Args:
            attempt_id: Which.

        Raises:
            OSError: It cannot be removed; the next `adopt` tells of it again.
            ValueError: It still runs.
        """
        ...

    async def close(self, kill: bool) -> None:
        """Ends the launcher; waits that are under way raise.

        Args:
            kill: Whether to kill all attempts first. Else they run on, to be adopted.
        """
        ...


__all__ = [
    "LOG_BYTES_MAX",
    "STOP_GRACE_S",
    "Exit",
    "LaunchSpec",
    "Launcher",
    "Running",
    "Usage",
]
