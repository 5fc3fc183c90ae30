"""One seed's world, from its first host to the verdict."""

from __future__ import annotations

import asyncio
import contextlib
import pickle
import random
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from fray.cluster.types import Entrypoint, JobRequest, ResourceConfig
from fray.errors import CallError, SupervisorFailed
from fray.testing import SimCluster, Simulation
from fray.testing.history import Outcome
from tests.sim import soak
from tests.sim.lab.actors import Worker, serve_member
from tests.sim.lab.climate import Climate
from tests.sim.lab.diary import Diary
from tests.sim.lab.trees import Boss, keep, keep_in_job
from tests.sim.lab.watching import Watcher, Watching
from tests.sim.lab.work import NAMES, User, driver
from tests.sim.weather import FAULT_S_MAX

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from fray.actor.childspec import ChildInfo
    from fray.cluster.client import AsyncFrayCluster
    from fray.ids import JobId
    from fray.testing import SimProcess
    from tests.sim.lab.trees import Node

CONVERGE_S = 400.0
"""After the last fault all must be well within this time: a host is given up after 90 s, a
connection after 150 s, a driver's session after 60 s, and a back-off takes a minute at most."""

LATE_MAX = 4
"""So many monitors are made of actors that have ended for good."""

HOLDERS = ("test", "test", "driver", "job", "actor")
"""Who may hold a tree of supervisors."""

ANSWER_S = 100.0
"""How long an actor may take to answer when all is well again."""


