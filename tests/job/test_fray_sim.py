"""`FrayContext` on simulated clusters: hosts that crash, large results, broadcasts."""

from __future__ import annotations

import asyncio
import functools
import random

import numpy as np
import pytest

from fray.cluster import ResourceConfig
from fray.errors import CallCancelled, ReferenceFreedError, TaskLostError
from fray.job import FrayContext, get_default_job_ctx
from fray.job.desk import Desk
from fray.job.fray import FUNCTION_BYTES_MAX

LARGE = 50_000


def double(x):
    return 2 * x


async def sleep_and_double(x, seconds):
    await asyncio.sleep(seconds)
    return 2 * x


def large(x):
    return np.full(LARGE, x)


def total(array):
    return int(array.sum())


async def test_tasks_run_on_workers_of_several_hosts(sim_cluster):
    await sim_cluster.add_hosts(2, cpus=2)
    async with FrayContext(cluster=sim_cluster, max_workers=4) as context:
        futures = [context.run(sleep_and_double, i, 1.0) for i in range(8)]
        assert await asyncio.gather(*futures) == [0, 2, 4, 6, 8, 10, 12, 14]


async def runs_on(sim_cluster, context, number=1):
    """The simulated host of a worker."""
    await sim_cluster.until(lambda: number in context.pool.staff)
    handle = context.pool.staff.handle(number)
    await handle
    return sim_cluster.host_of(handle)


RAN = []


async def note_and_sleep(x, seconds):
    RAN.append(x)
    await asyncio.sleep(seconds)
    return x


async def note_and_fail(x):
    RAN.append(x)
    raise KeyError(x)


@pytest.fixture(autouse=True)
def _nothing_ran():
    RAN.clear()


async def test_a_task_whose_host_is_lost_runs_again_elsewhere(sim_cluster):
    await sim_cluster.add_hosts(2, cpus=1)
    async with FrayContext(cluster=sim_cluster, max_workers=2) as context:
        future = context.run(note_and_sleep, 7, 60.0)
        host = await runs_on(sim_cluster, context)
        await sim_cluster.until(lambda: RAN == [7])
        sim_cluster.crash(host)
        assert await future == 7
        assert RAN == [7, 7]


async def test_without_tries_a_task_fails_with_its_worker_and_says_so(sim_cluster):
    await sim_cluster.add_hosts(2, cpus=1)
    async with FrayContext(cluster=sim_cluster, max_workers=1, retries=0) as context:
        future = context.run(note_and_sleep, 7, 60.0)
        waiting = context.run(note_and_sleep, 8, 1.0)
        host = await runs_on(sim_cluster, context)
        await sim_cluster.until(lambda: RAN == [7])
        sim_cluster.crash(host)
        with pytest.raises(TaskLostError, match=r"was lost with its worker.*tried 1 time"):
            await future
        assert await waiting == 8  # it had not begun
        assert RAN == [7, 8]


async def test_a_task_that_kills_every_worker_fails_after_its_tries(sim_cluster):
    await sim_cluster.add_hosts(6, cpus=1)
    async with FrayContext(cluster=sim_cluster, max_workers=1, retries=2) as context:
        future = context.run(note_and_sleep, 7, 1000.0)
        for number in (1, 2, 3):
            host = await runs_on(sim_cluster, context, number)
            await sim_cluster.until(lambda number=number: len(RAN) == number)
            sim_cluster.crash(host)
        with pytest.raises(TaskLostError, match="tried 3 times"):
            await future


async def test_what_a_task_raises_is_final(sim_cluster):
    await sim_cluster.add_hosts(1, cpus=1)
    async with FrayContext(cluster=sim_cluster) as context:
        with pytest.raises(KeyError):
            await context.run(note_and_fail, "x")
        assert RAN == ["x"]


async def test_large_results_go_from_worker_to_worker(sim_cluster):
    await sim_cluster.add_hosts(2, cpus=1)
    async with FrayContext(cluster=sim_cluster, max_workers=2) as context:
        arrays = [context.run(large, i) for i in range(4)]
        sums = [context.run(total, array) for array in arrays]
        assert await asyncio.gather(*sums) == [LARGE * i for i in range(4)]
        assert context.pool.values.copies_sent == 0
        assert (await arrays[3]).sum() == 3 * LARGE


