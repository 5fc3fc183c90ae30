"""Hosts, as places for tasks."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, NamedTuple

from fray.cluster.resources import Resources
from fray.cluster.scheduling.inventory import Devices, HeldDevice
from fray.ids import JobId, WorkerId


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
        topology: The arrangement of its chips, as in ``4x4``; "" where nobody has said it.
    """

    name: str
    tpu_type: str
    index: int = 0
    size: int = 1
    topology: str = ""


class Holding(NamedTuple):
    """What one job has on a host with slots.

    Attributes:
        live: Its live attempts there.
        blocked: How many of them wait for other jobs; any frees the job's slot.
    """

    live: int
    blocked: int = 0


class Kept(NamedTuple):
    """What is kept on a host for somebody.

    Attributes:
        resources: Amounts.
        devices: Which devices, as `Host.devices` counts them.
        for_s: What ends within so many seconds does not disturb; 0: everything does.
    """

    resources: Resources
    devices: Devices
    for_s: float = 0.0


def _nothing_held() -> Mapping[JobId, Holding]:
    return {}


def _nothing_kept() -> Mapping[str, Kept]:
    return {}


def _no_labels() -> Mapping[str, str]:
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
        labels: What its operator says of it.
        reserved: What reservations have here and do not use, by reservation: for their own jobs,
            and for those that can be made to leave again.
        locked: What is freed for somebody who waits, by unit: for nobody else. Only a plan in
            the making has any.
        held: Devices that are not free though no attempt has them.
        kind: What hosts that are alike share; `kinds.kind_of` keeps it here.
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
    labels: Mapping[str, str] = field(default_factory=_no_labels)
    reserved: Mapping[str, Kept] = field(default_factory=_nothing_kept)
    locked: Mapping[str, Kept] = field(default_factory=_nothing_kept)
    held: tuple[HeldDevice, ...] = ()
    kind: Any = field(default=None, init=False, repr=False, compare=False)

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


__all__ = ["Domain", "Holding", "Host", "Kept", "Place", "SliceMember"]
