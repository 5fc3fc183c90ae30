"""How an actor begins and ends, and that whoever waits for it is told."""

from __future__ import annotations

import asyncio
import contextvars
from math import inf
from typing import TYPE_CHECKING, Any

import pytest

from fray.errors import ActorDied, CallCancelled, DeathCause, DeathKind, Started
from fray.runtime.cell import CLEAN_UP_S_MIN, CellState

from .hosted import BYE, Actors, actors, ask, call

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from fray.testing import Simulation

__all__ = ["actors"]  # a fixture

KILLED = DeathCause(DeathKind.OUT_OF_MEMORY, "it used 90 GB")


class Patient:
    """Lives as the test says, and keeps a diary."""

    def __init__(self) -> None:
        self.diary: list[Any] = []
        self.gate = asyncio.Event()
        self.clean_up_s = 0.0

    async def on_start(self) -> None:
        self.diary.append("start")

    async def on_stop(self, reason: DeathCause) -> None:
        self.diary.append(reason)

    async def wait(self, name: str = "") -> str:
        self.diary.append(f"+{name}")
        try:
            await self.gate.wait()
        finally:
            await asyncio.sleep(self.clean_up_s)
            self.diary.append(f"-{name}")
        return name

    def quick(self, name: str = "") -> str:
        self.diary.append(name)
        return name


class Plain:
    """Has plain hooks."""

    def __init__(self) -> None:
        self.diary: list[Any] = []

    def on_start(self) -> None:
        self.diary.append(_on_a_loop())

    def on_stop(self, reason: DeathCause) -> None:
        self.diary.append((reason, _on_a_loop()))


def _on_a_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


async def raised_by(awaited: Awaitable[Any]) -> BaseException | None:
    try:
        await awaited
    except Exception as exc:
        return exc
    return None


# --- beginning


async def test_calls_wait_until_the_actor_runs(actors: Actors):
    cell = actors.new()
    early = call(cell, "quick", "a")
    await asyncio.sleep(1)
    assert cell.state is CellState.STARTING
    assert not early.done
    await cell.start(Patient)
    assert await early.ended == "a"
    assert cell.instance.diary == ["start", "a"]


async def test_plain_hooks_run_on_a_thread(actors: Actors):
    cell = await actors.start(Plain)
    await cell.stop(BYE)
    assert cell.instance.diary == [False, (BYE, False)]


async def test_the_constructor_runs_on_a_thread(actors: Actors):
    cell = await actors.start(lambda: [_on_a_loop()])
    assert cell.instance == [False]


@pytest.mark.parametrize("exc", [ValueError("no"), KeyError(), SystemExit(3)])
async def test_a_constructor_that_raises_ends_the_actor_and_everybody_is_told(
    actors: Actors, exc: BaseException
):
    def factory() -> Any:
        raise exc

    cell = actors.new()
    waiting = call(cell, "quick")
    with pytest.raises(type(exc)):
        await cell.start(factory)
    cause = await cell.stopped
    assert cause.kind is DeathKind.APP_ERROR
    assert cause.message.startswith(f"it failed to start: {type(exc).__name__}")
    for each in (waiting, call(cell, "quick")):
        error = await each.error()
        assert isinstance(error, ActorDied)
        assert (error.cause, error.started) == (cause, Started.NO)


@pytest.mark.parametrize("plain", [False, True])
async def test_a_start_hook_that_raises_ends_the_actor_and_is_told_once(
    actors: Actors, plain: bool
):
    class Async:
        async def on_start(self) -> None:
            raise ValueError("no")

    class Sync:
        def on_start(self) -> None:
            raise ValueError("no")

    cell = actors.new()
    with pytest.raises(ValueError, match="no"):
        await cell.start(Sync if plain else Async)
    assert cell.stopped.result().message == "it failed to start: ValueError: no"


