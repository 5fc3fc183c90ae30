"""Plain methods on real threads: what a thread does cannot be taken back."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from fray.errors import ActorDied, CallError, DeathCause, DeathKind, Started
from fray.runtime.calls import CURRENT_INVOCATION
from fray.runtime.cell import Cell, CellOptions
from fray.runtime.clock import SystemClock
from fray.runtime.mailbox import LANE_AHEAD_MAX
from fray.runtime.threads import ThreadLanes

from .hosted import BYE, Call, ask, call, concurrent

SOON_S = 10.0
"""Longer than anything here takes."""


class Gated:
    """Its plain methods run until the test lets them go on, or until they are cancelled."""

    def __init__(self) -> None:
        self.entered = threading.Semaphore(0)
        self.gate = threading.Event()
        self.log: list[Any] = []
        self.threads: list[int] = []

    def hold(self, name: str = "") -> str:
        self.log.append(f"+{name}")
        self.threads.append(threading.get_ident())
        self.entered.release()
        assert self.gate.wait(SOON_S)
        self.log.append(f"-{name}")
        return name

    def obedient(self) -> None:
        self.entered.release()
        invocation = CURRENT_INVOCATION.get()
        assert invocation is not None
        deadline = time.monotonic() + SOON_S
        while not invocation.cancelled and time.monotonic() < deadline:
            self.gate.wait(0.001)
        self.log.append("saw it")

    def quick(self, name: str = "") -> str:
        self.log.append(name)
        self.threads.append(threading.get_ident())
        return name

    async def quick_async(self, name: str = "") -> str:
        self.log.append(name)
        return name

    @concurrent
    def health(self) -> int:
        return threading.get_ident()

    @concurrent
    async def large(self, data: bytes) -> int:
        return len(data)

    def count(self) -> Iterator[int]:
        try:
            for i in range(1000):
                self.threads.append(threading.get_ident())
                yield i
        finally:
            self.log.append("closed")

    def on_stop(self, reason: DeathCause) -> None:
        self.log.append(reason)


Hosting = Callable[..., Any]


@pytest.fixture
async def host() -> AsyncIterator[Hosting]:
    threads = ThreadLanes()
    cells: list[Cell] = []

    async def start(factory: Callable[[], Any] = Gated, **options: Any) -> Cell:
        cell = Cell(
            "actor/1",
            label="actor",
            clock=SystemClock(),
            threads=threads,
            options=CellOptions(**options),
        )
        cells.append(cell)
        await cell.start(factory)
        return cell

    yield start
    for cell in cells:
        if isinstance(cell.instance, Gated):
            cell.instance.gate.set()
        cell.kill(BYE)
    threads.close()


async def entered(cell: Cell, times: int = 1) -> None:
    """Until so many plain methods have begun."""
    for _ in range(times):
        assert await asyncio.to_thread(cell.instance.entered.acquire, timeout=SOON_S)


async def test_a_plain_method_that_blocks_does_not_block_the_loop(host: Hosting):
    cell = await host()
    held = call(cell, "hold", "a")
    await entered(cell)
    assert await ask(cell, "large", bytes(1 << 20)) == 1 << 20
    cell.instance.gate.set()
    assert await held.ended == "a"
    assert cell.instance.threads[0] != threading.get_ident()


async def test_plain_calls_run_in_order_and_one_at_a_time(host: Hosting):
    cell = await host()
    cell.instance.gate.set()
    calls = [call(cell, ("hold", "quick", "quick_async")[i % 3], str(i)) for i in range(300)]
    await asyncio.gather(*(each.ended for each in calls))
    expected = [e for i in range(300) for e in ([f"+{i}", f"-{i}"] if i % 3 == 0 else [str(i)])]
    assert cell.instance.log == expected


async def test_the_thread_is_given_no_more_than_a_batch(host: Hosting):
    cell = await host()
    calls = [call(cell, "hold", "first"), *(call(cell, "quick") for _ in range(500))]
    await entered(cell)
    assert cell.statistics().running == LANE_AHEAD_MAX
    cell.instance.gate.set()
    await asyncio.gather(*(each.ended for each in calls))


async def test_max_concurrency_runs_plain_methods_on_as_many_threads(host: Hosting):
    cell = await host(max_concurrency=4)
    calls = [call(cell, "hold", str(i)) for i in range(6)]
    await entered(cell, 4)
    assert len(set(cell.instance.threads)) == 4
    assert not cell.instance.entered.acquire(blocking=False)
    cell.instance.gate.set()
    assert await asyncio.gather(*(each.ended for each in calls)) == [str(i) for i in range(6)]


async def test_thread_affinity_runs_everything_on_one_thread(host: Hosting):
    def factory() -> Gated:
        made = Gated()
        made.threads.append(threading.get_ident())
        made.gate.set()
        return made

    cell = await host(factory, thread_affinity=True, max_concurrency=4)
    calls = [call(cell, "hold"), *(call(cell, "quick") for _ in range(10)), call(cell, "count")]
    await asyncio.gather(*(each.ended for each in calls[:-1]))
    thread = await ask(cell, "health")
    while len(calls[-1].items) < 10:
        await asyncio.sleep(0)
    assert set(cell.instance.threads) == {thread}


async def test_a_concurrent_plain_method_runs_beside_one_that_blocks(host: Hosting):
    cell = await host()
    call(cell, "hold")
    await entered(cell)
    assert await ask(cell, "health") != cell.instance.threads[0]


async def test_a_plain_method_can_see_that_its_call_was_cancelled(host: Hosting):
    cell = await host()
    running = call(cell, "obedient")
    await entered(cell)
    running.cancel()
    assert await ask(cell, "quick", "next") == "next"
    assert cell.instance.log == ["saw it", "next"]
    assert not running.done


@pytest.mark.parametrize("following", ["quick", "quick_async"])
async def test_a_cancelled_plain_method_that_goes_on_keeps_its_turn(host: Hosting, following: str):
    cell = await host()
    running = call(cell, "hold", "a")
    waiting = call(cell, following, "b")
    await entered(cell)
    running.cancel()
    assert await ask(cell, "large", b"") == 0  # the loop has come round: nothing was started
    assert cell.statistics().busy_in is not None
    assert cell.instance.log == ["+a"]
    cell.instance.gate.set()
    assert await waiting.ended == "b"
    assert cell.instance.log == ["+a", "-a", "b"]


async def test_async_methods_beside_plain_ones_change_nothing_about_who_runs_when(host: Hosting):
    cell = await host()
    plain, other = call(cell, "hold", "a"), call(cell, "quick_async", "b")
    await entered(cell)
    assert await ask(cell, "large", b"") == 0  # the loop has come round
    assert cell.instance.log == ["+a"]  # whichever kind it is, one call runs at a time
    cell.instance.gate.set()
    assert (await plain.ended, await other.ended) == ("a", "b")
    assert cell.instance.log == ["+a", "-a", "b"]


async def test_a_plain_call_that_the_thread_has_not_begun_can_be_cancelled(host: Hosting):
    cell = await host()
    call(cell, "hold", "a")
    dropped, kept = call(cell, "quick", "b"), call(cell, "quick", "c")
    await entered(cell)
    dropped.cancel()
    cell.instance.gate.set()
    assert await kept.ended == "c"
    assert cell.instance.log == ["+a", "-a", "c"]
    assert not dropped.done


async def test_stopping_asks_a_plain_method_to_end_and_then_calls_the_hook(host: Hosting):
    cell = await host()
    running, waiting = call(cell, "obedient"), call(cell, "quick", "b")
    await entered(cell)
    await cell.stop(BYE, grace_s=0)
    assert running.outcome == "result"  # it has ended by itself, in time
    error = await waiting.error()
    assert isinstance(error, ActorDied)
    assert error.started is Started.NO
    assert cell.instance.log == ["saw it", BYE]


async def test_a_plain_method_that_does_not_end_keeps_neither_stop_nor_caller_waiting(
    host: Hosting,
):
    cell = await host()
    running, waiting = call(cell, "hold", "a"), call(cell, "quick", "b")
    await entered(cell)
    await cell.stop(BYE, grace_s=0)
    for each, started in ((running, Started.UNKNOWN), (waiting, Started.NO)):
        error = await each.error()
        assert isinstance(error, ActorDied)
        assert (error.cause, error.started) == (BYE, started)
    assert cell.instance.log == ["+a"]


async def test_killing_answers_at_once_whatever_the_thread_does(host: Hosting):
    cell = await host()
    calls = [call(cell, "hold", "a"), *(call(cell, "quick") for _ in range(5))]
    await entered(cell)
    cell.kill(BYE)
    errors = [await each.error() for each in calls]
    assert [e.started for e in errors if isinstance(e, ActorDied)] == [Started.UNKNOWN] + [
        Started.NO
    ] * 5
    cell.instance.gate.set()


async def test_an_actor_whose_constructor_does_not_end_can_be_killed(host: Hosting):
    going, gate = threading.Event(), threading.Event()

    def factory() -> Gated:
        going.set()
        gate.wait(SOON_S)
        return Gated()

    threads = ThreadLanes()
    cell = Cell("actor/1", label="actor", clock=SystemClock(), threads=threads)
    async with asyncio.TaskGroup() as group:
        start = group.create_task(_raised_by(cell.start(factory)))
        assert await asyncio.to_thread(going.wait, SOON_S)
        cell.kill(DeathCause(DeathKind.STOPPED, "nobody wants it"))
    assert isinstance(start.result(), ActorDied)
    gate.set()
    threads.close()


async def test_closing_a_plain_stream_runs_its_cleaning_up_on_the_thread(host: Hosting):
    cell = await host()
    stream = call(cell, "count")
    while not stream.items:
        await asyncio.sleep(0)
    stream.cancel()
    assert await ask(cell, "quick", "next") == "next"
    assert cell.instance.log == ["closed", "next"]


async def test_a_call_is_known_not_to_have_begun_only_if_it_has_not(host: Hosting):
    """Cancels and kills at every moment of a thread's work."""
    for delay in range(60):
        cell = await host(lambda: _Counted(500), max_concurrency=1 + delay % 3)
        counted = cell.instance
        calls = [call(cell, "run", number) for number in range(300)]
        for _ in range(delay):
            await asyncio.sleep(0)
        for each in calls[:: 1 + delay % 4]:
            each.cancel()
        await asyncio.sleep(0)
        cell.kill(BYE)
        await _threads_are_idle(cell)
        for number, each in enumerate(calls):
            if each.done:
                _check(counted, number, each)
        assert max(counted.began, default=0) <= 1


class _Counted:
    def __init__(self, n: int) -> None:
        self.began = [0] * n

    def run(self, number: int) -> int:
        self.began[number] += 1
        return number


def _check(counted: _Counted, number: int, each: Call) -> None:
    exc = each.ended.exception()
    if exc is None:
        assert counted.began[number] == 1
    else:
        assert isinstance(exc, CallError)
        if exc.started is Started.NO:
            assert counted.began[number] == 0


async def _threads_are_idle(cell: Cell) -> None:
    async with asyncio.timeout(SOON_S):
        while cell.statistics().running:
            await asyncio.sleep(0.0005)


async def _raised_by(awaited: Any) -> BaseException | None:
    try:
        await awaited
    except Exception as exc:
        return exc
    return None
