"""What becomes of calls when the process of an actor dies: they end, soon, and say why."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
from collections.abc import AsyncGenerator, Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import fray
from fray.actor.options import ActorOptions
from fray.cluster.control import JobQuery
from fray.cluster.worker.shim.cgroups import usable_parent
from fray.errors import ActorDied, ActorNotFoundError, DeathKind, Started
from fray.runtime.clock import SystemClock
from tests.cluster.worker.subprocess_harness import container
from tests.integration.real_cluster import (
    RealCluster,
    driving,
    is_gone,
    outcome,
    until,
)
from tests.integration.victims import Victim

if TYPE_CHECKING:
    from fray.cluster.client import AsyncFrayCluster

pytestmark = [pytest.mark.integration, pytest.mark.timeout(90)]

END_S = 2.0
"""From a death until every call to the dead has ended."""


async def begin(cluster: RealCluster) -> None:
    """Starts all that stays until the last test is done, an agent's fork server among it."""
    await cluster.start()
    async with driving(cluster) as connection:
        await victim(connection)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Generator[RealCluster]:
    """One for all tests here: none of them touches its daemons."""
    cluster = RealCluster(tmp_path_factory.mktemp("cluster"))
    try:
        asyncio.run(begin(cluster))
        yield cluster
    finally:
        cluster.close()


@pytest.fixture
async def connection(cluster: RealCluster) -> AsyncGenerator[AsyncFrayCluster]:
    async with driving(cluster) as connection:
        yield connection


def victim(connection: AsyncFrayCluster, **options: Any) -> Any:
    # A test and its fixtures have different context variables.
    return connection.system.create(Victim, (), {}, ActorOptions(**options))


class InFlight:
    """A call of every kind: running, waiting for its turn, streaming."""

    def __init__(self, actor: Any) -> None:
        self.actor = actor
        self.streams = [aiter(actor.stream.remote(5)), aiter(actor.stream_plainly.remote(5))]
        self.calls = [
            actor.wait.remote(),
            actor.wait.options(timeout=60).remote(),
            actor.block.remote(),
            *[actor.pid.remote() for _ in range(100)],  # behind the one that blocks
        ]

    async def begun(self) -> None:
        """All that was sent before this call has arrived, and the streams have begun."""
        await self.actor.add.remote()
        for stream in self.streams:
            assert [await anext(stream) for _ in range(5)] == list(range(5))

    async def outcomes(self) -> list[Any]:
        pending = [*self.calls, *[anext(stream) for stream in self.streams]]
        async with asyncio.timeout(END_S):
            return await asyncio.gather(*[outcome(call) for call in pending])


def check_cause(exc: Any, kind: DeathKind, **facts: Any) -> None:
    assert isinstance(exc, ActorDied), repr(exc)
    assert exc.cause.kind is kind
    assert exc.cause.host == "w1"
    assert {name: getattr(exc.cause, name) for name in facts} == facts


async def test_every_call_in_flight_to_a_killed_process_ends_with_the_signal(
    connection: AsyncFrayCluster,
):
    actor = victim(connection)
    pid = await actor.pid.remote()
    calls = InFlight(actor)
    await calls.begun()
    os.kill(pid, signal.SIGKILL)
    for exc in await calls.outcomes():
        check_cause(exc, DeathKind.SIGNAL, signal=signal.SIGKILL)
    later = await outcome(actor.pid.remote())
    check_cause(later, DeathKind.SIGNAL, signal=signal.SIGKILL)
    assert later.started is Started.NO


async def test_every_call_in_flight_to_a_process_that_exits_ends_with_its_code(
    connection: AsyncFrayCluster,
):
    actor = victim(connection)
    calls = InFlight(actor)
    await calls.begun()
    calls.calls.append(actor.exit.remote(3))
    for exc in await calls.outcomes():
        check_cause(exc, DeathKind.APP_ERROR, exit_code=3)


async def test_every_call_in_flight_ends_although_the_dead_process_leaves_a_child_behind(
    connection: AsyncFrayCluster,
):
    actor = victim(connection)
    pid = await actor.pid.remote()
    child = await actor.start_child.remote(stubborn=True)
    calls = InFlight(actor)
    await calls.begun()
    os.kill(pid, signal.SIGSEGV)
    for exc in await calls.outcomes():
        check_cause(exc, DeathKind.SIGNAL, signal=signal.SIGSEGV)
    assert is_gone(child)


