"""How a cell runs calls: in which order, how many at once, and where."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import pytest

from fray.errors import (
    ActorDied,
    CallCancelled,
    CallError,
    DeadlineExceeded,
    MailboxFull,
    PayloadError,
    Started,
    UnknownMethodError,
    remote_error,
)
from fray.runtime.calls import CURRENT_INVOCATION
from fray.runtime.cell import CellOptions, CellState
from fray.runtime.execution import LANES_MAX
from fray.runtime.payload import Codec

from .hosted import BYE, Actors, actors, ask, call, concurrent

__all__ = ["actors"]  # a fixture

if TYPE_CHECKING:
    from collections.abc import Callable

    from fray.testing import Simulation


class Worker:
    """Says when its methods begin and end."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.gates: dict[str, asyncio.Event] = {}

    async def slow(self, name: str) -> str:
        self.log.append(f"+{name}")
        try:
            await self.gates.setdefault(name, asyncio.Event()).wait()
        finally:
            self.log.append(f"-{name}")
        return name

    async def careful(self, name: str) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(10)
            self.log.append(f"{name} is clean")

    def quick(self, name: str) -> str:
        self.log.append(name)
        return name

    @concurrent
    async def health(self, name: str = "health") -> str:
        self.log.append(name)
        return "ok"

    @concurrent
    def plain_health(self) -> str:
        return "ok"

    def fail(self, message: str) -> None:
        raise ValueError(message)

    async def fail_async(self, message: str) -> None:
        raise ValueError(message)

    async def exit(self) -> None:
        raise SystemExit(3)

    def exit_plain(self) -> None:
        raise SystemExit(3)

    async def cancel_itself(self) -> None:
        raise asyncio.CancelledError

    async def unpicklable(self) -> Any:
        return threading.Lock()

    def unpicklable_plain(self) -> Any:
        return threading.Lock()

    @staticmethod
    def static(x: int) -> int:
        return x + 1

    @classmethod
    def of_class(cls) -> str:
        return cls.__name__

    async def whoami(self) -> str:
        invocation = CURRENT_INVOCATION.get()
        assert invocation is not None
        return invocation.method

    def whoami_plain(self) -> str:
        invocation = CURRENT_INVOCATION.get()
        assert invocation is not None
        return invocation.method

    def _private(self) -> None:
        self.log.append("private")

    def on_loop(self) -> bool:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return False
        return True


async def settle() -> None:
    """Until all is done that takes no time, and what simulated threads do at once."""
    await asyncio.sleep(1)


# --- results and errors


async def test_a_result_comes_back(actors: Actors):
    cell = await actors.start(Worker)
    assert await ask(cell, "quick", "a") == "a"
    assert await ask(cell, "quick", name="b") == "b"
    assert await ask(cell, "health") == "ok"
    assert await ask(cell, "static", 1) == 2
    assert await ask(cell, "of_class") == "Worker"


@pytest.mark.parametrize("method", ["fail", "fail_async"])
async def test_what_a_method_raises_comes_back_and_the_actor_lives_on(actors: Actors, method: str):
    cell = await actors.start(Worker)
    failed = call(cell, method, "no")
    error = await failed.error()
    assert (type(error), str(error), failed.outcome) == (ValueError, "no", "error")
    assert "in fail" in str(remote_error(error))
    assert await ask(cell, "quick", "a") == "a"


@pytest.mark.parametrize("method", ["exit", "exit_plain"])
async def test_a_method_that_exits_ends_only_its_own_call(actors: Actors, method: str):
    cell = await actors.start(Worker)
    failed = call(cell, method)
    assert "SystemExit" in str(await failed.error())
    assert failed.outcome == "error"
    assert await ask(cell, "quick", "a") == "a"


async def test_a_method_that_cancels_itself_is_answered(actors: Actors):
    cell = await actors.start(Worker)
    error = await call(cell, "cancel_itself").error()
    assert isinstance(error, CallCancelled)
    assert error.started is Started.UNKNOWN


@pytest.mark.parametrize("method", ["unpicklable", "unpicklable_plain"])
async def test_a_result_that_cannot_be_pickled_is_an_error_of_the_call(actors: Actors, method: str):
    cell = await actors.start(Worker)
    assert isinstance(await call(cell, method).error(), PayloadError)


