from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import gc
import signal
import socket
import subprocess
import threading
import time
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fray.testing import (
    SimBackgroundError,
    SimDeadlock,
    SimLivelock,
    SimTimeLimit,
    Simulation,
    SimUnsupported,
    simulate,
)
from fray.testing.lanes import SimHandle, describe_callback
from fray.testing.loop import SimLoop

if TYPE_CHECKING:
    from fray.runtime.threads import Threads


async def forever(process=None) -> None:
    await asyncio.Event().wait()


# --- time


async def test_an_hour_of_waiting_takes_no_time(sim: Simulation):
    before = time.process_time_ns()
    await asyncio.sleep(3600)
    assert sim.loop.time() == 3600
    assert time.process_time_ns() - before < 1e9


async def test_timeouts_fire_at_their_virtual_time(sim: Simulation):
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(5):
            await asyncio.sleep(10)
    assert sim.loop.time() == 5
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(asyncio.Event().wait(), 1)
    assert sim.loop.time() == 6


async def test_wait_and_as_completed_follow_virtual_time(sim: Simulation):
    tasks = [asyncio.create_task(asyncio.sleep(i)) for i in range(3)]
    done, pending = await asyncio.wait(tasks, timeout=1.5)
    assert (len(done), len(pending)) == (2, 1)
    delayed = [asyncio.sleep(3 - i, i) for i in range(3)]
    assert [await c for c in asyncio.as_completed(delayed)] == [2, 1, 0]


async def test_equal_timers_fire_in_the_order_in_which_they_were_set(sim: Simulation):
    seen: list[int] = []
    for i in range(50):
        sim.loop.call_later(1, seen.append, i)
    await asyncio.sleep(2)
    assert seen == list(range(50))


async def test_a_cancelled_timer_does_not_fire_and_is_not_kept(sim: Simulation):
    handles = [sim.loop.call_later(1000 + i, forever) for i in range(1000)]
    for handle in handles[:-1]:
        handle.cancel()
        handle.cancel()
    assert handles[0].cancelled()
    assert len(sim.loop._timers) < 300
    handles[-1].cancel()
    assert handles[-1].when() == 1999


# --- asyncio's promises


async def test_task_groups_queues_locks_and_conditions_work(sim: Simulation):
    queue: asyncio.Queue[int] = asyncio.Queue(2)
    lock, condition, semaphore = asyncio.Lock(), asyncio.Condition(), asyncio.Semaphore(2)
    got: list[int] = []

    async def produce():
        for i in range(9):
            await queue.put(i)

    async def consume():
        for _ in range(9):
            async with lock, semaphore:
                got.append(await queue.get())
        async with condition:
            condition.notify_all()

    async def wait():
        async with condition:
            await condition.wait()

    async with asyncio.TaskGroup() as group:
        for work in (wait, produce, consume):
            group.create_task(work())
    assert got == list(range(9))


async def test_a_failing_task_cancels_its_group(sim: Simulation):
    async def fail():
        await asyncio.sleep(1)
        raise ValueError

    with pytest.raises(ExceptionGroup):
        async with asyncio.TaskGroup() as group:
            group.create_task(asyncio.sleep(100))
            group.create_task(fail())
    assert sim.loop.time() == 1


async def test_tasks_see_copies_of_context_variables(sim: Simulation):
    variable = contextvars.ContextVar("variable", default=0)

    async def child():
        variable.set(2)
        await asyncio.sleep(1)
        return variable.get()

    variable.set(1)
    assert await asyncio.create_task(child()) == 2
    assert variable.get() == 1


async def test_an_abandoned_async_generator_is_closed(sim: Simulation):
    closed = asyncio.Event()

    async def numbers():
        try:
            yield 1
            yield 2
        finally:
            await asyncio.sleep(1)
            closed.set()

    async for _ in numbers():
        break
    async with asyncio.timeout(5):
        await closed.wait()


def test_async_generators_that_are_left_open_are_closed_at_the_end():
    closed: list[int] = []

    async def numbers(n: int):
        try:
            yield n
        finally:
            await asyncio.sleep(1)
            closed.append(n)

    async def main(sim: Simulation):
        sim.kept = [numbers(n) for n in range(3)]
        for generator in sim.kept:
            await anext(generator)

    simulate(0, main)
    assert closed == [0, 1, 2]


