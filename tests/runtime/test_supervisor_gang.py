"""Gangs, and children that are terminated and started again by hand."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from fray.errors import DeathCause, DeathKind, SupervisorFailed
from fray.runtime.restart import RestartType, Strategy
from fray.runtime.slots import ChildState
from fray.runtime.supervisor import Supervisor
from fray.runtime.supervisor_state import SupervisorState
from tests.runtime.troupe import AT_ONCE, BYE, FAILED, Troupe, raised_by, settle, started

if TYPE_CHECKING:
    from fray.testing import Simulation

PREEMPTED = DeathCause(DeathKind.PREEMPTED, "the host is wanted back")
LOST = DeathCause(DeathKind.HOST_LOST, "silent")


@pytest.fixture
def troupe() -> Troupe:
    return Troupe()


async def test_a_gang_starts_at_the_same_time(sim: Simulation, troupe: Troupe):
    troupe.start_takes_s = {"a": 5, "b": 3, "c": 4}
    before = sim.clock.monotonic()
    gang = await started(sim, troupe, "abc", strategy=Strategy.GANG)
    assert sim.clock.monotonic() - before == pytest.approx(5)
    await gang.stop(BYE)


async def test_a_gang_stops_at_the_same_time_and_starts_when_all_are_gone(
    sim: Simulation, troupe: Troupe
):
    gang = await started(sim, troupe, "abc", strategy=Strategy.GANG, max_restarts=5)
    troupe.stop_takes_s = {"a": 2, "c": 4}
    troupe.fail("b")
    await asyncio.sleep(3)
    assert troupe.since() == "-b stop a stop c -a"
    await asyncio.sleep(2)
    assert troupe.since() == "-c +a +b +c"
    assert gang.statistics().recent_restarts == 1
    await gang.stop(BYE)
    assert sorted(troupe.since().split(" ")[-3:]) == ["-a", "-b", "-c"]


async def test_the_fall_of_a_gang_is_one_failure_whoever_dies_of_it(
    sim: Simulation, troupe: Troupe
):
    gang = await started(sim, troupe, "abc", strategy=Strategy.GANG, max_restarts=1, period_s=60)
    troupe.stop_takes_s = {"a": 5}
    troupe.fail("b")
    await settle()
    troupe.fail("a")  # of the absence of b
    await asyncio.sleep(5)
    assert troupe.since().endswith("+a +b +c")
    assert gang.statistics().recent_restarts == 1
    troupe.fail("c")
    async with asyncio.timeout(100):
        await asyncio.shield(gang.stopped)
    assert gang.failure is not None
    assert gang.failure.cause.kind is DeathKind.RESTART_LIMIT


@pytest.mark.parametrize("cause", [PREEMPTED, LOST])
async def test_a_gang_that_lost_a_host_has_not_failed_whoever_went_first(
    sim: Simulation, troupe: Troupe, cause: DeathCause
):
    gang = await started(sim, troupe, "abc", strategy=Strategy.GANG, max_restarts=0)
    for number in range(1, 3):
        troupe.stop_takes_s = {"c": 50}
        troupe.fail("a", FAILED)  # its peer is away, which is all that it knows
        await settle()
        troupe.fail("c", cause)
        await asyncio.sleep(51)
        assert gang.state is SupervisorState.RUNNING
        assert (gang.statistics().recent_restarts, gang.statistics().preemptions) == (0, number)
    await gang.stop(BYE)


async def test_a_gang_with_a_member_that_does_not_start_falls(sim: Simulation, troupe: Troupe):
    troupe.start_takes_s = {"b": 1}
    troupe.refusals = {"b": [ValueError("no slice")]}
    gang = Supervisor(
        "gang",
        troupe.specs("abc"),
        clock=sim.clock,
        policy=AT_ONCE.__class__(Strategy.GANG, backoff_min_s=0, backoff_max_s=0),
    )
    await gang.start()
    assert troupe.since() == "+a +b +c stop a stop c -a -c +a +b +c"
    await gang.stop(BYE)


async def test_a_gang_whose_first_to_fall_is_removed_meanwhile_goes_on_without_it(
    sim: Simulation, troupe: Troupe
):
    gang = await started(sim, troupe, "abc", strategy=Strategy.GANG)
    troupe.stop_takes_s = {"a": 2}
    troupe.fail("b")
    await settle()
    await gang.remove("b")
    await asyncio.sleep(3)
    assert sorted(troupe.since().split()[-2:]) == ["+a", "+c"]
    assert all(child.state is ChildState.UP for child in gang.statistics().children)
    await gang.stop(BYE)


async def test_a_member_that_joins_during_a_fall_starts_with_the_next_life(
    sim: Simulation, troupe: Troupe
):
    gang = await started(sim, troupe, "ab", strategy=Strategy.GANG)
    troupe.stop_takes_s = {"a": 2}
    troupe.fail("b")
    await settle()
    await gang.add(troupe.spec("c"))
    assert sorted(troupe.since().split()[-3:]) == ["+a", "+b", "+c"]
    assert all(child.state is ChildState.UP for child in gang.statistics().children)
    await gang.stop(BYE)


async def test_a_terminated_child_stays_down_until_somebody_restarts_it(
    sim: Simulation, troupe: Troupe
):
    boss = await started(sim, troupe, "abc", strategy=Strategy.ONE_FOR_ALL)
    await boss.terminate("b")
    assert troupe.since() == "stop b -b"
    troupe.fail("a")
    await settle()
    assert troupe.since() == "-a stop c -c +a +c"
    await boss.restart("b")
    assert troupe.since() == "+b"
    with pytest.raises(ValueError, match="runs, or is about to"):
        await boss.restart("b")
    await boss.stop(BYE)
    assert isinstance(await raised_by(boss.restart("b")), SupervisorFailed)


async def test_a_restart_by_hand_that_fails_leaves_the_child_down(sim: Simulation, troupe: Troupe):
    boss = await started(sim, troupe, "ab")
    await boss.terminate("b")
    troupe.refusals = {"b": [OSError("disk full")]}
    with pytest.raises(OSError, match="disk full"):
        await boss.restart("b")
    assert [c.state for c in boss.statistics().children] == [ChildState.UP, ChildState.DOWN]
    assert boss.statistics().recent_restarts == 0
    await boss.restart("b")
    assert boss["b"] is not None
    await boss.stop(BYE)


async def test_a_temporary_child_that_is_terminated_is_forgotten(sim: Simulation, troupe: Troupe):
    boss = await started(sim, troupe, "a")
    await boss.add(troupe.spec("t", restart=RestartType.TEMPORARY))
    await boss.terminate("t")
    assert [child.name for child in boss.statistics().children] == ["a"]
    await boss.stop(BYE)


async def test_who_waits_for_a_termination_is_told_when_the_supervisor_is_killed(
    sim: Simulation, troupe: Troupe
):
    boss = await started(sim, troupe, "a")
    troupe.stop_takes_s = {"a": 100}
    waiting = asyncio.ensure_future(boss.terminate("a"))
    await settle()
    boss.kill(BYE)
    async with asyncio.timeout(1):
        await waiting


async def test_a_lost_host_counts_with_the_preemptions(sim: Simulation, troupe: Troupe):
    boss = await started(sim, troupe, "a", max_restarts=0, max_preemptions=1)
    troupe.fail("a", LOST)
    await settle()
    assert (boss.statistics().recent_restarts, boss.statistics().preemptions) == (0, 1)
    troupe.fail("a", PREEMPTED)
    await asyncio.shield(boss.stopped)
    assert boss.failure is not None
    assert "2 preemptions" in boss.failure.cause.message