@pytest.mark.parametrize("method", ["quick", "slow"])
async def test_arguments_that_do_not_fit_are_an_error_of_the_call(actors: Actors, method: str):
    cell = await actors.start(Worker)
    assert isinstance(await call(cell, method, 1, 2, 3).error(), TypeError)


@pytest.mark.parametrize("method", ["nothing", "_private", "__init__", "on_start", "log"])
async def test_what_is_no_public_method_cannot_be_called(actors: Actors, method: str):
    cell = await actors.start(Worker)
    error = await call(cell, method).error()
    assert isinstance(error, UnknownMethodError)
    assert error.started is Started.NO
    assert await ask(cell, "quick", "a") == "a"


async def test_an_unknown_method_waits_its_turn_like_any_other(actors: Actors):
    cell = actors.new()
    waiting = call(cell, "nothing")
    assert not waiting.done
    await cell.start(Worker)
    assert isinstance(await waiting.error(), UnknownMethodError)


@pytest.mark.parametrize("method", ["whoami", "whoami_plain"])
async def test_a_method_can_see_the_call_that_it_serves(actors: Actors, method: str):
    cell = await actors.start(Worker)
    assert await ask(cell, method) == method


async def test_each_caller_has_arguments_of_its_own(actors: Actors):
    class Keeper:
        def keep(self, values: list[int]) -> list[int]:
            values.append(1)
            return values

    cell = await actors.start(Keeper)
    values = [0]
    assert await ask(cell, "keep", values) == [0, 1]
    assert values == [0]


@pytest.mark.parametrize("method", ["length", "length_async"])
async def test_large_arguments_arrive_too(actors: Actors, method: str):
    class Large:
        def length(self, data: bytes) -> int:
            return len(data)

        async def length_async(self, data: bytes) -> int:
            return len(data)

    cell = await actors.start(Large)
    assert await ask(cell, method, bytes(1 << 20)) == 1 << 20


# --- order and concurrency


async def test_calls_start_in_the_order_in_which_they_were_submitted(actors: Actors):
    cell = actors.new()
    calls = [call(cell, "quick", str(i)) for i in range(20)]
    await cell.start(Worker)
    await asyncio.gather(*(each.ended for each in calls))
    assert cell.instance.log == [str(i) for i in range(20)]


async def test_one_call_runs_at_a_time_by_default(actors: Actors):
    cell = await actors.start(Worker)
    first, second, third = (
        call(cell, "slow", "a"),
        call(cell, "quick", "b"),
        call(cell, "slow", "c"),
    )
    await settle()
    worker = cell.instance
    assert worker.log == ["+a"]
    worker.gates["a"].set()
    await settle()
    assert worker.log == ["+a", "-a", "b", "+c"]
    assert (first.done, second.done, third.done) == (True, True, False)
    worker.gates["c"].set()
    assert await third.ended == "c"


async def test_max_concurrency_lets_so_many_run_at_once(actors: Actors):
    cell = await actors.start(Worker, max_concurrency=3)
    for name in "abcd":
        call(cell, "slow", name)
    await settle()
    worker = cell.instance
    assert worker.log == ["+a", "+b", "+c"]
    worker.gates["b"].set()
    await settle()
    assert worker.log == ["+a", "+b", "+c", "-b", "+d"]


async def test_a_concurrent_method_runs_at_once_beside_the_others(actors: Actors):
    cell = await actors.start(Worker)
    call(cell, "slow", "a")
    call(cell, "quick", "b")
    assert await ask(cell, "health") == "ok"
    assert await ask(cell, "plain_health") == "ok"
    assert cell.instance.log == ["+a", "health"]


async def test_concurrent_calls_that_waited_for_the_start_do_not_wait_for_other_calls(
    actors: Actors,
):
    cell = actors.new()
    call(cell, "slow", "a")
    call(cell, "slow", "b")
    health = call(cell, "health")
    await cell.start(Worker)
    assert await health.ended == "ok"
    await settle()
    assert sorted(cell.instance.log) == ["+a", "health"]


async def test_concurrent_calls_run_even_where_the_mailbox_is_full(actors: Actors):
    cell = await actors.start(Worker, mailbox_calls_max=1)
    call(cell, "slow", "a")
    call(cell, "slow", "b")
    assert isinstance(await call(cell, "slow", "c").error(), MailboxFull)
    assert await ask(cell, "health") == "ok"