async def test_a_large_result_that_is_lost_with_its_host_is_made_again(sim_cluster):
    await sim_cluster.add_hosts(2, cpus=1)
    async with FrayContext(cluster=sim_cluster, max_workers=1) as context:
        array = context.run(large, 3)
        await context.run(double, 1)
        host = await runs_on(sim_cluster, context)
        await sim_cluster.until(array.done)
        sim_cluster.crash(host)
        assert (await array).sum() == 3 * LARGE
        assert await context.run(total, array) == 3 * LARGE


async def test_a_task_may_wait_where_its_argument_is_made_again(sim_cluster):
    await sim_cluster.add_hosts(2, cpus=1)
    async with FrayContext(cluster=sim_cluster, max_workers=1) as context:
        array = context.run(large, 3)
        host = await runs_on(sim_cluster, context)
        await sim_cluster.until(array.done)
        sim_cluster.crash(host)
        assert await context.run(total, array) == 3 * LARGE
        assert (await array).sum() == 3 * LARGE


async def run_others_and_sleep(n):
    context = get_default_job_ctx()
    others = [context.run(large, i) for i in range(n)]
    await asyncio.sleep(1000)
    return len(others)


async def test_what_a_lost_task_wanted_of_others_is_freed(sim_cluster):
    await sim_cluster.add_hosts(2, cpus=1)
    async with FrayContext(cluster=sim_cluster, max_workers=2) as context:
        outer = context.run(run_others_and_sleep, 3, retries=0)
        host = await runs_on(sim_cluster, context)
        await sim_cluster.until(lambda: len(context.pool.values.asked_for_by(1)) == 3)
        await asyncio.sleep(10)
        sim_cluster.crash(host)
        with pytest.raises(TaskLostError):
            await outer
        await asyncio.sleep(10)
        assert context.pool.values.asked_for_by(1) == []


def shifted(values, by):
    return np.full(LARGE, len(values) + by)


async def test_arguments_stay_while_a_result_is_made_again(sim_cluster):
    await sim_cluster.add_hosts(1, cpus=1)
    async with FrayContext(cluster=sim_cluster, max_workers=1) as context:
        values = context.put([1, 2])
        array = context.run(shifted, values, 5)
        host = await runs_on(sim_cluster, context)
        await sim_cluster.until(array.done)
        sim_cluster.crash(host)
        await sim_cluster.until(lambda: context.pool.workers and 1 not in context.pool.staff)
        del values
        await asyncio.sleep(1)
        await sim_cluster.add_hosts(1, cpus=1)
        assert (await array).sum() == 7 * LARGE


async def test_a_large_result_without_tries_is_lost_with_its_host(sim_cluster):
    await sim_cluster.add_hosts(2, cpus=1)
    async with FrayContext(cluster=sim_cluster, max_workers=1, retries=0) as context:
        array = context.run(large, 3)
        host = await runs_on(sim_cluster, context)
        await sim_cluster.until(array.done)
        sim_cluster.crash(host)
        with pytest.raises(TaskLostError, match="was lost with its worker"):
            await array


async def test_a_large_value_spreads_from_worker_to_worker(sim_cluster):
    await sim_cluster.add_hosts(8, cpus=1)
    async with FrayContext(cluster=sim_cluster, max_workers=8) as context:
        weights = context.put(np.ones(LARGE))
        tasks = [context.run(sleep_and_double, i, 5.0) for i in range(8)]
        await asyncio.gather(*tasks)
        assert context.pool.workers == 8
        sums = [context.run(total, weights) for _ in range(64)]
        assert set(await asyncio.gather(*sums)) == {LARGE}
        assert 1 <= context.pool.values.copies_sent <= 2


async def test_workers_come_with_work_and_go_when_they_are_idle(sim_cluster):
    await sim_cluster.add_hosts(4, cpus=1)
    async with FrayContext(
        cluster=sim_cluster, max_workers=3, min_workers=1, idle_s=20.0
    ) as context:
        await asyncio.gather(*(context.run(sleep_and_double, i, 5.0) for i in range(9)))
        assert context.pool.workers == 3
        await asyncio.sleep(30)
        assert context.pool.workers == 1


