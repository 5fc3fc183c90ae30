"""Jobs and hosts as they are described to the ledger: by who submits, and by agents.

Specs hold no values of environment variables and no pickles: those are blobs, named by digest.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from fray.cluster.priority import parse_priority
from fray.cluster.resources import Resources
from fray.cluster.scheduling.hosts import SliceMember
from fray.cluster.types import JobRequest, ResourceConfig, TpuConfig
from fray.ids import ActorId, JobId, Namespace, WorkerId


def _no_text() -> Mapping[str, str]:
    return {}


@dataclass(frozen=True, slots=True)
class Program:
    """What a task runs: exactly one of the two.

    Attributes:
        blob: The digest of a pickled function, or of an actor's class and arguments.
        command: A program and its arguments.
    """

    blob: str = ""
    command: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Environment:
    """What a task's process finds around it.

    Attributes:
        workspace: The digest of a bundled project folder; "" where there is an image, or where
            tasks share the launcher's own environment.
        docker_image: An image.
        extras: Extras of the project.
        pip_packages: Packages to add.
        env_names: Names of the environment variables that are set.
        secrets: The digest of the blob with their values; "" where there are none.
    """

    workspace: str = ""
    docker_image: str = ""
    extras: tuple[str, ...] = ()
    pip_packages: tuple[str, ...] = ()
    env_names: tuple[str, ...] = ()
    secrets: str = ""


class JobKind(StrEnum):
    """What a job is to its user."""

    JOB = "job"
    ACTOR = "actor"


@dataclass(frozen=True, slots=True)
class ActorRole:
    """Of a job whose task hosts an actor.

    Attributes:
        actor_id: The actor's id, the same over all restarts.
        owner_session: Its driver's session; when that ends the actor is stopped, unless it is
            detached.
        supervised: Whether a supervisor of its creator's decides when it is started again; the
            budgets of its job are not used then.
        owner_attempt: Of a supervised one: the attempt in which its supervisor is, and with which
            it ends; "" where that is in a driver.
        held: Whether a supervised one does not start before its supervisor says so.
        name: Its exclusive name in the job's namespace; "" for none.
    """

    actor_id: ActorId
    owner_session: str = ""
    supervised: bool = False
    owner_attempt: str = ""
    held: bool = False
    name: str = ""


class GangScope(StrEnum):
    """Which tasks of a job live and die together."""

    TASK = "task"
    """Each on its own."""
    REPLICA = "replica"
    """Those of one replica: the hosts of a slice."""
    JOB = "job"
    """All: one program over several slices."""


@dataclass(frozen=True, slots=True)
class JobSpec:
    """A job as it was submitted.

    Attributes:
        job_id: ``user/name-7f3a``, made by the submitter of the command.
        name: As its user named it.
        user: Whose it is.
        namespace: In which its actors are named.
        program: What each task runs.
        environment: What each task's process finds.
        resources: What each replica needs, and how many there are.
        hosts_per_replica: Tasks per replica: a slice's hosts; 1 where slices are virtual.
        gang: Which tasks live and die together.
        max_retries_failure: Budget of each task or gang for its own faults; -1 is unlimited. An
            actor's ``max_restarts``.
        max_retries_preemption: The same for preemption and lost or broken hosts.
        ports: Names of ports that each task gets.
        queue_limit_s: How long it may wait until a first task runs; None for ever.
        parent: The job from which it was launched; None from a driver.
        detached: Whether it outlives its parent, and an actor its driver.
        actor: Of an actor's job; None of an ordinary one.
        hints: For the agent alone, such as how to isolate the process; the ledger reads none.
        priority: See `fray.cluster.priority`; None takes that of the parent, else the default.
        reservation: Whose resources it uses; "" finds one that suits by itself.
        evictable: Whether it may be stopped to make room for others.
        time_limit_s: How long an attempt may run, in seconds; None is for ever.
        slice_host: Of an actor that has one host of a slice, which it takes together with the other
            hosts' actors: which host, from 0; None of all others, and where slices are virtual.
    """

    job_id: JobId
    name: str
    user: str
    namespace: Namespace
    program: Program
    environment: Environment = Environment()
    resources: ResourceConfig = field(default_factory=ResourceConfig)
    hosts_per_replica: int = 1
    gang: GangScope = GangScope.TASK
    max_retries_failure: int = 0
    max_retries_preemption: int = 100
    ports: tuple[str, ...] = ()
    queue_limit_s: float | None = None
    parent: JobId | None = None
    detached: bool = False
    actor: ActorRole | None = None
    hints: Mapping[str, str] = field(default_factory=_no_text)
    priority: int | None = None
    reservation: str = ""
    evictable: bool = True
    time_limit_s: float | None = None
    slice_host: int | None = None

    @property
    def slice_hosts(self) -> int:
        """How many tasks take a slice together, be they this job's or those of several."""
        if self.slice_host is None or not isinstance(self.resources.device, TpuConfig):
            return self.hosts_per_replica
        return self.resources.device.vm_count()

    @property
    def kind(self) -> JobKind:
        """What it is to its user."""
        return JobKind.JOB if self.actor is None else JobKind.ACTOR

    @property
    def supervised(self) -> bool:
        """Whether a supervisor decides when it is started again."""
        return self.actor is not None and self.actor.supervised

    @property
    def num_tasks(self) -> int:
        """Replicas times hosts of each."""
        return self.resources.replicas * self.hosts_per_replica

    def gang_of(self, task_index: int) -> str:
        """The id of the gang that a task belongs to; "" where it lives and dies alone.

        Args:
            task_index: Which task.
        """
        match self.gang:
            case GangScope.TASK:
                return ""
            case GangScope.REPLICA:
                return f"{self.job_id}/r{task_index // self.hosts_per_replica}"
            case GangScope.JOB:
                return f"{self.job_id}/all"

    def members(self, task_index: int) -> range:
        """The tasks that live and die with one, itself included.

        Args:
            task_index: Which task.
        """
        match self.gang:
            case GangScope.TASK:
                return range(task_index, task_index + 1)
            case GangScope.REPLICA:
                first = task_index - task_index % self.hosts_per_replica
                return range(first, first + self.hosts_per_replica)
            case GangScope.JOB:
                return range(self.num_tasks)