async def test_a_start_hook_that_cancels_itself_ends_the_actor(actors: Actors):
    class Odd:
        async def on_start(self) -> None:
            raise asyncio.CancelledError

    cell = actors.new()
    with pytest.raises(CallCancelled, match="cancelled itself"):
        await cell.start(Odd)
    assert cell.state is CellState.STOPPED


async def test_cancelling_whoever_starts_it_ends_the_actor(actors: Actors):
    class Slow:
        async def on_start(self) -> None:
            await asyncio.Event().wait()

    cell = actors.new()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1):
            await cell.start(Slow)
    assert cell.state is CellState.STOPPED


@pytest.mark.parametrize("how", ["stop", "kill"])
@pytest.mark.parametrize("where", ["before", "constructor", "hook", "plain hook"])
async def test_whoever_starts_an_actor_that_is_ended_meanwhile_is_told(
    actors: Actors, how: str, where: str
):
    made = asyncio.Event()
    loop = asyncio.get_running_loop()

    class Slow:
        def __init__(self) -> None:
            loop.call_soon(made.set)

        if where == "hook":

            async def on_start(self) -> None:
                await asyncio.Event().wait()

        if where == "plain hook":

            def on_start(self) -> None:
                pass

    cell = actors.new()
    waiting = call(cell, "quick")
    async with asyncio.TaskGroup() as group:
        start = group.create_task(raised_by(cell.start(Slow)))
        if where == "constructor":
            await asyncio.sleep(0)
        elif where != "before":
            await made.wait()
            for _ in range(3):  # until the hook was handed over; the thread has not got to it yet
                await asyncio.sleep(0)
        if how == "kill":
            cell.kill(KILLED)
        else:
            await cell.stop(KILLED)
    for error in (start.result(), await waiting.error()):
        assert isinstance(error, ActorDied)
        assert (error.cause, error.started) == (KILLED, Started.NO)


async def test_methods_and_hooks_see_the_context_of_the_actor(actors: Actors):
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")

    class Reader:
        async def on_start(self) -> None:
            assert variable.get() == "host"

        def read(self) -> str:
            return variable.get()

        async def read_async(self) -> str:
            return variable.get()

    variable.set("host")
    cell = actors.new()
    variable.set("caller")
    await cell.start(Reader)
    assert [await ask(cell, "read"), await ask(cell, "read_async")] == ["host"] * 2


# --- stopping


async def test_stopping_lets_present_calls_end_refuses_new_ones_and_calls_the_hook(
    actors: Actors,
):
    cell = await actors.start(Patient)
    patient = cell.instance
    running, waiting = call(cell, "wait", "a"), call(cell, "quick", "b")
    async with asyncio.TaskGroup() as group:
        group.create_task(cell.stop(BYE, grace_s=100))
        await asyncio.sleep(1)
        assert cell.state is CellState.STOPPING
        refused = call(cell, "quick", "c")
        assert refused.done
        patient.gate.set()
    assert (await running.ended, await waiting.ended) == ("a", "b")
    error = await refused.error()
    assert isinstance(error, ActorDied)
    assert (error.cause, error.started) == (BYE, Started.NO)
    assert patient.diary == ["start", "+a", "-a", "b", BYE]
    assert cell.stopped.result() == BYE


@pytest.mark.parametrize("grace_s", [0, 5])
async def test_after_the_grace_what_runs_is_cancelled_and_what_waits_is_refused(
    sim: Simulation, actors: Actors, grace_s: float
):
    cell = await actors.start(Patient)
    cell.instance.clean_up_s = 0.1
    running, waiting = call(cell, "wait", "a"), call(cell, "quick", "b")
    await asyncio.sleep(1)
    began = sim.loop.time()
    await cell.stop(BYE, grace_s=grace_s)
    assert sim.loop.time() - began == pytest.approx(grace_s + 0.1)
    for each, started in ((running, Started.UNKNOWN), (waiting, Started.NO)):
        error = await each.error()
        assert isinstance(error, ActorDied)
        assert (error.cause, error.started) == (BYE, started)
    assert cell.instance.diary == ["start", "+a", "-a", BYE]


