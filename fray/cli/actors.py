"""``fray actor``: list, show, stop."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer

from fray.cli.durations import parse_grace
from fray.cli.options import ActorArgument, Cluster, ClusterName, Json, require_place

if TYPE_CHECKING:
    from fray.cli.actorlist import ActorRow
    from fray.cluster.client import AsyncFrayCluster
    from fray.runtime.activity import ActorActivity

app = typer.Typer(help="Look at actors, and stop them.")

Namespace = Annotated[
    str | None,
    typer.Option(help="Of its name. Default: those of all jobs.", show_default=False),
]


async def ask_actors(cluster: AsyncFrayCluster, namespace: str | None) -> list[ActorRow]:
    """All actors that a cluster knows.

    Args:
        cluster: The cluster.
        namespace: Only of this one; None for those of all jobs.
    """
    from fray.cli.actorlist import actor_rows
    from fray.cluster.control import ACTORS_NAMESPACE, JobQuery

    query = JobQuery(namespace=namespace or "")
    reports = [report async for report in cluster.reports(query)]
    namespaces = [namespace] if namespace else sorted({report.namespace for report in reports})
    asked = await asyncio.gather(
        *(cluster.names.list(each, "") for each in (ACTORS_NAMESPACE, *namespaces))
    )
    addresses = {each.name: each.endpoint.address for each in asked[0]}
    addresses |= {e.endpoint.actor_id: e.endpoint.address for found in asked for e in found}
    return actor_rows(reports, dict(zip(namespaces, asked[1:], strict=True)), addresses)


@app.command("list")
def list_actors(
    namespace: Namespace = None,
    ended: Annotated[bool, typer.Option("--ended", help="Also those that have ended.")] = False,
    cluster: Cluster = None,
    cluster_name: ClusterName = None,
    as_json: Json = False,
) -> None:
    """List actors that the cluster made, or that jobs have registered."""
    from fray.cli.actorlist import ALIVE, actor_json, actor_table
    from fray.cli.connecting import connection, run_async
    from fray.cli.output import print_json, print_line, print_table

    place = require_place(cluster, cluster_name)

    async def show() -> None:
        async with connection(place) as connected:
            rows = await ask_actors(connected, namespace)
        rows = [row for row in rows if ended or row.status in ALIVE]
        if as_json:
            print_json([actor_json(row) for row in rows])
        elif rows:
            print_table(actor_table(rows))
        else:
            print_line("no actors")

    run_async(show)


@app.command("show")
def show_actor(
    actor: ActorArgument,
    namespace: Namespace = None,
    cluster: Cluster = None,
    cluster_name: ClusterName = None,
    as_json: Json = False,
) -> None:
    """Show an actor."""
    from fray.cli.actorlist import actor_json, find_actor
    from fray.cli.connecting import connection, run_async
    from fray.cli.output import print_facts, print_json
    from fray.cli.reports import Cell

    place = require_place(cluster, cluster_name)

    async def show() -> None:
        async with connection(place) as connected:
            row = find_actor(actor, await ask_actors(connected, namespace))
            activity = await _ask_activity(connected, row)
        if as_json:
            does = None if isinstance(activity, str) else activity
            print_json(actor_json(row) | {"activity": does})
            return
        facts = [
            ("actor", Cell(row.actor_id, "bold")),
            ("names", Cell(", ".join(row.names))),
            ("namespace", Cell(row.namespace)),
            ("status", Cell(row.status)),
            ("does", Cell(str(activity))),
            ("address", Cell(row.address)),
            ("job", Cell(row.job_id)),
            ("error", Cell(row.error.strip(), "red")),
        ]
        print_facts([(name, cell) for name, cell in facts if cell.text])

    run_async(show)


@app.command("stop")
def stop_actor(
    actor: ActorArgument,
    namespace: Namespace = None,
    grace: Annotated[
        float,
        typer.Option(
            metavar="DURATION", help="How long its present calls may take.", parser=parse_grace
        ),
    ] = 10.0,
    cluster: Cluster = None,
    cluster_name: ClusterName = None,
    as_json: Json = False,
) -> None:
    """Stop an actor for good."""
    from fray.cli.actorlist import find_actor
    from fray.cli.connecting import connection, run_async
    from fray.cli.errors import Failure
    from fray.cli.output import print_json, print_line

    place = require_place(cluster, cluster_name)

    async def stop() -> bool:
        async with connection(place) as connected:
            row = find_actor(actor, await ask_actors(connected, namespace))
            if not row.made:
                owner = f"job {row.job_id}" if row.job_id else "a driver"
                what = f"; `fray job stop {row.job_id}` stops that" if row.job_id else ""
                raise Failure(f"{row.label} was not made by the cluster but by {owner}{what}")
            return await _stop_one(connected, row, grace)

    stopped = run_async(stop)
    if as_json:
        print_json({"actor": actor, "stopped": stopped})
    else:
        print_line(f"{actor}: {'stopped' if stopped else 'had already ended'}")


async def _ask_activity(cluster: AsyncFrayCluster, row: ActorRow) -> ActorActivity | str:
    """What its own process says that an actor does; else why it does not say."""
    from fray.errors import CallError
    from fray.runtime.activity import ask_activity

    if not row.address:
        return ""
    process = cluster.system.process
    try:
        told = await ask_activity(process, "", row.address, row.actor_id)
    except TimeoutError as exc:
        alive = "its cluster says that it runs: its event loop is blocked, or it is cut off"
        return f"not known: {exc}; {alive}"
    except CallError as exc:
        return f"not known: {exc}"
    return told or "not there any more"


async def _stop_one(cluster: AsyncFrayCluster, row: ActorRow, grace_s: float) -> bool:
    from fray.actor.directory import ActorKey
    from fray.cluster.control import ACTORS_NAMESPACE
    from fray.cluster.worker.stopping import stop_s
    from fray.errors import ActorDied, ActorNotFoundError

    key = ActorKey(ACTORS_NAMESPACE, actor_id=row.actor_id)
    try:
        reason = f"`fray actor stop` stopped it, by {cluster.identity.user}"
        return await cluster.names.stop_actor(key, stop_s(grace_s), reason)
    except (ActorDied, ActorNotFoundError):
        return False


__all__ = ["app", "ask_actors"]
