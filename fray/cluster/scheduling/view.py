"""What the planner sees: hosts with what they have left, and units that wait for a place.

Everything is immutable and made by the ledger; two views may share parts.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import NamedTuple

from fray.cluster.resources import Resources
from fray.ids import JobId, WorkerId


class TaskKey(NamedTuple):
    """Which task of which job."""

    job_id: JobId
    task_index: int

    def __str__(self) -> str:
        return f"{self.job_id}/{self.task_index}"


class Domain(IntEnum):
    """How near to each other the tasks of a unit must be; the larger the nearer."""

    ANYWHERE = 0
    REGION = 1
    ZONE = 2


class Place(NamedTuple):
    """A region, or a zone of one.

    Attributes:
        region: "" is that of hosts without one.
        zone: None where the zone does not matter; "" is that of hosts without one.
    """

    region: str
    zone: str | None = None

    def __str__(self) -> str:
        if self.zone is None:
            return f"region {self.region or '(none)'}"
        return f"zone {self.zone or '(none)'}"


@dataclass(frozen=True, slots=True)
class SliceMember:
    """A host's part in a TPU slice.

    Attributes:
        name: Of the slice, unique in the cluster.
        tpu_type: Google's accelerator type.
        index: Which host of the slice this is, from 0.
        size: How many hosts the slice has.
    """

    name: str
    tpu_type: str
    index: int = 0
    size: int = 1


class Holding(NamedTuple):
    """What one job has on a host with slots.

    Attributes:
        live: Its live attempts there.
        blocked: How many of them wait for other jobs; any frees the job's slot.
    """

    live: int
    blocked: int = 0


def _nothing_held() -> Mapping[JobId, Holding]:
    return {}


def _nobody_held() -> Mapping[JobId, str]:
    return {}


def _no_devices() -> Mapping[str, tuple[int, ...]]:
    return {}


@dataclass(frozen=True, slots=True)
class Host:
    """One host, as a place for tasks.

    Attributes:
        worker_id: Its id.
        capacity: All that it has.
        used: What live attempts have of it, those that are being stopped included.
        devices: Of each accelerator variant or family, what is taken of each device, in
            thousandths, by device index.
        region: "" where it has none.
        zone: "" where it has none.
        preemptible: Whether the cloud may take it back.
        slice: Its part in a TPU slice.
        oversubscribe: Whether amounts are not counted here and accelerators are virtual.
        slots: How many jobs may run here at once; None is any number.
        holdings: What each job has here; kept only where there are slots.
        closed: Why nothing new may come here; "" where it may.
        leaving: Whether it is on its way out, so that it counts for nothing in the future.
    """

    worker_id: WorkerId
    capacity: Resources
    used: Resources = field(default_factory=Resources)
    devices: Mapping[str, tuple[int, ...]] = field(default_factory=_no_devices)
    region: str = ""
    zone: str = ""
    preemptible: bool = False
    slice: SliceMember | None = None
    oversubscribe: bool = False
    slots: int | None = None
    holdings: Mapping[JobId, Holding] = field(default_factory=_nothing_held)
    closed: str = ""
    leaving: bool = False

    def is_in(self, place: Place) -> bool:
        """Whether it is in a place.

        Args:
            place: A region, or a zone of one.
        """
        return self.region == place.region and place.zone in (None, self.zone)

    def place(self, domain: Domain) -> Place:
        """The region or zone that it is in.

        Args:
            domain: How narrow; not ANYWHERE.
        """
        return Place(self.region, self.zone if domain is Domain.ZONE else None)

    def slots_used(self) -> int:
        """How many jobs hold a slot here: those with a live attempt and none that waits."""
        return sum(1 for held in self.holdings.values() if held.live and not held.blocked)


@dataclass(frozen=True, slots=True)
class Shape:
    """What each task of a block needs.

    Attributes:
        need: Amounts, of one task.
        tpu_type: The slice's type; "" where no TPU is wanted.
        hosts: Tasks of a block, each on a host of its own of one slice; 1: any one host.
        regions: Where it may run; empty is anywhere.
        preemptible: Whether a host that the cloud may take back will do.
        takes_slot: Whether its job counts against a host's slots.
    """

    need: Resources
    tpu_type: str = ""
    hosts: int = 1
    regions: tuple[str, ...] = ()
    preemptible: bool = True
    takes_slot: bool = True


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


@dataclass(frozen=True, slots=True)
class Unit:
    """What is placed all at once or not at all.

    Attributes:
        unit_id: ``task:…``, ``gang:…`` or ``group:…``.
        blocks: What it consists of.
        submitted_at: In seconds since 1970; earlier ones are served first.
        rank: Breaks ties of the time: the order of submission.
        ready_at: Not before this time; 0 is at once.
        domain: How near its blocks must be to each other.
        within: Where it must be, because others of its group already are there.
        together: Whether it may exceed a host's slots, as a group that starts may.
        avoid: Hosts on which it failed by the host's fault, used only where no other will do.
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

    def tasks(self) -> list[Waiting]:
        """All its tasks, block after block."""
        return [task for block in self.blocks for task in block.tasks]

    def job_ids(self) -> list[JobId]:
        """The jobs of its tasks, each once, in order."""
        return list(dict.fromkeys(task.key.job_id for task in self.tasks()))


@dataclass(frozen=True, slots=True)
class ClusterView:
    """The cluster at one revision of the ledger.

    Attributes:
        revision: Which one.
        hosts: By id, all that are known.
        units: All that wait for a place, in no particular order.
        held: Jobs with tasks that want a place and may not have one yet, and why.
    """

    revision: int
    hosts: Mapping[WorkerId, Host]
    units: tuple[Unit, ...]
    held: Mapping[JobId, str] = field(default_factory=_nobody_held)


__all__ = [
    "Block",
    "ClusterView",
    "Domain",
    "Holding",
    "Host",
    "Place",
    "Shape",
    "SliceMember",
    "TaskKey",
    "Unit",
    "Waiting",
]
