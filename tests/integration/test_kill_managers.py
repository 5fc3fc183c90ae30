"""Work outlives its managers: the controller, an agent, a driver are killed and nothing is lost."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import fray
from fray.actor.options import ActorOptions
from fray.actor.server import FrayActorServer
from fray.cluster import Entrypoint, JobRequest, JobStatus
from fray.cluster.connect import open_cluster
from fray.cluster.control import JobQuery
from fray.cluster.identity import Identity
from fray.errors import ActorDied, ActorNotFoundError, DeathKind
from fray.runtime.clock import SystemClock
from fray.runtime.loopthread import LoopThread
from tests.integration.real_cluster import (
    DEADLINE_S,
    ROOT,
    RealCluster,
    driving,
    is_gone,
    real_cluster,
    until,
)
from tests.integration.victims import Caller, Listener, Victim, tick

if TYPE_CHECKING:
    from fray.cluster.client import AsyncFrayCluster
    from fray.cluster.reports import JobReport
    from fray.ids import JobId

pytestmark = [pytest.mark.integration, pytest.mark.timeout(90)]

RECOVERY_S = 5.0
"""From the start of a controller until it knows again what is where."""

NOBODY_KNOWS_S = 10.0
"""From a death that nobody saw until the calls to the dead have ended."""

LEASE_S = 1.0


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncGenerator[RealCluster]:
    async with real_cluster(tmp_path) as cluster:
        yield cluster


@pytest.fixture
async def connection(cluster: RealCluster) -> AsyncGenerator[AsyncFrayCluster]:
    async with driving(cluster) as connection:
        yield connection


def create(connection: AsyncFrayCluster, cls: type, **options: Any) -> Any:
    return connection.system.create(cls, (), {}, ActorOptions(**options))


class Ticking:
    """A job that writes into a file until it is told to end."""

    def __init__(self, directory: Path) -> None:
        self.ticks = directory / "ticks"
        self.end = directory / "end"
        self.job_id: JobId | None = None

    @property
    def files(self) -> list[str]:
        return [str(self.ticks), str(self.end)]

    async def launch(self, connection: AsyncFrayCluster) -> None:
        entrypoint = Entrypoint.from_callable(tick, args=self.files)
        self.job_id = await connection.launch(JobRequest(name="ticking", entrypoint=entrypoint))
        await self.goes_on()

    def lines(self) -> list[str]:
        return self.ticks.read_text().splitlines() if self.ticks.exists() else []

    async def goes_on(self) -> None:
        seen = len(self.lines())
        await until(lambda: len(self.lines()) > seen + 5, "the job goes on")

    async def finish(self) -> None:
        self.end.touch()
        await until(lambda: self.lines()[-1].endswith("ends"), "the job ends")

    def pids(self) -> set[str]:
        """Of all that ever ran it."""
        return {line.split()[0] for line in self.lines() if line != "."}

    async def report(self, connection: AsyncFrayCluster) -> JobReport:
        assert self.job_id is not None
        return await connection.report(self.job_id)

    async def wait(self, connection: AsyncFrayCluster) -> JobReport:
        assert self.job_id is not None
        async with asyncio.timeout(DEADLINE_S):
            await connection.wait_for(self.job_id)
        return await self.report(connection)


def start_driver(cluster: RealCluster, job: Ticking) -> subprocess.Popen[bytes]:
    where = (cluster.address, str(cluster.home.token_path), str(LEASE_S))
    return subprocess.Popen(
        [sys.executable, "-m", "tests.integration.victims", *where, *job.files],
        env=cluster.environ,
        cwd=ROOT,
        stdout=subprocess.PIPE,
    )


def attempts(report: JobReport) -> list[tuple[int, str]]:
    return [(a.number, a.state) for task in report.tasks for a in task.attempts]


async def grows(count: Any, what: str) -> None:
    seen = await count()
    await until(lambda: _above(count, seen + 5), what)


async def _above(count: Any, number: int) -> bool:
    return await count() > number


# ---- the controller


async def test_work_goes_on_while_the_controller_is_away_and_is_known_again_when_it_is_back(
    cluster: RealCluster, connection: AsyncFrayCluster, tmp_path: Path
):
    listener = Listener()
    server = FrayActorServer(connection.resolver)
    await server.register_async("listener", listener)
    caller = await create(connection, Caller, name="caller")
    calling = caller.call.remote("listener")
    job = Ticking(tmp_path)
    await job.launch(connection)
    await listener.hears_more()
    pid = await caller.pid.remote()

    assert cluster.controller is not None
    cluster.controller.kill()
    for _ in range(3):  # both ways, and beside them the job
        await listener.hears_more()
        await grows(caller.count.remote, "the driver still calls the actor")
        await job.goes_on()

    clock = SystemClock()
    before = clock.monotonic()
    await cluster.start_controller()

    async def known_again() -> bool:
        hosts = await connection.fleet.hosts()
        report = await job.report(connection)
        names = {n for n, _ in await connection.system.directory.list("test")}
        return (
            [h.health for h in hosts] == ["healthy"]
            and report.status is JobStatus.RUNNING
            and {"caller", "listener"} <= names
        )

    await until(known_again, "hosts, jobs and names are known again", RECOVERY_S)
    async with driving(cluster) as stranger:
        found = await stranger.resolver.lookup_async("caller")
        assert await found.pid.remote() == pid
        assert await (await stranger.resolver.lookup_async("listener")).hear.remote() > 0
    assert clock.monotonic() - before < RECOVERY_S
    assert attempts(await job.report(connection)) == [(0, "running")]
    assert not calling.done()
    await job.finish()
    report = await job.wait(connection)
    assert (report.status, attempts(report)) == (JobStatus.SUCCEEDED, [(0, "succeeded")])
    assert len(job.pids()) == 1


async def test_result_of_a_job_that_ends_while_the_controller_is_away_is_not_lost(
    cluster: RealCluster, connection: AsyncFrayCluster, tmp_path: Path
):
    job = Ticking(tmp_path)
    await job.launch(connection)
    doomed = create(connection, Victim)
    pid = await doomed.pid.remote()
    assert cluster.controller is not None
    cluster.controller.kill()
    await job.finish()
    dying = doomed.exit.remote(3)
    with pytest.raises(ActorDied) as told:  # the host's agent knows why
        await asyncio.wait_for(dying, DEADLINE_S)
    assert told.value.cause.exit_code == 3
    await until(lambda: is_gone(pid), "the actor's process is gone")
    await cluster.start_controller()
    report = await job.wait(connection)
    assert (report.status, attempts(report)) == (JobStatus.SUCCEEDED, [(0, "succeeded")])
    with pytest.raises(ActorDied) as told:
        await asyncio.wait_for(doomed.pid.remote(), DEADLINE_S)
    assert (told.value.cause.kind, told.value.cause.exit_code) == (DeathKind.APP_ERROR, 3)


async def test_what_is_asked_while_the_controller_is_away_is_done_once_when_it_is_back(
    cluster: RealCluster, connection: AsyncFrayCluster, tmp_path: Path
):
    assert cluster.controller is not None
    cluster.controller.kill()
    job = Ticking(tmp_path)
    async with asyncio.TaskGroup() as group:
        launching = group.create_task(job.launch(connection))
        actor = create(connection, Victim, name="late")
        answer = group.create_task(asyncio.wait_for(actor.pid.remote(), DEADLINE_S))
        await cluster.start_controller()
    assert launching.done()
    assert not is_gone(answer.result())
    await job.finish()
    assert attempts(await job.wait(connection)) == [(0, "succeeded")]
    assert sorted(r.name for r in await connection.jobs.list(JobQuery())) == ["late", "ticking"]


async def test_controller_and_agent_that_die_together_lose_nothing(
    cluster: RealCluster, connection: AsyncFrayCluster, tmp_path: Path
):
    job = Ticking(tmp_path)
    await job.launch(connection)
    actor = await create(connection, Victim, name="survivor")
    pid = await actor.pid.remote()
    assert cluster.controller is not None
    for daemon in (cluster.controller, cluster.agents["w1"]):
        daemon.kill()
    await job.goes_on()
    assert await actor.pid.remote() == pid
    await cluster.start_controller()
    await cluster.start_agent()
    await job.finish()
    report = await job.wait(connection)
    assert (report.status, attempts(report)) == (JobStatus.SUCCEEDED, [(0, "succeeded")])
    async with driving(cluster) as stranger:
        assert await (await stranger.resolver.lookup_async("survivor")).pid.remote() == pid


# ---- the agent


async def test_restarted_agent_adopts_what_runs_and_tells_its_result_once(
    cluster: RealCluster, connection: AsyncFrayCluster, tmp_path: Path
):
    job = Ticking(tmp_path)
    await job.launch(connection)
    actor = await create(connection, Victim, name="adopted", max_restarts=1)
    pid = await actor.pid.remote()
    cluster.agents["w1"].kill()
    await job.goes_on()
    assert await actor.pid.remote() == pid
    await cluster.start_agent()
    await job.goes_on()
    assert attempts(await job.report(connection)) == [(0, "running")]
    assert await actor.pid.remote() == pid
    await job.finish()
    report = await job.wait(connection)
    assert (report.status, attempts(report)) == (JobStatus.SUCCEEDED, [(0, "succeeded")])
    assert len(job.pids()) == 1
    # The new agent also tells why an actor died that its predecessor had started.
    waiting = actor.wait.remote()
    await actor.add.remote()
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(ActorDied) as told:
        await asyncio.wait_for(waiting, 2.0)
    assert told.value.cause.signal == signal.SIGKILL
    assert await asyncio.wait_for(actor.pid.remote(), DEADLINE_S) != pid


async def test_host_of_a_name_that_is_taken_is_refused_and_what_runs_there_goes_on(
    cluster: RealCluster, connection: AsyncFrayCluster, tmp_path: Path
):
    job = Ticking(tmp_path)
    await job.launch(connection)
    other = cluster.spawn(
        "fray.cluster.worker.main",
        *("--join", cluster.address, "--name", "w1"),
        *("--token-file", str(cluster.keyring.worker_token_path("w1"))),
        *("--home", str(tmp_path / "elsewhere")),
        log="worker-elsewhere",
    )
    await until(lambda: other.process.poll() is not None, "the other host's agent ends")
    assert other.process.returncode == 1
    last = other.log.read_text().splitlines()[-1]
    assert "CRITICAL" in last
    assert "host w1 is already here, at 127.0.0.1:" in last
    assert "give this one another --name" in last
    await job.finish()
    report = await job.wait(connection)
    assert (report.status, attempts(report)) == (JobStatus.SUCCEEDED, [(0, "succeeded")])
    assert "ending all tasks" not in cluster.agents["w1"].log.read_text()


async def test_result_of_a_job_that_ends_without_an_agent_is_told_by_the_next_one(
    cluster: RealCluster, connection: AsyncFrayCluster, tmp_path: Path
):
    job = Ticking(tmp_path)
    await job.launch(connection)
    cluster.agents["w1"].kill()
    await job.finish()
    await cluster.start_agent()
    report = await job.wait(connection)
    assert (report.status, attempts(report)) == (JobStatus.SUCCEEDED, [(0, "succeeded")])
    assert len(job.pids()) == 1


async def test_an_agent_whose_state_folder_is_gone_says_so_and_ends_with_its_tasks(tmp_path: Path):
    async with real_cluster(tmp_path, lease_s=12.0) as cluster, driving(cluster) as connection:
        job, agent = Ticking(tmp_path), cluster.agents["w1"]
        await job.launch(connection)
        shutil.rmtree(cluster.home.path / "workers" / "w1")
        assert await asyncio.to_thread(agent.process.wait, DEADLINE_S) == 1
        told = agent.log.read_text()
        assert "workers/w1 of host w1 is gone" in told
        assert "Traceback" not in told, told
        assert all(is_gone(int(pid)) for pid in job.pids())
        await cluster.start_agent()
        await job.goes_on()  # its next attempt
        await job.finish()
        assert (await job.wait(connection)).status is JobStatus.SUCCEEDED


async def test_call_to_an_actor_that_dies_without_an_agent_still_ends(
    cluster: RealCluster, connection: AsyncFrayCluster
):
    actor = create(connection, Victim, max_restarts=1)
    pid = await actor.pid.remote()
    waiting = actor.wait.remote()
    await actor.add.remote()
    cluster.agents["w1"].kill()
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(fray.CallError) as told:  # nobody can know why
        await asyncio.wait_for(waiting, NOBODY_KNOWS_S)
    assert isinstance(told.value, fray.ActorUnavailable)
    next_one = actor.pid.remote()  # waits for the restart
    await cluster.start_agent()
    assert await asyncio.wait_for(next_one, DEADLINE_S) != pid


# ---- the driver


async def test_actors_of_a_killed_driver_end_and_all_else_of_it_goes_on(
    cluster: RealCluster, connection: AsyncFrayCluster, tmp_path: Path
):
    job = Ticking(tmp_path)
    driver = start_driver(cluster, job)
    try:
        assert driver.stdout is not None
        line = await asyncio.to_thread(driver.stdout.readline)
        mine, theirs, job_id = line.split()
    finally:
        driver.kill()
        driver.communicate()  # closes the pipe too
    job.job_id = job_id.decode()  # pyright: ignore
    took_s = await until(lambda: is_gone(int(mine)), "the driver's own actor has ended")
    assert took_s < LEASE_S + 5.0
    await job.goes_on()
    found = await connection.resolver.lookup_async("theirs")
    assert await found.pid.remote() == int(theirs)
    with pytest.raises(ActorNotFoundError):
        await connection.resolver.lookup_async("mine")
    assert not is_gone(int(theirs))
    await job.finish()
    assert (await job.wait(connection)).status is JobStatus.SUCCEEDED
    await found.stop()
    await until(lambda: is_gone(int(theirs)), "the detached actor was stopped")


async def test_driver_whose_loop_is_busy_keeps_its_actors(cluster: RealCluster):
    clock = SystemClock()

    async def compute_on_the_loop() -> None:
        begin = clock.monotonic()
        while clock.monotonic() - begin < 4 * LEASE_S:
            hashlib.sha256(bytes(1 << 20))

    thread = LoopThread("busy driver")
    thread.start()
    try:
        me = Identity("tester", "test", session_id="d-busy")
        other = await thread.run_async(
            lambda: open_cluster(cluster.address, cluster.token, me, session_ttl_s=LEASE_S)
        )
        try:
            pid = await create(other, Victim).pid.remote()
            await thread.run_async(compute_on_the_loop)
            assert not is_gone(pid)
        finally:
            await thread.run_async(other.close)
        await until(lambda: is_gone(pid), "the actor has ended with its driver's connection")
    finally:
        await asyncio.to_thread(thread.stop)


async def test_actor_whose_loop_is_busy_keeps_its_names(connection: AsyncFrayCluster):
    actor = create(connection, Victim)
    await actor.register.remote("brief", 2)
    clock = SystemClock()
    begin = clock.monotonic()
    computing = actor.compute_on_the_loop.remote(5.0)
    await until(lambda: clock.monotonic() - begin > 4.0, "its lease would have lapsed")
    assert [name for name, _ in await connection.system.directory.list("test")] == ["brief"]
    assert not computing.done()
    await computing
