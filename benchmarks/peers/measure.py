"""The work that every peer does, and how it is timed.

Standard library only, and no peer: what differs between peers is how a call is written, and that
is handed in. Each case runs for a given time rather than a given number of calls, so that a fast
peer is not measured over a few milliseconds, and a slow one does not take minutes. Every answer is
checked.
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import os
import platform
import time
from collections.abc import Awaitable, Callable, Sequence
from importlib import metadata
from typing import NamedTuple

from benchmarks import cases

# CLOCK_MONOTONIC: unlike perf_counter's promise, comparable between the processes of one machine.
now = time.monotonic


class Options(NamedTuple):
    """What the suite asks of a peer's script."""

    suite: str
    measure_s: float


class Span(NamedTuple):
    """What one of several concurrent drivers did, on the machine's common clock."""

    start_s: float
    end_s: float
    calls: int


def options() -> Options:
    """Parse the command line, and bound the life of this process even if the suite is gone."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--suite", choices=sorted(cases.SUITES), required=True)
    parser.add_argument("--measure-s", type=float, default=cases.MEASURE_S)
    parser.add_argument("--deadline-s", type=float, default=120.0)
    arguments = parser.parse_args()
    # Prints every thread's stack before it exits, so that a hang says where.
    faulthandler.dump_traceback_later(arguments.deadline_s, exit=True)
    return Options(arguments.suite, arguments.measure_s)


def started_s() -> float:
    """When this process was started, on the clock of `now`, as the kernel recorded it."""
    with open("/proc/self/stat", "rb") as stat:
        after_name = stat.read().rpartition(b")")[2].split()
    since_boot_s = int(after_name[19]) / os.sysconf("SC_CLK_TCK")
    return since_boot_s - (time.clock_gettime(time.CLOCK_BOOTTIME) - now())


def report_version(distribution: str) -> None:
    """Say which release of the peer is measured."""
    _print(version=metadata.version(distribution), python=platform.python_version())


def report(case: str, figure: str, value: float, count: int) -> None:
    """Print one figure; `count` says how many observations it stands for."""
    _print(case=case, figure=figure, value=round(value, 3), count=count)


def _print(**line: object) -> None:
    print(json.dumps(line), flush=True)


# -- one call at a time


def round_trip(call: Callable[[], int], measure_s: float) -> None:
    """Case a, for peers whose own way of calling blocks."""
    for _ in range(cases.WARM_UP_CALLS):
        call()
    latencies: list[float] = []
    start = before = now()
    while before - start < measure_s:
        answer = call()
        after = now()
        latencies.append(after - before)
        before = after
        check(answer, 2)
    _report_latencies(latencies, before - start)


async def round_trip_async(call: Callable[[], Awaitable[int]], measure_s: float) -> None:
    """Case a, for peers whose own way of calling is awaited."""
    for _ in range(cases.WARM_UP_CALLS):
        await call()
    latencies: list[float] = []
    start = before = now()
    while before - start < measure_s:
        answer = await call()
        after = now()
        latencies.append(after - before)
        before = after
        check(answer, 2)
    _report_latencies(latencies, before - start)


def _report_latencies(latencies: list[float], elapsed_s: float) -> None:
    latencies.sort()
    count = len(latencies)
    report(cases.ROUND_TRIP, cases.RATE, count / elapsed_s, count)
    report(cases.ROUND_TRIP, "p50_us", latencies[count // 2] * 1e6, count)
    report(cases.ROUND_TRIP, "p99_us", latencies[int(count * 0.99)] * 1e6, count)


# -- many calls in flight. A batch starts BATCH_CALLS calls at once and returns their answers.


def batches(batch: Callable[[], Sequence[int]], measure_s: float) -> Span:
    """Run batch after batch for `measure_s`, after one that is not counted."""
    batch()
    calls, start = 0, now()
    while (end := now()) - start < measure_s:
        check_batch(batch())
        calls += cases.BATCH_CALLS
    return Span(start, end, calls)


async def batches_async(batch: Callable[[], Awaitable[Sequence[int]]], measure_s: float) -> Span:
    """Run batch after batch for `measure_s`, after one that is not counted."""
    await batch()
    calls, start = 0, now()
    while (end := now()) - start < measure_s:
        check_batch(await batch())
        calls += cases.BATCH_CALLS
    return Span(start, end, calls)


def report_spans(case: str, spans: Sequence[Span]) -> None:
    """Report the rate of concurrent drivers: all their calls over the time that covers all."""
    calls = sum(span.calls for span in spans)
    elapsed_s = max(span.end_s for span in spans) - min(span.start_s for span in spans)
    report(case, cases.RATE, calls / elapsed_s, calls)


def check(answer: object, expected: object) -> None:
    """Refuse to time calls that do not do the work."""
    if answer != expected:
        raise AssertionError(f"the actor answered {answer!r}, not {expected!r}")


def check_batch(answers: Sequence[int]) -> None:
    """Each answer to add(1) is 2."""
    check((len(answers), sum(answers)), (cases.BATCH_CALLS, 2 * cases.BATCH_CALLS))
