"""What the parts of a cluster say to each other: typed interfaces over JSON.

The control plane never unpickles: arguments and results are dataclasses, structured by cattrs and
rejected with a clear error where they do not fit. `fray.cluster.controlcalls` makes callers of
these interfaces; what implements them is in `fray.cluster.controller` and `fray.cluster.worker`.

Every method here may be repeated: a submission carries an id of its client's, reports and orders
are complete sets, registrations are compare-and-set. So a caller repeats a call whose fate is
unknown by itself, until its time is up.

Who may call a method is declared beside it (`fray.cluster.access`), and enforced where it is
served.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from fray.actor.directory import ActorKey, Departure, Endpoint, Life, Located, Watched
from fray.cluster.access import Scope, allows
from fray.cluster.archive.layout import Entry
from fray.cluster.controller.commands import RegisterWorker, ReportAttempts, SubmitJobs
from fray.cluster.controller.desired import Desired, Standing
from fray.cluster.controller.specs import JobSpec
from fray.cluster.reports import HostReport, JobCounts, JobPreview, JobQuery, JobReport
from fray.cluster.retention import RetentionPolicy
from fray.cluster.security.api import AttemptToken, HostTokens
from fray.cluster.security.claims import Role
from fray.cluster.shelflimits import ShelfLimits
from fray.cluster.usage import HostUse
from fray.errors import DeathCause
from fray.ids import AttemptId, JobId, Namespace, WorkerId

USER, WORKER, JOB = Role.USER, Role.WORKER, Role.JOB

ACTORS_NAMESPACE = "@actors"
"""Where actors that the cluster makes are registered by their ids."""


# ---- jobs


class JobsApi(Protocol):
    """Jobs. Actor ``jobs`` of the controller."""

    @allows(USER, JOB, scope=Scope.SUBMIT)
    async def submit(self, submission: SubmitJobs) -> list[JobId]:
        """Admits jobs: all or none. Gives their ids in order.

        The controller makes the ids, see `fray.cluster.controller.jobids`; those of the specs do
        not matter. A submission that was made before is answered with its jobs.

        Raises:
            InvalidRequestError: A spec is wrong in itself, or the submission was another one.
            InfeasibleError: No host could ever run one.
        """
        ...

    @allows(USER, JOB, scope=Scope.PREVIEW)
    async def preview(self, spec: JobSpec) -> JobPreview:
        """What would become of a job; nothing is changed.

        Raises:
            InvalidRequestError: It is wrong in itself.
            InfeasibleError: No host could ever run it.
        """
        ...

    @allows(USER, JOB, scope=Scope.READ_JOB)
    async def report(self, job_id: JobId) -> JobReport:
        """The report of one job.

        Raises:
            JobNotFoundError: It is unknown.
        """
        ...

    @allows(USER, JOB, scope=Scope.QUERY_JOBS)
    async def list(self, query: JobQuery) -> list[JobReport]:
        """Reports of the jobs that a query names, oldest first.

        One that names many takes the controller's time: ask for a hundred at once.
        """
        ...

    @allows(USER, JOB, scope=Scope.QUERY_JOBS)
    async def ids(self, query: JobQuery) -> list[JobId]:
        """The ids of the jobs that a query names, oldest first."""
        ...

    @allows(USER, JOB, scope=Scope.QUERY_JOBS)
    async def counts(self, query: JobQuery) -> JobCounts:
        """How many of the jobs that a query names there are of each status."""
        ...

    @allows(USER, JOB, scope=Scope.READ_JOB)
    async def wait(self, job_id: JobId, wait_s: float) -> JobReport:
        """The report of a job, once it has finished or after ``wait_s`` seconds.

        Raises:
            JobNotFoundError: It is unknown.
        """
        ...

    @allows(USER, JOB, scope=Scope.MAPPING)
    async def create_mapping(
        self, job_id: JobId, port_name: str, namespace: Namespace, actor_name: str
    ) -> None:
        """Lets a name lead to the actors that a job serves at a port, until the job ends.

        Raises:
            JobNotFoundError: The job is unknown.
            InvalidRequestError: It has no such port, or has ended.
            NameTakenError: A living actor has the name exclusively.
        """
        ...

    @allows(USER, JOB, scope=Scope.STOP_JOB)
    async def stop(self, job_id: JobId, reason: str, grace_s: float) -> None:
        """Orders a job and its children to stop. No effect on a finished one.

        Raises:
            JobNotFoundError: It is unknown.
        """
        ...


# ---- names and actors


@dataclass(frozen=True, slots=True)
class NameClaim:
    """A registration, as a process asks for it.

    Attributes:
        namespace: Where the name is.
        name: The name.
        endpoint: The actor.
        exclusive: Whether nobody else may have the name.
        slot: Who holds it, over restarts of the holder.
        incarnation: Counts the holder's restarts: a later one replaces an earlier one.
        ttl_s: How long it lasts unless renewed.
    """

    namespace: str
    name: str
    endpoint: Endpoint
    exclusive: bool
    slot: str
    incarnation: int
    ttl_s: float


@dataclass(frozen=True, slots=True)
class NamedEndpoint:
    """A name and an actor that has it."""

    name: str
    endpoint: Endpoint


class NamesApi(Protocol):
    """Names, and where actors are. Actor ``names`` of the controller. Never waits for a disk."""

    @allows(USER, JOB, scope=Scope.CLAIM)
    async def register(self, claim: NameClaim) -> None:
        """Gives an actor a name, or renews that.

        Raises:
            NameTakenError: An exclusive name belongs to somebody else.
        """
        ...

    @allows(USER, JOB, scope=Scope.CLAIMS)
    async def renew(self, process_id: str, claims: list[NameClaim]) -> None:
        """Renews all names of a process at once; what is not known is registered anew."""
        ...

    @allows(USER, JOB, scope=Scope.DISCLAIM)
    async def unregister(
        self, namespace: str, name: str, actor_id: str, incarnation: int = 0
    ) -> None:
        """Takes a name from an actor; no effect where somebody else has it.

        A process that gives up its own says which life of the actor it is (0: whichever there is),
        for by now a successor elsewhere may have the name.
        """
        ...

    @allows(USER, JOB, scope=Scope.KEY)
    async def locate(self, key: ActorKey, wait_s: float) -> Located:
        """Where an actor is; waits up to ``wait_s`` for a name that nobody has.

        Raises:
            ActorNotFoundError: Nobody has the name.
            ActorDied: The actor is known, and gone for good.
        """
        ...

    @allows(USER, JOB, scope=Scope.NAMESPACE)
    async def list(self, namespace: str, prefix: str) -> list[NamedEndpoint]:
        """All registrations of a namespace whose name begins with a prefix, sorted."""
        ...

    @allows(USER, JOB, scope=Scope.ENDPOINTS)
    async def departed(self, endpoints: list[Endpoint], wait_s: float) -> list[Departure]:
        """Which of some endpoints are gone; waits up to ``wait_s`` for there to be one."""
        ...

    @allows(USER, JOB, scope=Scope.KEY)
    async def actor_ids(self, key: ActorKey) -> list[str]:
        """Who has a name, or had an exclusive one last; sorted."""
        ...

    @allows(USER, JOB, scope=Scope.KEY)
    async def stop_actor(
        self, key: ActorKey, grace_s: float, reason: str = "its handle stopped it"
    ) -> bool:
        """Orders the job of an actor that the cluster made to stop; False if there is none.

        Whoever calls the actor then is told the reason: who stopped it.

        Returns when the actor has stopped.
        """
        ...


class ActorsApi(Protocol):
    """What becomes of actors. Actor ``actors`` of the controller."""

    @allows(USER, JOB, scope=Scope.WATCHED)
    async def lives(self, watched: list[Watched], wait_s: float) -> list[Life]:
        """What has happened to some actors; waits up to ``wait_s`` for there to be news."""
        ...

    @allows(USER, JOB, scope=Scope.ACTOR)
    async def start(self, actor_id: str, incarnation: int) -> None:
        """Starts a supervised actor that is down. May be repeated.

        Raises:
            InvalidRequestError: It has ended for good, or its last incarnation is still there.
        """
        ...

    @allows(USER, JOB, scope=Scope.ACTORS)
    async def start_together(self, group_id: str, name: str, incarnations: dict[str, int]) -> None:
        """Starts supervised actors that are down, all of them or none. May be repeated.

        Raises:
            InvalidRequestError: As for `start`, of any of them.
        """
        ...

    @allows(USER, JOB, scope=Scope.ACTOR)
    async def halt(self, actor_id: str, reason: str, stop_s: float, down: bool) -> None:
        """Orders a supervised actor to stop: it is killed after ``stop_s``, and kept down.

        Raises:
            InvalidRequestError: Nobody has this id.
        """
        ...

    @allows(USER, JOB, scope=Scope.ACTOR)
    async def end(self, actor_id: str, cause: DeathCause) -> None:
        """A supervised actor will not be started again; what is left of it is killed.

        Raises:
            InvalidRequestError: Nobody has this id.
        """
        ...


# ---- hosts


@dataclass(frozen=True, slots=True)
class Orders:
    """All that a host shall run: the complete set.

    Attributes:
        standing: Whether this life of the host is still good. One that is fenced kills everything
            and registers anew under another boot id; an unknown one registers.
        desired: The attempts; what runs and is not among them is to be killed. None where the host
            said that it has this set already.
        lease_s: For how long the host may go on without hearing from the controller.
        retain_s: For how long it keeps what ended attempts have left: their output.
        revoked: The version of what was revoked; see `SecurityApi.revocations`.
        environments: How much it keeps of environments that are not in use.
        tokens: The first ones of attempts that the host has not told of yet. They are no part of
            the ledger, and so of no journal.
    """

    standing: Standing
    desired: Desired | None
    lease_s: float
    retain_s: float = RetentionPolicy().age_s
    revoked: int = 0
    environments: ShelfLimits = field(default_factory=ShelfLimits)
    tokens: tuple[AttemptToken, ...] = ()


class FleetApi(Protocol):
    """Hosts. Actor ``fleet`` of the controller."""

    @allows(WORKER, scope=Scope.REGISTER)
    async def register(self, host: RegisterWorker) -> Orders:
        """A host is there, or is there again; gives its orders."""
        ...

    @allows(WORKER, scope=Scope.REPORT)
    async def report(self, report: ReportAttempts) -> Orders:
        """What a host has; a sign of life. Gives its orders."""
        ...

    @allows(WORKER, scope=Scope.WORKER)
    async def orders(
        self, worker_id: WorkerId, boot_id: str, generation: int, wait_s: float
    ) -> Orders:
        """The orders of a host, once they differ from a generation or after ``wait_s`` seconds."""
        ...

    @allows(WORKER, scope=Scope.WORKER)
    async def leave(self, worker_id: WorkerId, boot_id: str, reason: str) -> None:
        """A host goes, and nothing runs there any more: what ran there may start elsewhere."""
        ...

    @allows(WORKER, scope=Scope.WORKER)
    async def tokens(
        self, worker_id: WorkerId, boot_id: str, attempt_ids: list[AttemptId]
    ) -> HostTokens:
        """New tokens for attempts of a host, and for itself."""
        ...

    @allows(USER, JOB)
    async def hosts(self) -> list[HostReport]:
        """All hosts, sorted by id."""
        ...

    @allows(USER, JOB)
    async def cpus(self) -> float:
        """How many CPUs the hosts have together that take work, free or not."""
        ...

    @allows()
    async def drain(self, worker_id: WorkerId, reason: str, deadline_s: float = 0.0) -> None:
        """Takes a host out of use; what runs there after ``deadline_s`` seconds is moved.

        Raises:
            InvalidRequestError: There is no such host, or the deadline is no time to come.
        """
        ...

    @allows()
    async def undrain(self, worker_id: WorkerId) -> None:
        """Takes a host that was drained or quarantined into use again."""
        ...


class BlobsApi(Protocol):
    """Opaque bytes by their digest. Actor ``blobs`` of the controller, and of each agent's."""

    @allows(USER, JOB)
    async def put(self, data: bytes) -> str:
        """Keeps bytes; gives their digest."""
        ...

    @allows(WORKER)
    async def get(self, digest: str) -> bytes:
        """The bytes with a digest.

        Raises:
            InvalidRequestError: There are none.
        """
        ...

    @allows(USER, JOB, WORKER)
    async def has(self, digest: str) -> bool:
        """Whether there are bytes with a digest."""
        ...


