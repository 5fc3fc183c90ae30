"""The client of a fray cluster: jobs and actors through its controller."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from fray.actor.system import ActorSystem
from fray.cluster.base import AsyncCluster, LogLine, check_job_id
from fray.cluster.blobs import pack
from fray.cluster.control import (
    CONTROL_TIMEOUT_S,
    ActorsApi,
    AgentApi,
    BlobsApi,
    FleetApi,
    JobReport,
    JobsApi,
    NamesApi,
    SessionsApi,
    control,
)
from fray.cluster.controller.commands import STOP_GRACE_S, GroupSpec, SubmitJobs
from fray.cluster.controller.specs import Environment, GangScope, JobSpec, Program
from fray.cluster.directory import ClusterDirectory, import_hints
from fray.cluster.environment import DEFAULT_ENV_VARS, INHERITED_ENV_VARS
from fray.cluster.tails import Tail
from fray.cluster.types import (
    JobGroupConfig,
    JobInfo,
    JobRequest,
    JobStatus,
    TaskStatus,
    TpuConfig,
)
from fray.cluster.worker.lease import LeaseFence
from fray.errors import ClusterUnavailable, FrayError, InvalidRequestError
from fray.ids import AttemptId, JobId, Namespace
from fray.runtime.jsoncodec import json_dumps
from fray.runtime.serialization import dumps_call
from fray.runtime.tasks import Scope

if TYPE_CHECKING:
    from fray.cluster.identity import Identity
    from fray.runtime.process import Process

log = logging.getLogger(__name__)

WAIT_S = 20.0
"""How long one question for a job's end waits; then it is asked again."""

OPEN_TIMEOUT_S = 5.0
"""How long a controller may take to answer a driver for the first time."""

SESSION_TTL_S = 60.0
"""A driver's actors end a minute after its last sign of life; it gives four in that time."""


