"""What the parts of a cluster say to each other: typed interfaces over JSON.

The control plane never unpickles: arguments and results are dataclasses, structured by cattrs and
rejected with a clear error where they do not fit. `control` makes a caller of such an interface;
the actors that implement them are in `fray.cluster.controller` and `fray.cluster.worker`.

Every method here may be repeated: a submission carries an id of its client's, reports and orders
are complete sets, registrations are compare-and-set. So a caller repeats a call whose fate is
unknown by itself, until its time is up.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast, get_type_hints

from fray.actor.directory import ActorKey, Departure, Endpoint, Life, Located, Watched
from fray.actor.future import ActorFuture
from fray.actor.route import Route
from fray.cluster.controller.commands import RegisterWorker, ReportAttempts, SubmitJobs
from fray.cluster.controller.desired import Desired, Standing
from fray.cluster.types import JobStatus
from fray.errors import (
    ActorDied,
    ActorUnavailable,
    ClusterClosed,
    ClusterUnavailable,
    ConnectionRefused,
    DeadlineExceeded,
    DeathCause,
)
from fray.ids import AttemptId, JobId, WorkerId
from fray.runtime.calls import OutgoingCall
from fray.runtime.codecs import json_payload, read_json_payload

if TYPE_CHECKING:
    from fray.actor.system import ActorSystem
    from fray.runtime.payload import Payload

T = TypeVar("T")

CONTROL_TIMEOUT_S = 30.0
"""How long a call to the control plane is repeated while nobody answers: a controller that was
killed and started again answers within that time."""

RETRY_PAUSES_S = (0.05, 0.1, 0.2, 0.5, 1.0)

ACTORS_NAMESPACE = "@actors"
"""Where actors that the cluster makes are registered by their ids."""


# ---- jobs


@dataclass(frozen=True, slots=True)
class AttemptPlace:
    """Where one attempt of a task is or was.

    Attributes:
        attempt_id: The attempt.
        number: Which try of its task, from 0.
        worker_id: The host.
        agent_address: The host's agent; empty where the host is unknown by now.
        live: Whether it may still run.
        state: Its state, for people.
    """

    attempt_id: AttemptId
    number: int
    worker_id: WorkerId
    agent_address: str
    live: bool
    state: str


@dataclass(frozen=True, slots=True)
class TaskReport:
    """One task.

    Attributes:
        status: Where it is in its life.
        error: Why it failed, or last failed; empty where it did not.
        failures: Failures counted against its budget.
        preemptions: Likewise of preemptions and lost hosts.
        attempts: Its last attempts, oldest first.
    """

    status: JobStatus
    error: str = ""
    failures: int = 0
    preemptions: int = 0
    attempts: tuple[AttemptPlace, ...] = ()


@dataclass(frozen=True, slots=True)
class JobReport:
    """A job, as the controller tells of it. Carries names of variables, no values.

    Attributes:
        job_id: Its id.
        name: The name that was asked for.
        user: Whose it is.
        namespace: In which its actors are.
        status: Where it is in its life.
        tasks: Its tasks by index.
        error: Why it failed or was stopped.
        waits_for: Why it is pending, for people; empty where it is not.
        submitted_at: In seconds since 1970.
        started_at: Likewise; None before.
        ended_at: Likewise; None before.
        group: Its group's name.
        parent: The job that launched it.
        actor_id: Of an actor's job.
        resources: What each replica needs, for people.
    """

    job_id: JobId
    name: str
    user: str
    namespace: str
    status: JobStatus
    tasks: tuple[TaskReport, ...]
    error: str = ""
    waits_for: tuple[str, ...] = ()
    submitted_at: float = 0.0
    started_at: float | None = None
    ended_at: float | None = None
    group: str = ""
    parent: str = ""
    actor_id: str = ""
    resources: str = ""


class JobsApi(Protocol):
    """Jobs. Actor ``jobs`` of the controller."""

    async def submit(self, submission: SubmitJobs) -> list[JobId]:
        """Admits jobs: all or none. Gives their ids in order.

        The controller completes each id: a spec's ``job_id`` is a prefix (``user/name``).

        Raises:
            InvalidRequestError: A spec is wrong in itself.
            InfeasibleError: No host could ever run one.
        """
        ...

    async def jobs(self, job_ids: list[JobId] | None, namespace: str | None) -> list[JobReport]:
        """Reports, of the given jobs or of all (of a namespace), oldest first.

        Raises:
            JobNotFoundError: One is unknown.
        """
        ...

    async def wait(self, job_id: JobId, wait_s: float) -> JobReport:
        """The report of a job, once it has finished or after ``wait_s`` seconds.

        Raises:
            JobNotFoundError: It is unknown.
        """
        ...

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

    async def register(self, claim: NameClaim) -> None:
        """Gives an actor a name, or renews that.

        Raises:
            NameTakenError: An exclusive name belongs to somebody else.
        """
        ...

    async def renew(self, process_id: str, claims: list[NameClaim]) -> None:
        """Renews all names of a process at once; what is not known is registered anew."""
        ...

    async def unregister(self, namespace: str, name: str, actor_id: str) -> None:
        """Takes a name from an actor; no effect where somebody else has it."""
        ...

    async def locate(self, key: ActorKey, wait_s: float) -> Located:
        """Where an actor is; waits up to ``wait_s`` for a name that nobody has.

        Raises:
            ActorNotFoundError: Nobody has the name.
            ActorDied: The actor is known, and gone for good.
        """
        ...

    async def list(self, namespace: str, prefix: str) -> list[NamedEndpoint]:
        """All registrations of a namespace whose name begins with a prefix, sorted."""
        ...

    async def departed(self, endpoints: list[Endpoint], wait_s: float) -> list[Departure]:
        """Which of some endpoints are gone; waits up to ``wait_s`` for there to be one."""
        ...

    async def actor_ids(self, key: ActorKey) -> list[str]:
        """Who has a name, or had an exclusive one last; sorted."""
        ...

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

    async def lives(self, watched: list[Watched], wait_s: float) -> list[Life]:
        """What has happened to some actors; waits up to ``wait_s`` for there to be news."""
        ...

    async def start(self, actor_id: str, incarnation: int) -> None:
        """Starts a supervised actor that is down. May be repeated.

        Raises:
            InvalidRequestError: It has ended for good, or its last incarnation is still there.
        """
        ...

    async def halt(self, actor_id: str, reason: str, stop_s: float, down: bool) -> None:
        """Orders a supervised actor to stop: it is killed after ``stop_s``, and kept down.

        Raises:
            InvalidRequestError: Nobody has this id.
        """
        ...

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
    """

    standing: Standing
    desired: Desired | None
    lease_s: float


