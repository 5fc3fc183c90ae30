"""Which task of a stage is started when: retries, stragglers, the first result wins. Pure.

Time is an argument. Whoever runs tasks asks `StageSchedule.next` while it has room, and tells how
each attempt ended.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class SchedulePolicy:
    """How often, and when, a task is started again.

    Attributes:
        attempts_max: How many workers may die over a task before that is the task's fault, ≥ 1.
        speculate: Whether a task that takes long is started a second time where there is room.
        slow_factor: How many times the median counts as long, ≥ 1.
        slow_least_s: What never counts as long, in seconds.
        done_share: How much of the stage must be done before anything counts as long, 0 to 1.
    """

    attempts_max: int = 4
    speculate: bool = True
    slow_factor: float = 2.0
    slow_least_s: float = 10.0
    done_share: float = 0.5


@dataclass(frozen=True, slots=True)
class Launch:
    """An attempt at a task, to be started now.

    Attributes:
        task: The task's number.
        attempt: The attempt's, from 0.
        lost: Earlier attempts at it whose workers died.
        is_second: Whether another attempt at it runs.
    """

    task: int
    attempt: int
    lost: tuple[int, ...] = ()
    is_second: bool = False


@dataclass(slots=True)
class _Task:
    attempts: int = 0
    running: dict[int, float] = field(default_factory=dict[int, float])
    lost: list[int] = field(default_factory=list[int])
    done: bool = False


class StageSchedule:
    """The tasks of one stage.

    Args:
        num_tasks: How many there are.
        policy: See `SchedulePolicy`.
    """

    def __init__(self, num_tasks: int, policy: SchedulePolicy | None = None) -> None:
        self._policy = policy or SchedulePolicy()
        self._tasks = [_Task() for _ in range(num_tasks)]
        self._waiting = deque(range(num_tasks))
        self._running: set[int] = set()
        self._took_s: list[float] = []

    @property
    def num_done(self) -> int:
        """How many tasks have their result."""
        return len(self._took_s)

    @property
    def finished(self) -> bool:
        """Whether all have."""
        return self.num_done == len(self._tasks)

    @property
    def num_running(self) -> int:
        """How many attempts run."""
        return sum(len(self._tasks[number].running) for number in self._running)

    def next(self, now: float) -> Launch | None:
        """What to start next where there is room for one more.

        Args:
            now: The time, in seconds.

        Returns:
            None if there is nothing to start now.
        """
        if self._waiting:
            number = self._waiting.popleft()
        else:
            number = self._slow(now)
            if number is None:
                return None
        task = self._tasks[number]
        attempt, is_second = task.attempts, bool(task.running)
        task.attempts += 1
        task.running[attempt] = now
        self._running.add(number)
        return Launch(number, attempt, tuple(task.lost), is_second)

    def done(self, number: int, attempt: int, now: float) -> tuple[int, ...] | None:
        """An attempt has a result.

        Args:
            number: The task.
            attempt: The attempt.
            now: The time, in seconds.

        Returns:
            The other attempts at the task that run, and are of no use any more; None if another
            one was first, so that this result is of no use.
        """
        task = self._tasks[number]
        began = task.running.pop(attempt, None)
        if task.done:
            return None
        task.done = True
        self._took_s.append(0.0 if began is None else now - began)
        others = tuple(task.running)
        task.running.clear()
        self._running.discard(number)
        return others

    def lost(self, number: int, attempt: int) -> bool:
        """The worker of an attempt has died.

        Args:
            number: The task.
            attempt: The attempt.

        Returns:
            Whether the task may go on: False if too many workers have died over it.
        """
        task = self._tasks[number]
        if task.running.pop(attempt, None) is None or task.done:
            return True
        task.lost.append(attempt)
        if len(task.lost) >= self._policy.attempts_max:
            return False
        if not task.running:
            self._running.discard(number)
            self._waiting.appendleft(number)
        return True

    def returned(self, number: int, attempt: int) -> None:
        """An attempt was not started after all, for which the task is not to blame.

        Args:
            number: The task.
            attempt: The attempt.
        """
        task = self._tasks[number]
        if task.running.pop(attempt, None) is not None and not task.running and not task.done:
            self._running.discard(number)
            self._waiting.appendleft(number)

    def _slow(self, now: float) -> int | None:
        """The task that runs longest, alone, for longer than it should."""
        policy = self._policy
        if not policy.speculate or self.num_done < policy.done_share * len(self._tasks):
            return None
        if not self._took_s:
            return None
        from statistics import median  # it takes a while to import, and most runs are over by then

        limit_s = max(policy.slow_least_s, policy.slow_factor * median(self._took_s))
        begun = [
            (began, number)
            for number in self._running
            if len(self._tasks[number].running) == 1
            for began in self._tasks[number].running.values()
            if now - began > limit_s
        ]
        return min(begun)[1] if begun else None


__all__ = ["Launch", "SchedulePolicy", "StageSchedule"]
