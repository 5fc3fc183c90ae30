"""One seed's world, from its first host to the verdict."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from fray.cluster.types import Entrypoint, JobRequest, ResourceConfig
from fray.errors import CallError
from fray.testing import SimCluster, Simulation
from fray.testing.history import Outcome
from tests.sim.lab.actors import Worker, serve_member
from tests.sim.lab.weather import FAULT_S_MAX, Weather
from tests.sim.lab.work import NAMES, User, driver

if TYPE_CHECKING:
    from collections.abc import Callable

    from fray.ids import JobId

CONVERGE_S = 400.0
"""After the last fault all must be well within this time: a host is given up after 90 s, a
connection after 150 s, a driver's session after 60 s, and a back-off takes a minute at most."""

ANSWER_S = 100.0
"""How long an actor may take to answer when all is well again."""


@dataclass
class Report:
    """What one seed, or many, came to.

    Attributes:
        seeds: How many.
        virtual_s: Virtual seconds.
        steps: Callbacks run.
        calls: Calls made by all users, jobs and actors.
        faults: Faults by kind.
        outcomes: Calls by how they ended.
        unsettled: Calls whose caller was gone before they ended.
        runs: Times that a method was run.
    """

    seeds: int = 0
    virtual_s: float = 0.0
    steps: int = 0
    calls: int = 0
    runs: int = 0
    unsettled: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)

    def add(self, other: Report) -> None:
        """Adds another to this one.

        Args:
            other: Of other seeds.
        """
        for name, value in vars(other).items():
            if isinstance(value, Counter):
                getattr(self, name).update(value)
            else:
                setattr(self, name, getattr(self, name) + value)


async def live(sim: Simulation) -> Report:
    """Runs the world of a simulation's seed.

    Args:
        sim: A fresh simulation.

    Raises:
        AssertionError: A promise was broken.
    """
    dice = random.Random(f"{sim.seed}/lab")
    async with SimCluster(sim) as cluster:
        lab = Lab(cluster, dice)
        await lab.begin()
        await lab.storm()
        await lab.converge()
        await lab.end()
        history = cluster.history
        return Report(
            seeds=1,
            virtual_s=sim.loop.time(),
            steps=sim.loop.steps,
            calls=len(history.calls),
            runs=len(history.runs),
            unsettled=sum(call.outcome is Outcome.PENDING for call in history.calls),
            faults=lab.weather.faults,
            outcomes=history.count(),
        )


class Lab:
    """A cluster, its users, and its weather.

    Args:
        cluster: Just opened.
        dice: Decides how large all is.
    """

    def __init__(self, cluster: SimCluster, dice: random.Random) -> None:
        self.cluster = cluster
        self.dice = dice
        self.weather = Weather(cluster, f"{cluster.seed}/weather")
        self.actors: list[Any] = []
        self.users: list[User] = []
        self.jobs: list[JobId] = []
        self.pool: JobId | None = None

    async def begin(self) -> None:
        """Hosts, actors, users."""
        dice, cluster = self.dice, self.cluster
        for _ in range(dice.randint(2, 3)):
            await cluster.add_hosts(
                region=dice.choice(["", "", "far"]),
                clock_skew_s=dice.uniform(-1000, 1000),
                clock_drift=dice.uniform(-1e-4, 1e-4),
            )
        for name in NAMES:
            options = Worker.options(name=name, max_restarts=-1, num_cpus=0.5)
            self.actors.append(options.remote())
        for actor in self.actors:
            await actor
        if dice.random() < 0.3:
            request = JobRequest(
                name="pool",
                entrypoint=Entrypoint.from_callable(serve_member),
                resources=ResourceConfig.with_cpu(cpu=0.1, replicas=2),
                max_retries_failure=1000,
            )
            self.pool = await cluster.launch(request)
        pool = self.pool is not None
        for number in range(dice.randint(1, 2)):
            self.users.append(User(f"{cluster.seed}/user {number}", cluster.cluster, pool=pool))
        if dice.random() < 0.5:
            process = cluster.start_driver(driver(f"{cluster.seed}/driver", pool=pool))
            process.check = False  # its connection may be refused in the storm: then it fails
            self.weather.drivers.append(process.name)

    async def storm(self) -> None:
        """Work, while things fail; then all is well."""
        async with asyncio.TaskGroup() as group:
            for user in self.users:
                group.create_task(user.work())
            await self.weather.rage(self.dice.randint(2, 6), within_s=self.dice.uniform(30, 120))
            await asyncio.sleep(self.dice.uniform(0, FAULT_S_MAX))
            self.weather.clear_up()
            await asyncio.sleep(self.dice.uniform(0, 20))
            for user in self.users:
                user.over.set()

    async def converge(self) -> None:
        """In bounded time every call has its outcome, and every actor answers."""
        history = self.cluster.history
        try:
            await self.cluster.until(lambda: not history.pending(), CONVERGE_S)
        except TimeoutError:
            pass  # told by the history, call by call
        history.check(settled=True)
        for actor in self.actors:
            await self._answers(lambda actor=actor: actor.add.remote(0))
            found = self.cluster.processes_of(actor)
            assert len(found) == 1, f"{actor} is {found}"
        for name in [*NAMES, *(["pool"] if self.pool is not None else [])]:
            found = await self.cluster.resolver.lookup_async(name)
            await self._answers(lambda found=found: found.health.remote())

    async def _answers(self, call: Callable[[], Any]) -> None:
        """Calls until there is a result: somebody may yet have to be given up."""
        async with asyncio.timeout(ANSWER_S):
            while True:
                try:
                    await call()
                except CallError:
                    await asyncio.sleep(1)
                else:
                    return

    async def end(self) -> None:
        """Ends all that was made, and finds that nothing is left of it."""
        cluster = self.cluster
        made = [actor for user in self.users for actor in user.made]
        for actor in [*self.actors, *made]:
            async with asyncio.timeout(ANSWER_S):
                await asyncio.gather(actor.kill(), return_exceptions=True)  # or it ended long ago
        jobs = [job for user in self.users for job in user.jobs]
        if self.pool is not None:
            await cluster.terminate(self.pool)
            jobs.append(self.pool)
        for job in jobs:
            async with asyncio.timeout(CONVERGE_S):
                await cluster.wait(job)
        try:
            await cluster.until(lambda: not self._left(), CONVERGE_S)
        except TimeoutError:
            raise AssertionError("left behind:\n" + "\n".join(self._left())) from None
        cluster.history.check(settled=True)

    def _left(self) -> list[str]:
        """What should be gone."""
        cluster = self.cluster
        left = [
            f"process {name}"
            for host in cluster.hosts
            for name in host.processes
            if not name.endswith("/agent")
        ]
        return left + cluster.leaks()