@dataclass(frozen=True, slots=True)
class HostReport:
    """A host, for people.

    Attributes:
        worker_id: Its id.
        address: Its agent.
        health: healthy, suspect, lost, draining, quarantined.
        capacity: What it has, for people.
        used: What of it is taken, for people.
        attempts: How many attempts are there.
        region: Its region.
        zone: Its zone.
    """

    worker_id: WorkerId
    address: str
    health: str
    capacity: str
    used: str
    attempts: int
    region: str = ""
    zone: str = ""


class FleetApi(Protocol):
    """Hosts. Actor ``fleet`` of the controller."""

    async def register(self, host: RegisterWorker) -> Orders:
        """A host is there, or is there again; gives its orders."""
        ...

    async def report(self, report: ReportAttempts) -> Orders:
        """What a host has; a sign of life. Gives its orders."""
        ...

    async def orders(
        self, worker_id: WorkerId, boot_id: str, generation: int, wait_s: float
    ) -> Orders:
        """The orders of a host, once they differ from a generation or after ``wait_s`` seconds."""
        ...

    async def leave(self, worker_id: WorkerId, boot_id: str, reason: str) -> None:
        """A host goes, and nothing runs there any more: what ran there may start elsewhere."""
        ...

    async def hosts(self) -> list[HostReport]:
        """All hosts, sorted by id."""
        ...

    async def drain(self, worker_id: WorkerId, reason: str) -> None:
        """Takes a host out of use: what runs there is moved."""
        ...


class BlobsApi(Protocol):
    """Opaque bytes by their digest. Actor ``blobs`` of the controller, and of each agent's."""

    async def put(self, data: bytes) -> str:
        """Keeps bytes; gives their digest."""
        ...

    async def get(self, digest: str) -> bytes:
        """The bytes with a digest.

        Raises:
            InvalidRequestError: There are none.
        """
        ...

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
    """

    name: str
    local: bool


class SessionsApi(Protocol):
    """Drivers. Actor ``sessions`` of the controller."""

    async def facts(self) -> ClusterFacts:
        """What this cluster is."""
        ...

    async def renew(self, session_id: str, ttl_s: float) -> None:
        """A driver is alive: its actors live for another ``ttl_s``."""
        ...

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
    """

    data: bytes
    next_offset: int
    end: bool


class AgentApi(Protocol):
    """One host. Actor ``agent`` of each agent."""

    async def read_log(
        self, attempt_id: AttemptId, offset: int, max_bytes: int, wait_s: float
    ) -> LogPiece:
        """Output of an attempt from an offset; waits up to ``wait_s`` for there to be some.

        Raises:
            JobNotFoundError: This host knows no such attempt.
        """
        ...

    async def obituary(self, attempt_id: AttemptId, wait_s: float) -> DeathCause | None:
        """Why an attempt ended, once it has; None if it still runs after ``wait_s`` seconds.

        Raises:
            JobNotFoundError: This host knows no such attempt.
        """
        ...

    async def set_blocked(self, attempt_id: AttemptId, blocked: bool) -> None:
        """Says whether an attempt only waits for other jobs: then it holds no slot meanwhile."""
        ...


# ---- calling


