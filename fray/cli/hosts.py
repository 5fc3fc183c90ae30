"""``fray drain``, ``fray undrain``, ``fray port-forward``."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer

from fray.cli.options import Cluster, ClusterName, JobIdArgument, Json, require_place
from fray.wording import counted

if TYPE_CHECKING:
    from fray.cluster.client import AsyncFrayCluster
    from fray.cluster.reports import HostReport, JobReport

LOOK_S = 0.5

HostArgument = Annotated[str, typer.Argument(metavar="HOST", help="As `fray status` names it.")]


async def find_host(cluster: AsyncFrayCluster, name: str) -> HostReport:
    """A host by its name.

    Args:
        cluster: Whose.
        name: Its name.

    Raises:
        Failure: There is none.
    """
    from fray.cli.errors import Failure

    hosts = await cluster.fleet.hosts()
    for host in hosts:
        if host.worker_id == name:
            return host
    known = ", ".join(str(host.worker_id) for host in hosts) or "none"
    raise Failure(f"there is no host {name!r} (known: {known})")


def drain(
    host: HostArgument,
    deadline: Annotated[
        str,
        typer.Option(
            metavar="TIME", help="How long tasks may go on, as in 10m; then they are stopped."
        ),
    ] = "",
    reason: Annotated[str, typer.Option(help="Told to those whose tasks are moved.")] = "",
    wait: Annotated[bool, typer.Option(help="Return when nothing runs there any more.")] = True,
    cluster: Cluster = None,
    cluster_name: ClusterName = None,
    as_json: Json = False,
) -> None:
    """Take a host out of use: its tasks go elsewhere, and no new ones come."""
    from fray.cli.connecting import connection, run_async
    from fray.cli.durations import parse_duration
    from fray.cli.output import print_json, print_line
    from fray.cli.reports import host_json

    deadline_s = parse_duration(deadline) if deadline else 0.0
    place = require_place(cluster, cluster_name)

    async def act() -> HostReport:
        async with connection(place) as connected:
            found = await find_host(connected, host)
            why = reason or f"`fray drain`, by {connected.identity.user}"
            await connected.fleet.drain(found.worker_id, why, deadline_s)
            return await _until_empty(connected, host) if wait else await find_host(connected, host)

    report = run_async(act)
    if as_json:
        print_json(host_json(report))
    else:
        left = f"{_tasks_there(report)} still there" if report.attempts else "nothing is there"
        print_line(f"{host}: {report.health}, {left}; `fray undrain {host}` takes it back")


def _tasks_there(report: HostReport) -> str:
    return counted(report.attempts, "task is", "tasks are")


async def _until_empty(cluster: AsyncFrayCluster, name: str) -> HostReport:
    """Waits until nothing runs on a host; says how many tasks are left when that changes."""
    from fray.cli.output import note
    from fray.runtime.clock import SystemClock, duration

    clock = SystemClock()
    told: tuple[int, bool] | None = None
    while True:
        report = await find_host(cluster, name)
        if report.attempts == 0:
            return report
        state = (report.attempts, report.until is None)
        if state != told:
            told = state
            tasks = _tasks_there(report)
            if report.until is None:
                note(f"{name}: {tasks} being moved")
            else:
                left = duration(report.until - clock.time())
                note(f"{name}: {tasks} still there; what is there in {left} is stopped")
        await clock.sleep(LOOK_S)


def undrain(
    host: HostArgument,
    cluster: Cluster = None,
    cluster_name: ClusterName = None,
    as_json: Json = False,
) -> None:
    """Take a host that was drained or quarantined into use again."""
    from fray.cli.connecting import connection, run_async
    from fray.cli.output import print_json, print_line
    from fray.cli.reports import host_json

    place = require_place(cluster, cluster_name)

    async def act() -> HostReport:
        async with connection(place) as connected:
            found = await find_host(connected, host)
            await connected.fleet.undrain(found.worker_id)
            return await find_host(connected, host)

    report = run_async(act)
    if as_json:
        print_json(host_json(report))
    else:
        print_line(f"{host}: {report.health}")


def check_port(report: JobReport, port_name: str) -> None:
    """Makes sure that a job has a port.

    Args:
        report: The job's.
        port_name: The port's name.

    Raises:
        Failure: It has not; the message lists those that it has.
    """
    from fray.cli.errors import Failure

    if port_name not in report.ports:
        known = ", ".join(report.ports) or "none; `fray run --port NAME` gives it one"
        raise Failure(f"job {report.job_id} has no port {port_name!r} (it has: {known})")


def port_forward(
    job: JobIdArgument,
    port_name: Annotated[str, typer.Argument(metavar="PORT", help="The port's name.")],
    local: Annotated[
        int | None,
        typer.Argument(
            metavar="[LOCAL]",
            help="The port here. Default: any.",
            min=0,
            max=65535,
            show_default=False,
        ),
    ] = None,
    task: Annotated[int, typer.Option("--task", "-t", help="Of which task.", min=0)] = 0,
    host: Annotated[str, typer.Option(help="The address here.")] = "127.0.0.1",
    cluster: Cluster = None,
    cluster_name: ClusterName = None,
    as_json: Json = False,
) -> int:
    """Lead a port of this machine to a named port of a job's task. Ctrl-C ends it."""
    from fray.cli.connecting import connection, run_async
    from fray.cli.errors import Failure
    from fray.cli.inside import Forwarding
    from fray.cli.output import json_line, note, print_line
    from fray.cli.tasks import find_task

    place = require_place(cluster, cluster_name)

    async def serve() -> None:
        async with connection(place) as connected:
            found = await find_task(connected, f"{job}/{task}")
            check_port(found.report, port_name)
            forwarding = Forwarding(connected, found.place(), port_name, note)
            try:
                server = await forwarding.open(host, local or 0)
            except OSError as exc:
                raise Failure(f"port {local} here cannot be used: {exc.strerror}") from exc
            address = "{}:{}".format(*server.sockets[0].getsockname()[:2])
            if as_json:
                print_line(json_line({"address": address, "task": found.label}))
            else:
                print_line(f"{address} leads to port {port_name} of {found.label}")
            async with server:
                await server.serve_forever()

    try:
        run_async(serve)
    except (KeyboardInterrupt, asyncio.CancelledError):
        return 0
    return 0


__all__ = ["check_port", "drain", "find_host", "port_forward", "undrain"]
