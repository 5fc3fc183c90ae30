"""Slices whose hosts are actors of their own: one job for each host, which start together.

An actor is a job with one task, so a slice with several hosts is taken by several jobs. They are in
one group, whole, in the order of their hosts; to the scheduler they are one block, as the tasks of
an ordinary job on that slice would be.
"""

from collections.abc import Iterator, Sequence

from fray.cluster.controller.draft import Draft
from fray.cluster.controller.records import Job
from fray.cluster.controller.specs import JobSpec
from fray.cluster.devices import TpuConfig
from fray.errors import InvalidRequestError


def check_part(spec: JobSpec) -> None:
    """Refuses a job that could not be one of those that take a slice together.

    Args:
        spec: Any job.

    Raises:
        InvalidRequestError: It says that it has a host of a slice, and cannot.
    """
    host, device = spec.slice_host, spec.resources.device
    if host is None:
        return
    if spec.actor is None or not spec.actor.held:
        raise InvalidRequestError(
            f"job {spec.job_id} has host {host} of a slice (slice_host), which only a child of a "
            'supervisor with strategy="gang" can have: its siblings have the other hosts'
        )
    if not isinstance(device, TpuConfig) or not 0 <= host < device.vm_count():
        raise InvalidRequestError(
            f"job {spec.job_id} has host {host} of a slice, and a slice of {device.variant} has "
            "no such host"
        )


def check_whole(specs: Sequence[JobSpec]) -> None:
    """Refuses jobs that are to start together and do not make whole slices.

    Args:
        specs: All that are to start, in their order.

    Raises:
        InvalidRequestError: A host of a slice is missing, twice there, or needs something else.
    """
    for part in _runs(specs):
        first = part[0]
        hosts = [spec.slice_host for spec in part]
        if hosts != list(range(first.slice_hosts)):
            raise InvalidRequestError(
                f"the actors of a {first.resources.device.variant} slice start together, hosts "
                f"0 to {first.slice_hosts - 1} in this order; these are {hosts}"
            )
        if any(spec.resources != first.resources for spec in part):
            raise InvalidRequestError(
                f"the actors of one slice need the same resources; {first.job_id} and "
                f"{part[-1].job_id} differ"
            )


def _runs(specs: Sequence[JobSpec]) -> Iterator[list[JobSpec]]:
    part: list[JobSpec] = []
    for spec in specs:
        if spec.slice_host is None:
            continue
        if spec.slice_host == 0 and part:
            yield part
            part = []
        part.append(spec)
    if part:
        yield part


def jobs_of_slice(draft: Draft, job: Job) -> list[Job]:
    """The jobs that have a slice together, by host; only itself for a job without `slice_host`.

    Args:
        draft: Where.
        job: One of them.
    """
    host, group = job.spec.slice_host, draft.groups.get(job.group_id)
    if host is None or group is None or job.spec.job_id not in group.job_ids:
        return [job]
    first = group.job_ids.index(job.spec.job_id) - host
    job_ids = group.job_ids[max(first, 0) : first + job.spec.slice_hosts]
    return [found for each in job_ids if (found := draft.jobs.get(each)) is not None]


def slice_of(draft: Draft, job: Job) -> str:
    """Names the slice that a job has one host of; "" for any other job.

    Args:
        draft: Where.
        job: Which.
    """
    if job.spec.slice_host is None:
        return ""
    return jobs_of_slice(draft, job)[0].spec.job_id


__all__ = ["check_part", "check_whole", "jobs_of_slice", "slice_of"]