@dataclass(frozen=True, slots=True)
class ClusterFacts:
    """What a cluster is.

    Attributes:
        name: Its name.
        local: Whether it is embedded in one process: then slices are virtual, and a job that
            waits for others frees its slot.
        peer_token: What whoever asks shows to other processes than the controller; "" where they
            have nothing to do with those, or the cluster's only token serves for all.
        certificate: Of the door of whoever asks, as PEM; "" where nothing is encrypted.
        key: Its private key, likewise.
        renew_s: After how many seconds to ask for new ones; 0 where they last.
        takes_bundles: Whether its hosts have no part in the files of whoever launches, so that a
            workspace is sent to them.
        logs: Where what jobs print is archived: a path or URL, or `LOGS_HERE` for the controller's
            own; empty for nowhere.
    """

    name: str
    local: bool
    peer_token: str = ""
    certificate: str = ""
    key: str = ""
    renew_s: float = 0.0
    takes_bundles: bool = False
    logs: str = ""


LOGS_HERE = "controller"
"""See `ClusterFacts.logs`: then the files of the archive go through the actor ``logs``."""


class LogsApi(Protocol):
    """Files of the log archive, as `fray.cluster.archive.store.Store`. Actor ``logs``.

    Every method raises `InvalidRequestError` for a path that is none, and `ClusterUnavailable` for
    what cannot be done now.
    """

    @allows(WORKER, scope=Scope.ARCHIVED)
    async def put(self, path: str, data: bytes) -> None:
        """Keeps a file, in place of an earlier one."""
        ...

    @allows(USER, JOB, WORKER, scope=Scope.ARCHIVED)
    async def get(self, path: str) -> bytes | None:
        """A file; None where there is none."""
        ...

    @allows(USER, JOB, WORKER, scope=Scope.ARCHIVED)
    async def list(self, folder: str) -> list[Entry]:
        """All files below a folder, sorted by path; of the whole store for an empty name."""
        ...

    @allows(WORKER, scope=Scope.ARCHIVED)
    async def remove(self, paths: Sequence[str]) -> None:
        """Removes files; no effect for those that are not there."""
        ...