async def test_a_worker_that_keeps_results_stays_until_these_are_freed(sim_cluster):
    await sim_cluster.add_hosts(1, cpus=1)
    async with FrayContext(cluster=sim_cluster, idle_s=5.0) as context:
        array = context.run(large, 1)
        await sim_cluster.until(array.done)
        await asyncio.sleep(60)
        assert context.pool.workers == 1
        assert (await array).sum() == LARGE
        del array
        await asyncio.sleep(10)
        assert (context.pool.workers, len(context.pool.values)) == (0, 0)


async def test_values_are_freed_when_their_time_is_up(sim_cluster):
    await sim_cluster.add_hosts(1, cpus=1)
    async with FrayContext(cluster=sim_cluster, ttl_s=10.0) as context:
        array = context.run(large, 1)
        await sim_cluster.until(array.done)
        await asyncio.sleep(5)
        assert (await array).sum() == LARGE
        await asyncio.sleep(8)  # since its last use
        assert (await array).sum() == LARGE
        await asyncio.sleep(12)
        with pytest.raises(ReferenceFreedError):
            await array


async def test_a_value_that_tasks_go_on_using_is_not_freed(sim_cluster):
    await sim_cluster.add_hosts(1, cpus=1)
    async with FrayContext(cluster=sim_cluster, ttl_s=10.0) as context:
        weights, small = context.put(np.ones(LARGE)), context.put([1, 2])
        for _ in range(5):  # the worker has the large one since the first
            assert await context.run(total, weights) == LARGE
            assert await context.run(len, small) == 2
            await asyncio.sleep(6)


async def test_a_large_function_outlives_the_time_of_values(sim_cluster):
    await sim_cluster.add_hosts(1, cpus=1)
    table = "x" * (2 * FUNCTION_BYTES_MAX)

    def look_up(n):
        return table[n]

    async with FrayContext(cluster=sim_cluster, ttl_s=10.0) as context:
        assert await context.run(look_up, 1) == "x"
        await asyncio.sleep(60)
        assert await context.run(look_up, 2) == "x"


async def test_large_functions_that_were_not_used_lately_are_freed(sim_cluster, monkeypatch):
    monkeypatch.setattr("fray.job.fray.FUNCTIONS_BYTES_MAX", 10 * FUNCTION_BYTES_MAX)
    await sim_cluster.add_hosts(1, cpus=1)

    def length_of(text):
        def length(n):
            return n + len(text)

        return length

    async with FrayContext(cluster=sim_cluster) as context:
        for n in range(30):
            size = 2 * FUNCTION_BYTES_MAX + n
            assert await context.run(length_of("x" * size), 1) == size + 1
        await asyncio.sleep(1)
        assert len(context.pool.values) <= 5
        first = 2 * FUNCTION_BYTES_MAX
        assert await context.run(length_of("x" * first), 1) == first + 1


async def test_what_was_released_is_gone(sim_cluster):
    await sim_cluster.add_hosts(1, cpus=1)
    async with FrayContext(cluster=sim_cluster) as context:
        array, small = context.run(large, 1), context.put([1])
        await sim_cluster.until(array.done)
        context.release([array, small])
        for ref in (array, small):
            with pytest.raises(ReferenceFreedError):
                await ref
        with pytest.raises(ReferenceFreedError):
            await context.run(total, array)


async def test_a_task_that_has_not_begun_can_be_cancelled(sim_cluster):
    await sim_cluster.add_hosts(1, cpus=1)
    async with FrayContext(cluster=sim_cluster, max_workers=1) as context:
        running = context.run(note_and_sleep, 1, 10.0)
        waiting = context.run(note_and_sleep, 2, 10.0)
        await sim_cluster.until(lambda: RAN == [1])
        assert await context.pool.cancel(waiting.number)
        assert not await context.pool.cancel(running.number)
        with pytest.raises(CallCancelled, match="before it had begun"):
            await waiting
        assert await running == 1
        assert RAN == [1]


async def test_tasks_that_no_host_could_run_fail(sim_cluster):
    await sim_cluster.add_hosts(1, cpus=1)
    resources = ResourceConfig(cpu=64)
    async with FrayContext(cluster=sim_cluster, resources=resources) as context:
        with pytest.raises(TaskLostError, match="no worker could be had"):
            await context.run(double, 1)