class AsyncFrayCluster(AsyncCluster):
    """A connection to a fray cluster.

    Args:
        process: This side's process, started. Closed with the connection if ``owns_process``.
        address: The controller's ``host:port``.
        identity: Who connects.
        lookup_timeout_s: How long look-ups wait for a name; inside a job it is 30 s.
        isolate: Whether everything gets a process of its own unless it says otherwise: not on the
            local cluster.
        owns_process: Whether closing the connection closes the process.
        session_ttl_s: How long a driver's actors outlive its last sign of life, in seconds, > 0.
    """

    def __init__(
        self,
        process: Process,
        address: str,
        identity: Identity,
        *,
        lookup_timeout_s: float = 0.0,
        isolate: bool = True,
        owns_process: bool = True,
        session_ttl_s: float = SESSION_TTL_S,
    ) -> None:
        self.identity = identity
        self.isolate = isolate
        self.local = False
        self._address = address
        self._process = process
        self._owns_process = owns_process
        self._session_ttl_s = session_ttl_s
        self._is_open = False
        # The callers of the controller need a system, and the system needs its directory.
        plain = ActorSystem(process, None, namespace="")
        self._plain = plain
        self.jobs = control(JobsApi, plain, address, "jobs")
        self.names = control(NamesApi, plain, address, "names")
        self.actors = control(ActorsApi, plain, address, "actors")
        self.fleet = control(FleetApi, plain, address, "fleet")
        self.blobs = control(BlobsApi, plain, address, "blobs")
        self.sessions = control(SessionsApi, plain, address, "sessions")
        self._directory = ClusterDirectory(
            identity,
            names=self.names,
            actors=self.actors,
            jobs=self.jobs,
            blobs=self.blobs,
            cluster_address=address,
            isolate=isolate,
        )
        system = ActorSystem(
            process,
            self._directory,
            namespace=identity.namespace,
            job_id=identity.job_id,
            lookup_timeout_s=lookup_timeout_s,
        )
        if identity.lease_path:
            system.fence = LeaseFence(Path(identity.lease_path), identity.lease_s, process.clock)
        super().__init__(system)

    @property
    def address(self) -> str:
        """The controller's ``host:port``."""
        return self._address

    async def open(self) -> None:
        """Says hello to the controller. On the loop.

        Raises:
            ClusterUnavailable: It does not answer.
            ConnectionRefused: It does not let us in.
        """
        # A task may begin while the controller starts again; a driver's user wants to be told.
        timeout_s = CONTROL_TIMEOUT_S if self.identity.is_task else OPEN_TIMEOUT_S
        door = control(SessionsApi, self._plain, self._address, "sessions", timeout_s=timeout_s)
        try:
            self.local = (await door.facts()).local
        except ClusterUnavailable as exc:
            raise no_answer(self._address, exc) from exc
        self._is_open = True
        self._directory.attach(self.system)
        if self.identity.session_id:
            await self.sessions.renew(self.identity.session_id, self._session_ttl_s)
            self.system.spawn(self._keep_session(), "session")

    async def _keep_session(self) -> None:
        while True:
            await self._process.clock.sleep(self._session_ttl_s / 4)
            try:
                await self.sessions.renew(self.identity.session_id, self._session_ttl_s)
            except FrayError as exc:  # the controller is away; it is told again in a while
                _note(exc)

    async def close(self) -> None:
        """See `AsyncCluster.close`."""
        if self.system.closed:
            return
        try:
            async with asyncio.timeout(2.0):
                await self._directory.close()
                if self._is_open and self.identity.session_id:
                    await self.sessions.end(self.identity.session_id)
        except (FrayError, TimeoutError) as exc:  # leases end by themselves
            _note(exc)
        job_id = self.identity.job_id
        self.system.close(f"job {job_id} has ended" if job_id else "its driver has disconnected")
        self._plain.close()
        if self._owns_process:
            await self._process.close()

    # ---- jobs

    async def _launch(
        self, requests: Sequence[JobRequest], group: JobGroupConfig | None
    ) -> list[JobId]:
        if not requests:
            raise InvalidRequestError("a group needs at least one job")
        for request in requests:
            if not isinstance(request, JobRequest):  # pyright: ignore[reportUnnecessaryIsInstance]
                raise TypeError(f"what is launched is a JobRequest, not {request!r}")
            request.validate()
            _check_workspace(request)
        specs = [await self._spec_of(request, group) for request in requests]
        group_spec = None
        if group is not None:
            group_spec = GroupSpec(group.name, group.same_region, group.same_zone)
        submission_id = f"s-{self._process.clock.token(8)}"
        return await self.jobs.submit(SubmitJobs(submission_id, tuple(specs), group_spec))

    async def _spec_of(self, request: JobRequest, group: JobGroupConfig | None) -> JobSpec:
        me = self.identity
        program = await self._program_of(request)
        environment, secrets = await self._environment_of(request)
        device = request.resources.device
        hosts = device.vm_count() if isinstance(device, TpuConfig) and not self.local else 1
        namespace = me.namespace
        if group is not None and group.namespace is not None:
            namespace = group.namespace
        hints = {**import_hints(), "isolation": self._isolation(request, secrets)}
        if request.environment is not None and request.environment.workspace is not None:
            hints["workspace"] = os.path.abspath(request.environment.workspace)  # noqa: ASYNC240 - no I/O
        return JobSpec(
            job_id=JobId(f"{me.user}/{request.name}"),
            name=request.name,
            user=me.user,
            namespace=Namespace(namespace),
            program=program,
            environment=environment,
            resources=replace(request.resources),
            hosts_per_replica=hosts,
            gang=GangScope.REPLICA if hosts > 1 else GangScope.TASK,
            max_retries_failure=request.max_retries_failure,
            max_retries_preemption=request.max_retries_preemption,
            ports=tuple(request.ports),
            parent=JobId(me.job_id) if me.is_task else None,
            detached=request.detached,
            hints=hints,
        )

    async def _program_of(self, request: JobRequest) -> Program:
        entry = request.entrypoint
        if entry.binary_entrypoint is not None:
            binary = entry.binary_entrypoint
            return Program(command=(binary.command, *binary.args))
        called = entry.callable_entrypoint
        assert called is not None
        payload = dumps_call(
            called.callable,
            tuple(called.args),
            called.kwargs,
            what=f"the entrypoint of job {request.name!r}",
        )
        return Program(blob=await self.blobs.put(pack(payload)))

    async def _environment_of(self, request: JobRequest) -> tuple[Environment, Mapping[str, str]]:
        """The environment as the ledger keeps it, and the variables that the user gave."""
        asked = request.environment
        if asked is None:
            return Environment(), {}
        variables = dict(asked.env_vars)
        secrets = await self.blobs.put(json_dumps(variables)) if variables else ""
        usual = {*DEFAULT_ENV_VARS, *INHERITED_ENV_VARS}
        given = {k: v for k, v in variables.items() if k not in usual}
        environment = Environment(
            docker_image=asked.docker_image or "",
            extras=tuple(asked.extras),
            pip_packages=tuple(asked.pip_packages),
            env_names=tuple(sorted(variables)),
            secrets=secrets,
        )
        return environment, given

    def _isolation(self, request: JobRequest, given: Mapping[str, str]) -> str:
        """Whether a job may share the driver's process, on the local cluster."""
        needs_process = (
            self.isolate
            or request.resources.replicas > 1
            or request.entrypoint.binary_entrypoint is not None
            or bool(given)
            or bool(request.environment and request.environment.pip_packages)
        )
        return "process" if needs_process else "thread"

    async def report(self, job_id: JobId) -> JobReport:
        """All that the controller tells of a job.

        Args:
            job_id: The job.

        Raises:
            JobNotFoundError: It is unknown.
        """
        check_job_id(job_id)
        return (await self.jobs.jobs([job_id], None))[0]

    async def poll(self, job_id: JobId) -> JobInfo:
        """See `Cluster.poll`."""
        return _info(await self.report(job_id))

    async def terminate(self, job_id: JobId) -> None:
        """See `Cluster.terminate`."""
        check_job_id(job_id)
        await self.jobs.stop(job_id, f"{self.identity.user} terminated it", STOP_GRACE_S)

    async def list_jobs(self) -> list[JobInfo]:
        """See `Cluster.list_jobs`. Actors are jobs too; they are not listed here."""
        return [_info(r) for r in await self.jobs.jobs(None, None) if not r.actor_id]

    async def wait_for(self, job_id: JobId) -> JobInfo:
        """See `AsyncCluster.wait_for`."""
        check_job_id(job_id)
        report = await self.jobs.wait(job_id, wait_s=0.0)
        if not report.status.finished():
            await self._set_blocked(True)
            try:
                while not report.status.finished():
                    report = await self.jobs.wait(job_id, wait_s=WAIT_S)
            finally:
                await self._set_blocked(False)
        return _info(report)

    async def _set_blocked(self, blocked: bool) -> None:
        """A job that waits for another frees its slot on the local cluster meanwhile."""
        if self.identity.attempt_id and self.local:
            agent = self._directory.agent(self.identity.agent_address)
            await agent.set_blocked(AttemptId(self.identity.attempt_id), blocked)

    # ---- logs

    async def logs(
        self, job_id: JobId, *, task_index: int | None = None, follow: bool = True
    ) -> AsyncIterator[LogLine]:
        """See `AsyncCluster.logs`."""
        report = await self.report(job_id)
        lines: asyncio.Queue[LogLine | None] = asyncio.Queue(maxsize=1000)
        indices = range(len(report.tasks)) if task_index is None else [task_index]
        if any(not 0 <= i < len(report.tasks) for i in indices):
            raise InvalidRequestError(f"job {job_id} has {len(report.tasks)} tasks, from 0")
        if follow:
            await self._set_blocked(True)
        async with Scope(f"logs {job_id}", _raised_by_logs) as scope:
            tails = [
                scope.spawn(self._tail(Tail(self, job_id, i, follow=follow), lines))
                for i in indices
            ]
            ended = scope.spawn(_end_of(tails, lines))
            try:
                while (line := await lines.get()) is not None:
                    yield line
                await ended
            finally:
                if follow:
                    await self._set_blocked(False)

    async def _tail(self, tail: Tail, lines: asyncio.Queue[LogLine | None]) -> None:
        async for line in tail.lines():
            await lines.put(line)

    async def wait_a_moment(self, job_id: JobId, wait_s: float) -> None:
        """Returns when a job has finished, or after a while.

        Args:
            job_id: The job.
            wait_s: How long, in seconds.
        """
        await self.jobs.wait(job_id, wait_s=wait_s)

    def agent(self, address: str) -> AgentApi:
        """A host's agent.

        Args:
            address: Its ``host:port``.
        """
        return self._directory.agent(address)


