"""What may be asked of the ledger: every change of the cluster's state is one of these.

A command carries all that its effect depends on, identifiers included, so that the journal can
replay it. Those that a sender may repeat say how a repetition is recognised.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from fray.cluster.controller.attempt import AttemptState
from fray.cluster.controller.records import CordonKind
from fray.cluster.controller.specs import JobSpec, WorkerSpec
from fray.cluster.scheduling.plan import Assignment
from fray.errors import DeathCause, DeathKind
from fray.ids import AttemptId, JobId, WorkerId

STOP_GRACE_S = 30.0
"""From the first notice to the kill, unless somebody says otherwise."""


def _no_ports() -> Mapping[str, int]:
    return {}


@dataclass(frozen=True, slots=True)
class RegisterWorker:
    """A host's agent reports for duty.

    Repeated with the boot id that is known it only updates the description, whose capacity must
    be the same. A new boot id says that nothing of the host's earlier life runs any more: its
    attempts are lost.

    Attributes:
        spec: The host.
        boot_id: Which life of it; kept by an agent that restarts and re-adopts its tasks.
    """

    spec: WorkerSpec
    boot_id: str


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
    """

    attempt_id: AttemptId
    state: AttemptState
    cause: DeathCause | None = None
    host_fault: bool = False
    ports: Mapping[str, int] = field(default_factory=_no_ports)
    address: str = ""
    blocked: bool = False


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
    """

    worker_id: WorkerId
    boot_id: str
    generation: int
    attempts: tuple[ObservedAttempt, ...]


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
    """

    worker_id: WorkerId
    kind: CordonKind
    reason: str
    evict: bool = False
    grace_s: float = STOP_GRACE_S


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
    time, whatever ids the repetition carries.

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
class StartActor:
    """A supervised actor that is down is to be started again. Repeated, it changes nothing.

    Attributes:
        job_id: Its job.
        number: Of the attempt that begins, from 0.
    """

    job_id: JobId
    number: int


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
    """The planner's assignments; each is checked against what is true by now, and taken or refused.

    Attributes:
        revision: Of the view that was planned.
        assignments: One per unit.
    """

    revision: int
    assignments: tuple[Assignment, ...]


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
    | StartActor
    | StopActor
    | EndActor
    | ApplyPlan
    | SessionEnded
    | ForgetJobs
)
"""Anything that may be asked of the ledger."""


__all__ = [
    "STOP_GRACE_S",
    "ApplyPlan",
    "Command",
    "CordonWorker",
    "EndActor",
    "ForgetJobs",
    "GroupSpec",
    "MarkWorker",
    "ObservedAttempt",
    "RegisterWorker",
    "RemoveWorker",
    "ReportAttempts",
    "SessionEnded",
    "StartActor",
    "StopActor",
    "StopJob",
    "SubmitJobs",
    "UncordonWorker",
    "WorkerLost",
]
