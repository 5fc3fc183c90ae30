"""What the ledger says has happened, for whoever waits for it.

Events tell; they are not the state. Who missed some reads the state and has missed nothing.
"""

from dataclasses import dataclass
from typing import TypeAlias

from fray.cluster.controller.attempt import AttemptState
from fray.cluster.controller.records import Health, PortMapping
from fray.cluster.types import JobStatus
from fray.errors import DeathCause
from fray.ids import AttemptId, JobId, ReservationId, WorkerId


@dataclass(frozen=True, slots=True)
class JobsSubmitted:
    """The answer to a submission.

    Attributes:
        submission_id: Which.
        job_ids: Its jobs, in order.
        again: Whether they were already there.
    """

    submission_id: str
    job_ids: tuple[JobId, ...]
    again: bool = False


@dataclass(frozen=True, slots=True)
class JobChanged:
    """A job has another status.

    Attributes:
        job_id: Which.
        status: The new one.
        message: Why, where it failed or was stopped.
    """

    job_id: JobId
    status: JobStatus
    message: str = ""


@dataclass(frozen=True, slots=True)
class JobEnding:
    """How a job will end is decided; its attempts are being stopped.

    Attributes:
        job_id: Which.
        status: What its status will be.
        message: Why.
    """

    job_id: JobId
    status: JobStatus
    message: str


@dataclass(frozen=True, slots=True)
class PortMapped:
    """A name leads to a port of a job from now on.

    Attributes:
        job_id: Which job.
        mapping: The port, and the name.
    """

    job_id: JobId
    mapping: PortMapping


@dataclass(frozen=True, slots=True)
class AttemptChanged:
    """An attempt is in another state.

    Attributes:
        attempt_id: Which.
        worker_id: Where.
        state: The new one.
        cause: Why it ended, where it did not succeed.
    """

    attempt_id: AttemptId
    worker_id: WorkerId
    state: AttemptState
    cause: DeathCause | None = None


@dataclass(frozen=True, slots=True)
class GangRestarting:
    """All of a gang is gone, and it waits for a place again.

    Attributes:
        gang_id: Which.
        epoch: The life that begins.
        cause: Why the last one ended.
    """

    gang_id: str
    epoch: int
    cause: DeathCause


@dataclass(frozen=True, slots=True)
class UnitPlaced:
    """An assignment was taken.

    Attributes:
        unit_id: Whose.
    """

    unit_id: str


@dataclass(frozen=True, slots=True)
class UnitRefused:
    """An assignment was refused: the plan was stale.

    Attributes:
        unit_id: Whose.
        reason: Why.
    """

    unit_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class WorkerChanged:
    """A host has come, or is in another condition.

    Attributes:
        worker_id: Which.
        health: Of its agent.
        closed: Why nothing new goes there; "" where it does.
    """

    worker_id: WorkerId
    health: Health
    closed: str


@dataclass(frozen=True, slots=True)
class WorkerRemoved:
    """A host is forgotten.

    Attributes:
        worker_id: Which.
    """

    worker_id: WorkerId


@dataclass(frozen=True, slots=True)
class DesiredChanged:
    """A host's desired set is another: its agent should hear of it.

    Attributes:
        worker_id: Whose.
        generation: Of the new set.
    """

    worker_id: WorkerId
    generation: int


@dataclass(frozen=True, slots=True)
class StrayFound:
    """A host runs an attempt that it should not; its agent ends it.

    Attributes:
        worker_id: Where.
        attempt_id: Which.
    """

    worker_id: WorkerId
    attempt_id: AttemptId


@dataclass(frozen=True, slots=True)
class ReservationChanged:
    """A reservation has come, has more or less than before, or has ended.

    Attributes:
        reservation_id: Which.
    """

    reservation_id: ReservationId


@dataclass(frozen=True, slots=True)
class JobsForgotten:
    """Jobs are dropped from the records; their blobs and logs may go too.

    Attributes:
        job_ids: Which.
    """

    job_ids: tuple[JobId, ...]


Event: TypeAlias = (
    JobsSubmitted
    | JobChanged
    | JobEnding
    | PortMapped
    | AttemptChanged
    | GangRestarting
    | UnitPlaced
    | UnitRefused
    | WorkerChanged
    | WorkerRemoved
    | DesiredChanged
    | StrayFound
    | ReservationChanged
    | JobsForgotten
)
"""Anything that the ledger says."""


__all__ = [
    "AttemptChanged",
    "DesiredChanged",
    "Event",
    "GangRestarting",
    "JobChanged",
    "JobEnding",
    "JobsForgotten",
    "JobsSubmitted",
    "PortMapped",
    "ReservationChanged",
    "StrayFound",
    "UnitPlaced",
    "UnitRefused",
    "WorkerChanged",
    "WorkerRemoved",
]
