"""Controllers and workers as processes of this machine: starting, finding, stopping.

They run in sessions of their own, print to files in their cluster's home, and say in its ``run``
folder when they are ready (`ClusterHome.write_daemon`).
"""

from __future__ import annotations

import fcntl
import os
import socket
import subprocess
import sys
from collections.abc import AsyncGenerator, Mapping, MutableMapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import orjson

from fray.cli.errors import Failure

if TYPE_CHECKING:
    from fray.cli.clusterfile import LogSettings, TlsSettings
    from fray.cluster.home import ClusterHome, Daemon, DaemonKind
    from fray.cluster.retention import RetentionPolicy
    from fray.cluster.shelflimits import ShelfLimits
    from fray.runtime.clock import Clock

READY_TIMEOUT_S = 30.0
LOOK_S = 0.05
KILL_WAIT_S = 5.0

LOCK_TIMEOUT_S = 90.0
"""Longer than a whole `fray up` takes: whoever waits this long waits for something stuck."""

LOG_TAIL_BYTES = 4096

_OF_A_TASK = (
    "FRAY_AGENT_ADDRESS",
    "FRAY_ATTEMPT",
    "FRAY_ATTEMPT_ID",
    "FRAY_CLUSTER_ADDRESS",
    "FRAY_CLUSTER_SPEC",
    "FRAY_JOB_ID",
    "FRAY_JOB_NAME",
    "FRAY_NAMESPACE",
    "FRAY_NUM_TASKS",
    "FRAY_REPLICA_COUNT",
    "FRAY_REPLICA_ID",
    "FRAY_RUN_DIR",
    "FRAY_TASK_INDEX",
    "FRAY_TOKEN_FILE",
)


# ---- what is started


def controller_command(
    home: ClusterHome,
    host: str,
    port: int,
    *,
    lease_s: float,
    retention: RetentionPolicy,
    environments: ShelfLimits,
    logs: LogSettings,
    tls: TlsSettings,
) -> list[str]:
    """The command line of a controller.

    Args:
        home: The cluster's.
        host: Where it listens.
        port: Where it listens; 0 for any.
        lease_s: How long its hosts go on without hearing from it.
        retention: How long it remembers ended jobs.
        environments: How much its hosts keep of environments that are not in use.
        logs: Where logs of jobs are archived, and how much of them.
        tls: How it is encrypted where it leaves the loopback.
    """
    command = [
        *_python("fray.cluster.controller.main"),
        *("--home", str(home.path), "--host", host, "--port", str(port)),
        *("--lease-s", str(lease_s)),
        *(["--insecure-no-tls"] if tls.insecure else []),
        *(["--certificate", *tls.certificate] if tls.certificate else []),
        *("--retain-jobs", str(retention.jobs_max), "--retain-s", str(retention.age_s)),
        *("--environments", str(environments.count_max)),
        *("--environments-bytes", str(environments.size_bytes_max)),
        *("--logs-keep-bytes", str(logs.keep_bytes)),
        *("--logs-keep-s", str(logs.days * 86400)),
    ]
    if logs.location:
        command += ["--logs", logs.location]
    return command


def worker_command(
    home: ClusterHome,
    *,
    join: str,
    token_file: Path,
    name: str,
    resources: Mapping[str, object] | None,
    task_user: str | Mapping[str, str] | None = None,
) -> list[str]:
    """The command line of a worker.

    Args:
        home: The cluster's, on this machine.
        join: The controller's ``host:port``.
        token_file: The cluster's token.
        name: The worker's.
        resources: What it says that it has; None lets it look.
        task_user: Accounts of its tasks; None for its own.
    """
    command = [
        *_python("fray.cluster.worker.main"),
        *("--join", join, "--token-file", str(token_file), "--home", str(home.path)),
        *("--name", name),
    ]
    if resources is not None:
        command += ["--resources", orjson.dumps(resources).decode()]
    if task_user is not None:
        command += ["--task-user", orjson.dumps(task_user).decode()]
    return command


def _python(module: str) -> list[str]:
    # -P: what lies in the current folder is not imported in place of what is installed.
    return [sys.executable, "-P", "-m", module]


