"""What the controller tells of jobs and hosts. Plain data, which travels as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from fray.cluster.devices import ResourceConfig
from fray.cluster.resources import Resources
from fray.cluster.scheduling.inventory import HeldDevice
from fray.cluster.types import JobStatus
from fray.ids import AttemptId, JobId, WorkerId


@dataclass(frozen=True, slots=True)
class AttemptPlace:
    """Where one attempt of a task is or was.

    Attributes:
        attempt_id: The attempt.
        number: Which try of its task, from 0.
        worker_id: The host.
        agent_address: The host's agent; empty where the host is lost or unknown by now.
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
        waits_for: Why it, or any task of it, has no place yet, for people; empty where all have.
        submitted_at: In seconds since 1970.
        started_at: Likewise; None before.
        ended_at: Likewise; None before.
        group: Its group's name.
        parent: The job that launched it.
        actor_id: Of an actor's job.
        resources: What it needs; None where that is not known.
        position: Of a job that is waited for and pending: its place in the order of submission,
            from 1; else 0.
        ports: Names of the ports that each task has.
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
    resources: ResourceConfig | None = None
    position: int = 0
    ports: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class JobPreview:
    """What would become of a job if it were submitted now.

    Attributes:
        hosts: The host of each task, by its index; of those that would have a place at once.
        tasks: How many tasks it would have.
        waits_for: Why the others would wait, for people.
        resources: What it needs.
        ahead: How many jobs wait already.
    """

    hosts: Mapping[int, WorkerId]
    tasks: int
    waits_for: tuple[str, ...]
    resources: ResourceConfig
    ahead: int


@dataclass(frozen=True, slots=True)
class HostReport:
    """A host, for people.

    Attributes:
        worker_id: Its id.
        address: Its agent.
        health: healthy, suspect, lost, draining, quarantined.
        capacity: What it has.
        used: What of it is taken.
        attempts: How many attempts are there.
        region: Its region.
        zone: Its zone.
        reason: Why it is not healthy; empty where it is.
        until: Of one that drains, when what is left there is stopped; of one in quarantine, when
            that is over. In seconds since 1970; None for not by itself.
        held: Devices that are not free though no attempt has them.
    """

    worker_id: WorkerId
    address: str
    health: str
    capacity: Resources
    used: Resources
    attempts: int
    region: str = ""
    zone: str = ""
    reason: str = ""
    until: float | None = None
    held: tuple[HeldDevice, ...] = ()


@dataclass(frozen=True, slots=True)
class JobQuery:
    """Which jobs somebody wants to hear of.

    Attributes:
        job_ids: Only these, so far as they are known; None: all.
        statuses: Only of these; empty: all.
        namespace: Only in it; "": all.
        user: Only this user's; "": everybody's.
        with_actors: Whether jobs that run an actor are among them.
        newest: At most so many, the newest; 0 for all.
    """

    job_ids: tuple[JobId, ...] | None = None
    statuses: tuple[JobStatus, ...] = ()
    namespace: str = ""
    user: str = ""
    with_actors: bool = True
    newest: int = 0


@dataclass(frozen=True, slots=True)
class JobCounts:
    """How many jobs there are of each status.

    Attributes:
        jobs: Those that run no actor.
        actors: Those that run one.
    """

    jobs: Mapping[str, int]
    actors: Mapping[str, int]


__all__ = [
    "AttemptPlace",
    "HostReport",
    "JobCounts",
    "JobPreview",
    "JobQuery",
    "JobReport",
    "TaskReport",
]
