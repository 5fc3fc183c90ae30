"""Whoever runs the tasks: stragglers, job contexts, progress."""

from __future__ import annotations

import io
import pickle
import re
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from zephyr import Backend, Dataset, ExecutionHint, ShardLostError, ThreadpoolBackend
from zephyr.actors import END_S, ActorExecutor
from zephyr.executors import StageRef, ThreadExecutor
from zephyr.progress import make_progress
from zephyr.staff import Worker
from zephyr.task import ShardWork, Task


class StackContext:
    """A job context that runs tasks when somebody waits for them."""

    def __init__(self, deaths: int = 0) -> None:
        self.names: list[str] = []
        self.deaths = deaths

    def run(self, fn: Any, *args: Any) -> Any:
        self.names.append(fn.__name__)
        return lambda: fn(*args)

    def wait(self, futures: list[Any], num_returns: int = 1) -> tuple[list[Any], list[Any]]:
        return futures[-num_returns:], futures[:-num_returns]

    def get(self, ref: Any) -> Any:
        if self.deaths:
            self.deaths -= 1
            raise WorkerCrashedError("gone")
        return ref()


class WorkerCrashedError(Exception):
    """As Ray calls it."""


PIPELINE = (
    Dataset.from_list(list(range(20)))
    .map(lambda n: n + 1)
    .group_by(lambda n: n % 3, lambda key, ns: (key, sum(ns)), num_output_shards=2)
)


def test_a_job_context_is_the_second_argument_and_gives_the_same() -> None:
    context = StackContext()
    assert Backend.execute(PIPELINE, context) == Backend.execute(PIPELINE)
    assert len(context.names) == 20 + 2


def test_a_task_that_a_job_context_lost_for_good_names_its_shard() -> None:
    with pytest.raises(ShardLostError, match=r"shard \d+ is lost: its worker died.*gone"):
        Backend.execute(PIPELINE, StackContext(deaths=1))


def test_a_thread_that_hangs_is_overtaken() -> None:
    asked: list[int] = []
    go_on = threading.Event()

    def hang_once(n: int) -> int:
        asked.append(n)
        if n == 3 and asked.count(3) == 1:
            go_on.wait()
        return n

    backend = ThreadpoolBackend(max_parallelism=2)
    hints = ExecutionHint(straggler_s=0.1)
    try:
        found = backend.execute(Dataset.from_list(list(range(6))).map(hang_once), hints=hints)
    finally:
        go_on.set()
    assert found == list(range(6))
    assert backend.last_stats.speculative == 1
    assert asked.count(3) == 2


def test_nothing_is_overtaken_where_that_is_not_wanted() -> None:
    backend = ThreadpoolBackend(max_parallelism=2)
    hints = ExecutionHint(speculate=False, straggler_s=0)
    backend.execute(Dataset.from_list(list(range(50))), hints=hints)
    assert backend.last_stats.speculative == 0


def test_a_million_shards_are_not_a_million_tasks() -> None:
    backend = ThreadpoolBackend(max_parallelism=2)
    dataset = Dataset.from_list(list(range(20_000))).map(lambda n: 2 * n)
    assert backend.execute(dataset) == list(range(0, 40_000, 2))
    assert backend.last_stats.tasks == 2000


def test_threads_never_run_more_than_was_asked_for() -> None:
    lock = threading.Lock()
    running, most = 0, 0
    both = threading.Barrier(2, timeout=10)

    def work(n: int) -> int:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        both.wait()
        with lock:
            running -= 1
        return n

    Backend.execute(Dataset.from_list(list(range(8))).map(work), max_parallelism=2)
    assert most == 2


def test_a_line_now_and_then_tells_how_far_it_is() -> None:
    now = 0.0
    out = io.StringIO()
    progress = make_progress(out, lambda: now)
    with progress.stage(_code(), 4) as shown:
        shown.advance(1, 10)
        shown.tick(2)
        assert out.getvalue() == ""  # what is soon done says nothing
        now = 11.0
        shown.tick(2)
        now = 12.0
        shown.tick(2)
        now = 42.0
        shown.advance(1, 2000)
        shown.tick(1)
        shown.advance(2, 0)
    lines = out.getvalue().splitlines()
    assert [re.sub(r" \(.*", "", line) for line in lines] == [
        "zephyr: stage 0: 1/4 shards, 10 items, 2 running, 11 s",
        "zephyr: stage 0: 2/4 shards, 2,010 items, 1 running, 42 s",
        "zephyr: stage 0: 4/4 shards, 2,010 items, 0 running, 42 s",
    ]
    assert "source → map(<lambda>)" in lines[0]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_has_bars() -> None:
    out = Terminal()
    with make_progress(out).stage(_code(), 2) as shown:
        shown.advance(2, 1234)
        shown.tick(1)
    assert "2/2" in out.getvalue()
    assert "1,234 items" in out.getvalue()


def _code(fn: Callable[[int], int] = lambda n: n) -> Any:
    from zephyr.plan import make_plan

    return make_plan(Dataset.from_list([1, 2]).map(fn)).stages[0].code


def test_threads_of_an_executor_end_with_it() -> None:
    executor = ThreadExecutor(2)
    assert executor.room == 2
    executor.close()
    assert executor.wait(0.0) == []


def test_two_attempts_may_end_at_the_same_moment(tmp_path: Path) -> None:
    executor = ThreadExecutor(2)
    both = threading.Barrier(2, timeout=10)

    def meet(n: int) -> int:
        both.wait()
        return n

    stage = StageRef(_code(meet), "")
    work = ShardWork(0, pickle.dumps(1))
    for attempt in (0, 1):
        task = Task("run", 0, attempt, (), (work,), str(tmp_path), 1 << 20, 1000, compress=False)
        executor.start((0, attempt), stage, task)
    executor._pool.shutdown()  # both have ended, and nobody has heard of either
    first, second = executor.wait(10)
    executor.abandon(second.key)
    assert (first.error, executor.room) == (None, 2)
    executor.close()


def test_workers_that_cannot_be_ended_are_waited_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    class Unreachable(Worker):
        def kill(self) -> Any:
            return self

        def result(self, timeout: float) -> None:
            nonlocal now
            now += timeout
            raise TimeoutError

    now = 100.0
    monkeypatch.setattr("zephyr.actors.time.monotonic", lambda: now)
    executor = ActorExecutor(SimpleNamespace(system=None), 100, None)
    executor._staff.workers.update(Unreachable() for _ in range(100))
    executor.close()
    assert now == 100.0 + END_S
