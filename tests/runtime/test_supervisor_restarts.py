from __future__ import annotations

import asyncio
import contextvars
from dataclasses import replace
from typing import Any

import pytest

from fray.errors import DeathCause, DeathKind
from fray.runtime.children import ChildSpec, task_child
from fray.runtime.restart import RestartType, Strategy, is_restarted
from fray.runtime.supervisor import Supervisor
from fray.runtime.supervisor_state import SupervisorState
from fray.testing import Simulation, simulate

from .troupe import AT_ONCE, BYE, FAILED, Troupe, settle, started


@pytest.fixture
def troupe() -> Troupe:
    return Troupe()


# --- who is restarted


@pytest.mark.parametrize(
    ("strategy", "happens"),
    [
        (Strategy.ONE_FOR_ONE, "-b +b"),
        (Strategy.REST_FOR_ONE, "-b stop d -d stop c -c +b +c +d"),
        (Strategy.ONE_FOR_ALL, "-b stop d -d stop c -c stop a -a +a +b +c +d"),
    ],
)
async def test_the_strategy_says_who_is_restarted_together(
    sim: Simulation, troupe: Troupe, strategy: Strategy, happens: str
):
    supervisor = await started(sim, troupe, "abcd", strategy=strategy)
    troupe.fail("b")
    await settle()
    assert troupe.since() == happens
    await supervisor.stop(BYE)


@pytest.mark.parametrize("strategy", list(Strategy))
@pytest.mark.parametrize("restart", list(RestartType))
@pytest.mark.parametrize("cause", [FAILED, BYE])
async def test_the_restart_type_says_whether_a_child_is_restarted(
    sim: Simulation, troupe: Troupe, strategy: Strategy, restart: RestartType, cause: DeathCause
):
    specs = [troupe.spec("a", restart=restart), troupe.spec("b")]
    policy = replace(AT_ONCE, strategy=strategy)
    supervisor = Supervisor("boss", specs, clock=sim.clock, policy=policy)
    await supervisor.start()
    troupe.since()
    troupe.fail("a", cause)
    await settle()
    restarted = is_restarted(restart, normal=cause is BYE)
    assert ("+a" in troupe.since()) is restarted
    known = [child.name for child in supervisor.statistics().children]
    assert known == (["b"] if restart is RestartType.TEMPORARY else ["a", "b"])
    await supervisor.stop(BYE)


async def test_a_temporary_child_is_gone_after_its_siblings_were_restarted(
    sim: Simulation, troupe: Troupe
):
    specs = [troupe.spec("a"), troupe.spec("b", restart=RestartType.TEMPORARY), troupe.spec("c")]
    policy = replace(AT_ONCE, strategy=Strategy.ONE_FOR_ALL)
    supervisor = Supervisor("boss", specs, clock=sim.clock, policy=policy)
    await supervisor.start()
    troupe.since()
    troupe.fail("a")
    await settle()
    assert troupe.since() == "-a stop c -c stop b -b +a +c"
    with pytest.raises(KeyError):
        supervisor["b"]
    await supervisor.stop(BYE)


async def test_a_transient_child_that_was_done_is_started_again_with_its_siblings(
    sim: Simulation, troupe: Troupe
):
    specs = [troupe.spec("a"), troupe.spec("b", restart=RestartType.TRANSIENT)]
    policy = replace(AT_ONCE, strategy=Strategy.ONE_FOR_ALL)
    supervisor = Supervisor("boss", specs, clock=sim.clock, policy=policy)
    await supervisor.start()
    troupe.fail("b", BYE)
    await settle()
    assert repr(supervisor) == "<Supervisor boss running one_for_all: a up, b done>"
    troupe.since()
    troupe.fail("a")
    await settle()
    assert troupe.since() == "-a +a +b"
    await supervisor.stop(BYE)


async def test_a_sibling_that_is_restarted_too_is_told_because_of_whom(
    sim: Simulation, troupe: Troupe
):
    supervisor = await started(sim, troupe, "ab", strategy=Strategy.ONE_FOR_ALL)
    b = troupe.parts["b"]
    troupe.fail("a")
    await settle()
    assert [str(cause) for cause in b.told] == ["it is restarted together with a"]
    await supervisor.stop(BYE)


