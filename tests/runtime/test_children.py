from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from math import inf
from typing import TYPE_CHECKING

import pytest

from fray.errors import ActorDied, DeathCause, DeathKind, SupervisorFailed
from fray.runtime.cell import Cell, CellState
from fray.runtime.children import ChildSpec, TaskChild, cell_child, task_child
from fray.runtime.failures import explain
from fray.runtime.restart import RestartType
from fray.runtime.supervisor import Supervisor

from .hosted import call
from .troupe import AT_ONCE, BYE, Troupe, settle, started

if TYPE_CHECKING:
    from fray.testing import Simulation


@pytest.fixture
def troupe() -> Troupe:
    return Troupe()


# --- background tasks as children


async def test_a_task_that_returns_has_ended_normally_and_one_that_raises_has_failed(
    sim: Simulation,
):
    runs: list[int] = []

    async def run() -> None:
        runs.append(len(runs))
        await asyncio.sleep(1)
        if len(runs) < 3:
            raise ValueError("not yet")

    spec = ChildSpec("t", task_child(run, name="t"), RestartType.TRANSIENT)
    supervisor = Supervisor("boss", [spec], clock=sim.clock, policy=AT_ONCE)
    await supervisor.start()
    await asyncio.sleep(10)
    assert runs == [0, 1, 2]
    (child,) = supervisor.statistics().children
    assert not child.wanted
    assert child.last_end == DeathCause(DeathKind.STOPPED, "it has returned")
    await supervisor.stop(BYE)


async def test_a_task_that_fails_is_told_with_its_traceback(sim: Simulation):
    async def run() -> None:
        await asyncio.sleep(1)
        raise ValueError("no")

    spec = ChildSpec("t", task_child(run, name="t"))
    supervisor = Supervisor(
        "boss", [spec], clock=sim.clock, policy=replace(AT_ONCE, max_restarts=0)
    )
    await supervisor.start()
    cause = await asyncio.shield(supervisor.stopped)
    assert cause.message.endswith("t: ValueError: no")
    assert supervisor.failure is not None
    assert 'raise ValueError("no")' in explain(supervisor.failure)


async def test_a_stopped_task_may_clean_up_for_its_grace(sim: Simulation):
    cleaned: list[float] = []

    async def run() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(3)
            cleaned.append(sim.loop.time())

    child = TaskChild(run, name="t")
    await asyncio.sleep(1)
    await child.stop(BYE, grace_s=5)
    assert cleaned == [4]
    assert child.stopped.result() == BYE
    assert child.failure is None
    assert repr(child) == "<TaskChild t ended: the test is over>"


async def test_a_task_that_does_not_end_is_given_up_after_its_grace(sim: Simulation):
    async def run() -> None:
        for _ in range(3):
            try:
                await asyncio.sleep(100)
            except asyncio.CancelledError:
                continue

    child = TaskChild(run, name="t")
    await asyncio.sleep(1)
    await child.stop(BYE, grace_s=5)
    assert sim.loop.time() == pytest.approx(6)
    assert child.stopped.result() == BYE
    await asyncio.sleep(1000)


async def test_a_task_that_fails_while_it_is_stopped_does_not_fail_silently(sim: Simulation):
    async def run() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            raise ValueError("no")

    child = TaskChild(run, name="t")
    await asyncio.sleep(1)
    await child.stop(BYE, grace_s=5)
    assert child.stopped.result() == BYE
    (error,) = sim.errors
    assert error["message"] == "task t failed while it was stopped"
    sim.errors.clear()


async def test_a_task_that_cancels_itself_has_failed(sim: Simulation):
    async def run() -> None:
        raise asyncio.CancelledError

    child = TaskChild(run, name="t")
    cause = await asyncio.shield(child.stopped)
    assert cause == DeathCause(DeathKind.APP_ERROR, "it was cancelled")


