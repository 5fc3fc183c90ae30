"""What an agent makes of its orders, of a controller that is away, and of a life that is over."""

from __future__ import annotations

import asyncio
import errno
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fray.actor.system import ActorSystem
from fray.cluster.blobs import digest_of
from fray.cluster.connect import make_process
from fray.cluster.control import ClusterFacts
from fray.cluster.controller.commands import StopJob, SubmitJobs
from fray.cluster.controller.journal import MemoryStore
from fray.cluster.controller.specs import JobSpec, Program, WorkerSpec
from fray.cluster.controller.tree import Controller
from fray.cluster.types import JobStatus
from fray.cluster.worker.agent import Agent
from fray.cluster.worker.hosts import host_resources
from fray.cluster.worker.launcher import Exit, Launcher, LaunchSpec, Running, Usage
from fray.cluster.worker.service import serve_agent
from fray.errors import ClusterUnavailable, DeathCause, DeathKind
from fray.ids import AttemptId, JobId, Namespace, WorkerId

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from fray.runtime.process import Process


class Puppet(Running):
    """An attempt that ends when the test says so."""

    def __init__(self, attempt_id: AttemptId) -> None:
        self._attempt_id = attempt_id
        self.stops: list[float | None] = []
        self._ended: asyncio.Future[Exit] = asyncio.get_running_loop().create_future()

    attempt_id = property(lambda self: self._attempt_id)
    pid = property(lambda self: 1)
    started_at = property(lambda self: 0.0)
    exit = property(lambda self: self._ended.result() if self._ended.done() else None)

    async def wait(self) -> Exit:
        return await asyncio.shield(self._ended)

    async def stop(self, grace_s: float | None = None) -> Exit:
        self.stops.append(grace_s)
        return await self.wait()

    async def kill(self) -> Exit:
        return await self.stop(0.0)

    def usage(self) -> Usage:
        return Usage(0.0, 0, 1)

    def end(self, cause: DeathCause | None = None) -> None:
        self._ended.set_result(
            Exit(
                attempt_id=self._attempt_id,
                exit_code=None,
                signal=None,
                out_of_memory=False,
                cause=cause,
            )
        )


class Puppets(Launcher):
    """A launcher of puppets. While its gate is closed, launching takes for ever."""

    limits_memory = False

    def __init__(self) -> None:
        self.launched: list[Puppet] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.failures: list[Exception] = []
        self.end_at_once = False
        self.forgotten: list[AttemptId] = []
        self.keeps: OSError | None = None

    async def launch(self, spec: LaunchSpec) -> Running:
        await self.gate.wait()
        if self.failures:
            raise self.failures.pop()
        puppet = Puppet(spec.attempt_id)
        self.launched.append(puppet)
        if self.end_at_once:
            puppet.end()
        return puppet

    async def adopt(self) -> list[Running]:
        return []

    async def forget(self, attempt_id: AttemptId) -> None:
        self.forgotten.append(attempt_id)
        if self.keeps is not None:
            raise self.keeps

    async def close(self, kill: bool) -> None:
        pass


class World:
    """A controller and an agent, in one loop."""

    def __init__(self, process: Process, home: Path) -> None:
        self.process = process
        self.home = home
        self.launcher = Puppets()
        self.controller: Controller
        self.agent: Agent

    async def start_controller(self) -> None:
        facts = ClusterFacts("test", local=False)
        self.controller = Controller(
            self.process, MemoryStore(), self.home / "controller-blobs", facts
        )
        await self.controller.start()

    async def submit(self, name: str, program: Program | None = None) -> JobId:
        spec = JobSpec(
            job_id=JobId(f"me/{name}"),
            name=name,
            user="me",
            namespace=Namespace("n"),
            program=program or Program(command=("true",)),
        )
        await self.controller.book.commit(SubmitJobs(f"s-{name}", (spec,)))
        return spec.job_id

    async def stop(self, job_id: JobId, grace_s: float) -> None:
        await self.controller.book.commit(StopJob(job_id, "enough", grace_s))

    def status(self, job_id: JobId) -> JobStatus:
        return self.controller.book.ledger.job(job_id).status


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with AsyncExitStack() as stack:
        process = await stack.enter_async_context(make_process("token", label="controller"))
        world = World(process, tmp_path)
        await world.start_controller()
        stack.push_async_callback(lambda: world.controller.close())
        own = await stack.enter_async_context(make_process("token", label="agent"))
        system = ActorSystem(own, None, namespace="")
        stack.callback(system.close)
        world.agent = Agent(
            system,
            WorkerSpec(WorkerId("w"), own.address, host_resources('{"cpu": 4}').capacity),
            "boot",
            controller=process.address,
            launcher=world.launcher,
            home=tmp_path,
            token_file="",
        )
        await serve_agent(own, world.agent)
        stack.push_async_callback(lambda: world.agent.close(kill=True))
        await world.agent.ready()
        yield world


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(15):
        while not condition():
            await asyncio.sleep(0.005)


