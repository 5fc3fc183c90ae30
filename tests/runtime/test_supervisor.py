from __future__ import annotations

import asyncio
from dataclasses import replace
from math import inf
from typing import TYPE_CHECKING

import pytest

from fray.errors import ActorDied, DeathCause, DeathKind, SupervisorFailed
from fray.runtime.children import Child, ChildSpec, TaskChild
from fray.runtime.crew import KILL_MARGIN_S
from fray.runtime.restart import RestartType
from fray.runtime.slots import ChildState
from fray.runtime.supervisor import Supervisor
from fray.runtime.supervisor_state import SupervisorState

from .troupe import AT_ONCE, BYE, FAILED, Troupe, raised_by, settle, started

if TYPE_CHECKING:
    from fray.testing import Simulation


@pytest.fixture
def troupe() -> Troupe:
    return Troupe()


# --- starting and stopping


async def test_children_start_in_their_order_and_each_waits_for_the_one_before(
    sim: Simulation, troupe: Troupe
):
    troupe.start_takes_s = {"a": 3, "b": 2, "c": 1}
    supervisor = Supervisor("boss", troupe.specs("abc"), clock=sim.clock)
    await supervisor.start()
    assert sim.loop.time() == pytest.approx(6)
    assert troupe.since() == "+a +b +c"
    assert supervisor.state is SupervisorState.RUNNING
    await supervisor.stop(BYE)


async def test_children_stop_in_the_reverse_of_their_order_one_after_the_other(
    sim: Simulation, troupe: Troupe
):
    supervisor = await started(sim, troupe, "abc")
    troupe.stop_takes_s = {"a": 3, "b": 2, "c": 1}
    await supervisor.stop(BYE)
    assert troupe.since() == "stop c -c stop b -b stop a -a"
    assert sim.loop.time() == pytest.approx(6)
    assert supervisor.stopped.result() == BYE
    assert supervisor.failure is None


async def test_a_stopped_child_is_told_why_and_how_long_it_may_take(
    sim: Simulation, troupe: Troupe
):
    specs = [troupe.spec("a", stop_grace_s=7), troupe.spec("b", stop_grace_s=inf)]
    supervisor = Supervisor("boss", specs, clock=sim.clock)
    await supervisor.start()
    await supervisor.stop(BYE)
    assert (troupe.parts["a"].told, troupe.parts["a"].graces) == ([BYE], [7])
    assert (troupe.parts["b"].told, troupe.parts["b"].graces) == ([BYE], [inf])


async def test_a_child_that_does_not_stop_in_time_is_killed(sim: Simulation, troupe: Troupe):
    specs = [troupe.spec("a", stop_grace_s=2), troupe.spec("b", stop_grace_s=3)]
    supervisor = Supervisor("boss", specs, clock=sim.clock)
    await supervisor.start()
    troupe.since()
    troupe.stop_takes_s = {"b": 1e4}
    await supervisor.stop(BYE)
    assert troupe.since() == "stop b kill b stop a -a"
    assert sim.loop.time() == pytest.approx(2 * 3 + KILL_MARGIN_S)


async def test_a_child_whose_stop_fails_is_killed_and_the_failure_is_told(
    sim: Simulation, troupe: Troupe
):
    supervisor = await started(sim, troupe, "ab")

    async def stop(cause: DeathCause, *, grace_s: float) -> None:
        raise ValueError("no")

    troupe.parts["b"].stop = stop  # type: ignore[method-assign]
    await supervisor.stop(BYE)
    assert troupe.since() == "kill b stop a -a"
    (error,) = sim.errors
    assert str(error["exception"]) == "no"
    sim.errors.clear()


async def test_the_grace_of_a_stop_bounds_that_of_all_children_together(
    sim: Simulation, troupe: Troupe
):
    supervisor = await started(sim, troupe, "abc")
    troupe.stop_takes_s = {"c": 2, "b": 2}
    await supervisor.stop(BYE, grace_s=3)
    assert [troupe.parts[name].graces[0] for name in "cba"] == pytest.approx([3, 1, 0])


async def test_a_second_more_urgent_stop_shortens_the_grace_of_those_that_still_run(
    sim: Simulation, troupe: Troupe
):
    supervisor = await started(sim, troupe, "ab")
    troupe.stop_takes_s = {"b": 4}
    other = DeathCause(DeathKind.STOPPED, "hurry")
    async with asyncio.TaskGroup() as group:
        group.create_task(supervisor.stop(BYE, grace_s=100))
        await asyncio.sleep(1)
        await supervisor.stop(other, grace_s=1)
    assert supervisor.stopped.result() == BYE
    assert troupe.parts["a"].graces == [0]


