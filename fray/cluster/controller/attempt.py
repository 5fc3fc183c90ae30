r"""Attempts: each is one try at running one task on one host.

::

    assigned -> building -> running -> succeeded | failed | preempted | worker_lost | stopped
        \___________\__________\__-> stopping -^

Only live attempts have a record; ended ones remain as their task's history.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from fray.cluster.scheduling.inventory import Allocation
from fray.cluster.scheduling.view import (
    TaskKey,
)
from fray.errors import DeathCause
from fray.ids import AttemptId, JobId, WorkerId


class AttemptState(StrEnum):
    """Where an attempt is in its life; the tables are in `rules.attempts`."""

    ASSIGNED = "assigned"
    BUILDING = "building"
    RUNNING = "running"
    STOPPING = "stopping"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    PREEMPTED = "preempted"
    WORKER_LOST = "worker_lost"
    STOPPED = "stopped"


LIVE = (
    AttemptState.ASSIGNED,
    AttemptState.BUILDING,
    AttemptState.RUNNING,
    AttemptState.STOPPING,
)
"""The states in which something of an attempt may be on its host."""


@dataclass(frozen=True, slots=True)
class EndedAttempt:
    """What is remembered of an attempt.

    Attributes:
        attempt_id: Which.
        worker_id: Where it was.
        state: How it ended.
        cause: Why; says nothing of one that succeeded.
        assigned_at: When it got its place, in seconds since 1970.
        ended_at: When the ledger heard of its end.
    """

    attempt_id: AttemptId
    worker_id: WorkerId
    state: AttemptState
    cause: DeathCause
    assigned_at: float
    ended_at: float


class StopKind(StrEnum):
    """On whose account a live attempt is being stopped."""

    JOB = "job"
    """Its job ends."""
    GANG = "gang"
    """Another member of its gang is down."""
    ACTOR = "actor"
    """Its supervisor stops it, and may start it again."""
    PREEMPT = "preempt"
    """Its place is wanted for something else; the task goes on elsewhere."""


@dataclass(frozen=True, slots=True)
class Stop:
    """An order to end an attempt.

    Attributes:
        kind: On whose account.
        reason: For its log.
        grace_s: From the first notice to the kill, in seconds; 0 kills at once.
        unit_id: For whom, of an attempt that is preempted by somebody.
    """

    kind: StopKind
    reason: str
    grace_s: float
    unit_id: str = ""


def _no_amounts() -> Mapping[str, int]:
    return {}


@dataclass(frozen=True, slots=True)
class Attempt:
    """A live attempt.

    Attributes:
        attempt_id: ``<job id>/<task index>#<number>``.
        job_id: Whose.
        task_index: Of which task.
        number: Which try, from 0.
        worker_id: On which host.
        boot_id: In which life of that host.
        generation: The host's desired set in which it first was.
        gang_epoch: Which life of its gang; 0 without one.
        allocation: What it has of its host.
        state: One of `LIVE`.
        stop: The order to end it, in state STOPPING.
        assigned_at: In seconds since 1970.
        ports: The ports that its agent found for it, by name.
        address: Where its process listens; "" while it does not.
        blocked: Whether it only waits for other jobs, and so holds no slot.
        reservation: Whose resources it may use; "" for nobody's.
        guaranteed: Whether it uses what its job's reservation has on its host.
        checkpoints: How often it has said that its work is saved.
        saved_at: When the ledger last heard so, in seconds since 1970; 0 for never.
    """

    attempt_id: AttemptId
    job_id: JobId
    task_index: int
    number: int
    worker_id: WorkerId
    boot_id: str
    generation: int
    gang_epoch: int
    allocation: Allocation
    state: AttemptState
    assigned_at: float
    stop: Stop | None = None
    ports: Mapping[str, int] = field(default_factory=_no_amounts)
    address: str = ""
    blocked: bool = False
    reservation: str = ""
    guaranteed: bool = False
    checkpoints: int = 0
    saved_at: float = 0.0

    @property
    def key(self) -> TaskKey:
        """Its task's key."""
        return TaskKey(self.job_id, self.task_index)


__all__ = ["LIVE", "Attempt", "AttemptState", "EndedAttempt", "Stop", "StopKind"]
