"""Taking the planner's assignments, each against what is true by now."""

from dataclasses import replace

from fray.cluster.controller.commands import ApplyPlan
from fray.cluster.controller.draft import Draft
from fray.cluster.controller.events import UnitPlaced, UnitRefused
from fray.cluster.controller.rules.attempts import start
from fray.cluster.controller.units import host_of, unit_named
from fray.cluster.scheduling.feasible import Refusal, check
from fray.cluster.scheduling.inventory import Allocation
from fray.cluster.scheduling.plan import Assignment
from fray.cluster.scheduling.view import TaskKey, Unit
from fray.ids import WorkerId

Places = dict[TaskKey, WorkerId]


def apply_plan(draft: Draft, command: ApplyPlan) -> None:
    """Takes every assignment that still holds, and says of the others why not.

    Args:
        draft: Where.
        command: The assignments; an earlier one may make a later one fail.
    """
    for assignment in command.assignments:
        refusal = _take(draft, assignment)
        if refusal is None:
            draft.emit(UnitPlaced(assignment.unit_id))
        else:
            draft.emit(UnitRefused(assignment.unit_id, refusal.text))


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
    answer = check(unit, places, hosts)
    if isinstance(answer, Refusal):
        return answer
    _start(draft, unit, places, dict(answer))
    return None


def _start(
    draft: Draft, unit: Unit, places: Places, allocations: dict[TaskKey, Allocation]
) -> None:
    for task in unit.tasks():
        record = draft.tasks[task.key]
        gang = draft.gangs.get(draft.jobs[record.job_id].spec.gang_of(record.index))
        if gang is not None:
            draft.gangs[gang.gang_id] = replace(gang, workers=(*gang.workers, places[task.key]))
        start(draft, record, places[task.key], allocations[task.key])
    kind, _, name = unit.unit_id.partition(":")
    if kind == "group":
        draft.groups[name] = replace(draft.groups[name], admitted=True)


__all__ = ["apply_plan"]
