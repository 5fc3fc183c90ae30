"""The real launcher: one process tree per attempt, each under a supervisor of its own.

Who is the parent of a task? An agent cannot be, for it may be killed and its successor could not
learn the exit status. So each attempt has a supervisor (`fray.cluster.worker.shim.supervisor`), as
containerd has its shims. It is forked by a fork server, the *zygote*, which the agent starts at its
first launch::

    agent ── zygote               dies with the agent
    supervisor ── task ── ...     one per attempt; outlives both

What was weighed, with figures from two cores of a cloud machine, otherwise idle:

- One reaper process per host, a parent of all tasks. If it is killed, every exit status of the host
  is lost; and orphans of all attempts become its children, so that one which hid its session and
  its environment cannot be told apart. A supervisor per attempt is a subreaper, and its descendants
  are the attempt, exactly.
- A fresh interpreter per attempt (``python -I -S``): 31 ms until it has imported what it needs,
  and 6.9 MB (PSS). Forked from a zygote that has, launching takes 6 ms in all, and a supervisor
  1.8 MB. The zygote's own start is paid once, by the first launch.
- A shell script: small, but no shell can become a subreaper, check a process's start time, or free
  the middle of a log.
- A new interpreter for each task that runs fray's task module: 140 ms of imports, each time. So the
  launcher keeps some that have imported it and run nothing yet (`zygotes.WarmZygotes`); the task is
  a fork of such a one then, under a supervisor as any other.
- Forking from the agent: it has threads and gigabytes, and whatever lock a thread holds at that
  moment stays locked in the child.

Nothing depends on SIGCHLD, on asyncio's child watchers, or on which thread runs the loop: the end
of a supervisor shows as the end of a FIFO. Works under uvloop, in pytest and in a notebook. Linux
only. Under systemd an agent's unit needs ``KillMode=process``, else systemd kills its tasks when it
restarts the agent.
"""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import os
import pwd
import socket
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fray.cluster.worker.attempts import (
    AttemptRecord,
    SupervisedAttempt,
    order_stop,
    read_attempt,
)
from fray.cluster.worker.entering import write_environ
from fray.cluster.worker.environment import inherited
from fray.cluster.worker.shim import cgroups, procfs, records
from fray.cluster.worker.shim.system import LogTrimmer
from fray.cluster.worker.zygotes import WarmZygotes, Zygote, cold_zygote
from fray.errors import ClusterError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fray.cluster.worker.launcher import LaunchSpec
    from fray.ids import AttemptId
    from fray.runtime.clock import Clock

LAUNCH_TIMEOUT_S = 60.0
"""From the call to the program's beginning; a host that swaps is slow, not dead."""

LAUNCHES_MAX = 16
"""How many launches are under way at once; the others queue."""

KILL_TIMEOUT_S = 30.0
"""How long SIGKILL is tried before what is left counts as unkillable."""

_REPLY_BYTES_MAX = 1 << 20
_log = logging.getLogger(__name__)


