from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from collections.abc import Callable, Iterator
from contextvars import ContextVar, copy_context
from typing import Any

import pytest

from fray.runtime.threads import (
    IDLE_NAME,
    IDLE_THREADS_MAX,
    InlineThreads,
    Running,
    ThreadLanes,
    Threads,
)

WAIT_S = 20
"""Far above what anything here takes; only a test that fails waits so long."""

Variable: ContextVar[str] = ContextVar("Variable", default="unset")


@pytest.fixture
def threads() -> Iterator[ThreadLanes]:
    lanes = ThreadLanes()
    yield lanes
    assert lanes.close() == ()


@pytest.fixture(params=[ThreadLanes, InlineThreads])
def either(request: pytest.FixtureRequest) -> Iterator[Threads]:
    """What holds for every implementation."""
    lanes = request.param()
    yield lanes
    lanes.close()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(WAIT_S):
        while not condition():
            await asyncio.sleep(0.001)


class Gate:
    """A function that runs until it is let go."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.open = threading.Event()

    def __call__(self, value: object = None) -> object:
        self.entered.set()
        assert self.open.wait(WAIT_S)
        return value

    async def wait_entered(self) -> None:
        await until(self.entered.is_set)


def thread_name() -> str:
    return threading.current_thread().name


# ---- every implementation


async def test_a_function_s_result_arrives(either: Threads) -> None:
    assert await either.lane("a").submit(pow, (2, 5)) == 32


async def test_what_a_function_raises_arrives(either: Threads) -> None:
    with pytest.raises(ZeroDivisionError):
        await either.lane("a").submit(divmod, (1, 0))


async def test_functions_run_in_the_order_in_which_they_were_submitted(either: Threads) -> None:
    lane = either.lane("a")
    ran: list[int] = []
    await asyncio.gather(*(lane.submit(ran.append, (number,)) for number in range(1000)))
    assert ran == list(range(1000))


async def test_a_function_runs_in_the_context_it_is_given(either: Threads) -> None:
    lane = either.lane("a")
    context = copy_context()
    context.run(Variable.set, "given")
    assert await lane.submit(Variable.get, (), context) == "given"
    await lane.submit(Variable.set, ("changed",), context)
    assert context[Variable] == "changed"
    assert Variable.get() == "unset"


async def test_without_a_context_a_function_sees_a_copy_of_the_submitter_s(
    either: Threads,
) -> None:
    lane = either.lane("a")
    Variable.set("mine")
    assert await lane.submit(Variable.get) == "mine"
    await lane.submit(Variable.set, ("theirs",))
    assert Variable.get() == "mine"


async def test_stop_iteration_becomes_the_cause_of_a_runtime_error(either: Threads) -> None:
    with pytest.raises(RuntimeError, match="StopIteration") as caught:
        await either.lane("a").submit(next, (iter(()),))
    assert isinstance(caught.value.__cause__, StopIteration)


@pytest.mark.parametrize("exc", [SystemExit(3), GeneratorExit(), asyncio.CancelledError()])
async def test_what_would_end_a_thread_only_ends_the_function(
    either: Threads, exc: BaseException
) -> None:
    def fail() -> None:
        raise exc

    lane = either.lane("a")
    outcome = await asyncio.wait([lane.submit(fail)])
    (future,) = outcome[0]
    assert future.exception() is exc
    assert await lane.submit(int) == 0


async def test_a_closed_lane_takes_nothing(either: Threads) -> None:
    lane = either.lane("a")
    lane.close()
    lane.close()
    with pytest.raises(RuntimeError, match="closed"):
        lane.submit(int)


async def test_closing_the_threads_closes_their_lanes(either: Threads) -> None:
    lane = either.lane("a")
    either.close()
    either.close()
    with pytest.raises(RuntimeError, match="closed"):
        lane.submit(int)


# ---- lanes


async def test_lanes_run_beside_each_other_and_beside_the_loop(threads: ThreadLanes) -> None:
    both = threading.Barrier(2)
    names = ["one", "two"]
    ran = await asyncio.gather(*(threads.lane(n).submit(both.wait, (WAIT_S,)) for n in names))
    assert sorted(ran) == [0, 1]


async def test_of_one_lane_only_one_function_runs_at_a_time(threads: ThreadLanes) -> None:
    lane, gate, ran = threads.lane("a"), Gate(), threading.Event()
    first = lane.submit(gate)
    second = lane.submit(ran.set)
    await gate.wait_entered()
    assert not ran.is_set()
    gate.open.set()
    await asyncio.gather(first, second)
    assert ran.is_set()


async def test_a_thread_is_named_after_the_lane_that_it_works_for(threads: ThreadLanes) -> None:
    assert await threads.lane("model").submit(thread_name) == "fray model"
    assert await threads.lane("other").submit(thread_name) == "fray other"
    await until(lambda: [t.name for t in threading.enumerate()].count(IDLE_NAME) >= 1)


async def test_idle_lanes_share_threads(threads: ThreadLanes) -> None:
    lanes = [threads.lane(str(number)) for number in range(100)]
    used: dict[int, None] = {}
    for lane in lanes:
        used[await lane.submit(threading.get_ident)] = None
        await until(lambda: "idle=0" not in repr(threads))
    assert len(used) == 1


async def test_few_threads_are_kept_idle(threads: ThreadLanes) -> None:
    count = 2 * IDLE_THREADS_MAX
    together = threading.Barrier(count)
    lanes = [threads.lane(str(number)) for number in range(count)]
    await asyncio.gather(*(lane.submit(together.wait, (WAIT_S,)) for lane in lanes))
    await until(lambda: f"threads={IDLE_THREADS_MAX} idle={IDLE_THREADS_MAX}" in repr(threads))


async def test_a_pinned_lane_keeps_its_thread(threads: ThreadLanes) -> None:
    pinned, other = threads.lane("pinned", thread_affinity=True), threads.lane("other")
    seen: dict[int, None] = {}
    for _ in range(20):
        seen[await pinned.submit(threading.get_ident)] = None
        assert await other.submit(threading.get_ident) not in seen
    assert len(seen) == 1


async def test_the_thread_of_a_pinned_lane_ends_with_it(threads: ThreadLanes) -> None:
    for busy in (False, True):
        lane, gate = threads.lane("pinned", thread_affinity=True), Gate()
        thread = await lane.submit(threading.current_thread)
        future = lane.submit(gate) if busy else None
        lane.close()
        gate.open.set()
        if future is not None:
            await asyncio.wait([future])
        await until(lambda thread=thread: not thread.is_alive())


async def test_lanes_wait_in_order_when_there_are_as_many_threads_as_may_be() -> None:
    threads = ThreadLanes(threads_max=1)
    gate, ran = Gate(), list[str]()
    first = threads.lane("first").submit(gate)
    rest = [threads.lane(name).submit(ran.append, (name,)) for name in "abc"]
    await gate.wait_entered()
    assert "waiting=3" in repr(threads)
    gate.open.set()
    await asyncio.gather(first, *rest)
    assert ran == ["a", "b", "c"]
    threads.close()


async def test_a_closed_pinned_lane_makes_room_for_those_that_wait() -> None:
    threads = ThreadLanes(threads_max=1)
    pinned = threads.lane("pinned", thread_affinity=True)
    await pinned.submit(int)
    waiting = threads.lane("waiting").submit(int)
    await until(lambda: "waiting=1" in repr(threads))
    pinned.close()
    assert await waiting == 0
    threads.close()


async def test_a_system_without_threads_left_fails_the_call_and_not_the_lane(
    threads: ThreadLanes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none_left(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    lane = threads.lane("a")
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", none_left)
        with pytest.raises(RuntimeError, match="can't start"):
            await lane.submit(int)
    assert await lane.submit(int) == 0


async def test_no_submission_is_forgotten_however_it_falls(threads: ThreadLanes) -> None:
    lanes = [threads.lane(str(number)) for number in range(3)]

    async def work(seed: int) -> int:
        total = 0
        for number in range(700):
            total += await lanes[(seed + number) % 3].submit(int, (1,))
        return total

    async with asyncio.timeout(WAIT_S):
        assert await asyncio.gather(*map(work, range(4))) == [700] * 4


# ---- cancelling and closing


async def test_a_cancelled_function_that_has_not_begun_never_runs(threads: ThreadLanes) -> None:
    lane, gate, ran = threads.lane("a"), Gate(), list[int]()
    first = lane.submit(gate)
    dropped, kept = lane.submit(ran.append, (1,)), lane.submit(ran.append, (2,))
    await gate.wait_entered()
    dropped.cancel()
    gate.open.set()
    await asyncio.gather(first, kept)
    assert ran == [2]


async def test_a_function_that_has_begun_goes_on_when_it_is_cancelled(
    threads: ThreadLanes,
) -> None:
    lane, gate, ran = threads.lane("a"), Gate(), threading.Event()
    future = lane.submit(lambda: (gate(), ran.set()))
    await gate.wait_entered()
    future.cancel()
    gate.open.set()
    assert await lane.submit(int) == 0  # in order: after the cancelled one
    assert ran.is_set()
    assert future.cancelled()


async def test_closing_a_lane_drops_what_has_not_begun_and_tells_what_runs(
    threads: ThreadLanes,
) -> None:
    lane, gate = threads.lane("a"), Gate()
    running, waiting = lane.submit(gate, ("done",)), lane.submit(int)
    await gate.wait_entered()
    assert lane.close() == Running("a", "Gate", "fray a")
    assert waiting.cancelled()
    gate.open.set()
    assert await running == "done"


async def test_closing_does_not_wait_for_a_function_that_never_ends_and_tells_of_it() -> None:
    threads, gate = ThreadLanes(), Gate()
    future = threads.lane("stuck", thread_affinity=True).submit(gate)
    threads.lane("idle").submit(int)
    await gate.wait_entered()
    assert threads.running()[0] == ("stuck", "Gate", "fray stuck")
    assert threads.close() == (Running("stuck", "Gate", "fray stuck"),)
    assert all(t.daemon for t in threading.enumerate() if t.name.startswith("fray "))
    with pytest.raises(RuntimeError, match="closed"):
        threads.lane("new")
    gate.open.set()
    await future


async def test_threads_end_when_they_are_closed() -> None:
    before = threading.active_count()
    threads = ThreadLanes()
    both = threading.Barrier(2)
    await asyncio.gather(*(threads.lane(n).submit(both.wait, (WAIT_S,)) for n in "ab"))
    threads.close()
    await until(lambda: threading.active_count() == before)


async def test_nothing_of_a_call_is_kept_after_it(threads: ThreadLanes) -> None:
    class Argument:
        pass

    for pinned in (False, True):
        lane = threads.lane("a", thread_affinity=pinned)
        argument = Argument()
        gone = weakref.ref(argument)
        assert await lane.submit(lambda x: x, (argument,)) is argument
        del argument
        await until(lambda gone=gone: gc.collect() >= 0 and gone() is None)


# ---- wake-ups and loops


async def test_results_that_are_ready_together_cost_one_wake_up(
    threads: ThreadLanes, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = asyncio.get_running_loop()
    wake_ups: list[int] = []
    real = loop.call_soon_threadsafe

    def counted(*args: Any, **kwargs: Any) -> Any:
        wake_ups.append(1)
        return real(*args, **kwargs)

    monkeypatch.setattr(loop, "call_soon_threadsafe", counted)
    lanes, finished = [threads.lane("a"), threads.lane("b")], [threading.Event() for _ in "ab"]
    futures = [lane.submit(int, (n,)) for lane in lanes for n in range(500)]
    ends = [lane.submit(done.set) for lane, done in zip(lanes, finished, strict=True)]
    for done in finished:  # without giving the loop a turn
        done.wait(WAIT_S)
    assert sum(await asyncio.gather(*futures)) == 2 * sum(range(500))
    await asyncio.gather(*ends)
    assert len(wake_ups) <= 3  # one for all; the two ends may each come just after its delivery


def test_lanes_serve_several_loops_each_with_its_own_futures() -> None:
    threads = ThreadLanes()
    lane = threads.lane("a")

    async def use() -> list[int]:
        futures = [lane.submit(int, (n,)) for n in range(100)]
        assert all(f.get_loop() is asyncio.get_running_loop() for f in futures)
        return await asyncio.gather(*futures)

    outcomes: list[list[int]] = []
    users = [threading.Thread(target=lambda: outcomes.append(asyncio.run(use()))) for _ in "abc"]
    for user in users:
        user.start()
    for user in users:
        user.join(WAIT_S)
    assert outcomes == [list(range(100))] * 3
    threads.close()


def test_a_loop_that_closes_before_the_result_does_no_harm() -> None:
    threads, gate = ThreadLanes(), Gate()
    lane = threads.lane("a")

    async def leave() -> None:
        lane.submit(gate)
        await gate.wait_entered()

    async def use() -> object:
        return await lane.submit(int)

    asyncio.run(leave())
    gate.open.set()
    assert asyncio.run(use()) == 0
    threads.close()


def test_closing_from_another_thread_cancels_on_the_loop() -> None:
    threads, gate = ThreadLanes(), Gate()
    lane = threads.lane("a")

    async def use() -> bool:
        running, waiting = lane.submit(gate), lane.submit(int)
        await gate.wait_entered()
        closer = threading.Thread(target=lane.close)
        closer.start()
        await asyncio.wait([waiting])
        gate.open.set()
        await running
        closer.join(WAIT_S)
        return waiting.cancelled()

    assert asyncio.run(use())
    threads.close()
