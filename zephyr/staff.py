"""The workers of an executor: as many as there is work for, each replaced when it dies."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from zephyr.errors import PipelineError
from zephyr.executors import Ended, Key

SPARE_STARTS = 3
"""So many more workers than there are at once may die before any of them was ready."""


class Worker:
    """One worker: it does one task at a time.

    Attributes:
        is_ready: Whether it has answered.
        key: The attempt that it does.
    """

    def __init__(self) -> None:
        self.is_ready = False
        self.key: Key | None = None

    def kill(self) -> object:
        """Ends it at once."""
        raise NotImplementedError


W = TypeVar("W", bound=Worker)


class Staff(Generic[W]):
    """All workers.

    Args:
        hire: Starts another one.
        most: How many there are at most, ≥ 1.
    """

    def __init__(self, hire: Callable[[], W], most: int) -> None:
        self._hire = hire
        self._most = most
        self._failed_starts = 0
        self.workers: set[W] = set()

    def grow(self, num_tasks: int) -> None:
        """Starts workers for so many tasks.

        Args:
            num_tasks: How many there are.
        """
        while len(self.workers) < min(num_tasks, self._most):
            self.workers.add(self._hire())

    def idle(self) -> list[W]:
        """Those that could do a task now."""
        return [each for each in self.workers if each.is_ready and each.key is None]

    def release(self, worker: W) -> Key | None:
        """A worker has answered, and is idle now.

        Args:
            worker: The worker.

        Returns:
            The attempt that it did; None if it said that it is ready.
        """
        key, worker.key = worker.key, None
        worker.is_ready, self._failed_starts = True, 0
        return key

    def replace(self, worker: W, error: Exception, *, started: bool = True) -> list[Ended]:
        """A worker has died.

        Args:
            worker: The worker.
            error: What is known of that.
            started: Whether the attempt that it had may have run.

        Returns:
            How that attempt ended, if it had one.

        Raises:
            PipelineError: Workers die before they are ready, again and again.
        """
        self.workers.discard(worker)
        if not worker.is_ready:
            self._failed_starts += 1
            if self._failed_starts > self._most + SPARE_STARTS:
                raise PipelineError(f"no worker of the pipeline starts: {error}") from error
        self.workers.add(self._hire())
        if worker.key is None:
            return []
        return [Ended(worker.key, error=error, lost=True, started=started)]

    def abandon(self, key: Key) -> None:
        """Kills the worker of an attempt, which could write something later otherwise.

        Args:
            key: The attempt.
        """
        for worker in [each for each in self.workers if each.key == key]:
            self.workers.discard(worker)
            worker.kill()
            self.workers.add(self._hire())


__all__ = ["Staff", "Worker"]
