"""Which worker gets which task, when workers are started and stopped: decisions, and nothing else.

A synchronous class over plain data. Whoever uses it tells it what has happened and when, and then
carries out its orders. The rules:

* A task goes to the worker with the least to do. Tasks that wait in a worker (for others, or for
  their arguments) do not count: their turn is another's, so tasks may wait for tasks.
* Short tasks are sent ahead, as many as take about `AHEAD_S`, so that a worker need not be asked
  what next. What is behind a task that turns out to be long is taken back.
* A worker is asked for when tasks wait that the present workers will not have done in `GROW_S`, and
  let go when it has been idle for a while and keeps nothing that anybody may want.
* When a worker is lost, what it was running has used up one of its tries, and is run without
  company from then on; what only waited there is free to go. A task without tries left fails.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from fray.job.orders import Order, PoolLimits, PoolOrder

AHEAD_S = 0.02
"""So much work is sent ahead to a worker."""

AHEAD_TASKS_MAX = 64

GROW_S = 0.1
"""A backlog that is done in this time needs no further worker."""

STUCK_S = 0.05
"""What waits in a worker is taken back when nothing was heard from it for so long."""

STARTS_MAX = 3
"""When so many workers in a row have failed to start, and there is none, tasks fail."""

START_AGAIN_S = 0.5
"""Before a worker is asked for again after one failed to start; twice as long each time."""

MEMORY = 0.2
"""How much the newest duration counts in a function's mean."""

KINDS_MAX = 10_000
"""Of so many functions it is remembered how long they take."""


@dataclass(slots=True)
class _Task:
    task: int
    kind: object
    retries: int
    losses: int = 0
    worker: int = 0  # 0: it waits for one
    cancelled: bool = False


@dataclass(slots=True)
class _Worker:
    worker: int
    since: float  # idle, or asked for
    ready: bool = False
    stopping: bool = False
    waiting: int = 0
    heard: float = 0.0
    keeps: int = 0
    tasks: dict[int, _Task] = field(default_factory=dict[int, _Task])  # in order
    recalled: set[int] = field(default_factory=set[int])
    suspects: int = 0  # tasks among them that have lost a worker before

    def give(self, made: _Task) -> None:
        self.tasks[made.task] = made
        made.worker = self.worker
        self.suspects += made.losses > 0

    def take(self, task: int) -> _Task | None:
        self.recalled.discard(task)
        made = self.tasks.pop(task, None)
        if made is not None:
            self.suspects -= made.losses > 0
        return made

    @property
    def load(self) -> int:
        return max(len(self.tasks) - self.waiting, 0)