def daemon_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The variables of a daemon: those here, but for what makes us a task or client of a cluster.

    Args:
        environ: The variables here.
    """
    kept = {
        name: value
        for name, value in environ.items()
        if name not in _OF_A_TASK and not name.startswith("FRAY_PORT_")
    }
    activate_interpreter(kept)
    return kept


def activate_interpreter(environ: MutableMapping[str, str]) -> None:
    """Makes ``python`` mean our interpreter, as an activated environment does.

    Args:
        environ: Variables of a process whose children run programs for users; ``PATH`` is changed.
    """
    ours = os.path.dirname(sys.executable)
    path = environ.get("PATH", os.defpath)
    if path.split(os.pathsep)[0] != ours:
        environ["PATH"] = os.pathsep.join((ours, path))


def worker_name() -> str:
    """A name for this machine's worker: the machine's own."""
    short = socket.gethostname().partition(".")[0]
    cleaned = "".join(c if (c.isalnum() and c.isascii()) or c in "_-" else "-" for c in short)
    return cleaned.strip("-_")[:64] or "worker"


# ---- starting and stopping


async def start(
    home: ClusterHome,
    kind: DaemonKind,
    name: str,
    command: Sequence[str],
    clock: Clock,
    *,
    environ: Mapping[str, str] = os.environ,
) -> Daemon:
    """Starts a daemon and waits until it is ready.

    Args:
        home: The cluster's.
        kind: What it is.
        name: A worker's name; empty for the controller.
        command: Its command line.
        clock: For waiting.
        environ: The variables here.

    Returns:
        What it has said of itself.

    Raises:
        Failure: It ended, or was not ready in time (then it is ended); with its last words.
    """
    log_path = home.log_path(kind, name)
    process, begins_at = _spawn(command, log_path, home.path, daemon_environment(environ))
    deadline = clock.monotonic() + READY_TIMEOUT_S
    while True:
        daemon = home.daemon(kind, name)
        if daemon is not None and daemon.pid == process.pid and daemon.alive:
            return daemon
        code = process.poll()
        if code is not None:
            raise Failure(
                f"the {kind} ended at once ({_ended(code)}):"
                f" {last_words(log_path, begins_at)}; see {log_path}"
            )
        if clock.monotonic() > deadline:
            process.kill()
            process.wait()
            raise Failure(
                f"the {kind} was not ready within {READY_TIMEOUT_S:g} s:"
                f" {last_words(log_path, begins_at)}; see {log_path}"
            )
        await clock.sleep(LOOK_S)


def _spawn(
    command: Sequence[str], log_path: Path, cwd: Path, environ: Mapping[str, str]
) -> tuple[subprocess.Popen[bytes], int]:
    """Starts a process in a session of its own; gives where its part of the log begins, too."""
    with open(log_path, "ab", opener=_private) as log:
        begins_at = log.seek(0, os.SEEK_END)
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            cwd=cwd,
            env=environ,
        )
    return process, begins_at


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _ended(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"


def last_words(log_path: Path, begins_at: int = 0) -> str:
    """The last line that says something in a daemon's log.

    Args:
        log_path: The log.
        begins_at: Where the part that counts begins, in bytes.
    """
    try:
        with open(log_path, "rb") as log:
            end = log.seek(0, os.SEEK_END)
            log.seek(max(begins_at, end - LOG_TAIL_BYTES))
            lines = log.read().decode(errors="replace").splitlines()
    except OSError:
        lines = []
    return next((line.strip() for line in reversed(lines) if line.strip()), "it printed nothing")


async def stop(daemon: Daemon, clock: Clock, *, grace_s: float) -> bool:
    """Ends a daemon: asks first, kills after a while.

    Args:
        daemon: One of this machine.
        clock: For waiting.
        grace_s: How long it has before it is killed, in seconds; 0 kills at once.

    Returns:
        Whether it ended by itself.

    Raises:
        Failure: It may not be ended, or does not end.
    """
    import signal

    for number, wait_s in ((signal.SIGTERM, grace_s), (signal.SIGKILL, KILL_WAIT_S)):
        if not wait_s:
            continue
        try:
            if not daemon.alive:
                return True
            os.kill(daemon.pid, number)
        except ProcessLookupError:
            return True
        except PermissionError as exc:
            raise Failure(f"process {daemon.pid} ({daemon.label}) is another user's") from exc
        if await _gone(daemon, clock, wait_s):
            return number == signal.SIGTERM
    raise Failure(f"process {daemon.pid} ({daemon.label}) does not end")


async def _gone(daemon: Daemon, clock: Clock, wait_s: float) -> bool:
    deadline = clock.monotonic() + wait_s
    while daemon.alive:
        if clock.monotonic() > deadline:
            return False
        await clock.sleep(LOOK_S)
    return True


@asynccontextmanager
async def locked(home: ClusterHome, clock: Clock) -> AsyncGenerator[None]:
    """Keeps other commands from starting and stopping the same cluster meanwhile.

    Args:
        home: The cluster's; made if it is not there.
        clock: For waiting.

    Raises:
        Failure: Another command keeps it for too long.
    """
    home.ensure()
    descriptor = os.open(home.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        deadline = clock.monotonic() + LOCK_TIMEOUT_S
        while not _try_lock(descriptor):
            if clock.monotonic() > deadline:
                raise Failure(f"another `fray up` or `fray down` of cluster {home.name} is stuck")
            await clock.sleep(LOOK_S)
        yield
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def is_free(host: str, port: int) -> bool:
    """Whether a port can be listened on, now.

    Args:
        host: Where.
        port: Which.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError:
        return False
    return True


__all__ = [
    "activate_interpreter",
    "controller_command",
    "daemon_environment",
    "is_free",
    "last_words",
    "locked",
    "start",
    "stop",
    "worker_command",
    "worker_name",
]
