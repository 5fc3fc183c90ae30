"""One seed's fleet, from its first host to the verdict."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar

from fray.cluster.controller.commands import GroupSpec, SubmitJobs
from fray.cluster.controller.units import closed
from fray.cluster.resources import Resources
from fray.cluster.scheduling.accounts import Budget
from fray.errors import ClusterError, ClusterUnavailable, InfeasibleError
from fray.testing import SimCluster, Simulation
from tests.sim import soak
from tests.sim.fleet.audit import Audit
from tests.sim.fleet.climate import NOTICE_S_MAX, Climate
from tests.sim.fleet.programs import TALLY, Tally
from tests.sim.fleet.shapes import HOST_CPUS, SLICE, kinds_for
from tests.sim.fleet.truth import Truth
from tests.sim.fleet.users import Told, User
from tests.sim.fleet.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Callable

    from fray.cluster.controller.records import Job
    from fray.cluster.controller.state import Ledger

CONVERGE_S = 1500.0
"""After the last fault all must have ended within this time: hosts are given up after 90 s, a
budget lasts for two minutes, a reservation for three, and no job works for longer than one."""

LOOK_S = 0.5
"""How often that is looked at."""

PERIOD_S = 120.0
"""Of the users' budgets."""

NAMES = ("ann", "bob", "cid")


@dataclass
class Report(soak.Report):
    """What one seed, or many, came to.

    Attributes:
        jobs: Jobs by how they ended.
        attempts: Attempts by how they really ended.
        ends: The same, by how they counted.
        groups: Groups that were launched.
        gangs: Lives of gangs.
        reservations: Reservations that were made.
        refused: Submissions that were refused.
        looks: How often all was looked at from outside.
    """

    counted: ClassVar[dict[str, str]] = {
        "jobs": "jobs",
        "groups": "groups",
        "gangs": "lives of gangs",
        "reservations": "reservations",
        "refused": "submissions refused",
        "attempts": "processes of tasks",
        "ends": "attempts, as they counted",
        "looks": "looks from outside",
    }

    jobs: Counter[str] = field(default_factory=Counter)
    attempts: Counter[str] = field(default_factory=Counter)
    ends: Counter[str] = field(default_factory=Counter)
    groups: int = 0
    gangs: int = 0
    reservations: int = 0
    refused: int = 0
    looks: int = 0


async def live(sim: Simulation) -> Report:
    """Runs the fleet of a simulation's seed.

    Args:
        sim: A fresh simulation.

    Raises:
        AssertionError: A promise was broken.
    """
    async with SimCluster(sim) as cluster, contextlib.AsyncExitStack() as stack:
        fleet = Fleet(cluster, stack)
        await fleet.begin()
        await fleet.storm()
        await fleet.converge()
        await fleet.end()
        return fleet.report()


