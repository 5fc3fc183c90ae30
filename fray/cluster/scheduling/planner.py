"""`plan(view, now)`: who goes where, and why the rest waits.

Units are served in the order of the queue; each gets the first place that `feasible` accepts, or
waits without holding back those behind it. A lone task goes to the fullest host that has room
(machines with accelerators last, where it needs none), so that large holes stay whole. A unit of
several tasks is tried as one, hardest block first, and leaves no trace where it does not fit.

The cost is about hosts times distinct shapes, plus tasks: within one plan room only shrinks, so a
host that is too full for a shape is never asked again, and a shape without a host fails at once.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from fray.cluster.resources import Resources, format_milli, total
from fray.cluster.scheduling.feasible import Refusal, fit, occupy, slot_refusal
from fray.cluster.scheduling.inventory import Allocation
from fray.cluster.scheduling.plan import Assignment, Placement, Plan, Reason
from fray.cluster.scheduling.view import (
    Block,
    ClusterView,
    Domain,
    Host,
    Place,
    Shape,
    Unit,
)
from fray.ids import JobId, WorkerId

REASONS_MAX = 16
"""Candidates named per unit; the others are counted."""


def plan(view: ClusterView, now: float) -> Plan:
    """Finds places for what waits.

    Deterministic: the same view and time give the same plan, whatever the order of its parts.

    Args:
        view: The cluster as the ledger sees it.
        now: The time, in seconds since 1970.

    Returns:
        Assignments that `feasible.check` accepts one after the other, and a reason for every job
        that still waits.
    """
    room = Room(view.hosts)
    assignments: list[Assignment] = []
    waiting: list[Unit] = []
    reasons: dict[JobId, tuple[Reason, ...]] = {}
    wakes: list[float] = []
    for unit in sorted(view.units, key=lambda u: (u.submitted_at, u.rank, u.unit_id)):
        if unit.ready_at > now:
            wakes.append(unit.ready_at)
            answer = [Reason("", f"starts again in {unit.ready_at - now:.3g} s, after a failure")]
        else:
            answer = room.place(unit)
            if isinstance(answer, Assignment):
                assignments.append(answer)
                continue
            waiting.append(unit)
        for job_id in unit.job_ids():
            reasons.setdefault(job_id, tuple(answer))
    for job_id in sorted(view.held):
        reasons.setdefault(job_id, (Reason("", view.held[job_id]),))
    return Plan(
        view.revision,
        tuple(assignments),
        tuple(waiting),
        reasons,
        min(wakes) if wakes else None,
    )


@dataclass(slots=True)
class _Order:
    """The hosts that had room for a shape, best first, and from where on there may be some."""

    ids: list[WorkerId]
    start: int = 0


@dataclass(slots=True)
class _Trial:
    """What a unit would change, until it is known to fit whole."""

    unit: Unit
    hosts: dict[WorkerId, Host] = field(default_factory=dict[WorkerId, Host])
    placements: list[Placement] = field(default_factory=list[Placement])


class Room:
    """What hosts have left while places are given away, one unit after the other.

    Args:
        hosts: All hosts, as they are at the start; the mapping is not changed.
    """

    def __init__(self, hosts: Mapping[WorkerId, Host]) -> None:
        self._hosts = {worker_id: hosts[worker_id] for worker_id in sorted(hosts)}
        self._orders: dict[tuple[Shape, Place | None], _Order] = {}
        self._refused: dict[tuple[Shape, Place | None], list[Reason]] = {}
        self._slices: dict[str, list[WorkerId]] = {}
        for worker_id, host in self._hosts.items():
            if host.slice is not None:
                self._slices.setdefault(host.slice.name, []).append(worker_id)

    def place(self, unit: Unit) -> Assignment | list[Reason]:
        """Gives a unit a place, or says why there is none; then nothing has changed.

        Args:
            unit: What to place.
        """
        within = unit.within
        if unit.domain is Domain.ANYWHERE or (within is not None and within.zone is not None):
            trial = self._try(unit, within)
            return self._take(trial) if isinstance(trial, _Trial) else trial
        refused: list[Reason] = []
        for place in self._places(unit.domain, within):
            trial = self._try(unit, place)
            if isinstance(trial, _Trial):
                return self._take(trial)
            refused.append(self._shortage(unit, place) or Reason(str(place), str(trial[0])))
        return _cut(refused) or [
            Reason("", f"there are no hosts{f' in {within}' if within else ''}")
        ]

    def _take(self, trial: _Trial) -> Assignment:
        self._hosts.update(trial.hosts)
        return Assignment(trial.unit.unit_id, tuple(trial.placements))

    def _places(self, domain: Domain, within: Place | None) -> list[Place]:
        """The regions or zones that have open hosts, inside a place where one is given."""
        hosts = (h for h in self._hosts.values() if not h.closed)
        return sorted(
            dict.fromkeys(h.place(domain) for h in hosts if within is None or h.is_in(within))
        )

    def _try(self, unit: Unit, place: Place | None) -> _Trial | list[Reason]:
        trial = _Trial(unit)
        for block in sorted(unit.blocks, key=_hardness):
            if block.shape.hosts > 1:
                refused = self._put_slice(trial, block, place)
            else:
                refused = self._put_task(trial, block, place)
            if refused:
                return refused
        return trial

    def _put_task(self, trial: _Trial, block: Block, place: Place | None) -> list[Reason]:
        shape, key = block.shape, (block.shape, place)
        order = self._orders.get(key) or self._orders.setdefault(key, self._ranked(shape, place))
        slots: list[Reason] = []
        fallback: tuple[WorkerId, Allocation] | None = None
        for worker_id, answer in self._open(trial, order, shape):
            refusal = slot_refusal(self._hosts[worker_id], trial.unit)
            if refusal is not None:
                slots.append(Reason(worker_id, refusal.text))
            elif worker_id not in trial.unit.avoid:
                self._put(trial, block, [(worker_id, answer)])
                return []
            elif fallback is None:
                fallback = worker_id, answer
        if fallback is not None:
            self._put(trial, block, [fallback])
            return []
        return _cut(slots) or self._refusals(trial, key)

    def _open(
        self, trial: _Trial, order: _Order, shape: Shape
    ) -> Iterator[tuple[WorkerId, Allocation]]:
        for at in range(order.start, len(order.ids)):
            worker_id = order.ids[at]
            answer = fit(trial.hosts.get(worker_id, self._hosts[worker_id]), shape)
            if not isinstance(answer, Refusal):
                yield worker_id, answer
            elif at == order.start and worker_id not in trial.hosts:
                order.start += 1

    def _ranked(self, shape: Shape, place: Place | None) -> _Order:
        wants = shape.need.has_accelerators
        ranked: list[tuple[bool, int, int, WorkerId]] = []
        for worker_id, host in self._hosts.items():
            if (place is None or host.is_in(place)) and isinstance(fit(host, shape), Allocation):
                free = host.capacity - host.used
                accelerators = sum(free.gpus.values()) + sum(free.tpus.values())
                wasted = not wants and host.capacity.has_accelerators
                ranked.append((wasted, accelerators, free.cpu_milli, worker_id))
        return _Order([worker_id for *_, worker_id in sorted(ranked)])

    def _refusals(self, trial: _Trial, key: tuple[Shape, Place | None]) -> list[Reason]:
        if not trial.hosts and key in self._refused:
            return self._refused[key]
        shape, place = key
        found: list[Reason] = []
        for worker_id, host in self._hosts.items():
            if place is not None and not host.is_in(place):
                found.append(Reason(worker_id, f"is not in {place}"))
                continue
            answer = fit(trial.hosts.get(worker_id, host), shape)
            if isinstance(answer, Refusal):
                found.append(Reason(worker_id, answer.text))
        found = _cut(found) or [Reason("", "there are no hosts")]
        if not trial.hosts:
            self._refused[key] = found
        return found

    def _put_slice(self, trial: _Trial, block: Block, place: Place | None) -> list[Reason]:
        shape, key = block.shape, (block.shape, place)
        if not trial.hosts and key in self._refused:
            return self._refused[key]
        found: list[Reason] = []
        avoid = trial.unit.avoid
        wary = sorted(self._slices.items(), key=lambda s: any(m in avoid for m in s[1]))
        for name, members in wary:
            answers = self._slice_answers(trial, members, shape, place)
            if isinstance(answers, list):
                self._put(trial, block, answers)
                return []
            if answers.text:
                found.append(Reason(f"slice {name}", answers.text))
        found = _cut(found) or [
            Reason("", f"needs a {shape.tpu_type} slice of {shape.hosts} hosts; there is none")
        ]
        if not trial.hosts:
            self._refused[key] = found
        return found

    def _slice_answers(
        self, trial: _Trial, members: list[WorkerId], shape: Shape, place: Place | None
    ) -> list[tuple[WorkerId, Allocation]] | Refusal:
        """Every host's allocation by index, or why not (without words where it is no candidate)."""
        hosts = [trial.hosts.get(m, self._hosts[m]) for m in members]
        by_index = {h.slice.index: h for h in hosts if h.slice}
        first = hosts[0].slice
        if first is None or first.tpu_type != shape.tpu_type:
            return Refusal("")
        answers: list[tuple[WorkerId, Allocation]] = []
        for index in range(shape.hosts):
            host = by_index.get(index)
            if host is None:
                return Refusal(f"only {len(members)} of its {shape.hosts} hosts are here")
            if place is not None and not host.is_in(place):
                return Refusal(f"is not in {place}")
            answer = slot_refusal(self._hosts[host.worker_id], trial.unit) or fit(host, shape)
            if isinstance(answer, Refusal):
                return Refusal(f"{host.worker_id} {answer.text}")
            answers.append((host.worker_id, answer))
        return answers

    def _put(self, trial: _Trial, block: Block, on: list[tuple[WorkerId, Allocation]]) -> None:
        for task, (worker_id, allocation) in zip(block.tasks, on, strict=True):
            host = trial.hosts.get(worker_id, self._hosts[worker_id])
            job_id, index = task.key
            trial.hosts[worker_id] = occupy(host, job_id, block.shape, allocation)
            trial.placements.append(Placement(job_id, index, task.attempt, worker_id))

    def _shortage(self, unit: Unit, place: Place) -> Reason | None:
        """What all of a unit's tasks together lack in a place, where a sum alone tells it."""
        hosts = [h for h in self._hosts.values() if h.is_in(place) and not h.closed]
        if any(host.oversubscribe for host in hosts):
            return None
        need = total(block.shape.need for block in unit.blocks for _ in block.tasks)
        free = total(host.capacity - host.used for host in hosts)
        lack = _lack(need, free)
        return Reason(str(place), lack) if lack else None


