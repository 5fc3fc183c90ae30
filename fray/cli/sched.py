"""``fray sched``: whatif, record, replay, policy."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fray.cli.options import (
    Cluster,
    ClusterName,
    ConstraintOption,
    Json,
    Priority,
    ReservationOption,
    TimeLimit,
    Zone,
    require_place,
)
from fray.cli.runoptions import Cpus, Gpus, Memory, Region, Replicas, Tpu  # noqa: TC001 - typer reads them

app = typer.Typer(help="Ask the scheduler what it would do.")

ViewFile = Annotated[
    Path | None,
    typer.Option(
        "--view",
        metavar="FILE",
        help="A recorded view instead of the cluster's own.",
        show_default=False,
    ),
]


async def _live_view(cluster: str | None, cluster_name: str | None) -> bytes:
    from fray.cli.connecting import connection

    async with connection(require_place(cluster, cluster_name)) as connected:
        return (await connected.scheduler.view()).encode()


def _read(path: Path) -> bytes:
    from fray.cli.errors import UsageFailure

    try:
        return path.read_bytes()
    except OSError as exc:
        raise UsageFailure(f"{path} cannot be read: {exc.strerror}") from exc


@app.command("record")
def record(cluster: Cluster = None, cluster_name: ClusterName = None) -> None:
    """Print what the scheduler sees, as JSON: `fray sched record > view.json`."""
    from fray.cli.connecting import run_async
    from fray.cli.output import print_line

    async def show() -> None:
        print_line((await _live_view(cluster, cluster_name)).decode())

    run_async(show)


@app.command("replay")
def replay(
    view: Annotated[Path, typer.Argument(metavar="VIEW", help="What `fray sched record` printed.")],
    after: Annotated[
        float, typer.Option(metavar="SECONDS", help="Plan so long after it was recorded.", min=0)
    ] = 0.0,
    as_json: Json = False,
) -> None:
    """Make the plan for a recorded view again; nothing is changed anywhere."""
    from fray.cli.output import print_json, print_line
    from fray.cli.schedreports import plan_json, plan_lines
    from fray.cluster.controller.codec import decode_view
    from fray.cluster.scheduling.planner import plan

    seen, now = decode_view(_read(view))
    made = plan(seen, now + after)
    if as_json:
        print_json(plan_json(made))
        return
    for line in plan_lines(made):
        print_line(line)


@app.command("whatif")
def whatif(
    request: Annotated[
        Path | None,
        typer.Argument(
            metavar="[FILE]",
            help="JSON with the fields of a ResourceConfig, instead of options.",
            show_default=False,
        ),
    ] = None,
    view: ViewFile = None,
    cpus: Cpus = 1,
    memory: Memory = None,
    gpus: Gpus = None,
    tpu: Tpu = None,
    replicas: Replicas = 1,
    region: Region = None,
    zone: Zone = None,
    constraint: ConstraintOption = None,
    priority: Priority = None,
    time_limit: TimeLimit = None,
    reservation: ReservationOption = None,
    user: Annotated[
        str | None, typer.Option(help="As whom. Default: you.", show_default=False)
    ] = None,
    cluster: Cluster = None,
    cluster_name: ClusterName = None,
    as_json: Json = False,
) -> None:
    """Say what would become of a job if it were submitted now; nothing is changed."""
    from fray.cli.connecting import run_async
    from fray.cli.output import print_json, print_line
    from fray.cli.requests import RunArguments, parse_level, resources_of
    from fray.cli.schedreports import explanation_json, outcome_lines
    from fray.cluster.controller.codec import decode_resources, decode_view
    from fray.cluster.controller.supposed import supposed_units
    from fray.cluster.identity import user_name
    from fray.cluster.priority import DEFAULT_PRIORITY, parse_priority
    from fray.cluster.scheduling.explain import what_if

    if request is not None:
        resources = decode_resources(_read(request))
    else:
        resources = resources_of(
            RunArguments(
                command=(),
                cpus=cpus,
                memory=memory,
                gpus=gpus,
                tpu=tpu,
                replicas=replicas,
                regions=region or (),
                zones=zone or (),
                constraints=constraint or (),
            )
        )
    level = parse_level(priority)
    rank = DEFAULT_PRIORITY if level is None else parse_priority(level)

    def tell(data: bytes) -> None:
        seen, now = decode_view(data)
        units = supposed_units(
            resources,
            now,
            user=user or user_name(),
            priority=rank,
            reservation=reservation or "",
            time_limit_s=time_limit,
        )
        [told] = what_if(seen, now, units)
        if as_json:
            print_json(explanation_json(told))
            return
        for line in outcome_lines(told):
            print_line(line)

    async def ask() -> None:
        tell(await _live_view(cluster, cluster_name))

    if view is not None:
        tell(_read(view))
    else:
        run_async(ask)


@app.command("policy")
def policy(
    hold: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS",
            help="After this time freed room is kept for what waits.",
            min=0,
            show_default=False,
        ),
    ] = None,
    preempt: Annotated[
        bool | None,
        typer.Option(help="Whether a higher band may stop a lower one.", show_default=False),
    ] = None,
    half_life_days: Annotated[
        float | None,
        typer.Option(help="In which past use counts half.", min=0.001, show_default=False),
    ] = None,
    cluster: Cluster = None,
    cluster_name: ClusterName = None,
    as_json: Json = False,
) -> None:
    """Show how places are given, and change that."""
    import dataclasses

    from fray.cli.connecting import connection, run_async
    from fray.cli.output import print_json, print_line
    from fray.cluster.controller.codec import decode_view

    given = {
        "hold_s": hold,
        "preempt": preempt,
        "half_life_s": None if half_life_days is None else half_life_days * 86_400.0,
    }
    changes = {name: value for name, value in given.items() if value is not None}

    async def ask() -> None:
        async with connection(require_place(cluster, cluster_name)) as connected:
            view, _ = decode_view((await connected.scheduler.view()).encode())
            current = dataclasses.replace(view.policy, **changes)
            if changes:
                await connected.scheduler.set_policy(current)
        values = dataclasses.asdict(current)
        if as_json:
            print_json(values)
            return
        for name, value in values.items():
            print_line(f"{name} = {value}")

    run_async(ask)


__all__ = ["app"]
