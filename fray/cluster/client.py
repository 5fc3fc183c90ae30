"""The client of a fray cluster: jobs and actors through its controller."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from fray.actor.resolver import check_name
from fray.actor.system import ActorSystem
from fray.cluster.archive.reader import ArchiveReader
from fray.cluster.archive.store import open_store
from fray.cluster.base import ALL_OUTPUT, AsyncCluster, LogLine, LogRange, check_job_id
from fray.cluster.blobs import pack
from fray.cluster.bundler import UPLOAD_TIMEOUT_S, Bundler
from fray.cluster.control import (
    LOGS_HERE,
    ActorsApi,
    AgentApi,
    BlobsApi,
    ClusterFacts,
    FleetApi,
    JobsApi,
    LogsApi,
    NamesApi,
    SessionsApi,
)
from fray.cluster.controlcalls import CONTROL_TIMEOUT_S, control
from fray.cluster.controller.commands import STOP_GRACE_S, GroupSpec, SubmitJobs
from fray.cluster.controller.speclimits import check_counts, check_size
from fray.cluster.controller.specs import Environment, GangScope, JobSpec, Program
from fray.cluster.directory import ClusterDirectory, Surroundings, import_hints
from fray.cluster.environment_sender import EnvironmentSender, check_environment
from fray.cluster.priority import parse_priority
from fray.cluster.reports import JobQuery
from fray.cluster.schedcontrol import (
    ReservationReport,
    ReservationRequest,
    ReservationsApi,
    SchedulerApi,
    UsersApi,
)
from fray.cluster.security.api import SecurityApi
from fray.cluster.security.keeper import REVOKED_FILE, TokenKeeper
from fray.cluster.tails import Tail
from fray.cluster.types import (
    JobGroupConfig,
    JobInfo,
    JobRequest,
    JobStatus,
    ReservationConfig,
    ReservationInfo,
    TaskStatus,
    TpuConfig,
)
from fray.cluster.worker.lease import LeaseFence
from fray.errors import ClusterUnavailable, FrayError, InvalidRequestError
from fray.ids import AttemptId, JobId, Namespace, ReservationId
from fray.runtime.serialization import dumps_call
from fray.runtime.tasks import Scope
from fray.wording import counted

if TYPE_CHECKING:
    from fray.cluster.environment import EnvironmentConfig
    from fray.cluster.identity import Identity
    from fray.cluster.reports import JobPreview, JobReport
    from fray.cluster.security.credentials import Credentials
    from fray.runtime.process import Process

log = logging.getLogger(__name__)

WAIT_S = 20.0
"""How long one question for a job's end waits; then it is asked again."""

