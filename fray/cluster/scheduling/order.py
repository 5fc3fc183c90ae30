"""The order of the queue: band, fair share, priority and age, time of submission, id.

Who is next depends on who was served before, so the queue is not sorted but asked. What waits is
kept by band, user and kind; a kind that does not fit is put aside with all that are alike, so
that a long queue of them costs nothing.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from dataclasses import dataclass, field
from operator import attrgetter
from typing import TYPE_CHECKING

from fray.cluster.priority import BAND_WIDTH
from fray.cluster.scheduling.view import (
    Unit,
    UnitKind,
)

if TYPE_CHECKING:
    from fray.cluster.scheduling.fairshare import Shares
    from fray.cluster.scheduling.policy import Policy

Urgency = tuple[float, float, int, str]


def urgency(unit: Unit, policy: Policy) -> Urgency:
    """Where a unit stands among those of its user and band; the lowest is first.

    Priority counts as time that it has waited already. So the order does not change with time.

    Args:
        unit: Which.
        policy: What a point of priority weighs.
    """
    ahead_s = unit.priority % BAND_WIDTH * policy.point_s
    return (unit.submitted_at - ahead_s, unit.submitted_at, unit.rank, unit.unit_id)


_AGE = attrgetter("submitted_at", "rank", "unit_id")
"""What of `urgency` tells units apart that have the same priority."""


@dataclass(slots=True)
class _Alike:
    """Units of one kind, in order of urgency."""

    units: list[Unit] = field(default_factory=list[Unit])
    at: int = 0

    def sort(self, policy: Policy) -> None:
        priority = self.units[0].priority
        if all(unit.priority == priority for unit in self.units):
            self.units.sort(key=_AGE)
        else:
            self.units.sort(key=lambda unit: urgency(unit, policy))


@dataclass(slots=True)
class _Lane:
    """What one user has waiting in one band: the heads of its kinds."""

    kinds: dict[UnitKind, _Alike] = field(default_factory=dict[UnitKind, _Alike])
    heads: list[tuple[Urgency, int]] = field(default_factory=list[tuple[Urgency, int]])
    alike: list[_Alike] = field(default_factory=list[_Alike])


class Queue:
    """What waits, in the order in which it is to be served.

    Args:
        units: All that wait; none is spare.
        shares: How users stand; it changes as they are served.
        policy: See `urgency`.
    """

    def __init__(self, units: Iterable[Unit], shares: Shares, policy: Policy) -> None:
        self._shares = shares
        self._policy = policy
        self._lanes: dict[int, dict[str, _Lane]] = {}
        # Units that are alike mostly share their kind, which takes long to look up.
        quick: dict[tuple[int, str, int], list[Unit]] = {}
        for unit in units:
            key = id(unit.kind), unit.user, unit.priority
            alike = quick.get(key)
            if alike is None:
                alike = quick[key] = self._alike(unit)
            alike.append(unit)
        for users in self._lanes.values():
            for lane in users.values():
                self._open(lane)
        self._bands = sorted(self._lanes, reverse=True)
        self._ready: list[tuple[float, Urgency, str]] = []
        self._enter()

    def _alike(self, unit: Unit) -> list[Unit]:
        band = unit.priority - unit.priority % BAND_WIDTH
        lane = self._lanes.setdefault(band, {}).setdefault(unit.user, _Lane())
        return lane.kinds.setdefault(unit.kind, _Alike()).units

    def _open(self, lane: _Lane) -> None:
        lane.alike = list(lane.kinds.values())
        lane.kinds.clear()
        for alike in lane.alike:
            alike.sort(self._policy)
        heads = ((alike.units[0], i) for i, alike in enumerate(lane.alike))
        lane.heads = [(urgency(unit, self._policy), i) for unit, i in heads]
        heapq.heapify(lane.heads)

    def _enter(self) -> None:
        """Goes on to the next band once the last one is served."""
        while self._bands and not self._ready:
            lanes = self._lanes[self._bands[0]]
            self._ready = [
                (self._shares.score(user), lane.heads[0][0], user)
                for user, lane in lanes.items()
                if lane.heads
            ]
            heapq.heapify(self._ready)
            if not self._ready:
                self._bands.pop(0)

    def head(self) -> Unit | None:
        """Who is next; None when nobody is left."""
        if not self._ready:
            return None
        lane = self._lane()
        _, index = lane.heads[0]
        alike = lane.alike[index]
        return alike.units[alike.at]

    def _lane(self) -> _Lane:
        return self._lanes[self._bands[0]][self._ready[0][2]]

    def served(self) -> None:
        """Takes the head off: it has a place, or waits for one of its own."""
        lane = self._lane()
        _, index = lane.heads[0]
        alike = lane.alike[index]
        alike.at += 1
        if alike.at < len(alike.units):
            urgent = urgency(alike.units[alike.at], self._policy)
            heapq.heapreplace(lane.heads, (urgent, index))
        else:
            heapq.heappop(lane.heads)
        self._again(lane)

    def put_aside(self) -> list[Unit]:
        """Takes the head off, and all of its user and band that are alike.

        Returns:
            All of them, the head first.
        """
        lane = self._lane()
        _, index = heapq.heappop(lane.heads)
        alike = lane.alike[index]
        self._again(lane)
        return alike.units[alike.at :]

    def _again(self, lane: _Lane) -> None:
        user = self._ready[0][2]
        if lane.heads:
            entry = (self._shares.score(user), lane.heads[0][0], user)
            heapq.heapreplace(self._ready, entry)
            return
        heapq.heappop(self._ready)
        self._enter()

    def rest(self) -> list[Unit]:
        """All that has not been served, in no particular order; the queue is empty then."""
        found: list[Unit] = []
        for band in self._bands:
            for lane in self._lanes[band].values():
                for _, index in lane.heads:
                    alike = lane.alike[index]
                    found += alike.units[alike.at :]
        self._bands, self._ready = [], []
        return found


__all__ = ["Queue", "Urgency", "urgency"]
