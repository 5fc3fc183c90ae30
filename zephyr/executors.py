"""Who runs tasks: threads of this process, or a job context. `zephyr.actors` is the third."""

from __future__ import annotations

import contextvars
import queue
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

from zephyr.errors import StoppedError
from zephyr.plan import StageCode
from zephyr.task import Task, TaskResult, run_stored, run_task

Key = tuple[int, int]
"""Of an attempt: the task's number and the attempt's."""

_LOST = frozenset(
    {
        *("ActorDied", "ActorUnavailable", "TaskLostError"),
        *("ActorDiedError", "NodeDiedError", "OutOfMemoryError", "WorkerCrashedError"),
    }
)
"""What a job context raises where a worker died, by name: nothing is imported for that."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How an attempt ended.

    Attributes:
        key: The attempt.
        result: What it made; None if it failed.
        error: What it raised.
        lost: Whether its worker died, which is not the fault of the user's functions.
        started: Whether it may have run.
    """

    key: Key
    result: TaskResult | None = None
    error: BaseException | None = None
    lost: bool = False
    started: bool = True


@dataclass(frozen=True, slots=True)
class StageRef:
    """A stage, and where workers of other processes find it.

    Attributes:
        code: The stage.
        path: Where it is stored; empty where the executor needs no storage for it.
    """

    code: StageCode
    path: str


class Executor(Protocol):
    """Runs tasks, somewhere."""

    in_process: bool
    """Whether functions are shared with the caller, and need not be picklable."""
    speculates: bool
    """Whether an attempt begins when it is given, so that its time means something."""
    retries: bool
    """Whether it starts tasks again whose workers died: what it says is lost is lost for good."""

    def begin(self, num_tasks: int) -> None:
        """Prepares for a stage.

        Args:
            num_tasks: How many tasks it has.
        """
        ...

    @property
    def room(self) -> int:
        """How many more tasks it would start now."""
        ...

    def start(self, key: Key, stage: StageRef, task: Task) -> None:
        """Starts an attempt.

        Args:
            key: Its key.
            stage: The stage.
            task: The task.
        """
        ...

    def wait(self, timeout_s: float) -> list[Ended]:
        """The attempts that have ended since; waits until there is one, or there is more room.

        Args:
            timeout_s: For how long to wait at most.
        """
        ...

    def abandon(self, key: Key) -> None:
        """Ends an attempt that nobody needs; nothing is said of it any more.

        Args:
            key: Its key.
        """
        ...

    def close(self) -> None:
        """Ends everything."""
        ...


class ThreadExecutor:
    """Runs tasks on threads of this process.

    Args:
        max_workers: How many run at once, ≥ 1.
    """

    in_process = True
    speculates = True
    retries = False

    def __init__(self, max_workers: int) -> None:
        self._max_workers = max_workers
        self._pool = ThreadPoolExecutor(max_workers, thread_name_prefix="zephyr")
        self._ended: queue.SimpleQueue[Ended] = queue.SimpleQueue()
        self._stops: dict[Key, threading.Event] = {}
        self._running = 0

    def begin(self, num_tasks: int) -> None:
        """See `Executor`."""

    @property
    def room(self) -> int:
        """See `Executor`."""
        return self._max_workers - self._running

    def start(self, key: Key, stage: StageRef, task: Task) -> None:
        """See `Executor`."""
        stop = self._stops[key] = threading.Event()
        self._running += 1
        context = contextvars.copy_context()  # the current cluster is a context variable
        self._pool.submit(context.run, self._run, key, stage.code, task, stop)

    def _run(self, key: Key, code: StageCode, task: Task, stop: threading.Event) -> None:
        try:
            self._ended.put(Ended(key, run_task(code, task, stop.is_set)))
        except BaseException as exc:  # it is raised where the pipeline was started
            self._ended.put(Ended(key, error=exc))

    def wait(self, timeout_s: float) -> list[Ended]:
        """See `Executor`."""
        try:
            ended = [self._ended.get(timeout=timeout_s)]
        except queue.Empty:
            return []
        while not self._ended.empty():
            ended.append(self._ended.get())
        self._running -= len(ended)
        return [each for each in ended if self._is_wanted(each)]

    def _is_wanted(self, ended: Ended) -> bool:
        wanted = self._stops.pop(ended.key, None) is not None
        return wanted and not isinstance(ended.error, StoppedError)

    def abandon(self, key: Key) -> None:
        """See `Executor`. The thread ends at its next batch of items."""
        stop = self._stops.pop(key, None)
        if stop is not None:  # else it has ended together with the one that is wanted
            stop.set()

    def close(self) -> None:
        """See `Executor`. Threads that are busy with an item end after it."""
        for stop in self._stops.values():
            stop.set()
        self._pool.shutdown(wait=not self._running, cancel_futures=True)


class TaskContext(Protocol):
    """What is needed of a job context (`fray.job.JobContext`)."""

    def get(self, ref: Any) -> Any:
        """The value of a future; blocks until it is there."""
        ...

    def run(self, fn: Any, *args: Any) -> Any:
        """Runs a function as a task, and gives its future."""
        ...

    def wait(self, futures: list[Any], num_returns: int = 1) -> tuple[list[Any], list[Any]]:
        """Blocks until some futures are ready."""
        ...


class ContextExecutor:
    """Runs tasks by a job context: on the caller's stack, on threads, on fray, on Ray.

    Args:
        context: The context; it stays open.
        max_parallelism: How many tasks it is given at once, ≥ 1.
    """

    in_process = False
    speculates = False  # a context may have tasks wait
    retries = True

    def __init__(self, context: TaskContext, max_parallelism: int) -> None:
        self._context = context
        self._max_parallelism = max_parallelism
        self._running: list[tuple[Key, Any]] = []

    def begin(self, num_tasks: int) -> None:
        """See `Executor`."""

    @property
    def room(self) -> int:
        """See `Executor`."""
        return self._max_parallelism - len(self._running)

    def start(self, key: Key, stage: StageRef, task: Task) -> None:
        """See `Executor`."""
        self._running.append((key, self._context.run(run_stored, stage.path, task)))

    def wait(self, timeout_s: float) -> list[Ended]:
        """See `Executor`; a job context knows no limit of time."""
        if not self._running:
            return []
        ready, _ = self._context.wait([future for _, future in self._running], num_returns=1)
        done = {id(future) for future in ready}
        ended = [self._outcome(key, each) for key, each in self._running if id(each) in done]
        self._running = [(key, each) for key, each in self._running if id(each) not in done]
        return ended

    def _outcome(self, key: Key, future: Any) -> Ended:
        try:
            return Ended(key, self._context.get(future))
        except Exception as exc:  # it is raised where the pipeline was started
            names = {each.__name__ for each in type(exc).__mro__}
            return Ended(key, error=exc, lost=bool(names & _LOST))

    def abandon(self, key: Key) -> None:
        """See `Executor`."""
        for other, future in self._running:
            if other == key:
                _cancel(future)
        self._running = [(other, each) for other, each in self._running if other != key]

    def close(self) -> None:
        """See `Executor`."""
        for key, _ in list(self._running):
            self.abandon(key)


def _cancel(future: Any) -> None:
    cancel = getattr(future, "cancel", None)
    ray: Any = sys.modules.get("ray")  # whose futures cannot do that themselves
    if cancel is not None:
        cancel()
    elif ray is not None and isinstance(future, ray.ObjectRef):
        ray.cancel(future)


__all__ = [
    "ContextExecutor",
    "Ended",
    "Executor",
    "Key",
    "StageRef",
    "TaskContext",
    "ThreadExecutor",
]