PAGE_LENGTH = 100
"""Jobs of which one question asks."""
AGENT_TIMEOUT_S = 5.0
"""How long a host is asked for output before it is looked for elsewhere, or asked again."""

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
        isolated_env: Whether a job on the local cluster gets its project's own dependencies, and
            not those of the driver; its actors likewise get processes.
        owns_process: Whether closing the connection closes the process.
        session_ttl_s: How long a driver's actors outlive its last sign of life, in seconds, > 0.
        credentials: The process's; None where they never change.
        imports: Tells where this process's modules come from, as `import_hints` does.

    Attributes:
        environment: What actors find around them, and jobs that say nothing of it; None for what
            they would find anyway.
    """

    def __init__(
        self,
        process: Process,
        address: str,
        identity: Identity,
        *,
        lookup_timeout_s: float = 0.0,
        isolate: bool = True,
        isolated_env: bool = False,
        owns_process: bool = True,
        session_ttl_s: float = SESSION_TTL_S,
        credentials: Credentials | None = None,
        imports: Callable[[], dict[str, str]] = import_hints,
    ) -> None:
        self.identity = identity
        self._imports = imports
        self.isolate = isolate or isolated_env
        self._isolated_env = isolated_env
        self.local = False
        self._address = address
        self._process = process
        self._owns_process = owns_process
        self._session_ttl_s = session_ttl_s
        self.environment: EnvironmentConfig | None = None
        self._is_open = False
        self._logs = ""
        self._agents: dict[str, AgentApi] = {}
        # The callers of the controller need a system, and the system needs its directory.
        plain = ActorSystem(process, None, namespace="")
        self._plain = plain
        self.jobs = control(JobsApi, plain, address, "jobs")
        self.names = control(NamesApi, plain, address, "names")
        self.actors = control(ActorsApi, plain, address, "actors")
        self.reservations = control(ReservationsApi, plain, address, "reservations")
        self.users = control(UsersApi, plain, address, "users")
        self.scheduler = control(SchedulerApi, plain, address, "scheduler")
        self.fleet = control(FleetApi, plain, address, "fleet")
        self.blobs = control(BlobsApi, plain, address, "blobs")
        self.sessions = control(SessionsApi, plain, address, "sessions")
        self.security = control(SecurityApi, plain, address, "security")
        lease = Path(identity.lease_path) if identity.lease_path else None
        self.credentials = credentials
        self._tokens = TokenKeeper(
            credentials,
            self.sessions,
            self.security,
            process.clock,
            revoked_path=None if lease is None else lease.with_name(REVOKED_FILE),
        )
        bundles = control(BlobsApi, plain, address, "blobs", timeout_s=UPLOAD_TIMEOUT_S)
        self._environments = EnvironmentSender(self.blobs, Bundler(bundles))
        self._directory = ClusterDirectory(
            identity,
            names=self.names,
            actors=self.actors,
            jobs=self.jobs,
            blobs=self.blobs,
            fleet=self.fleet,
            cluster_address=address,
            isolate=self.isolate,
            surroundings=self._surroundings_of_actors,
        )
        system = ActorSystem(
            process,
            self._directory,
            namespace=identity.namespace,
            job_id=identity.job_id,
            lookup_timeout_s=lookup_timeout_s,
        )
        if lease is not None:
            system.fence = LeaseFence(lease, identity.lease_s, process.clock)
        super().__init__(system)

    @property
    def address(self) -> str:
        """The controller's ``host:port``."""
        return self._address

    async def open(self) -> None:
        """Says hello to the controller. On the loop.

        A task waits for as long as it takes.

        Raises:
            ClusterUnavailable: It does not answer a driver.
            ConnectionRefused: It does not let us in.
        """
        facts = await self._hello()
        self.local = facts.local
        self._logs = facts.logs
        self._environments.takes_bundles = facts.takes_bundles
        # On the local cluster the project is the driver's own, with the extras that it has.
        self._environments.with_extras = not facts.local or self._isolated_env
        self._is_open = True
        self._directory.attach(self.system)
        if self._tokens.begin(facts):
            self.system.spawn(self._tokens.keep(), "tokens")
        if self.identity.session_id:
            await self.sessions.renew(self.identity.session_id, self._session_ttl_s)
            self.system.spawn(self._keep_session(), "session")

    async def _hello(self) -> ClusterFacts:
        timeout_s = CONTROL_TIMEOUT_S if self.identity.is_task else OPEN_TIMEOUT_S
        door = control(SessionsApi, self._plain, self._address, "sessions", timeout_s=timeout_s)
        while True:
            try:
                return await door.facts()
            except ClusterUnavailable as exc:
                unanswered = no_answer(self._address, exc)
                # A driver's user wants to be told. A task would have failed, and it is no fault
                # of its own: its host ends it if it must not go on without a controller.
                if not self.identity.is_task:
                    raise unanswered from exc
                log.warning("this task waits for its cluster: %s", unanswered)

    async def _keep_session(self) -> None:
        while True:
            await self._process.clock.sleep(self._session_ttl_s / 4)
            try:
                version = await self.sessions.renew(self.identity.session_id, self._session_ttl_s)
                await self._tokens.heard(version)
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
        self,
        requests: Sequence[JobRequest],
        group: JobGroupConfig | None,
        submission_id: str | None,
    ) -> list[JobId]:
        if not requests:
            raise InvalidRequestError("a group needs at least one job")
        for request in requests:
            if not isinstance(request, JobRequest):  # pyright: ignore[reportUnnecessaryIsInstance]
                raise TypeError(f"what is launched is a JobRequest, not {request!r}")
            request.validate()
            check_environment(request.environment, f"job {request.name!r}")
        shapes = [self._shape_of(request, group) for request in requests]
        check_counts(shapes)  # all this before anything is uploaded
        for shape in shapes:
            check_size(shape)
        specs = [await self._spec_of(request, group) for request in requests]
        group_spec = None
        if group is not None:
            group_spec = GroupSpec(group.name, group.same_region, group.same_zone)
        if submission_id is None:
            submission_id = f"s-{self._process.clock.token(8)}"
        else:
            submission_id = f"{self.identity.user}:{submission_id}"
        return await self.jobs.submit(SubmitJobs(submission_id, tuple(specs), group_spec))

    async def create_mapping(
        self, job_id: JobId, port_name: str, namespace: Namespace, actor_name: str
    ) -> None:
        """See `Cluster.create_mapping`."""
        check_job_id(job_id)
        check_name(namespace, what="a namespace")
        check_name(actor_name)
        await self.jobs.create_mapping(job_id, port_name, namespace, actor_name)

    async def preview(self, request: JobRequest) -> JobPreview:
        """What would become of a job if it were launched now. Nothing is sent but its shape.

        Args:
            request: The job.

        Raises:
            InvalidRequestError: The request is wrong in itself.
            InfeasibleError: No host of this cluster could ever run it.
        """
        request.validate()
        spec = self._shape_of(request, None)
        check_size(spec)
        return await self.jobs.preview(spec)

    def _shape_of(self, request: JobRequest, group: JobGroupConfig | None) -> JobSpec:
        """A job as it will be, but for what is uploaded."""
        request = self._with_environment(request)
        asked = request.environment
        variables: Mapping[str, str] = {}
        environment = Environment()
        if asked is not None:
            variables = asked.env_vars
            environment = Environment(
                docker_image=asked.docker_image or "",
                extras=tuple(asked.extras),
                pip_packages=tuple(asked.pip_packages),
                env_names=tuple(sorted(variables)),
            )
        binary = request.entrypoint.binary_entrypoint
        command = ("function",) if binary is None else (binary.command, *binary.args)
        return self._described(request, group, Program(command=command), environment, variables)

    async def _spec_of(self, request: JobRequest, group: JobGroupConfig | None) -> JobSpec:
        request = self._with_environment(request)
        program = await self._program_of(request)
        environment, secrets = await self._environments.send(request.environment)
        return self._described(request, group, program, environment, secrets)

    def _described(
        self,
        request: JobRequest,
        group: JobGroupConfig | None,
        program: Program,
        environment: Environment,
        secrets: Mapping[str, str],
    ) -> JobSpec:
        me = self.identity
        device = request.resources.device
        hosts = device.vm_count() if isinstance(device, TpuConfig) and not self.local else 1
        namespace = me.namespace
        if group is not None and group.namespace is not None:
            namespace = group.namespace
        hints = self._whereabouts(request.environment)
        hints["isolation"] = self._isolation(request, secrets)
        if request.entrypoint.callable_entrypoint is not None:
            hints["function"] = _name_of(request.entrypoint.callable_entrypoint.callable)
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
            ports=tuple(sorted(request.ports)),
            queue_limit_s=request.queue_limit_s,
            parent=JobId(me.job_id) if me.is_task else None,
            detached=request.detached,
            hints=hints,
            priority=None if request.priority is None else parse_priority(request.priority),
            reservation=request.reservation_id or "",
            evictable=request.evictable,
            time_limit_s=request.time_limit_s,
        )

    def _with_environment(self, request: JobRequest) -> JobRequest:
        """A job that says nothing of its environment has the connection's."""
        if request.environment is not None or self.environment is None:
            return request
        return replace(request, environment=self.environment)

    def _whereabouts(self, asked: EnvironmentConfig | None) -> dict[str, str]:
        """Where modules and the project are here, for hosts on which they are in that place."""
        hints = self._imports()
        if asked is not None and asked.workspace is not None:
            hints["workspace"] = os.path.abspath(asked.workspace)
            if self.local and self._isolated_env:
                hints["project"] = hints["workspace"]
        return hints

    async def _surroundings_of_actors(self) -> Surroundings:
        """What actors that this connection makes find around them."""
        asked = self.environment
        environment, given = await self._environments.send(asked)
        needs_process = bool(given) or bool(asked and asked.pip_packages)
        return Surroundings(
            environment, self._whereabouts(asked), needs_process, virtual=self.local
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

    def _isolation(self, request: JobRequest, given: Mapping[str, str]) -> str:
        """Whether a job may share the driver's process, on the local cluster."""
        needs_process = (
            self.isolate
            or request.resources.replicas > 1
            or request.entrypoint.binary_entrypoint is not None
            or bool(given)
            or bool(request.ports)  # told by variables, which threads share
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
        return await self.jobs.report(job_id)

    async def poll(self, job_id: JobId) -> JobInfo:
        """See `Cluster.poll`."""
        return _info(await self.report(job_id))

    async def terminate(self, job_id: JobId) -> None:
        """See `Cluster.terminate`."""
        check_job_id(job_id)
        await self.jobs.stop(job_id, f"{self.identity.user} terminated it", STOP_GRACE_S)

    async def list_jobs(self) -> list[JobInfo]:
        """See `Cluster.list_jobs`. Actors are jobs too; they are not listed here."""
        reports = [report async for report in self.reports(JobQuery(with_actors=False))]
        return [_info(report) for report in reports]

    async def reports(self, query: JobQuery) -> AsyncIterator[JobReport]:
        """The reports of many jobs, oldest first, a few at a time: others ask meanwhile.

        Args:
            query: Which.
        """
        job_ids = await self.jobs.ids(query)
        for at in range(0, len(job_ids), PAGE_LENGTH):
            page = tuple(job_ids[at : at + PAGE_LENGTH])
            for report in await self.jobs.list(JobQuery(page)):
                yield report

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

    # ---- reservations

    async def create_reservation(self, config: ReservationConfig) -> ReservationId:
        """See `Cluster.create_reservation`."""
        if not isinstance(config, ReservationConfig):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"what is reserved is a ReservationConfig, not {config!r}")
        replace(config)  # it is checked again: it may have been changed
        request = ReservationRequest(
            token=self._process.clock.token(8),
            user=self.identity.user,
            namespace=Namespace(self.identity.namespace),
            minimum=config.min_resources,
            maximum=config.max_resources,
            priority=config.priority,
            ttl_s=float(config.ttl_seconds),
            preemptible=config.preemptible,
        )
        return await self.reservations.create(request)

    async def release_reservation(self, reservation_id: ReservationId) -> None:
        """See `Cluster.release_reservation`."""
        reason = f"{self.identity.user} released it"
        await self.reservations.release(reservation_id, reason)

    async def get_reservation(self, reservation_id: ReservationId) -> ReservationInfo:
        """See `Cluster.get_reservation`."""
        return _reservation_info(await self.reservations.get(reservation_id))

    async def renew_reservation(
        self, reservation_id: ReservationId, ttl_seconds: float
    ) -> ReservationInfo:
        """See `Cluster.renew_reservation`."""
        await self.reservations.renew(reservation_id, float(ttl_seconds))
        return await self.get_reservation(reservation_id)

    # ---- logs

    async def logs(
        self,
        job_id: JobId,
        *,
        task_index: int | None = None,
        follow: bool = True,
        where: LogRange = ALL_OUTPUT,
    ) -> AsyncIterator[LogLine]:
        """See `AsyncCluster.logs`."""
        report = await self.report(job_id)
        lines: asyncio.Queue[LogLine | None] = asyncio.Queue(maxsize=1000)
        indices = range(len(report.tasks)) if task_index is None else [task_index]
        if any(not 0 <= i < len(report.tasks) for i in indices):
            raise InvalidRequestError(
                f"job {job_id} has {counted(len(report.tasks), 'task')}, from 0"
            )
        if follow:
            await self._set_blocked(True)
        async with Scope(f"logs {job_id}", _raised_by_logs) as scope:
            tails = [
                scope.spawn(self._tail(Tail(self, job_id, i, follow=follow, where=where), lines))
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

    def archive(self) -> ArchiveReader | None:
        """What is kept of output for the time after its host; None where nothing is."""
        if not self._logs:
            return None
        if self._logs == LOGS_HERE:
            return ArchiveReader(control(LogsApi, self._plain, self._address, "logs"))
        return ArchiveReader(open_store(self._logs))

    def agent(self, address: str) -> AgentApi:
        """A host's agent.

        Args:
            address: Its ``host:port``.
        """
        agent = self._agents.get(address)
        if agent is None:
            agent = control(AgentApi, self._plain, address, "agent", timeout_s=AGENT_TIMEOUT_S)
            self._agents[address] = agent
        return agent


def _name_of(function: object) -> str:
    """What a function is called, so far as it says so."""
    name = getattr(function, "__qualname__", "") or type(function).__qualname__
    return f"{getattr(function, '__module__', '') or ''}.{name}"


async def _end_of(tails: list[asyncio.Task[None]], lines: asyncio.Queue[LogLine | None]) -> None:
    """Ends the lines when all tails have ended; raises what one of them raised."""
    if tails:
        await asyncio.wait(tails)
    await lines.put(None)
    for tail in tails:
        tail.result()


def _raised_by_logs(name: str, exc: BaseException) -> None:
    """A tail failed: whoever reads the lines is told at their end."""


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


def _reservation_info(report: ReservationReport) -> ReservationInfo:
    has, wants = replace(report.minimum), replace(report.minimum)
    has.replicas, wants.replicas = report.allocated, report.pending  # none is a number here
    return ReservationInfo(
        reservation_id=report.reservation_id,
        allocated_resources=has,
        pending_resources=wants,
        jobs=list(report.jobs),
        expires_at=report.expires_at,
        state=report.state,
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


def token_file_of(environ: Mapping[str, str] = os.environ, *, token_file: str = "") -> Path:
    """The file with the token for a cluster.

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
        Path(path).read_bytes()
    except OSError as exc:
        raise InvalidRequestError(f"the token file {path} cannot be read: {exc.strerror}") from exc
    return Path(path)


__all__ = ["OPEN_TIMEOUT_S", "AsyncFrayCluster", "no_answer", "token_file_of"]
