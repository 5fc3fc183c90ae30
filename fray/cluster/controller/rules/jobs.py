"""Submitting, stopping and forgetting jobs."""

from collections.abc import Sequence
from dataclasses import replace

from fray.cluster.controller.commands import (
    EndOverdue,
    ForgetJobs,
    MapPort,
    SessionEnded,
    StopJob,
    SubmitJobs,
)
from fray.cluster.controller.draft import Draft
from fray.cluster.controller.events import JobChanged, JobsForgotten, JobsSubmitted, PortMapped
from fray.cluster.controller.records import Gang, Group, Hold, Job, Task
from fray.cluster.controller.rules.groups import leave_group
from fray.cluster.controller.rules.repeats import check_same
from fray.cluster.controller.rules.verdicts import condemn
from fray.cluster.controller.slicegangs import check_part
from fray.cluster.controller.speclimits import check_counts
from fray.cluster.controller.specs import GangScope, JobSpec
from fray.cluster.controller.units import priority_of
from fray.cluster.devices import TpuConfig
from fray.cluster.names import (
    check_budget,
    check_job_name,
    check_limit,
    check_port_names,
)
from fray.cluster.priority import DEFAULT_PRIORITY, parse_priority
from fray.cluster.scheduling.view import TaskKey
from fray.cluster.types import JobStatus
from fray.errors import InvalidRequestError, NameTakenError
from fray.ids import AttemptId, ReservationId
from fray.wording import counted


def submit(draft: Draft, command: SubmitJobs) -> None:
    """Adds jobs, all or none.

    Args:
        draft: Where.
        command: The jobs.

    Raises:
        InvalidRequestError: One of them makes no sense, its parent has ended, or the submission
            is known and was another one.
        JobNotFoundError: Its parent is unknown.
        NameTakenError: An actor that has not ended has the exclusive name of one of them.
    """
    known = draft.submissions.get(command.submission_id)
    if known is not None:
        check_same(draft, command, known)
        draft.emit(JobsSubmitted(command.submission_id, known, again=True))
        return
    if not command.submission_id or not command.jobs:
        raise InvalidRequestError("a submission needs an id and at least one job")
    check_counts(command.jobs)
    job_ids = tuple(spec.job_id for spec in command.jobs)
    if len(dict.fromkeys(job_ids)) < len(job_ids):
        raise InvalidRequestError(f"a submission has two jobs of one id: {', '.join(job_ids)}")
    actors = [spec.actor.actor_id for spec in command.jobs if spec.actor is not None]
    if len(dict.fromkeys(actors)) < len(actors):
        raise InvalidRequestError(f"a submission has one actor twice: {', '.join(actors)}")
    _check_names(draft, command.jobs)
    for spec in command.jobs:
        _check(draft, spec)
    group_id = command.submission_id if command.group is not None else ""
    if command.group is not None:
        check_job_name(command.group.name, what="group name")
        draft.groups[group_id] = Group(
            group_id=group_id,
            name=command.group.name,
            job_ids=job_ids,
            same_region=command.group.same_region,
            same_zone=command.group.same_zone,
        )
    draft.submissions[command.submission_id] = job_ids
    specs = [replace(spec, priority=_priority(draft, spec)) for spec in command.jobs]
    if group_id:
        # It begins with the priority of its highest, and each goes on with that: a member must not
        # make room for what it has just had stopped.
        highest = max(_priority(draft, spec) for spec in specs)
        specs = [replace(spec, priority=highest) for spec in specs]
    for spec in specs:
        _add(draft, spec, command.submission_id, group_id)
    draft.emit(JobsSubmitted(command.submission_id, job_ids))


def _add(draft: Draft, spec: JobSpec, submission_id: str, group_id: str) -> None:
    # Whoever submitted it may go on changing the one part of it that can be changed.
    regions = None if spec.resources.regions is None else tuple(spec.resources.regions)
    config = spec.resources
    zones = None if config.zones is None else tuple(config.zones)
    config = replace(
        config,
        regions=regions,
        zones=zones,
        labels=dict(config.labels),
        constraints=tuple(config.constraints),
        preferences=dict(config.preferences),
    )
    spec = replace(
        spec,
        resources=config,
        reservation=spec.reservation or _reservation_for(draft, spec),
    )
    draft.submitted += 1
    parent = draft.jobs.get(spec.parent) if spec.parent is not None else None
    if parent is not None:
        draft.jobs[parent.spec.job_id] = replace(parent, launched=parent.launched + 1)
    draft.jobs[spec.job_id] = Job(spec, draft.submitted, submission_id, group_id, draft.now)
    held = spec.actor is not None and spec.actor.held
    hold = Hold.SUPERVISOR if held else None
    for index in range(spec.num_tasks):
        draft.put_task(Task(spec.job_id, index, hold=hold))
        gang_id = spec.gang_of(index)
        if gang_id and draft.gangs.get(gang_id) is None:
            members = spec.members(index)
            draft.gangs[gang_id] = Gang(gang_id, spec.job_id, members.start, len(members))
    draft.emit(JobChanged(spec.job_id, JobStatus.PENDING))