async def test_siblings_that_fail_at_the_same_moment_are_one_failure_of_the_group(
    sim: Simulation, troupe: Troupe
):
    supervisor = await started(sim, troupe, "abc", strategy=Strategy.ONE_FOR_ALL, max_restarts=1)
    for name in "abc":
        troupe.fail(name)
    await settle()
    assert troupe.since() == "-a -b -c +a +b +c"
    assert supervisor.statistics().recent_restarts == 1
    await supervisor.stop(BYE)


async def test_an_earlier_child_that_fails_while_later_ones_are_restarted_takes_them_along(
    sim: Simulation, troupe: Troupe
):
    supervisor = await started(sim, troupe, "abc", strategy=Strategy.REST_FOR_ONE)
    troupe.start_takes_s = {"c": 10}
    troupe.fail("b")
    await asyncio.sleep(1)
    assert troupe.since() == "-b stop c -c +b +c"
    troupe.fail("a")
    await asyncio.sleep(20)
    assert troupe.since() == "-a stop b -b +a +b +c"
    await supervisor.stop(BYE)


async def test_a_start_that_fails_within_a_restart_starts_the_group_again(
    sim: Simulation, troupe: Troupe
):
    supervisor = await started(sim, troupe, "abc", strategy=Strategy.ONE_FOR_ALL)
    troupe.refusals = {"b": [ValueError("not yet"), ValueError("not yet")]}
    troupe.fail("c")
    await settle()
    assert troupe.since() == "-c stop b -b stop a -a +a +b stop a -a +a +b stop a -a +a +b +c"
    await supervisor.stop(BYE)


async def test_one_for_one_does_not_hold_up_a_restart_for_another_that_takes_long(
    sim: Simulation, troupe: Troupe
):
    supervisor = await started(sim, troupe, "ab")
    troupe.start_takes_s = {"a": 1e4}
    troupe.fail("a")
    await settle()
    troupe.fail("b")
    await settle()
    assert troupe.since() == "-a +a -b +b"
    assert supervisor["a"] is None
    assert supervisor["b"] is troupe.parts["b"]
    await supervisor.stop(BYE)


async def test_children_start_in_the_context_in_which_the_supervisor_was_made(sim: Simulation):
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")
    seen: list[str] = []
    failing: list[asyncio.Future[None]] = []

    async def run() -> None:
        seen.append(variable.get())
        failing.append(sim.loop.create_future())
        await failing[-1]

    variable.set("the supervisor's")
    spec = ChildSpec("a", task_child(run, name="a"))
    supervisor = Supervisor("boss", clock=sim.clock, policy=AT_ONCE)
    variable.set("of whoever happened to add it")
    await supervisor.start()
    await supervisor.add(spec)
    await settle()
    failing[0].set_exception(ValueError("no"))
    await settle()
    assert seen == ["the supervisor's"] * 2
    await supervisor.stop(BYE)


# --- when, and how often


async def test_restarts_are_delayed_ever_longer_until_there_was_a_healthy_time(
    sim: Simulation, troupe: Troupe
):
    delays = {"backoff_min_s": 1, "backoff_max_s": 5, "jitter": 0, "healthy_s": 60}
    supervisor = await started(sim, troupe, "a", **delays)
    took: list[float] = []
    for healthy_s in (0, 0, 0, 0, 59, 61, 0):
        await asyncio.sleep(healthy_s)
        troupe.fail("a")
        await settle()
        delay_s = supervisor.statistics().children[0].restart_in_s or 0
        await asyncio.sleep(delay_s)
        await settle()
        assert supervisor["a"] is not None
        took.append(delay_s)
    assert took == pytest.approx([1, 2, 4, 5, 5, 1, 2], abs=0.001)
    await supervisor.stop(BYE)


def test_jitter_comes_from_the_clock_and_so_from_the_seed() -> None:
    async def main(sim: Simulation) -> float | None:
        troupe = Troupe()
        delays = {"backoff_min_s": 10, "backoff_max_s": 10, "jitter": 1}
        supervisor = await started(sim, troupe, "a", **delays)
        troupe.fail("a")
        await settle()
        delay_s = supervisor.statistics().children[0].restart_in_s
        await supervisor.stop(BYE)
        return delay_s

    delays = [simulate(seed, main) for seed in (1, 2, 3, 1, 2, 3)]
    assert delays[:3] == delays[3:]
    assert len(set(delays)) == 3


