"""From what the scheduler tells to lines and tables for people and JSON for scripts. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from fray.cli.amounts import limits_json, needs_json, spent_json
from fray.cli.reports import DIM, GOOD, WARN, Cell, Table
from fray.cluster.scheduling.accounts import format_amount, format_spent
from fray.runtime.clock import duration
from fray.wording import counted

if TYPE_CHECKING:
    from fray.cluster.schedcontrol import ReservationReport, UserReport
    from fray.cluster.scheduling.explain import Explanation
    from fray.cluster.scheduling.plan import Plan

_STATES = {"satisfied": GOOD, "expanded": GOOD, "released": DIM}


def explanation_json(told: Explanation) -> dict[str, Any]:
    """Why a job waits, for scripts.

    Args:
        told: What the scheduler says.
    """
    return {
        "job_id": told.job_id,
        "waiting": told.waiting,
        "position": told.position,
        "queued": told.queued,
        "ahead": list(told.ahead),
        "priority": told.priority or None,
        "user": told.user or None,
        "share": told.share,
        "score": told.score,
        "weight": told.weight,
        "reasons": list(told.reasons),
        "preempts": list(told.preempts),
        "placed": list(told.placed),
        "impossible": told.impossible or None,
    }


def explanation_lines(told: Explanation) -> list[str]:
    """The same for people: where it stands, and what its reasons do not say.

    Args:
        told: What the scheduler says.
    """
    if not told.queued:
        return []
    behind = f", behind {', '.join(told.ahead)}" if told.ahead else ""
    lines = [
        f"place {told.position + 1} of {told.queued} in the queue{behind}",
        f"priority {told.priority}; user {told.user} has {told.share:.1%} of the cluster now"
        f" (weight {told.weight:g}; score {told.score:.3g}, the lowest is served first)",
    ]
    if told.preempts:
        lines.append(f"would have stopped: {', '.join(told.preempts)}")
    if told.placed:
        lines.append(f"has a place: {', '.join(dict.fromkeys(told.placed))}")
    return lines


def outcome_lines(told: Explanation) -> list[str]:
    """What would become of a job, for people.

    Args:
        told: What the scheduler says.
    """
    if told.impossible:
        return [told.impossible]
    if told.placed:
        first = f"{told.job_id} would start on {', '.join(dict.fromkeys(told.placed))}"
    elif told.preempts:
        first = f"{told.job_id} would start once {', '.join(told.preempts)} had been stopped"
    else:
        first = f"{told.job_id} would wait:"
    reasons = [] if told.placed or told.preempts else [f"  {reason}" for reason in told.reasons]
    return [first, *reasons, *(f"  {line}" for line in explanation_lines(told)[:2])]


def plan_json(made: Plan) -> dict[str, Any]:
    """A plan for scripts.

    Args:
        made: The plan.
    """
    return {
        "revision": made.revision,
        "placed": [
            {"unit": each.unit_id, "hosts": [str(p.worker_id) for p in each.placements]}
            for each in made.assignments
        ],
        "preempted": [
            {"for": each.unit_id, "attempts": list(each.victims)} for each in made.preemptions
        ],
        "waiting": [unit.unit_id for unit in made.waiting],
        "reasons": {job: [str(r) for r in reasons] for job, reasons in made.reasons.items()},
        "spare_replicas": dict(made.spares),
    }


def plan_lines(made: Plan) -> list[str]:
    """The same for people.

    Args:
        made: The plan.
    """
    lines = [
        f"{each.unit_id} goes to {', '.join(str(p.worker_id) for p in each.placements)}"
        for each in made.assignments
    ]
    for each in made.preemptions:
        lines.append(f"{each.unit_id} has {', '.join(each.jobs)} stopped")
    for job, reasons in made.reasons.items():
        lines.append(f"{job} waits: {'; '.join(str(reason) for reason in reasons)}")
    return lines or ["nothing waits"]


def reservation_json(report: ReservationReport) -> dict[str, Any]:
    """A reservation for scripts.

    Args:
        report: The reservation.
    """
    return {
        "reservation_id": report.reservation_id,
        "user": report.user,
        "namespace": report.namespace,
        "state": report.state,
        "resources": needs_json(report.minimum),
        "min_replicas": report.minimum.replicas,
        "max_replicas": report.maximum.replicas,
        "allocated": report.allocated,
        "pending": report.pending,
        "hosts": list(report.hosts),
        "jobs": list(report.jobs),
        "created_at": report.created_at,
        "expires_at": report.expires_at,
        "reason": report.reason or None,
        "waits_for": list(report.waits_for),
    }


def reservation_table(reports: Iterable[ReservationReport], now: float) -> Table:
    """Reservations for people.

    Args:
        reports: In the order of the rows.
        now: Seconds since 1970.
    """
    table = Table(("RESERVATION", "STATE", "USER", "HAS", "OF", "EACH", "JOBS", "ENDS", "REASON"))
    for report in reports:
        least, most = report.minimum.replicas, report.maximum.replicas
        over = report.state in ("expiring", "released")
        table.add(
            report.reservation_id,
            Cell(report.state, _STATES.get(report.state, WARN)),
            report.user,
            str(report.allocated),
            str(least) if least == most else f"{least}–{most}",
            f"{counted(float(report.minimum.cpu), 'cpu')}, {report.minimum.device.variant}",
            str(len(report.jobs)),
            "" if over else f"in {duration(report.expires_at - now)}",
            report.reason or "; ".join(report.waits_for),
        )
    return table


def user_json(report: UserReport) -> dict[str, Any]:
    """A user for scripts.

    Args:
        report: The user.
    """
    return {
        "user": report.user,
        "weight": report.weight,
        "share": report.share,
        "score": report.score,
        "tasks": report.tasks,
        "waiting": report.waiting,
        "live": limits_json(report.live),
        "quota": limits_json(report.quota),
        "budget": spent_json(report.budget),
        "spent": spent_json({name: report.spent.get(name, 0.0) for name in report.budget}),
        "period_s": report.period_s or None,
        "highest_band": report.highest_band.label,
    }


def user_table(reports: Iterable[UserReport]) -> Table:
    """Users for people.

    Args:
        reports: In the order of the rows.
    """
    table = Table(("USER", "WEIGHT", "SHARE", "RUNS", "WAIT", "HAS", "QUOTA", "BUDGET", "UP TO"))
    for report in reports:
        budget = ", ".join(
            format_spent(name, report.spent.get(name, 0.0), limit)
            for name, limit in report.budget.items()
        )
        table.add(
            report.user,
            f"{report.weight:g}",
            f"{report.share:.1%}",
            str(report.tasks),
            str(report.waiting),
            _amounts(report.live),
            _amounts(report.quota),
            f"{budget} per {duration(report.period_s)}" if budget else "",
            report.highest_band.label,
        )
    return table


def _amounts(amounts: Mapping[str, float]) -> str:
    return ", ".join(format_amount(name, amount) for name, amount in amounts.items() if amount)


__all__ = [
    "explanation_json",
    "explanation_lines",
    "outcome_lines",
    "plan_json",
    "plan_lines",
    "reservation_json",
    "reservation_table",
    "user_json",
    "user_table",
]
