"""What the ledger knows, as frozen records that survive as JSON.

Words. A *job* has *tasks*, numbered from 0: its replicas times the hosts of each. A *gang* is
tasks of one job that live and die together. A *group* is jobs that are admitted together. A
*worker* is a host, known by its agent. Attempts have a file of their own.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from fray.cluster.controller.attempt import EndedAttempt
from fray.cluster.controller.specs import JobSpec, WorkerSpec
from fray.cluster.resources import Resources
from fray.cluster.scheduling.hosts import Holding, Kept
from fray.cluster.scheduling.inventory import HeldDevice
from fray.cluster.scheduling.view import (
    TaskKey,
)
from fray.cluster.types import JobStatus
from fray.errors import DeathCause, DeathKind
from fray.ids import AttemptId, JobId, Namespace, WorkerId

HISTORY_MAX = 8
"""Ended attempts remembered per task; the counters go on."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a job ends, once that is decided and while its attempts are still being stopped.

    Attributes:
        status: FAILED or STOPPED.
        message: Why.
        kind: Of an actor whose supervisor has said what it died of.
    """

    status: JobStatus
    message: str
    kind: DeathKind | None = None


@dataclass(frozen=True, slots=True)
class Tally:
    """How many tasks of a job are where.

    Attributes:
        live: With a live attempt.
        succeeded: Whose last attempt succeeded.
    """

    live: int = 0
    succeeded: int = 0


@dataclass(frozen=True, slots=True)
class PortMapping:
    """A name that leads to the actors that a job serves at a port.

    Attributes:
        port_name: Which of the job's ports.
        namespace: Where the name is.
        actor_name: The name.
    """

    port_name: str
    namespace: Namespace
    actor_name: str


@dataclass(frozen=True, slots=True)
class Job:
    """A job as it is now.

    Attributes:
        spec: As it was submitted.
        rank: The order of submission.
        submission_id: With which it was submitted.
        group_id: The group that it is admitted with; "" for none.
        submitted_at: In seconds since 1970.
        status: RUNNING from the moment at which a first task runs.
        verdict: How it ends, where that is decided.
        tally: How its tasks stand.
        started_at: When the first task ran; None before.
        ended_at: When it had ended and nothing of it was left; None before.
        error_message: Why it failed or was stopped.
        mappings: Names that lead to its ports, while it has not ended.
        launched: Counts the jobs that it has launched: their ids are made of it.
    """

    spec: JobSpec
    rank: int
    submission_id: str
    group_id: str
    submitted_at: float
    status: JobStatus = JobStatus.PENDING
    verdict: Verdict | None = None
    tally: Tally = Tally()
    started_at: float | None = None
    ended_at: float | None = None
    error_message: str = ""
    mappings: tuple[PortMapping, ...] = ()
    launched: int = 0


class Hold(StrEnum):
    """Why a supervised actor is not started again by the cluster: that is its supervisor's."""

    SUPERVISOR = "supervisor"
    """It has ended, or is to end, and its supervisor has not said yet what comes next."""
    DOWN = "down"
    """Its supervisor wants it to be down; who calls it is told so."""


@dataclass(frozen=True, slots=True)
class Task:
    """One task.

    Attributes:
        job_id: Whose.
        index: Which, from 0.
        status: PENDING without a running attempt; a finished one may become PENDING again only
            with its whole gang.
        attempts: How many it has had; the number of the next.
        live: Its live attempt; None without one.
        failures: How often it failed by its own fault; of a gang's task its `Gang` counts.
        preemptions: How often its host took it away; likewise.
        ready_at: No new attempt before this time.
        avoid: Hosts that failed it by their own fault.
        error: Why it failed, or last failed.
        history: Its last ended attempts, oldest first; at most `HISTORY_MAX`.
        hold: Why nothing is started, once nothing is live; None where the cluster decides.
    """

    job_id: JobId
    index: int
    status: JobStatus = JobStatus.PENDING
    attempts: int = 0
    live: AttemptId | None = None
    failures: int = 0
    preemptions: int = 0
    ready_at: float = 0.0
    avoid: tuple[WorkerId, ...] = ()
    error: str = ""
    history: tuple[EndedAttempt, ...] = ()
    hold: Hold | None = None

    @property
    def key(self) -> TaskKey:
        """Its key."""
        return TaskKey(self.job_id, self.index)


@dataclass(frozen=True, slots=True)
class Fall:
    """A gang that is going down, until its last member is gone; only then is the fall judged.

    Attributes:
        preempted: Whether some member was preempted or lost its host: then the fall is nobody's
            fault, whatever the other members died of meanwhile.
        first: The task that went first by its own fault; None where none did.
        cause: Why the first member went.
        host_fault: Whether some member failed by its host's fault.
    """

    preempted: bool
    first: int | None
    cause: DeathCause
    host_fault: bool = False


