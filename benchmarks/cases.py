"""The names of what is measured: the one place that peers, tables and readers share.

Standard library only: every peer's environment imports it.
"""

from __future__ import annotations

from typing import NamedTuple

WARM_UP_CALLS = 50
BATCH_CALLS = 1000
"""Calls in flight at once in the pipelined cases."""
ACTORS = DRIVERS = 2
"""Of the case with several drivers."""
EMBEDDED_CLUSTERS = 5
"""Each the first one of its process."""
MORE_ACTORS = 5
"""Processes created one after the other, to see past those that a peer starts in advance."""
MEASURE_S = 1.5
TASK_WORKERS = 2
NAP_S = 0.01
LARGE_RESULTS = 50


class Figure(NamedTuple):
    """One number that a peer reports."""

    case: str
    figure: str
    title: str
    unit: str
    higher_is_better: bool


ROUND_TRIP = "round_trip"
PIPELINED_SYNC = "pipelined_sync"
PIPELINED_ASYNC = "pipelined_async"
TWO_BY_TWO = "two_by_two"
START = "start"
TASK = "task"

NOOP = "noop_tasks"
SHORT = "short_tasks"
LARGE = "large_results"
PASSED = "passed_results"

RATE = "calls_per_s"
TASK_RATE = "tasks_per_s"

CALLS = (
    Figure(ROUND_TRIP, RATE, "a. round trip", "calls/s", True),
    Figure(ROUND_TRIP, "p50_us", "a. round trip, p50", "µs", False),
    Figure(ROUND_TRIP, "p99_us", "a. round trip, p99", "µs", False),
    Figure(PIPELINED_SYNC, RATE, "b. 1000 in flight, plain method", "calls/s", True),
    Figure(PIPELINED_ASYNC, RATE, "c. 1000 in flight, async method", "calls/s", True),
    Figure(TWO_BY_TWO, RATE, "d. 2 drivers × 2 actors", "calls/s", True),
)
STARTUP = (
    Figure(START, "import_ms", "import", "ms", False),
    Figure(START, "ready_ms", "import, start, first answer", "ms", False),
    Figure(START, "embedded_ms", "cluster in this process, first answer (imported)", "ms", False),
    Figure(START, "actor_ms", "one more actor process, first answer", "ms", False),
    Figure(TASK, "first_line_ms", "task launched to its first line", "ms", False),
)
TASKS = (
    Figure(NOOP, TASK_RATE, "a. tasks that do nothing, 1000 in flight", "tasks/s", True),
    Figure(SHORT, "efficiency_percent", "b. 10 ms tasks on two workers, of the ideal", "%", True),
    Figure(LARGE, "results_per_s", "c. results of 1 MiB to the driver", "results/s", True),
    Figure(PASSED, "results_per_s", "d. results of 1 MiB to another task", "results/s", True),
)
SUITES = {"calls": CALLS, "startup": STARTUP, "tasks": TASKS}
PEERS = {
    "calls": ("fray", "ray", "xoscar"),
    "startup": ("fray", "ray", "xoscar"),
    "tasks": ("fray", "ray", "dask"),
}
"""Who can do what."""
