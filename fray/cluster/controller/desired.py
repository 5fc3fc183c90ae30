"""What each host should run: the complete set, as its agent is told.

An agent compares the set with what it has: it starts what is new, stops what has an order to, and
ends and forgets whatever is not in the set. A set with a lower generation than one that it has
seen is old and ignored. An ended attempt stays in the set until the ledger has taken note of its
end; so its absence acknowledges the result.
"""

from dataclasses import dataclass
from enum import StrEnum

from fray.cluster.controller.attempt import Attempt, Stop
from fray.cluster.controller.draft import Draft
from fray.cluster.controller.slicegangs import jobs_of_slice
from fray.cluster.controller.specs import JobSpec
from fray.cluster.scheduling.inventory import Allocation
from fray.ids import AttemptId, WorkerId


class Standing(StrEnum):
    """Whether an agent may speak for a host."""

    CURRENT = "current"
    UNKNOWN = "unknown"
    """It is to register."""
    FENCED = "fenced"
    """It is to end all that it runs and register under a new boot id."""


@dataclass(frozen=True, slots=True)
class GangSpec:
    """An attempt's place in its gang.

    Attributes:
        gang_id: Which gang.
        epoch: Which life of it; processes of different epochs must not talk to each other.
        rank: The attempt's place among the members, from 0.
        addresses: Where the agents of all members listen, by rank.
    """

    gang_id: str
    epoch: int
    rank: int
    addresses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AttemptSpec:
    """An attempt that a host should run.

    Attributes:
        attempt_id: Which.
        job: Its job as it was submitted.
        task_index: ``FRAY_TASK_INDEX``.
        number: ``FRAY_ATTEMPT``: which try, from 0.
        replica_id: ``FRAY_REPLICA_ID``.
        allocation: What it has of the host.
        gang: Its place in its gang; None where it has none.
        stop: The order to end it; None while it should run.
    """

    attempt_id: AttemptId
    job: JobSpec
    task_index: int
    number: int
    replica_id: int
    allocation: Allocation
    gang: GangSpec | None = None
    stop: Stop | None = None


@dataclass(frozen=True, slots=True)
class Desired:
    """All that a host should run.

    Attributes:
        worker_id: Which host.
        generation: Of the set; a higher one replaces a lower one.
        attempts: The set, by id.
    """

    worker_id: WorkerId
    generation: int
    attempts: tuple[AttemptSpec, ...]


def desired(draft: Draft, worker_id: WorkerId) -> Desired:
    """All that a host should run.

    Args:
        draft: Where.
        worker_id: Which host; an unknown one should run nothing.
    """
    worker = draft.workers.get(worker_id)
    if worker is None:
        return Desired(worker_id, 0, ())
    attempts = tuple(_spec(draft, attempt) for attempt in draft.attempts_on(worker_id))
    return Desired(worker_id, worker.generation, attempts)


def _spec(draft: Draft, attempt: Attempt) -> AttemptSpec:
    job = draft.jobs[attempt.job_id].spec
    return AttemptSpec(
        attempt_id=attempt.attempt_id,
        job=job,
        task_index=attempt.task_index,
        number=attempt.number,
        replica_id=attempt.task_index // job.hosts_per_replica,
        allocation=attempt.allocation,
        gang=_gang(draft, attempt, job) or _slice(draft, attempt),
        stop=attempt.stop,
    )


def _gang(draft: Draft, attempt: Attempt, job: JobSpec) -> GangSpec | None:
    gang = draft.gangs.get(job.gang_of(attempt.task_index))
    if gang is None:
        return None
    workers = (draft.workers.get(worker_id) for worker_id in gang.workers)
    return GangSpec(
        gang_id=gang.gang_id,
        epoch=attempt.gang_epoch,
        rank=attempt.task_index - gang.first,
        addresses=tuple(worker.spec.address if worker else "" for worker in workers),
    )


def _slice(draft: Draft, attempt: Attempt) -> GangSpec | None:
    """The place of an actor among those that have the other hosts of its slice."""
    job = draft.jobs[attempt.job_id]
    host = job.spec.slice_host
    if host is None:
        return None
    live = (draft.task(each.spec.job_id, 0).live for each in jobs_of_slice(draft, job))
    found = [draft.attempts.get(each) if each is not None else None for each in live]
    return GangSpec(
        gang_id=job.group_id,
        epoch=attempt.number,
        rank=host,
        addresses=tuple(
            draft.workers[each.worker_id].spec.address if each is not None else "" for each in found
        ),
    )


__all__ = ["AttemptSpec", "Desired", "GangSpec", "Standing", "desired"]