class PoolState:
    """The state of a pool; see the module. Times are seconds of one clock.

    Args:
        limits: Its bounds.
    """

    def __init__(self, limits: PoolLimits) -> None:
        self._limits = limits
        self._tasks: dict[int, _Task] = {}
        self._queue: deque[_Task] = deque()
        self._queued: dict[object, int] = {}  # how many of each kind
        self._workers: dict[int, _Worker] = {}
        self._numbers = 0
        self._means: dict[object, float] = {}
        self._orders: list[PoolOrder] = []
        self._failed_starts = 0
        self._not_before = float("-inf")

    def __repr__(self) -> str:
        return f"<PoolState workers={len(self._workers)} waiting={len(self._queue)}>"

    @property
    def workers(self) -> int:
        """Workers that there are, or that were asked for."""
        return len(self._workers)

    @property
    def waiting(self) -> int:
        """Tasks that no worker has."""
        return len(self._queue)

    def allow(self, workers_max: int) -> None:
        """There may be more workers than before, or fewer. Those that there are stay.

        Args:
            workers_max: How many; the minimum where that is above it.
        """
        workers_max = max(workers_max, self._limits.workers_min, 1)
        self._limits = replace(self._limits, workers_max=workers_max)

    def take_orders(self) -> list[PoolOrder]:
        """What is to be done; told once."""
        orders, self._orders = self._orders, []
        return orders

    # ---- tasks

    def submit(self, task: int, kind: object, retries: int, *, losses: int = 0) -> None:
        """A task is to be run.

        Args:
            task: Its number.
            kind: Tasks of one kind are taken to last alike.
            retries: How often it may be run again when its worker was lost, ≥ 0.
            losses: How often that has happened already.
        """
        made = self._tasks[task] = _Task(task, kind, retries, losses)
        self._queue.append(made)
        self._queued[kind] = self._queued.get(kind, 0) + 1

    def cancel(self, task: int) -> bool:
        """A task is not wanted any more.

        Args:
            task: Its number.

        Returns:
            Whether no worker has it: then it is gone. One that a worker has is asked back, and
            `returned` or `heard` tells what became of it.
        """
        found = self._tasks.get(task)
        if found is None:
            return False
        if found.worker == 0:
            self._queue.remove(found)
            self._dequeued(found)
            del self._tasks[task]
            return True
        found.cancelled = True
        worker = self._workers[found.worker]
        if task not in worker.recalled:
            worker.recalled.add(task)
            self._orders.append(PoolOrder(Order.RECALL, found.worker, (task,)))
        return False

    def not_again(self, task: int) -> None:
        """A task has had an effect that cannot be had twice: it is not run again.

        Args:
            task: Its number.
        """
        found = self._tasks.get(task)
        if found is not None:
            found.retries = found.losses

    # ---- workers

    def started(self, worker: int, now: float) -> None:
        """A worker is ready.

        Args:
            worker: Its number, as in the order.
            now: The time.
        """
        found = self._workers.get(worker)
        if found is not None and not found.ready:
            found.ready = True
            found.since = found.heard = now
            self._failed_starts = 0

    def heard(
        self, worker: int, ended: Sequence[tuple[int, float]], waiting: int | None, now: float
    ) -> None:
        """A worker has told something.

        Args:
            worker: Its number.
            ended: Tasks that have ended, and how long each has run, in seconds.
            waiting: How many of its tasks wait; None for as many as before.
            now: The time.
        """
        found = self._workers.get(worker)
        if found is None:
            return
        found.heard = now
        if waiting is not None:
            found.waiting = waiting
        for task, seconds in ended:
            made = found.take(task)
            if made is not None:
                self._tasks.pop(task, None)
                self._learn(made.kind, seconds)
        if not found.tasks:
            found.since = now

    def _learn(self, kind: object, seconds: float) -> None:
        known = self._means.pop(kind, None)  # it is the newest then
        self._means[kind] = seconds if known is None else known + MEMORY * (seconds - known)
        if len(self._means) > KINDS_MAX:
            del self._means[next(iter(self._means))]

    def returned(self, worker: int, asked: Sequence[int], given: Sequence[int]) -> list[int]:
        """A worker was asked for tasks back.

        Args:
            worker: Its number.
            asked: Which.
            given: Those that it had not begun, and does not have any more.

        Returns:
            Those that were cancelled: they are gone.
        """
        found = self._workers.get(worker)
        if found is None:
            return []
        found.recalled.difference_update(asked)
        for task in asked:
            if task in found.tasks and task not in given:
                found.tasks[task].cancelled = False  # it was too late
        back = [made for task in given if (made := found.take(task)) is not None]
        gone = [made.task for made in back if made.cancelled]
        for task in gone:
            del self._tasks[task]
        self._requeue([made for made in back if not made.cancelled])
        return gone

    def _requeue(self, tasks: list[_Task]) -> None:
        for made in reversed(tasks):
            made.worker = 0
            self._queue.appendleft(made)
            self._queued[made.kind] = self._queued.get(made.kind, 0) + 1

    def _dequeued(self, made: _Task) -> None:
        left = self._queued[made.kind] - 1
        if left:
            self._queued[made.kind] = left
        else:
            del self._queued[made.kind]

    def keeps(self, worker: int, change: int) -> None:
        """A worker keeps more values that somebody may want, or fewer.

        Args:
            worker: Its number.
            change: How many more.
        """
        found = self._workers.get(worker)
        if found is not None:
            found.keeps += change

    def lost(self, worker: int, reason: str, now: float, *, hopeless: bool = False) -> list[int]:
        """A worker is gone, or could not be had.

        Args:
            worker: Its number.
            reason: Why, for people.
            now: The time.
            hopeless: Whether asking for another one would be the same again.

        Returns:
            Cancelled tasks that it had: they are gone.
        """
        found = self._workers.pop(worker, None)
        if found is None:
            return []
        if not found.ready and not found.stopping:
            self._failed_to_start(reason, now, hopeless)
        running = list(found.tasks.values())[: 1 + found.waiting]
        gone: list[int] = []
        back: list[_Task] = []
        for made in found.tasks.values():
            if made in running:
                made.losses += 1
            if made.cancelled:
                gone.append(made.task)
                del self._tasks[made.task]
            elif made.losses > made.retries:
                del self._tasks[made.task]
                self._orders.append(PoolOrder(Order.FAIL, worker, (made.task,), reason))
            else:
                back.append(made)
        self._requeue(back)
        return gone

    def _failed_to_start(self, reason: str, now: float, hopeless: bool) -> None:
        self._not_before = now + START_AGAIN_S * 2**self._failed_starts
        self._failed_starts += 1
        if any(w.ready for w in self._workers.values()):
            return
        if hopeless or self._failed_starts >= STARTS_MAX:
            tasks = tuple(made.task for made in self._queue)
            self._queue.clear()
            self._queued.clear()
            for task in tasks:
                del self._tasks[task]
            self._failed_starts = 0
            if tasks:
                self._orders.append(PoolOrder(Order.FAIL, worker=0, tasks=tasks, reason=reason))

    # ---- decisions

    def decide(self, now: float) -> None:
        """Hands out tasks, and asks for workers. To be called when something has happened.

        Args:
            now: The time.
        """
        if self._queue:
            self._assign(now)
        self._grow(now)

    def _assign(self, now: float) -> None:
        heap = [(w.load, w.worker) for w in self._workers.values() if w.ready and not w.stopping]
        heapq.heapify(heap)
        sent: dict[int, list[int]] = {}
        while self._queue and heap:
            load, number = heap[0]
            worker, made = self._workers[number], self._queue[0]
            if load and not self._may_go_ahead(made, worker, load):
                break
            self._queue.popleft()
            self._dequeued(made)
            if not worker.tasks:
                worker.heard = now
            worker.give(made)
            sent.setdefault(number, []).append(made.task)
            heapq.heapreplace(heap, (worker.load, number))
        for number, tasks in sent.items():
            self._orders.append(PoolOrder(Order.SEND, number, tuple(tasks)))

    def _may_go_ahead(self, made: _Task, worker: _Worker, load: int) -> bool:
        """Whether a task may be sent to a worker that is busy."""
        mean = self._means.get(made.kind)
        if mean is None or made.losses or made.retries == 0:
            return False
        ahead = min(int(AHEAD_S / max(mean, 1e-6)), AHEAD_TASKS_MAX)
        return load <= ahead and worker.suspects == 0

    def _grow(self, now: float) -> None:
        alive = [w for w in self._workers.values() if not w.stopping]
        starting = sum(not w.ready for w in alive)
        wanted = self._limits.workers_min - len(alive)
        if self._queue and not self._soon_done(len(alive) - starting):
            wanted = max(wanted, len(self._queue) - starting)
        room = self._limits.workers_max - len(self._workers)
        if now < self._not_before:
            return
        if self._failed_starts:
            wanted = min(wanted, 1 - starting)
        for _ in range(min(wanted, room)):
            self._numbers += 1
            self._workers[self._numbers] = _Worker(self._numbers, since=now)
            self._orders.append(PoolOrder(Order.START, self._numbers))

    def _soon_done(self, workers: int) -> bool:
        if not workers:
            return False
        left_s = 0.0
        for kind, count in self._queued.items():
            left_s += self._means.get(kind, float("inf")) * count
        return left_s <= GROW_S * workers

    def tick(self, now: float) -> None:
        """Looks at what time has brought about. To be called some ten times a second.

        Args:
            now: The time.
        """
        alive = [w for w in self._workers.values() if not w.stopping]
        could_take = len(self._workers) < self._limits.workers_max or any(
            w.ready and not w.load for w in alive
        )
        for worker in alive:
            if could_take and worker.load > 1 and now - worker.heard >= STUCK_S:
                self._recall(worker)
        spare = len(alive) - self._limits.workers_min
        for worker in sorted(alive, key=lambda w: w.since):
            if spare <= 0:
                break
            is_idle = not worker.tasks and not worker.keeps
            if is_idle and now - worker.since >= self._limits.idle_s and not self._queue:
                worker.stopping = True
                spare -= 1
                self._orders.append(PoolOrder(Order.STOP, worker.worker))

    def _recall(self, worker: _Worker) -> None:
        tasks = [t for t in list(worker.tasks)[1 + worker.waiting :] if t not in worker.recalled]
        if tasks:
            worker.recalled.update(tasks)
            self._orders.append(PoolOrder(Order.RECALL, worker.worker, tuple(tasks)))


__all__ = ["PoolState"]