class SubprocessLauncher:
    """Implements `fray.cluster.worker.launcher.Launcher` with real processes.

    Belongs to one event loop, in any thread. Two launchers must not share a root at one time.

    Args:
        root: The directory of the run directories; created with mode 0700.
        clock: For `Running.started_at`.
        base_env: Environment variables for all attempts; ``None`` is this process's own, without
            what belongs to an attempt that it may itself be part of.
        kill_timeout_s: See `KILL_TIMEOUT_S`.
        embedded: Whether this process *is* the cluster: then attempts end when it does, however
            that comes about. Else they outlive it, to be adopted.
        prestart: Interpreters to be started before anything asks for them; see
            `LaunchSpec.may_prestart`.
    """

    def __init__(
        self,
        root: Path,
        clock: Clock,
        *,
        base_env: Mapping[str, str] | None = None,
        kill_timeout_s: float = KILL_TIMEOUT_S,
        embedded: bool = False,
        prestart: Sequence[str] = (),
    ) -> None:
        self._root = root.absolute()
        self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._clock = clock
        self._base_env = inherited(os.environ) if base_env is None else dict(base_env)
        self._kill_timeout_s = kill_timeout_s
        self._embedded = embedded
        self._zygote = cold_zygote()
        self._warm = WarmZygotes(self._base_env, eager=not embedded)
        for python in prestart:
            self._warm.open(python)
        self._slots = asyncio.Semaphore(LAUNCHES_MAX)
        self._attempts: dict[AttemptId, SupervisedAttempt] = {}
        self._launching: dict[Path, AttemptId] = {}
        self._closed = False

    def __repr__(self) -> str:
        running = sum(1 for attempt in self._attempts.values() if attempt.exit is None)
        return f"<SubprocessLauncher {self._root}: {running} running, {len(self._attempts)} known>"

    @cached_property
    def _group_parent(self) -> cgroups.Group | None:
        return cgroups.usable_parent()

    @cached_property
    def _own_group(self) -> cgroups.Group | None:
        return cgroups.own_memory_group()

    @property
    def limits_memory(self) -> bool:
        """See `Launcher.limits_memory`. The first question touches the file system."""
        return self._group_parent is not None

    async def launch(self, spec: LaunchSpec) -> SupervisedAttempt:
        """See `Launcher.launch`. The first launch also starts the zygote."""
        self._check_open()
        request = self._request(spec)
        spec.run_dir.mkdir(mode=0o700, exist_ok=True)
        opens = spec.opens_run_dir or spec.user is not None
        spec.run_dir.chmod(0o711 if opens else 0o700)  # its files are the task's alone
        if spec.run_dir in self._launching or (spec.run_dir / records.ATTEMPT).exists():
            raise FileExistsError(errno.EEXIST, "a run directory serves once", str(spec.run_dir))
        write_environ(spec.run_dir, request["env"])
        spec.log_path.parent.mkdir(parents=True, exist_ok=True)
        self._launching[spec.run_dir] = spec.attempt_id
        try:
            async with asyncio.timeout(LAUNCH_TIMEOUT_S), self._slots:
                record = await self._start(request, spec)
            self._check_open()
            attempt = SupervisedAttempt(record, spec.run_dir)
        except BaseException:
            # If the task has not been started yet its supervisor sees that nobody is interested;
            # if it has, the supervisor reads this order.
            order_stop(spec.run_dir, 0)
            (spec.run_dir / records.ENVIRON).unlink(missing_ok=True)
            raise
        finally:
            del self._launching[spec.run_dir]
        self._attempts[spec.attempt_id] = attempt
        return attempt

    async def adopt(self) -> list[SupervisedAttempt]:
        """See `Launcher.adopt`."""
        self._check_open()
        known = {attempt.run_dir for attempt in self._attempts.values()}
        for run_dir in sorted(self._root.iterdir()):
            if run_dir in known or run_dir in self._launching or not run_dir.is_dir():
                continue
            try:
                record = read_attempt(run_dir)
                if record is not None:
                    attempt = SupervisedAttempt(record, run_dir)
                    self._attempts[attempt.attempt_id] = attempt
            except (ClusterError, OSError):
                # One directory that nobody can read must not keep an agent from all the others.
                _log.exception("cannot adopt the attempt in %s", run_dir)
        return sorted(self._attempts.values(), key=lambda a: (a.started_at, a.attempt_id))

    async def forget(self, attempt_id: AttemptId) -> None:
        """See `Launcher.forget`."""
        attempt = self._attempts.get(attempt_id)
        if attempt is not None:
            attempt.forget()
            del self._attempts[attempt_id]

    async def close(self, kill: bool) -> None:
        """See `Launcher.close`."""
        self._closed = True
        try:
            if kill:
                async with asyncio.TaskGroup() as group:
                    for attempt in self._attempts.values():
                        group.create_task(attempt.kill())
        finally:
            for attempt in self._attempts.values():
                attempt.close()
            await self._warm.end(self._clock)
            await self._zygote.end(self._clock)

    def _check_open(self) -> None:
        if self._closed:
            raise ClusterError("the launcher was closed")

    def _request(self, spec: LaunchSpec) -> dict[str, Any]:
        """What a supervisor is told. It travels over a socket: nobody else sees the variables."""
        if not spec.argv:
            raise ValueError("argv is empty: there is no program to run")
        if spec.attempt_id in self._attempts or spec.attempt_id in self._launching.values():
            raise ValueError(f"attempt {spec.attempt_id} was launched before")
        if spec.run_dir.parent != self._root:
            raise ValueError(f"run_dir {spec.run_dir} is not directly below {self._root}")
        if spec.log_bytes_max < LogTrimmer.BYTES_MIN:
            raise ValueError(f"log_bytes_max is below {LogTrimmer.BYTES_MIN}")
        environment = {
            **self._base_env,
            **_user_variables(spec.user),
            **spec.env,
            records.MARKER_ATTEMPT: spec.attempt_id,
            records.MARKER_RUN_DIR: str(spec.run_dir),
        }
        own = self._own_group
        parent = self._group_parent if spec.memory_limit_bytes is not None else None
        return {
            "attempt_id": spec.attempt_id,
            "argv": list(spec.argv),
            "env": environment,
            "cwd": spec.cwd,
            "run_dir": str(spec.run_dir),
            "log_path": str(spec.log_path.absolute()),
            "log_bytes_max": spec.log_bytes_max,
            "memory_limit_bytes": spec.memory_limit_bytes,
            "group_parent": None if parent is None else [parent.path, parent.version],
            "own_group": None if own is None else [own.path, own.version],
            "stop_grace_s": spec.stop_grace_s,
            "kill_timeout_s": self._kill_timeout_s,
            "orphan_timeout_s": spec.orphan_timeout_s,
            "lease_path": None if spec.lease_path is None else str(spec.lease_path.absolute()),
            "lease_s": spec.lease_s,
            "start_by": spec.start_by,
            "owner": self._owner() if self._embedded else None,
            "user": spec.user,
            "cleanup_argv": list(spec.cleanup_argv),
            "started_at": self._clock.time(),
        }

    def _owner(self) -> tuple[int, int]:
        me = procfs.read_stat(os.getpid())
        assert me is not None, "a process that looks at itself is there"
        return me.pid, me.start_time

    async def _start(self, request: dict[str, Any], spec: LaunchSpec) -> AttemptRecord:
        warm = self._warm.ready(spec.argv[0], request["env"]) if spec.may_prestart else None
        if warm is not None:
            record = await self._ask(warm, request, spec.run_dir)
            if record is not None:
                return record
            # It was killed before a supervisor had begun: nothing was recorded, so nothing ran.
            warm.close()  # its end may not show yet, and the next launch is to start another
            _clear(spec.run_dir)
        record = await self._ask(self._zygote, request, spec.run_dir)
        if record is None:
            raise OSError(errno.EIO, "its supervisor failed; see shim.err", str(spec.run_dir))
        return record

    async def _ask(
        self, zygote: Zygote, request: dict[str, Any], run_dir: Path
    ) -> AttemptRecord | None:
        """Has a supervisor forked that starts the attempt; None where it ends without a word."""
        ours, theirs = socket.socketpair()
        with ours:
            with theirs:
                try:
                    zygote.send(theirs.fileno())
                except (BrokenPipeError, ConnectionResetError):
                    return None
            reply = await _exchange(ours, json.dumps(request).encode() + b"\n")
        answer: dict[str, Any] = json.loads(reply) if reply else {}
        error: dict[str, Any] | None = answer.get("error")
        if error is not None:
            _clear(run_dir)
            raise OSError(error["errno"], error["message"], error["file"])
        record = read_attempt(run_dir)
        if record is not None and not answer:
            raise OSError(errno.EIO, "its supervisor failed; see shim.err", str(run_dir))
        return record


