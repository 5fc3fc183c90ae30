from __future__ import annotations

import asyncio
from dataclasses import replace
from math import inf
from typing import TYPE_CHECKING, Any

import pytest

from fray.errors import DeathCause, DeathKind, SupervisorFailed
from fray.runtime.children import ChildSpec
from fray.runtime.failures import explain
from fray.runtime.restart import RestartType, Strategy
from fray.runtime.root import run_root, supervisor_child
from fray.runtime.supervisor import Supervisor
from fray.runtime.supervisor_state import SupervisorState

from .troupe import AT_ONCE, BYE, Troupe, raised_by, settle, started

if TYPE_CHECKING:
    from fray.testing import Simulation


@pytest.fixture
def troupe() -> Troupe:
    return Troupe()


# --- children that come and go


async def test_an_added_child_comes_after_all_others_and_is_supervised_like_them(
    sim: Simulation, troupe: Troupe
):
    supervisor = await started(sim, troupe, "ab", strategy=Strategy.ONE_FOR_ALL)
    troupe.start_takes_s = {"c": 5}
    await supervisor.add(troupe.spec("c"))
    assert sim.loop.time() == pytest.approx(5)
    assert supervisor["c"] is troupe.parts["c"]
    troupe.start_takes_s.clear()
    troupe.since()
    troupe.fail("b")
    await settle()
    assert troupe.since() == "-b stop c -c stop a -a +a +b +c"
    await supervisor.stop(BYE)


async def test_whoever_adds_a_child_that_does_not_start_is_told_and_it_is_not_kept(
    sim: Simulation, troupe: Troupe
):
    supervisor = await started(sim, troupe, "a", max_restarts=0)
    troupe.refusals = {"b": [ValueError("no such model")]}
    with pytest.raises(ValueError, match="no such model"):
        await supervisor.add(troupe.spec("b"))
    assert supervisor.state is SupervisorState.RUNNING
    await supervisor.add(troupe.spec("b"))
    assert supervisor["b"] is troupe.parts["b"]
    await supervisor.stop(BYE)


async def test_a_name_that_is_taken_cannot_be_added(sim: Simulation, troupe: Troupe):
    supervisor = await started(sim, troupe, "a")
    with pytest.raises(ValueError, match="already has a child 'a'"):
        await supervisor.add(troupe.spec("a"))
    await supervisor.stop(BYE)


async def test_nothing_can_be_added_to_a_supervisor_that_has_ended(sim: Simulation, troupe: Troupe):
    supervisor = await started(sim, troupe, "a")
    await supervisor.stop(BYE)
    with pytest.raises(SupervisorFailed, match="the test is over"):
        await supervisor.add(troupe.spec("b"))


async def test_adding_is_refused_when_the_supervisor_ends_meanwhile(
    sim: Simulation, troupe: Troupe
):
    supervisor = await started(sim, troupe, "a")
    troupe.start_takes_s = {"b": 1e4}
    async with asyncio.TaskGroup() as group:
        add = group.create_task(raised_by(supervisor.add(troupe.spec("b"))))
        await asyncio.sleep(1)
        await supervisor.stop(BYE)
    assert isinstance(add.result(), SupervisorFailed)
    assert troupe.since() == "+b stop a -a"


async def test_cancelling_whoever_adds_a_child_removes_it_again(sim: Simulation, troupe: Troupe):
    supervisor = await started(sim, troupe, "a")
    troupe.start_takes_s = {"b": 1e4}
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1):
            await supervisor.add(troupe.spec("b"))
    await settle()
    assert [child.name for child in supervisor.statistics().children] == ["a"]
    await supervisor.stop(BYE)


async def test_a_removed_child_is_stopped_whatever_its_restart_type(
    sim: Simulation, troupe: Troupe
):
    supervisor = await started(sim, troupe, "abc", strategy=Strategy.ONE_FOR_ALL)
    await supervisor.remove("b")
    assert troupe.since() == "stop b -b"
    assert str(troupe.parts["b"].told[0]) == "it was removed from boss"
    with pytest.raises(KeyError):
        await supervisor.remove("b")
    troupe.fail("a")
    await settle()
    assert troupe.since() == "-a stop c -c +a +c"
    await supervisor.stop(BYE)


async def test_a_child_that_is_being_removed_is_not_restarted_with_its_siblings(
    sim: Simulation, troupe: Troupe
):
    supervisor = await started(sim, troupe, "abc", strategy=Strategy.ONE_FOR_ALL)
    troupe.stop_takes_s = {"b": 3}
    async with asyncio.TaskGroup() as group:
        group.create_task(supervisor.remove("b"))
        await asyncio.sleep(1)
        troupe.fail("a")
    await settle()
    assert troupe.since() == "stop b -a stop c -c -b +a +c"
    await supervisor.stop(BYE)


