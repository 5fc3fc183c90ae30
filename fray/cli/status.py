"""``fray status``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fray.cli.options import Cluster, ClusterName, Json, require_place

if TYPE_CHECKING:
    from fray.cli.connecting import Place
    from fray.cluster.control import HostReport, JobReport
    from fray.cluster.home import Daemon


def status(cluster: Cluster = None, cluster_name: ClusterName = None, as_json: Json = False) -> int:
    """Show a cluster: its controller, its hosts, and how many jobs there are."""
    from fray.cli.connecting import run_async

    place = require_place(cluster, cluster_name)
    return run_async(lambda: _show(place, as_json))


async def _show(place: Place, as_json: bool) -> int:
    from fray.cli.connecting import SCHEME, connection
    from fray.cli.output import print_json, print_line, print_styled, print_table
    from fray.cli.reports import host_table
    from fray.runtime.clock import SystemClock

    async with connection(place) as cluster:
        hosts = await cluster.fleet.hosts()
        jobs = await cluster.jobs.jobs(None, None)
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
    else:
        print_line(f"no hosts yet; `fray worker --join {address}` adds one")
    return 0


def status_json(
    name: str | None,
    address: str,
    controller: Daemon | None,
    hosts: list[HostReport],
    jobs: list[JobReport],
    now: float,
) -> dict[str, Any]:
    """A cluster for scripts.

    Args:
        name: The cluster's, where it is known here.
        address: The controller's ``host:port``.
        controller: Its process, where it is on this machine.
        hosts: All hosts.
        jobs: All jobs.
        now: Seconds since 1970.
    """
    from fray.cli.reports import host_json, job_counts

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
        "jobs": job_counts(jobs),
        "actors": actor_counts(jobs),
    }


def actor_counts(jobs: list[JobReport]) -> dict[str, int]:
    """How many actors that the cluster made there are, of each status.

    Args:
        jobs: All jobs.
    """
    from fray.cluster.types import JobStatus

    counts = {status.value: 0 for status in JobStatus}
    for job in jobs:
        if job.actor_id:
            counts[job.status.value] += 1
    return counts


def status_lines(
    name: str | None, spec: str, controller: Daemon | None, jobs: list[JobReport], now: float
) -> list[Any]:
    """A cluster for people, without its hosts: a heading and some lines.

    Args:
        name: The cluster's, where it is known here.
        spec: How to connect.
        controller: Its process, where it is on this machine.
        jobs: All jobs.
        now: Seconds since 1970.
    """
    from fray.cli.reports import Cell, counts_line, job_counts
    from fray.runtime.clock import duration

    called = f"cluster {name}" if name else "cluster"
    process = ""
    if controller is not None:
        process = f", process {controller.pid}, up for {duration(now - controller.started)}"
    lines = [
        Cell(f"{called} at {spec}", "bold"),
        Cell(f"controller: answers{process}"),
        Cell(counts_line(job_counts(jobs), "jobs")),
    ]
    actors = actor_counts(jobs)
    if any(actors.values()):
        lines.append(Cell(counts_line(actors, "actors")))
    return lines


__all__ = ["actor_counts", "status", "status_json", "status_lines"]
