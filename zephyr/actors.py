"""Runs tasks on worker actors of a fray cluster, each in a process of its own."""

from __future__ import annotations

import gc
import queue
import time
from typing import Any

from fray.actor import ActorHandle, ActorOptions
from fray.errors import ActorDied, ActorUnavailable, BlockingCallError, FrayError, Started
from zephyr.executors import Ended, Key, StageRef
from zephyr.staff import Staff, Worker
from zephyr.task import Task, TaskResult, run_stored
from zephyr.worker import GC_THRESHOLD

END_S = 10.0
"""So long all workers together may take to end."""


class ShardWorker:
    """The actor: one task at a time."""

    def __init__(self) -> None:
        gc.set_threshold(GC_THRESHOLD, 20, 50)

    def ready(self) -> bool:
        """Whether it runs."""
        return True

    def run(self, stage_path: str, task: Task) -> TaskResult:
        """Does a task.

        Args:
            stage_path: Where the stage is stored.
            task: The attempt.
        """
        return run_stored(stage_path, task)


class _Worker(Worker):
    def __init__(self, handle: ActorHandle[Any]) -> None:
        super().__init__()
        self.handle = handle
        self.call: Any = None

    def kill(self) -> Any:
        if self.call is not None:
            self.call.cancel()  # nobody looks at it any more
        return self.handle.kill()


class ActorExecutor:
    """Runs tasks on worker actors; one that dies is replaced.

    Args:
        cluster: Whose actors they are: it has a ``system``.
        max_workers: How many there are at most, ≥ 1.
        memory: What each needs, such as ``"2g"``; None for the cluster's default.
    """

    in_process = False
    speculates = True
    retries = False

    def __init__(self, cluster: Any, max_workers: int, memory: str | None) -> None:
        self._system = cluster.system
        self._options = ActorOptions(
            process="own", num_cpus=1, memory=memory, max_restarts=0, max_preemptions=0
        )
        self._told: queue.SimpleQueue[tuple[_Worker, Any]] = queue.SimpleQueue()
        self._staff = Staff(self._hire, max_workers)

    def _hire(self) -> _Worker:
        handle = self._system.create(ShardWorker, (), {}, self._options)
        try:
            handle.refuse_to_block("run")
        except BlockingCallError:
            handle.kill()
            raise BlockingCallError(
                "execute() would block the event loop that runs on this thread; write "
                "`await asyncio.to_thread(backend.execute, …)` instead"
            ) from None
        worker = _Worker(handle)
        self._watch(worker, handle.ready.remote())
        return worker

    def _watch(self, worker: _Worker, future: Any) -> None:
        worker.call = future

        def tell(done: Any) -> None:
            self._told.put((worker, done))

        future.add_done_callback(tell)

    def begin(self, num_tasks: int) -> None:
        """See `Executor`."""
        self._staff.grow(num_tasks)

    @property
    def room(self) -> int:
        """See `Executor`."""
        return len(self._staff.idle())

    def start(self, key: Key, stage: StageRef, task: Task) -> None:
        """See `Executor`."""
        worker = self._staff.idle()[0]
        worker.key = key
        self._watch(worker, worker.handle.run.remote(stage.path, task))

    def wait(self, timeout_s: float) -> list[Ended]:
        """See `Executor`."""
        try:
            told = [self._told.get(timeout=timeout_s)]
        except queue.Empty:
            return []
        while not self._told.empty():
            told.append(self._told.get())
        ended: list[Ended] = []
        for worker, future in told:
            if worker in self._staff.workers:
                ended += self._hear(worker, future)
        return ended

    def _hear(self, worker: _Worker, future: Any) -> list[Ended]:
        try:
            value, error = future.result(), None
        except ActorDied as exc:
            return self._staff.replace(worker, exc, started=exc.started is not Started.NO)
        except ActorUnavailable as exc:
            worker.kill()  # it may live; then it is of no use any more
            return self._staff.replace(worker, exc, started=exc.started is not Started.NO)
        except Exception as exc:  # it is raised where the pipeline was started
            if worker.key is None:
                raise
            value, error = None, exc
        key = self._staff.release(worker)
        return [] if key is None else [Ended(key, value, error)]

    def abandon(self, key: Key) -> None:
        """See `Executor`."""
        self._staff.abandon(key)

    def close(self) -> None:
        """See `Executor`. Blocks until the workers have ended: nothing is written after that."""
        ends = [worker.kill() for worker in self._staff.workers]
        self._staff.workers.clear()
        give_up_at = time.monotonic() + END_S
        for end in ends:
            try:
                end.result(timeout=max(give_up_at - time.monotonic(), 0.0))
            except (FrayError, TimeoutError):
                continue  # its host is gone, or the cluster: nobody is left who could be told


__all__ = ["ActorExecutor", "ShardWorker"]