@dataclass(frozen=True, slots=True)
class Gang:
    """Tasks of one job that live and die together.

    Attributes:
        gang_id: ``<job id>/r<replica>`` or ``<job id>/all``.
        job_id: Whose.
        first: Its first task; the others follow.
        size: How many tasks.
        epoch: Which life; counts its falls.
        workers: Its hosts in this life, in order of its tasks; empty between lives.
        fall: While it is going down.
        failures: Falls by its own fault.
        preemptions: Other falls.
    """

    gang_id: str
    job_id: JobId
    first: int
    size: int
    epoch: int = 0
    workers: tuple[WorkerId, ...] = ()
    fall: Fall | None = None
    failures: int = 0
    preemptions: int = 0


@dataclass(frozen=True, slots=True)
class Group:
    """Jobs that are admitted together.

    Attributes:
        group_id: Unique; the submission's id.
        name: As its user named it.
        job_ids: Its jobs, in order.
        same_region: Whether they share a region.
        same_zone: Whether they share a zone.
        admitted: Whether it has started; from then on members are restarted alone.
        whole: Whether nothing of it starts while any of its tasks does not want a place.
    """

    group_id: str
    name: str
    job_ids: tuple[JobId, ...]
    same_region: bool = True
    same_zone: bool = False
    admitted: bool = False
    whole: bool = False


class Health(StrEnum):
    """What is thought of a host's agent."""

    HEALTHY = "healthy"
    SUSPECT = "suspect"
    """Silent for a while: nothing new goes there, nothing there is given up."""
    LOST = "lost"
    """Fenced: all that ran there is dead, and only a new boot may return."""


class CordonKind(StrEnum):
    """Why a healthy host takes nothing new."""

    DRAINING = "draining"
    """It is to be removed."""
    QUARANTINED = "quarantined"
    """It has failed tasks by its own fault."""


@dataclass(frozen=True, slots=True)
class Cordon:
    """A host that takes nothing new.

    Attributes:
        kind: Why.
        reason: For people.
        until: When that changes by itself, in seconds since 1970: what is still on a draining host
            is evicted then, and a quarantine is lifted. None for never.
    """

    kind: CordonKind
    reason: str
    until: float | None = None


@dataclass(frozen=True, slots=True)
class HostFault:
    """A task that could not be started, or was failed, by its host's fault.

    Attributes:
        job_id: Whose.
        at: When, in seconds since 1970.
        message: Why.
    """

    job_id: JobId
    at: float
    message: str


FAULTS_MAX = 16
"""Jobs whose last fault of a host is remembered."""


def _no_devices() -> Mapping[str, tuple[int, ...]]:
    return {}


def _nothing_held() -> Mapping[JobId, Holding]:
    return {}


def _nothing_kept() -> Mapping[str, Kept]:
    return {}


@dataclass(frozen=True, slots=True)
class Worker:
    """A host as it is now.

    Attributes:
        spec: As its agent described it.
        boot_id: Which life of it; a new one has nothing of the last.
        health: What is thought of its agent.
        health_reason: Why, where it is not healthy.
        cordon: Why it takes nothing new though healthy; None where it does.
        generation: Of its desired set; grows with every change of that.
        used: What live attempts have of it.
        devices: What they have of each device, in thousandths.
        holdings: What each job has there; kept only where there are slots.
        reserved: What reservations have there, by reservation.
        drawn: What of that their jobs use.
        strays: Attempts that it still runs though it should not; nothing new comes meanwhile.
        faults: Failures of tasks by the host's fault, in this life: the last one of each job.
        held: Devices that something holds there whose attempt has ended.
        registered_at: In seconds since 1970.
        gone_at: When it was given up, in seconds since 1970; None while it is there.
        left: Whether it said itself that it goes.
    """

    spec: WorkerSpec
    boot_id: str
    registered_at: float
    health: Health = Health.HEALTHY
    health_reason: str = ""
    cordon: Cordon | None = None
    generation: int = 0
    used: Resources = field(default_factory=Resources)
    devices: Mapping[str, tuple[int, ...]] = field(default_factory=_no_devices)
    holdings: Mapping[JobId, Holding] = field(default_factory=_nothing_held)
    reserved: Mapping[str, Kept] = field(default_factory=_nothing_kept)
    drawn: Mapping[str, Kept] = field(default_factory=_nothing_kept)
    strays: tuple[AttemptId, ...] = ()
    faults: tuple[HostFault, ...] = ()
    held: tuple[HeldDevice, ...] = ()
    gone_at: float | None = None
    left: bool = False


__all__ = [
    "FAULTS_MAX",
    "HISTORY_MAX",
    "Cordon",
    "CordonKind",
    "Fall",
    "Gang",
    "Group",
    "Health",
    "Hold",
    "HostFault",
    "Job",
    "PortMapping",
    "Tally",
    "Task",
    "Verdict",
    "Worker",
]
