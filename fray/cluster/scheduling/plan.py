"""What the planner answers: who goes where, and why the rest waits."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from fray.cluster.scheduling.view import (
    Claim,
    Unit,
)
from fray.ids import AttemptId, JobId, WorkerId


class Placement(NamedTuple):
    """One task's host.

    Attributes:
        job_id: The task's job.
        task_index: The task's index in it.
        attempt: The number of the attempt that the planner meant; another one is stale.
        worker_id: The host.
    """

    job_id: JobId
    task_index: int
    attempt: int
    worker_id: WorkerId


@dataclass(frozen=True, slots=True)
class Assignment:
    """A unit's place: it is taken whole or not at all.

    Attributes:
        unit_id: Which unit.
        placements: One for each of its tasks.
    """

    unit_id: str
    placements: tuple[Placement, ...]


@dataclass(frozen=True, slots=True)
class Reason:
    """Why one candidate would not do.

    Attributes:
        candidate: A host, slice, region or zone; "" where it is about no candidate.
        text: One clause for a person, as in ``needs 4 cpus, has 2 of 8 left``.
    """

    candidate: str
    text: str

    def __str__(self) -> str:
        return f"{self.candidate}: {self.text}" if self.candidate else self.text


@dataclass(frozen=True, slots=True)
class Preemption:
    """Others are stopped so that a unit gets their place.

    Attributes:
        unit_id: Whom for.
        victims: Attempts; of a gang all.
        jobs: Whose they are, each once.
    """

    unit_id: str
    victims: tuple[AttemptId, ...]
    jobs: tuple[JobId, ...]


def _no_spares() -> Mapping[str, int]:
    return {}


@dataclass(frozen=True, slots=True)
class Plan:
    """The planner's answer to one view.

    Attributes:
        revision: The view's.
        assignments: Units with a place, in the order in which places were given.
        waiting: Units without one though it is their time: the demand that is left over.
        reasons: Why, for every job that has a task without a place; never empty for such a job.
        next_at: When to plan again though nothing has changed; None: when something has.
        preemptions: What is to be stopped, and for whom.
        claims: All places that are freed for somebody, those of earlier plans included.
        spares: How many replicas more each reservation could have, from what nobody wants.
        overdue: Attempts whose time limit is over.
    """

    revision: int
    assignments: tuple[Assignment, ...]
    waiting: tuple[Unit, ...]
    reasons: Mapping[JobId, tuple[Reason, ...]]
    next_at: float | None = None
    preemptions: tuple[Preemption, ...] = ()
    claims: tuple[Claim, ...] = ()
    spares: Mapping[str, int] = field(default_factory=_no_spares)
    overdue: tuple[AttemptId, ...] = ()


__all__ = ["Assignment", "Placement", "Plan", "Preemption", "Reason"]
