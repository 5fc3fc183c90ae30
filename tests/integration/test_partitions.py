"""Hosts that are cut off, stand still, or lose a process, in a cluster over a real network."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from fray.errors import ActorDied, CallError, DeathKind, Started
from fray.runtime.calls import OutgoingCall
from fray.runtime.clock import SystemClock
from tests.integration import netns
from tests.integration.real_cluster import DEADLINE_S, is_gone, outcome, until
from tests.integration.sites import END_S, SLACK_S, TIMES, Actor, Site, all_healthy

if TYPE_CHECKING:
    from pathlib import Path

    from fray.actor.directory import Endpoint
    from fray.cluster.client import AsyncFrayCluster
    from fray.runtime.payload import Payload
    from tests.integration.netns import Host

pytestmark = [
    pytest.mark.integration,
    pytest.mark.timeout(120),
    pytest.mark.skipif(
        (why := netns.unavailable()) is not None, reason=why or "there are network namespaces"
    ),
]


class Answer:
    """Takes the outcome of a call that went to an endpoint itself, past all that knows better."""

    def __init__(self) -> None:
        self.outcomes: list[Any] = []
        self.settled = asyncio.Event()

    def settle(self, outcome: Any) -> None:
        self.outcomes.append(outcome)
        self.settled.set()

    on_result = on_error = on_failure = settle

    def on_item(self, payload: Payload) -> None:
        raise AssertionError("no stream was asked for")

    def on_end(self) -> None:
        raise AssertionError("no stream was asked for")


async def call_directly(actor: Actor, endpoint: Endpoint) -> Any:
    answer = Answer()
    call = OutgoingCall("pid", actor.handle.route.encode("pid", (), {}), answer)
    process = actor.connection.system.process
    process.send(endpoint.process_id, endpoint.address, endpoint.target, call)
    async with asyncio.timeout(DEADLINE_S):
        await answer.settled.wait()
    [only] = answer.outcomes
    return only


@contextmanager
def standing_still(*pids: int) -> Generator[None]:
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


async def lasts(seconds: float) -> None:
    """That something does *not* happen has no condition to wait for, but an age."""
    clock = SystemClock()
    end = clock.monotonic() + seconds
    await until(lambda: clock.monotonic() > end, "time passes")


async def check_succeeded_elsewhere(actor: Actor, host: Host, pid: int) -> None:
    """The actor lives on another host; its old handle and its name lead there."""
    async with asyncio.timeout(DEADLINE_S):
        successor = await actor.handle.pid.remote()
    assert successor != pid
    assert (await actor.host()) is not host
    found: Any = await actor.connection.resolver.lookup_async(actor.name)
    assert await found.pid.remote() == successor
    assert actor.record.pids() == [pid, successor]


async def check_is_back(actor: Actor, host: Host, boot: str, old: Endpoint) -> None:
    """The host works again in another life, in which nothing answers for what was there before."""
    await until(lambda: all_healthy(actor.connection), "the host is back")
    assert actor.site.boot_of(host) != boot
    told = await call_directly(actor, old)
    assert isinstance(told, CallError), told
    assert told.started is Started.NO
    found: Any = await actor.connection.resolver.lookup_async(actor.name)
    assert await found.pid.remote() == actor.record.pids()[-1]
    assert len(actor.record.pids()) == 2


def check_host_was_lost(exc: Any, host: Host) -> None:
    assert isinstance(exc, ActorDied), repr(exc)
    assert exc.cause.kind is DeathKind.HOST_LOST
    assert exc.cause.host == host.name
    assert host.name in str(exc)
    assert exc.started is Started.UNKNOWN


# ---- hosts that are cut off


async def test_a_host_that_cannot_hear_the_controller_ends_its_tasks_before_others_get_them(
    site: Site, actor: Actor
):
    pid = await actor.handle.pid.remote()
    host, old = await actor.host(), await actor.endpoint()
    boot = site.boot_of(host)
    waiting = actor.handle.hold.remote(1)
    await actor.handle.pid.remote()
    with site.net.parted(host, site.controller):
        took_s = await until(lambda: is_gone(pid), "the host has ended its task")
        assert TIMES.lease_s - 2.0 < took_s < TIMES.lost_s
        # The host is in reach of its caller, and says itself what it did.
        async with asyncio.timeout(END_S):
            check_host_was_lost(await outcome(waiting), host)
        await check_succeeded_elsewhere(actor, host, pid)
    actor.record.check_one_at_a_time()
    await check_is_back(actor, host, boot, old)
    assert actor.record.numbers() == [1]


async def test_calls_to_a_host_that_is_cut_off_end_when_it_is_given_up(site: Site, actor: Actor):
    pid = await actor.handle.pid.remote()
    host, old = await actor.host(), await actor.endpoint()
    boot = site.boot_of(host)
    waiting = [actor.handle.hold.remote(number) for number in range(10)]
    await actor.handle.pid.remote()
    site.net.isolate(host)
    async with asyncio.timeout(TIMES.lost_s + SLACK_S):
        for exc in await asyncio.gather(*map(outcome, waiting)):
            check_host_was_lost(exc, host)
    assert is_gone(pid)
    await check_succeeded_elsewhere(actor, host, pid)
    actor.record.check_one_at_a_time()
    site.net.heal()
    await check_is_back(actor, host, boot, old)
    assert sorted(actor.record.numbers()) == list(range(10))


async def test_a_host_that_stood_still_for_too_long_answers_for_nothing_that_it_wakes_up_with(
    site: Site, actor: Actor
):
    pid = await actor.handle.pid.remote()
    host, old = await actor.host(), await actor.endpoint()
    boot = site.boot_of(host)
    waiting = actor.handle.hold.remote(1)
    await actor.handle.pid.remote()
    with host.frozen():
        async with asyncio.timeout(TIMES.lost_s + SLACK_S):
            check_host_was_lost(await outcome(waiting), host)
        await check_succeeded_elsewhere(actor, host, pid)
        assert not is_gone(pid)  # it sleeps
    # From its first moment on nobody is led to what wakes up there, until that has been ended.
    while not is_gone(pid):
        found: Any = await actor.connection.resolver.lookup_async(actor.name)
        assert await found.pid.remote() == actor.record.pids()[-1]
    await check_is_back(actor, host, boot, old)
    assert actor.record.numbers() == [1]


# ---- processes that stand still


async def test_an_actor_that_stands_still_for_longer_than_a_lease_is_nobodys_dead(
    site: Site, actor: Actor
):
    pid = await actor.handle.pid.remote()
    host = await actor.host()
    with standing_still(pid):
        calls = [actor.handle.note.remote(number) for number in range(10)]
        await lasts(TIMES.lease_s + 1.0)
        assert not any(call.done() for call in calls)
        assert await actor.attempts() == [(host.name, "running")]
        assert await all_healthy(actor.connection)
    async with asyncio.timeout(END_S):
        assert await asyncio.gather(*calls) == list(range(10))
    assert actor.record.numbers() == list(range(10))
    assert actor.record.pids() == [pid]


async def test_an_agent_that_stands_still_for_a_while_and_a_controller_that_does_disturb_nobody(
    site: Site, actor: Actor
):
    pid = await actor.handle.pid.remote()
    host = await actor.host()
    assert site.cluster.controller is not None
    for stopped in (site.agent_pid(host), site.cluster.controller.pid):
        await site.until_renewed(host)  # or what is left of it is less than this takes
        with standing_still(stopped):
            clock = SystemClock()
            end = clock.monotonic() + TIMES.lease_s / 3  # twice, and that is no lease yet
            while clock.monotonic() < end:  # nothing of a call needs either of them
                assert await actor.handle.pid.remote() == pid
        await until(lambda: all_healthy(actor.connection), "nobody is doubted any more")
    assert await actor.attempts() == [(host.name, "running")]
    assert await (await actor.connection.resolver.lookup_async(actor.name)).pid.remote() == pid


async def test_tasks_of_an_agent_that_stands_still_for_too_long_end_before_others_get_them(
    site: Site, actor: Actor
):
    pid = await actor.handle.pid.remote()
    host, old = await actor.host(), await actor.endpoint()
    boot = site.boot_of(host)
    waiting = actor.handle.hold.remote(1)
    await actor.handle.pid.remote()
    with standing_still(site.agent_pid(host)):
        took_s = await until(lambda: is_gone(pid), "its supervisor has ended the task")
        assert TIMES.lease_s - 2.0 < took_s < TIMES.lost_s
        async with asyncio.timeout(TIMES.lost_s + SLACK_S):
            exc = await outcome(waiting)
            assert isinstance(exc, CallError), repr(exc)
            assert exc.started is Started.UNKNOWN
        await check_succeeded_elsewhere(actor, host, pid)
    actor.record.check_one_at_a_time()
    await check_is_back(actor, host, boot, old)
    assert actor.record.numbers() == [1]


# ---- processes that die


async def test_a_hundred_calls_to_a_killed_process_on_another_host_end_with_the_signal(
    site: Site, driver: AsyncFrayCluster, tmp_path: Path
):
    actor = Actor(site, driver, tmp_path / "witness")
    pid = await actor.handle.pid.remote()
    host = await actor.host()
    calls = [actor.handle.hold.remote(number) for number in range(100)]
    await actor.handle.beat.remote()
    os.kill(pid, signal.SIGKILL)
    async with asyncio.timeout(END_S):
        for exc in await asyncio.gather(*map(outcome, calls)):
            assert isinstance(exc, ActorDied), repr(exc)
            assert (exc.cause.kind, exc.cause.signal) == (DeathKind.SIGNAL, signal.SIGKILL)
            assert exc.cause.host == host.name
            assert "SIGKILL" in str(exc)
    assert actor.record.numbers() == list(range(100))
