r"""Reservations: resources that are kept for jobs to come.

::

    pending -> partial -> satisfied <-> expanded -> expiring -> released
        \________\___________\____________\____________________-^

Up to its minimum a reservation holds places: hosts, and what is kept there. Nobody else may use
them for good; who can be made to leave may borrow them. Beyond its minimum it holds nothing, and
takes what nobody else wants.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from fray.cluster.devices import CpuConfig, GpuConfig, ResourceConfig
from fray.cluster.resources import parse_bytes
from fray.cluster.scheduling.inventory import Allocation
from fray.ids import Namespace, ReservationId, WorkerId


class ReservationState(StrEnum):
    """Where a reservation is in its life."""

    PENDING = "pending"
    """It has nothing yet."""
    PARTIAL = "partial"
    """It has less than its minimum."""
    SATISFIED = "satisfied"
    """It has its minimum."""
    EXPANDED = "expanded"
    """It has more than that, or could have it at once."""
    EXPIRING = "expiring"
    """Its time is over: what its jobs still use goes with them."""
    RELEASED = "released"
    """It has nothing any more, and gets nothing."""


ENDING = (ReservationState.EXPIRING, ReservationState.RELEASED)


@dataclass(frozen=True, slots=True)
class ReservedPlace:
    """Where one replica of a reservation is.

    Attributes:
        workers: Its hosts: those of a slice by index, or one.
        allocations: What it has there, in the same order.
    """

    workers: tuple[WorkerId, ...]
    allocations: tuple[Allocation, ...]


@dataclass(frozen=True, slots=True)
class Reservation:
    """A reservation as it is now.

    Attributes:
        reservation_id: Which.
        user: Whose.
        namespace: Of whose connection; jobs of it use the reservation by themselves.
        minimum: What is kept.
        maximum: The same kind of replicas, and how many at most.
        hosts_per_replica: A slice's hosts; 1 where slices are virtual.
        priority: Among reservations and jobs that wait; see `fray.cluster.priority`.
        preemptible: Whether hosts that the cloud may take back will do.
        ttl_s: How long it lasts unless renewed, in seconds.
        rank: The order of submission, among jobs too.
        created_at: In seconds since 1970.
        expires_at: When what is idle is given back.
        places: Its replicas, up to the minimum.
        expired: Whether its time is over.
        ended_at: When it had nothing any more; None before.
        reason: Why it ended, for people.
    """

    reservation_id: ReservationId
    user: str
    namespace: Namespace
    minimum: ResourceConfig
    maximum: ResourceConfig
    hosts_per_replica: int
    priority: int
    preemptible: bool
    ttl_s: float
    rank: int
    created_at: float
    expires_at: float
    places: tuple[ReservedPlace, ...] = ()
    expired: bool = False
    ended_at: float | None = None
    reason: str = ""

    @property
    def is_open(self) -> bool:
        """Whether it still gets and gives anything."""
        return not self.expired and self.ended_at is None

    def state(self, beyond: int = 0) -> ReservationState:
        """Where it is in its life.

        Args:
            beyond: Replicas that it has, or could have at once, beside its places.
        """
        if self.ended_at is not None:
            return ReservationState.RELEASED
        if self.expired:
            return ReservationState.EXPIRING
        has = len(self.places) + beyond
        if has < self.minimum.replicas:
            return ReservationState.PARTIAL if has else ReservationState.PENDING
        more = has > self.minimum.replicas
        return ReservationState.EXPANDED if more else ReservationState.SATISFIED

    def suits(self, resources: ResourceConfig) -> bool:
        """Whether a replica of a job fits into one of this reservation.

        Args:
            resources: What the job needs.
        """
        mine, wanted = self.minimum, resources
        if isinstance(mine.device, CpuConfig):
            return (
                isinstance(wanted.device, CpuConfig)
                and wanted.cpu <= mine.cpu
                and parse_bytes(wanted.ram) <= parse_bytes(mine.ram)
                and parse_bytes(wanted.disk) <= parse_bytes(mine.disk)
            )
        if isinstance(mine.device, GpuConfig):
            return (
                isinstance(wanted.device, GpuConfig)
                and wanted.device.variant == mine.device.variant
                and wanted.device.count <= mine.device.count
            )
        return wanted.device == mine.device


__all__ = ["ENDING", "Reservation", "ReservationState", "ReservedPlace"]
