"""``fray up``, ``fray down`` and ``fray worker``: the daemons of this machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fray.cli.options import (  # noqa: TC001 - typer reads them
    ClusterName,
    Json,
    Resources,
    TokenFile,
)

if TYPE_CHECKING:
    from fray.cli.clusterfile import ClusterFile


def up(
    file: Annotated[
        Path | None,
        typer.Argument(
            metavar="[cluster.toml]",
            help="Settings, as TOML or JSON: name, host, port, lease_s, worker.",
            show_default=False,
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(
            "--name", "--cluster-name", help="The cluster's name.", show_default="default"
        ),
    ] = None,
    resources: Resources = None,
    host: Annotated[
        str | None,
        typer.Option(help="Where the controller listens.", show_default="127.0.0.1"),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(
            help="Where the controller listens; 0 for any.",
            min=0,
            max=65535,
            show_default="50051",
        ),
    ] = None,
    as_json: Json = False,
) -> int:
    """Start a cluster on this machine: a controller and a worker, in the background.

    What is up already is left alone; what has died is started again, with all its jobs.
    """
    from fray.cli.clusterfile import WorkerSettings, parse_resources
    from fray.cli.connecting import run_async
    from fray.cli.errors import UsageFailure
    from fray.cli.machine import Wanted, bring_up

    told = _read(file) if file is not None else None
    worker = WorkerSettings() if told is None else told.worker
    if resources is not None:
        worker = WorkerSettings(worker.name if worker else None, parse_resources(resources))
    if told is not None and name is not None and told.name not in (None, name):
        raise UsageFailure(f"--name is {name!r}, but {file} says {told.name!r}")
    wanted = Wanted(
        name=name or (told.name if told else None),
        host=host or (told.host if told else None),
        port=port if port is not None else (told.port if told else None),
        lease_s=told.lease_s if told else None,
        worker=worker,
        is_told=told is not None or resources is not None,
    )
    return run_async(lambda: bring_up(wanted, as_json=as_json))


def _read(file: Path) -> ClusterFile:
    from fray.cli.clusterfile import parse_cluster_file
    from fray.cli.errors import UsageFailure

    try:
        return parse_cluster_file(file.name, file.read_text())
    except (OSError, UnicodeDecodeError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else "it is no text"
        raise UsageFailure(f"{file} cannot be read: {reason}") from exc


def down(
    name: Annotated[
        str | None,
        typer.Option("--name", help="The cluster's name.", show_default="default"),
    ] = None,
    cluster_name: ClusterName = None,
    grace: Annotated[
        float,
        typer.Option(metavar="SECONDS", help="How long running jobs have to stop.", min=0),
    ] = 10.0,
    as_json: Json = False,
) -> int:
    """Stop this machine's part of a cluster: its jobs, its workers, its controller.

    The journal and the logs stay; `fray up` goes on from there.
    """
    from fray.cli.connecting import run_async
    from fray.cli.leaving import bring_down

    return run_async(lambda: bring_down(name or cluster_name, grace_s=grace, as_json=as_json))


def worker(
    join: Annotated[
        str,
        typer.Option("--join", metavar="HOST[:PORT]", help="The controller.", show_default=False),
    ],
    token_file: TokenFile = None,
    name: Annotated[
        str | None,
        typer.Option(help="Of this host in the cluster. Default: its own.", show_default=False),
    ] = None,
    resources: Resources = None,
    foreground: Annotated[
        bool, typer.Option("--foreground", help="Stay, and print the log here.")
    ] = False,
    as_json: Json = False,
) -> int:
    """Let this host work for a cluster, in the background."""
    from fray.cli.clusterfile import WorkerSettings, parse_resources
    from fray.cli.connecting import run_async
    from fray.cli.joining import become_worker, join_cluster

    settings = WorkerSettings(name, None if resources is None else parse_resources(resources))
    if foreground:
        become_worker(join, token_file, settings)
    return run_async(lambda: join_cluster(join, token_file, settings, as_json=as_json))


__all__ = ["down", "up", "worker"]