async def test_an_infinite_grace_waits_for_the_present_calls(sim: Simulation, actors: Actors):
    cell = await actors.start(Patient)
    running = call(cell, "wait", "a")
    sim.loop.call_later(5000, cell.instance.gate.set)
    await cell.stop(BYE, grace_s=inf)
    assert await running.ended == "a"


async def test_an_idle_actor_stops_at_once(sim: Simulation, actors: Actors):
    cell = await actors.start(Patient)
    began = sim.loop.time()
    await cell.stop(BYE, grace_s=100)
    assert sim.loop.time() == began


async def test_an_actor_whose_waiting_calls_were_all_cancelled_stops_when_it_is_idle(
    sim: Simulation, actors: Actors
):
    cell = await actors.start(Patient)
    running, waiting = call(cell, "wait", "a"), call(cell, "quick", "b")
    waiting.cancel()
    sim.loop.call_later(3, cell.instance.gate.set)
    await cell.stop(BYE, grace_s=100)
    assert sim.loop.time() == pytest.approx(3, abs=0.01)
    assert running.done


async def test_everybody_who_stops_an_actor_waits_until_it_has_ended(
    sim: Simulation, actors: Actors
):
    cell = await actors.start(Patient)
    call(cell, "wait", "a")
    async with asyncio.TaskGroup() as group:
        group.create_task(cell.stop(BYE, grace_s=5))
        await asyncio.sleep(1)
        await cell.stop(KILLED, grace_s=0)
    assert cell.stopped.result() == BYE
    await cell.stop(KILLED)
    assert cell.stopped.result() == cell.cause == BYE


async def test_cancelling_whoever_stops_an_actor_ends_it_at_once(actors: Actors):
    cell = await actors.start(Patient)
    running = call(cell, "wait", "a")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1):
            await cell.stop(BYE, grace_s=100)
    assert cell.stopped.result() == BYE
    assert isinstance(await running.error(), ActorDied)


async def test_a_stop_hook_need_not_take_the_reason(actors: Actors):
    class Modest(Patient):
        async def on_stop(self) -> None:  # type: ignore[override]
            self.diary.append("stop")

    class PlainlyModest(Plain):
        def on_stop(self) -> None:  # type: ignore[override]
            self.diary.append("stop")

    class Static(Patient):
        @staticmethod
        async def on_stop() -> None:  # type: ignore[override]
            stopped.append("static")

    class Generous(Patient):
        async def on_stop(self, *reasons: DeathCause) -> None:  # type: ignore[override]
            self.diary.append(reasons)

    stopped: list[str] = []
    ends = []
    for cls in (Modest, PlainlyModest, Static, Generous):
        cell = await actors.start(cls)
        await cell.stop(BYE)
        ends.append(cell.instance.diary[-1])
    assert ends == ["stop", "stop", "start", (BYE,)]
    assert stopped == ["static"]


async def test_a_stop_hook_that_raises_is_told_to_whoever_stops_the_actor_which_has_ended(
    actors: Actors,
):
    class Bad:
        async def on_stop(self, reason: DeathCause) -> None:
            raise ValueError("no")

    class Late:
        async def on_stop(self, reason: DeathCause) -> None:
            raise TimeoutError("the disk does not answer")

    for bad, exc in ((Bad, ValueError), (Late, TimeoutError)):
        cell = await actors.start(bad)
        with pytest.raises(exc):
            await cell.stop(BYE)
        assert cell.stopped.result() == BYE