class SessionsApi(Protocol):
    """Drivers. Actor ``sessions`` of the controller."""

    @allows(USER, JOB, WORKER)
    async def facts(self) -> ClusterFacts:
        """What this cluster is."""
        ...

    @allows(USER, JOB, scope=Scope.SESSION)
    async def renew(self, session_id: str, ttl_s: float) -> int:
        """A driver is alive: its actors live for another ``ttl_s``.

        Gives the version of what was revoked; see `SecurityApi.revocations`.
        """
        ...

    @allows(USER, JOB, scope=Scope.SESSION)
    async def end(self, session_id: str) -> None:
        """A driver has gone: its actors that are not detached stop."""
        ...


@dataclass(frozen=True, slots=True)
class LogPiece:
    """Part of an attempt's output.

    Attributes:
        data: The bytes.
        next_offset: Where the next piece begins.
        end: Whether the attempt has ended and this is all.
        offset: Where this one was looked for.
    """

    data: bytes
    next_offset: int
    end: bool
    offset: int = 0


@dataclass(frozen=True, slots=True)
class ExecRequest:
    """A program to be run inside a running attempt.

    Attributes:
        attempt_id: The attempt.
        argv: The program, as the attempt's ``PATH`` finds it, and its arguments.
        tty: Whether it gets a terminal; then all its output is one stream.
        rows: Of the terminal.
        columns: Of the terminal.
        term: The terminal's kind; empty for the attempt's own.
    """

    attempt_id: AttemptId
    argv: tuple[str, ...]
    tty: bool = False
    rows: int = 24
    columns: int = 80
    term: str = ""


