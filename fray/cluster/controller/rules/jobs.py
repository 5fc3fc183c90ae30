"""Submitting, stopping and forgetting jobs."""

from dataclasses import replace

from fray.cluster.controller.commands import ForgetJobs, SessionEnded, StopJob, SubmitJobs
from fray.cluster.controller.draft import Draft
from fray.cluster.controller.events import JobChanged, JobsForgotten, JobsSubmitted
from fray.cluster.controller.records import Gang, Group, Job, Task
from fray.cluster.controller.rules.endings import condemn
from fray.cluster.controller.specs import GangScope, JobSpec
from fray.cluster.devices import TpuConfig
from fray.cluster.names import check_budget, check_job_name, check_port_names
from fray.cluster.scheduling.view import TaskKey
from fray.cluster.types import JobStatus
from fray.errors import InvalidRequestError
from fray.ids import AttemptId


def submit(draft: Draft, command: SubmitJobs) -> None:
    """Adds jobs, all or none.

    Args:
        draft: Where.
        command: The jobs.

    Raises:
        InvalidRequestError: One of them makes no sense, or its parent has ended.
        JobNotFoundError: Its parent is unknown.
    """
    known = draft.submissions.get(command.submission_id)
    if known is not None:
        draft.emit(JobsSubmitted(command.submission_id, known, again=True))
        return
    if not command.submission_id or not command.jobs:
        raise InvalidRequestError("a submission needs an id and at least one job")
    job_ids = tuple(spec.job_id for spec in command.jobs)
    if len(dict.fromkeys(job_ids)) < len(job_ids):
        raise InvalidRequestError(f"a submission has two jobs of one id: {', '.join(job_ids)}")
    actors = [spec.actor.actor_id for spec in command.jobs if spec.actor is not None]
    if len(dict.fromkeys(actors)) < len(actors):
        raise InvalidRequestError(f"a submission has one actor twice: {', '.join(actors)}")
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
    for spec in command.jobs:
        _add(draft, spec, command.submission_id, group_id)
    draft.emit(JobsSubmitted(command.submission_id, job_ids))


def _add(draft: Draft, spec: JobSpec, submission_id: str, group_id: str) -> None:
    # Whoever submitted it may go on changing the one part of it that can be changed.
    regions = None if spec.resources.regions is None else tuple(spec.resources.regions)
    spec = replace(spec, resources=replace(spec.resources, regions=regions))
    draft.submitted += 1
    draft.jobs[spec.job_id] = Job(spec, draft.submitted, submission_id, group_id, draft.now)
    for index in range(spec.num_tasks):
        draft.put_task(Task(spec.job_id, index))
        gang_id = spec.gang_of(index)
        if gang_id and draft.gangs.get(gang_id) is None:
            members = spec.members(index)
            draft.gangs[gang_id] = Gang(gang_id, spec.job_id, members.start, len(members))
    draft.emit(JobChanged(spec.job_id, JobStatus.PENDING))


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
    _check_hosts(spec)
    _check_parent(draft, spec)
    if spec.actor is not None:
        _check_supervisor(draft, spec.actor.owner_attempt)
        holder = draft.job_of_actor(spec.actor.actor_id)
        if holder is not None:
            raise InvalidRequestError(f"actor {spec.actor.actor_id} already runs as job {holder}")


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
            f"job {spec.job_id} has {spec.hosts_per_replica} tasks per replica; "
            f"a replica of {device.variant} has {hosts} hosts"
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
    together = draft.submissions.get(job.submission_id) or ()
    if not any(draft.jobs.get(job_id) is not None for job_id in together):
        del draft.submissions[job.submission_id]
        if job.group_id:
            del draft.groups[job.group_id]


__all__ = ["forget", "session_ended", "stop_job", "submit"]