async def test_callbacks_of_one_process_keep_their_order(sim: Simulation):
    seen: list[int] = []

    async def program(process):
        for i in range(100):
            sim.loop.call_soon(seen.append, i)
        await asyncio.sleep(0)

    async def noise(process):
        for _ in range(100):
            await asyncio.sleep(0)

    sim.process("a", program)
    for _ in range(5):
        sim.process("b", noise)
    await asyncio.sleep(1)
    assert seen == list(range(100))


def first_of_three(seed: int) -> str:
    async def main(sim: Simulation) -> str:
        seen: list[str] = []

        async def program(process):
            seen.append(process.host.name)

        for name in "abc":
            sim.process(name, program)
        await asyncio.sleep(1)
        return seen[0]

    return simulate(seed, main)


def test_the_seed_picks_which_process_runs_first():
    assert {first_of_three(seed) for seed in range(30)} == set("abc")


@given(st.integers())
def test_any_integer_is_a_seed_and_picks_always_the_same(seed: int):
    assert first_of_three(seed) == first_of_three(seed)


# --- what cannot go on


def test_a_deadlock_is_reported_with_who_waits_where():
    async def stuck():
        await asyncio.Event().wait()

    async def main(sim: Simulation):
        sim.process("a", forever, name="server")
        await asyncio.create_task(stuck(), name="lost")

    with pytest.raises(SimDeadlock) as caught:
        simulate(7, main)
    report = str(caught.value)
    assert "seed 7" in report
    assert "[test] lost:" in report
    assert "stuck (test_loop.py:" in report
    assert "[a/server] a/server/main:" in report
    assert "network at t=" in caught.value.__notes__[0]


def test_a_frozen_process_is_named_in_the_report_of_a_deadlock():
    async def main(sim: Simulation):
        server = sim.process("a", forever)
        sim.freeze(server)
        await server.wait()

    with pytest.raises(SimDeadlock, match="frozen: <Lane a/forever frozen"):
        simulate(0, main)


@pytest.mark.parametrize("delay_s", [0, -1])
def test_a_livelock_is_reported_with_what_ran(delay_s: float):
    async def main(sim: Simulation):
        async def spin():
            while True:
                await asyncio.sleep(delay_s)

        await asyncio.create_task(spin(), name="spinner")

    with pytest.raises(SimLivelock, match=r"\d+ × \[test\] task spinner"):
        simulate(0, main, steps_per_instant_max=10_000)


def test_timers_without_delay_are_a_livelock_too():
    async def main(sim: Simulation):
        def again():
            sim.loop.call_later(0, again)

        again()
        await forever()

    with pytest.raises(SimLivelock, match="again"):
        simulate(0, main, steps_per_instant_max=10_000)


def test_a_test_that_would_tick_for_ever_ends_at_the_time_limit():
    async def main(sim: Simulation):
        async def tick():
            while True:
                await asyncio.sleep(5)

        async with asyncio.TaskGroup() as group:
            group.create_task(tick(), name="ticker")
            await forever()

    with pytest.raises(SimTimeLimit, match="the limit of 100 s") as caught:
        simulate(0, main, time_limit_s=100)
    assert "ticker" in str(caught.value)


def test_a_simulation_that_takes_too_long_in_reality_is_given_up():
    async def main(sim: Simulation):
        while True:
            await asyncio.sleep(1e-6)

    with pytest.raises(SimTimeLimit, match=r"0\.01 s of real time are over"):
        simulate(0, main, wall_limit_s=0.01)


def test_a_long_report_is_cut():
    async def main(sim: Simulation):
        await asyncio.gather(*(forever() for _ in range(100)))

    with pytest.raises(SimDeadlock, match="101 pending tasks") as caught:
        simulate(0, main)
    assert "... and 61 more" in str(caught.value)


# --- failures that nobody awaits


