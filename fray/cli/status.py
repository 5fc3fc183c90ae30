"""``fray status``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fray.cli.options import Cluster, ClusterName, Json, require_place

if TYPE_CHECKING:
    from fray.cli.connecting import Place
    from fray.cluster.home import Daemon
    from fray.cluster.reports import HostReport, JobCounts


def status(cluster: Cluster = None, cluster_name: ClusterName = None, as_json: Json = False) -> int:
    """Show a cluster: its controller, its hosts, and how many jobs you have (admins: all)."""
    from fray.cli.connecting import run_async

    place = require_place(cluster, cluster_name)
    return run_async(lambda: _show(place, as_json))


async def _show(place: Place, as_json: bool) -> int:
    from fray.cli.connecting import SCHEME, connection
    from fray.cli.output import print_json, print_line, print_styled, print_table
    from fray.cli.reports import host_notes, host_table
    from fray.cluster.reports import JobQuery
    from fray.runtime.clock import SystemClock

    async with connection(place) as cluster:
        hosts = await cluster.fleet.hosts()
        jobs = await cluster.jobs.counts(JobQuery())
        address = cluster.address
    controller = place.home.daemon("controller") if place.home else None
    now = SystemClock().time()
    name = place.home.name if place.home else None
    if as_json:
        print_json(status_json(name, address, controller, hosts, jobs, now))
        return 0
    heading, *rest = status_lines(name, SCHEME + address, controller, jobs, now)
    print_styled(heading)
    for line in rest:
        print_styled(line)
    if hosts:
        print_line("")
        print_table(host_table(hosts))
        for line in host_notes(hosts, now):
            print_line(line)
    else:
        print_line(f"no hosts yet; `fray worker --join {address}` adds one")
    return 0


def status_json(
    name: str | None,
    address: str,
    controller: Daemon | None,
    hosts: list[HostReport],
    jobs: JobCounts,
    now: float,
) -> dict[str, Any]:
    """A cluster for scripts.

    Args:
        name: The cluster's, where it is known here.
        address: The controller's ``host:port``.
        controller: Its process, where it is on this machine.
        hosts: All hosts.
        jobs: How many jobs there are.
        now: Seconds since 1970.
    """
    from fray.cli.reports import host_json

    process = controller and {
        "pid": controller.pid,
        "started_at": controller.started,
        "uptime_s": max(0.0, now - controller.started),
    }
    return {
        "cluster": name,
        "address": address,
        "controller": process,
        "hosts": [host_json(host) for host in hosts],
        "jobs": dict(jobs.jobs),
        "actors": dict(jobs.actors),
    }


def status_lines(
    name: str | None, spec: str, controller: Daemon | None, jobs: JobCounts, now: float
) -> list[Any]:
    """A cluster for people, without its hosts: a heading and some lines.

    Args:
        name: The cluster's, where it is known here.
        spec: How to connect.
        controller: Its process, where it is on this machine.
        jobs: How many jobs there are.
        now: Seconds since 1970.
    """
    from fray.cli.reports import Cell, counts_line
    from fray.runtime.clock import duration

    called = f"cluster {name}" if name else "cluster"
    process = ""
    if controller is not None:
        process = f", process {controller.pid}, up for {duration(now - controller.started)}"
    lines = [
        Cell(f"{called} at {spec}", "bold"),
        Cell(f"controller: answers{process}"),
        Cell(counts_line(jobs.jobs, "jobs")),
    ]
    if any(jobs.actors.values()):
        lines.append(Cell(counts_line(jobs.actors, "actors")))
    return lines


__all__ = ["status", "status_json", "status_lines"]
