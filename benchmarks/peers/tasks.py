"""The tasks that every peer runs, and how they are timed. Standard library only, and no peer."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks import cases
from benchmarks.peers import measure


def add(x: int) -> int:
    return x + 1


def nap(x: int) -> int:
    time.sleep(cases.NAP_S)
    return x + 1


def mebibyte(x: int) -> bytes:
    return bytes([x % 256]) * (1 << 20)


def size(data: bytes) -> int:
    return len(data)


Map = Callable[[Callable[[Any], Any], Sequence[Any]], Sequence[Any]]
"""Runs a function on each of several values (or on what futures give), and gives the futures."""

Gather = Callable[[Sequence[Any]], Sequence[Any]]
"""The results of futures."""


def run(run_all: Map, gather: Gather, measure_s: float) -> None:
    """All cases, once the peer is ready.

    Args:
        run_all: The peer's way of running many tasks.
        gather: The peer's way of getting many results.
        measure_s: How long each case is measured.
    """
    gather(run_all(nap, range(cases.TASK_WORKERS * 20)))  # every worker has been started by then

    def batch() -> Sequence[int]:
        return gather(run_all(add, [1] * cases.BATCH_CALLS))

    span = measure.batches(batch, measure_s)
    elapsed_s = span.end_s - span.start_s
    measure.report(cases.NOOP, cases.TASK_RATE, span.calls / elapsed_s, span.calls)

    count = int(measure_s * cases.TASK_WORKERS / cases.NAP_S)
    before = measure.now()
    answers = gather(run_all(nap, [1] * count))
    elapsed_s = measure.now() - before
    measure.check(sum(answers), 2 * count)
    ideal_s = count * cases.NAP_S / cases.TASK_WORKERS
    measure.report(cases.SHORT, "efficiency_percent", 100 * ideal_s / elapsed_s, count)

    def to_driver() -> Sequence[int]:
        return list(map(len, gather(run_all(mebibyte, range(cases.LARGE_RESULTS)))))

    def to_tasks() -> Sequence[int]:
        return gather(run_all(size, run_all(mebibyte, range(cases.LARGE_RESULTS))))

    _large(cases.LARGE, to_driver, measure_s)
    _large(cases.PASSED, to_tasks, measure_s)


def _large(case: str, batch: Callable[[], Sequence[int]], measure_s: float) -> None:
    batch()
    done, before = 0, measure.now()
    while measure.now() - before < measure_s:
        measure.check(list(batch()), [1 << 20] * cases.LARGE_RESULTS)
        done += cases.LARGE_RESULTS
    measure.report(case, "results_per_s", done / (measure.now() - before), done)


__all__ = ["run"]