async def test_a_full_mailbox_refuses_calls_at_once(actors: Actors):
    cell = await actors.start(Worker, mailbox_calls_max=2)
    kept = [call(cell, "slow", name) for name in "abc"]  # one runs, two wait
    refused = call(cell, "slow", "d")
    assert refused.done
    error = await refused.error()
    assert isinstance(error, MailboxFull)
    assert error.started is Started.NO
    assert "actor already has 2 calls waiting" in str(error)
    for name in "abc":
        cell.instance.gates.setdefault(name, asyncio.Event()).set()
    assert await asyncio.gather(*(each.ended for each in kept)) == ["a", "b", "c"]


async def test_calls_that_were_cancelled_do_not_fill_the_mailbox(actors: Actors):
    cell = await actors.start(Worker, mailbox_calls_max=2)
    running, *kept = [call(cell, "slow", name) for name in "ab"]
    for _ in range(10):
        call(cell, "slow", "x").cancel()
    assert cell.statistics().waiting == 1
    kept.append(call(cell, "slow", "c"))
    assert isinstance(await call(cell, "slow", "d").error(), MailboxFull)
    for name in "abc":
        cell.instance.gates.setdefault(name, asyncio.Event()).set()
    assert await running.ended == "a"
    assert await asyncio.gather(*(each.ended for each in kept)) == ["b", "c"]
    assert "+x" not in cell.instance.log


async def test_a_call_whose_time_was_up_before_its_turn_does_not_run(
    sim: Simulation, actors: Actors
):
    cell = await actors.start(Worker)
    call(cell, "slow", "a")
    late = call(cell, "quick", "b", deadline=sim.clock.monotonic() + 5)
    await asyncio.sleep(10)
    cell.instance.gates["a"].set()
    error = await late.error()
    assert isinstance(error, DeadlineExceeded)
    assert error.started is Started.NO
    assert cell.instance.log == ["+a", "-a"]


@pytest.mark.parametrize("cancelled_after_s", [4.0, 5.0, 6.0])
async def test_what_a_call_cleans_up_is_not_cut_off_when_both_its_time_is_up_and_its_caller_goes(
    sim: Simulation, actors: Actors, cancelled_after_s: float
):
    cell = await actors.start(Worker)
    careful = call(cell, "careful", "it", deadline=sim.clock.monotonic() + 5)
    await asyncio.sleep(cancelled_after_s)
    careful.cancel()
    await asyncio.sleep(20)
    assert cell.instance.log == ["it is clean"]


@pytest.mark.parametrize("method", ["health", "quick"])
async def test_a_call_whose_time_is_up_already_does_not_run(
    sim: Simulation, actors: Actors, method: str
):
    cell = await actors.start(Worker)
    await asyncio.sleep(10)
    error = await call(cell, method, "x", deadline=sim.clock.monotonic() - 1).error()
    assert isinstance(error, DeadlineExceeded)
    assert cell.instance.log == []


async def test_plain_methods_run_on_a_thread_and_never_on_the_loop(actors: Actors):
    cell = await actors.start(Worker)
    assert await ask(cell, "on_loop") is False


async def test_many_plain_calls_at_once_use_a_bounded_number_of_lanes(
    sim: Simulation, actors: Actors
):
    cell = await actors.start(Worker, max_concurrency=15_000)
    made: list[str] = []
    lane = sim.driver.threads.lane

    def counted(name: str = "", *, thread_affinity: bool = False) -> Any:
        made.append(name)
        return lane(name, thread_affinity=thread_affinity)

    sim.driver.threads.lane = counted  # type: ignore[method-assign]
    calls = [call(cell, "quick", str(i)) for i in range(500)]
    await asyncio.gather(*(each.ended for each in calls))
    assert len(made) <= LANES_MAX


@pytest.mark.parametrize("field", ["max_concurrency", "mailbox_calls_max"])
def test_options_that_make_no_sense_are_refused(field: str):
    with pytest.raises(ValueError, match=f"{field} must be at least 1, not 0"):
        CellOptions(**{field: 0})


# --- what calls are made of


class Typed:
    def double(self, x: int) -> int:
        return 2 * x

    @concurrent
    async def health(self, x: int = 0) -> int:
        return x


