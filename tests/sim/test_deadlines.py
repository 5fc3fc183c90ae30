"""Deadlines and cancelling travel: from the caller to the actor, and on to whomever it calls."""

from __future__ import annotations

import asyncio

import pytest

import fray
from fray.actor.current import current_system
from fray.errors import DeadlineExceeded, Started
from fray.runtime.calls import CURRENT_INVOCATION


@fray.actor
class Worker:
    """Works for a while, or has another do it; keeps a log of what it began and how that ended."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.cut_off_at = 0.0

    async def work(self, name: str, duration_s: float = 3600.0) -> str:
        self.log.append(f"+{name}")
        try:
            await asyncio.sleep(duration_s)
        except asyncio.CancelledError:
            self.log.append(f"!{name}")
            self.cut_off_at = asyncio.get_running_loop().time()
            raise
        self.log.append(f"-{name}")
        return name

    async def delegate(self, workers: list, how: str = "await", timeout: float | None = None):
        [first, *others] = workers
        method = first.delegate if others else first.work
        if timeout is not None:
            method = method.options(timeout=timeout)
        call = method.remote(others, how) if others else method.remote("delegated")
        return await (asyncio.create_task(self._result_of(call)) if how == "task" else call)

    async def _result_of(self, call):
        return await call

    async def stream(self, workers: list):
        yield "first"
        yield await workers[0].work.remote("delegated")

    def plain(self, workers: list) -> float:
        call = workers[0].work.remote("delegated")
        call.cancel()
        return call.timeout_s

    def plain_stream(self, workers: list):
        yield self.plain(workers)

    @fray.method(timeout=2)
    async def hurry(self, workers: list) -> str:
        return await self.delegate(workers)

    @fray.method(concurrent=True)
    async def left_s(self) -> float:
        now = current_system().process.clock.monotonic()
        return CURRENT_INVOCATION.get().deadline - now

    @fray.method(concurrent=True)
    async def when_cut_off(self) -> float:
        return self.cut_off_at

    @fray.method(concurrent=True)
    async def read_log(self) -> list[str]:
        return self.log

    async def swallow(self, data: bytes) -> int:
        self.log.append("swallowed")
        return len(data)


async def workers(cluster, count: int, **options) -> list:
    """Workers on hosts of their own."""
    await cluster.add_hosts(count, cpus=1, **options)
    made = [await Worker.remote() for _ in range(count)]
    assert len({cluster.host_of(each).name for each in made}) == count
    return made


# Deadlines ------------------------------------------------------------------------------------


@pytest.mark.parametrize("skew_s", [-7200.0, 0.0, 7200.0])
async def test_the_time_that_is_left_travels_whatever_the_clocks_say(sim_cluster, skew_s):
    [worker] = await workers(sim_cluster, 1, clock_skew_s=skew_s)
    assert await worker.left_s.options(timeout=5).remote() == pytest.approx(5, abs=0.1)


@pytest.mark.parametrize("how", ["await", "task"])
async def test_calls_made_inside_of_a_call_have_the_time_that_is_left_of_it(sim_cluster, how):
    a, b, c = await workers(sim_cluster, 3)
    began = sim_cluster.now
    with pytest.raises(DeadlineExceeded) as told:
        await a.delegate.options(timeout=2).remote([b, c], how)
    assert told.value.started is Started.UNKNOWN
    assert sim_cluster.now - began == pytest.approx(2, abs=0.1)
    await asyncio.sleep(0.1)
    assert await c.read_log.remote() == ["+delegated", "!delegated"]
    assert await asyncio.gather(*(each.work.remote("next", 0) for each in (a, b, c)))


async def test_a_call_made_inside_may_have_less_time_and_never_more(sim_cluster):
    a, b = await workers(sim_cluster, 2)
    began = sim_cluster.now
    with pytest.raises(DeadlineExceeded, match="within 1 s"):
        await a.delegate.options(timeout=60).remote([b], "await", 1.0)
    with pytest.raises(DeadlineExceeded):
        await a.delegate.options(timeout=1).remote([b], "await", 60.0)
    assert sim_cluster.now - began == pytest.approx(2, abs=0.1)


async def test_generators_and_plain_methods_hand_their_time_on_as_well(sim_cluster):
    a, b = await workers(sim_cluster, 2)
    assert await a.plain.options(timeout=5).remote([b]) == pytest.approx(5, abs=0.1)
    [left_s] = [left async for left in a.plain_stream.options(timeout=5).remote([b])]
    assert left_s == pytest.approx(5, abs=0.1)
    items = []
    with pytest.raises(DeadlineExceeded):
        async for item in a.stream.options(timeout=2).remote([b]):
            items.append(item)
    assert items == ["first"]
    await asyncio.sleep(0.1)
    assert await b.read_log.remote() == ["+delegated", "!delegated"]


async def test_a_method_has_the_time_limit_that_its_class_gives_it(sim_cluster):
    a, b = await workers(sim_cluster, 2)
    began = sim_cluster.now
    with pytest.raises(DeadlineExceeded):
        await a.hurry.remote([b])
    assert sim_cluster.now - began == pytest.approx(2, abs=0.1)


async def test_a_call_whose_time_is_up_while_it_waits_never_runs(sim_cluster):
    [worker] = await workers(sim_cluster, 1)
    working = worker.work.remote("first", 10)
    with pytest.raises(DeadlineExceeded):
        await worker.work.options(timeout=2).remote("late", 0)
    await working
    assert await worker.read_log.remote() == ["+first", "-first"]


async def test_a_call_whose_time_is_up_before_it_could_be_sent_is_known_not_to_have_run(
    sim_cluster,
):
    await sim_cluster.add_hosts(1, cpus=1)
    await Worker.remote()
    with pytest.raises(DeadlineExceeded, match="was not sent") as told:
        await Worker.remote().work.options(timeout=2).remote("x")  # there is no room for another
    assert told.value.started is Started.NO


async def test_time_runs_out_at_the_actor_too_where_its_caller_cannot_be_heard(sim_cluster):
    [worker] = await workers(sim_cluster, 1)
    began = asyncio.get_running_loop().time()
    call = worker.work.options(timeout=5).remote("work")
    await asyncio.sleep(1)
    with sim_cluster.partition(sim_cluster.host_of(worker)):
        with pytest.raises(DeadlineExceeded):
            await call
        await asyncio.sleep(20)
    assert await worker.read_log.remote() == ["+work", "!work"]
    assert await worker.when_cut_off.remote() - began == pytest.approx(5, abs=0.1)


# Cancelling -----------------------------------------------------------------------------------


async def test_cancelling_the_awaiting_task_cancels_the_call_and_all_calls_below(sim_cluster):
    a, b, c = await workers(sim_cluster, 3)

    async def main():
        await a.delegate.remote([b, c])

    task = asyncio.create_task(main())
    await asyncio.sleep(1)
    assert await c.read_log.remote() == ["+delegated"]
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.sleep(0.2)
    assert await c.read_log.remote() == ["+delegated", "!delegated"]
    assert await asyncio.gather(*(each.work.remote("next", 0) for each in (a, b, c)))


async def test_cancelling_a_future_cancels_what_its_actor_awaits_in_tasks_and_streams(sim_cluster):
    a, b = await workers(sim_cluster, 2)

    async def await_it():
        await a.delegate.remote([b], "task")

    async def read_it():
        async for item in a.stream.remote([b]):
            assert item == "first"

    for main in (await_it, read_it):
        pending = asyncio.create_task(main())
        await asyncio.sleep(1)
        pending.cancel()
        await asyncio.wait([pending])
        await asyncio.sleep(0.2)
    assert await b.read_log.remote() == ["+delegated", "!delegated"] * 2


async def test_a_waiting_call_that_is_cancelled_never_runs_and_leaves_no_trace(sim_cluster):
    [worker] = await workers(sim_cluster, 1)
    working = worker.work.remote("first", 10)
    dropped = worker.work.remote("dropped", 0)
    kept = worker.work.remote("kept", 0)
    await asyncio.sleep(1)
    assert dropped.cancel()
    assert await asyncio.gather(working, kept) == ["first", "kept"]
    assert await worker.read_log.remote() == ["+first", "-first", "+kept", "-kept"]
    assert dropped.cancelled()


@pytest.mark.parametrize("when_s", [0.0, 0.0005, 0.002])
async def test_a_cancel_may_overtake_its_call(sim_cluster, when_s):
    """Its large argument is on its way still; or it has only been made, or waits for a link."""
    [worker] = await workers(sim_cluster, 1)
    calls = [worker.swallow.remote(bytes(size)) for size in (0, 1 << 22)]
    await asyncio.sleep(when_s)
    done = [call for call in calls if not call.cancel()]
    await asyncio.sleep(5)
    assert await worker.read_log.remote() in ([], ["swallowed"])
    assert calls[1] not in done
    [process] = {sim_cluster.process_of(worker)}
    assert process is not None
    assert await worker.swallow.remote(bytes(1 << 22)) == 1 << 22


async def test_a_call_cancelled_while_its_actor_is_being_made_never_runs(sim_cluster):
    worker = Worker.remote()
    dropped, kept = worker.work.remote("dropped", 0), worker.work.remote("kept", 0)
    await asyncio.sleep(1)
    dropped.cancel()
    await sim_cluster.add_hosts(1)
    assert await kept == "kept"
    assert await worker.read_log.remote() == ["+kept", "-kept"]