@pytest.fixture
def young_heap() -> Generator[None]:
    """The collector looks at what this test makes, not at all that a suite has left behind."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.mark.usefixtures("young_heap")
async def test_ten_thousand_calls_to_a_killed_process_end_as_soon(connection: AsyncFrayCluster):
    actor = victim(connection)
    pid = await actor.pid.remote()
    calls = [actor.wait.remote() for _ in range(10_000)]
    await actor.add.remote()
    os.kill(pid, signal.SIGKILL)
    async with asyncio.timeout(END_S):
        for exc in await asyncio.gather(*[outcome(call) for call in calls]):
            check_cause(exc, DeathKind.SIGNAL, signal=signal.SIGKILL)


async def test_process_killed_for_want_of_memory_is_told_from_one_that_somebody_killed(
    tmp_path: Path,
):
    parent = usable_parent()
    if parent is None:
        pytest.skip("no writable memory cgroup")
    group = container(parent, 512 << 20)
    cluster = RealCluster(tmp_path)
    try:
        await cluster.start_controller()
        await cluster.start_agent(group=group)
        async with driving(cluster) as connection:
            actor = victim(connection)
            calls = InFlight(actor)
            await calls.begun()
            eating = actor.eat_memory.remote()
            await asyncio.wait([asyncio.ensure_future(outcome(eating))])
            calls.calls.append(eating)
            for exc in await calls.outcomes():
                check_cause(exc, DeathKind.OUT_OF_MEMORY, signal=signal.SIGKILL)
    finally:
        await asyncio.to_thread(cluster.close)
        await until(group.remove, "the memory group is empty")


async def test_restarted_actor_is_found_by_its_old_handle_and_its_name(
    connection: AsyncFrayCluster,
):
    actor = await victim(connection, name="phoenix", max_restarts=2)
    by_name = await connection.resolver.lookup_async("phoenix")
    pids = [await actor.pid.remote()]
    clock = SystemClock()
    for _ in range(2):
        calls = InFlight(actor)
        await calls.begun()
        assert await by_name.add.remote() == 2  # what it knew has gone with its process
        before = clock.monotonic()
        os.kill(pids[-1], signal.SIGKILL)
        for exc in await calls.outcomes():
            check_cause(exc, DeathKind.SIGNAL, signal=signal.SIGKILL)
        assert clock.monotonic() - before < END_S
        pids.append(await actor.pid.remote())
        assert await by_name.pid.remote() == pids[-1]
    assert len(set(pids)) == 3
    last = actor.wait.remote()
    await actor.add.remote()
    os.kill(pids[-1], signal.SIGKILL)
    check_cause(await outcome(last), DeathKind.SIGNAL, signal=9)
    check_cause(await outcome(actor.pid.remote()), DeathKind.RESTART_LIMIT, signal=9)
    assert isinstance(await outcome(by_name.pid.remote()), ActorNotFoundError)


async def test_call_that_is_safe_to_repeat_survives_its_actor(connection: AsyncFrayCluster):
    actor = victim(connection, max_restarts=1)
    pid = await actor.pid.remote()
    blocking = actor.block.remote()
    waiting = actor.pid.options(retries=1).remote()
    await actor.add.remote()
    os.kill(pid, signal.SIGKILL)
    check_cause(await outcome(blocking), DeathKind.SIGNAL, signal=9)
    assert await waiting != pid


async def test_stopped_process_is_nobodys_dead(connection: AsyncFrayCluster):
    actor = victim(connection, name="sleeper")
    pid = await actor.pid.remote()
    os.kill(pid, signal.SIGSTOP)
    try:
        calls = [actor.pid.remote() for _ in range(10)]
        stranger = await connection.resolver.lookup_async("sleeper")
        calls.append(stranger.pid.remote())
        with pytest.raises(fray.DeadlineExceeded):
            await actor.pid.options(timeout=3).remote()
        assert not any(call.done() for call in calls)
        assert [h.health for h in await connection.fleet.hosts()] == ["healthy"]
        [report] = [r for r in await connection.jobs.list(JobQuery()) if r.name == "sleeper"]
        assert report.status == "running"
    finally:
        os.kill(pid, signal.SIGCONT)
    async with asyncio.timeout(END_S):
        assert await asyncio.gather(*calls) == [pid] * 11