@dataclass(frozen=True, slots=True)
class ChannelPiece:
    """Part of what comes out of a channel.

    Attributes:
        data: The bytes.
        next_offset: Where the next piece begins.
        end: Whether this is the end.
        exit_code: What the program ended with, once it has.
    """

    data: bytes
    next_offset: int
    end: bool
    exit_code: int | None


class ChannelsApi(Protocol):
    """Programs inside attempts, and their ports. Actor ``channels`` of each agent.

    Every method but ``close`` raises `JobNotFoundError` where there is no such channel or attempt.
    """

    @allows(USER, scope=Scope.EXEC)
    async def open_exec(self, channel_id: str, request: ExecRequest) -> None:
        """Starts a program; its output is stream 1, and without a terminal also 2.

        Raises:
            InvalidRequestError: The attempt does not run, or too much is open.
        """
        ...

    @allows(USER, scope=Scope.OPEN_PORT)
    async def open_port(self, channel_id: str, attempt_id: AttemptId, port_name: str) -> None:
        """Connects to a port of an attempt; what comes back is stream 1.

        Raises:
            InvalidRequestError: It has no such port, or nothing listens there.
        """
        ...

    @allows(USER, scope=Scope.CHANNEL)
    async def read(
        self, channel_id: str, stream: int, offset: int, max_bytes: int, wait_s: float
    ) -> ChannelPiece:
        """What came out, from an offset on; what is before it is not kept any longer."""
        ...

    @allows(USER, scope=Scope.CHANNEL)
    async def write(self, channel_id: str, offset: int, data: bytes, end: bool) -> int:
        """Puts bytes in, those of them that have not come yet; gives how many have, in all."""
        ...

    @allows(USER, scope=Scope.CHANNEL)
    async def resize(self, channel_id: str, rows: int, columns: int) -> None:
        """The client's terminal has another size."""
        ...

    @allows(USER, scope=Scope.CHANNEL)
    async def signal(self, channel_id: str, number: int) -> None:
        """Passes a signal on to the program."""
        ...

    @allows(USER, scope=Scope.CHANNEL)
    async def close(self, channel_id: str) -> None:
        """Ends a channel, and the program."""
        ...


