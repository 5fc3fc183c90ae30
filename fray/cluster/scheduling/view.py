"""What the planner sees: hosts with what they have left, and units that wait for a place.

Everything is immutable and made by the ledger; two views may share parts.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from fray.cluster.constraints import Constraint
from fray.cluster.priority import DEFAULT_PRIORITY
from fray.cluster.resources import Resources
from fray.cluster.scheduling.accounts import Standing
from fray.cluster.scheduling.hosts import Domain, Host, Place
from fray.cluster.scheduling.inventory import Allocation
from fray.cluster.scheduling.policy import DEFAULT_POLICY, Policy
from fray.ids import AttemptId, JobId, WorkerId


class TaskKey(NamedTuple):
    """Which task of which job."""

    job_id: JobId
    task_index: int

    def __str__(self) -> str:
        return f"{self.job_id}/{self.task_index}"


def _nobody_held() -> Mapping[JobId, str]:
    return {}


@dataclass(frozen=True, slots=True)
class Shape:
    """What each task of a block needs. Shapes are looked up a lot, so each keeps its hash.

    Attributes:
        need: Amounts, of one task.
        tpu_type: The slice's type; "" where no TPU is wanted.
        hosts: Tasks of a block, each on a host of its own of one slice; 1: any one host.
        regions: Where it may run; empty is anywhere.
        preemptible: Whether a host that the cloud may take back will do.
        takes_slot: Whether its job counts against a host's slots.
        zones: Where it may run; empty is anywhere.
        topology: Which arrangement of chips its slice must have; "" for any.
        constraints: What its hosts must be.
        preferences: What would be nice, and how much it weighs.
        reservation: Whose resources it may use; "" for nobody's.
        evictable: Whether it may be made to leave, and so may borrow what is reserved.
        time_limit_s: How long it runs at most; None where nobody knows.
    """

    need: Resources
    tpu_type: str = ""
    hosts: int = 1
    regions: tuple[str, ...] = ()
    preemptible: bool = True
    takes_slot: bool = True
    zones: tuple[str, ...] = ()
    topology: str = ""
    constraints: tuple[Constraint, ...] = ()
    preferences: tuple[tuple[Constraint, float], ...] = ()
    reservation: str = ""
    evictable: bool = True
    time_limit_s: float | None = None
    _hash: int = field(default=0, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        parts = (
            self.need,
            self.tpu_type,
            self.hosts,
            self.regions,
            self.zones,
            self.preemptible,
            self.takes_slot,
            self.topology,
            self.constraints,
            self.reservation,
            self.evictable,
            self.time_limit_s,
        )
        object.__setattr__(self, "_hash", hash(parts))

    def __hash__(self) -> int:
        return self._hash


class Waiting(NamedTuple):
    """A task that waits for a place.

    Attributes:
        key: Which one.
        attempt: The number that its next attempt will have.
    """

    key: TaskKey
    attempt: int


@dataclass(frozen=True, slots=True)
class Block:
    """Tasks that take one slice together, by slice index; or a single task.

    Attributes:
        tasks: As many as ``shape.hosts``.
        shape: What each needs.
    """

    tasks: tuple[Waiting, ...]
    shape: Shape


UnitKind = tuple[tuple[tuple[Shape, int], ...], Domain, Place | None, bool]
"""What units that are alike share: where one does not fit, no other one does."""

KINDS_MAX = 4096
"""Kinds that are remembered, so that equal ones are mostly one object."""

_KINDS: dict[UnitKind, UnitKind] = {}


@dataclass(frozen=True, slots=True)
class Unit:
    """What is placed all at once or not at all.

    Attributes:
        unit_id: ``task:…``, ``gang:…``, ``group:…``, or ``reservation:…`` for a replica of one.
        blocks: What it consists of.
        submitted_at: In seconds since 1970; earlier ones are served first.
        rank: Breaks ties of the time: the order of submission.
        ready_at: Not before this time; 0 is at once.
        domain: How near its blocks must be to each other.
        within: Where it must be, because others of its group already are there.
        together: Whether it may exceed a host's slots, as a group that starts may.
        avoid: Hosts on which it failed by the host's fault, used only where no other will do.
        user: Whose it is.
        priority: See `fray.cluster.priority`; the highest of its jobs'.
        kind: What it shares with units that are alike.
    """

    unit_id: str
    blocks: tuple[Block, ...]
    submitted_at: float = 0.0
    rank: int = 0
    ready_at: float = 0.0
    domain: Domain = Domain.ANYWHERE
    within: Place | None = None
    together: bool = False
    avoid: tuple[WorkerId, ...] = ()
    user: str = ""
    priority: int = DEFAULT_PRIORITY
    kind: UnitKind = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        shapes: list[tuple[Shape, int]] = []
        for block in self.blocks:
            if shapes and shapes[-1][0] == block.shape:
                shapes[-1] = (block.shape, shapes[-1][1] + 1)
            else:
                shapes.append((block.shape, 1))
        kind = tuple(shapes), self.domain, self.within, self.together
        if len(_KINDS) >= KINDS_MAX:
            _KINDS.clear()
        object.__setattr__(self, "kind", _KINDS.setdefault(kind, kind))

    def tasks(self) -> list[Waiting]:
        """All its tasks, block after block."""
        return [task for block in self.blocks for task in block.tasks]

    def job_ids(self) -> list[JobId]:
        """The jobs of its tasks, each once, in order."""
        return list(dict.fromkeys(task.key.job_id for task in self.tasks()))

    def need(self) -> Resources:
        """What all its tasks need together."""
        first, count = self.kind[0][0]
        if len(self.tasks()) == 1:
            return first.need
        found = Resources()
        for shape, count in self.kind[0]:
            found += shape.need.times(count * shape.hosts)
        return found


RESERVATION = "reservation:"
"""How the ids of units begin that are replicas of reservations."""


def is_reservation(unit: Unit) -> bool:
    """Whether a unit is a replica of a reservation, which nothing runs in yet.

    Args:
        unit: Any.
    """
    return unit.unit_id.startswith(RESERVATION)


class Part(NamedTuple):
    """What runs on one host.

    Attributes:
        attempt_id: Which attempt.
        worker_id: Where.
        allocation: What it has there.
        guaranteed: Whether it uses what its reservation has there.
    """

    attempt_id: AttemptId
    worker_id: WorkerId
    allocation: Allocation
    guaranteed: bool = False


@dataclass(frozen=True, slots=True)
class Running:
    """What runs, and stops as one: an attempt, or those of a gang.

    Attributes:
        unit_id: Which: as that of the unit that it would be if it waited.
        job_id: Whose.
        user: Whose that is.
        priority: See `fray.cluster.priority`.
        evictable: Whether it may be made to leave.
        reservation: Which reservation it uses; "" for none.
        parts: Where it is.
        saved_at: Since when its work would be lost: its last checkpoint, or its start.
        ends_at: When its time limit is over; None without one.
        stopping: Whether it is being stopped already.
    """

    unit_id: str
    job_id: JobId
    user: str
    priority: int
    evictable: bool
    reservation: str
    parts: tuple[Part, ...]
    saved_at: float
    ends_at: float | None = None
    stopping: bool = False


@dataclass(frozen=True, slots=True)
class Claim:
    """A place for which others were told to leave, and which nobody else may take meanwhile.

    Attributes:
        unit_id: Who waits for it; the claim is void once that unit no longer waits.
        tasks: Its tasks, with the attempts that are meant: for others the claim is void too.
        workers: Their hosts, in the same order.
    """

    unit_id: str
    tasks: tuple[Waiting, ...]
    workers: tuple[WorkerId, ...]


class Spare(NamedTuple):
    """What a reservation takes beyond its minimum, from what nobody wants.

    Attributes:
        unit: One replica of it.
        number: How many more it would take.
    """

    unit: Unit
    number: int


def _no_spares() -> Mapping[str, Spare]:
    return {}


def _nobody() -> Mapping[str, Standing]:
    return {}


@dataclass(frozen=True, slots=True)
class ClusterView:
    """The cluster at one revision of the ledger.

    Attributes:
        revision: Which one.
        hosts: By id, all that are known.
        units: All that wait for a place, in no particular order.
        held: Jobs with tasks that want a place and may not have one yet, and why.
        running: All that has a place.
        users: How users stand, by name; of one who is not there nothing is known.
        claims: Places for which others were told to leave.
        spares: What reservations would take beyond their minimum, by reservation.
        policy: How places are given.
    """

    revision: int
    hosts: Mapping[WorkerId, Host]
    units: tuple[Unit, ...]
    held: Mapping[JobId, str] = field(default_factory=_nobody_held)
    running: tuple[Running, ...] = ()
    users: Mapping[str, Standing] = field(default_factory=_nobody)
    claims: tuple[Claim, ...] = ()
    spares: Mapping[str, Spare] = field(default_factory=_no_spares)
    policy: Policy = DEFAULT_POLICY


__all__ = [
    "RESERVATION",
    "Block",
    "Claim",
    "ClusterView",
    "Part",
    "Running",
    "Shape",
    "Spare",
    "TaskKey",
    "Unit",
    "UnitKind",
    "Waiting",
    "is_reservation",
]