class ControlRoute(Route):
    """The way to an actor of the control plane: a fixed place, and JSON.

    Args:
        system: Whose process is used.
        address: ``host:port`` of the control plane's process.
        actor: Which actor there.
        interface: Its interface.
        timeout_s: How long a call is repeated while nobody answers.
    """

    unpickles = False
    watched = False

    def __init__(
        self, system: ActorSystem, address: str, actor: str, interface: type, timeout_s: float
    ) -> None:
        super().__init__(system, ActorKey("", actor_id=actor), f"{actor} at {address}")
        self.address = address
        self.timeout_s = timeout_s
        self._returns = _returns_of(interface)
        self._has_answered = False
        self._set((Endpoint(actor, 1, "", address),))

    def encode(self, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Payload:
        """See `Route.encode`."""
        return json_payload([args, kwargs])

    def decode(self, method: str, payload: Payload) -> Any:
        """See `Route.decode`."""
        self._has_answered = True
        return read_json_payload(payload, self._returns[method])

    def failed(self, future: ActorFuture[Any], exc: BaseException) -> None:
        """Repeats the call while there is time: the control plane may be starting again."""
        self.settled(future)
        if not isinstance(exc, ActorUnavailable | ActorDied):
            future.fail(exc)
            return
        if self.system.closed:
            future.fail(ClusterClosed(f"{self.label} was not asked: this connection was closed"))
            return
        refusal = _refusal(exc)
        if refusal is not None and not self._has_answered:
            future.fail(refusal)  # a wrong token or address stays wrong
            return
        pause_s = RETRY_PAUSES_S[min(future.attempts, len(RETRY_PAUSES_S) - 1)]
        future.attempts += 1
        old = future.call
        assert old is not None
        clock = self.process.clock
        if old.deadline is not None and clock.monotonic() + pause_s >= old.deadline:
            gone = ClusterUnavailable(f"{self.label} does not answer: {exc}")
            gone.__cause__ = exc
            future.fail(gone)
            return
        future.call = OutgoingCall(old.method, old.payload, future, deadline=old.deadline)
        self.process.loop.call_later(pause_s, self._send_again, future)

    def _send_again(self, future: ActorFuture[Any]) -> None:
        if self.system.closed:
            future.fail(ClusterClosed(f"{self.label} was not asked: this connection was closed"))
        elif not future.done():
            self._dispatch(future)


def _refusal(exc: BaseException) -> ConnectionRefused | None:
    """Why we are not let in, where that is what went wrong; a server's own trouble passes."""
    cause = exc.__cause__
    if isinstance(cause, ConnectionRefused) and cause.status < 500:
        return cause
    return None


class _Control:
    """Calls an interface: each method a coroutine function."""

    def __init__(self, route: ControlRoute) -> None:
        self._route = route

    def __repr__(self) -> str:
        return f"<control of {self._route.label}>"

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        route = self._route

        async def call(*args: Any, **kwargs: Any) -> Any:
            takes_s = float(kwargs.get("wait_s", 0.0)) + float(kwargs.get("grace_s", 0.0))
            timeout_s = route.timeout_s + takes_s
            future: ActorFuture[Any] = ActorFuture(route, name, timeout_s, 0)
            deadline = route.process.clock.monotonic() + timeout_s
            payload = route.encode(name, args, kwargs)
            route.submit(future, OutgoingCall(name, payload, future, deadline=deadline))
            try:
                return await future
            except DeadlineExceeded as exc:
                raise ClusterUnavailable(f"{route.label} does not answer: {exc}") from exc

        call.__name__ = name
        self.__dict__[name] = call
        return call


def control(
    interface: type[T],
    system: ActorSystem,
    address: str,
    actor: str,
    *,
    timeout_s: float = CONTROL_TIMEOUT_S,
) -> T:
    """A caller of an actor of the control plane. Its methods are used on the system's loop only.

    Give ``wait_s`` and ``grace_s`` by keyword: the call's time limit counts from their end.

    Args:
        interface: One of the protocols here.
        system: Whose process is used.
        address: ``host:port`` of the control plane's process.
        actor: Which actor there.
        timeout_s: How long a call is repeated while nobody answers, in seconds.
    """
    return cast("T", _Control(ControlRoute(system, address, actor, interface, timeout_s)))


def _returns_of(interface: type) -> dict[str, Any]:
    return {
        name: get_type_hints(fn).get("return", Any)
        for name, fn in inspect.getmembers(interface, inspect.isfunction)
        if not name.startswith("_")
    }


__all__ = [
    "ACTORS_NAMESPACE",
    "CONTROL_TIMEOUT_S",
    "ActorsApi",
    "AgentApi",
    "AttemptPlace",
    "BlobsApi",
    "ClusterFacts",
    "ControlRoute",
    "FleetApi",
    "HostReport",
    "JobReport",
    "JobsApi",
    "LogPiece",
    "NameClaim",
    "NamedEndpoint",
    "NamesApi",
    "Orders",
    "SessionsApi",
    "TaskReport",
    "control",
]