async def test_an_attempt_is_told_to_stop_once_however_often_the_order_comes(world: World) -> None:
    job_id = await world.submit("a")
    await until(lambda: bool(world.launcher.launched))
    (puppet,) = world.launcher.launched
    await world.stop(job_id, 30.0)
    await until(lambda: bool(puppet.stops))
    reports = world.controller.book.ledger.revision
    await world.submit("b")  # changes the set, so that the order is repeated
    await until(lambda: len(world.launcher.launched) == 2)
    assert world.controller.book.ledger.revision > reports
    assert puppet.stops == [30.0]
    await world.stop(job_id, 0.0)  # but it can be hastened
    await until(lambda: puppet.stops == [30.0, 0.0])
    puppet.end()
    await until(lambda: world.status(job_id) is JobStatus.STOPPED)


async def test_an_attempt_that_is_stopped_while_it_starts_has_its_grace_all_the_same(
    world: World,
) -> None:
    world.launcher.gate.clear()
    job_id = await world.submit("a")
    await until(lambda: bool(world.agent.roster.attempts))
    await world.stop(job_id, 30.0)
    await until(lambda: all(a.stopping for a in world.agent.roster.attempts.values()))
    world.launcher.gate.set()
    await until(lambda: bool(world.launcher.launched and world.launcher.launched[0].stops))
    (grace_s,) = world.launcher.launched[0].stops
    assert 15.0 < (grace_s or 0.0) <= 30.0
    world.launcher.launched[0].end()
    await until(lambda: world.status(job_id) is JobStatus.STOPPED)


async def test_a_controller_that_lost_its_journal_is_obeyed(world: World) -> None:
    for name in ("a", "b", "c"):
        await world.submit(name)
    await until(lambda: len(world.launcher.launched) == 3)
    await world.controller.close()
    await world.start_controller()
    await world.submit("d")
    await until(lambda: len(world.launcher.launched) == 4)
    await until(lambda: all(puppet.stops for puppet in world.launcher.launched[:3]))


async def test_a_host_begins_a_new_life_only_when_nothing_of_the_earlier_one_runs(
    world: World,
) -> None:
    job_id = await world.submit("a")
    await until(lambda: bool(world.launcher.launched))
    (puppet,) = world.launcher.launched
    await until(lambda: world.status(job_id) is JobStatus.RUNNING)
    world.agent._fence("a test says so")
    world.agent._changed.set()  # its next report, in the new life's name, is refused
    await until(lambda: puppet.stops == [0.0])
    await world.submit("b")
    workers = world.controller.book.ledger.tables.workers
    assert workers[WorkerId("w")].boot_id == "boot"
    puppet.end(DeathCause(DeathKind.SIGNAL, "killed"))
    await until(lambda: workers_boot(world) != "boot")


def workers_boot(world: World) -> str:
    return world.controller.book.ledger.tables.workers[WorkerId("w")].boot_id


