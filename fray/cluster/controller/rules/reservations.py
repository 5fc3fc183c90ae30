"""Reservations: made, filled, renewed, and given back."""

from dataclasses import replace

from fray.cluster.controller.attempt import Attempt
from fray.cluster.controller.commands import (
    CreateReservation,
    ExpireReservations,
    ForgetReservations,
    ReleaseReservation,
    RenewReservation,
)
from fray.cluster.controller.draft import Draft
from fray.cluster.controller.events import ReservationChanged
from fray.cluster.controller.reservation import Reservation, ReservedPlace
from fray.cluster.controller.units import needs_of
from fray.cluster.names import check_tasks
from fray.cluster.priority import parse_priority
from fray.cluster.scheduling.fairshare import over_quota
from fray.cluster.scheduling.inventory import Allocation
from fray.cluster.scheduling.keeping import with_kept
from fray.errors import InvalidRequestError, ReservationNotFoundError
from fray.ids import ReservationId, WorkerId


def create(draft: Draft, command: CreateReservation) -> None:
    """Makes a reservation; it is filled by plans.

    Args:
        draft: Where.
        command: What is to be kept.

    Raises:
        InvalidRequestError: It makes no sense, or is more than its user's quota.
    """
    if draft.reservations.get(command.reservation_id) is not None:
        return
    least, most = command.minimum, command.maximum
    least.validate()
    most.validate()
    parse_priority(command.priority)
    if least.device != most.device or least.replicas > most.replicas:
        raise InvalidRequestError(
            "a reservation's maximum must be at least its minimum, of the same kind of device"
        )
    _check_ttl(command.ttl_s)
    hosts = command.hosts_per_replica
    check_tasks(most.replicas * hosts, "replicas that a reservation is to keep, times their hosts")
    standing = draft.users.get(command.user)
    if standing is not None:
        need = needs_of(least, hosts).times(hosts * least.replicas)
        over = over_quota(standing.quota, {}, need)
        if over:
            raise InvalidRequestError(f"user {command.user} {over}: it cannot be reserved")
    draft.submitted += 1
    draft.reservations[command.reservation_id] = Reservation(
        reservation_id=command.reservation_id,
        user=command.user,
        namespace=command.namespace,
        minimum=replace(least),
        maximum=replace(most),
        hosts_per_replica=hosts,
        priority=command.priority,
        preemptible=command.preemptible,
        ttl_s=command.ttl_s,
        rank=draft.submitted,
        created_at=draft.now,
        expires_at=draft.now + command.ttl_s,
    )
    draft.emit(ReservationChanged(command.reservation_id))


def _check_ttl(ttl_s: float) -> None:
    if not ttl_s > 0:
        raise InvalidRequestError(f"a reservation's ttl must be above 0 seconds, not {ttl_s}")


def find(draft: Draft, reservation_id: ReservationId) -> Reservation:
    """A reservation that somebody asks for.

    Args:
        draft: Where.
        reservation_id: Which.

    Raises:
        ReservationNotFoundError: There is none.
    """
    reservation = draft.reservations.get(reservation_id)
    if reservation is None:
        raise ReservationNotFoundError(f"there is no reservation {reservation_id}")
    return reservation


def renew(draft: Draft, command: RenewReservation) -> None:
    """Lets a reservation last longer.

    Args:
        draft: Where.
        command: Which, and how long.

    Raises:
        ReservationNotFoundError: There is none.
        InvalidRequestError: It has ended.
    """
    reservation = find(draft, command.reservation_id)
    _check_ttl(command.ttl_s)
    if not reservation.is_open:
        raise InvalidRequestError(
            f"reservation {command.reservation_id} has ended ({reservation.reason}); create another"
        )
    expires_at = draft.now + command.ttl_s
    renewed = replace(reservation, ttl_s=command.ttl_s, expires_at=expires_at)
    draft.reservations[command.reservation_id] = renewed


def release(draft: Draft, command: ReleaseReservation) -> None:
    """Ends a reservation at once; its jobs go on, as those of nobody's reservation.

    Args:
        draft: Where.
        command: Which.

    Raises:
        ReservationNotFoundError: There is none.
    """
    reservation = find(draft, command.reservation_id)
    if reservation.ended_at is not None:
        return
    for place in reservation.places:
        _free(draft, reservation.reservation_id, place)
    for attempt in draft.drawing(reservation.reservation_id):
        draw(draft, attempt, -1)
        attempt = draft.attempts[attempt.attempt_id]
        draft.attempts[attempt.attempt_id] = replace(attempt, guaranteed=False, reservation="")
    _end(draft, reservation, command.reason)


