"""How often, and how soon, something that ended is started again.

Two budgets are kept apart. A *fault* is a failure of the task's own: an exception, an exit code,
a signal, its own memory. Preemption, a lost host and a failure that the host owns up to are
nobody's fault and are charged to the other budget. After preemption or a lost host a new attempt
begins at once; after a failure, the task's or the host's, at once the first time and then after
1, 2, 4 … 60 s, or a host that fails whatever it is given would spend the budget in a moment.

An environment that cannot be built is neither: it would fail in the same way again. Only where that
is of the moment, or the host's, another host tries, and a few at the most.
"""

from fray.cluster.controller.records import Job, Task
from fray.cluster.types import UNLIMITED
from fray.errors import DeathCause, DeathKind

RETRY_DELAY_MAX_S = 60.0
"""Between two attempts of a task that keeps failing."""

BUILD_TRIES_MAX = 3
"""Attempts, each on another host if there is one, at an environment that a host failed to build."""


def overspent(job: Job, who: str, failures: int, preemptions: int, innocent: bool) -> str:
    """Says that a budget is spent; "" while it is not.

    Args:
        job: Whose.
        who: The task or gang, for people.
        failures: Its faults so far.
        preemptions: Its other ends so far.
        innocent: Which of the two has just grown: the second.
    """
    spent = preemptions if innocent else failures
    budget = job.spec.max_retries_preemption if innocent else job.spec.max_retries_failure
    if budget == UNLIMITED or spent <= budget:
        return ""
    did = "was preempted or lost its host" if innocent else "failed"
    return f"{who} {did}" if spent == 1 else f"{who} {did} {spent} times"


def unbuildable(who: str, task: Task, cause: DeathCause, host_fault: bool) -> str:
    """Says that an environment will not be built however often that is tried; else "".

    Args:
        who: The task or gang, for people.
        task: Whose environment; its history tells of the last attempt already.
        cause: Why that ended.
        host_fault: Whether its host owned up to that.
    """
    if cause.kind is not DeathKind.BUILD_FAILED:
        return ""
    tries = sum(ended.cause.kind is DeathKind.BUILD_FAILED for ended in task.history)
    return "" if host_fault and tries < BUILD_TRIES_MAX else f"{who} cannot be started"


def retry_at(now: float, failures: int) -> float:
    """The time before which a task is not started again; 0 for at once.

    Args:
        now: The time at which it failed.
        failures: How often that has happened; 0 where it did not fail.
    """
    if failures < 2:
        return 0.0
    return now + min(2.0 ** min(failures - 2, 10), RETRY_DELAY_MAX_S)


__all__ = ["BUILD_TRIES_MAX", "RETRY_DELAY_MAX_S", "overspent", "retry_at", "unbuildable"]
