"""``fray reservation``: create, list, renew, release."""

from __future__ import annotations

from typing import Annotated

import typer

from fray.cli.durations import parse_duration
from fray.cli.options import Cluster, ClusterName, Json, require_place
from fray.cli.runoptions import Cpus, Gpus, Memory, Tpu  # noqa: TC001 - typer reads them

app = typer.Typer(help="Keep resources for jobs to come.")

Reservation = Annotated[str, typer.Argument(metavar="RESERVATION", help="Its id.")]
Ttl = Annotated[
    float,
    typer.Option(
        metavar="DURATION",
        help="How long it lasts, as in 90 (seconds), 10m or 12h.",
        parser=parse_duration,
        show_default="1h",
    ),
]


@app.command("create")
def create(
    least: Annotated[int, typer.Option("--min", help="Replicas (slices) to keep.", min=1)] = 1,
    most: Annotated[
        int | None,
        typer.Option("--max", help="Replicas that it may become.", min=1, show_default="as --min"),
    ] = None,
    cpus: Cpus = 1,
    memory: Memory = None,
    gpus: Gpus = None,
    tpu: Tpu = None,
    priority: Annotated[int, typer.Option(help="Higher ones are filled first.", min=0)] = 0,
    ttl: Ttl = 3600,
    namespace: Annotated[
        str | None,
        typer.Option(help="Whose jobs use it by themselves. Default: a fresh one."),
    ] = None,
    cluster: Cluster = None,
    cluster_name: ClusterName = None,
    as_json: Json = False,
) -> None:
    """Keep resources; print the reservation's id."""
    from dataclasses import replace

    from fray.cli.connecting import connection, run_async
    from fray.cli.output import print_json, print_line
    from fray.cli.requests import RunArguments, resources_of
    from fray.cli.schedreports import reservation_json
    from fray.cluster.types import ReservationConfig

    place = require_place(cluster, cluster_name)
    each = resources_of(
        RunArguments(command=(), cpus=cpus, memory=memory, gpus=gpus, tpu=tpu, replicas=least)
    )
    config = ReservationConfig(
        each,
        replace(each, replicas=most or least),
        priority=priority,
        ttl_seconds=max(round(ttl), 1),
    )

    async def make() -> None:
        fresh = not namespace
        async with connection(place, namespace=namespace, fresh_namespace=fresh) as connected:
            name = await connected.create_reservation(config)
            report = await connected.reservations.get(name)
        if as_json:
            print_json(reservation_json(report))
        else:
            print_line(name)

    run_async(make)


@app.command("list")
def show_all(
    user: Annotated[str | None, typer.Option(help="Only this user's.", show_default=False)] = None,
    every: Annotated[bool, typer.Option("--all", "-a", help="Also those that have ended.")] = False,
    cluster: Cluster = None,
    cluster_name: ClusterName = None,
    as_json: Json = False,
) -> None:
    """List reservations, the newest last."""
    from fray.cli.connecting import connection, run_async
    from fray.cli.output import print_json, print_line, print_table
    from fray.cli.schedreports import reservation_json, reservation_table
    from fray.runtime.clock import SystemClock

    place = require_place(cluster, cluster_name)

    async def show() -> None:
        async with connection(place) as connected:
            reports = await connected.reservations.list(user, ended=every)
        if as_json:
            print_json([reservation_json(report) for report in reports])
        elif reports:
            print_table(reservation_table(reports, SystemClock().time()))
        else:
            print_line("no reservations")

    run_async(show)


@app.command("renew")
def renew(
    reservation: Reservation,
    ttl: Ttl = 3600,
    cluster: Cluster = None,
    cluster_name: ClusterName = None,
    as_json: Json = False,
) -> None:
    """Let a reservation last longer, from now on."""
    from fray.cli.connecting import connection, run_async
    from fray.cli.output import print_json, print_line
    from fray.cli.schedreports import reservation_json
    from fray.ids import ReservationId
    from fray.runtime.clock import duration

    place, name = require_place(cluster, cluster_name), ReservationId(reservation)

    async def make() -> None:
        async with connection(place) as connected:
            await connected.reservations.renew(name, ttl)
            report = await connected.reservations.get(name)
        if as_json:
            print_json(reservation_json(report))
        else:
            print_line(f"{name} lasts for another {duration(ttl)}")

    run_async(make)


@app.command("release")
def release(
    reservation: Reservation,
    cluster: Cluster = None,
    cluster_name: ClusterName = None,
    as_json: Json = False,
) -> None:
    """Give a reservation back; its jobs go on without it."""
    from fray.cli.connecting import connection, run_async
    from fray.cli.output import print_json, print_line
    from fray.cli.schedreports import reservation_json
    from fray.ids import ReservationId

    place, name = require_place(cluster, cluster_name), ReservationId(reservation)

    async def make() -> None:
        async with connection(place) as connected:
            await connected.reservations.release(name, "`fray reservation release`")
            report = await connected.reservations.get(name)
        if as_json:
            print_json(reservation_json(report))
        else:
            print_line(f"{name}: {report.state}")

    run_async(make)


__all__ = ["app"]