def expire(draft: Draft, command: ExpireReservations) -> None:
    """Takes from those whose time is over what they do not use.

    Args:
        draft: Where.
        command: Says nothing more.
    """
    del command
    for reservation in draft.open_reservations():
        if reservation.expires_at <= draft.now:
            reason = f"its time of {reservation.ttl_s:g} s was over"
            draft.reservations[reservation.reservation_id] = replace(
                reservation, expired=True, reason=reason
            )
            draft.emit(ReservationChanged(reservation.reservation_id))
            trim(draft, reservation.reservation_id)


def trim(draft: Draft, reservation_id: str) -> None:
    """Takes from an expired reservation what its jobs do not use any more.

    Args:
        draft: Where.
        reservation_id: Which; one that is not expired keeps all.
    """
    reservation = draft.reservations.get(ReservationId(reservation_id))
    if reservation is None or not reservation.expired or reservation.ended_at is not None:
        return
    used = {each.worker_id for each in draft.drawing(reservation_id) if each.guaranteed}
    kept: list[ReservedPlace] = []
    for place in reservation.places:
        if used.isdisjoint(place.workers):
            _free(draft, reservation_id, place)
        else:
            kept.append(place)
    if len(kept) < len(reservation.places):
        reservation = replace(reservation, places=tuple(kept))
        draft.reservations[reservation.reservation_id] = reservation
    if not kept:
        _end(draft, reservation, reservation.reason)


def forget(draft: Draft, command: ForgetReservations) -> None:
    """Drops ended reservations from the records.

    Args:
        draft: Where.
        command: Which.
    """
    referred = draft.reservations_of_jobs()
    for reservation_id in command.reservation_ids:
        reservation = draft.reservations.get(reservation_id)
        if reservation is None or reservation.ended_at is None or reservation_id in referred:
            continue
        del draft.reservations[reservation_id]


def _end(draft: Draft, reservation: Reservation, reason: str) -> None:
    ended = replace(reservation, places=(), ended_at=draft.now, reason=reason)
    draft.reservations[reservation.reservation_id] = ended
    draft.emit(ReservationChanged(reservation.reservation_id))


def add_place(
    draft: Draft,
    reservation_id: ReservationId,
    workers: tuple[WorkerId, ...],
    allocations: tuple[Allocation, ...],
) -> None:
    """Gives a reservation one replica more.

    Args:
        draft: Where.
        reservation_id: Which.
        workers: The replica's hosts.
        allocations: What is kept there, in the same order.
    """
    reservation = draft.reservations[reservation_id]
    place = ReservedPlace(workers, allocations)
    _keep(draft, reservation_id, place, 1)
    places = (*reservation.places, place)
    draft.reservations[reservation_id] = replace(reservation, places=places)
    draft.emit(ReservationChanged(reservation_id))


def drop_host(draft: Draft, worker_id: WorkerId) -> None:
    """Takes from all reservations what they have on a host that is gone.

    Args:
        draft: Where.
        worker_id: The host; still known.
    """
    for owner in list(draft.workers[worker_id].reserved):
        reservation = draft.reservations[ReservationId(owner)]
        lost = [place for place in reservation.places if worker_id in place.workers]
        for place in lost:
            _free(draft, reservation.reservation_id, place)
        left = tuple(place for place in reservation.places if worker_id not in place.workers)
        draft.reservations[reservation.reservation_id] = replace(reservation, places=left)
        draft.emit(ReservationChanged(reservation.reservation_id))
        trim(draft, owner)


def _free(draft: Draft, reservation_id: str, place: ReservedPlace) -> None:
    _keep(draft, reservation_id, place, -1)


def _keep(draft: Draft, owner: str, place: ReservedPlace, sign: int) -> None:
    for worker_id, allocation in zip(place.workers, place.allocations, strict=True):
        worker = draft.workers.get(worker_id)
        if worker is not None:
            kept = with_kept(worker.reserved, owner, worker.spec.capacity, allocation, sign)
            draft.workers[worker_id] = replace(worker, reserved=kept)


def draw(draft: Draft, attempt: Attempt, sign: int) -> None:
    """Takes note that an attempt uses its reservation on its host, or does no longer.

    Args:
        draft: Where.
        attempt: Which; one that is not guaranteed changes nothing.
        sign: 1 uses it, -1 does no longer.
    """
    if not attempt.guaranteed:
        return
    worker = draft.workers[attempt.worker_id]
    capacity, owner = worker.spec.capacity, attempt.reservation
    drawn = with_kept(worker.drawn, owner, capacity, attempt.allocation, sign)
    draft.workers[attempt.worker_id] = replace(worker, drawn=drawn)


__all__ = [
    "add_place",
    "create",
    "draw",
    "drop_host",
    "expire",
    "find",
    "forget",
    "release",
    "renew",
    "trim",
]
