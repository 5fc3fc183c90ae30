"""The vocabulary of clusters: what users say of jobs, groups and reservations, and read back.

These are the seed's names, all of which `fray.cluster` exports. They know neither a controller
nor a scheduler; what the cluster's own parts say to each other is `fray.cluster.controller`'s.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from enum import StrEnum

from fray.cluster.accelerators import TpuTopology, tpu_topology
from fray.cluster.devices import (
    CpuConfig,
    DeviceConfig,
    GpuConfig,
    GpuType,
    ResourceConfig,
    TpuConfig,
    TpuType,
)
from fray.cluster.entrypoint import BinaryEntrypoint, CallableEntrypoint, Entrypoint
from fray.cluster.environment import EnvironmentConfig, create_environment
from fray.cluster.names import (
    UNLIMITED,
    check_budget,
    check_flag,
    check_job_name,
    check_limit,
    check_port_names,
    check_tasks,
)
from fray.cluster.priority import PriorityLike, parse_priority
from fray.errors import InvalidRequestError
from fray.ids import ActorId, JobId, Namespace, ReservationId
from fray.wording import counted


class JobStatus(StrEnum):
    """Where a job, or one task of it, is in its life."""

    PENDING = "pending"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    STOPPED = "stopped"

    def finished(self) -> bool:
        """Whether nothing more will happen; ``JobStatus.finished(status)`` works as well."""
        return self in (JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.STOPPED)


class ActorStatus(StrEnum):
    """Where an actor is in its life."""

    PENDING = "pending"
    RUNNING = "running"
    STOPPED = "stopped"
    FAILED = "failed"


@dataclass
class JobRequest:
    """A job, as a user asks for it.

    Attributes:
        name: For people, and part of the job's id; no spaces, need not be unique.
        entrypoint: What runs.
        resources: What each replica needs, and how many there are.
        environment: Code, packages and variables; None takes those of whoever launches.
        max_retries_failure: How often each task (each gang, where several hosts form one) may
            fail by its own fault and be started again; `UNLIMITED` for ever.
        max_retries_preemption: The same for preemption and lost or broken hosts.
        reservation_id: Whose resources to use; None finds a matching reservation by itself.
        ports: Names of ports; each task finds a free one in ``FRAY_PORT_<NAME>``.
        detached: Whether the job goes on when the job that launched it ends.
        priority: ``"batch"``, ``"normal"``, ``"high"`` or ``"critical"``, or a number; see
            `fray.cluster.priority`. None takes that of the job that launches it, else normal.
        evictable: Whether it may be stopped, and started again later, to make room for a job of
            a higher band. Only such jobs may borrow what others have reserved.
        time_limit_s: After so many seconds an attempt at a task is too long, and the job fails;
            None is never. A job with a limit may be let in where others wait for more room.
        queue_limit_s: How long the job may wait until a first task of it runs, in seconds, > 0;
            then it has failed; None: for ever.

    Raises:
        InvalidRequestError: A value makes no sense (it is a `ValueError` too).
    """

    name: str
    entrypoint: Entrypoint
    resources: ResourceConfig = field(default_factory=ResourceConfig)
    environment: EnvironmentConfig | None = None
    max_retries_failure: int = 0
    max_retries_preemption: int = 100
    reservation_id: ReservationId | None = None
    ports: Collection[str] = ()
    detached: bool = False
    priority: PriorityLike | None = None
    evictable: bool = True
    time_limit_s: float | None = None
    queue_limit_s: float | None = None

    def __post_init__(self) -> None:
        self.validate()

    def validate(self) -> None:
        """Checks every value; a request may have been changed since it was made.

        Raises:
            InvalidRequestError: A value makes no sense; the message names it.
        """
        check_job_name(self.name)
        _check_kind("entrypoint", self.entrypoint, Entrypoint, "Entrypoint.from_callable(f)")
        _check_kind("resources", self.resources, ResourceConfig, "ResourceConfig(cpu=1)")
        if self.environment is not None:
            hint = "EnvironmentConfig.create()"
            _check_kind("environment", self.environment, EnvironmentConfig, hint)
        self.resources.validate()
        device = self.resources.device
        if isinstance(device, TpuConfig):
            hosts = device.vm_count()
            check_tasks(self.resources.replicas * hosts, f"slices of {hosts} hosts each")
        check_budget(self.max_retries_failure, "max_retries_failure")
        check_budget(self.max_retries_preemption, "max_retries_preemption")
        if isinstance(self.ports, str):
            raise InvalidRequestError(f"ports must be a list of names: [{self.ports!r}]")
        check_port_names(tuple(self.ports))
        check_flag(self.detached, "detached")
        check_flag(self.evictable, "evictable")
        if self.priority is not None:
            parse_priority(self.priority)
        check_limit(self.time_limit_s, "time_limit_s")
        check_limit(self.queue_limit_s, "queue_limit_s")


def _check_kind(what: str, value: object, kind: type, example: str) -> None:
    if not isinstance(value, kind):
        raise InvalidRequestError(
            f"a job's {what} is of type {kind.__name__}, such as {example}; not {value!r}"
        )


@dataclass
class TaskStatus:
    """One task of a job.

    Attributes:
        status: Where it is in its life.
        error_message: Why it failed, or last failed; None where it did not.
    """

    status: JobStatus
    error_message: str | None = None


@dataclass
class JobInfo:
    """A job, as a user sees it.

    Attributes:
        job_id: Its id, unique for ever.
        status: Where it is in its life.
        tasks: Its tasks by index: replicas times hosts of each.
        name: The name that was asked for.
        error_message: Why it failed or was stopped.
    """

    job_id: JobId
    status: JobStatus
    tasks: list[TaskStatus]
    name: str
    error_message: str | None = None


@dataclass
class JobGroupConfig:
    """Jobs that start together, near each other.

    Attributes:
        name: For people.
        namespace: Of all its jobs; None inherits the connection's.
        same_region: Whether all run in one region.
        same_zone: Whether all run in one zone, for the sake of latency.

    Raises:
        InvalidRequestError: The name cannot be one, or another value makes no sense.
    """

    name: str
    namespace: Namespace | None = None
    same_region: bool = True
    same_zone: bool = False

    def __post_init__(self) -> None:
        check_job_name(self.name, what="group name")
        check_flag(self.same_region, "same_region")
        check_flag(self.same_zone, "same_zone")


@dataclass
class ReservationConfig:
    """Resources to keep for jobs to come.

    Attributes:
        min_resources: What must be there.
        max_resources: What may be there; the same kind of device, at least as many replicas.
        priority: Higher ones are filled first.
        ttl_seconds: After this time idle resources are given back; above 0.
        preemptible: Whether hosts that the cloud may take back will do.

    Raises:
        InvalidRequestError: A value makes no sense.
    """

    min_resources: ResourceConfig
    max_resources: ResourceConfig
    priority: int = 0
    ttl_seconds: int = 3600
    preemptible: bool = True

    def __post_init__(self) -> None:
        self.min_resources.validate()
        self.max_resources.validate()
        least, most = self.min_resources, self.max_resources
        if least.device != most.device:
            raise InvalidRequestError(
                f"a reservation's minimum and maximum differ in device: {least.device} "
                f"and {most.device}; only the number of replicas may differ"
            )
        if least.replicas > most.replicas:
            raise InvalidRequestError(
                f"a reservation's minimum ({counted(least.replicas, 'replica')}) is above its "
                f"maximum ({most.replicas})"
            )
        if self.ttl_seconds <= 0:
            raise InvalidRequestError(f"ttl_seconds must be above 0, not {self.ttl_seconds}")


@dataclass
class ReservationInfo:
    """A reservation, as a user sees it.

    Attributes:
        reservation_id: Its id.
        allocated_resources: What it has; ``replicas`` counts them.
        pending_resources: What it still wants.
        jobs: The jobs that use it.
        expires_at: When idle resources are given back, in seconds since 1970.
        state: pending, partial, satisfied, expanded, expiring or released.
    """

    reservation_id: ReservationId
    allocated_resources: ResourceConfig
    pending_resources: ResourceConfig
    jobs: list[JobId]
    expires_at: float
    state: str = "pending"


__all__ = [
    "UNLIMITED",
    "ActorId",
    "ActorStatus",
    "BinaryEntrypoint",
    "CallableEntrypoint",
    "CpuConfig",
    "DeviceConfig",
    "Entrypoint",
    "EnvironmentConfig",
    "GpuConfig",
    "GpuType",
    "JobGroupConfig",
    "JobId",
    "JobInfo",
    "JobRequest",
    "JobStatus",
    "Namespace",
    "ReservationConfig",
    "ReservationId",
    "ReservationInfo",
    "ResourceConfig",
    "TaskStatus",
    "TpuConfig",
    "TpuTopology",
    "TpuType",
    "create_environment",
    "tpu_topology",
]