@pytest.mark.parametrize("when", ["starting", "delayed", "failing while it stops"])
async def test_a_child_can_be_removed_at_any_moment(sim: Simulation, troupe: Troupe, when: str):
    supervisor = await started(sim, troupe, "ab", backoff_min_s=50, backoff_max_s=50)
    if when == "starting":
        troupe.start_takes_s = {"c": 1e4}
    async with asyncio.TaskGroup() as group:
        add = group.create_task(raised_by(supervisor.add(troupe.spec("c"))))
        await asyncio.sleep(1)
        if when == "delayed":
            troupe.fail("c")
            await settle()
        if when == "failing while it stops":
            troupe.stop_takes_s = {"c": 10}
            sim.loop.call_later(5, troupe.fail, "c")
        await supervisor.remove("c")
    assert isinstance(add.result(), SupervisorFailed) is (when == "starting")
    assert [child.name for child in supervisor.statistics().children] == ["a", "b"]
    assert supervisor.statistics().recent_restarts == 0
    await supervisor.stop(BYE)


async def test_children_added_before_the_start_are_started_with_it(sim: Simulation, troupe: Troupe):
    supervisor = Supervisor("boss", troupe.specs("a"), clock=sim.clock)
    await supervisor.add(troupe.spec("b"))
    assert troupe.since() == ""
    await supervisor.start()
    assert troupe.since() == "+a +b"
    await supervisor.stop(BYE)


async def test_the_end_of_a_significant_child_stops_the_supervisor(sim: Simulation, troupe: Troupe):
    specs = [troupe.spec("a"), troupe.spec("b", restart=RestartType.TRANSIENT, significant=True)]
    supervisor = Supervisor("boss", specs, clock=sim.clock, policy=AT_ONCE)
    await supervisor.start()
    troupe.fail("b")
    await settle()
    assert troupe.since() == "+a +b -b +b"
    troupe.fail("b", DeathCause(DeathKind.STOPPED, "it has returned"))
    cause = await asyncio.shield(supervisor.stopped)
    assert (cause.kind, supervisor.failure) == (DeathKind.STOPPED, None)
    assert cause.message == "its significant child b has ended: it has returned"
    assert troupe.since() == "-b stop a -a"


async def test_the_failure_of_a_significant_temporary_child_is_the_supervisors(
    sim: Simulation, troupe: Troupe
):
    specs = [troupe.spec("a", restart=RestartType.TEMPORARY, significant=True)]
    supervisor = Supervisor("boss", specs, clock=sim.clock, policy=AT_ONCE)
    await supervisor.start()
    troupe.fail("a", DeathCause(DeathKind.OUT_OF_MEMORY, "it used 90 GB"))
    cause = await asyncio.shield(supervisor.stopped)
    assert cause.kind is DeathKind.OUT_OF_MEMORY
    assert supervisor.failure is not None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": ""}, "not empty"),
        ({"stop_grace_s": -1}, "at least 0, not -1"),
        ({"significant": True}, "permanent"),
    ],
)
def test_a_child_that_makes_no_sense_is_refused(
    troupe: Troupe, options: dict[str, Any], message: str
):
    with pytest.raises(ValueError, match=message):
        troupe.spec(options.pop("name", "a"), **options)


# --- trees


def tree(sim: Simulation, troupe: Troupe, *, root_restarts: int) -> Supervisor:
    def services() -> Supervisor:
        policy = replace(AT_ONCE, max_restarts=1, period_s=inf)
        return Supervisor("services", troupe.specs("bc"), clock=sim.clock, policy=policy)

    return Supervisor(
        "root",
        [
            troupe.spec("a"),
            ChildSpec("services", supervisor_child(services), stop_grace_s=inf),
        ],
        clock=sim.clock,
        policy=replace(
            AT_ONCE, max_restarts=root_restarts, period_s=inf, strategy=Strategy.REST_FOR_ONE
        ),
    )


async def test_a_supervisor_that_gives_up_is_restarted_by_its_own(sim: Simulation, troupe: Troupe):
    root = tree(sim, troupe, root_restarts=1)
    await root.start()
    for _ in range(2):
        troupe.fail("b")
        await settle()
    assert troupe.since() == "+a +b +c -b +b -b stop c -c +b +c"
    assert root.statistics().recent_restarts == 1
    await root.stop(BYE)
    assert troupe.since() == "stop c -c stop b -b stop a -a"


