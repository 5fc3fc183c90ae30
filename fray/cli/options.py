"""Options that many commands have, and what a shell proposes for them."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from fray.cli.durations import parse_duration

if TYPE_CHECKING:
    from fray.cli.connecting import Place

COMPLETION_TIMEOUT_S = 1.0
"""A shell that waits longer for a proposal feels broken."""

COMPLETIONS_MAX = 50

COMPLETION_JOBS_MAX = 500
"""Jobs among which is looked, the newest: the shell waits."""


def find_place(cluster: str | None, cluster_name: str | None) -> Place | None:
    """The cluster that a command means. See `fray.cli.connecting.choose`.

    Args:
        cluster: ``--cluster``.
        cluster_name: ``--cluster-name``.

    Raises:
        Failure: See there.
    """
    import os

    from fray.cli.connecting import choose
    from fray.cluster.home import all_homes

    return choose(cluster, cluster_name, environ=os.environ, homes=all_homes())


def require_place(cluster: str | None, cluster_name: str | None) -> Place:
    """The cluster that a command means and can ask. See `fray.cli.connecting.require`.

    Args:
        cluster: ``--cluster``.
        cluster_name: ``--cluster-name``.

    Raises:
        Failure: See there.
    """
    from fray.cli.connecting import require
    from fray.cluster.home import all_homes

    return require(find_place(cluster, cluster_name), all_homes())


def complete_job_id(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Ids of jobs that begin as the word at the cursor does, newest first, with their status.

    Args:
        ctx: With the options before the word.
        incomplete: The word.

    Returns:
        None of them where the cluster does not answer quickly.
    """
    return _complete(ctx, incomplete, actors=False)


def complete_actor(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Ids of actors, likewise.

    Args:
        ctx: With the options before the word.
        incomplete: The word.
    """
    return _complete(ctx, incomplete, actors=True)


def _complete(ctx: typer.Context, incomplete: str, *, actors: bool) -> list[tuple[str, str]]:
    from fray.cli.connecting import run_async
    from fray.errors import FrayError

    try:
        place = find_place(ctx.params.get("cluster"), ctx.params.get("cluster_name"))
        if place is None or place.is_local:
            return []
        return run_async(lambda: _ask(place, incomplete, actors))
    except (FrayError, OSError, TimeoutError):  # a proposal is a courtesy: errors come with Enter
        return []


async def _ask(place: Place, incomplete: str, actors: bool) -> list[tuple[str, str]]:
    from fray.cli.connecting import connection
    from fray.cluster.control import JobQuery

    async with (
        asyncio.timeout(COMPLETION_TIMEOUT_S),
        connection(place, timeout_s=COMPLETION_TIMEOUT_S) as cluster,
    ):
        reports = await cluster.jobs.list(JobQuery(newest=COMPLETION_JOBS_MAX))
    ids = [
        (str(report.actor_id if actors else report.job_id), report.status.value)
        for report in reversed(reports)
        if bool(report.actor_id) is actors
    ]
    return [each for each in ids if each[0].startswith(incomplete)][:COMPLETIONS_MAX]


def complete_cluster_name(incomplete: str) -> list[str]:
    """Names of this machine's clusters.

    Args:
        incomplete: The word at the cursor.
    """
    from fray.cluster.home import all_homes

    return [home.name for home in all_homes() if home.name.startswith(incomplete)]


Cluster: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--cluster",
        metavar="SPEC",
        help="The cluster, as in fray://host:50051. Default: FRAY_CLUSTER_SPEC, else the one that"
        " is up on this machine.",
        show_default=False,
    ),
]
ClusterName: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--cluster-name",
        metavar="NAME",
        help="A cluster that `fray up --name NAME` started on this machine.",
        autocompletion=complete_cluster_name,
        show_default=False,
    ),
]
Json: TypeAlias = Annotated[
    bool, typer.Option("--json", help="JSON for scripts: values, with units in the keys.")
]
Zone: TypeAlias = Annotated[
    list[str] | None, typer.Option(help="Likewise, a zone.", show_default=False)
]
ConstraintOption: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--constraint",
        metavar="RULE",
        help="What its hosts must be, as in rack=r1 or device!=T4; may be repeated.",
        show_default=False,
    ),
]
Priority: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="LEVEL",
        help="batch, normal, high or critical, or as in high+5.",
        show_default="normal",
    ),
]
TimeLimit: TypeAlias = Annotated[
    float | None,
    typer.Option(
        metavar="DURATION",
        help="How long a task may run, as in 90 (seconds), 10m or 12h; else the job fails.",
        parser=parse_duration,
        show_default=False,
    ),
]
ReservationOption: TypeAlias = Annotated[
    str | None,
    typer.Option("--reservation", metavar="ID", help="Whose resources to use.", show_default=False),
]
JobIdArgument: TypeAlias = Annotated[
    str,
    typer.Argument(
        metavar="JOB", help="Its id, or the beginning of it.", autocompletion=complete_job_id
    ),
]
ActorArgument: TypeAlias = Annotated[
    str,
    typer.Argument(metavar="ACTOR", help="Its name or its id.", autocompletion=complete_actor),
]
Resources: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--resources",
        metavar="JSON",
        help='What the host has, as in \'{"cpu": 8, "memory": "16g", "gpu": {"H100": 8}}\'.'
        " Default: what is found.",
        show_default=False,
    ),
]
TokenFile: TypeAlias = Annotated[
    Path | None,
    typer.Option("--token-file", metavar="FILE", help="The cluster's token.", show_default=False),
]

__all__ = [
    "ActorArgument",
    "Cluster",
    "ClusterName",
    "JobIdArgument",
    "Json",
    "Resources",
    "TokenFile",
    "complete_actor",
    "complete_cluster_name",
    "complete_job_id",
    "find_place",
    "require_place",
]
