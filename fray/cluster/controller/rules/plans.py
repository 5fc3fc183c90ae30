"""Carrying out the planner's decisions, each against what is true by now."""

from dataclasses import replace

from fray.cluster.controller.attempt import Attempt
from fray.cluster.controller.commands import ApplyPlan
from fray.cluster.controller.draft import Draft
from fray.cluster.controller.events import UnitPlaced, UnitRefused
from fray.cluster.controller.rules.attempts import start
from fray.cluster.controller.rules.gangs import evict
from fray.cluster.controller.rules.reservations import add_place
from fray.cluster.controller.rules.verdicts import condemn
from fray.cluster.controller.running import running_of
from fray.cluster.controller.units import host_of, missing_replicas, unit_named
from fray.cluster.scheduling.accounts import amounts
from fray.cluster.scheduling.fairshare import over_quota
from fray.cluster.scheduling.feasible import Refusal, borrows, check
from fray.cluster.scheduling.hosts import Host
from fray.cluster.scheduling.inventory import Allocation
from fray.cluster.scheduling.occupants import without
from fray.cluster.scheduling.plan import Assignment, Preemption
from fray.cluster.scheduling.preempt import band, may_evict
from fray.cluster.scheduling.view import (
    Running,
    TaskKey,
    Unit,
    is_reservation,
)
from fray.cluster.types import JobStatus
from fray.errors import DeathCause, DeathKind
from fray.ids import ReservationId, WorkerId

Places = dict[TaskKey, WorkerId]


def apply_plan(draft: Draft, command: ApplyPlan) -> None:
    """Takes every decision that still holds, and says of the others why not.

    Args:
        draft: Where.
        command: The decisions; an earlier one may make a later one fail.
    """
    for assignment in command.assignments:
        refusal = _take(draft, assignment)
        if refusal is None:
            draft.emit(UnitPlaced(assignment.unit_id))
        else:
            draft.emit(UnitRefused(assignment.unit_id, refusal.text))
    for preemption in command.preemptions:
        _preempt(draft, preemption)
    wanted = {claim.unit_id: claim for claim in command.claims}
    for unit_id in draft.claimed():
        if unit_id not in wanted:
            del draft.claims[unit_id]
    for unit_id, claim in wanted.items():
        draft.claims[unit_id] = claim
    for attempt_id in command.overdue:
        attempt = draft.attempts.get(attempt_id)
        if attempt is not None:
            _time_out(draft, attempt)


# ---- places


def _take(draft: Draft, assignment: Assignment) -> Refusal | None:
    unit = unit_named(draft, assignment.unit_id)
    if unit is None:
        return Refusal("it no longer waits for a place")
    if unit.ready_at > draft.now:
        return Refusal(f"it must wait {unit.ready_at - draft.now:.3g} s more")
    places: Places = {}
    numbers: dict[TaskKey, int] = {}
    for job_id, index, attempt, worker_id in assignment.placements:
        places[TaskKey(job_id, index)] = worker_id
        numbers[TaskKey(job_id, index)] = attempt
    if any(numbers.get(task.key) != task.attempt for task in unit.tasks()):
        return Refusal("its tasks are not those, or not at those attempts, that were planned")
    workers = {w: draft.workers.get(w) for w in dict.fromkeys(places.values())}
    hosts = {w: host_of(worker) for w, worker in workers.items() if worker is not None}
    if is_reservation(unit):
        reservation = draft.reservations[ReservationId(unit.job_ids()[0])]
        if not missing_replicas(draft, reservation):
            return None  # a job of it has got a place, which has become the reservation's
        hosts = {w: _without_borrowers(draft, host, unit.priority) for w, host in hosts.items()}
    answer = check(unit, places, hosts)
    if isinstance(answer, Refusal):
        return answer
    over = _over_quota(draft, unit)
    if over:
        return Refusal(over)
    if is_reservation(unit):
        keys = [task.key for task in unit.tasks()]
        where = tuple(places[key] for key in keys)
        name = ReservationId(keys[0].job_id)
        add_place(draft, name, where, tuple(answer[key] for key in keys))
    else:
        _start(draft, unit, places, dict(answer), hosts)
    return None


def _over_quota(draft: Draft, unit: Unit) -> str:
    standing = draft.users.get(unit.user)
    if standing is None or not standing.quota or is_reservation(unit):
        return ""
    over = over_quota(standing.quota, amounts(standing.account.live), unit.need())
    return f"user {unit.user} {over}" if over else ""