def _clear(run_dir: Path) -> None:
    """Removes what a supervisor has made for an attempt that has not begun."""
    for name in (records.ATTEMPT, records.EXIT, records.CONTROL, records.LIFE):
        (run_dir / name).unlink(missing_ok=True)


def _user_variables(user: str | None) -> dict[str, str]:
    if user is None:
        return {}
    try:
        entry = pwd.getpwnam(user)
    except KeyError:
        raise ValueError(f"there is no user {user!r} on this host") from None
    return {"HOME": entry.pw_dir, "USER": user, "LOGNAME": user, "SHELL": entry.pw_shell}


async def _exchange(connection: socket.socket, request: bytes) -> bytes:
    """Sends a line and receives one; empty where the other side ends without an answer."""
    loop = asyncio.get_running_loop()
    connection.setblocking(False)
    reply = b""
    try:
        await loop.sock_sendall(connection, request)
        while not reply.endswith(b"\n") and len(reply) < _REPLY_BYTES_MAX:
            part = await loop.sock_recv(connection, 65536)
            if not part:
                return b""
            reply += part
    except (BrokenPipeError, ConnectionResetError):
        return b""
    return reply


__all__ = ["KILL_TIMEOUT_S", "LAUNCHES_MAX", "LAUNCH_TIMEOUT_S", "SubprocessLauncher"]