def _priority(draft: Draft, spec: JobSpec) -> int:
    """Its own priority, else that of the job that launches it."""
    if spec.priority is not None:
        return spec.priority
    parent = draft.jobs.get(spec.parent) if spec.parent is not None else None
    return DEFAULT_PRIORITY if parent is None else priority_of(parent)


def _reservation_for(draft: Draft, spec: JobSpec) -> str:
    """The reservation of its connection that suits a job; "" for none."""
    suiting = [
        each
        for each in draft.open_reservations()
        if each.namespace == spec.namespace and each.suits(spec.resources)
    ]
    first = min(suiting, key=lambda each: (-each.priority, each.rank), default=None)
    return first.reservation_id if first is not None else ""


def _check_reservation(draft: Draft, spec: JobSpec) -> None:
    if not spec.reservation:
        return
    reservation = draft.reservations.get(ReservationId(spec.reservation))
    if reservation is None or not reservation.is_open:
        ended = f"has ended ({reservation.reason})" if reservation else "is unknown"
        raise InvalidRequestError(
            f"reservation {spec.reservation}, which job {spec.job_id} is to use, {ended}"
        )
    if not reservation.suits(spec.resources):
        least = reservation.minimum
        raise InvalidRequestError(
            f"job {spec.job_id} does not fit into reservation {spec.reservation}: that has "
            f"{least.device.variant}, with {counted(float(least.cpu), 'cpu')} and {least.ram} per "
            "task"
        )


def _check(draft: Draft, spec: JobSpec) -> None:
    check_job_name(spec.job_id, what="job id")
    check_job_name(spec.name)
    if draft.jobs.get(spec.job_id) is not None:
        raise InvalidRequestError(f"there already is a job {spec.job_id}")
    for what, text in (("user", spec.user), ("namespace", spec.namespace)):
        if not text:
            raise InvalidRequestError(f"job {spec.job_id} has no {what}")
    if bool(spec.program.blob) == bool(spec.program.command):
        raise InvalidRequestError(f"job {spec.job_id} needs a function or a command, not both")
    if spec.environment.workspace and spec.environment.docker_image:
        raise InvalidRequestError(f"job {spec.job_id} has a workspace and a docker_image")
    spec.resources.validate()
    check_budget(spec.max_retries_failure, "max_retries_failure")
    check_budget(spec.max_retries_preemption, "max_retries_preemption")
    check_port_names(spec.ports)
    check_limit(spec.time_limit_s, "time_limit_s")
    check_limit(spec.queue_limit_s, "queue_limit_s")
    if spec.priority is not None:
        parse_priority(spec.priority)
    _check_reservation(draft, spec)
    _check_hosts(spec)
    check_part(spec)
    _check_parent(draft, spec)
    if spec.actor is not None:
        _check_supervisor(draft, spec.actor.owner_attempt)
        holder = draft.job_of_actor(spec.actor.actor_id)
        if holder is not None:
            raise InvalidRequestError(f"actor {spec.actor.actor_id} already runs as job {holder}")


def _check_names(draft: Draft, specs: Sequence[JobSpec]) -> None:
    """An exclusive name is its actor's from the submission on."""
    taken: set[tuple[str, str]] = set()
    for spec in specs:
        if spec.actor is None or not spec.actor.name:
            continue
        name = spec.actor.name
        holder = draft.job_of_name(spec.namespace, name)
        if holder is not None:
            raise NameTakenError(
                f"the name {name!r} belongs to the actor of job {holder}; choose another, stop "
                "that one, or use get_if_exists=True"
            )
        if (spec.namespace, name) in taken:
            raise InvalidRequestError(f"a submission has two actors of the name {name!r}")
        taken.add((spec.namespace, name))


def _check_supervisor(draft: Draft, attempt_id: str) -> None:
    if attempt_id and draft.attempts.get(AttemptId(attempt_id)) is None:
        raise InvalidRequestError(
            f"the process of the supervisor that makes this actor, {attempt_id}, has ended"
        )