class AwayOnce:
    """The controller's blobs, of a controller that is away at the first question."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.asked = 0

    async def get(self, digest: str) -> bytes:
        self.asked += 1
        if self.asked == 1:
            raise ClusterUnavailable("nobody answers")
        return self.data


async def test_a_job_does_not_fail_because_the_controller_was_away_when_its_code_was_fetched(
    world: World,
) -> None:
    blobs = world.agent.roster._blobs = AwayOnce(b"code")
    job_id = await world.submit("a", Program(blob=digest_of(b"code")))
    await until(lambda: bool(world.launcher.launched))
    assert blobs.asked == 2
    world.launcher.launched[0].end()
    await until(lambda: world.status(job_id) is JobStatus.SUCCEEDED)


@pytest.mark.parametrize(("number", "by_host"), [(errno.ENOSPC, True), (errno.ENOENT, False)])
async def test_a_full_disk_is_the_hosts_fault_and_a_missing_program_the_jobs(
    world: World, number: int, by_host: bool
) -> None:
    world.launcher.failures.append(OSError(number, "no"))
    job_id = await world.submit("a")
    task = world.controller.book.ledger.tasks
    await until(lambda: bool(task(job_id)[0].history))
    assert (task(job_id)[0].failures == 0) is by_host
    assert (world.status(job_id) is JobStatus.FAILED) is not by_host


async def test_a_job_at_which_the_agent_itself_fails_takes_no_other_along(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.launcher.failures.append(KeyError("actor"))
    odd = await world.submit("odd")
    await until(lambda: world.status(odd) is JobStatus.FAILED)
    assert "KeyError: 'actor'" in world.controller.book.ledger.job(odd).error_message
    assert f"{odd}/0#0 could not be started" in caplog.text
    assert not world.agent.failed.done()
    other = await world.submit("other")
    await until(lambda: bool(world.launcher.launched))
    world.launcher.launched[0].end()
    await until(lambda: world.status(other) is JobStatus.SUCCEEDED)


async def test_what_an_attempt_has_left_and_cannot_be_removed_ends_no_agent(world: World) -> None:
    world.launcher.keeps = OSError(errno.ENOTEMPTY, "a process of it still writes there")
    world.launcher.end_at_once = True
    for name in ("first", "second"):
        job_id = await world.submit(name)
        await until(lambda job_id=job_id: world.status(job_id) is JobStatus.SUCCEEDED)
    await until(lambda: len(world.launcher.forgotten) == 2)
    assert not world.agent.failed.done()


async def test_an_end_that_cannot_be_reported_fails_its_attempt_and_no_other(world: World) -> None:
    odd, other = await world.submit("odd"), await world.submit("other")
    await until(lambda: len(world.launcher.launched) == 2)
    by_job = {puppet.attempt_id.partition("#")[0]: puppet for puppet in world.launcher.launched}
    (odd_puppet,) = (p for name, p in by_job.items() if name.startswith(odd))
    (other_puppet,) = (p for name, p in by_job.items() if name.startswith(other))
    odd_puppet.end(DeathCause(DeathKind.APP_ERROR, "an odd code", exit_code=1 << 70))
    await until(lambda: world.status(odd) is JobStatus.FAILED)
    assert "cannot be reported" in world.controller.book.ledger.job(odd).error_message
    other_puppet.end()
    await until(lambda: world.status(other) is JobStatus.SUCCEEDED)


async def test_a_job_that_is_over_before_it_was_told_to_run_has_begun(world: World) -> None:
    world.launcher.end_at_once = True
    job_id = await world.submit("fast")
    await until(lambda: world.status(job_id) is JobStatus.SUCCEEDED)
    job = world.controller.book.ledger.job(job_id)
    assert job.started_at is not None
    assert job.ended_at is not None
    assert job.submitted_at <= job.started_at <= job.ended_at


async def test_nothing_is_started_that_could_not_see_the_lease(world: World) -> None:
    lease = world.home / "lease"
    lease.unlink()
    lease.mkdir()
    world.agent._lease.renew(world.process.clock.monotonic() + 1.0)
    job_id = await world.submit("a")
    task = world.controller.book.ledger.tasks
    await until(lambda: bool(task(job_id)[0].history))
    assert "the host's lease cannot be written: Is a directory" in (task(job_id)[0].error or "")
    assert task(job_id)[0].failures == 0  # it is the host's fault
    assert not world.launcher.launched
