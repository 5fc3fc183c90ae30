"""Freed room is kept for who has waited long, so that many small jobs cannot starve a large one.

An earmark is found anew in each plan and kept nowhere: the place that needs the least to be freed
for the unit. Nothing else is put there, except what fits beside it or has ended by then. So what
there is to be freed only becomes less, and nothing can be left behind.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from fray.cluster.scheduling.feasible import Refusal, fit
from fray.cluster.scheduling.hosts import Domain, Host, Kept, Place
from fray.cluster.scheduling.inventory import Allocation, charge
from fray.cluster.scheduling.keeping import kept_for
from fray.cluster.scheduling.occupants import Occupants, emptied
from fray.ids import WorkerId

if TYPE_CHECKING:
    from fray.cluster.scheduling.room import Room
    from fray.cluster.scheduling.view import (
        Shape,
        Unit,
    )

Deficit = float
"""How much is to be freed, in hosts: shares of what they have."""


@dataclass(frozen=True, slots=True)
class Earmark:
    """A place that becomes free for a unit.

    Attributes:
        places: What is kept, per host.
        deficit: How much of it is still taken.
        ready_in_s: When it is free at the latest, in seconds; 0 where nobody knows.
    """

    places: tuple[tuple[WorkerId, Kept], ...]
    deficit: Deficit
    ready_in_s: float


class _Draft:
    """Hosts as if nothing ran on them, on which one unit is laid out."""

    def __init__(self, room: Room, place: Place | None) -> None:
        self._room = room
        self._place = place
        self._empty: dict[WorkerId, Host] = {}
        self.places: list[tuple[WorkerId, Allocation]] = []
        self.deficit: Deficit = 0.0

    def host(self, worker_id: WorkerId) -> Host:
        found = self._empty.get(worker_id)
        return found if found is not None else emptied(self._room.hosts[worker_id])

    def lay_out(self, unit: Unit) -> bool:
        shapes = sorted(unit.kind[0], key=lambda pair: (-pair[0].hosts, -pair[0].need.cpu_milli))
        return all(
            self._slices(shape, count) if shape.hosts > 1 else self._tasks(shape, count)
            for shape, count in shapes
        )

    def _tasks(self, shape: Shape, count: int) -> bool:
        for deficit, worker_ids in self._candidates(shape):
            for worker_id in worker_ids:
                fresh = True
                while count and self._take(worker_id, shape):
                    self.deficit += deficit if fresh else 0.0
                    fresh = False
                    count -= 1
                if not count:
                    return True
        return not count

    def _candidates(self, shape: Shape) -> Iterator[tuple[Deficit, Sequence[WorkerId]]]:
        """Hosts that would do if they were empty; those with the least to be freed first."""
        found: list[tuple[Deficit, WorkerId, Sequence[WorkerId]]] = []
        for kind, ids in self._room.kinds():
            host = kind.host
            if self._place is not None and not host.is_in(self._place):
                continue
            if isinstance(fit(emptied(host), shape), Allocation):
                found.append((_shortfall(host, shape), ids[0], ids))
        for deficit, _, ids in sorted(found, key=lambda each: each[:2]):
            yield deficit, ids

    def _slices(self, shape: Shape, count: int) -> bool:
        found: list[tuple[Deficit, str, list[WorkerId]]] = []
        for name, members in self._room.slices.items():
            hosts = [self._room.hosts[each] for each in members]
            parts = sorted((h.slice.index, h.worker_id) for h in hosts if h.slice is not None)
            if len(parts) != shape.hosts:
                continue
            if self._place is not None and not all(h.is_in(self._place) for h in hosts):
                continue
            if all(isinstance(fit(emptied(h), shape), Allocation) for h in hosts):
                deficit = sum(_shortfall(h, shape) for h in hosts)
                found.append((deficit, name, [worker_id for _, worker_id in parts]))
        for deficit, _, members in sorted(found):
            if count and all(
                isinstance(fit(self.host(each), shape), Allocation) for each in members
            ):
                for each in members:
                    self._take(each, shape)
                self.deficit += deficit
                count -= 1
        return not count

    def _take(self, worker_id: WorkerId, shape: Shape) -> bool:
        host = self.host(worker_id)
        answer = fit(host, shape)
        if isinstance(answer, Refusal):
            return False
        self.places.append((worker_id, answer))
        self._empty[worker_id] = replace(
            host,
            used=host.used + answer.resources,
            devices=charge(host.devices, host.capacity, answer, 1),
        )
        return True


def _shortfall(host: Host, shape: Shape) -> Deficit:
    """How much of a host is in a shape's way, from 0 to 1."""
    if isinstance(fit(host, shape), Allocation):
        return 0.0
    need, has, used = shape.need, host.capacity, host.used
    shares = [
        (need.cpu_milli + used.cpu_milli - has.cpu_milli) / max(has.cpu_milli, 1),
        (need.memory_bytes + used.memory_bytes - has.memory_bytes) / max(has.memory_bytes, 1),
    ]
    for name, chips in need.tpus.items():
        there = has.tpus.get(name, 0)
        shares.append((chips + used.tpus.get(name, 0) - there) / max(there, 1))
    gpus, there = sum(need.gpus.values()), sum(has.gpus.values())
    shares.append((gpus + sum(used.gpus.values()) - there) / max(there, 1))
    return max(1e-3, *shares)


def find_earmark(unit: Unit, room: Room, occupants: Occupants) -> Earmark | None:
    """The place that will soonest be free for a unit; None where even an empty cluster has none.

    Args:
        unit: What waits, and does not fit now.
        room: What hosts have left; what is kept for others stays kept.
        occupants: What runs on them.
    """
    places: list[Place | None] = [unit.within]
    if unit.domain is not Domain.ANYWHERE and (unit.within is None or unit.within.zone is None):
        places = [*room.places(unit.domain, unit.within)]
    best: _Draft | None = None
    for place in places:
        draft = _Draft(room, place)
        if draft.lay_out(unit) and (best is None or draft.deficit < best.deficit):
            best = draft
    if best is None:
        return None
    ready_in_s = occupants.gone_in_s(dict.fromkeys(worker_id for worker_id, _ in best.places))
    kept = (
        (worker_id, kept_for(room.hosts[worker_id].capacity, allocation, ready_in_s))
        for worker_id, allocation in best.places
    )
    return Earmark(tuple(kept), best.deficit, ready_in_s)


__all__ = ["Deficit", "Earmark", "find_earmark"]