async def test_whoever_stops_it_may_be_cancelled_and_it_goes_on_stopping(
    sim: Simulation, troupe: Troupe
):
    supervisor = await started(sim, troupe, "ab")
    troupe.stop_takes_s = {"b": 2}
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1):
            await supervisor.stop(BYE)
    assert supervisor.state is SupervisorState.STOPPING
    assert await asyncio.shield(supervisor.stopped) == BYE
    assert troupe.since() == "stop b -b stop a -a"


async def test_stopping_while_children_start_cancels_the_start_that_goes_on(
    sim: Simulation, troupe: Troupe
):
    troupe.start_takes_s = {"b": 1e4}
    supervisor = Supervisor("boss", troupe.specs("abc"), clock=sim.clock)
    async with asyncio.TaskGroup() as group:
        start = group.create_task(raised_by(supervisor.start()))
        await asyncio.sleep(1)
        await supervisor.stop(BYE)
    assert troupe.since() == "+a +b stop a -a"
    error = start.result()
    assert isinstance(error, SupervisorFailed)
    assert error.cause == BYE
    assert sim.loop.time() == pytest.approx(1)


async def test_cancelling_the_start_stops_what_has_started(sim: Simulation, troupe: Troupe):
    troupe.start_takes_s = {"b": 1e4}
    supervisor = Supervisor("boss", troupe.specs("abc"), clock=sim.clock)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1):
            await supervisor.start()
    assert troupe.since() == "+a +b stop a -a"
    assert supervisor.state is SupervisorState.STOPPED


async def test_a_start_that_does_not_react_to_being_cancelled_is_given_up(sim: Simulation):
    late: list[TaskChild] = []

    async def start() -> Child:
        deadline = sim.loop.time() + 1000
        while sim.loop.time() < deadline:
            try:
                await asyncio.sleep(deadline - sim.loop.time())
            except asyncio.CancelledError:
                continue
        late.append(TaskChild(asyncio.Event().wait, name="late"))
        return late[0]

    supervisor = Supervisor("boss", [ChildSpec("a", start, stop_grace_s=2)], clock=sim.clock)
    async with asyncio.TaskGroup() as group:
        group.create_task(raised_by(supervisor.start()))
        await asyncio.sleep(1)
        await supervisor.stop(BYE)
        assert sim.loop.time() == pytest.approx(1 + 2 * 2 + KILL_MARGIN_S)
    await asyncio.sleep(1000)
    assert late[0].stopped.result() == BYE  # what it made in the end was killed


async def test_killing_ends_everything_at_once_in_the_reverse_order(
    sim: Simulation, troupe: Troupe
):
    supervisor = await started(sim, troupe, "abc")
    supervisor.kill(BYE)
    assert troupe.since() == "kill c kill b kill a"
    assert supervisor.stopped.result() == BYE
    supervisor.kill(FAILED)
    assert supervisor.stopped.result() == BYE


@pytest.mark.parametrize("when", ["starting", "stopping", "delayed"])
async def test_killing_leaves_nothing_behind_whatever_goes_on(
    sim: Simulation, troupe: Troupe, when: str
):
    policy = replace(AT_ONCE, backoff_min_s=50, backoff_max_s=50)
    supervisor = Supervisor("boss", troupe.specs("ab"), clock=sim.clock, policy=policy)
    if when == "starting":
        troupe.start_takes_s = {"b": 1e4}
    async with asyncio.TaskGroup() as group:
        group.create_task(raised_by(supervisor.start()))
        await asyncio.sleep(1)
        if when == "stopping":
            troupe.stop_takes_s = {"b": 1e4}
            group.create_task(supervisor.stop(BYE))
        if when == "delayed":
            troupe.fail("a")
        await asyncio.sleep(1)
        supervisor.kill(BYE)
        await settle()
        assert supervisor.stopped.done()
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert all(part.stopped.done() for part in troupe.parts.values())


async def test_a_supervisor_is_started_once_only(sim: Simulation, troupe: Troupe):
    supervisor = await started(sim, troupe, "a")
    with pytest.raises(RuntimeError, match="started before"):
        await supervisor.start()
    await supervisor.stop(BYE)


async def test_a_supervisor_that_was_stopped_before_it_started_does_not_start(
    sim: Simulation, troupe: Troupe
):
    supervisor = Supervisor("boss", troupe.specs("a"), clock=sim.clock)
    await supervisor.stop(BYE)
    with pytest.raises(SupervisorFailed, match="the test is over"):
        await supervisor.start()
    assert troupe.since() == ""


async def test_a_supervisor_without_children_runs_and_stops(sim: Simulation):
    supervisor = Supervisor("boss", clock=sim.clock)
    await supervisor.start()
    assert supervisor.state is SupervisorState.RUNNING
    await supervisor.stop(BYE)


