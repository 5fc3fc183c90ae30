"""What may be asked of the ledger: every change of the cluster's state is one of these.

A command carries all that its effect depends on, identifiers included, so that the journal can
replay it. Those that a sender may repeat say how a repetition is recognised.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from fray.cluster.controller.attempt import AttemptState
from fray.cluster.controller.records import CordonKind, PortMapping
from fray.cluster.controller.specs import JobSpec, WorkerSpec
from fray.cluster.devices import ResourceConfig
from fray.cluster.priority import Band
from fray.cluster.scheduling.accounts import Budget
from fray.cluster.scheduling.inventory import HeldDevice
from fray.cluster.scheduling.plan import Assignment, Preemption
from fray.cluster.scheduling.policy import Policy
from fray.cluster.scheduling.view import (
    Claim,
)
from fray.errors import DeathCause, DeathKind
from fray.ids import AttemptId, JobId, Namespace, ReservationId, WorkerId

STOP_GRACE_S = 30.0
"""From the first notice to the kill, unless somebody says otherwise."""


def _no_ports() -> Mapping[str, int]:
    return {}


def _no_reasons() -> Mapping[JobId, str]:
    return {}


@dataclass(frozen=True, slots=True)
class RegisterWorker:
    """A host's agent reports for duty.

    Repeated with the boot id that is known it only updates the description, whose capacity must
    be the same. A new boot id says that nothing of the host's earlier life runs any more: its
    attempts are lost. Only the same host can say so, and shows it by knowing that life.

    Attributes:
        spec: The host.
        boot_id: Which life of it; kept by an agent that restarts and re-adopts its tasks.
        earlier: The boot ids of its earlier lives, as far as it remembers them.
    """

    spec: WorkerSpec
    boot_id: str
    earlier: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ObservedAttempt:
    """An attempt as its agent sees it.

    Attributes:
        attempt_id: Which.
        state: ASSIGNED where nothing was begun; an ended one is told until it is not desired.
        cause: Why it ended, where it did not succeed.
        host_fault: Whether it failed by the host's fault, and not by its own.
        ports: The ports that were found for it, by name.
        address: Where its process listens; "" while it does not.
        blocked: Whether it only waits for other jobs.
        checkpoints: How often it has said that its work is saved.
        ran_s: For how long one that has ended ran, in seconds; None where it did not.
    """

    attempt_id: AttemptId
    state: AttemptState
    cause: DeathCause | None = None
    host_fault: bool = False
    ports: Mapping[str, int] = field(default_factory=_no_ports)
    address: str = ""
    blocked: bool = False
    checkpoints: int = 0
    ran_s: float | None = None


@dataclass(frozen=True, slots=True)
class ReportAttempts:
    """All that an agent has, whole and not as a difference: repeating it changes nothing.

    What is desired and missing here is lost, unless the agent cannot know of it yet. What is here
    and not desired is a stray; it is absent from the desired set, so the agent ends it.

    Attributes:
        worker_id: Whose agent.
        boot_id: In which life of the host.
        generation: Of the newest desired set that the agent has taken over (and recorded, so that
            it knows of every attempt in it even after a crash); 0 before the first.
        attempts: Every attempt of which it has a process or an unacknowledged end.
        held: Devices that something holds whose attempt has ended.
    """

    worker_id: WorkerId
    boot_id: str
    generation: int
    attempts: tuple[ObservedAttempt, ...]
    held: tuple[HeldDevice, ...] = ()


@dataclass(frozen=True, slots=True)
class MarkWorker:
    """A host's agent has fallen silent, or is heard again.

    Attributes:
        worker_id: Which host.
        boot_id: In which life; of another life the command says nothing.
        suspect: Whether it is silent.
        reason: For people.
    """

    worker_id: WorkerId
    boot_id: str
    suspect: bool
    reason: str = ""


@dataclass(frozen=True, slots=True)
class WorkerLost:
    """A host is gone and fenced: by now its lease, kill time and margin are over.

    Only who knows that nothing of this life still runs may send it; its tasks start elsewhere at
    once. Of another life than the current one it says nothing.

    Attributes:
        worker_id: Which host.
        boot_id: In which life.
        reason: For people.
        preempted: Whether the cloud took it back.
    """

    worker_id: WorkerId
    boot_id: str
    reason: str
    preempted: bool = False


@dataclass(frozen=True, slots=True)
class CordonWorker:
    """A host is to take nothing new.

    Attributes:
        worker_id: Which host.
        kind: Whether it is to be removed or is under suspicion.
        reason: For people.
        evict: Whether what runs there is to go elsewhere, charged as preemption.
        grace_s: How long an evicted attempt has from the notice to the kill, in seconds.
        until: See `Cordon`.
    """

    worker_id: WorkerId
    kind: CordonKind
    reason: str
    evict: bool = False
    grace_s: float = STOP_GRACE_S
    until: float | None = None


@dataclass(frozen=True, slots=True)
class UncordonWorker:
    """A host may take new tasks again.

    Attributes:
        worker_id: Which host.
    """

    worker_id: WorkerId


@dataclass(frozen=True, slots=True)
class RemoveWorker:
    """A host is forgotten. It must have no live attempt; an unknown one is no error.

    Attributes:
        worker_id: Which host.
    """

    worker_id: WorkerId


@dataclass(frozen=True, slots=True)
class GroupSpec:
    """Jobs of one submission that are admitted together.

    Attributes:
        name: For people.
        same_region: Whether they must share a region.
        same_zone: Whether they must share a zone.
    """

    name: str
    same_region: bool = True
    same_zone: bool = False


@dataclass(frozen=True, slots=True)
class SubmitJobs:
    """New jobs, all or none.

    Repeated with the same submission id it changes nothing and answers with the jobs of the first
    time, whatever ids the repetition carries; what it asks for must be the same.

    Attributes:
        submission_id: Made by the client, once per submission.
        jobs: At least one.
        group: Whether they are admitted together; None: each on its own.
    """

    submission_id: str
    jobs: tuple[JobSpec, ...]
    group: GroupSpec | None = None


@dataclass(frozen=True, slots=True)
class StopJob:
    """A job is to end, and its children with it. Of an ended job it says nothing.

    Repeated while the job is stopping, a shorter grace takes effect.

    Attributes:
        job_id: Which.
        reason: For people.
        grace_s: From the notice to the kill, in seconds; 0 kills at once.
    """

    job_id: JobId
    reason: str
    grace_s: float = STOP_GRACE_S


@dataclass(frozen=True, slots=True)
class MapPort:
    """A name is to lead to the actors that a job serves at one of its ports. May be repeated.

    Additive: another job may be mapped to the same name. The mapping ends with the job.

    Attributes:
        job_id: Which job.
        mapping: The port, and the name.
    """

    job_id: JobId
    mapping: PortMapping


@dataclass(frozen=True, slots=True)
class EndOverdue:
    """Limits of waiting are to be enforced. A job that has time left stays as it is.

    Attributes:
        jobs: Those that have waited too long, and what they waited for, for people.
    """

    jobs: Mapping[JobId, str] = field(default_factory=_no_reasons)


@dataclass(frozen=True, slots=True)
class StartActor:
    """A supervised actor that is down is to be started again. Repeated, it changes nothing.

    Attributes:
        job_id: Its job.
        number: Of the attempt that begins, from 0.
    """

    job_id: JobId
    number: int


@dataclass(frozen=True, slots=True)
class StartTogether:
    """Supervised actors that are down are to be started, all or none. Repeated, it changes nothing.

    Attributes:
        group_id: Made by their supervisor, once for each life of its gang.
        name: The gang's, for people.
        starts: Which actors.
    """

    group_id: str
    name: str
    starts: tuple[StartActor, ...]


@dataclass(frozen=True, slots=True)
class StopActor:
    """A supervised actor is to be down until its supervisor starts it again.

    Attributes:
        job_id: Its job.
        reason: For people.
        grace_s: From the notice to the kill, in seconds; 0 kills at once.
        down: Whether its callers are told that it is down, rather than wait for it.
    """

    job_id: JobId
    reason: str
    grace_s: float = STOP_GRACE_S
    down: bool = False


@dataclass(frozen=True, slots=True)
class EndActor:
    """A supervised actor has died for good. Of one that has ended it says nothing.

    Attributes:
        job_id: Its job.
        kind: What it died of.
        reason: For people.
    """

    job_id: JobId
    kind: DeathKind
    reason: str


@dataclass(frozen=True, slots=True)
class ApplyPlan:
    """The planner's decisions; each is checked against what is true by now, and taken or refused.

    Attributes:
        revision: Of the view that was planned.
        assignments: One per unit.
        preemptions: Who is to be stopped for whom.
        claims: All places that are being freed for somebody; others are not any more.
        overdue: Attempts whose time limit is over.
    """

    revision: int
    assignments: tuple[Assignment, ...]
    preemptions: tuple[Preemption, ...] = ()
    claims: tuple[Claim, ...] = ()
    overdue: tuple[AttemptId, ...] = ()


@dataclass(frozen=True, slots=True)
class SetPolicy:
    """How places are given from now on.

    Attributes:
        policy: All settings.
    """

    policy: Policy


@dataclass(frozen=True, slots=True)
class SetUser:
    """What a user may use, and how much they count; what is None stays as it is.

    Attributes:
        user: Which; need not have been seen before.
        weight: Twice the weight is twice the share; above 0.
        quota: Amounts that their attempts may have at once, by name; an empty one lifts it.
        budget: What they may use in a period; one without amounts lifts it.
        highest_band: The highest band that their jobs may ask for.
    """

    user: str
    weight: float | None = None
    quota: Mapping[str, float] | None = None
    budget: Budget | None = None
    highest_band: Band | None = None


@dataclass(frozen=True, slots=True)
class CreateReservation:
    """Resources are to be kept. Repeated with the same id it changes nothing.

    Attributes:
        reservation_id: Made by the controller; unique for ever.
        user: Whose.
        namespace: Of whose connection.
        minimum: What is to be kept.
        maximum: How much it may become.
        hosts_per_replica: A slice's hosts; 1 where slices are virtual.
        priority: See `fray.cluster.priority`.
        preemptible: Whether hosts that the cloud may take back will do.
        ttl_s: How long, in seconds, above 0.
    """

    reservation_id: ReservationId
    user: str
    namespace: Namespace
    minimum: ResourceConfig
    maximum: ResourceConfig
    hosts_per_replica: int
    priority: int
    preemptible: bool
    ttl_s: float


@dataclass(frozen=True, slots=True)
class RenewReservation:
    """A reservation is to last longer: until so long from now.

    Attributes:
        reservation_id: Which.
        ttl_s: How long, in seconds, above 0.
    """

    reservation_id: ReservationId
    ttl_s: float


@dataclass(frozen=True, slots=True)
class ReleaseReservation:
    """A reservation is no longer wanted; its jobs go on without it. Of one that ended: nothing.

    Attributes:
        reservation_id: Which.
        reason: For people.
    """

    reservation_id: ReservationId
    reason: str


@dataclass(frozen=True, slots=True)
class ExpireReservations:
    """Those reservations whose time is over give back what is idle."""


@dataclass(frozen=True, slots=True)
class SessionEnded:
    """A driver is gone for good: its actors end, except detached ones. Its jobs go on.

    Attributes:
        session: The driver's.
        reason: For people.
    """

    session: str
    reason: str


@dataclass(frozen=True, slots=True)
class ForgetJobs:
    """Ended jobs are dropped from the records. Unknown ones are no error.

    Attributes:
        job_ids: Which.
    """

    job_ids: tuple[JobId, ...]


@dataclass(frozen=True, slots=True)
class ForgetReservations:
    """Ended reservations are dropped from the records.

    Unknown ones, and those that a job still refers to, are no error, and nothing happens to them.

    Attributes:
        reservation_ids: Which.
    """

    reservation_ids: tuple[ReservationId, ...]


@dataclass(frozen=True, slots=True)
class ForgetUsers:
    """Users who have nothing any more are dropped from the records.

    Unknown ones, and those that have something again, are no error, and nothing happens to them.

    Attributes:
        users: Who.
    """

    users: tuple[str, ...]


Command: TypeAlias = (
    RegisterWorker
    | ReportAttempts
    | MarkWorker
    | WorkerLost
    | CordonWorker
    | UncordonWorker
    | RemoveWorker
    | SubmitJobs
    | StopJob
    | MapPort
    | EndOverdue
    | StartActor
    | StartTogether
    | StopActor
    | EndActor
    | ApplyPlan
    | SetPolicy
    | SetUser
    | CreateReservation
    | RenewReservation
    | ReleaseReservation
    | ExpireReservations
    | SessionEnded
    | ForgetJobs
    | ForgetReservations
    | ForgetUsers
)
"""Anything that may be asked of the ledger."""


__all__ = [
    "STOP_GRACE_S",
    "ApplyPlan",
    "Command",
    "CordonWorker",
    "CreateReservation",
    "EndActor",
    "EndOverdue",
    "ExpireReservations",
    "ForgetJobs",
    "ForgetReservations",
    "ForgetUsers",
    "GroupSpec",
    "MapPort",
    "MarkWorker",
    "ObservedAttempt",
    "RegisterWorker",
    "ReleaseReservation",
    "RemoveWorker",
    "RenewReservation",
    "ReportAttempts",
    "SessionEnded",
    "SetPolicy",
    "SetUser",
    "StartActor",
    "StartTogether",
    "StopActor",
    "StopJob",
    "SubmitJobs",
    "UncordonWorker",
    "WorkerLost",
]
