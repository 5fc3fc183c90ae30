"""What every job context does alike. Each test gets a ``context`` to run on."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from fray.errors import FrayError
from fray.job import GeneratorFuture, JobContext, get_default_job_ctx


class Problem(ValueError):
    pass


def add(a, b):
    return a + b


def double(x):
    return 2 * x


def total(values):
    return sum(get_default_job_ctx().get(list(values)))


def fail(text):
    raise Problem(text)


def append(values, value):
    values.append(value)
    return values


async def double_later(x):
    await asyncio.sleep(0)
    return 2 * x


def count(n):
    yield from range(n)


async def count_later(n):
    for i in range(n):
        await asyncio.sleep(0)
        yield i


def count_then_fail(n):
    yield from range(n)
    raise Problem("after the items")


def count_in_file(path, n):
    for i in range(n):
        with open(path, "a") as file:
            file.write(f"{i}\n")
        yield i


def wait_for_file(path):
    deadline = time.monotonic() + 60
    while not Path(path).exists():
        assert time.monotonic() < deadline
        time.sleep(0.005)
    return path


def tree(depth):
    """Tasks that wait for tasks: more of them wait at once than may run."""
    if depth == 0:
        return 1
    context = get_default_job_ctx()
    return sum(context.get([context.run(tree, depth - 1) for _ in range(2)]))


def use_context():
    context = get_default_job_ctx()
    ready, pending = context.wait([context.run(double, 1), context.run(double, 2)], num_returns=2)
    assert not pending
    return [context.get(ref) for ref in ready], context.get(context.put("kept"))


def is_writable(array):
    return array.flags.writeable


def write_first(array, value):
    if array.flags.writeable:  # Ray's are not
        array[0] = value


def put_ones(n):
    return get_default_job_ctx().put(np.ones(n))


class Counter:
    def __init__(self, start=0):
        self.value = start
        self.busy = threading.Lock()

    def __getstate__(self):
        return {"value": self.value}

    def add(self, by=1):
        assert self.busy.acquire(blocking=False), "two calls run at once"
        before = self.value
        time.sleep(0.001)
        self.value = before + by
        self.busy.release()
        return self.value

    def get(self):
        return self.value

    def fail(self):
        raise Problem("from an actor")

    async def later(self, x):
        return x

    def pid(self):
        return os.getpid()


def add_to(counter, by):
    return counter.add(by) if not hasattr(counter, "_ray_actor_id") else None


class ContextConformance:
    """The suite; a subclass says which contexts there are by its fixture ``context``."""

    # ---- values

    def test_it_is_a_job_context(self, context):
        assert isinstance(context, JobContext)

    def test_a_value_that_was_put_can_be_got_any_number_of_times(self, context):
        ref = context.put({"key": [1, 2, 3]})
        assert context.get(ref) == {"key": [1, 2, 3]}
        assert context.get(ref) == {"key": [1, 2, 3]}

    def test_a_value_keeps_what_it_was_when_it_was_put(self, context):
        values = [1, 2]
        ref = context.put(values)
        values.append(3)
        assert context.get(ref) == [1, 2]

    def test_nobody_shares_a_value_that_was_put(self, context):
        ref = context.put([1])
        context.get(ref).append(2)
        assert context.get(context.run(append, ref, 3)) == [1, 3]
        assert context.get(ref) == [1]

    def test_large_arrays_that_were_put_are_read_only(self, context):
        ref = context.put(np.arange(100_000))
        assert context.get(context.run(is_writable, ref)) is False
        assert context.get(ref).flags.writeable is False

    def test_getting_what_is_no_reference_gives_it_back(self, context):
        assert context.get(5) == 5
        assert context.get("text") == "text"

    def test_getting_a_list_gives_the_values(self, context):
        refs = [context.run(double, i) for i in range(5)]
        assert context.get(refs) == [0, 2, 4, 6, 8]

    def test_what_cannot_be_pickled_is_refused_before_anything_runs(self, context):
        with pytest.raises(TypeError):
            context.put(threading.Lock())
        with pytest.raises(TypeError):
            context.run(double, threading.Lock())

    # ---- tasks

    def test_a_task_gives_what_its_function_returned(self, context):
        assert context.get(context.run(add, 1, 2)) == 3

    def test_a_function_of_the_test_itself_runs_too(self, context):
        offset = 10
        assert context.get(context.run(lambda x: x + offset, 1)) == 11

    def test_a_function_sees_what_it_refers_to_as_it_was_at_run(self, context):
        offset = [1]

        def shifted():
            return offset[0]

        first = context.run(shifted)
        assert context.get(first) == 1
        offset[0] = 2
        assert context.get(context.run(shifted)) == 2

    def test_a_task_may_have_a_name(self, context):
        assert context.get(context.run(add, 1, 2, name="sum")) == 3

    def test_an_async_function_is_run_to_its_end(self, context):
        assert context.get(context.run(double_later, 4)) == 8

    def test_arguments_have_the_value_that_they_had_at_run(self, context):
        values = [1]
        future = context.run(append, values, 2)
        values.append("changed")
        assert context.get(future) == [1, 2]
        assert values == [1, "changed"]

    def test_a_reference_as_an_argument_is_replaced_by_its_value(self, context):
        a, b = context.put(1), context.run(double, 1)
        assert context.get(context.run(add, a, b)) == 3
        assert context.get(context.run(add, context.run(add, a, b), a)) == 4

    def test_a_reference_inside_an_argument_stays_one(self, context):
        refs = [context.put(1), context.run(double, 4)]
        assert context.get(context.run(total, refs)) == 9

    def test_what_a_task_raises_is_raised_by_get(self, context):
        future = context.run(fail, "so")
        with pytest.raises(Problem, match="so"):
            context.get(future)

    def test_a_task_whose_argument_failed_fails_alike(self, context):
        future = context.run(double, context.run(fail, "the first"))
        with pytest.raises(Problem, match="the first"):
            context.get(future)

    def test_one_that_failed_leaves_the_others_alone(self, context):
        futures = [context.run(double, 1), context.run(fail, "x"), context.run(double, 2)]
        assert context.get(futures[0]) == 2
        assert context.get(futures[2]) == 4

    def test_large_values_come_whole(self, context):
        array = np.arange(300_000, dtype=np.float64)
        twice = context.run(double, array)
        assert np.array_equal(context.get(twice), 2 * array)
        assert np.array_equal(context.get(context.run(double, twice)), 4 * array)

    def test_nobody_shares_a_large_result(self, context):
        array = context.run(double, np.ones(100_000))
        write_first(context.get(array), 5.0)
        assert context.get(array)[0] == 2.0
        context.get(context.run(write_first, array, 7.0))
        assert context.get(array)[0] == 2.0

    def test_a_large_value_that_a_task_put_can_be_got_elsewhere(self, context):
        ref = context.get(context.run(put_ones, 100_000))
        assert context.get(ref).sum() == 100_000
        assert context.get(context.run(is_writable, ref)) is False

    def test_many_tasks_give_their_results_in_their_places(self, context):
        futures = [context.run(double, i) for i in range(300)]
        assert context.get(futures) == [2 * i for i in range(300)]

    def test_a_failure_that_nobody_looked_at_is_logged(self, context, caplog):
        if type(context).__name__ == "RayContext":
            pytest.skip("Ray tells of it in its own way")
        gc.collect()  # what other tests have left is told of now
        caplog.clear()
        first, second = context.run(fail, "unseen"), context.run(fail, "seen")
        context.wait([first, second], num_returns=2)
        with pytest.raises(Problem):
            context.get(second)
        del first, second
        gc.collect()
        told = [r.getMessage() for r in caplog.records if "nobody looked" in r.getMessage()]
        assert told == ["a task failed and nobody looked: fail: unseen"]

    def test_only_what_can_be_called_is_run(self, context):
        with pytest.raises(TypeError):
            context.run(5)

    # ---- waiting

    def test_wait_gives_exactly_as_many_as_were_asked_for(self, context):
        futures = [context.run(double, i) for i in range(6)]
        ready, pending = context.wait(futures, num_returns=4)
        assert (len(ready), len(pending)) == (4, 2)
        assert sorted(context.get(ready + pending)) == [0, 2, 4, 6, 8, 10]

    def test_wait_gives_one_unless_told_otherwise(self, context):
        ready, pending = context.wait([context.run(double, 1), context.run(double, 2)])
        assert (len(ready), len(pending)) == (1, 1)

    def test_wait_counts_those_that_failed(self, context):
        ready, _ = context.wait([context.run(fail, "x")])
        assert len(ready) == 1

    def test_wait_takes_nothing_that_makes_no_sense(self, context):
        future = context.run(double, 1)
        assert context.wait([]) == ([], [])
        for number in (0, 2):
            with pytest.raises(ValueError):
                context.wait([future], num_returns=number)
        with pytest.raises(ValueError):
            context.wait([future, future])

    # ---- tasks within tasks

    def test_a_task_has_the_context_that_runs_it(self, context):
        assert context.get(context.run(use_context)) == ([2, 4], "kept")

    def test_tasks_that_wait_for_tasks_do_not_bring_it_to_a_standstill(self, context):
        # Ray starts a process for each task that waits, which takes its time.
        depth = 2 if type(context).__name__ == "RayContext" else 4
        assert context.get(context.run(tree, depth)) == 2**depth

    # ---- generators

    def test_a_generators_items_come_in_order(self, context):
        items = context.run(count, 100)
        assert isinstance(items, GeneratorFuture)
        assert list(items) == list(range(100))
        assert list(items) == []

    def test_an_async_generator_is_one_too(self, context):
        assert list(context.run(count_later, 5)) == [0, 1, 2, 3, 4]

    def test_getting_an_item_gives_it_back(self, context):
        assert [context.get(item) for item in context.run(count, 3)] == [0, 1, 2]

    def test_an_error_comes_after_the_items_before_it(self, context):
        items = context.run(count_then_fail, 3)
        assert [next(items) for _ in range(3)] == [0, 1, 2]
        with pytest.raises(Problem, match="after the items"):
            next(items)

    def test_wait_takes_generators(self, context):
        items = context.run(count, 2)
        ready, pending = context.wait([items])
        assert ready == [items]
        assert pending == []
        assert next(items) == 0

    def test_a_generator_is_not_far_ahead_of_who_takes_its_items(self, context, tmp_path):
        path = tmp_path / "made"
        items = context.run(count_in_file, str(path), 1000)
        assert [next(items) for _ in range(3)] == [0, 1, 2]
        made = path.read_text().count("\n")
        assert made < 200
        items.close()

    # ---- actors

    def test_an_actor_keeps_its_state(self, context):
        counter = context.create_actor(Counter, 5)
        assert context.get(counter.add.remote(2)) == 7
        assert context.get(counter.add.remote(by=3)) == 10

    def test_an_actor_serves_one_call_at_a_time_in_order(self, context):
        counter = context.create_actor(Counter)
        assert context.get([counter.add.remote() for _ in range(20)]) == list(range(1, 21))

    def test_what_an_actor_raises_is_raised_by_get_and_does_not_end_it(self, context):
        counter = context.create_actor(Counter)
        with pytest.raises(Problem, match="from an actor"):
            context.get(counter.fail.remote())
        assert context.get(counter.get.remote()) == 0

    def test_wait_takes_calls_of_actors_and_tasks_together(self, context):
        counter = context.create_actor(Counter)
        futures = [counter.add.remote(), context.run(double, 1)]
        ready, pending = context.wait(futures, num_returns=2)
        assert sorted(context.get(ready)) == [1, 2]
        assert pending == []

    def test_references_in_an_actors_constructor_are_replaced(self, context):
        counter = context.create_actor(Counter, context.run(double, 4))
        assert context.get(counter.get.remote()) == 8
        counter = context.create_actor(Counter, start=context.put(3))
        assert context.get(counter.get.remote()) == 3

    def test_a_name_that_is_in_use_is_refused(self, context, unique):
        first = context.create_actor(Counter, name=unique)
        assert context.get(first.get.remote()) == 0
        with pytest.raises(ValueError):
            context.create_actor(Counter, name=unique)

    def test_get_if_exists_gives_the_living_actor(self, context, unique):
        first = context.create_actor(Counter, name=unique, get_if_exists=True)
        context.get(first.add.remote(41))
        second = context.create_actor(Counter, name=unique, get_if_exists=True)
        assert context.get(second.add.remote(1)) == 42

    def test_a_detached_actor_needs_a_name(self, context, unique):
        with pytest.raises(ValueError):
            context.create_actor(Counter, lifetime="detached")
        actor = context.create_actor(
            Counter, name=unique, lifetime="detached", preemptible=False, get_if_exists=True
        )
        assert context.get(actor.get.remote()) == 0

    def test_only_classes_make_actors(self, context):
        with pytest.raises(TypeError):
            context.create_actor(double)

    def test_a_handle_can_be_given_to_a_task(self, context):
        counter = context.create_actor(Counter)
        assert context.get(context.run(add_through, counter, 2)) == 2
        assert context.get(counter.get.remote()) == 2

    def test_an_unknown_method_is_refused(self, context):
        counter = context.create_actor(Counter)
        with pytest.raises((AttributeError, FrayError)):
            context.get(counter.nothing.remote())


def add_through(counter, by):
    return get_default_job_ctx().get(counter.add.remote(by))