class Fleet:
    """A cluster, its users, and its weather.

    Args:
        cluster: Just opened.
        stack: Closes the users' connections.
    """

    def __init__(self, cluster: SimCluster, stack: contextlib.AsyncExitStack) -> None:
        self.cluster = cluster
        self.dice = random.Random(f"{cluster.seed}/fleet")
        self.weather = Climate(cluster, f"{cluster.seed}/weather")
        self.truth = Truth(cluster)
        self.told = Told()
        self.audit = Audit(cluster, self.truth, self.told)
        self.users: list[User] = []
        self._hopeless: dict[str, bool] = {}
        self._stack = stack
        self._watching: asyncio.Task[None] | None = None
        self._tally: Any = None

    @property
    def ledger(self) -> Ledger:
        """The controller's; there is one when the weather is fine."""
        ledger = self.truth.ledger()
        assert ledger is not None, "the controller does not run"
        return ledger

    # ---- the beginning

    async def begin(self) -> None:
        """Hosts, users, and what they may use."""
        dice, cluster = self.dice, self.cluster
        gpus, slices = dice.random() < 0.4, dice.choice([0, 1, 2])
        for _ in range(1 if slices > 1 else dice.randint(1, 2)):
            await cluster.add_hosts(
                cpus=HOST_CPUS,
                region=dice.choice(["", "far"]),
                **self._clocks(),
                preemptible=self._maybe(),
            )
        if gpus:
            await cluster.add_hosts(cpus=HOST_CPUS, gpus={"H100": 2}, **self._clocks())
        for _ in range(slices):
            region = dice.choice(["", "far"])
            zone = dice.choice(["a", "b"])
            await cluster.add_hosts(
                slice=SLICE, cpus=HOST_CPUS, region=region, zone=zone, preemptible=self._maybe()
            )
        if dice.random() < 0.5:
            self._tally = Tally.options(name=TALLY, num_cpus=0, max_restarts=-1).remote()
        kinds = kinds_for(gpus=gpus, slices=slices)
        for name in NAMES[: dice.randint(1, 3)]:
            await self._limit(name)
            connection = self.cluster.connect(user=name)
            client = await self._stack.enter_async_context(connection)
            seed = f"{cluster.seed}/user {name}"
            self.users.append(User(name, seed, client, kinds, self.told))
        self._watching = asyncio.create_task(self.audit.run())

    def _maybe(self) -> bool:
        return self.dice.random() < 0.3

    def _clocks(self) -> dict[str, float]:
        dice = self.dice
        return {
            "clock_skew_s": dice.uniform(-1000, 1000),
            "clock_drift": dice.uniform(-1e-4, 1e-4),
        }

    async def _limit(self, name: str) -> None:
        """How much a user counts, and may use."""
        dice = self.dice
        weight = dice.choice([None, 0.5, 3.0])
        quota = dice.choice([None, None, {"cpus": 2.0}, {"cpus": 6.0}])
        budget = dice.choice([None, None, Budget({"cpus": dice.choice([20.0, 200.0])}, PERIOD_S)])
        if weight or quota or budget:
            await self.cluster.cluster.users.set(name, weight, quota, budget)

    # ---- the storm

    async def storm(self) -> None:
        """Work, while things fail; then all is well."""
        within_s = self.dice.uniform(20, 100)
        async with asyncio.TaskGroup() as group:
            for user in self.users:
                group.create_task(user.work(self.dice.randint(2, 5), within_s))
            group.create_task(self._drain_hosts(within_s))
            await self.weather.rage(self.dice.randint(2, 7), within_s)
            await asyncio.sleep(self.dice.uniform(0, 60))
            self.weather.clear_up()
        await asyncio.sleep(NOTICE_S_MAX)  # a preemption was announced, maybe
        self.weather.clear_up()

    async def _drain_hosts(self, within_s: float) -> None:
        """An operator takes a host out of service now and then, and puts it back."""
        fleet = self.cluster.cluster.fleet
        for _ in range(self.dice.choice([0, 0, 1, 2])):
            host = self.dice.choice(self.cluster.hosts).name
            await asyncio.sleep(self.dice.uniform(0, within_s))
            try:
                await fleet.drain(host, "it is looked after")
            except ClusterUnavailable:
                pass  # it may have been done
            else:
                self.truth.drain(host)
            await asyncio.sleep(self.dice.uniform(0, within_s))
            self.truth.drained.pop(host, None)
            while True:
                try:
                    await fleet.undrain(host)
                except ClusterUnavailable:
                    continue
                break

    # ---- the calm

    async def converge(self) -> None:
        """In bounded time every job has ended, or waits for a reason that is true."""
        await _until_none(self._unsettled, "not settled")
        for job_id in self.told.jobs():
            self.told.heard(job_id, (await self.cluster.poll(job_id)).status)
            reason = (await self.cluster.cluster.report(job_id)).waits_for
            if reason and _is_above_quota(self.ledger, self.ledger.tables.jobs[job_id]):
                assert "quota" in reason[0], f"{job_id} waits for its user's quota, not {reason}"

    def _unsettled(self) -> list[str]:
        controller = self.cluster._controller
        ledger = self.truth.ledger()
        if ledger is None or controller is None or controller.book is None:
            return ["the controller does not run"]
        return [
            f"{job.spec.job_id} is {job.status}: {controller.book.waits_for(job.spec.job_id)}"
            for job in ledger.tables.jobs.values()
            if job.spec.actor is None
            and not job.status.finished()
            and not _is_above_quota(ledger, job)
            and not self._is_hopeless(ledger, job)
        ]

    def _is_hopeless(self, ledger: Ledger, job: Job) -> bool:
        """Whether no host could ever run a job. That is found once, when all hosts are there."""
        if any(closed(worker) for worker in ledger.tables.workers.values()):
            return False
        if job.tally.live or job.verdict is not None:
            return False
        if job.spec.job_id not in self._hopeless:
            self._hopeless[job.spec.job_id] = _is_impossible(ledger, job)
        return self._hopeless[job.spec.job_id]

    # ---- the end

    async def end(self) -> None:
        """Ends all that is left, and finds that nothing is left of it."""
        client = self.cluster.cluster
        for job in list(self.ledger.tables.jobs.values()):
            if not job.status.finished() and job.spec.actor is None:
                self.told.asked_to_end[job.spec.job_id] = None
                await client.terminate(job.spec.job_id)
        if self._tally is not None:
            await self._tally.kill()
        for report in await client.reservations.list(None, False):
            with contextlib.suppress(ClusterError):
                await client.release_reservation(report.reservation_id)
        await _until_none(self._left, "left behind")
        assert self._watching is not None
        self._watching.cancel()
        self.audit.look()
        self.cluster.history.check(settled=True)
        verdict = Verdict(self.ledger, self.truth, self.told, self.weather)
        wrong = [*self.truth.broken, *self.told.wrong, *verdict.wrong()]
        assert not wrong, "\n".join(wrong)

    def _left(self) -> list[str]:
        """What should be gone."""
        tables = self.ledger.tables
        left = [f"process {name}" for host in self.cluster.hosts for name in host.processes]
        left = [each for each in left if not each.endswith("/agent")]
        left += [f"attempt {attempt_id}" for attempt_id in tables.attempts]
        for worker in tables.workers.values():
            if worker.used != Resources() or worker.reserved or worker.drawn:
                left.append(f"{worker.spec.worker_id} has {worker.used}, keeps {worker.reserved}")
        left += [
            f"reservation {each.reservation_id}"
            for each in tables.reservations.values()
            if each.ended_at is None
        ]
        left += [f"claim of {unit_id}" for unit_id in tables.claims]
        left += [f"job {j.spec.job_id}" for j in tables.jobs.values() if not j.status.finished()]
        return left + self.cluster.leaks()

    def report(self) -> Report:
        """What all came to."""
        sim, tables = self.cluster.sim, self.ledger.tables
        lives = self.truth.lives.values()
        return Report(
            seeds=1,
            virtual_s=sim.loop.time(),
            steps=sim.loop.steps,
            faults=self.weather.faults,
            jobs=Counter(job.status.value for job in tables.jobs.values()),
            attempts=Counter(life.end for life in lives),
            ends=Counter(e.state.value for task in tables.tasks.values() for e in task.history),
            groups=len(tables.groups),
            gangs=sum(gang.epoch + 1 for gang in tables.gangs.values()),
            reservations=len(tables.reservations),
            refused=sum(each.refused for each in self.told.submissions),
            looks=self.audit.looks,
        )


