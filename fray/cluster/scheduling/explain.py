"""Why a job waits, told whole: its place in the queue, its user's standing, what is in its way."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from fray.cluster.priority import describe_priority
from fray.cluster.scheduling.admission import check_feasible
from fray.cluster.scheduling.fairshare import UNKNOWN, Shares
from fray.cluster.scheduling.order import Queue
from fray.cluster.scheduling.planner import capacity_of, plan
from fray.cluster.scheduling.room import Room
from fray.cluster.scheduling.view import ClusterView, Unit
from fray.errors import InfeasibleError
from fray.ids import JobId

if TYPE_CHECKING:
    from fray.cluster.scheduling.plan import Plan

AHEAD_MAX = 5
"""Jobs ahead in the queue that are named."""

UNBOUNDED = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a job waits.

    Attributes:
        job_id: Which job.
        waiting: Whether it has tasks that wait for a place.
        position: How many units are served before its first one; 0 is the head of the queue.
        queued: How many units wait in all.
        ahead: The jobs just before it, the nearest last.
        priority: For people.
        user: Whose it is.
        share: The user's dominant share of the cluster now, from 0 to 1.
        score: What the queue goes by: the share now and lately, by weight; the lowest is first.
        weight: The user's.
        reasons: What is short, per kind of host; or what it waits for.
        preempts: The jobs that would be stopped for it now.
        placed: Where it would go now, if it would: hosts, in order of its tasks.
        impossible: Of a job that is only supposed: why it can never run here; "" where it can.
    """

    job_id: JobId
    waiting: bool
    position: int = 0
    queued: int = 0
    ahead: tuple[str, ...] = ()
    priority: str = ""
    user: str = ""
    share: float = 0.0
    score: float = 0.0
    weight: float = 1.0
    reasons: tuple[str, ...] = ()
    preempts: tuple[str, ...] = ()
    placed: tuple[str, ...] = ()
    impossible: str = ""


def as_told_to(told: Explanation, user: str) -> Explanation:
    """An explanation without the jobs of others: how many there are is in the numbers.

    Args:
        told: What an administrator would hear.
        user: Who hears it.
    """

    def own(job_ids: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(job_id for job_id in job_ids if job_id.startswith(f"{user}/"))

    return replace(told, ahead=own(told.ahead), preempts=own(told.preempts))


def explain(view: ClusterView, now: float, job_id: JobId) -> Explanation:
    """Why a job waits.

    Args:
        view: The cluster as the ledger sees it.
        now: The time, in seconds since 1970.
        job_id: Which job; of one that does not wait little is told.
    """
    units = [unit for unit in view.units if job_id in unit.job_ids()]
    made = _plan_all(view, now)
    reasons = tuple(str(reason) for reason in made.reasons.get(job_id, ()))
    if not units:
        return Explanation(job_id, waiting=bool(reasons), reasons=reasons)
    shares = Shares(view.users, capacity_of(Room(view.hosts)), now, view.policy)
    user = units[0].user
    before = _before(view, now, shares, {unit.unit_id for unit in units})
    names = dict.fromkeys(str(unit.job_ids()[0]) for unit in before)
    mine = {unit.unit_id for unit in units}
    return Explanation(
        job_id=job_id,
        waiting=True,
        position=len(before),
        queued=len(view.units),
        ahead=tuple(names)[-AHEAD_MAX:],
        priority=describe_priority(units[0].priority),
        user=user,
        share=shares.share_of(user),
        score=shares.score(user),
        weight=view.users.get(user, UNKNOWN).weight,
        reasons=reasons,
        preempts=_preempted(made, mine),
        placed=_placed(made, mine),
    )


def _plan_all(view: ClusterView, now: float) -> Plan:
    return plan(replace(view, policy=replace(view.policy, placements_max=UNBOUNDED)), now)


def _before(view: ClusterView, now: float, shares: Shares, mine: set[str]) -> list[Unit]:
    """What is served before a job: the queue as it stands, before anybody is."""
    ready = (unit for unit in view.units if unit.ready_at <= now)
    queue, found = Queue(ready, shares, view.policy), list[Unit]()
    while (unit := queue.head()) is not None and unit.unit_id not in mine:
        found.append(unit)
        queue.served()
    return found


def _preempted(made: Plan, mine: set[str]) -> tuple[str, ...]:
    jobs = (job for each in made.preemptions if each.unit_id in mine for job in each.jobs)
    return tuple(dict.fromkeys(str(job) for job in jobs))


def _placed(made: Plan, mine: set[str]) -> tuple[str, ...]:
    taken = (each for each in made.assignments if each.unit_id in mine)
    return tuple(str(p.worker_id) for each in taken for p in each.placements)


def what_if(view: ClusterView, now: float, units: Iterable[Unit]) -> list[Explanation]:
    """What would become of jobs if they were submitted now.

    Args:
        view: The cluster as the ledger sees it.
        now: The time, in seconds since 1970.
        units: What the jobs would consist of.
    """
    more = tuple(units)
    changed = replace(view, units=(*view.units, *more))
    jobs = dict.fromkeys(job_id for unit in more for job_id in unit.job_ids())
    told = [explain(changed, now, job_id) for job_id in jobs]
    return [replace(each, impossible=_objection(view, more, each.job_id)) for each in told]


def _objection(view: ClusterView, units: Iterable[Unit], job_id: JobId) -> str:
    """Why a submission of a job would be refused; "" where it would not."""
    try:
        check_feasible([unit for unit in units if job_id in unit.job_ids()], view.hosts)
    except InfeasibleError as exc:
        return str(exc)
    return ""


__all__ = ["AHEAD_MAX", "Explanation", "as_told_to", "explain", "what_if"]
