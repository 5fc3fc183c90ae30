"""Bringing this machine's part of a cluster down: its jobs, its workers, its controller."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fray.cli import daemons
from fray.cli.connecting import SCHEME, Place, connection
from fray.cli.errors import Failure
from fray.cli.output import note, print_json, print_line
from fray.cluster.control import JobQuery
from fray.cluster.home import DEFAULT_NAME, ClusterHome, all_homes
from fray.cluster.types import JobStatus
from fray.runtime.clock import SystemClock

if TYPE_CHECKING:
    from fray.cluster.client import AsyncFrayCluster
    from fray.cluster.home import Daemon
    from fray.ids import JobId
    from fray.runtime.clock import Clock

DAEMON_GRACE_S = 15.0
"""How long a daemon has to end after SIGTERM: a worker ends its tasks first."""

JOBS_MARGIN_S = 5.0
"""How long jobs may take to be recorded as stopped after their grace is over."""


async def bring_down(name: str | None, *, grace_s: float, as_json: bool) -> int:
    """`fray down`.

    Args:
        name: The cluster's; None for the default.
        grace_s: How long its jobs have to stop, in seconds.
        as_json: Whether the result is for a script.

    Raises:
        Failure: It is unknown, or something cannot be ended.
    """
    home = ClusterHome(name or DEFAULT_NAME)
    if not home.exists:
        if name is None:
            return _told_down(home, [], [], as_json)
        known = ", ".join(each.name for each in all_homes()) or "none"
        raise Failure(f"there is no cluster {name!r} on this machine (known: {known})")
    clock = SystemClock()
    async with daemons.locked(home, clock):
        await _end_orphans(home, clock)
        stopped_jobs = await _stop_jobs(home, clock, grace_s)
        ended: list[Daemon] = []
        # Workers first: they tell the controller how their tasks ended.
        for daemon in reversed(home.daemons()):
            if daemon.alive:
                await daemons.stop(daemon, clock, grace_s=DAEMON_GRACE_S)
                ended.append(daemon)
            elif daemon.is_here:  # nobody shall miss it any more
                home.remove_daemon(daemon.kind, daemon.name)
    return _told_down(home, stopped_jobs, ended, as_json)


async def _end_orphans(home: ClusterHome, clock: Clock) -> None:
    """Ends what still runs of workers that were killed: nobody else would."""
    from fray.cluster.worker.subprocesses import SubprocessLauncher

    for folder in sorted((home.path / "workers").glob("*")):
        worker = home.daemon("worker", folder.name)
        if worker is not None and (worker.alive or not worker.is_here):
            continue
        launcher = SubprocessLauncher(folder / "run", clock=clock)
        await launcher.adopt()
        await launcher.close(kill=True)


async def _stop_jobs(home: ClusterHome, clock: Clock, grace_s: float) -> list[JobId]:
    """Stops all jobs of a cluster whose controller runs here; gives their ids."""
    controller = home.daemon("controller")
    if controller is None or not controller.alive:
        return []
    # Without a worker nobody would stop them: they are known to have ended when there is one again.
    has_worker = any(daemon.alive for daemon in home.daemons() if daemon.kind == "worker")
    try:
        async with connection(Place(SCHEME + controller.address, home, is_ours=True)) as cluster:
            return await _stop_all(cluster, clock, grace_s, wait=has_worker)
    except Failure as exc:
        note(f"{exc}; its jobs end with their workers")
        return []


async def _stop_all(
    cluster: AsyncFrayCluster, clock: Clock, grace_s: float, *, wait: bool
) -> list[JobId]:
    stopped: list[JobId] = []
    unfinished = tuple(status for status in JobStatus if not status.finished())
    for job_id in await cluster.jobs.ids(JobQuery(statuses=unfinished)):
        await cluster.jobs.stop(job_id, "`fray down`", grace_s)
        stopped.append(job_id)
    deadline = clock.monotonic() + grace_s + JOBS_MARGIN_S
    for job_id in stopped if wait else ():
        await cluster.jobs.wait(job_id, wait_s=max(0.0, deadline - clock.monotonic()))
    return stopped


def _told_down(
    home: ClusterHome, stopped_jobs: list[JobId], ended: list[Daemon], as_json: bool
) -> int:
    if as_json:
        print_json(
            {
                "cluster": home.name,
                "stopped_jobs": stopped_jobs,
                "ended": [{"kind": d.kind, "name": d.name, "pid": d.pid} for d in ended],
            }
        )
        return 0
    for job_id in stopped_jobs:
        print_line(f"stopped {job_id}")
    for daemon in ended:
        print_line(f"ended {daemon.label} (process {daemon.pid})")
    print_line(f"cluster {home.name} is down" if ended else f"cluster {home.name} was not up")
    return 0


__all__ = ["bring_down"]
