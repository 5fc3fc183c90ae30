"""`plan(view, now)`: who goes where, who makes room for whom, and why the rest waits.

Units are served in the order of the queue (`order`); each gets the best place that `feasible`
accepts, or waits without holding back those behind it. A lone task goes to the fullest host that
has room (machines with accelerators last, where it needs none), so that large holes stay whole. A
unit of several tasks is tried as one, hardest block first, and leaves no trace where it does not
fit. What does not fit may have others stopped (`preempt`), or has freed room kept (`earmark`).

The cost is about kinds of hosts times kinds of units, plus what is placed: neither all hosts nor
all of a long queue of like units are looked at one by one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from fray.cluster.resources import Resources
from fray.cluster.scheduling.earmark import find_earmark
from fray.cluster.scheduling.fairshare import Shares
from fray.cluster.scheduling.feasible import Refusal, check
from fray.cluster.scheduling.keeping import kept_for
from fray.cluster.scheduling.occupants import Occupants, without
from fray.cluster.scheduling.order import Queue
from fray.cluster.scheduling.plan import Assignment, Plan, Preemption, Reason
from fray.cluster.scheduling.preempt import Eviction, Evictor
from fray.cluster.scheduling.room import Room
from fray.cluster.scheduling.view import (
    Claim,
    ClusterView,
    Unit,
    UnitKind,
    is_reservation,
)
from fray.wording import and_others

if TYPE_CHECKING:
    from fray.cluster.scheduling.hosts import Host, Kept
    from fray.ids import AttemptId, JobId, WorkerId

LATER = Reason("", "is looked at in a moment: many tasks start just now")


def plan(view: ClusterView, now: float) -> Plan:
    """Finds places for what waits.

    Deterministic: the same view and time give the same plan, whatever the order of its parts.

    Args:
        view: The cluster as the ledger sees it.
        now: The time, in seconds since 1970.

    Returns:
        Assignments that `feasible.check` accepts one after the other, what is to be stopped, and
        a reason for every job that still waits.
    """
    return _Planning(view, now).run()


class _Planning:
    """One plan in the making."""

    def __init__(self, view: ClusterView, now: float) -> None:
        self._view = view
        self._now = now
        self._policy = view.policy
        self._room = Room(view.hosts)
        self._shares = Shares(view.users, capacity_of(self._room), now, view.policy)
        self._occupants_made: Occupants | None = None
        self._evictor_made: Evictor | None = None
        self._assignments: list[Assignment] = []
        self._placed = 0
        self._waiting: list[Unit] = []
        self._reasons: dict[JobId, tuple[Reason, ...]] = {}
        self._wakes: list[float] = []
        self._preemptions: list[Preemption] = []
        self._claims: list[Claim] = []
        self._earmarks = 0
        self._hopeless: set[tuple[UnitKind, int]] = set()
        self._lowest = min((each.priority for each in view.running), default=None)
        self._overdue: list[AttemptId] = []
        self._watch_limits()

    def run(self) -> Plan:
        now = self._now
        ready = [u for u in self._view.units if u.ready_at <= now or not self._is_early(u)]
        settled = self._settle_claims(ready)
        if settled:
            ready = [unit for unit in ready if unit.unit_id not in settled]
        queue = Queue(ready, self._shares, self._policy)
        while (unit := queue.head()) is not None:
            if self._placed >= self._policy.placements_max:
                self._wakes.append(self._now)
                self._wait(queue.rest(), (LATER,))
            elif self._serve(unit):
                queue.served()
            else:
                self._wait(queue.put_aside(), self._reasons[unit.job_ids()[0]])
        for job_id in sorted(self._view.held):
            self._reasons.setdefault(job_id, (Reason("", self._view.held[job_id]),))
        return Plan(
            self._view.revision,
            tuple(self._assignments),
            tuple(self._waiting),
            self._reasons,
            min(self._wakes) if self._wakes else None,
            tuple(self._preemptions),
            tuple(sorted(self._claims, key=lambda claim: claim.unit_id)),
            self._spares(),
            tuple(sorted(self._overdue)),
        )

    def _watch_limits(self) -> None:
        for each in self._view.running:
            if each.ends_at is None or each.stopping:
                continue
            if each.ends_at <= self._now:
                self._overdue += [part.attempt_id for part in each.parts]
            else:
                self._wakes.append(each.ends_at)

    # ---- the queue

    def _is_early(self, unit: Unit) -> bool:
        if unit.ready_at <= self._now:
            return False
        self._wakes.append(unit.ready_at)
        left_s = unit.ready_at - self._now
        self._tell(unit, (Reason("", f"starts again in {left_s:.3g} s, after a failure"),))
        return True

    def _tell(self, unit: Unit, reasons: tuple[Reason, ...]) -> None:
        for job_id in unit.job_ids():
            self._reasons.setdefault(job_id, reasons)

    def _wait(self, units: Sequence[Unit], reasons: tuple[Reason, ...]) -> None:
        """Units that wait for one and the same reason."""
        self._waiting += units
        told, last = self._reasons, ""
        for unit in units:
            if len(unit.blocks) == 1:
                job_id = unit.blocks[0].tasks[0].key.job_id
                if job_id is not last:  # those of one job mostly follow each other
                    told.setdefault(job_id, reasons)
                    last = job_id
            else:
                self._tell(unit, reasons)

    def _serve(self, unit: Unit) -> bool:
        """Gives a unit a place, now or soon; False where neither it nor one alike gets any."""
        need = unit.need()
        objection = self._shares.objection(unit.user, need)
        if objection:
            self._wakes += self._shares.renewed_at([unit.user])
            self._tell(unit, (Reason("", objection),))
            return False
        answer = self._room.place(unit)
        if isinstance(answer, Assignment):
            self._take(unit, answer, need)
            return True
        if self._make_room(unit, need):
            return True
        self._earmark(unit, answer)
        self._tell(unit, answer)
        return False

    def _take(self, unit: Unit, assignment: Assignment, need: Resources) -> None:
        self._assignments.append(assignment)
        self._placed += len(assignment.placements)
        self._shares.charge(unit.user, need, len(assignment.placements))

    # ---- room that others leave

    @property
    def _occupants(self) -> Occupants:
        if self._occupants_made is None:
            self._occupants_made = Occupants(self._view.running, self._now)
        return self._occupants_made

    @property
    def _evictor(self) -> Evictor:
        if self._evictor_made is None:
            self._evictor_made = Evictor(self._room, self._occupants, self._shares, self._now)
        return self._evictor_made

    def _make_room(self, unit: Unit, need: Resources) -> bool:
        """Has others stopped for a unit, if it may and that is enough."""
        wanted = unit.kind, unit.priority
        if not self._may_evict(unit) or wanted in self._hopeless:
            return False
        if len(self._preemptions) >= self._policy.preemptions_max:
            self._wakes.append(self._now)
            return False
        eviction = self._evictor.find(unit)
        if eviction is None:
            self._hopeless.add(wanted)
            return False
        if is_reservation(unit):  # they may stay until somebody comes whose place it is
            self._take(unit, self._room.reserve(unit, eviction.workers), need)
            return True
        jobs = tuple(dict.fromkeys(victim.job_id for victim in eviction.victims))
        parts = [part for victim in eviction.victims for part in victim.parts]
        victims = tuple(part.attempt_id for part in parts)
        self._preemptions.append(Preemption(unit.unit_id, victims, jobs))
        self._claim(unit, eviction)
        self._shares.charge(unit.user, need, len(unit.tasks()))
        named = and_others(", ".join(jobs[:3]), max(len(jobs) - 3, 0))
        stop = "stops" if len(jobs) == 1 else "stop"
        self._tell(unit, (Reason("", f"{named} {stop}, to make room for it"),))
        self._waiting.append(unit)
        return True

    def _may_evict(self, unit: Unit) -> bool:
        if not self._policy.preempt or self._lowest is None:
            return False
        reclaims = any(shape.reservation for shape, _ in unit.kind[0])
        return reclaims or self._lowest // 100 < unit.priority // 100

    def _claim(self, unit: Unit, eviction: Eviction) -> None:
        tasks = tuple(unit.tasks())
        self._claims.append(Claim(unit.unit_id, tasks, eviction.workers))
        places = self._places(unit, eviction.workers, gone=eviction)
        if places is not None:
            self._room.lock(unit.unit_id, places)

    def _places(
        self, unit: Unit, workers: Sequence[WorkerId], gone: Eviction | None = None
    ) -> list[tuple[WorkerId, Kept]] | None:
        """What a unit takes where it is to go, once others have left; None where it cannot be."""
        hosts: dict[WorkerId, Host] = {}
        for worker_id in dict.fromkeys(workers):
            host = self._room.hosts.get(worker_id)
            if host is None:
                return None
            stopping = [
                each
                for each in self._occupants.on(worker_id)
                if each.stopping or (gone is not None and each in gone.victims)
            ]
            hosts[worker_id] = without(host, stopping)
        answer = check(unit, dict(zip((t.key for t in unit.tasks()), workers, strict=True)), hosts)
        if isinstance(answer, Refusal):
            return None
        return [
            (worker_id, kept_for(hosts[worker_id].capacity, answer[task.key]))
            for task, worker_id in zip(unit.tasks(), workers, strict=True)
        ]

    def _settle_claims(self, ready: Sequence[Unit]) -> dict[str, None]:
        """Lets those take their place for whom it was freed, and keeps it for them until then."""
        settled: dict[str, None] = {}
        if not self._view.claims:
            return settled
        units = {unit.unit_id: unit for unit in ready}
        for claim in sorted(self._view.claims, key=lambda each: each.unit_id):
            unit = units.get(claim.unit_id)
            if unit is None or tuple(unit.tasks()) != claim.tasks:
                continue
            if self._shares.objection(unit.user, unit.need()):
                continue
            if self._move_in(unit, claim):
                settled[unit.unit_id] = None
                continue
            places = self._places(unit, claim.workers)
            if places is None or not self._still_leaving(claim.workers):
                continue
            self._room.lock(unit.unit_id, places)
            self._claims.append(claim)
            self._waiting.append(unit)
            self._tell(unit, (Reason("", "waits for those to end who make room for it"),))
            self._shares.charge(unit.user, unit.need(), len(unit.tasks()))
            settled[unit.unit_id] = None
        return settled

    def _still_leaving(self, workers: Iterable[WorkerId]) -> bool:
        return any(each.stopping for worker in workers for each in self._occupants.on(worker))

    def _move_in(self, unit: Unit, claim: Claim) -> bool:
        assignment = self._room.place_at(unit, claim.workers)
        if assignment is None:
            return False
        self._take(unit, assignment, unit.need())
        return True

    def _earmark(self, unit: Unit, reasons: Sequence[Reason]) -> None:
        """Keeps freed room for a unit that has waited long, or says when that is due."""
        due = max(unit.submitted_at, unit.ready_at) + self._policy.hold_s
        if due > self._now:
            if self._view.running:
                self._wakes.append(due)
            return
        if self._earmarks >= self._policy.earmarks_max:
            return
        found = find_earmark(unit, self._room, self._occupants)
        if found is None:
            return
        self._earmarks += 1
        self._room.lock(unit.unit_id, found.places)
        hosts = list(dict.fromkeys(worker_id for worker_id, _ in found.places))
        named = and_others(", ".join(hosts[:2]), max(len(hosts) - 2, 0))
        when = f", in {found.ready_in_s:.0f} s at the latest" if found.ready_in_s else ""
        self._tell(
            unit, (Reason("", f"room on {named} is kept for it as it is freed{when}"), *reasons)
        )

    # ---- reservations beyond their minimum

    def _spares(self) -> dict[str, int]:
        found: dict[str, int] = {}
        spares = self._view.spares
        order = sorted(spares, key=lambda r: (-spares[r].unit.priority, spares[r].unit.rank, r))
        left = self._policy.placements_max
        for reservation in order:
            unit, count = spares[reservation]
            got = 0
            while got < count and left > 0:
                left -= 1
                if not isinstance(self._room.place(unit), Assignment):
                    break
                got += 1
            found[reservation] = got
        return found


def capacity_of(room: Room) -> Resources:
    """What all hosts have together that are not on their way out.

    Args:
        room: With the hosts.
    """
    found = Resources()
    for kind, ids in room.kinds():
        if not kind.host.leaving:
            found += kind.host.capacity.times(len(ids))
    return found


__all__ = ["LATER", "capacity_of", "plan"]
