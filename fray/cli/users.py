"""``fray user``: list, weight, quota, budget, priority."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Annotated

import typer

from fray.cli.options import Cluster, ClusterName, Json, require_place
from fray.cluster.priority import Band
from fray.cluster.scheduling.accounts import Budget

if TYPE_CHECKING:
    from fray.cluster.client import AsyncFrayCluster
    from fray.cluster.schedcontrol import UserReport

HOUR_S = 3_600.0
DAY_S = 86_400.0

BUDGET_DAYS = 7
"""How long a budget's period is, where nothing else was said."""


@dataclass(frozen=True, slots=True)
class Change:
    """What is to be set of a user; None for nothing.

    Attributes:
        weight: See `UsersApi.set`.
        quota: Likewise, all of it.
        budget: Likewise.
        highest_band: Likewise.
    """

    weight: float | None = None
    quota: dict[str, float] | None = None
    budget: Budget | None = None
    highest_band: Band | None = None


app = typer.Typer(help="See who uses how much, and set what they may use.")

User = Annotated[str, typer.Argument(metavar="USER", help="The user's name.")]
Amounts = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[NAME=AMOUNT]...",
        help="As in cpus=64 chips=32 memory=256g H100=8; cpus=none lifts that limit, none all.",
        show_default=False,
    ),
]


NO_LIMIT = "none"


def changed_limits(current: Mapping[str, float], given: Sequence[str]) -> dict[str, float]:
    """Limits as they are after ``cpus=64 memory=256g chips=none``: what is not named stays.

    Args:
        current: As they were, by name.
        given: What somebody wrote; ``none`` alone lifts all of them.

    Raises:
        UsageFailure: One cannot be read.
    """
    from fray.cli.errors import UsageFailure
    from fray.cluster.resources import parse_bytes
    from fray.errors import InvalidRequestError

    if list(given) == [NO_LIMIT]:
        return {}
    limits = dict(current)
    for each in given:
        name, _, text = each.partition("=")
        if name and text == NO_LIMIT:
            limits.pop(name, None)
            continue
        try:
            amount = float(parse_bytes(text)) if name == "memory" else float(text)
        except (InvalidRequestError, ValueError):
            amount = -1.0
        if not name or not 0 <= amount < inf:
            raise UsageFailure(
                f"{each!r} is no amount; write it like cpus=64, memory=256g or chips=none"
            )
        limits[name] = amount
    return limits


def parse_band(text: str) -> Band:
    """Reads the name of a band.

    Args:
        text: What somebody wrote.

    Raises:
        UsageFailure: It is none.
    """
    from fray.cli.errors import UsageFailure

    band = Band.__members__.get(text.upper())
    if band is None:
        names = ", ".join(each.label for each in Band)
        raise UsageFailure(f"{text!r} is no band of priorities; there are {names}")
    return band


@app.command("list")
def show_all(
    cluster: Cluster = None, cluster_name: ClusterName = None, as_json: Json = False
) -> None:
    """List users: what they have, and what they may have."""
    from fray.cli.connecting import connection, run_async
    from fray.cli.output import print_json, print_line, print_table
    from fray.cli.schedreports import user_json, user_table

    place = require_place(cluster, cluster_name)

    async def show() -> None:
        async with connection(place) as connected:
            reports = await connected.users.list()
        if as_json:
            print_json([user_json(report) for report in reports])
        elif reports:
            print_table(user_table(reports))
        else:
            print_line("nobody has run anything yet")

    run_async(show)