async def test_a_child_that_waits_for_its_restart_does_not_hold_up_the_stop(
    sim: Simulation, troupe: Troupe
):
    supervisor = await started(sim, troupe, "ab", backoff_min_s=1000, backoff_max_s=1000)
    troupe.fail("a")
    await settle()
    before = sim.loop.time()
    await supervisor.stop(BYE)
    assert sim.loop.time() == pytest.approx(before)
    assert troupe.since() == "-a stop b -b"


async def test_one_for_one_delays_each_child_for_itself(sim: Simulation, troupe: Troupe):
    delays = {"backoff_min_s": 10, "backoff_max_s": 10, "jitter": 0}
    supervisor = await started(sim, troupe, "ab", **delays)
    troupe.fail("b")
    await asyncio.sleep(5)
    troupe.fail("a")
    await asyncio.sleep(5.1)
    assert troupe.since() == "-b -a +b"
    await asyncio.sleep(5)
    assert troupe.since() == "+a"
    await supervisor.stop(BYE)


async def test_clocks_that_drift_change_nothing_about_restarts(sim: Simulation, troupe: Troupe):
    async def main(process: Any) -> None:
        policy = replace(AT_ONCE, backoff_min_s=7.3, backoff_max_s=7.3)
        supervisor = Supervisor("b", troupe.specs("a"), clock=process.clock, policy=policy)
        await supervisor.start()
        for _ in range(20):
            troupe.fail("a")
            await asyncio.sleep(8)
            assert supervisor["a"] is not None
        await supervisor.stop(BYE)

    host = sim.host("h", clock_drift=3.7e-5)
    await sim.process(host, main).wait()


async def test_more_failures_than_allowed_end_the_supervisor(sim: Simulation, troupe: Troupe):
    supervisor = await started(sim, troupe, "abc", max_restarts=2, period_s=10)
    for _ in range(3):
        troupe.fail("b")
        await settle()
    assert troupe.since() == "-b +b -b +b -b stop c -c stop a -a"
    cause = await asyncio.shield(supervisor.stopped)
    assert cause == DeathCause(
        DeathKind.RESTART_LIMIT,
        "3 failures within 10 s of running, more than the 2 restarts that are allowed; "
        "the last: b: ValueError: no",
    )
    assert str(troupe.parts["a"].told[0]).startswith("its supervisor boss has ended: 3 failures")


async def test_failures_far_enough_apart_are_allowed_for_ever(sim: Simulation, troupe: Troupe):
    supervisor = await started(sim, troupe, "a", max_restarts=1, period_s=10)
    for _ in range(20):
        await asyncio.sleep(11)
        troupe.fail("a")
    await settle()
    assert supervisor.state is SupervisorState.RUNNING
    await supervisor.stop(BYE)


async def test_preemptions_are_counted_apart_from_failures(sim: Simulation, troupe: Troupe):
    supervisor = await started(sim, troupe, "a", max_restarts=0, max_preemptions=3)
    preempted = DeathCause(DeathKind.PREEMPTED, "the cloud took it back", host="tpu-7")
    for _ in range(3):
        troupe.fail("a", preempted)
        await settle()
    assert supervisor.state is SupervisorState.RUNNING
    assert supervisor.statistics().preemptions == 3
    assert supervisor.statistics().recent_restarts == 0
    troupe.fail("a", preempted)
    cause = await asyncio.shield(supervisor.stopped)
    assert str(cause) == (
        "4 preemptions, more than the 3 that are allowed; the last: a: the cloud took it back "
        "on tpu-7"
    )


async def test_a_child_that_ends_while_others_stop_is_no_failure(sim: Simulation, troupe: Troupe):
    supervisor = await started(sim, troupe, "ab", max_restarts=0)
    troupe.stop_takes_s = {"b": 10}
    async with asyncio.TaskGroup() as group:
        group.create_task(supervisor.stop(BYE))
        await asyncio.sleep(1)
        troupe.fail("a")
    assert troupe.since() == "stop b -a -b"
    assert supervisor.stopped.result() == BYE