async def _until_none(found: Callable[[], list[str]], what: str) -> None:
    """Waits until nothing is found any more, in bounded virtual time."""
    deadline = asyncio.get_running_loop().time() + CONVERGE_S
    while left := found():
        if asyncio.get_running_loop().time() > deadline:
            told = "\n".join(left)
            raise AssertionError(f"{what} after {CONVERGE_S:g} s:\n{told}")
        await asyncio.sleep(LOOK_S)


def _together(ledger: Ledger, job: Job) -> list[Job]:
    """The jobs that start with one: itself, and while its group has not started all of that."""
    group = ledger.tables.groups.get(job.group_id)
    if group is None or group.admitted:
        return [job]
    jobs = (ledger.tables.jobs[job_id] for job_id in group.job_ids)
    return [each for each in jobs if each.verdict is None and not each.status.finished()]


def _is_above_quota(ledger: Ledger, job: Job) -> bool:
    """Whether a job needs more at once than its user may ever have."""
    standing = ledger.tables.users.get(job.spec.user)
    if standing is None or "cpus" not in standing.quota or job.verdict is not None:
        return False
    group, together = ledger.tables.groups.get(job.group_id), _together(ledger, job)
    cpus = job.spec.resources.cpu * len(job.spec.members(0))
    if group is not None and not group.admitted:
        cpus = sum(each.spec.resources.cpu * each.spec.num_tasks for each in together)
    return cpus > standing.quota["cpus"] and not job.tally.live


def _is_impossible(ledger: Ledger, job: Job) -> bool:
    """Whether no host could ever run a job: it was accepted while none was there to judge by."""
    group = ledger.tables.groups.get(job.group_id)
    together = None
    if group is not None and not group.admitted:
        together = GroupSpec(group.name, group.same_region, group.same_zone)
    specs = tuple(
        replace(each.spec, job_id=f"{each.spec.job_id}-again", parent=None, reservation="")
        for each in _together(ledger, job)
    )
    try:
        ledger.check_feasible(SubmitJobs("again", specs, together))
    except InfeasibleError:
        return True
    return False


__all__ = ["Fleet", "Report", "live"]