@pytest.mark.parametrize("kind", ["callback", "task"])
def test_a_failure_that_nobody_awaits_fails_the_simulation(kind: str):
    async def fail():
        raise KeyError("unseen")

    async def main(sim: Simulation):
        if kind == "task":
            asyncio.create_task(fail())  # noqa: RUF006 - that nobody holds it is the point
        else:
            sim.loop.call_soon({}.__getitem__, "unseen")
        await asyncio.sleep(1)

    with pytest.raises(SimBackgroundError, match="KeyError") as caught:
        simulate(0, main)
    assert isinstance(caught.value.__cause__, KeyError)


async def test_a_failure_that_is_expected_can_be_taken_out(sim: Simulation):
    sim.loop.call_soon({}.__getitem__, "unseen")
    await asyncio.sleep(1)
    assert "KeyError" in str(sim.errors.pop()["exception"].__class__)


def test_without_a_simulation_the_loop_logs_errors(caplog: pytest.LogCaptureFixture):
    loop = SimLoop()
    loop.call_soon({}.__getitem__, "unseen")
    loop.run_until_complete(asyncio.sleep(1))
    loop.close()
    assert "Exception in callback" in caplog.text


# --- threads


async def test_a_function_for_a_thread_runs_at_a_later_moment(sim: Simulation):
    seen: list[str] = []
    future = sim.loop.run_in_executor(None, seen.append, "thread")
    await asyncio.sleep(0)
    seen.append("loop")
    await future
    assert seen == ["loop", "thread"]
    assert 0 < sim.loop.time() < 0.001


async def test_a_function_in_a_thread_sees_no_running_loop(sim: Simulation):
    def work() -> str:
        with pytest.raises(RuntimeError):
            asyncio.get_running_loop()
        return "worked"

    assert await asyncio.to_thread(work) == "worked"
    assert asyncio.get_running_loop() is sim.loop


async def test_a_thread_may_hand_work_to_the_loop(sim: Simulation):
    async def double(x: int) -> int:
        await asyncio.sleep(1)
        return 2 * x

    def work() -> concurrent.futures.Future[int]:
        return asyncio.run_coroutine_threadsafe(double(21), sim.loop)

    assert await asyncio.wrap_future(await asyncio.to_thread(work)) == 42


async def test_the_exception_of_a_function_is_its_outcome(sim: Simulation):
    with pytest.raises(ZeroDivisionError):
        await asyncio.to_thread(lambda: 1 / 0)


async def test_a_cancelled_function_does_not_run(sim: Simulation):
    seen: list[int] = []
    future = sim.loop.run_in_executor(None, seen.append, 1)
    future.cancel()
    await asyncio.sleep(1)
    assert seen == []


@pytest.mark.parametrize("error", [SystemExit(3), StopIteration(4)])
async def test_whatever_a_function_raises_is_its_outcome(sim: Simulation, error: BaseException):
    def fail():
        raise error

    future = sim.loop.run_in_executor(None, fail)
    await asyncio.wait([future])
    outcome = future.exception()
    assert error in (outcome, outcome.__cause__)


async def test_lanes_of_threads_run_one_function_at_a_time_in_order(sim: Simulation):
    seen: list[tuple[int, int]] = []
    threads: Threads = sim.driver.threads
    lanes = [threads.lane("actor") for _ in range(3)]
    futures = [
        lane.submit(seen.append, ((number, i),))
        for i in range(20)
        for number, lane in enumerate(lanes)
    ]
    await asyncio.gather(*futures)
    for number in range(3):
        assert [i for n, i in seen if n == number] == list(range(20))
    assert seen != sorted(seen, key=lambda pair: pair[1]), "lanes are independent of each other"


async def test_a_function_sees_the_context_it_is_given(sim: Simulation):
    variable = contextvars.ContextVar("variable", default=0)
    lane = sim.driver.threads.lane("actor", thread_affinity=True)
    context = contextvars.copy_context()
    context.run(variable.set, 1)
    assert await lane.submit(variable.get, (), context) == 1
    assert await lane.submit(variable.get) == 0


