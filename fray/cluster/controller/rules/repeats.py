"""Whether a submission that comes again is the same."""

from collections.abc import Sequence
from dataclasses import replace

from fray.cluster.controller.commands import SubmitJobs
from fray.cluster.controller.draft import Draft
from fray.cluster.controller.specs import Environment, JobSpec
from fray.errors import InvalidRequestError
from fray.ids import JobId
from fray.wording import counted


def check_same(draft: Draft, command: SubmitJobs, known: Sequence[JobId]) -> None:
    """Refuses a repetition that asks for something else than the first time.

    Pickles are not compared, since those of equal functions may differ, and neither is what
    depends on where the submitter runs.

    Args:
        draft: Where.
        command: The repetition.
        known: The jobs of the first time.

    Raises:
        InvalidRequestError: It asks for something else.
    """
    before = [draft.jobs.get(job_id) for job_id in known]
    if len(before) != len(command.jobs):
        raise InvalidRequestError(
            f"the submission {command.submission_id!r} was made with {counted(len(before), 'job')} "
            f"({', '.join(known)}), and now has {len(command.jobs)}; use another id"
        )
    for job, spec in zip(before, command.jobs, strict=True):
        if job is None:  # forgotten, so that nothing is known of it
            continue
        old, new = _comparable(job.spec), _comparable(spec)
        differs = [name for name in old if old[name] != new[name]]
        if spec.environment == Environment():  # that of the launching job was given to it
            differs = [name for name in differs if name not in _OF_ENVIRONMENT]
        if differs:
            raise InvalidRequestError(
                f"the submission {command.submission_id!r} was made before, for job "
                f"{job.spec.job_id}, with another {' and another '.join(differs)}; use another id"
            )


_OF_ENVIRONMENT = ("docker_image", "extras", "pip_packages", "set of variables")


def _comparable(spec: JobSpec) -> dict[str, object]:
    regions = spec.resources.regions
    return {
        "name": spec.name,
        "user": spec.user,
        "command": spec.program.command,
        "function": spec.hints.get("function", ""),
        "docker_image": spec.environment.docker_image,
        "extras": spec.environment.extras,
        "pip_packages": spec.environment.pip_packages,
        "set of variables": sorted(spec.environment.env_names),
        "resources": replace(spec.resources, regions=list(regions) if regions else None),
        "gang": (spec.gang, spec.hosts_per_replica),
        "max_retries_failure": spec.max_retries_failure,
        "max_retries_preemption": spec.max_retries_preemption,
        "ports": sorted(spec.ports),
        "time_limit_s": spec.time_limit_s,
        "queue_limit_s": spec.queue_limit_s,
        "detached": spec.detached,
        "evictable": spec.evictable,
        "reservation": spec.reservation,
    }


__all__ = ["check_same"]
