"""``fray up``, ``fray down`` and ``fray worker``: the daemons of this machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fray.cli.durations import parse_grace
from fray.cli.options import (  # noqa: TC001 - typer reads them
    ClusterName,
    Json,
    Resources,
    TokenFile,
)

if TYPE_CHECKING:
    from fray.cli.clusterfile import ClusterFile, LogSettings
    from fray.cli.settings import TlsSettings


def up(
    file: Annotated[
        Path | None,
        typer.Argument(
            metavar="[cluster.toml]",
            help="Settings, as TOML or JSON: name, host, port, lease_s, retention, "
            "environments, logs, tls, worker.",
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
    certificate: Annotated[
        tuple[Path, Path, Path] | None,
        typer.Option(
            metavar="CERTIFICATE KEY AUTHORITY",
            help="Files of the controller's certificate, if fray is not to make it.",
            show_default=False,
        ),
    ] = None,
    insecure_no_tls: Annotated[
        bool,
        typer.Option(
            "--insecure-no-tls",
            help="Encrypt nothing: who sees the network sees all tokens, code and data.",
        ),
    ] = False,
    logs: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Where logs of jobs are archived: a bucket, or a folder that all hosts share."
            " Default: a folder of the controller's.",
            show_default=False,
        ),
    ] = None,
    as_json: Json = False,
) -> int:
    """Start a cluster on this machine: a controller and a worker, in the background.

    What is up already is left alone; what has died is started again, with all its jobs. A cluster
    that listens anywhere but on the loopback speaks TLS.
    """
    from fray.cli.clusterfile import WorkerSettings, parse_resources
    from fray.cli.connecting import run_async
    from fray.cli.errors import UsageFailure
    from fray.cli.machine import Wanted, bring_up

    told = _read(file) if file is not None else None
    worker = WorkerSettings() if told is None else told.worker
    if resources is not None:
        before = worker or WorkerSettings()
        worker = WorkerSettings(before.name, parse_resources(resources), before.task_user)
    if told is not None and name is not None and told.name not in (None, name):
        raise UsageFailure(f"--name is {name!r}, but {file} says {told.name!r}")
    wanted = Wanted(
        name=name or (told.name if told else None),
        host=host or (told.host if told else None),
        port=port if port is not None else (told.port if told else None),
        lease_s=told.lease_s if told else None,
        retention=told.retention if told else None,
        environments=told.environments if told else None,
        logs=_log_settings(logs, told),
        worker=worker,
        is_told=told is not None or resources is not None,
        tls=_tls(certificate, insecure_no_tls, told),
    )
    return run_async(lambda: bring_up(wanted, as_json=as_json))


def _tls(
    certificate: tuple[Path, Path, Path] | None, insecure: bool, told: ClusterFile | None
) -> TlsSettings | None:
    """What was said of TLS; None for nothing."""
    from fray.cli.errors import UsageFailure
    from fray.cli.settings import TlsSettings

    if certificate is not None and insecure:
        raise UsageFailure("--certificate and --insecure-no-tls exclude each other")
    if certificate is not None or insecure:
        given = tuple(str(path.absolute()) for path in certificate or ())
        return TlsSettings(insecure, given)
    return told.tls if told is not None else None


def _log_settings(location: str | None, told: ClusterFile | None) -> LogSettings | None:
    from dataclasses import replace

    from fray.cli.clusterfile import LogSettings
    from fray.cli.errors import UsageFailure
    from fray.cluster.archive.store import check_location
    from fray.errors import InvalidRequestError

    settings = told.logs if told else None
    if location is None:
        return settings
    try:
        return replace(settings or LogSettings(), location=check_location(location))
    except InvalidRequestError as exc:
        raise UsageFailure(f"--logs: {exc}") from exc


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
        typer.Option(
            metavar="DURATION", help="How long running jobs have to stop.", parser=parse_grace
        ),
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
    task_user: Annotated[
        str | None,
        typer.Option(
            metavar="ACCOUNT",
            help="As root: the account of tasks, or auto: that of each user's name.",
            show_default=False,
        ),
    ] = None,
    foreground: Annotated[
        bool, typer.Option("--foreground", help="Stay, and print the log here.")
    ] = False,
    as_json: Json = False,
) -> int:
    """Let this host work for a cluster, in the background."""
    from fray.cli.clusterfile import WorkerSettings, parse_resources
    from fray.cli.connecting import run_async
    from fray.cli.joining import become_worker, join_cluster

    told = None if resources is None else parse_resources(resources)
    settings = WorkerSettings(name, told, task_user)
    if foreground:
        become_worker(join, token_file, settings)
    return run_async(lambda: join_cluster(join, token_file, settings, as_json=as_json))


__all__ = ["down", "up", "worker"]