async def _end_of(tails: list[asyncio.Task[None]], lines: asyncio.Queue[LogLine | None]) -> None:
    """Ends the lines when all tails have ended; raises what one of them raised."""
    if tails:
        await asyncio.wait(tails)
    await lines.put(None)
    for tail in tails:
        tail.result()


def _raised_by_logs(name: str, exc: BaseException) -> None:
    """A tail failed: whoever reads the lines is told at their end."""


def _check_workspace(request: JobRequest) -> None:
    workspace = request.environment.workspace if request.environment is not None else None
    if workspace is not None and not os.path.isdir(workspace):
        raise InvalidRequestError(
            f"the workspace of job {request.name!r} is not a folder of this machine: {workspace!r}"
        )


def _note(exc: BaseException) -> None:
    log.debug("the controller was not told: %s", exc)


def _info(report: JobReport) -> JobInfo:
    return JobInfo(
        job_id=report.job_id,
        status=JobStatus(report.status),
        tasks=[TaskStatus(task.status, task.error or None) for task in report.tasks],
        name=report.name,
        error_message=report.error or None,
    )


def no_answer(address: str, exc: BaseException) -> ClusterUnavailable:
    """What is told where no controller answers.

    Args:
        address: Where it should be.
        exc: What went wrong.
    """
    told = str(exc)
    reason: BaseException | None = exc
    while reason is not None:
        if isinstance(reason, OSError) and reason.errno is not None:
            told = os.strerror(reason.errno) if reason.errno > 0 else str(reason.strerror)
        reason = reason.__cause__
    return ClusterUnavailable(
        f"no cluster answers at {address} ({told}). Is it up, and is that its address? `fray up` "
        "starts one on this machine; FRAY_CLUSTER_SPEC says which one programs use"
    )


def token_of(environ: Mapping[str, str] = os.environ, *, token_file: str = "") -> str:
    """The token for a cluster.

    Args:
        environ: Environment variables: ``FRAY_TOKEN_FILE`` says where it is.
        token_file: Where it is, if that is known better.

    Raises:
        InvalidRequestError: There is none, or it cannot be read.
    """
    path = token_file or environ.get("FRAY_TOKEN_FILE", "")
    if not path:
        raise InvalidRequestError(
            "no token for this cluster: set FRAY_TOKEN_FILE to the file that `fray up` named"
        )
    try:
        return Path(path).read_text().strip()
    except OSError as exc:
        raise InvalidRequestError(f"the token file {path} cannot be read: {exc.strerror}") from exc


__all__ = ["OPEN_TIMEOUT_S", "AsyncFrayCluster", "no_answer", "token_of"]