class AgentApi(Protocol):
    """One host. Actor ``agent`` of each agent."""

    @allows(USER, JOB, scope=Scope.ATTEMPT)
    async def read_log(
        self, attempt_id: AttemptId, offset: int, max_bytes: int, wait_s: float
    ) -> LogPiece:
        """Output of an attempt from an offset; waits up to ``wait_s`` for there to be some.

        An offset below 0 counts from the present end.

        Raises:
            JobNotFoundError: This host knows no such attempt.
        """
        ...

    @allows(USER, JOB, scope=Scope.ATTEMPT)
    async def log_offset(self, attempt_id: AttemptId, time: float) -> int:
        """An offset before which nothing was printed at or after a time; 0 for not known.

        Raises:
            JobNotFoundError: This host knows no such attempt.
        """
        ...

    @allows(USER, JOB, scope=Scope.ATTEMPT)
    async def obituary(self, attempt_id: AttemptId, wait_s: float) -> DeathCause | None:
        """Why an attempt ended, once it has; None if it still runs after ``wait_s`` seconds.

        Raises:
            JobNotFoundError: This host knows no such attempt.
        """
        ...

    @allows(USER, JOB, scope=Scope.ATTEMPT)
    async def stacks(self, attempt_id: AttemptId) -> str:
        """What the Python code of an attempt is doing now, for people.

        Raises:
            JobNotFoundError: This host knows no such attempt.
            InvalidRequestError: It does not run, or it cannot be told.
        """
        ...

    @allows()
    async def use(self) -> HostUse:
        """What the host and its attempts use now; of two questions the second also says lately."""
        ...

    @allows(USER, JOB, scope=Scope.ATTEMPT)
    async def set_blocked(self, attempt_id: AttemptId, blocked: bool) -> None:
        """Says whether an attempt only waits for other jobs: then it holds no slot meanwhile."""
        ...

    @allows(USER, JOB, scope=Scope.ATTEMPT)
    async def report_checkpoint(self, attempt_id: AttemptId) -> None:
        """An attempt has saved its work; told twice, it has saved it twice."""
        ...


__all__ = [
    "ACTORS_NAMESPACE",
    "LOGS_HERE",
    "ActorsApi",
    "AgentApi",
    "BlobsApi",
    "ChannelPiece",
    "ChannelsApi",
    "ClusterFacts",
    "ExecRequest",
    "FleetApi",
    "JobsApi",
    "LogPiece",
    "LogsApi",
    "NameClaim",
    "NamedEndpoint",
    "NamesApi",
    "Orders",
    "SessionsApi",
]
