"""The actor ``reservations``: makes them, tells of them, and ends those whose time is over."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from fray.cluster.controller.commands import (
    CreateReservation,
    ExpireReservations,
    ReleaseReservation,
    RenewReservation,
)
from fray.cluster.controller.reservation import Reservation
from fray.cluster.devices import TpuConfig
from fray.cluster.priority import BAND_WIDTH, Band
from fray.cluster.schedcontrol import ReservationReport, ReservationRequest
from fray.errors import InvalidRequestError, ReservationNotFoundError
from fray.ids import JobId, ReservationId

if TYPE_CHECKING:
    from fray.cluster.control import ClusterFacts
    from fray.cluster.controller.book import Book
    from fray.runtime.clock import Clock


class Reservations:
    """See `ReservationsApi`.

    Args:
        book: The ledger.
        clock: The process's clock.
        facts: What this cluster is: where it is local, slices are virtual.
    """

    def __init__(self, book: Book, clock: Clock, facts: ClusterFacts) -> None:
        self._book = book
        self._clock = clock
        self._facts = facts

    async def run(self) -> None:
        """Ends reservations when their time is over."""
        while True:
            next_at = min((each.expires_at for each in self._open()), default=None)
            now = self._clock.time()
            if next_at is not None and next_at <= now:
                await self._book.commit(ExpireReservations())
                continue
            try:
                async with asyncio.timeout(None if next_at is None else next_at - now):
                    await self._book.changed.wait()
            except TimeoutError:
                pass  # the time of one is over

    def _open(self) -> list[Reservation]:
        return [each for each in self._book.ledger.tables.reservations.values() if each.is_open]

    async def create(self, request: ReservationRequest) -> ReservationId:
        """See `ReservationsApi.create`."""
        if not request.token.isalnum():
            raise InvalidRequestError(f"a reservation's token is letters and digits: {request}")
        least, most, device = request.minimum, request.maximum, request.minimum.device
        hosts = 1  # where a cluster is local, a slice is one task
        if isinstance(device, TpuConfig) and not self._facts.local:
            hosts = device.vm_count()
        command = CreateReservation(
            reservation_id=ReservationId(f"r-{request.token}"),
            user=request.user,
            namespace=request.namespace,
            minimum=least,
            maximum=most,
            hosts_per_replica=hosts,
            priority=Band.NORMAL + min(max(request.priority, 0), BAND_WIDTH - 1),
            preemptible=request.preemptible,
            ttl_s=request.ttl_s,
        )
        self._book.ledger.check_reservable(command)
        await self._book.commit(command)
        return command.reservation_id

    async def get(self, reservation_id: ReservationId) -> ReservationReport:
        """See `ReservationsApi.get`."""
        found = self._book.ledger.tables.reservations.get(reservation_id)
        if found is None:
            raise ReservationNotFoundError(f"there is no reservation {reservation_id}")
        return self._report(found)

    async def list(self, user: str | None, ended: bool) -> list[ReservationReport]:
        """See `ReservationsApi.list`."""
        there = self._book.ledger.tables.reservations.values()
        chosen = [
            each for each in there if (ended or each.ended_at is None) and user in (None, each.user)
        ]
        return [self._report(each) for each in sorted(chosen, key=lambda each: each.rank)]

    async def release(self, reservation_id: ReservationId, reason: str) -> None:
        """See `ReservationsApi.release`."""
        await self._book.commit(ReleaseReservation(reservation_id, reason))

    async def renew(self, reservation_id: ReservationId, ttl_s: float) -> float:
        """See `ReservationsApi.renew`."""
        await self._book.commit(RenewReservation(reservation_id, ttl_s))
        return self._book.ledger.tables.reservations[reservation_id].expires_at

    def _report(self, found: Reservation) -> ReservationReport:
        ledger, name = self._book.ledger, found.reservation_id
        most = found.maximum.replicas
        beyond = ledger.replicas_beside(name)
        if found.is_open:
            beyond += self._book.spares.get(name, 0)
        allocated = min(len(found.places) + beyond, most)
        if found.ended_at is not None:
            allocated = 0
        reasons = self._book.reasons.get(JobId(name), ()) if found.is_open else ()
        return ReservationReport(
            reservation_id=name,
            user=found.user,
            namespace=found.namespace,
            state=found.state(max(allocated - len(found.places), 0)).value,
            minimum=found.minimum,
            maximum=found.maximum,
            allocated=allocated,
            pending=most - allocated if found.is_open else 0,
            hosts=tuple(worker for place in found.places for worker in place.workers),
            jobs=tuple(ledger.jobs_of_reservation(name)),
            created_at=found.created_at,
            expires_at=found.expires_at,
            reason=found.reason,
            waits_for=tuple(str(reason) for reason in reasons),
        )


__all__ = ["Reservations"]