async def test_a_lane_of_threads_goes_on_after_a_failure_and_a_cancellation(sim: Simulation):
    lane = sim.driver.threads.lane("actor")
    failing, cancelled = lane.submit(lambda: 1 / 0), lane.submit(lambda: 2)
    last = lane.submit(lambda: 3)
    cancelled.cancel()
    assert await last == 3
    assert isinstance(failing.exception(), ZeroDivisionError)


async def test_closed_threads_drop_what_has_not_begun_and_take_nothing_more(sim: Simulation):
    lane = sim.driver.threads.lane("actor")
    first = lane.submit(lambda: sim.driver.threads.close())
    second = lane.submit(print)
    assert repr(lane) == "<SimThreadLane actor open waiting=2>"
    await first
    assert second.cancelled()
    with pytest.raises(RuntimeError, match="closed"):
        lane.submit(print)
    with pytest.raises(RuntimeError, match="closed"):
        sim.driver.threads.lane("actor")
    await asyncio.sleep(1)


async def test_a_function_on_a_lane_cannot_submit_as_no_thread_can(sim: Simulation):
    lane = sim.driver.threads.lane("actor")
    with pytest.raises(RuntimeError, match="no running event loop"):
        await lane.submit(lane.submit, (print,))


# --- what is refused


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("create_connection", "SimProcess.transport"),
        ("create_server", "SimProcess.transport"),
        ("sock_connect", "SimProcess.transport"),
        ("getaddrinfo", "SimProcess.transport"),
        ("create_datagram_endpoint", "SimProcess.transport"),
        ("subprocess_exec", "sim.process"),
        ("subprocess_shell", "sim.process"),
        ("connect_read_pipe", "sim.disk"),
        ("add_reader", "sim.disk"),
    ],
)
async def test_the_real_world_is_refused_with_advice(sim: Simulation, name: str, advice: str):
    with pytest.raises(SimUnsupported, match=advice):
        getattr(sim.loop, name)(None, None)


async def test_sockets_and_subprocesses_are_refused_through_asyncio_too(sim: Simulation):
    with pytest.raises(SimUnsupported):
        await asyncio.open_connection("127.0.0.1", 1)
    with pytest.raises(SimUnsupported):
        await asyncio.create_subprocess_exec("true")


def block_on_a_future() -> None:
    concurrent.futures.Future().result()


@pytest.mark.parametrize(
    ("block", "reason"),
    [
        (lambda: time.sleep(1), "virtual time cannot pass"),
        (lambda: threading.Event().wait(), "wait for ever"),
        (lambda: threading.Event().wait(1), "wait for ever"),
        (block_on_a_future, "wait for ever"),
        (lambda: threading.Thread(target=print).start(), "real thread"),
        (lambda: subprocess.run(["true"]), "a subprocess"),
        (lambda: socket.create_connection(("127.0.0.1", 1)), "real peer"),
        (lambda: socket.create_server(("127.0.0.1", 0)), "real peer"),
        (lambda: asyncio.new_event_loop(), "one event loop"),
        (asyncio.Runner().get_loop, "one event loop"),
    ],
)
async def test_what_would_block_is_refused_instead_of_hanging(sim: Simulation, block, reason: str):
    with pytest.raises(SimUnsupported, match=reason):
        await asyncio.to_thread(block)


async def test_asking_without_waiting_is_allowed(sim: Simulation):
    future: concurrent.futures.Future[int] = concurrent.futures.Future()
    with pytest.raises(TimeoutError):
        future.result(timeout=0)
    future.set_result(1)
    assert future.result() == 1


@pytest.mark.leftovers("it has ended, or nearly")
def test_a_real_thread_cannot_reach_into_the_simulation():
    problems: list[BaseException] = []
    sim = Simulation()
    go, done = threading.Lock(), threading.Lock()
    go.acquire()
    done.acquire()

    def intrude():
        go.acquire()
        try:
            sim.loop.call_soon_threadsafe(print)
        except SimUnsupported as exc:
            problems.append(exc)
        assert time.time() > 1e9
        assert time.monotonic() != sim.loop.time()
        done.release()

    thread = threading.Thread(target=intrude)
    thread.start()

    async def main():
        await asyncio.sleep(1)
        go.release()
        done.acquire()  # a lock does not ask the simulation

    with sim:
        sim.run(main())
    thread.join()
    assert "real thread" in str(problems[0])


