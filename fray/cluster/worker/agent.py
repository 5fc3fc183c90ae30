"""The agent of a host: it makes what runs there be what the controller wants to run there.

Level-triggered. The controller sends the complete set of attempts that the host should have; the
agent sends the complete set that it has. Each compares and closes the difference, so lost or
repeated messages do no harm, and an agent or a controller that starts again only compares anew.
An ended attempt is reported until it is no longer wanted: then its result has been taken note of.

Attempts outlive agents (`fray.cluster.worker.launcher`): a new agent adopts what still runs.

The lease. While the host cannot hear the controller its lease runs down, and at its end the agent
kills everything: by then the controller may give the tasks to others. A *refused* connection does
not count, since it proves that no controller runs, and so that none gives anything away.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import math
import os
import sys
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from fray.cluster.blobs import BlobStore
from fray.cluster.control import BlobsApi, FleetApi, LogPiece, Orders, control
from fray.cluster.controller.attempt import AttemptState
from fray.cluster.controller.commands import ObservedAttempt, RegisterWorker, ReportAttempts
from fray.cluster.controller.desired import AttemptSpec, Standing
from fray.cluster.worker.environment import TaskIdentity, attempt_environment
from fray.cluster.worker.launcher import Exit, Launcher, LaunchSpec, Running
from fray.cluster.worker.lease import SUPERVISOR_MARGIN_S, HostLease
from fray.cluster.worker.logs import read_log
from fray.cluster.worker.ports import PortRange
from fray.cluster.worker.taskfile import HostedActor, TaskFile, TaskKind, read_error
from fray.errors import (
    ClusterError,
    ClusterUnavailable,
    DeathCause,
    DeathKind,
    FrayError,
    InvalidRequestError,
    JobNotFoundError,
)
from fray.ids import AttemptId
from fray.runtime.jsoncodec import json_loads
from fray.runtime.tasks import Scope

if TYPE_CHECKING:
    from fray.actor.system import ActorSystem
    from fray.cluster.controller.specs import WorkerSpec

log = logging.getLogger(__name__)

ORDERS_WAIT_S = 5.0
"""How long one question for changed orders waits at the controller. It is the host's sign of life,
too: the controller begins to doubt a host after twice this time."""

REPORT_S = 60.0
"""How often a host reports where nothing changes: only in case that something was lost."""

CALL_S = 4.0
"""How long the controller may take to answer, beside what it was asked to wait."""

RETRY_S = 0.2
"""Between two attempts to reach a controller that is away."""

LEAVE_S = 2.0
"""How long a host that goes tries to say so."""

OBITUARIES_MAX = 1000
"""Ended attempts whose cause of death is remembered after the controller has taken note."""

LOG_POLL_S = 0.02

HOST_ERRORS = frozenset(
    {
        errno.EAGAIN,
        errno.EDQUOT,
        errno.EIO,
        errno.EMFILE,
        errno.ENFILE,
        errno.ENOMEM,
        errno.ENOSPC,
        errno.EROFS,
        errno.ESTALE,
        errno.ETIMEDOUT,
    }
)
"""What keeps an attempt from starting by no fault of its own: another host may do better."""


class _Attempt:
    """One attempt on this host."""

    def __init__(self, spec: AttemptSpec | None, attempt_id: AttemptId) -> None:
        self.spec = spec
        self.attempt_id = attempt_id
        self.state = AttemptState.BUILDING
        self.cause: DeathCause | None = None
        self.host_fault = False
        self.running: Running | None = None
        self.stopping = False
        self.stop_by = math.inf
        self.ports: dict[str, int] = {}
        self.waits_for_others = 0
        self.ended = asyncio.Event()

    def observed(self) -> ObservedAttempt:
        return ObservedAttempt(
            attempt_id=self.attempt_id,
            state=self.state,
            cause=self.cause,
            host_fault=self.host_fault,
            ports=self.ports,
            blocked=self.waits_for_others > 0,
        )


class Agent:
    """The agent. Also the actor ``agent`` of its process: see `AgentApi`.

    Args:
        system: The process's actor system.
        spec: The host, as it is told to the controller; its address is this process's.
        boot_id: Which life of the host this is; the same as before where attempts are adopted.
        controller: The controller's ``host:port``.
        launcher: Starts attempts.
        home: Where run directories and logs go.
        token_file: The token that tasks use.
        remember_boot_id: Told of each new life that begins while this agent runs, so that the next
            agent of this host goes on with it.
        ports: Where tasks' ports come from.
    """

    def __init__(
        self,
        system: ActorSystem,
        spec: WorkerSpec,
        boot_id: str,
        *,
        controller: str,
        launcher: Launcher,
        home: Path,
        token_file: str,
        remember_boot_id: Callable[[str], None] | None = None,
        ports: PortRange | None = None,
    ) -> None:
        self._system = system
        self._clock = system.process.clock
        self._spec = spec
        self._boot_id = boot_id
        self._remember_boot_id = remember_boot_id
        self._is_new_life = False
        self._controller = controller
        self._launcher = launcher
        self._run = home / "run"
        self._logs = home / "logs"
        self._token_file = token_file
        self._blobs_here = BlobStore(home / "blobs")
        self._ports = ports or PortRange()
        self._fleet = control(FleetApi, system, controller, "fleet", timeout_s=CALL_S)
        self._blobs = control(BlobsApi, system, controller, "blobs")
        self._attempts: dict[AttemptId, _Attempt] = {}
        self._obituaries: OrderedDict[AttemptId, DeathCause | None] = OrderedDict()
        self._generation = 0
        self._changed = asyncio.Event()
        self._scope = Scope(f"agent {spec.worker_id}", self._on_error)
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._lease = HostLease(home / "lease", self._clock)
        self._lease_s = 60.0
        self._registered = asyncio.Event()

    def __repr__(self) -> str:
        return f"<Agent {self._spec.worker_id} attempts={len(self._attempts)}>"

    # ---- life

    async def start(self) -> None:
        """Adopts what still runs, then works in the background."""
        for directory in (self._run, self._logs):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        adopted = await self._launcher.adopt()
        if adopted:
            self._lease.recall()  # its lease goes on as if there had always been an agent
        else:
            self._lease.renew()
        for running in adopted:
            attempt = self._attempts[running.attempt_id] = _Attempt(None, running.attempt_id)
            attempt.running = running
            attempt.state = AttemptState.RUNNING
            self._scope.spawn(self._watch(attempt), name=f"watch {running.attempt_id}")
        self._scope.spawn(self._serve(), name="serve")

    async def ready(self) -> None:
        """Waits until the controller knows this host.

        Raises:
            BaseException: The agent failed.
        """
        async with Scope("ready") as scope:
            registered = scope.spawn(self._registered.wait())
            await asyncio.wait((registered, self.failed), return_when=asyncio.FIRST_COMPLETED)
        if self.failed.done():
            self.failed.result()

    def _on_error(self, name: str, exc: BaseException) -> None:
        """A bug: the agent cannot go on, and says so rather than limp. What runs here runs on."""
        log.critical("agent %s: %s failed", self._spec.worker_id, name, exc_info=exc)
        if not self.failed.done():
            self.failed.set_exception(exc)
            self.failed.exception()  # whoever awaits it is told; it is logged already

    async def close(self, *, kill: bool) -> None:
        """Ends the agent.

        Args:
            kill: Whether what runs here ends too; else the next agent adopts it.
        """
        await self._scope.close()
        await self._launcher.close(kill)
        if kill and self._registered.is_set():
            await self._leave()

    async def _leave(self) -> None:
        """Says goodbye, so that nobody waits for this host's lease to run out."""
        try:
            async with asyncio.timeout(LEAVE_S):
                await self._fleet.leave(
                    self._spec.worker_id, self._boot_id, "its agent was stopped"
                )
        except (FrayError, TimeoutError) as exc:  # the lease runs out by itself
            log.info("the controller was not told that this host goes: %s", exc)

    async def _serve(self) -> None:
        while True:
            try:
                await self._converse()
            except InvalidRequestError as exc:
                self._begin_anew(exc)
            except ClusterError as exc:
                self._note_silence(exc)
                await self._clock.sleep(RETRY_S)

    async def _converse(self) -> None:
        """Registers, then reports and listens until the controller is gone or does not know us."""
        asked_at = self._clock.monotonic()
        if self._is_new_life:
            # A new life says that nothing of the earlier one runs: its tasks may start elsewhere.
            for attempt in list(self._attempts.values()):
                await attempt.ended.wait()
        # Whoever answers now counts as it does: its journal may be another one than before.
        self._generation = 0
        orders = await self._fleet.register(RegisterWorker(self._spec, self._boot_id))
        self._is_new_life = False
        self._heard(orders, asked_at)
        if orders.standing is not Standing.CURRENT:
            return
        self._registered.set()
        async with Scope("conversation", _told_below) as scope:
            listening = scope.spawn(self._listen(), name="orders")
            reporting = scope.spawn(self._report(), name="report")
            await asyncio.wait((listening, reporting), return_when=asyncio.FIRST_COMPLETED)
            for task in (listening, reporting):
                if task.done():
                    task.result()

    async def _listen(self) -> None:
        while True:
            asked_at = self._clock.monotonic()
            orders = await self._fleet.orders(
                self._spec.worker_id, self._boot_id, self._generation, wait_s=ORDERS_WAIT_S
            )
            if not self._heard(orders, asked_at):
                return

    async def _report(self) -> None:
        while True:
            self._changed.clear()
            report = ReportAttempts(
                self._spec.worker_id,
                self._boot_id,
                self._generation,
                tuple(a.observed() for a in self._attempts.values()),
            )
            asked_at = self._clock.monotonic()
            if not self._heard(await self._fleet.report(report), asked_at):
                return
            try:
                async with asyncio.timeout(REPORT_S):
                    await self._changed.wait()
            except TimeoutError:
                pass  # nothing has changed

    def _note_silence(self, exc: ClusterError) -> None:
        if _is_refusal(exc):
            self._lease.renew()
            return
        silent_s = self._lease.silent_s
        if silent_s > self._lease_s:
            log.error("no word from the controller for %.0f s: ending all tasks", silent_s)
            self._fence()

    def _begin_anew(self, refusal: InvalidRequestError) -> None:
        """The controller does not take this host as it is, because it has other resources now.

        Raises:
            InvalidRequestError: It does not take it in a new life either.
        """
        if self._is_new_life:
            raise refusal
        log.error("the controller refuses this host, so all its tasks end: %s", refusal)
        self._fence()

    def _heard(self, orders: Orders, asked_at: float) -> bool:
        """Takes orders that were asked for; False if the conversation must begin anew."""
        if self._scope.closed:  # orders that come while this agent shuts down are its successor's
            return False
        self._lease.renew(asked_at)
        self._lease_s = orders.lease_s
        if orders.standing is Standing.FENCED:
            log.error("the controller has given this host up: ending all tasks")
            self._fence()
            return False
        if orders.standing is Standing.UNKNOWN:
            return False
        self._obey(orders)
        return True

    def _fence(self) -> None:
        """This life of the host is over: everything ends, and a new one begins."""
        self._boot_id = self._clock.token(8)
        self._is_new_life = True
        if self._remember_boot_id is not None:
            self._remember_boot_id(self._boot_id)
        self._generation = 0
        self._lease.renew()
        for attempt in list(self._attempts.values()):
            self._end(attempt, 0.0)

    # ---- orders

    def _obey(self, orders: Orders) -> None:
        desired = orders.desired
        if desired is None or desired.generation < self._generation:
            return
        self._generation = desired.generation
        wanted = {spec.attempt_id: spec for spec in desired.attempts}
        for attempt_id, spec in wanted.items():
            attempt = self._attempts.get(attempt_id)
            if attempt is None:
                attempt = self._attempts[attempt_id] = _Attempt(spec, attempt_id)
                self._scope.spawn(self._begin(attempt), name=f"run {attempt_id}")
            attempt.spec = spec
            if spec.stop is not None:
                self._end(attempt, spec.stop.grace_s)
        for attempt_id, attempt in list(self._attempts.items()):
            if attempt_id not in wanted:
                self._discard(attempt)

    def _discard(self, attempt: _Attempt) -> None:
        """It is not wanted any more: forgotten if it has ended, else ended."""
        if attempt.ended.is_set():
            del self._attempts[attempt.attempt_id]
            self._scope.spawn(self._launcher.forget(attempt.attempt_id), name="forget")
        else:
            self._end(attempt, 0.0)

    def _end(self, attempt: _Attempt, grace_s: float) -> None:
        stop_by = self._clock.monotonic() + grace_s
        if attempt.ended.is_set() or stop_by >= attempt.stop_by:
            return  # it is told once: orders are repeated, and it may be cleaning up
        attempt.stopping = True
        attempt.stop_by = stop_by
        if attempt.running is not None:
            self._scope.spawn(self._stop(attempt, grace_s), name=f"stop {attempt.attempt_id}")

    async def _stop(self, attempt: _Attempt, grace_s: float) -> None:
        assert attempt.running is not None
        if attempt.state is not AttemptState.STOPPING and not attempt.ended.is_set():
            attempt.state = AttemptState.STOPPING
            self._changed.set()
        await attempt.running.stop(grace_s)

    # ---- running

    async def _begin(self, attempt: _Attempt) -> None:
        spec = attempt.spec
        assert spec is not None
        try:
            launch = await self._prepare(attempt, spec)
            if attempt.stopping:
                self._ended(attempt, AttemptState.STOPPED, _stopped(attempt.spec))
                return
            attempt.running = await self._launcher.launch(launch)
        except (FrayError, OSError, ValueError) as exc:
            if attempt.stopping:
                self._ended(attempt, AttemptState.STOPPED, _stopped(attempt.spec))
                return
            attempt.host_fault = _is_host_fault(exc)
            cause = DeathCause(DeathKind.APP_ERROR, f"it could not be started: {exc}")
            self._ended(attempt, AttemptState.FAILED, cause)
            return
        attempt.state = AttemptState.RUNNING
        self._changed.set()
        if attempt.stopping:
            grace_s = max(attempt.stop_by - self._clock.monotonic(), 0.0)
            self._scope.spawn(self._stop(attempt, grace_s), name=f"stop {attempt.attempt_id}")
        await self._watch(attempt)

    async def _watch(self, attempt: _Attempt) -> None:
        assert attempt.running is not None
        ended = await attempt.running.wait()
        state, cause = self._verdict(attempt, ended)
        self._ended(attempt, state, cause)

    def _verdict(self, attempt: _Attempt, ended: Exit) -> tuple[AttemptState, DeathCause | None]:
        if attempt.stopping:
            return AttemptState.STOPPED, _stopped(attempt.spec)
        if ended.cause is None:
            return AttemptState.SUCCEEDED, None
        cause = ended.cause
        if cause.kind is DeathKind.STOPPED:  # not by an order: its place was taken away
            return AttemptState.STOPPED, cause
        told = read_error(self._run_dir(attempt.attempt_id))
        if told and cause.kind is DeathKind.APP_ERROR:
            cause = DeathCause(cause.kind, told, cause.exit_code, cause.signal)
        host = str(self._spec.worker_id)
        cause = DeathCause(cause.kind, cause.message, cause.exit_code, cause.signal, host)
        return AttemptState.FAILED, cause

    def _ended(self, attempt: _Attempt, state: AttemptState, cause: DeathCause | None) -> None:
        attempt.state = state
        attempt.cause = cause
        attempt.ended.set()
        self._ports.release(attempt.attempt_id)
        self._obituaries[attempt.attempt_id] = cause or DeathCause(
            DeathKind.STOPPED, "its process has exited"
        )
        while len(self._obituaries) > OBITUARIES_MAX:
            self._obituaries.popitem(last=False)
        self._changed.set()

    async def _prepare(self, attempt: _Attempt, spec: AttemptSpec) -> LaunchSpec:
        """Fetches what the attempt runs, and writes down who it is."""
        job = spec.job
        blob = job.program.blob
        payload = await self._blob(attempt, blob) if blob else b""
        variables: dict[str, str] = {}
        if job.environment.secrets:
            secrets = await self._blob(attempt, job.environment.secrets)
            variables = json_loads(secrets, dict[str, str])
        attempt.ports = self._ports.take(attempt.attempt_id, job.ports)
        run_dir = self._run_dir(attempt.attempt_id)
        run_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._task_file(spec).write(run_dir, payload)
        return LaunchSpec(
            attempt_id=attempt.attempt_id,
            argv=job.program.command or _task_command(run_dir),
            run_dir=run_dir,
            log_path=self.log_path(attempt.attempt_id),
            env=self._environment(spec, variables, attempt.ports),
            cwd=_existing(job.hints.get("workspace"), job.hints.get("cwd")),
            memory_limit_bytes=None,
            # For the time in which there is no agent, or none that does anything.
            lease_path=self._lease.path,
            lease_s=self._lease_s + SUPERVISOR_MARGIN_S,
            # Who gave this host up while it stood still has given the attempt to another.
            start_by=self._lease.heard_at + self._lease_s,
        )

    async def _blob(self, attempt: _Attempt, digest: str) -> bytes:
        while not self._blobs_here.has(digest):
            try:
                self._blobs_here.put(await self._blobs.get(digest))
            except ClusterUnavailable:  # the controller is away: neither side's fault
                if attempt.stopping:
                    raise
                await self._clock.sleep(RETRY_S)
        return self._blobs_here.get(digest)

    def _task_file(self, spec: AttemptSpec) -> TaskFile:
        job = spec.job
        actor = None
        kind = TaskKind.PROGRAM if job.program.command else TaskKind.FUNCTION
        if job.actor is not None:
            kind = TaskKind.ACTOR
            actor = json_loads(job.hints["actor"].encode(), HostedActor)
        return TaskFile(
            kind=kind,
            attempt_id=spec.attempt_id,
            number=spec.number,
            job_id=job.job_id,
            job_name=job.name,
            user=job.user,
            task_index=spec.task_index,
            namespace=job.namespace,
            agent_address=self._spec.address,
            cluster_address=self._controller,
            token_file=self._token_file,
            isolation=job.hints.get("isolation", "process"),
            actor=actor,
        )

    def _environment(
        self, spec: AttemptSpec, user: dict[str, str], ports: dict[str, int]
    ) -> dict[str, str]:
        job = spec.job
        identity = TaskIdentity(
            job_id=job.job_id,
            job_name=job.name,
            replica_id=spec.replica_id,
            replica_count=job.resources.replicas,
            task_index=spec.task_index,
            num_tasks=job.num_tasks,
            attempt=spec.number,
            namespace=job.namespace,
            cluster_address=self._controller,
            cluster_spec=f"fray://{self._controller}",
            token_file=self._token_file,
            ports=ports,
        )
        variables = attempt_environment(identity, user=user)
        variables["FRAY_AGENT_ADDRESS"] = self._spec.address
        variables["FRAY_USER"] = job.user
        variables.setdefault("PYTHONUNBUFFERED", "1")  # a log that is followed shows each line
        paths = json_loads(job.hints.get("sys_path", "[]").encode(), list[str])
        extra = [p for p in paths if os.path.isdir(p)]
        known = [p for p in variables.get("PYTHONPATH", "").split(os.pathsep) if p]
        if extra:
            variables["PYTHONPATH"] = os.pathsep.join(dict.fromkeys([*known, *extra]))
        return variables

    def _run_dir(self, attempt_id: AttemptId) -> Path:
        return self._run / _file_name(attempt_id)

    def log_path(self, attempt_id: AttemptId) -> Path:
        """Where an attempt's output goes.

        Args:
            attempt_id: The attempt.
        """
        return self._logs / f"{_file_name(attempt_id)}.log"

    # ---- AgentApi

    async def read_log(
        self, attempt_id: AttemptId, offset: int, max_bytes: int, wait_s: float
    ) -> LogPiece:
        """See `AgentApi.read_log`."""
        path = self.log_path(attempt_id)
        attempt = self._attempts.get(attempt_id)
        if attempt is None and attempt_id not in self._obituaries and not path.exists():
            raise JobNotFoundError(f"host {self._spec.worker_id} knows no attempt {attempt_id}")
        deadline = self._clock.monotonic() + wait_s
        pause_s = LOG_POLL_S
        while True:
            over = attempt is None or attempt.ended.is_set()  # before the read: then it is all
            data, next_offset = b"", offset
            if path.exists():
                chunk = read_log(path, offset, max_bytes)
                data, next_offset = chunk.data, chunk.next_offset
            if data or over or self._clock.monotonic() >= deadline:
                return LogPiece(data, next_offset, over and not data)
            await self._clock.sleep(pause_s)  # the writer is another process: there is no event
            pause_s = min(pause_s * 1.5, 0.25)

    async def obituary(self, attempt_id: AttemptId, wait_s: float) -> DeathCause | None:
        """See `AgentApi.obituary`."""
        attempt = self._attempts.get(attempt_id)
        if attempt is not None and not attempt.ended.is_set():
            try:
                async with asyncio.timeout(wait_s):
                    await attempt.ended.wait()
            except TimeoutError:
                return None
        if attempt_id in self._obituaries:
            return self._obituaries[attempt_id]
        raise JobNotFoundError(f"host {self._spec.worker_id} knows no attempt {attempt_id}")

    async def set_blocked(self, attempt_id: AttemptId, blocked: bool) -> None:
        """See `AgentApi.set_blocked`. Counted: several threads of an attempt may wait."""
        attempt = self._attempts.get(attempt_id)
        if attempt is not None:
            attempt.waits_for_others += 1 if blocked else -1
            self._changed.set()