@dataclass
class Report(soak.Report):
    """What one seed, or many, came to.

    Attributes:
        calls: Calls made by all users, jobs and actors.
        outcomes: Calls by how they ended.
        unsettled: Calls whose caller was gone before they ended.
        runs: Times that a method was run.
        supervision: What there was to see of supervisors and monitors.
    """

    counted: ClassVar[dict[str, str]] = {
        "calls": "calls made",
        "runs": "methods run",
        "unsettled": "calls without an outcome, their callers having been killed",
        "outcomes": "outcomes",
        "supervision": "supervision",
    }

    calls: int = 0
    runs: int = 0
    unsettled: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    supervision: Counter[str] = field(default_factory=Counter)


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
            supervision=lab.diary.seen,
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
        self.weather = Climate(cluster, f"{cluster.seed}/weather")
        self.diary = Diary.current = Diary(cluster)
        self.watching = Watching()
        self.over = asyncio.Event()
        self.actors: list[Any] = []
        self.users: list[User] = []
        self.jobs: list[JobId] = []
        self.pool: JobId | None = None
        self.names: list[str] = []
        self.bosses: list[Any] = []
        self.keepers: list[asyncio.Task[None]] = []
        self.drivers: list[SimProcess] = []
        self.keeping: list[JobId] = []

    async def begin(self) -> None:
        """Hosts, actors, users."""
        dice, cluster = self.dice, self.cluster
        for _ in range(dice.randint(2, 3)):
            await cluster.add_hosts(
                region=dice.choice(["", "", "far"]),
                clock_skew_s=dice.uniform(-1000, 1000),
                clock_drift=dice.uniform(-1e-4, 1e-4),
            )
        trees = dice.random() < 0.4
        for name in NAMES[: 1 if trees else 3]:
            options = Worker.options(name=name, max_restarts=-1, num_cpus=0.5)
            self.actors.append(options.remote())
            self.names.append(name)
        for actor in self.actors:
            await actor
        if trees:
            for number in range(2 if dice.random() < 0.1 else 1):
                await self._plant(f"tree-{number}")
        elif dice.random() < 0.4:
            await self._fill_a_pool()
        for number in range(1 if trees else dice.randint(1, 2)):
            self.users.append(User(f"{cluster.seed}/user {number}", cluster.cluster, self.names))
        if not trees and dice.random() < 0.6:
            self._drive(driver(f"{cluster.seed}/driver", self.names))

    async def _fill_a_pool(self) -> None:
        request = JobRequest(
            name="pool",
            entrypoint=Entrypoint.from_callable(serve_member),
            resources=ResourceConfig.with_cpu(cpu=0.1, replicas=2),
            max_retries_failure=1000,
        )
        self.pool = await self.cluster.launch(request)
        self.names.append("pool")

    def _drive(self, main: Callable[[AsyncFrayCluster], Coroutine[Any, Any, None]]) -> None:
        process = self.cluster.start_driver(main)
        process.check = False  # its connection may be refused in the storm: then it fails
        self.weather.drivers.append(process.name)
        self.drivers.append(process)

    async def _plant(self, name: str) -> None:
        """Has somebody hold a tree of supervisors."""
        seed, who = f"{self.cluster.seed}/{name}", self.dice.choice(HOLDERS)
        if who == "test":
            self.keepers.append(asyncio.create_task(self._keep(seed, name, self.over.wait)))
        elif who == "driver":
            ends_after_s = self.dice.choice([None, self.dice.uniform(10, 150)])

            async def main(_: AsyncFrayCluster) -> None:
                if ends_after_s is None:
                    await keep(seed, name, asyncio.Event().wait)
                else:
                    await keep(seed, name, lambda: asyncio.sleep(ends_after_s), leaving=True)

            self._drive(main)
        elif who == "job":
            entrypoint = Entrypoint.from_callable(keep_in_job, args=(seed, name))
            job = JobRequest(name=name, entrypoint=entrypoint, max_retries_failure=3)
            self.keeping.append(await self.cluster.launch(job))
        else:
            self.bosses.append(Boss.options(name=f"{name}-boss").remote(seed, name))

    async def _keep(self, seed: str, name: str, over: Callable[[], Any]) -> None:
        try:
            await keep(seed, name, over)
        except SupervisorFailed:
            pass  # which is told by the diary

    async def storm(self) -> None:
        """Work, while things fail; then all is well."""
        async with asyncio.TaskGroup() as group:
            for user in self.users:
                group.create_task(user.work())
            watching = group.create_task(self._watch())
            within_s = self.dice.uniform(30, 80 if self.diary.holdings else 120)
            await self.weather.rage(self.dice.randint(2, 6), within_s)
            await asyncio.sleep(self.dice.uniform(0, FAULT_S_MAX))
            self.weather.clear_up()
            self.diary.calm = True
            await asyncio.sleep(self.dice.uniform(0, 20))
            watching.cancel()
            for user in self.users:
                user.over.set()

    async def _watch(self) -> None:
        """Watches many of the actors that there are, from some time on."""
        dice, known = random.Random(f"{self.cluster.seed}/watch"), dict[str, Any]()
        while True:
            made = [
                *self.actors,
                *self.bosses,
                *(each for user in self.users for each in user.made),
            ]
            made += [pickle.loads(data) for data in self.diary.handles.values()]
            for handle in made:
                if handle.actor_id not in known and dice.random() < 0.5:
                    known[handle.actor_id] = handle
                    self.watching.begin(handle)
            await asyncio.sleep(dice.uniform(1, 20))

    async def converge(self) -> None:
        """In bounded time every call has its outcome, and every actor answers."""
        history = self.cluster.history
        try:
            await self.cluster.until(lambda: not history.pending(), CONVERGE_S)
        except TimeoutError:
            pass  # told by the history, call by call
        history.check(settled=True)
        for actor in [*self.actors, *self.bosses]:
            await self._answers(lambda actor=actor: actor.add.remote(0))
            found = self.cluster.processes_of(actor)
            assert len(found) == 1, f"{actor} is {found}"
        for name in self.names:
            found = await self.cluster.resolver.lookup_async(name)
            await self._answers(lambda found=found: found.health.remote())
        await self._trees_stand()

    async def _trees_stand(self) -> None:
        """All children are up whose supervisors are there, and of the others none is left."""
        deadline = self.cluster.now + CONVERGE_S
        while wrong := [text for each in self.diary.holdings for text in await each.unsettled()]:
            if self.cluster.now > deadline:
                raise AssertionError("trees do not settle:\n" + "\n".join(wrong))
            await asyncio.sleep(1)
        for holding in [each for each in self.diary.holdings if each.alive]:
            for node in holding.nodes.values():
                self.diary.broken += node.crooked()
                for each in await node.supervisor.which_children():
                    if each.name in holding.nodes:  # a supervisor starts again when it gave up
                        self.diary.seen["escalations"] += each.starts - 1
            for node, info in await holding.infos():
                await self._child_answers(node, info)
        assert not self.diary.broken, "\n".join(self.diary.broken)

    async def _child_answers(self, node: Node, info: ChildInfo) -> None:
        handle = pickle.loads(pickle.dumps(info.child))
        self.diary.seen["restarts"] += info.starts - 1
        await self._answers(lambda: handle.health.remote())
        found = await self.cluster.resolver.lookup_async(info.name)
        await self._answers(lambda: found.health.remote())
        assert [e.actor_id for e in found.route.endpoints] == [handle.actor_id], (
            f"{info.name} of {node.name} is {found.route.endpoints}, not {handle.actor_id}"
        )
        assert len(self.cluster.processes_of(handle)) == 1, f"{handle} is not in one process"

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
        self.over.set()
        async with asyncio.timeout(CONVERGE_S):
            await asyncio.gather(*self.keepers)
        for process in self.drivers:
            if process.exit is None:
                cluster.stop(process)
        made = [*self.bosses, *(actor for user in self.users for actor in user.made)]
        for actor in [*self.actors, *made]:
            async with asyncio.timeout(ANSWER_S):
                await asyncio.gather(actor.kill(), return_exceptions=True)  # or it ended long ago
        jobs = [job for user in self.users for job in user.jobs]
        for job in [*self.keeping, *([self.pool] if self.pool is not None else [])]:
            await cluster.terminate(job)
            jobs.append(job)
        for job in jobs:
            async with asyncio.timeout(CONVERGE_S):
                await cluster.wait(job)
        try:
            await cluster.until(lambda: not self._left(), CONVERGE_S)
        except TimeoutError:
            raise AssertionError("left behind:\n" + "\n".join(self._left())) from None
        cluster.history.check(settled=True)
        await self._all_was_told()

    async def _all_was_told(self) -> None:
        """Every monitor was told of each end once; and who asks only now is told of the last."""
        try:
            async with asyncio.timeout(CONVERGE_S):
                await self.watching.finished()
        except TimeoutError:
            left = [each.handle for each in self.watching.watchers if not each.done]
            raise AssertionError(f"monitors were not told of the end of {left}") from None
        watchers = [*self.watching.watchers]
        for holding in self.diary.holdings:
            watchers += holding.watching.watchers
        for data in list(self.diary.handles.values())[:LATE_MAX]:
            handle = pickle.loads(data)
            late = Watcher(handle)
            async with asyncio.timeout(ANSWER_S):
                await Watcher(handle).watch()  # so the cluster knows, too, that it is over
                await late.watch()
            assert len(late.told) == 1, f"a monitor of the dead was told {late.told}"
            assert late.told[0].over is not None, f"{late.told[0]}, but it is over"
            async with asyncio.timeout(ANSWER_S):
                with contextlib.suppress(CallError):
                    answer = await late.handle.health.remote()
                    raise AssertionError(f"{late.handle} is over, and is {answer}")
            watchers.append(late)
        wrong = [text for each in watchers for text in each.wrong()]
        assert not wrong, "\n".join(wrong)
        assert not self.diary.broken, "\n".join(self.diary.broken)

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