async def test_two_children_cannot_have_the_same_name(sim: Simulation, troupe: Troupe):
    with pytest.raises(ValueError, match="already has a child 'a'"):
        Supervisor("boss", troupe.specs("aa"), clock=sim.clock)


# --- starts that fail


async def test_a_start_that_raises_counts_as_a_failure_and_is_tried_again(
    sim: Simulation, troupe: Troupe
):
    troupe.refusals = {"b": [ValueError("not yet"), OSError("not yet")]}
    policy = replace(AT_ONCE, max_restarts=2)
    supervisor = Supervisor("boss", troupe.specs("abc"), clock=sim.clock, policy=policy)
    await supervisor.start()
    assert troupe.since() == "+a +b +b +b +c"
    assert supervisor.statistics().recent_restarts == 2
    await supervisor.stop(BYE)


async def test_a_supervisor_whose_child_never_starts_gives_up_and_says_why(
    sim: Simulation, troupe: Troupe
):
    troupe.refusals = {"b": [ValueError("not yet"), OSError("disk full")]}
    policy = replace(AT_ONCE, max_restarts=1)
    supervisor = Supervisor("boss", troupe.specs("abc"), clock=sim.clock, policy=policy)
    with pytest.raises(SupervisorFailed, match="boss has ended: ") as info:
        await supervisor.start()
    assert info.value.cause.kind is DeathKind.RESTART_LIMIT
    assert info.value.cause.message.endswith("the last: b: it failed to start: OSError: disk full")
    assert troupe.since() == "+a +b +b stop a -a"
    assert supervisor.stopped.done()


async def test_a_start_that_is_cancelled_by_itself_counts_as_a_failure(
    sim: Simulation, troupe: Troupe
):
    troupe.refusals = {"a": [asyncio.CancelledError(), SystemExit(3)]}
    supervisor = Supervisor("boss", troupe.specs("a"), clock=sim.clock, policy=AT_ONCE)
    await supervisor.start()
    assert troupe.since() == "+a +a +a"
    await supervisor.stop(BYE)


async def test_a_start_that_fails_because_the_actor_was_preempted_counts_as_preemption(
    sim: Simulation, troupe: Troupe
):
    troupe.refusals = {"a": [ActorDied("a", DeathCause(DeathKind.PREEMPTED, "taken"))]}
    policy = replace(AT_ONCE, max_restarts=0)
    supervisor = Supervisor("boss", troupe.specs("a"), clock=sim.clock, policy=policy)
    await supervisor.start()
    assert supervisor.statistics().preemptions == 1
    await supervisor.stop(BYE)


# --- what it shows


async def test_its_representation_and_statistics_show_what_goes_on(sim: Simulation, troupe: Troupe):
    specs = [*troupe.specs("ab"), troupe.spec("c", restart=RestartType.TRANSIENT)]
    policy = replace(AT_ONCE, backoff_min_s=10, backoff_max_s=20, jitter=0)
    supervisor = Supervisor("boss", specs, clock=sim.clock, policy=policy)
    assert repr(supervisor) == ("<Supervisor boss created one_for_one: a down, b down, c down>")
    await supervisor.start()
    troupe.fail("a")
    await asyncio.sleep(11)
    troupe.start_takes_s = {"a": 5}
    troupe.fail("a")
    troupe.fail("c", BYE)
    await asyncio.sleep(8)
    assert repr(supervisor) == (
        "<Supervisor boss running one_for_one: a down for 12.0 s (start 2), b up, c done>"
    )
    first, second, third = supervisor.statistics().children
    assert (first.state, first.starts, first.last_end) == (ChildState.DOWN, 2, FAILED)
    assert first.restart_in_s == pytest.approx(12)
    assert (second.state, second.starts, second.last_end) == (ChildState.UP, 1, None)
    assert (third.wanted, third.restart_in_s, third.last_end) == (False, None, BYE)
    await asyncio.sleep(13)
    assert "a starting (start 3)" in repr(supervisor)
    await supervisor.stop(BYE)
    assert repr(supervisor).startswith("<Supervisor boss stopped")


async def test_every_failure_is_logged_with_what_is_done_about_it(
    sim: Simulation, troupe: Troupe, caplog: pytest.LogCaptureFixture
):
    supervisor = await started(sim, troupe, "a", max_restarts=1)
    for _ in range(2):
        troupe.fail("a")
        await settle()
    assert supervisor.state is SupervisorState.STOPPED
    assert [record.message.partition("; ")[0] for record in caplog.records] == [
        "boss: a has ended: ValueError: no",
        "boss: a has ended: ValueError: no",
        "boss gives up: 2 failures within 5 s of running, more than the 1 restarts that are "
        "allowed",
    ]