@dataclass(frozen=True, slots=True)
class WorkerSpec:
    """A host as its agent describes it.

    Attributes:
        worker_id: Stable over restarts of its agent.
        address: Where its agent listens.
        capacity: What it has.
        region: "" where it has none.
        zone: "" where it has none.
        preemptible: Whether the cloud may take it back.
        slice: Its part in a TPU slice.
        oversubscribe: Whether amounts are not counted and accelerators are virtual there.
        slots: How many jobs may run there at once; None is any number.
        labels: What its operator says of it; jobs may ask for some.
    """

    worker_id: WorkerId
    address: str
    capacity: Resources
    region: str = ""
    zone: str = ""
    preemptible: bool = False
    slice: SliceMember | None = None
    oversubscribe: bool = False
    slots: int | None = None
    labels: Mapping[str, str] = field(default_factory=_no_text)


def job_spec(
    request: JobRequest,
    *,
    job_id: JobId,
    user: str,
    namespace: Namespace,
    program: Program,
    environment: Environment | None = None,
    virtual: bool = False,
    gang: GangScope | None = None,
    parent: JobId | None = None,
    actor: ActorRole | None = None,
    hints: Mapping[str, str] | None = None,
) -> JobSpec:
    """What a user's request becomes once its pickles and secrets are blobs.

    Args:
        request: The request; it is checked again.
        job_id: Of the job, unique for ever.
        user: Whose it is.
        namespace: In which its actors are named.
        program: The request's entrypoint.
        environment: The request's environment.
        virtual: Whether a slice is one task, as where accelerators are virtual.
        gang: Which tasks live and die together; by default those of a slice with several hosts.
        parent: The job from which it is launched.
        actor: Of an actor's job.
        hints: For the agent alone.

    Raises:
        InvalidRequestError: The request makes no sense.
    """
    request.validate()
    device = request.resources.device
    hosts = 1 if virtual or not isinstance(device, TpuConfig) else device.vm_count()
    return JobSpec(
        job_id=job_id,
        name=request.name,
        user=user,
        namespace=namespace,
        program=program,
        environment=environment or Environment(),
        resources=replace(request.resources),
        hosts_per_replica=hosts,
        gang=gang or (GangScope.REPLICA if hosts > 1 else GangScope.TASK),
        max_retries_failure=request.max_retries_failure,
        max_retries_preemption=request.max_retries_preemption,
        ports=tuple(sorted(request.ports)),
        queue_limit_s=request.queue_limit_s,
        parent=parent,
        detached=request.detached,
        actor=actor,
        hints=dict(hints or {}),
        priority=None if request.priority is None else parse_priority(request.priority),
        reservation=request.reservation_id or "",
        evictable=request.evictable,
        time_limit_s=request.time_limit_s,
    )


__all__ = [
    "ActorRole",
    "Environment",
    "GangScope",
    "JobKind",
    "JobSpec",
    "Program",
    "WorkerSpec",
    "job_spec",
]
