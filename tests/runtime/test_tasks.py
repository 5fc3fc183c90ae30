from __future__ import annotations

import asyncio
import contextvars
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fray.runtime.tasks import Scope
from fray.testing import simulate

if TYPE_CHECKING:
    from fray.testing import Simulation


async def forever() -> None:
    await asyncio.Event().wait()


async def fail(message: str = "no") -> None:
    raise ValueError(message)


async def test_a_task_runs_and_its_result_can_be_awaited(sim: Simulation):
    async def answer() -> int:
        return 42

    async with Scope("scope") as scope:
        assert await scope.spawn(answer()) == 42
        assert len(scope) == 0


async def test_closing_cancels_every_task_and_waits_for_its_cleaning_up(sim: Simulation):
    log: list[str] = []

    async def careful(name: str) -> None:
        try:
            await forever()
        finally:
            await asyncio.sleep(5)
            log.append(name)

    scope = Scope("scope")
    for name in "abc":
        scope.spawn(careful(name), name=name)
    await asyncio.sleep(1)
    assert repr(scope) == "<Scope scope tasks=3>"
    await scope.close()
    assert log == ["a", "b", "c"]
    assert sim.loop.time() == 6
    assert repr(scope) == "<Scope scope tasks=0 closed>"


async def test_leaving_the_scope_closes_it_even_by_an_exception(sim: Simulation):
    scope = Scope("scope")
    with pytest.raises(ValueError, match="no"):
        async with scope:
            task = scope.spawn(forever())
            await fail()
    assert scope.closed
    assert task.cancelled()


async def test_a_task_that_ignores_being_cancelled_once_is_cancelled_again_by_the_next_round(
    sim: Simulation,
):
    async def stubborn() -> str:
        try:
            await forever()
        except asyncio.CancelledError:
            await asyncio.sleep(3)
        return "went on"

    scope = Scope("scope")
    task = scope.spawn(stubborn())
    await asyncio.sleep(1)
    await scope.close()
    assert task.result() == "went on"


async def test_a_failure_is_reported_with_the_name_of_its_task_and_disturbs_no_sibling(
    sim: Simulation,
):
    told: list[tuple[str, str]] = []
    async with Scope("scope", lambda name, exc: told.append((name, str(exc)))) as scope:
        sibling = scope.spawn(forever())
        scope.spawn(fail(), name="bad")
        await asyncio.sleep(1)
        assert told == [("scope/bad", "no")]
        assert not sibling.done()


async def test_a_failure_that_nobody_asked_for_is_told_to_the_loop(sim: Simulation):
    async with Scope("scope") as scope:
        scope.spawn(fail(), name="bad")
        await asyncio.sleep(1)
    (error,) = sim.errors
    assert error["message"] == "background task scope/bad failed"
    assert str(error["exception"]) == "no"
    sim.errors.clear()


async def test_a_failure_while_the_scope_closes_is_reported_too(sim: Simulation):
    told: list[str] = []

    async def bad_end() -> None:
        try:
            await forever()
        finally:
            await fail("in the end")

    async with Scope("scope", lambda name, exc: told.append(str(exc))) as scope:
        scope.spawn(bad_end())
        await asyncio.sleep(1)
    assert told == ["in the end"]


async def test_a_cancelled_task_is_no_failure(sim: Simulation):
    told: list[Any] = []
    async with Scope("scope", lambda *each: told.append(each)) as scope:
        scope.spawn(forever()).cancel()
        await asyncio.sleep(1)
        assert len(scope) == 0
    assert told == []


async def test_nothing_can_be_spawned_once_it_is_closed_and_the_coroutine_is_not_left_behind(
    sim: Simulation,
):
    scope = Scope("scope")
    await scope.close()
    late = forever()
    with pytest.raises(RuntimeError, match="scope 'scope' is closed"):
        scope.spawn(late)
    with pytest.raises(RuntimeError, match="cannot reuse"):
        await late


async def test_a_task_cannot_spawn_another_while_its_scope_closes(sim: Simulation):
    refused: list[str] = []
    scope = Scope("scope")

    async def reproducing() -> None:
        try:
            await forever()
        finally:
            try:
                scope.spawn(forever())
            except RuntimeError as exc:
                refused.append(str(exc))

    scope.spawn(reproducing())
    await asyncio.sleep(1)
    await scope.close()
    assert refused == ["scope 'scope' is closed"]


async def test_a_task_may_close_its_own_scope_and_goes_on(sim: Simulation):
    scope = Scope("scope")
    sibling = scope.spawn(forever())

    async def closes() -> str:
        await scope.close()
        return "still here"

    assert await scope.spawn(closes()) == "still here"
    assert sibling.cancelled()


async def test_closing_twice_at_once_is_closing_once(sim: Simulation):
    async def careful() -> None:
        try:
            await forever()
        finally:
            await asyncio.sleep(5)

    scope = Scope("scope")
    scope.spawn(careful())
    await asyncio.sleep(1)
    async with asyncio.TaskGroup() as group:
        group.create_task(scope.close())
        group.create_task(scope.close())
    assert len(scope) == 0
    await scope.close()


async def test_a_task_sees_the_context_that_it_is_given(sim: Simulation):
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")
    variable.set("given")
    context = contextvars.copy_context()
    variable.set("current")

    async def read() -> str:
        return variable.get()

    async with Scope("scope") as scope:
        assert await scope.spawn(read(), context=context) == "given"
        assert await scope.spawn(read()) == "current"


@settings(max_examples=100)
@given(
    st.integers(0, 100),
    st.lists(
        st.tuples(st.floats(0, 5), st.sampled_from(["returns", "raises", "waits", "lingers"])),
        max_size=20,
    ),
    st.floats(0, 6),
)
def test_whatever_its_tasks_do_none_outlives_the_scope_and_each_failure_is_told_once(
    seed: int, tasks: list[tuple[float, str]], close_at: float
):
    async def main(sim: Simulation) -> None:
        told: list[str] = []
        raised: list[str] = []

        async def work(number: int, delay_s: float, how: str) -> None:
            try:
                await asyncio.sleep(delay_s)
                if how == "raises":
                    raised.append(f"scope/{number}")
                    raise ValueError
                if how != "returns":
                    await forever()
            finally:
                if how == "lingers":
                    await asyncio.sleep(2)

        scope = Scope("scope", lambda name, exc: told.append(name))
        spawned = [
            scope.spawn(work(number, delay_s, how), name=str(number))
            for number, (delay_s, how) in enumerate(tasks)
        ]
        await asyncio.sleep(close_at)
        await scope.close()
        assert all(task.done() for task in spawned)
        assert told == raised
        assert asyncio.all_tasks() == {asyncio.current_task()}

    simulate(seed, main)