@pytest.mark.parametrize("grace_s", [0, 10])
async def test_a_stop_hook_that_does_not_end_is_cut_off(
    sim: Simulation, actors: Actors, grace_s: float
):
    class Endless:
        async def on_stop(self, reason: DeathCause) -> None:
            await asyncio.Event().wait()

    cell = await actors.start(Endless)
    began = sim.loop.time()
    await cell.stop(BYE, grace_s=grace_s)
    assert sim.loop.time() - began == pytest.approx(max(grace_s, CLEAN_UP_S_MIN))
    assert cell.stopped.result() == BYE


async def test_a_method_that_ignores_being_cancelled_does_not_keep_the_actor_from_ending(
    sim: Simulation, actors: Actors
):
    class Stubborn:
        async def run(self) -> None:
            for _ in range(10):
                try:
                    await asyncio.sleep(100)
                except asyncio.CancelledError:
                    continue

    cell = await actors.start(Stubborn)
    running = call(cell, "run")
    await asyncio.sleep(1)
    await cell.stop(BYE, grace_s=2)
    assert sim.loop.time() == pytest.approx(1 + 2 + 1 + CLEAN_UP_S_MIN, abs=0.01)
    assert isinstance(await running.error(), ActorDied)
    (error,) = sim.errors
    assert "ignores that it was cancelled" in error["message"]
    sim.errors.clear()
    await asyncio.sleep(1000)


# --- killing


async def test_killing_ends_everything_at_once_without_the_hook(actors: Actors):
    cell = await actors.start(Patient)
    running, waiting = call(cell, "wait", "a"), call(cell, "quick", "b")
    await asyncio.sleep(1)
    cell.kill(KILLED)
    assert (running.outcome, waiting.outcome, cell.stopped.done()) == ("failure", "failure", True)
    for each, started in ((running, Started.UNKNOWN), (waiting, Started.NO)):
        error = await each.error()
        assert isinstance(error, ActorDied)
        assert (error.cause, error.started) == (KILLED, started)
    await asyncio.sleep(1)
    assert cell.instance.diary == ["start", "+a", "-a"]
    cell.kill(BYE)
    assert cell.stopped.result() == cell.cause == KILLED


async def test_killing_cuts_a_stop_short(sim: Simulation, actors: Actors):
    cell = await actors.start(Patient)
    call(cell, "wait", "a")
    async with asyncio.TaskGroup() as group:
        group.create_task(cell.stop(BYE, grace_s=100))
        await asyncio.sleep(1)
        cell.kill(KILLED)
    assert sim.loop.time() == pytest.approx(1, abs=0.01)
    assert cell.stopped.result() == cell.cause == KILLED
    assert BYE not in cell.instance.diary


@pytest.mark.parametrize("plain", [False, True])
async def test_killing_cuts_a_stop_hook_short(sim: Simulation, actors: Actors, plain: bool):
    class Async:
        async def on_stop(self, reason: DeathCause) -> None:
            await asyncio.Event().wait()

    class Sync:
        def on_stop(self, reason: DeathCause) -> None:
            pass

    cell = await actors.start(Sync if plain else Async)
    async with asyncio.TaskGroup() as group:
        group.create_task(cell.stop(BYE, grace_s=100))
        await asyncio.sleep(0 if plain else 1)
        cell.kill(KILLED)
    assert cell.stopped.result() == KILLED


async def test_a_call_that_was_given_to_the_thread_but_did_not_begin_is_known_not_to_have_run(
    actors: Actors,
):
    cell = await actors.start(Patient)
    calls = [call(cell, "quick", str(i)) for i in range(10)]
    cell.kill(KILLED)
    await asyncio.sleep(1)
    for each in calls:
        error = await each.error()
        assert isinstance(error, ActorDied)
        assert error.started is Started.NO
    assert cell.instance.diary == ["start"]


async def test_nothing_is_left_of_an_actor_that_has_ended(actors: Actors):
    cell = await actors.start(Patient)
    call(cell, "wait", "a")
    await asyncio.sleep(1)
    cell.kill(KILLED)
    await asyncio.sleep(1)
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert cell.statistics().running == cell.statistics().waiting == 0
