"""What hosts have left while places are given away, one unit after the other.

Hosts that are alike are asked once (`kinds`), and per shape the kinds that have room are kept in
order of preference, so that a place is found in time that does not depend on how many hosts there
are. Within one plan room only shrinks: a unit that does not fit will not fit later, and neither
will any that is alike.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from fray.cluster.resources import Resources
from fray.cluster.scheduling.feasible import Refusal, ask, check, occupy, slot_refusal
from fray.cluster.scheduling.hosts import Domain, Host, Kept, Place
from fray.cluster.scheduling.inventory import Allocation
from fray.cluster.scheduling.kinds import HostKind, Rank, kind_of
from fray.cluster.scheduling.plan import Assignment, Placement, Reason
from fray.cluster.scheduling.reasons import cut, lack, told
from fray.cluster.scheduling.roll import Roll
from fray.cluster.scheduling.view import (
    Block,
    Shape,
    Unit,
    UnitKind,
)
from fray.ids import WorkerId
from fray.wording import counted

_Key = tuple[Shape, Place | None]


@dataclass(slots=True)
class _Slices:
    """Slices of one type, best first, and from where on there may be one with room."""

    names: list[str]
    start: int = 0


@dataclass(slots=True)
class Trial:
    """A unit on its way to a place, until it is known to fit whole.

    Attributes:
        unit: Which.
        before: The hosts that it changes, as they were.
        placements: What it has so far.
    """

    unit: Unit
    before: dict[WorkerId, Host] = field(default_factory=dict[WorkerId, Host])
    placements: list[Placement] = field(default_factory=list[Placement])


class Room:
    """What hosts have left.

    Args:
        hosts: All hosts, as they are at the start; the mapping is not changed.
    """

    def __init__(self, hosts: Mapping[WorkerId, Host]) -> None:
        self._hosts = {worker_id: hosts[worker_id] for worker_id in sorted(hosts)}
        self._roll = Roll(self._hosts.values())
        self._typed: dict[_Key, _Slices] = {}
        self._refused: dict[UnitKind, tuple[Reason, ...]] = {}
        self._locks: dict[str, list[WorkerId]] = {}
        self._slices: dict[str, list[WorkerId]] = {}
        for worker_id, host in self._hosts.items():
            if host.slice is not None:
                self._slices.setdefault(host.slice.name, []).append(worker_id)

    @property
    def hosts(self) -> Mapping[WorkerId, Host]:
        """All hosts as they are now, by id; to be read only."""
        return self._hosts

    @property
    def slices(self) -> Mapping[str, Sequence[WorkerId]]:
        """The hosts of each slice; to be read only."""
        return self._slices

    def kinds(self) -> Iterator[tuple[HostKind, Sequence[WorkerId]]]:
        """The kinds of hosts that there are, and the hosts of each, by its first host."""
        return self._roll.kinds()

    # ---- changing

    def put(self, host: Host) -> None:
        """Changes a host.

        Args:
            host: As it is from now on.
        """
        worker_id = host.worker_id
        self._roll.move(self._hosts[worker_id], host)
        self._hosts[worker_id] = host

    def lock(self, owner: str, places: Sequence[tuple[WorkerId, Kept]]) -> None:
        """Keeps room for a unit that waits; a former lock of it ends.

        Args:
            owner: The unit's id.
            places: What is kept, per host; hosts may come more than once.
        """
        self.unlock(owner)
        for worker_id, kept in places:
            host = self._hosts[worker_id]
            mine = host.locked.get(owner)
            if mine is not None:
                devices = {**mine.devices}
                for name, use in kept.devices.items():
                    have = devices.get(name, (0,) * len(use))
                    devices[name] = tuple(a + b for a, b in zip(have, use, strict=True))
                kept = Kept(mine.resources + kept.resources, devices, kept.for_s)
            self.put(replace(host, locked={**host.locked, owner: kept}))
        self._locks[owner] = [worker_id for worker_id, _ in places]

    def unlock(self, owner: str) -> None:
        """Keeps room for a unit no longer.

        Args:
            owner: The unit's id.
        """
        for worker_id in dict.fromkeys(self._locks.pop(owner, ())):
            host = self._hosts[worker_id]
            locked = {other: kept for other, kept in host.locked.items() if other != owner}
            self.put(replace(host, locked=locked))

    # ---- placing

    def place(self, unit: Unit) -> Assignment | tuple[Reason, ...]:
        """Gives a unit a place, or says why there is none; then nothing has changed.

        Args:
            unit: What to place.
        """
        known = self._refused.get(unit.kind)
        if known is not None:
            return known
        within = unit.within
        if unit.domain is Domain.ANYWHERE or (within is not None and within.zone is not None):
            trial = self._try(unit, within)
            if isinstance(trial, Trial):
                return Assignment(unit.unit_id, tuple(trial.placements))
            return self._refuse(unit, trial)
        refused: list[Reason] = []
        for place in self.places(unit.domain, within):
            trial = self._try(unit, place)
            if isinstance(trial, Trial):
                return Assignment(unit.unit_id, tuple(trial.placements))
            refused.append(self._shortage(unit, place) or Reason(str(place), str(trial[0])))
        nowhere = f"there are no hosts{f' in {within}' if within else ''}"
        return self._refuse(unit, cut(refused) or [Reason("", nowhere)])

    def place_at(self, unit: Unit, workers: Sequence[WorkerId]) -> Assignment | None:
        """Gives a unit a certain place, if it will do.

        Args:
            unit: What to place.
            workers: The hosts of its tasks, in order of the tasks.
        """
        keys = [task.key for task in unit.tasks()]
        hosts = {each: self._hosts[each] for each in workers if each in self._hosts}
        answer = check(unit, dict(zip(keys, workers, strict=True)), hosts)
        if isinstance(answer, Refusal):
            return None
        where = dict(zip(keys, workers, strict=True))
        for block in unit.blocks:
            for task in block.tasks:
                host = self._hosts[where[task.key]]
                self.put(occupy(host, task.key.job_id, block.shape, answer[task.key]))
        return self._assignment(unit, workers)

    def reserve(self, unit: Unit, workers: Sequence[WorkerId]) -> Assignment:
        """Gives a replica of a reservation its place, where others still are.

        Args:
            unit: The replica.
            workers: The hosts of its tasks, in order of the tasks.
        """
        owner = unit.unit_id
        for worker_id in dict.fromkeys(workers):
            host = self._hosts[worker_id]
            kept = Kept(unit.kind[0][0][0].need, {})
            self.put(replace(host, reserved={**host.reserved, owner: kept}))
        return self._assignment(unit, workers)

    @staticmethod
    def _assignment(unit: Unit, workers: Sequence[WorkerId]) -> Assignment:
        pairs = zip(unit.tasks(), workers, strict=True)
        return Assignment(unit.unit_id, tuple(Placement(*t.key, t.attempt, w) for t, w in pairs))

    def _refuse(self, unit: Unit, reasons: Sequence[Reason]) -> tuple[Reason, ...]:
        refused = tuple(reasons)
        if not any(host.slots is not None for host in self._specimens()):
            self._refused[unit.kind] = refused  # else it depends on whose jobs are there
        return refused

    def _specimens(self) -> Iterator[Host]:
        return (kind.host for kind, _ in self._roll.kinds())

    def places(self, domain: Domain, within: Place | None) -> list[Place]:
        """The regions or zones that have open hosts, inside a place where one is given.

        Args:
            domain: Which of the two.
            within: Where; None is anywhere.
        """
        hosts = (host for host in self._specimens() if not host.closed)
        return sorted(
            dict.fromkeys(h.place(domain) for h in hosts if within is None or h.is_in(within))
        )

    def _try(self, unit: Unit, place: Place | None) -> Trial | list[Reason]:
        trial = Trial(unit)
        blocks = unit.blocks if len(unit.blocks) == 1 else sorted(unit.blocks, key=_hardness)
        for block in blocks:
            put = self._put_slice if block.shape.hosts > 1 else self._put_task
            refused = put(trial, block, place)
            if refused:
                for host in trial.before.values():
                    self.put(host)
                return refused
        return trial

    def _put_task(self, trial: Trial, block: Block, place: Place | None) -> list[Reason]:
        shape, unit = block.shape, trial.unit
        slots: list[Reason] = []
        fallback: WorkerId | None = None
        for ids in self._roll.ranked(shape, place):
            first = trial.before.get(ids[0], self._hosts[ids[0]])
            if first.slots is not None:
                refusal, ids = self._with_slot(trial, ids)
                if refusal is not None:
                    slots.append(refusal)
                    continue
            if not unit.avoid:
                self._put(trial, block, [ids[0]])
                return []
            chosen = next((each for each in ids if each not in unit.avoid), None)
            if chosen is not None:
                self._put(trial, block, [chosen])
                return []
            fallback = fallback or ids[0]
        if fallback is not None:
            self._put(trial, block, [fallback])
            return []
        return cut(slots) or self.refusals(shape, place)

    def _with_slot(
        self, trial: Trial, ids: Sequence[WorkerId]
    ) -> tuple[Reason | None, Sequence[WorkerId]]:
        """Those of some hosts whose slots admit a unit, as they were before it."""
        open_ids: list[WorkerId] = []
        refused: Reason | None = None
        for worker_id in ids:
            before = trial.before.get(worker_id, self._hosts[worker_id])
            refusal = slot_refusal(before, trial.unit)
            if refusal is None:
                open_ids.append(worker_id)
            else:
                refused = refused or Reason(worker_id, refusal.text)
        return (None, open_ids) if open_ids else (refused, ids)

    def refusals(self, shape: Shape, place: Place | None) -> list[Reason]:
        """Why no host will do: each reason with the hosts that it is about.

        Args:
            shape: What does not fit.
            place: Where; None is anywhere.
        """
        found: dict[str, list[Sequence[WorkerId]]] = {}
        for kind, ids in self._roll.kinds():
            if place is not None and not kind.host.is_in(place):
                text = f"is not in {place}"
            else:
                answer, _ = ask(kind, shape)
                if not isinstance(answer, Refusal):
                    continue
                text = answer.text
            found.setdefault(text, []).append(ids)
        return cut([told(text, groups) for text, groups in found.items()]) or [
            Reason("", "there are no hosts")
        ]

    # ---- slices

    def _put_slice(self, trial: Trial, block: Block, place: Place | None) -> list[Reason]:
        shape = block.shape
        slices = self._slices_of(shape, place)
        at, fallback = slices.start, None
        while at < len(slices.names):
            members = self._slices[slices.names[at]]
            answer = self._members_for(trial, members, shape, place)
            if not isinstance(answer, Refusal):
                if not any(each in trial.unit.avoid for each in answer):
                    self._put(trial, block, answer)
                    return []
                fallback = fallback or answer
            elif at == slices.start and not trial.before and self._is_lasting(members):
                slices.start += 1
            at += 1
        if fallback is not None:
            self._put(trial, block, fallback)
            return []
        return self._slice_refusals(trial, shape, place)

    def _is_lasting(self, members: Sequence[WorkerId]) -> bool:
        """Whether what a slice answers does not depend on who asks."""
        return all(self._hosts[each].slots is None for each in members)

    def _slices_of(self, shape: Shape, place: Place | None) -> _Slices:
        key = (shape, place)
        slices = self._typed.get(key)
        if slices is None:
            ranked: list[tuple[Rank, str]] = []
            for name, members in self._slices.items():
                host = self._hosts[members[0]]
                if host.slice is not None and host.slice.tpu_type == shape.tpu_type:
                    ranked.append((ask(kind_of(host), shape)[1], name))
            slices = self._typed[key] = _Slices([name for _, name in sorted(ranked)])
        return slices

    def _members_for(
        self, trial: Trial, members: Sequence[WorkerId], shape: Shape, place: Place | None
    ) -> list[WorkerId] | Refusal:
        """The hosts of a slice by index, if each has room."""
        by_index: dict[int, WorkerId] = {}
        for worker_id in members:
            part = self._hosts[worker_id].slice
            if part is not None:
                by_index[part.index] = worker_id
        found: list[WorkerId] = []
        for index in range(shape.hosts):
            worker_id = by_index.get(index)
            if worker_id is None:
                return Refusal(f"only {len(members)} of its {shape.hosts} hosts are here")
            host = self._hosts[worker_id]
            if place is not None and not host.is_in(place):
                return Refusal(f"is not in {place}")
            before = trial.before.get(worker_id, host)
            answer = slot_refusal(before, trial.unit) or ask(kind_of(host), shape)[0]
            if isinstance(answer, Refusal):
                return Refusal(f"{worker_id} {answer.text}")
            found.append(worker_id)
        return found

    def _slice_refusals(self, trial: Trial, shape: Shape, place: Place | None) -> list[Reason]:
        found: list[Reason] = []
        for name in self._slices_of(shape, place).names:
            answer = self._members_for(trial, self._slices[name], shape, place)
            if isinstance(answer, Refusal):
                found.append(Reason(f"slice {name}", answer.text))
        return cut(found) or [
            Reason(
                "",
                f"needs a {shape.tpu_type} slice of {counted(shape.hosts, 'host')}; there is none",
            )
        ]

    def _put(self, trial: Trial, block: Block, on: Sequence[WorkerId]) -> None:
        for task, worker_id in zip(block.tasks, on, strict=True):
            host = self._hosts[worker_id]
            trial.before.setdefault(worker_id, host)
            answer, _ = ask(kind_of(host), block.shape)
            assert isinstance(answer, Allocation)
            job_id, index = task.key
            self.put(occupy(host, job_id, block.shape, answer))
            trial.placements.append(Placement(job_id, index, task.attempt, worker_id))

    def _shortage(self, unit: Unit, place: Place) -> Reason | None:
        """What all of a unit's tasks together lack in a place, where a sum alone tells it."""
        free = Resources()
        for kind, ids in self._roll.kinds():
            if not kind.host.is_in(place) or kind.host.closed:
                continue
            if kind.host.oversubscribe:
                return None
            free += kind.free.times(len(ids))
        missing = lack(unit.need(), free)
        return Reason(str(place), missing) if missing else None


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


__all__ = ["Room", "Trial"]
