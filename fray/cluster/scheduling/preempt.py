"""Whom to stop for whom.

A unit may have others stopped that are in a lower band, and it may take back what its reservation
lends, from whomever. It never stops what uses the minimum of a reservation, what is not evictable,
or anything at all if it would still not fit. So nobody is stopped by whom they may have stopped:
who stops another is in a higher band, or then uses its own reservation and is safe.

Among the ways to make room the one is taken that loses the least work: the share of the cluster
that a victim has, times the time since it last saved what it did. A gang is one victim.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fray.cluster.priority import BAND_WIDTH
from fray.cluster.scheduling.feasible import Refusal, fit, occupy, slot_refusal
from fray.cluster.scheduling.hosts import Domain, Host, Place
from fray.cluster.scheduling.occupants import Occupants, without
from fray.cluster.scheduling.view import (
    Block,
    Running,
    Shape,
    Unit,
)
from fray.ids import WorkerId

if TYPE_CHECKING:
    from fray.cluster.scheduling.fairshare import Shares
    from fray.cluster.scheduling.room import Room


@dataclass(frozen=True, slots=True)
class Eviction:
    """Who is to be stopped for a unit, and where it goes then.

    Attributes:
        unit_id: Whom for.
        victims: What is stopped, the cheapest first.
        workers: The hosts of its tasks, in order of the tasks.
        cost: The work that is lost, in shares of the cluster times seconds.
    """

    unit_id: str
    victims: tuple[Running, ...]
    workers: tuple[WorkerId, ...]
    cost: float


def band(priority: int) -> int:
    """The lowest priority of a band.

    Args:
        priority: Any of the band.
    """
    return priority - priority % BAND_WIDTH


def may_evict(
    priority: int, reservation: str, victim: Running, worker_id: WorkerId, lends: bool
) -> bool:
    """Whether something may have another stopped for the sake of a host.

    Args:
        priority: Of who wants the host.
        reservation: Whose resources that one uses; "" for nobody's.
        victim: What runs there.
        worker_id: The host.
        lends: Whether that reservation has something on that host.
    """
    if not victim.evictable or victim.stopping:
        return False
    if any(part.guaranteed and part.worker_id == worker_id for part in victim.parts):
        return False
    if reservation and lends and victim.reservation != reservation:
        return True
    return band(victim.priority) < band(priority) and not any(p.guaranteed for p in victim.parts)


class Evictor:
    """Finds whom to stop, for one unit after the other of a plan.

    Args:
        room: What hosts have left.
        occupants: What runs on them.
        shares: What victims weigh.
        now: In seconds since 1970.
    """

    def __init__(self, room: Room, occupants: Occupants, shares: Shares, now: float) -> None:
        self._room = room
        self._occupants = occupants
        self._shares = shares
        self._now = now
        self._costs: dict[str, float] = {}
        self._taken: dict[str, None] = {}
        self._occupied = sorted(occupants.workers())
        self._needed: dict[
            tuple[Shape, int], dict[WorkerId, tuple[Host, list[Running] | None]]
        ] = {}

    def cost(self, victim: Running) -> float:
        """The work that is lost if something is stopped.

        Args:
            victim: What.
        """
        cost = self._costs.get(victim.unit_id)
        if cost is None:
            weight = sum(self._shares.weight(part.allocation.resources) for part in victim.parts)
            cost = weight * max(self._now - victim.saved_at, 0.0)
            self._costs[victim.unit_id] = cost
        return cost

    def find(self, unit: Unit) -> Eviction | None:
        """The cheapest way to make room for a unit; None where there is none.

        Args:
            unit: What waits, and does not fit now.
        """
        places: list[Place | None] = [unit.within]
        if unit.domain is not Domain.ANYWHERE and (unit.within is None or not unit.within.zone):
            places = [*self._room.places(unit.domain, unit.within)]
        best: Eviction | None = None
        for place in places:
            found = _Search(self, unit, place).run()
            if found is not None and (best is None or found.cost < best.cost):
                best = found
        if best is not None:
            self._take(best.victims)
        return best

    def victims_on(self, host: Host, unit: Unit, block: Block) -> list[Running]:
        """What may be stopped on a host for a block, the cheapest first.

        Args:
            host: Which.
            unit: Whose block.
            block: What is to go there.
        """
        reservation = block.shape.reservation
        lends = bool(reservation) and reservation in host.reserved
        found = [
            each
            for each in self._occupants.on(host.worker_id)
            if each.unit_id not in self._taken
            and may_evict(unit.priority, reservation, each, host.worker_id, lends)
        ]
        return sorted(found, key=lambda each: (self.cost(each), each.unit_id))

    def needed(self, host: Host, unit: Unit, block: Block) -> list[Running] | None:
        """The victims that a host must lose for a task to fit; None where that is not enough.

        Of a host that is as it was, and of a task like an earlier one, it is not found out anew:
        thousands of hosts are asked for each of many units that want the same.

        Args:
            host: As it is.
            unit: Whose block.
            block: What is to go there.
        """
        key = block.shape, band(unit.priority)
        known = self._needed.setdefault(key, {})
        earlier = known.get(host.worker_id)
        if earlier is not None and earlier[0] is host:
            return earlier[1]
        found = self.fewest(host, block.shape, self.victims_on(host, unit, block))
        known[host.worker_id] = host, found
        return found

    def fewest(
        self, host: Host, shape: Shape, candidates: Sequence[Running]
    ) -> list[Running] | None:
        """Those of some victims that must go for a task to fit; None where all are not enough.

        Args:
            host: As it is.
            shape: What the task needs.
            candidates: Who may be stopped there, the cheapest first.
        """
        if not isinstance(fit(host, shape), Refusal):
            return []
        if not candidates or isinstance(fit(without(host, candidates), shape), Refusal):
            return None
        chosen: list[Running] = []
        for each in candidates:
            chosen.append(each)
            if not isinstance(fit(without(host, chosen), shape), Refusal):
                break
        for each in sorted(chosen, key=lambda v: (-self.cost(v), v.unit_id)):
            rest = [other for other in chosen if other is not each]
            if not isinstance(fit(without(host, rest), shape), Refusal):
                chosen = rest
        return chosen

    def _take(self, victims: Iterable[Running]) -> None:
        """Notes who is stopped: they cannot be stopped for somebody else."""
        for victim in victims:
            self._taken[victim.unit_id] = None
            for part in victim.parts:
                for known in self._needed.values():
                    known.pop(part.worker_id, None)

    @property
    def room(self) -> Room:
        """What hosts have left."""
        return self._room

    @property
    def occupied(self) -> Sequence[WorkerId]:
        """The hosts on which something runs, in their order."""
        return self._occupied


class _Search:
    """A unit laid out on hosts from which some victims are gone."""

    def __init__(self, evictor: Evictor, unit: Unit, place: Place | None) -> None:
        self._evictor = evictor
        self._unit = unit
        self._place = place
        self._victims: dict[str, Running] = {}
        self._changed: dict[WorkerId, Host] = {}
        self._workers: dict[tuple[str, int], WorkerId] = {}

    def run(self) -> Eviction | None:
        for block in sorted(
            self._unit.blocks, key=lambda b: (-b.shape.hosts, -b.shape.need.cpu_milli)
        ):
            put = self._slice if block.shape.hosts > 1 else self._task
            if not put(block):
                return None
        if not self._victims:
            return None
        chosen = sorted(
            self._victims.values(), key=lambda each: (self._evictor.cost(each), each.unit_id)
        )
        workers = tuple(self._workers[task.key] for task in self._unit.tasks())
        cost = sum(self._evictor.cost(each) for each in chosen)
        return Eviction(self._unit.unit_id, tuple(chosen), workers, cost)

    def _host(self, worker_id: WorkerId) -> Host:
        return self._changed.get(worker_id) or self._evictor.room.hosts[worker_id]

    def _task(self, block: Block) -> bool:
        """Puts a task where it costs least: first where it fits without another victim."""
        best: tuple[float, WorkerId, list[Running]] | None = None
        hosts: dict[WorkerId, None] = dict.fromkeys(self._changed)
        for kind, ids in self._evictor.room.kinds():
            if not isinstance(fit(kind.host, block.shape), Refusal):
                hosts.setdefault(ids[0])
        hosts.update(dict.fromkeys(self._evictor.occupied))
        for worker_id in hosts:
            found = self._needed(worker_id, block)
            if found is None:
                continue
            cost = sum(self._evictor.cost(each) for each in found)
            if best is None or (cost, worker_id) < best[:2]:
                best = cost, worker_id, found
                if not cost:
                    break
        if best is None:
            return False
        _, worker_id, victims = best
        self._take(block, [(worker_id, victims)])
        return True

    def _slice(self, block: Block) -> bool:
        best: tuple[float, str, list[tuple[WorkerId, list[Running]]]] | None = None
        for name, members in sorted(self._evictor.room.slices.items()):
            found = self._members(members, block)
            if found is None:
                continue
            distinct = {each.unit_id: each for _, victims in found for each in victims}
            cost = sum(self._evictor.cost(each) for each in distinct.values())
            if best is None or (cost, name) < best[:2]:
                best = cost, name, found
        if best is None:
            return False
        self._take(block, best[2])
        return True

    def _members(
        self, members: Sequence[WorkerId], block: Block
    ) -> list[tuple[WorkerId, list[Running]]] | None:
        hosts = [self._host(each) for each in members]
        parts = sorted((h.slice.index, h.worker_id) for h in hosts if h.slice is not None)
        first = hosts[0].slice
        if first is None or first.tpu_type != block.shape.tpu_type:
            return None
        if len(parts) != block.shape.hosts:
            return None
        found: list[tuple[WorkerId, list[Running]]] = []
        for _, worker_id in parts:
            victims = self._needed(worker_id, block)
            if victims is None:
                return None
            found.append((worker_id, victims))
        return found

    def _needed(self, worker_id: WorkerId, block: Block) -> list[Running] | None:
        """The victims that a host must lose for a task to fit; None where that is not enough."""
        host = self._host(worker_id)
        if host.closed or (self._place is not None and not host.is_in(self._place)):
            return None
        if slot_refusal(host, self._unit) is not None:
            return None
        if worker_id in self._changed:
            candidates = [
                each
                for each in self._evictor.victims_on(host, self._unit, block)
                if each.unit_id not in self._victims
            ]
            return self._evictor.fewest(host, block.shape, candidates)
        return self._evictor.needed(host, self._unit, block)  # no victim so far is there

    def _take(self, block: Block, on: list[tuple[WorkerId, list[Running]]]) -> None:
        fresh: dict[str, Running] = {}
        for _, victims in on:
            fresh.update((each.unit_id, each) for each in victims)
        fresh = {k: v for k, v in fresh.items() if k not in self._victims}
        self._victims.update(fresh)
        for victim in fresh.values():  # a gang goes as a whole, wherever it is
            for worker_id in dict.fromkeys(part.worker_id for part in victim.parts):
                if worker_id in self._evictor.room.hosts:
                    self._changed[worker_id] = without(self._host(worker_id), [victim])
        for task, (worker_id, _) in zip(block.tasks, on, strict=True):
            host = self._host(worker_id)
            answer = fit(host, block.shape)
            assert not isinstance(answer, Refusal)
            self._changed[worker_id] = occupy(host, task.key.job_id, block.shape, answer)
            self._workers[task.key] = worker_id


__all__ = ["Eviction", "Evictor", "band", "may_evict"]