@pytest.mark.parametrize("method", ["double", "health"])
async def test_an_actor_of_the_control_plane_never_unpickles(actors: Actors, method: str):
    unpickled: list[int] = []

    class Bomb:
        def __reduce__(self) -> tuple[Callable[..., Any], tuple[int]]:
            return unpickled.append, (1,)

    cell = await actors.start(Typed, codec=Codec.JSON)
    refused = call(cell, method, Bomb())
    error = await refused.error()
    assert (type(error), refused.outcome) == (CallError, "failure")
    assert "takes JSON arguments, not PICKLE" in str(error)
    assert unpickled == []


async def test_an_actor_of_the_control_plane_checks_its_arguments(actors: Actors):
    cell = await actors.start(Typed, codec=Codec.JSON)
    assert await ask(cell, "double", 3, codec=Codec.JSON) == 6
    assert await ask(cell, "health", 3, codec=Codec.JSON) == 3
    error = await call(cell, "double", "3", codec=Codec.JSON).error()
    assert isinstance(error, PayloadError)
    assert "'x'" in str(error)


async def test_a_users_actor_does_not_take_json(actors: Actors):
    cell = await actors.start(Typed)
    error = await call(cell, "double", 3, codec=Codec.JSON).error()
    assert "takes PICKLE arguments, not JSON" in str(error)


# --- cancelling


async def test_a_waiting_call_that_is_cancelled_never_runs_and_is_not_answered(actors: Actors):
    cell = await actors.start(Worker)
    running, waiting, last = (
        call(cell, "slow", "a"),
        call(cell, "quick", "b"),
        call(cell, "quick", "c"),
    )
    waiting.cancel()
    cell.instance.gates.setdefault("a", asyncio.Event()).set()
    await asyncio.gather(running.ended, last.ended)
    assert cell.instance.log == ["+a", "-a", "c"]
    assert not waiting.done


async def test_cancelling_a_running_async_call_cancels_it_and_the_next_one_starts(
    actors: Actors,
):
    cell = await actors.start(Worker)
    running, waiting = call(cell, "slow", "a"), call(cell, "quick", "b")
    await settle()
    running.cancel()
    assert await waiting.ended == "b"
    assert cell.instance.log == ["+a", "-a", "b"]
    assert not running.done


async def test_a_call_that_is_cancelled_before_its_first_step_never_runs(actors: Actors):
    cell = await actors.start(Worker)
    first = call(cell, "slow", "a")
    first.cancel()
    assert await ask(cell, "quick", "b") == "b"
    assert cell.instance.log == ["b"]


async def test_cancelling_a_call_that_has_ended_changes_nothing(actors: Actors):
    cell = await actors.start(Worker)
    done = call(cell, "quick", "a")
    assert await done.ended == "a"
    done.cancel()
    assert await ask(cell, "quick", "b") == "b"
    assert cell.statistics().running == 0


async def test_an_async_method_may_clean_up_when_it_is_cancelled_before_the_next_one_starts(
    actors: Actors,
):
    class Careful(Worker):
        async def careful(self) -> None:
            try:
                await asyncio.Event().wait()
            finally:
                self.log.append("cleaning")
                await asyncio.sleep(10)
                self.log.append("clean")

    cell = await actors.start(Careful)
    running, waiting = call(cell, "careful"), call(cell, "quick", "b")
    await settle()
    running.cancel()
    assert await waiting.ended == "b"
    assert cell.instance.log == ["cleaning", "clean", "b"]


async def test_a_method_that_finishes_although_it_was_cancelled_is_not_answered(actors: Actors):
    class Stubborn(Worker):
        async def stubborn(self) -> str:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                return "never mind"
            return "no"

    cell = await actors.start(Stubborn)
    running = call(cell, "stubborn")
    await settle()
    running.cancel()
    assert await ask(cell, "quick", "b") == "b"
    assert not running.done


# --- what it shows


async def test_its_statistics_say_what_it_is_busy_with(actors: Actors):
    cell = await actors.start(Worker)
    assert repr(cell) == "<Cell actor running waiting=0 running=0>"
    assert cell.statistics().busy_in is None
    for name in "abc":
        call(cell, "slow", name)
    await asyncio.sleep(61 * 60)
    stats = cell.statistics()
    assert (stats.state, stats.waiting, stats.running) == (CellState.RUNNING, 2, 1)
    assert stats.busy_in == ("slow", pytest.approx(61 * 60))
    assert repr(cell) == "<Cell actor running waiting=2 running=1>"
    cell.kill(BYE)
    assert "stopped" in repr(cell)
    assert isinstance(await call(cell, "quick", "d").error(), ActorDied)