def _told_below(name: str, exc: BaseException) -> None:
    """Half of a conversation failed, and raises where the other half ends too."""


def _stopped(spec: AttemptSpec | None) -> DeathCause:
    reason = spec.stop.reason if spec is not None and spec.stop is not None else "it was stopped"
    return DeathCause(DeathKind.STOPPED, reason)


def _is_host_fault(exc: Exception) -> bool:
    """Whether an attempt could not be started for reasons that are this host's."""
    return isinstance(exc, TimeoutError) or (isinstance(exc, OSError) and exc.errno in HOST_ERRORS)


def _is_refusal(exc: BaseException | None) -> bool:
    """Whether a connection was refused: proof that nothing listens there."""
    while exc is not None:
        if isinstance(exc, ConnectionRefusedError):
            return True
        exc = exc.__cause__
    return False


def _task_command(run_dir: Path) -> tuple[str, ...]:
    return (sys.executable, "-m", "fray.cluster.worker.task", str(run_dir))


def _existing(*paths: str | None) -> str | None:
    """The first of some directories that exists on this host."""
    return next((p for p in paths if p and os.path.isdir(p)), None)


def _file_name(attempt_id: AttemptId) -> str:
    """An attempt's id as one path component: slashes would be directories."""
    return attempt_id.replace("/", "_").replace("#", "-")


__all__ = ["Agent"]