def _without_borrowers(draft: Draft, host: Host, priority: int) -> Host:
    """A host without those who may stay only until the reservation's own jobs come."""
    gone: list[Running] = []
    for attempt in draft.attempts_on(host.worker_id):
        each = running_of(draft, [attempt])
        lower = band(each.priority) < band(priority)
        if each.evictable and lower and not attempt.guaranteed:
            gone.append(each)
    return without(host, gone) if gone else host


def _start(
    draft: Draft,
    unit: Unit,
    places: Places,
    allocations: dict[TaskKey, Allocation],
    hosts: dict[WorkerId, Host],
) -> None:
    owned = _adopted(draft, unit, places, allocations, hosts)
    for block in unit.blocks:
        for task in block.tasks:
            record, worker_id = draft.tasks[task.key], places[task.key]
            gang = draft.gangs.get(draft.jobs[record.job_id].spec.gang_of(record.index))
            if gang is not None:
                draft.gangs[gang.gang_id] = replace(gang, workers=(*gang.workers, worker_id))
            guaranteed = False
            if block.shape.reservation:
                host = host_of(draft.workers[worker_id])
                there = block.shape.reservation in host.reserved
                guaranteed = there and (owned or not borrows(host, block.shape))
            start(draft, record, worker_id, allocations[task.key], guaranteed=guaranteed)
    kind, _, name = unit.unit_id.partition(":")
    if kind == "group":
        draft.groups[name] = replace(draft.groups[name], admitted=True)


def _adopted(
    draft: Draft,
    unit: Unit,
    places: Places,
    allocations: dict[TaskKey, Allocation],
    hosts: dict[WorkerId, Host],
) -> bool:
    """Lets the place of a job become one of its reservation, where that lacks some."""
    name = unit.kind[0][0][0].reservation
    if not name or len(unit.blocks) != 1:
        return False
    shape, keys = unit.blocks[0].shape, [task.key for task in unit.tasks()]
    reservation = draft.reservations.get(ReservationId(name))
    if reservation is None or not missing_replicas(draft, reservation):
        return False
    where = [hosts[places[key]] for key in keys]
    if any(name in host.reserved or borrows(host, shape) for host in where):
        return False
    workers = tuple(places[key] for key in keys)
    add_place(draft, reservation.reservation_id, workers, tuple(allocations[key] for key in keys))
    return True


# ---- room for others


def _preempt(draft: Draft, preemption: Preemption) -> None:
    """Orders the victims to stop, if each of them still may be; a gang goes as a whole."""
    unit = unit_named(draft, preemption.unit_id)
    if unit is None:
        draft.emit(UnitRefused(preemption.unit_id, "it no longer waits for a place"))
        return
    found = (draft.attempts.get(each) for each in preemption.victims)
    victims = [attempt for attempt in found if attempt is not None]
    if len(victims) < len(preemption.victims) or not all(
        _is_victim(draft, unit, attempt, victims) for attempt in victims
    ):
        refusal = "what was to be stopped for it has ended, or may not be stopped any more"
        draft.emit(UnitRefused(preemption.unit_id, refusal))
        return
    text = f"preempted by {unit.job_ids()[0]}"
    for attempt in victims:
        cause = DeathCause(DeathKind.PREEMPTED, text, host=attempt.worker_id)
        evict(draft, draft.attempts[attempt.attempt_id], cause, _grace_s(draft), unit.unit_id)


def _grace_s(draft: Draft) -> float:
    return draft.policy.evict_grace_s


def _is_victim(draft: Draft, unit: Unit, attempt: Attempt, victims: list[Attempt]) -> bool:
    """Whether an attempt, or for a gang one of its members, may be stopped for a unit."""
    gang = draft.jobs[attempt.job_id].spec.gang_of(attempt.task_index)
    members = [attempt]
    if gang:
        members = [
            each
            for each in victims
            if draft.jobs[each.job_id].spec.gang_of(each.task_index) == gang
        ]
    running = running_of(draft, members)
    reservation = unit.blocks[0].shape.reservation
    for member in members:
        lends = reservation in draft.workers[member.worker_id].reserved
        if may_evict(unit.priority, reservation, running, member.worker_id, lends):
            return True
    return False


def _time_out(draft: Draft, attempt: Attempt) -> None:
    limit_s = draft.jobs[attempt.job_id].spec.time_limit_s
    if limit_s is None or draft.now < attempt.assigned_at + limit_s or attempt.stop is not None:
        return
    message = f"task {attempt.task_index} ran longer than its time limit of {limit_s:g} s"
    condemn(draft, attempt.job_id, JobStatus.FAILED, message)


__all__ = ["apply_plan"]
