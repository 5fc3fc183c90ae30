"""The attempts of a host: begun, watched, ended, and remembered until nobody asks any more.

The agent (`fray.cluster.worker.agent`) hears what is wanted; here it is made so.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import math
from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING

from fray.cluster.control import BlobsApi, LogPiece
from fray.cluster.controller.attempt import AttemptState, StopKind
from fray.cluster.controller.commands import ObservedAttempt
from fray.cluster.worker.logs import read_log
from fray.cluster.worker.stopping import StopNote, write_note
from fray.cluster.worker.taskfile import read_error, read_ports
from fray.errors import (
    ClusterUnavailable,
    DeathCause,
    DeathKind,
    FrayError,
    JobNotFoundError,
    PayloadError,
)
from fray.runtime.jsoncodec import json_dumps, json_loads

if TYPE_CHECKING:
    from fray.cluster.blobs import BlobStore
    from fray.cluster.controller.desired import AttemptSpec
    from fray.cluster.hosttimes import HostTimes
    from fray.cluster.worker.launcher import Exit, Launcher, LaunchSpec, Running
    from fray.cluster.worker.ports import PortRange
    from fray.cluster.worker.preparation import Preparation
    from fray.ids import AttemptId, WorkerId
    from fray.runtime.clock import Clock
    from fray.runtime.tasks import Scope

log = logging.getLogger(__name__)

OBITUARIES_MAX = 1000
"""Ended attempts whose cause of death is remembered after the controller has taken note."""

LOG_POLL_S = 0.02

RETRY_S = 0.2
"""Between two attempts to fetch something from a controller that is away."""

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


class HostedAttempt:
    """One attempt on this host.

    Attributes:
        attempt_id: Which.
        spec: What is wanted of it; None of one that was adopted, until orders come.
        state: Where it is in its life.
        cause: Why it ended.
        host_fault: Whether it could not be started by this host's fault.
        running: What the launcher has made of it; None before.
        stopping: Whether it was told to stop.
        stop_by: Until when it may take to do so, on the monotonic clock.
        fenced: Why this host had to end it, where nobody has ordered that.
        ports: Its ports, by what they are for.
        waits_for_others: How many of its threads wait for other jobs.
        ended: Set when nothing of it is left.
    """

    def __init__(self, spec: AttemptSpec | None, attempt_id: AttemptId) -> None:
        self.attempt_id = attempt_id
        self.spec = spec
        self.state = AttemptState.BUILDING
        self.cause: DeathCause | None = None
        self.host_fault = False
        self.running: Running | None = None
        self.stopping = False
        self.stop_by = math.inf
        self.fenced: DeathCause | None = None
        self.ports: dict[str, int] = {}
        self.waits_for_others = 0
        self.ended = asyncio.Event()

    def __repr__(self) -> str:
        return f"<HostedAttempt {self.attempt_id} {self.state}>"

    def observed(self) -> ObservedAttempt:
        """As it is reported."""
        return ObservedAttempt(
            attempt_id=self.attempt_id,
            state=self.state,
            cause=self.cause,
            host_fault=self.host_fault,
            ports=self.ports,
            blocked=self.waits_for_others > 0,
        )

    def why_stopped(self) -> DeathCause:
        """Why it was told to stop."""
        if self.fenced is not None:
            return self.fenced
        order = self.spec.stop if self.spec is not None else None
        if order is None:
            return DeathCause(DeathKind.STOPPED, "it was stopped")
        preempted = order.kind is StopKind.PREEMPT
        return DeathCause(DeathKind.PREEMPTED if preempted else DeathKind.STOPPED, order.reason)


class Roster:
    """All attempts of a host.

    Args:
        worker_id: The host.
        clock: The host's.
        scope: Owns what is done for attempts.
        launcher: Starts them.
        preparation: Says how.
        blobs: The controller's blobs.
        blobs_here: Those that are here already.
        ports: Where tasks' ports come from.
        changed: Set when there is something to report.

    Attributes:
        attempts: Those that run, and those that have ended and are still wanted.
        times: How long the host may be silent, as the controller said last.
    """

    def __init__(
        self,
        worker_id: WorkerId,
        clock: Clock,
        scope: Scope,
        *,
        launcher: Launcher,
        preparation: Preparation,
        blobs: BlobsApi,
        blobs_here: BlobStore,
        ports: PortRange,
        changed: asyncio.Event,
        times: HostTimes,
    ) -> None:
        self.attempts: dict[AttemptId, HostedAttempt] = {}
        self.times = times
        self._worker_id = worker_id
        self._clock = clock
        self._scope = scope
        self._launcher = launcher
        self._preparation = preparation
        self._blobs = blobs
        self._blobs_here = blobs_here
        self._ports = ports
        self._changed = changed
        self._obituaries: OrderedDict[AttemptId, DeathCause | None] = OrderedDict()

    def __repr__(self) -> str:
        return f"<Roster of {self._worker_id}: {len(self.attempts)} attempts>"

    # ---- what is wanted

    async def adopt(self) -> bool:
        """Takes over what an earlier agent has started; gives whether there is anything."""
        adopted = await self._launcher.adopt()
        for running in adopted:
            attempt = HostedAttempt(None, running.attempt_id)
            attempt.running = running
            attempt.state = AttemptState.RUNNING
            attempt.ports = self._ports_of(attempt.attempt_id)
            self.attempts[attempt.attempt_id] = attempt
            self._scope.spawn(self._watch(attempt), name=f"watch {attempt.attempt_id}")
        return bool(adopted)

    def _ports_of(self, attempt_id: AttemptId) -> dict[str, int]:
        """The ports that an earlier agent gave an attempt: nobody else gets them now."""
        try:
            ports = read_ports(self._preparation.run_dir(attempt_id))
        except (FrayError, OSError) as exc:  # it runs all the same
            log.error("the ports of attempt %s are not known: %s", attempt_id, exc)
            return {}
        self._ports.hold(attempt_id, ports.values())
        return dict(ports)

    def obey(self, wanted: Sequence[AttemptSpec]) -> None:
        """Begins what is missing, stops what shall stop, and ends what is not wanted.

        Args:
            wanted: All that this host shall have.
        """
        for spec in wanted:
            attempt = self.attempts.get(spec.attempt_id)
            if attempt is None:
                attempt = self.attempts[spec.attempt_id] = HostedAttempt(spec, spec.attempt_id)
                self._scope.spawn(self._begin(attempt, spec), name=f"run {spec.attempt_id}")
            attempt.spec = spec
            if spec.stop is not None:
                self._end(attempt, spec.stop.grace_s)
        known = {spec.attempt_id for spec in wanted}
        for attempt in [a for a in self.attempts.values() if a.attempt_id not in known]:
            self._discard(attempt)

    def fence(self, cause: DeathCause) -> None:
        """Ends everything at once.

        Args:
            cause: Why this host has to.
        """
        for attempt in list(self.attempts.values()):
            if not attempt.stopping:
                attempt.fenced = cause
            self._end(attempt, 0.0)

    async def until_all_ended(self) -> None:
        """Waits until nothing runs here any more."""
        for attempt in list(self.attempts.values()):
            await attempt.ended.wait()

    def observed(self) -> tuple[ObservedAttempt, ...]:
        """All attempts, as they are reported."""
        return tuple(attempt.observed() for attempt in self.attempts.values())

    def _discard(self, attempt: HostedAttempt) -> None:
        """It is not wanted any more: forgotten if it has ended, else ended."""
        if attempt.ended.is_set():
            del self.attempts[attempt.attempt_id]
            self._scope.spawn(self._launcher.forget(attempt.attempt_id), name="forget")
        else:
            self._end(attempt, 0.0)

    def _end(self, attempt: HostedAttempt, grace_s: float) -> None:
        stop_by = self._clock.monotonic() + grace_s
        if attempt.ended.is_set() or stop_by >= attempt.stop_by:
            return  # it is told once: orders are repeated, and it may be cleaning up
        attempt.stopping = True
        attempt.stop_by = stop_by
        if attempt.running is not None:
            self._scope.spawn(self._stop(attempt, grace_s), name=f"stop {attempt.attempt_id}")

    async def _stop(self, attempt: HostedAttempt, grace_s: float) -> None:
        assert attempt.running is not None
        if attempt.state is not AttemptState.STOPPING and not attempt.ended.is_set():
            attempt.state = AttemptState.STOPPING
            self._changed.set()
        if grace_s > 0:
            self._leave_note(attempt, grace_s)
        await attempt.running.stop(grace_s)

    def _leave_note(self, attempt: HostedAttempt, stop_s: float) -> None:
        run_dir = self._preparation.run_dir(attempt.attempt_id)
        try:
            write_note(run_dir, StopNote(attempt.why_stopped(), stop_s))
        except OSError as exc:  # it is stopped all the same, and is not told why
            log.warning("%s could not be told why it is stopped: %s", attempt.attempt_id, exc)

    # ---- running

    async def _begin(self, attempt: HostedAttempt, spec: AttemptSpec) -> None:
        try:
            launch = await self._prepare(attempt, spec)
            if attempt.stopping:
                self._ended(attempt, AttemptState.STOPPED, attempt.why_stopped())
                return
            attempt.running = await self._launcher.launch(launch)
        except (FrayError, OSError, ValueError) as exc:
            if attempt.stopping:
                self._ended(attempt, AttemptState.STOPPED, attempt.why_stopped())
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

    async def _prepare(self, attempt: HostedAttempt, spec: AttemptSpec) -> LaunchSpec:
        """Fetches what the attempt runs, and writes down who it is."""
        job = spec.job
        payload = await self._blob(attempt, job.program.blob) if job.program.blob else b""
        variables: dict[str, str] = {}
        if job.environment.secrets:
            secrets = await self._blob(attempt, job.environment.secrets)
            variables = json_loads(secrets, dict[str, str])
        attempt.ports = self._ports.take(attempt.attempt_id, job.ports)
        return self._preparation.prepare(spec, payload, variables, attempt.ports, self.times)

    async def _blob(self, attempt: HostedAttempt, digest: str) -> bytes:
        while not self._blobs_here.has(digest):
            try:
                self._blobs_here.put(await self._blobs.get(digest))
            except ClusterUnavailable:  # the controller is away: neither side's fault
                if attempt.stopping:
                    raise
                await self._clock.sleep(RETRY_S)
        return self._blobs_here.get(digest)

    async def _watch(self, attempt: HostedAttempt) -> None:
        assert attempt.running is not None
        ended = await attempt.running.wait()
        state, cause = self._verdict(attempt, ended)
        self._ended(attempt, state, cause)

    def _verdict(
        self, attempt: HostedAttempt, ended: Exit
    ) -> tuple[AttemptState, DeathCause | None]:
        if attempt.stopping:
            return AttemptState.STOPPED, attempt.why_stopped()
        if ended.cause is None:
            return AttemptState.SUCCEEDED, None
        cause = ended.cause
        if cause.kind is DeathKind.STOPPED:  # not by an order: its place was taken away
            return AttemptState.STOPPED, cause
        told = read_error(self._preparation.run_dir(attempt.attempt_id))
        if told and cause.kind is DeathKind.APP_ERROR:
            cause = DeathCause(cause.kind, told, cause.exit_code, cause.signal)
        host = str(self._worker_id)
        cause = DeathCause(cause.kind, cause.message, cause.exit_code, cause.signal, host)
        return AttemptState.FAILED, cause

    def _ended(self, attempt: HostedAttempt, state: AttemptState, cause: DeathCause | None) -> None:
        attempt.state = state
        attempt.cause = cause
        _make_tellable(attempt)
        attempt.ended.set()
        self._ports.release(attempt.attempt_id)
        self._obituaries[attempt.attempt_id] = attempt.cause or DeathCause(
            DeathKind.STOPPED, "its process has exited"
        )
        while len(self._obituaries) > OBITUARIES_MAX:
            self._obituaries.popitem(last=False)
        self._changed.set()

    # ---- what others ask

    async def read_log(
        self, attempt_id: AttemptId, offset: int, max_bytes: int, wait_s: float
    ) -> LogPiece:
        """See `AgentApi.read_log`."""
        path = self._preparation.log_path(attempt_id)
        attempt = self.attempts.get(attempt_id)
        if attempt is None and attempt_id not in self._obituaries and not path.exists():
            raise self._unknown(attempt_id)
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
        attempt = self.attempts.get(attempt_id)
        if attempt is not None and not attempt.ended.is_set():
            try:
                async with asyncio.timeout(wait_s):
                    await attempt.ended.wait()
            except TimeoutError:
                return None
        if attempt_id in self._obituaries:
            return self._obituaries[attempt_id]
        raise self._unknown(attempt_id)

    def set_blocked(self, attempt_id: AttemptId, blocked: bool) -> None:
        """See `AgentApi.set_blocked`. Counted: several threads of an attempt may wait."""
        attempt = self.attempts.get(attempt_id)
        if attempt is not None:
            attempt.waits_for_others += 1 if blocked else -1
            self._changed.set()

    def _unknown(self, attempt_id: AttemptId) -> JobNotFoundError:
        return JobNotFoundError(f"host {self._worker_id} knows no attempt {attempt_id}")


def _make_tellable(attempt: HostedAttempt) -> None:
    """One end that cannot be told must not keep all others from being told, for ever."""
    try:
        json_loads(json_dumps(attempt.observed()), ObservedAttempt)
    except PayloadError as exc:
        log.error("the end of attempt %s cannot be reported: %s", attempt.attempt_id, exc)
        attempt.state = AttemptState.FAILED
        attempt.cause = DeathCause(
            DeathKind.APP_ERROR, f"it ended in a way that cannot be reported: {exc}"
        )


def _is_host_fault(exc: Exception) -> bool:
    """Whether an attempt could not be started for reasons that are this host's."""
    return isinstance(exc, TimeoutError) or (isinstance(exc, OSError) and exc.errno in HOST_ERRORS)


__all__ = ["HOST_ERRORS", "OBITUARIES_MAX", "HostedAttempt", "Roster"]