async def nested(depth):
    if depth == 0:
        return 1
    context = get_default_job_ctx()
    return sum(await asyncio.gather(*(context.run(nested, depth - 1) for _ in range(2))))


async def test_tasks_may_wait_for_tasks_on_a_single_worker(sim_cluster):
    await sim_cluster.add_hosts(1, cpus=1)
    async with FrayContext(cluster=sim_cluster, max_workers=1) as context:
        assert await context.run(nested, 3) == 8


async def test_a_generator_that_was_begun_is_not_begun_again(sim_cluster):
    await sim_cluster.add_hosts(2, cpus=1)
    async with FrayContext(cluster=sim_cluster, max_workers=1) as context:
        items = context.run(count_slowly, 100)
        assert await anext(items) == 0
        sim_cluster.crash(await runs_on(sim_cluster, context))
        with pytest.raises(TaskLostError, match="some of its items were given"):
            while True:
                await anext(items)


async def count_slowly(n):
    for i in range(n):
        await asyncio.sleep(1)
        yield i


async def test_a_reference_in_an_actors_constructor_is_read_by_the_actor(sim_cluster):
    await sim_cluster.add_hosts(2, cpus=2)
    async with FrayContext(cluster=sim_cluster, max_workers=1) as context:
        small = context.run(double, 4)
        await small
        actor = context.create_actor(Holder, small)
        assert await actor.get.remote() == 8


class Holder:
    def __init__(self, value):
        self._value = value

    def get(self):
        return self._value


@pytest.mark.parametrize("sim_seed", range(8), indirect=True)
async def test_whatever_dies_every_task_has_one_outcome(sim_cluster, sim_seed):
    dice = random.Random(sim_seed)
    hosts = await sim_cluster.add_hosts(5, cpus=2)
    async with FrayContext(cluster=sim_cluster, max_workers=4, retries=10) as context:
        weights = context.put(np.ones(LARGE))
        futures = []
        for i in range(40):
            array = context.run(large, i)
            futures.append(context.run(total, array))
            futures.append(context.run(total, weights))
            futures.append(context.run(sleep_and_double, i, dice.random()))
        for host in dice.sample(hosts, 3):
            await asyncio.sleep(dice.random() * 3)
            sim_cluster.crash(host)
        results = await asyncio.gather(*futures)
        assert results == [v for i in range(40) for v in (LARGE * i, LARGE, 2 * i)]


async def put_large(x):
    return get_default_job_ctx().put(large(x))


async def test_a_result_is_told_after_the_values_to_which_it_refers(sim_cluster, monkeypatch):
    put = Desk.put

    @functools.wraps(put)
    async def slow(self, *args):
        await asyncio.sleep(1.0)
        await put(self, *args)

    monkeypatch.setattr(Desk, "put", slow)
    await sim_cluster.add_hosts(2, cpus=1)
    async with FrayContext(cluster=sim_cluster, max_workers=2) as context:
        ref = await context.run(put_large, 3)
        assert await context.run(total, ref) == 3 * LARGE


async def test_a_context_grows_with_the_cluster_unless_it_is_told_otherwise(sim_cluster):
    await sim_cluster.add_hosts(1, cpus=2)
    async with FrayContext(cluster=sim_cluster) as context:
        futures = [context.run(sleep_and_double, i, 30.0) for i in range(12)]
        await sim_cluster.until(lambda: context.pool.workers == 2)
        await asyncio.sleep(5.0)
        assert context.pool.workers == 2
        await sim_cluster.add_hosts(1, cpus=3)
        await sim_cluster.until(lambda: context.pool.workers == 5)
        assert await asyncio.gather(*futures) == [2 * i for i in range(12)]


async def test_workers_that_need_more_cpus_are_fewer_and_never_none(sim_cluster):
    await sim_cluster.add_hosts(2, cpus=3)
    three = ResourceConfig.with_cpu(cpu=3)
    async with FrayContext(cluster=sim_cluster, resources=three) as context:
        futures = [context.run(sleep_and_double, i, 30.0) for i in range(6)]
        await sim_cluster.until(lambda: context.pool.workers == 2)
        assert await asyncio.gather(*futures) == [2 * i for i in range(6)]
        assert context.pool.workers == 2