def _lack(need: Resources, free: Resources) -> str:
    for family, chips in need.tpus.items():
        if chips > free.tpus.get(family, 0):
            return f"needs {chips} {family} chips, has {free.tpus.get(family, 0)} free"
    gpus = sum(need.gpus.values()), sum(free.gpus.values())
    if gpus[0] > gpus[1]:
        return f"needs {format_milli(gpus[0])} gpus, has {format_milli(gpus[1])} free"
    if need.cpu_milli > free.cpu_milli:
        wanted, there = format_milli(need.cpu_milli), format_milli(free.cpu_milli)
        return f"needs {wanted} cpus, has {there} free"
    return ""


def _hardness(block: Block) -> tuple[int, int, int, int, int, int]:
    """Blocks with fewer possible places first, so that easy ones do not take them."""
    need = block.shape.need
    return (
        -block.shape.hosts,
        -sum(need.tpus.values()),
        int("auto" in need.gpus),
        -sum(need.gpus.values()),
        -need.cpu_milli,
        -need.memory_bytes,
    )


def _cut(reasons: list[Reason]) -> list[Reason]:
    if len(reasons) <= REASONS_MAX:
        return reasons
    left = len(reasons) - REASONS_MAX
    return [*reasons[:REASONS_MAX], Reason("", f"and {left} other candidates")]


__all__ = ["REASONS_MAX", "Room", "plan"]