async def test_a_root_that_gives_up_tells_the_whole_chain_of_causes(
    sim: Simulation, troupe: Troupe
):
    root = tree(sim, troupe, root_restarts=0)
    await root.start()
    troupe.refusals = {"b": [OSError("disk full")]}
    troupe.fail("b")
    cause = await asyncio.shield(root.stopped)
    assert cause == DeathCause(
        DeathKind.RESTART_LIMIT,
        "1 failures in all, more than the 0 restarts that are allowed; the last: services: "
        "2 failures in all, more than the 1 restarts that are allowed; the last: b: "
        "it failed to start: OSError: disk full",
    )
    assert root.failure is not None
    lines = explain(root.failure).splitlines()
    assert lines[0].startswith("root ended, restart limit: 1 failures")
    assert lines[1].startswith("  services ended, restart limit: 2 failures")
    assert lines[2] == "    b ended, app error: ValueError: no"
    assert lines[3] == "    b ended, app error: it failed to start: OSError: disk full"
    assert lines[4] == "      Traceback (most recent call last):"
    assert lines[-1] == "      OSError: disk full"


async def test_a_nested_supervisor_that_gives_up_while_it_starts_tells_why_too(
    sim: Simulation, troupe: Troupe
):
    troupe.refusals = {"b": [OSError("disk full")] * 2}
    root = tree(sim, troupe, root_restarts=0)
    with pytest.raises(SupervisorFailed, match="services: 2 failures"):
        await root.start()
    assert root.failure is not None
    told = explain(root.failure)
    assert "    b ended, app error: it failed to start: OSError: disk full (2 times)" in told


async def test_a_supervisor_that_is_added_and_gives_up_at_once_is_not_kept(
    sim: Simulation, troupe: Troupe
):
    troupe.refusals = {"b": [OSError("disk full")]}

    def make() -> Supervisor:
        policy = replace(AT_ONCE, max_restarts=0)
        return Supervisor("inner", troupe.specs("b"), clock=sim.clock, policy=policy)

    root = Supervisor("root", clock=sim.clock, policy=replace(AT_ONCE, max_restarts=0))
    await root.start()
    with pytest.raises(SupervisorFailed, match="disk full"):
        await root.add(ChildSpec("inner", supervisor_child(make)))
    assert root.state is SupervisorState.RUNNING
    await root.stop(BYE)


async def test_stopping_while_a_nested_supervisor_starts_stops_what_it_has_started(
    sim: Simulation, troupe: Troupe
):
    troupe.start_takes_s = {"c": 1e4}
    root = tree(sim, troupe, root_restarts=0)
    async with asyncio.TaskGroup() as group:
        group.create_task(raised_by(root.start()))
        await asyncio.sleep(1)
        await root.stop(BYE)
    assert troupe.since() == "+a +b +c stop b -b stop a -a"


async def test_killing_a_root_kills_the_whole_tree(sim: Simulation, troupe: Troupe):
    root = tree(sim, troupe, root_restarts=0)
    await root.start()
    troupe.since()
    root.kill(BYE)
    assert troupe.since() == "kill c kill b kill a"


async def test_a_root_that_is_stopped_ends_its_process_well(sim: Simulation, troupe: Troupe):
    root = tree(sim, troupe, root_restarts=0)
    told: list[str] = []
    async with asyncio.TaskGroup() as group:
        run = group.create_task(run_root(root, told.append))
        await asyncio.sleep(1)
        await root.stop(BYE)
    assert (run.result(), told) == (0, [])


@pytest.mark.parametrize("already_while_starting", [False, True])
async def test_a_root_that_fails_ends_its_process_badly_and_says_why(
    sim: Simulation, troupe: Troupe, already_while_starting: bool
):
    root = tree(sim, troupe, root_restarts=0)
    told: list[str] = []
    if already_while_starting:
        troupe.refusals = {"a": [ValueError("no")]}
    async with asyncio.TaskGroup() as group:
        run = group.create_task(run_root(root, told.append))
        await asyncio.sleep(1)
        if not already_while_starting:
            troupe.fail("a")
    assert run.result() == 1
    assert "a ended, app error" in told[0]


async def test_cancelling_a_root_stops_its_tree_in_good_order(sim: Simulation, troupe: Troupe):
    root = tree(sim, troupe, root_restarts=0)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1):
            await run_root(root, print)
    assert troupe.since() == "+a +b +c stop c -c stop b -b stop a -a"