def _set(
    cluster: str | None,
    cluster_name: str | None,
    as_json: bool,
    user: str,
    change: Callable[[UserReport | None], Change | None],
) -> None:
    """Changes what is set of a user, and shows them.

    Args:
        cluster: See `require_place`.
        cluster_name: Likewise.
        as_json: Whether for scripts.
        user: Who.
        change: Gives what is to be set, from what is; None for nothing.
    """
    from fray.cli.connecting import connection, run_async
    from fray.cli.errors import Failure
    from fray.cli.output import print_json, print_table
    from fray.cli.schedreports import user_json, user_table

    place = require_place(cluster, cluster_name)

    async def make() -> None:
        async with connection(place) as connected:
            report = await _report_of(connected, user)
            wanted = change(report)
            if wanted is not None:
                await connected.users.set(
                    user, wanted.weight, wanted.quota, wanted.budget, wanted.highest_band
                )
                report = await _report_of(connected, user)
        if report is None:
            raise Failure(f"nothing is known of user {user!r}: they have run nothing yet")
        if as_json:
            print_json(user_json(report))
        else:
            print_table(user_table([report]))

    run_async(make)


async def _report_of(cluster: AsyncFrayCluster, user: str) -> UserReport | None:
    return next((each for each in await cluster.users.list() if each.user == user), None)


@app.command("weight")
def weight(
    user: User,
    weight: Annotated[float, typer.Argument(help="Twice the weight is twice the share.")],
    cluster: Cluster = None,
    cluster_name: ClusterName = None,
    as_json: Json = False,
) -> None:
    """Set how much a user counts."""
    from fray.cli.errors import UsageFailure

    if not 0 < weight < inf:
        raise UsageFailure(f"a weight is a number above 0, not {weight:g}")
    _set(cluster, cluster_name, as_json, user, lambda _: Change(weight=weight))


@app.command("quota")
def quota(
    user: User,
    amounts: Amounts = None,
    cluster: Cluster = None,
    cluster_name: ClusterName = None,
    as_json: Json = False,
) -> None:
    """Set what a user may have at once; without amounts, show it."""
    changed_limits({}, amounts or ())  # what cannot be read is told before anybody is asked

    def change(report: UserReport | None) -> Change | None:
        current: Mapping[str, float] = {} if report is None else report.quota
        return Change(quota=changed_limits(current, amounts)) if amounts else None

    _set(cluster, cluster_name, as_json, user, change)


@app.command("budget")
def budget(
    user: User,
    amounts: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME=HOURS]...",
            help="Resource-hours, as in cpus=1000 chips=200; cpus=none lifts that limit, none all.",
            show_default=False,
        ),
    ] = None,
    days: Annotated[
        float | None,
        typer.Option(
            help="How long a period is.", min=0.001, show_default=f"{BUDGET_DAYS}, or as it was"
        ),
    ] = None,
    cluster: Cluster = None,
    cluster_name: ClusterName = None,
    as_json: Json = False,
) -> None:
    """Set what a user may use in a period, which begins anew; without amounts, show it."""
    from fray.cli.errors import UsageFailure

    if days is not None and not days < inf:
        raise UsageFailure(f"--days is a number above 0, not {days:g}")
    changed_limits({}, amounts or ())  # what cannot be read is told before anybody is asked

    def change(report: UserReport | None) -> Change | None:
        if not amounts and days is None:
            return None
        period_s = (report.period_s if report else 0.0) or BUDGET_DAYS * DAY_S
        if days is not None:
            period_s = days * DAY_S
        current: Mapping[str, float] = {} if report is None else report.budget
        hours = {name: limit_s / HOUR_S for name, limit_s in current.items()}
        wanted = changed_limits(hours, amounts or ())
        limits = {name: amount * HOUR_S for name, amount in wanted.items()}
        return Change(budget=Budget(limits, period_s))

    _set(cluster, cluster_name, as_json, user, change)


@app.command("priority")
def priority(
    user: User,
    highest: Annotated[
        Band,
        typer.Argument(metavar="BAND", help="batch, normal, high or critical.", parser=parse_band),
    ],
    cluster: Cluster = None,
    cluster_name: ClusterName = None,
    as_json: Json = False,
) -> None:
    """Set the highest band of priorities that a user's jobs may ask for: high by default."""
    _set(cluster, cluster_name, as_json, user, lambda _: Change(highest_band=highest))


__all__ = ["app", "changed_limits", "parse_band"]