async def test_a_task_that_is_stopped_before_it_began_has_ended(sim: Simulation):
    child = TaskChild(asyncio.Event().wait, name="t")
    await child.stop(BYE, grace_s=inf)
    assert child.stopped.result() == BYE


# --- actors as children


class Counter:
    def __init__(self) -> None:
        self.count = 0


def host(sim: Simulation, cells: list[Cell]) -> Callable[[int], Cell]:
    def make(incarnation: int) -> Cell:
        target = f"counter/{incarnation}"
        cells.append(Cell(target, label="counter", clock=sim.clock, threads=sim.driver.threads))
        return cells[-1]

    return make


async def test_an_actor_that_was_killed_comes_back_as_its_next_incarnation_and_is_registered(
    sim: Simulation,
):
    cells: list[Cell] = []
    registered: list[str] = []

    async def register(cell: Cell) -> None:
        registered.append(cell.target)

    spec = ChildSpec("counter", cell_child(host(sim, cells), Counter, register=register))
    supervisor = Supervisor("boss", [spec], clock=sim.clock, policy=AT_ONCE)
    await supervisor.start()
    cells[0].kill(DeathCause(DeathKind.OUT_OF_MEMORY))
    await asyncio.sleep(1)
    assert registered == ["counter/1", "counter/2"]
    assert supervisor["counter"] is cells[1]
    assert cells[1].state is CellState.RUNNING
    await supervisor.stop(BYE)
    assert cells[1].stopped.result() == BYE


async def test_an_actor_that_cannot_be_registered_has_failed_to_start(sim: Simulation):
    cells: list[Cell] = []
    refusals = [OSError("the controller is down")]

    async def register(cell: Cell) -> None:
        if refusals:
            raise refusals.pop()

    spec = ChildSpec("counter", cell_child(host(sim, cells), Counter, register=register))
    supervisor = Supervisor("boss", [spec], clock=sim.clock, policy=AT_ONCE)
    await supervisor.start()
    assert [cell.state for cell in cells] == [CellState.STOPPED, CellState.RUNNING]
    assert str(cells[0].cause) == "it could not be registered: OSError: the controller is down"
    await supervisor.stop(BYE)


async def test_an_actor_whose_constructor_raises_escalates_with_what_it_raised(sim: Simulation):
    def factory() -> Counter:
        raise ValueError("no such model")

    spec = ChildSpec("counter", cell_child(host(sim, []), factory))
    policy = replace(AT_ONCE, max_restarts=1)
    supervisor = Supervisor("boss", [spec], clock=sim.clock, policy=policy)
    with pytest.raises(SupervisorFailed, match="counter: it failed to start: ValueError: no such"):
        await supervisor.start()


async def test_an_actor_that_is_busy_has_its_grace_and_then_its_hook_before_it_would_be_killed(
    sim: Simulation,
):
    log: list[str] = []

    class Busy:
        async def work(self) -> None:
            try:
                await asyncio.Event().wait()
            finally:
                log.append("cancelled")

        async def on_stop(self, reason: DeathCause) -> None:
            await asyncio.sleep(2.9)
            log.append(f"saved: {reason}")

    cells: list[Cell] = []
    spec = ChildSpec("busy", cell_child(host(sim, cells), Busy), stop_grace_s=3)
    supervisor = Supervisor("boss", [spec], clock=sim.clock, policy=AT_ONCE)
    await supervisor.start()
    working = call(cells[0], "work")
    began = sim.loop.time()
    await supervisor.stop(BYE)
    assert log == ["cancelled", "saved: the test is over"]
    assert sim.loop.time() - began == pytest.approx(3 + 2.9)
    assert isinstance(await working.error(), ActorDied)


async def test_a_child_whose_end_nobody_can_see_any_more_is_killed_and_restarted(
    sim: Simulation, troupe: Troupe
):
    supervisor = await started(sim, troupe, "a")
    troupe.parts["a"].stopped.cancel()
    await settle()
    assert troupe.since() == "kill a +a"
    await supervisor.stop(BYE)