def _check_hosts(spec: JobSpec) -> None:
    device = spec.resources.device
    hosts = device.vm_count() if isinstance(device, TpuConfig) else 1
    if spec.hosts_per_replica not in (1, hosts):
        raise InvalidRequestError(
            f"job {spec.job_id} has {counted(spec.hosts_per_replica, 'task')} per replica; "
            f"a replica of {device.variant} has {counted(hosts, 'host')}"
        )
    if spec.hosts_per_replica > 1 and spec.gang is GangScope.TASK:
        raise InvalidRequestError(
            f"job {spec.job_id} spans the hosts of a slice, so its tasks form a gang"
        )


def _check_parent(draft: Draft, spec: JobSpec) -> None:
    if spec.parent is None:
        return
    parent = draft.job(spec.parent)
    if spec.detached or (parent.verdict is None and not parent.status.finished()):
        return
    raise InvalidRequestError(
        f"the job that launches {spec.name}, {spec.parent}, has ended, and what it launches would "
        "end with it; launch a detached job to outlive it"
    )


def stop_job(draft: Draft, command: StopJob) -> None:
    """Stops a job, unless it has ended.

    Args:
        draft: Where.
        command: Which job.

    Raises:
        JobNotFoundError: There is no such job.
        InvalidRequestError: The grace is negative.
    """
    draft.job(command.job_id)
    if command.grace_s < 0:
        raise InvalidRequestError(f"grace_s must be at least 0, not {command.grace_s}")
    condemn(draft, command.job_id, JobStatus.STOPPED, command.reason, grace_s=command.grace_s)


def map_port(draft: Draft, command: MapPort) -> None:
    """Lets a name lead to what a job serves at one of its ports.

    Args:
        draft: Where.
        command: The job, its port and the name.

    Raises:
        JobNotFoundError: There is no such job.
        InvalidRequestError: It has ended, or has no such port; or the name is empty.
    """
    job, mapping = draft.job(command.job_id), command.mapping
    if job.verdict is not None or job.status.finished():
        raise InvalidRequestError(f"job {command.job_id} has ended, and its ports with it")
    if mapping.port_name not in job.spec.ports:
        there = ", ".join(job.spec.ports) or "none"
        raise InvalidRequestError(
            f"job {command.job_id} has no port {mapping.port_name!r} (it has {there}): name it in "
            "the ports of its JobRequest"
        )
    if not mapping.namespace or not mapping.actor_name:
        raise InvalidRequestError("a mapping needs a namespace and an actor's name")
    if mapping not in job.mappings:
        draft.jobs[command.job_id] = replace(job, mappings=(*job.mappings, mapping))
        draft.emit(PortMapped(command.job_id, mapping))


def end_overdue(draft: Draft, command: EndOverdue) -> None:
    """Fails jobs that have waited too long.

    Args:
        draft: Where.
        command: Which; those that have time left, or have ended, are left alone.
    """
    for job_id, why in command.jobs.items():
        job = draft.jobs.get(job_id)
        if job is None or job.started_at is not None or job.spec.queue_limit_s is None:
            continue
        if job.submitted_at + job.spec.queue_limit_s <= draft.now:
            limit = f"{job.spec.queue_limit_s:g} s"
            message = f"nothing of it ran within its queue limit of {limit}: {why}"
            condemn(draft, job_id, JobStatus.FAILED, message)


def session_ended(draft: Draft, command: SessionEnded) -> None:
    """Stops the actors of a driver that is gone, except detached ones.

    Args:
        draft: Where.
        command: Which driver.
    """
    for job_id in draft.actors_of(command.session):
        condemn(draft, job_id, JobStatus.STOPPED, command.reason)


def forget(draft: Draft, command: ForgetJobs) -> None:
    """Drops ended jobs from the records.

    Args:
        draft: Where.
        command: Which.

    Raises:
        InvalidRequestError: One has not ended.
    """
    known = [job_id for job_id in command.job_ids if draft.jobs.get(job_id) is not None]
    for job_id in known:
        if not draft.jobs[job_id].status.finished():
            raise InvalidRequestError(f"job {job_id} has not ended; stop it first")
    for job_id in known:
        job = draft.jobs[job_id]
        for index in range(job.spec.num_tasks):
            del draft.tasks[TaskKey(job_id, index)]
            gang_id = job.spec.gang_of(index)
            if gang_id:
                del draft.gangs[gang_id]
        del draft.jobs[job_id]
        _leave(draft, job)
    if known:
        draft.emit(JobsForgotten(tuple(known)))


def _leave(draft: Draft, job: Job) -> None:
    """Takes a job out of its group and submission, and drops those that are empty then."""
    leave_group(draft, job)
    together = draft.submissions.get(job.submission_id) or ()
    if not any(draft.jobs.get(job_id) is not None for job_id in together):
        del draft.submissions[job.submission_id]


__all__ = ["end_overdue", "forget", "map_port", "session_ended", "stop_job", "submit"]
