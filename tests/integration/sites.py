"""A cluster over several hosts, joined by a real network, for tests that come between."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fray.actor.options import ActorOptions
from fray.cluster.control import JobQuery
from fray.cluster.hosttimes import HostTimes
from tests.integration.real_cluster import DEADLINE_S, RealCluster, driving, until
from tests.integration.witness import Record, Witness

if TYPE_CHECKING:
    from fray.actor.directory import Endpoint
    from fray.cluster.client import AsyncFrayCluster
    from fray.cluster.reports import JobReport
    from tests.integration.netns import Host, Network

TIMES = HostTimes(lease_s=4.0)
WORKERS = ("w1", "w2", "w3")
WORKER_CPUS = 64

END_S = 2.0
"""From a death that somebody sees until every call to the dead has ended."""

SLACK_S = 5.0
"""What a busy machine may add to what has a bound."""


class Site:
    """A cluster on hosts: a controller, workers, and a driver, which is this process.

    Args:
        net: The hosts.
        root: The cluster's directory.
    """

    def __init__(self, net: Network, root: Path) -> None:
        self.net = net
        self.cluster = RealCluster(root, host=net["controller"], lease_s=TIMES.lease_s)
        self.driver = net["driver"]
        self.controller = net["controller"]

    async def start(self) -> None:
        await self.cluster.start_controller()
        starting = [self.cluster.start_agent(name, host=self.net[name]) for name in WORKERS]
        await asyncio.gather(*starting)
        with self.driver.entered():
            async with driving(self.cluster) as connection:
                await self.warm_up(connection)

    async def warm_up(self, connection: AsyncFrayCluster) -> None:
        """Starts all that stays until the last test is done: each agent's fork server among it."""
        path = str(self.cluster.root / "warm-up")
        options = ActorOptions(num_cpus=WORKER_CPUS)  # there is room for one on each host
        witnesses: list[Any] = [
            connection.system.create(Witness, (path,), {}, options) for _ in WORKERS
        ]
        await asyncio.gather(*[witness.pid.remote() for witness in witnesses])
        await asyncio.gather(*[witness.kill() for witness in witnesses])

    def agent_pid(self, host: Host) -> int:
        return self.cluster.agents[host.name].pid

    def lease_of(self, host: Host) -> bytes:
        """What a host's agent has written down last of its lease."""
        return (self.cluster.home.path / "workers" / host.name / "lease").read_bytes()

    async def until_renewed(self, host: Host) -> None:
        """Waits until a host's lease has just been written down anew, and so is as long as ever."""
        before = self.lease_of(host)
        await until(lambda: self.lease_of(host) != before, "the lease is renewed")

    def boot_of(self, host: Host) -> str:
        """In which of its lives a host is."""
        [path] = (self.cluster.home.path / "workers" / host.name).glob("boot-*")
        return path.read_text()


async def all_healthy(connection: AsyncFrayCluster) -> bool:
    hosts = await connection.fleet.hosts()
    return [(host.worker_id, host.health) for host in hosts] == [(w, "healthy") for w in WORKERS]


class Actor:
    """A witness, and what is known of it from outside."""

    def __init__(self, site: Site, connection: AsyncFrayCluster, path: Path, **options: Any):
        self.site = site
        self.connection = connection
        self.record = Record(path)
        self.name = options.setdefault("name", path.name)
        # A test and its fixtures have different context variables.
        self.handle: Any = connection.system.create(
            Witness, (str(path),), {}, ActorOptions(**options)
        )

    async def report(self) -> JobReport:
        jobs = await self.connection.jobs.list(JobQuery())
        return [job for job in jobs if job.name == self.name][-1]

    async def attempts(self) -> list[tuple[str, str]]:
        """Where its attempts were, and what became of them."""
        [task] = (await self.report()).tasks
        return [(str(attempt.worker_id), attempt.state) for attempt in task.attempts]

    async def host_when_ready(self) -> Host:
        """Where it is, once it is there; the driver is connected to it then."""
        await self.handle.pid.remote()
        return await self.host()

    async def host(self) -> Host:
        """Where its latest process is."""
        return self.site.net[(await self.attempts())[-1][0]]

    async def endpoint(self) -> Endpoint:
        """Where it is; without calling it."""
        await self.handle
        key = self.handle.route.key
        located = await self.connection.system.directory.locate(key, wait_s=DEADLINE_S)
        [endpoint] = located.endpoints
        return endpoint
