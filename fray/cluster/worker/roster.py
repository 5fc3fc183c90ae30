"""The attempts of a host: begun, watched, ended, and remembered until nobody asks any more.

The agent (`fray.cluster.worker.agent`) hears what is wanted; here it is made so.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING

from fray.cluster.control import BlobsApi, LogPiece
from fray.cluster.controller.attempt import AttemptState
from fray.cluster.worker.ends import (
    TOLD,
    is_host_fault,
    make_tellable,
    verdict_on,
    why_not_started,
)
from fray.cluster.worker.hosted import HostedAttempt
from fray.cluster.worker.logs import read_log
from fray.cluster.worker.shipping import read_marks
from fray.cluster.worker.stopping import StopNote, write_note
from fray.cluster.worker.taskfile import read_task
from fray.errors import (
    ClusterUnavailable,
    DeathCause,
    DeathKind,
    FrayError,
    InvalidRequestError,
    JobNotFoundError,
)
from fray.runtime.jsoncodec import json_loads

if TYPE_CHECKING:
    from pathlib import Path

    from fray.cluster.blobs import BlobStore
    from fray.cluster.controller.commands import ObservedAttempt
    from fray.cluster.controller.desired import AttemptSpec
    from fray.cluster.hosttimes import HostTimes
    from fray.cluster.scheduling.inventory import HeldDevice
    from fray.cluster.security.api import AttemptToken
    from fray.cluster.worker.devicewatch import DeviceWatch
    from fray.cluster.worker.envs.desk import Desk
    from fray.cluster.worker.launcher import Launcher, LaunchSpec
    from fray.cluster.worker.ports import PortRange
    from fray.cluster.worker.preparation import Preparation
    from fray.cluster.worker.tokens import AttemptTokens
    from fray.ids import AttemptId, WorkerId
    from fray.runtime.clock import Clock
    from fray.runtime.tasks import Scope

log = logging.getLogger(__name__)

OBITUARIES_MAX = 1000
"""Ended attempts whose cause of death is remembered after the controller has taken note."""

LOG_POLL_S = 0.02

RETRY_S = 0.2
"""Between two attempts to fetch something from a controller that is away."""


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
        tokens: Those of attempts; None where all have the same.
        desk: Gives them their surroundings; None where all run in the agent's own.
        devices: Watches the host's accelerators; None where there is nothing to watch.

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
        tokens: AttemptTokens | None = None,
        desk: Desk | None = None,
        devices: DeviceWatch | None = None,
    ) -> None:
        self._tokens = tokens
        self._devices = devices if devices is not None and devices.has_devices else None
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
        self._desk = desk
        self._obituaries: OrderedDict[AttemptId, DeathCause | None] = OrderedDict()

    def __repr__(self) -> str:
        return f"<Roster of {self._worker_id}: {len(self.attempts)} attempts>"

    # ---- what is wanted

    async def adopt(self) -> bool:
        """Takes over what an earlier agent has started; gives whether there is anything."""
        if self._desk is not None:
            await self._desk.environments.recover()
        adopted = await self._launcher.adopt()
        for running in adopted:
            attempt = HostedAttempt(None, running.attempt_id)
            attempt.running = running
            attempt.state = AttemptState.RUNNING
            if self._tokens is not None:
                self._tokens.adopt(
                    attempt.attempt_id, self._preparation.token_path(attempt.attempt_id)
                )
            self._recall(attempt)
            self.attempts[attempt.attempt_id] = attempt
            self._scope.spawn(self._watch(attempt), name=f"watch {attempt.attempt_id}")
        return bool(adopted)

    def _recall(self, attempt: HostedAttempt) -> None:
        """What an earlier agent gave an attempt: nobody else gets it, and nobody removes it now."""
        attempt_id = attempt.attempt_id
        try:
            task = read_task(self._preparation.run_dir(attempt_id))
        except (FrayError, OSError) as exc:  # it runs all the same
            log.error("what attempt %s has of this host is not known: %s", attempt_id, exc)
            return
        self._ports.hold(attempt_id, task.ports.values())
        attempt.ports = dict(task.ports)
        if self._desk is not None:
            self._desk.environments.hold(attempt_id, task.held)

    def obey(self, wanted: Sequence[AttemptSpec], tokens: Sequence[AttemptToken] = ()) -> None:
        """Begins what is missing, stops what shall stop, and ends what is not wanted.

        Args:
            wanted: All that this host shall have.
            tokens: For those that it has not told of yet.
        """
        given = {each.attempt_id: each.token for each in tokens}
        for spec in wanted:
            attempt = self.attempts.get(spec.attempt_id)
            if attempt is None:
                attempt = self.attempts[spec.attempt_id] = HostedAttempt(spec, spec.attempt_id)
                self._scope.spawn(
                    self._begin(attempt, spec, given.get(spec.attempt_id, "")),
                    name=f"run {spec.attempt_id}",
                )
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

    async def tidy(self, retain_s: float) -> None:
        """Drops what attempts have left that ended long ago.

        Args:
            retain_s: How long their output is kept, in seconds.
        """
        specs = [attempt.spec.job for attempt in self.attempts.values() if attempt.spec]
        wanted = {digest for job in specs for digest in (job.program.blob, job.environment.secrets)}
        here = tuple(self.attempts)
        try:
            await asyncio.to_thread(self._preparation.drop_old_logs, here, retain_s)
            await asyncio.to_thread(self._blobs_here.sweep, wanted)
        except OSError as exc:  # what is there stays, and is tried again
            log.warning("what ended attempts have left could not be dropped: %s", exc)

    def observed(self) -> tuple[ObservedAttempt, ...]:
        """All attempts, as they are reported."""
        return tuple(attempt.observed() for attempt in self.attempts.values())

    def held(self) -> tuple[HeldDevice, ...]:
        """Devices that something holds whose attempt has ended."""
        return self._devices.held if self._devices is not None else ()

    async def watch_devices(self) -> None:
        """Looks at the host's devices now and then, for ever."""
        while self._devices is not None:
            if await self._devices.look(self._scope, self._live()):
                self._changed.set()
            await self._clock.sleep(self._devices.look_s)

    def _live(self, besides: HostedAttempt | None = None) -> list[AttemptId]:
        """The attempts that have not ended."""
        return [
            attempt.attempt_id
            for attempt in self.attempts.values()
            if attempt is not besides and not attempt.ended.is_set()
        ]

    def _discard(self, attempt: HostedAttempt) -> None:
        """It is not wanted any more: forgotten if it has ended, else ended."""
        if attempt.ended.is_set():
            del self.attempts[attempt.attempt_id]
            self._scope.spawn(self._forget(attempt.attempt_id), name="forget")
        else:
            self._end(attempt, 0.0)

    async def _forget(self, attempt_id: AttemptId) -> None:
        try:
            await self._launcher.forget(attempt_id)
        except OSError as exc:  # the next agent tries again
            log.warning("what attempt %s has left could not be removed: %s", attempt_id, exc)

    def _end(self, attempt: HostedAttempt, grace_s: float) -> None:
        stop_by = self._clock.monotonic() + grace_s
        if attempt.ended.is_set() or stop_by >= attempt.stop_by:
            return  # it is told once: orders are repeated, and it may be cleaning up
        attempt.stopping = True
        attempt.told.set()
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

    async def _begin(self, attempt: HostedAttempt, spec: AttemptSpec, token: str) -> None:
        try:
            launch = await self._prepare(attempt, spec, token)
            if attempt.stopping:
                self._ended(attempt, AttemptState.STOPPED, attempt.why_stopped())
                return
            attempt.running = await self._launcher.launch(launch)
        except Exception as exc:  # it fails, and no other: the agent looks after all of them
            if not isinstance(exc, TOLD):
                log.exception("attempt %s could not be started", attempt.attempt_id)
            if attempt.stopping:
                self._ended(attempt, AttemptState.STOPPED, attempt.why_stopped())
                return
            attempt.host_fault = is_host_fault(exc)
            cause = why_not_started(exc, str(self._worker_id))
            self._ended(attempt, AttemptState.FAILED, cause)
            return
        attempt.state = AttemptState.RUNNING
        self._changed.set()
        if attempt.stopping:
            grace_s = max(attempt.stop_by - self._clock.monotonic(), 0.0)
            self._scope.spawn(self._stop(attempt, grace_s), name=f"stop {attempt.attempt_id}")
        await self._watch(attempt)

    async def _prepare(self, attempt: HostedAttempt, spec: AttemptSpec, token: str) -> LaunchSpec:
        """Fetches what the attempt runs, and writes down who it is."""
        job = spec.job
        payload = await self._blob(attempt, job.program.blob) if job.program.blob else b""
        variables: dict[str, str] = {}
        if job.environment.secrets:
            secrets = await self._blob(attempt, job.environment.secrets)
            variables = json_loads(secrets, dict[str, str])
        if self._tokens is not None:
            path = self._preparation.token_path(attempt.attempt_id)
            owner = self._preparation.owner_of(job)
            await self._tokens.first(
                attempt.attempt_id, path, lambda: not attempt.stopping, owner, given=token
            )
        around = None
        if self._desk is not None:
            self._changed.set()  # it may take a while
            around = await self._desk.surroundings(
                attempt.attempt_id,
                spec,
                variables,
                log_path=self._preparation.log_path(attempt.attempt_id),
                told=attempt.told,
                account=self._preparation.account_of(job),
            )
        if self._devices is not None:
            await self._devices.until_free(
                spec.allocation, self._scope, self._live, lambda: not attempt.stopping
            )
        attempt.ports = self._ports.take(attempt.attempt_id, job.ports)
        return self._preparation.prepare(
            spec, payload, variables, attempt.ports, self.times, around
        )

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
        ended_at = ended.ended_at or self._clock.time()
        attempt.ran_s = max(ended_at - attempt.running.started_at, 0.0)
        if self._devices is not None:  # told together: nobody is given them in between
            await self._devices.look(self._scope, self._live(besides=attempt))
        run_dir = self._preparation.run_dir(attempt.attempt_id)
        state, cause = verdict_on(attempt, ended, run_dir, str(self._worker_id))
        self._ended(attempt, state, cause)

    def _ended(self, attempt: HostedAttempt, state: AttemptState, cause: DeathCause | None) -> None:
        attempt.state = state
        attempt.cause = cause
        make_tellable(attempt)
        attempt.ended.set()
        if self._tokens is not None:
            self._tokens.forget(attempt.attempt_id)
        self._ports.release(attempt.attempt_id)
        if self._desk is not None:
            self._desk.environments.release(attempt.attempt_id)
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
        path = self._log_of(attempt_id)
        attempt = self.attempts.get(attempt_id)
        if offset < 0:
            offset = max(path.stat().st_size + offset, 0) if path.exists() else 0
        deadline = self._clock.monotonic() + wait_s
        pause_s = LOG_POLL_S
        while True:
            over = attempt is None or attempt.ended.is_set()  # before the read: then it is all
            data, next_offset = b"", offset
            if path.exists():
                chunk = read_log(path, offset, max_bytes)
                data, next_offset = chunk.data, chunk.next_offset
            if data or over or self._clock.monotonic() >= deadline:
                return LogPiece(data, next_offset, over and not data, offset)
            await self._clock.sleep(pause_s)  # the writer is another process: there is no event
            pause_s = min(pause_s * 1.5, 0.25)

    def log_offset(self, attempt_id: AttemptId, time: float) -> int:
        """See `AgentApi.log_offset`."""
        return read_marks(self._log_of(attempt_id)).offset_at(time)

    def _log_of(self, attempt_id: AttemptId) -> Path:
        path = self._preparation.log_path(attempt_id)
        known = attempt_id in self.attempts or attempt_id in self._obituaries
        if not known and not path.exists():
            raise self._unknown(attempt_id)
        return path

    def main_process(self, attempt_id: AttemptId) -> tuple[int, Path]:
        """The main process of an attempt that runs, and its run directory.

        Args:
            attempt_id: Which.

        Raises:
            JobNotFoundError: It is not here.
            InvalidRequestError: It does not run.
        """
        attempt = self.attempts.get(attempt_id)
        if attempt is None:
            raise self._unknown(attempt_id)
        if attempt.running is None or attempt.ended.is_set():
            raise InvalidRequestError(f"attempt {attempt_id} does not run: it is {attempt.state}")
        return attempt.running.pid, self._preparation.run_dir(attempt_id)

    def runs(self, attempt_id: AttemptId) -> bool:
        """Whether an attempt is here, and has not ended.

        Args:
            attempt_id: Which.
        """
        attempt = self.attempts.get(attempt_id)
        return attempt is not None and not attempt.ended.is_set()

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

    def report_checkpoint(self, attempt_id: AttemptId) -> None:
        """See `AgentApi.report_checkpoint`."""
        attempt = self.attempts.get(attempt_id)
        if attempt is not None:
            attempt.checkpoints += 1
            self._changed.set()

    def namespace_of(self, attempt_id: AttemptId) -> str | None:
        """The namespace of an attempt; None where it is not known here any more.

        Args:
            attempt_id: Which.
        """
        attempt = self.attempts.get(attempt_id)
        if attempt is not None and attempt.spec is not None:
            return attempt.spec.job.namespace
        try:
            return read_task(self._preparation.run_dir(attempt_id)).namespace
        except (FrayError, OSError):
            return None

    def _unknown(self, attempt_id: AttemptId) -> JobNotFoundError:
        return JobNotFoundError(f"host {self._worker_id} knows no attempt {attempt_id}")


__all__ = ["OBITUARIES_MAX", "Roster"]