def test_a_loop_inside_a_loop_is_refused():
    async def main(sim: Simulation):
        coro = forever()
        with pytest.raises(RuntimeError, match="is running"):
            sim.run(coro)
        coro.close()
        for close in (sim.close, sim.loop.close):
            with pytest.raises(RuntimeError, match="running"):
                close()

    simulate(0, main)


# --- small print


def test_a_closed_loop_takes_no_work():
    loop = SimLoop()
    loop.close()
    assert loop.is_closed()
    with pytest.raises(RuntimeError, match="closed"):
        loop.call_soon_threadsafe(print)
    with pytest.raises(RuntimeError, match="closed"):
        loop.run_forever()


def test_stop_ends_run_forever_and_run_until_complete_says_so():
    loop = SimLoop()
    loop.call_later(5, loop.stop)
    loop.run_forever()
    assert loop.time() == 5
    loop.call_later(5, loop.stop)
    with pytest.raises(RuntimeError, match="before Future completed"):
        loop.run_until_complete(loop.create_future())
    loop.close()


def test_exit_and_interrupt_leave_the_loop_at_once():
    def interrupt():
        raise KeyboardInterrupt

    loop = SimLoop()
    loop.call_soon(interrupt)
    with pytest.raises(KeyboardInterrupt):
        loop.run_until_complete(asyncio.sleep(1, loop.create_future()))
    loop.run_until_complete(asyncio.sleep(1))
    loop.close()


async def test_a_task_factory_is_used(sim: Simulation):
    names: list[str] = []

    def factory(loop, coro, **kwargs):
        names.append(coro.__name__)
        return asyncio.Task(coro, loop=loop, **kwargs)

    sim.loop.set_task_factory(factory)
    assert sim.loop.get_task_factory() is factory
    await asyncio.create_task(asyncio.sleep(1))
    sim.loop.set_task_factory(None)
    assert names == ["sleep"]


async def test_libraries_that_make_tasks_themselves_get_numbered_ones(sim: Simulation):
    task = asyncio.Task(asyncio.sleep(1))
    await task
    assert hash(task) == task.number


async def test_signal_handlers_belong_to_the_process_that_sets_them(sim: Simulation):
    sim.loop.add_signal_handler(signal.SIGTERM, print)
    assert signal.SIGTERM in sim.driver.lane.signal_handlers
    assert sim.loop.remove_signal_handler(signal.SIGTERM)
    assert not sim.loop.remove_signal_handler(signal.SIGTERM)


async def test_callbacks_are_named_without_addresses(sim: Simulation):
    task = asyncio.create_task(forever(), name="waiter")
    assert describe_callback(task.cancel) == "task waiter"
    assert describe_callback(forever) == "forever"
    handle = sim.loop.call_soon(forever)
    assert isinstance(handle, SimHandle)
    assert "of test: forever" in repr(handle)
    assert handle != sim.loop.call_soon(print)
    handle.cancel()
    assert "cancelled" in repr(handle)
    task.cancel()


async def test_the_collector_runs_at_fixed_steps_only(sim: Simulation):
    assert not gc.isenabled()
    counts = gc.get_stats()[2]["collections"]
    for _ in range(70_000):
        await asyncio.sleep(0)
    assert gc.get_stats()[2]["collections"] == counts + 1


def test_what_was_frozen_before_stays_frozen():
    gc.freeze()
    try:
        frozen = gc.get_freeze_count()
        simulate(0, lambda sim: asyncio.sleep(1))
        assert gc.get_freeze_count() >= frozen - 1000
    finally:
        gc.unfreeze()


def test_the_real_world_is_back_afterwards():
    def present():
        return (time.time, time.sleep, asyncio.Task, threading.Thread.start, socket.socket.bind)

    real = present()
    enabled, frozen = gc.isenabled(), gc.get_freeze_count()
    simulate(0, lambda sim: asyncio.sleep(1))
    assert present() == real
    assert "bind" not in vars(socket.socket)
    assert gc.isenabled() is enabled
    assert gc.get_freeze_count() <= frozen
