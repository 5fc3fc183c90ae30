"""Threads for plain functions: in order, one at a time per lane, with few hops.

A *lane* is an actor's queue of plain functions. It has a thread while it has work: one is taken
from a pool when work arrives at an idle lane and given back when the lane is idle again, unless the
lane is pinned to a thread of its own. So an actor that does nothing costs no thread.

A hop between threads costs more than a small function, so both directions are coalesced. What is
submitted to a busy lane wakes nobody: its thread takes it when it comes to it. Results that are
ready when the loop gets to them are handed over in one wake-up, of all lanes together.

Threads are daemons: a function that never ends keeps neither `close` nor the interpreter waiting.
This room knows threads and the loop; no actors, no wire. A simulation has lanes of its own that
meet the same protocols.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from contextvars import Context, copy_context
from typing import Any, NamedTuple, Protocol, TypeVar

from fray.runtime.outbox import Outbox, bearable

T = TypeVar("T")

THREADS_MAX = 2048
"""Threads of one `ThreadLanes`. Lanes beyond it wait for a thread; a limit that is too low can make
actors that wait for each other wait for ever, one that is missing eats the machine."""

IDLE_THREADS_MAX = 16
"""Threads that are kept for work to come; further ones end when they are idle."""

IDLE_NAME = "fray idle"
"""Of a thread without a lane; others are named after theirs."""


class Running(NamedTuple):
    """A function that runs at present.

    Attributes:
        lane: Name of its lane.
        function: Its qualified name.
        thread: Name of its thread.
    """

    lane: str
    function: str
    thread: str


class Lane(Protocol):
    """Runs functions one at a time, in the order in which they were submitted."""

    def submit(
        self, fn: Callable[..., T], args: tuple[Any, ...] = (), context: Context | None = None
    ) -> asyncio.Future[T]:
        """Queues a function. On an event loop only.

        Args:
            fn: What to run.
            args: Its arguments.
            context: The context variables it sees; nobody else may be in this context while it
                runs. A copy of the current context by default.

        Returns:
            Its outcome, a future of the running loop. Cancelling it before the function's turn
            keeps the function from running; later it changes nothing for the function. An outcome
            that a future refuses, `StopIteration`, becomes the cause of a `RuntimeError`.

        Raises:
            RuntimeError: The lane is closed.
        """
        ...

    def close(self) -> object:
        """Accepts nothing more. A function that runs goes on to its end. Idempotent."""
        ...


class Threads(Protocol):
    """Gives lanes."""

    def lane(self, name: str, /, *, thread_affinity: bool = False) -> Lane:
        """A new lane. Close it when it is no longer used.

        Args:
            name: For people; names its thread.
            thread_affinity: Run everything of it on one and the same thread.
        """
        ...

    def close(self) -> object:
        """Closes all lanes. Does not wait for functions that run. Idempotent."""
        ...


_Item = tuple["asyncio.Future[Any]", Callable[..., Any], tuple[Any, ...], Context, Outbox]


class ThreadLane:
    """A lane of `ThreadLanes`, which makes it."""

    def __init__(self, owner: ThreadLanes, name: str, *, pinned: bool) -> None:
        self.name = name
        self.pinned = pinned
        self.worker: _Worker | None = None  # while it is busy, or always if pinned
        self._owner = owner
        self._lock = threading.Lock()  # of the three that follow, together
        self._queue: deque[_Item] = deque()
        self._busy = False
        self._closed = False
        self._outbox: Outbox | None = None  # of the loop that submitted last
        self._function: Callable[..., Any] | None = None

    def __repr__(self) -> str:
        state = "closed" if self._closed else "busy" if self._busy else "idle"
        return f"<ThreadLane {self.name} {state} waiting={len(self._queue)}>"

    def submit(
        self, fn: Callable[..., T], args: tuple[Any, ...] = (), context: Context | None = None
    ) -> asyncio.Future[T]:
        """See `Lane.submit`."""
        loop = asyncio.get_running_loop()
        outbox = self._outbox
        if outbox is None or outbox.loop is not loop:
            outbox = self._outbox = self._owner.outbox(loop)
        future: asyncio.Future[T] = loop.create_future()
        item = (future, fn, args, copy_context() if context is None else context, outbox)
        with self._lock:
            if self._closed:
                raise RuntimeError(f"lane {self.name} is closed")
            self._queue.append(item)
            if self._busy:
                return future
            self._busy = True
        self._owner.start(self)
        return future

    def refuse(self, exc: Exception) -> None:
        """There is no thread for it: fails what is queued."""
        with self._lock:
            self._busy = False
            items = self._take_all()
        for future, *_, outbox in items:
            outbox.put((future, None, exc))

    def close(self) -> Running | None:
        """See `Lane.close`. What has not begun is dropped, and its futures are cancelled.

        Returns:
            What still runs, if anything does.
        """
        with self._lock:
            was_closed, self._closed = self._closed, True
            items = self._take_all()
            idle_worker = self.worker if not self._busy else None
        for future, *_, outbox in items:
            outbox.cancel(future)
        if not was_closed:
            self._owner.forget(self, idle_worker)
        return self.running()

    def running(self) -> Running | None:
        """What runs now, if anything does."""
        function, worker = self._function, self.worker
        if function is None or worker is None:
            return None
        name = getattr(function, "__qualname__", None) or type(function).__qualname__
        return Running(self.name, name, worker.thread.name)

    def _take_all(self) -> list[_Item]:
        items: list[_Item] = []
        while self._queue:
            try:  # one by one: the thread takes from the other side, and each is either's alone
                items.append(self._queue.popleft())
            except IndexError:
                break
        return items

    def work(self) -> bool:
        """Runs what is queued until nothing is. On the lane's thread.

        Returns:
            Whether the lane is closed.
        """
        queue = self._queue
        while True:
            try:
                future, fn, args, context, outbox = queue.popleft()
            except IndexError:
                with self._lock:
                    if queue:  # submitted between the two lines above
                        continue
                    self._busy = False
                    if not self.pinned:
                        self.worker = None
                    return self._closed
            if future.cancelled():
                continue
            self._function = fn
            try:
                value = context.run(fn, *args)
            except BaseException as exc:
                self._function = None
                outbox.put((future, None, exc))
            else:
                self._function = None
                outbox.put((future, value, None))
                del value  # nothing of a call is kept until the next one
            del future, fn, args, context


class _Worker:
    """A thread of the pool. ``hand`` gives it a lane, or None to end it."""

    __slots__ = ("_handed", "_lane", "_owner", "thread")

    def __init__(self, owner: ThreadLanes) -> None:
        self._owner = owner
        self._lane: ThreadLane | None = None
        self._handed = threading.Lock()  # locked while there is nothing to take
        self._handed.acquire()
        self.thread = threading.Thread(target=self._run, name=IDLE_NAME, daemon=True)
        self.thread.start()

    def hand(self, lane: ThreadLane | None) -> None:
        """Wakes it up. Only who has taken it out of the pool may do so, and once."""
        self._lane = lane
        self._handed.release()

    def _run(self) -> None:
        stays = True
        while stays:
            self._handed.acquire()
            lane, self._lane = self._lane, None
            stays = lane is not None
            while lane is not None:
                self.thread.name = f"fray {lane.name}"
                closed = lane.work()
                if lane.pinned:  # it hands itself to its thread again
                    stays, lane = not closed, None
                    if closed:
                        self._owner.retire()
                else:
                    self.thread.name = IDLE_NAME
                    stays, lane = self._owner.next_for(self)


class ThreadLanes:
    """The real threads, for any number of event loops.

    Args:
        threads_max: How many threads there may be at once; lanes beyond wait, in order.
    """

    def __init__(self, *, threads_max: int = THREADS_MAX) -> None:
        self._threads_max = threads_max
        self._lock = threading.Lock()  # of all that follows
        self._idle: list[_Worker] = []
        self._count = 0
        self._waiting: deque[ThreadLane] = deque()  # for a thread
        self._lanes: dict[ThreadLane, None] = {}
        self._outboxes: list[Outbox] = []
        self._closed = False

    def __repr__(self) -> str:
        return (
            f"<ThreadLanes lanes={len(self._lanes)} threads={self._count} "
            f"idle={len(self._idle)} waiting={len(self._waiting)}>"
        )

    def lane(self, name: str, /, *, thread_affinity: bool = False) -> ThreadLane:
        """See `Threads.lane`.

        Raises:
            RuntimeError: The threads are closed.
        """
        lane = ThreadLane(self, name, pinned=thread_affinity)
        with self._lock:
            if self._closed:
                raise RuntimeError("these threads are closed")
            self._lanes[lane] = None
        return lane

    def running(self) -> tuple[Running, ...]:
        """What runs now in lanes that are not closed."""
        with self._lock:
            lanes = list(self._lanes)
        return tuple(now for lane in lanes if (now := lane.running()) is not None)

    def close(self) -> tuple[Running, ...]:
        """See `Threads.close`. Threads end when their function does; nobody waits for that.

        Returns:
            What still runs.
        """
        with self._lock:
            self._closed = True
            lanes = list(self._lanes)
            idle, self._idle = self._idle, []
            self._count -= len(idle)
        running = [lane.close() for lane in lanes]
        for worker in idle:
            worker.hand(None)
        return tuple(now for now in running if now is not None)

    # ---- for lanes and workers

    def outbox(self, loop: asyncio.AbstractEventLoop) -> Outbox:
        """The one outbox of a loop."""
        with self._lock:
            self._outboxes = [box for box in self._outboxes if not box.loop.is_closed()]
            for box in self._outboxes:
                if box.loop is loop:
                    return box
            box = Outbox(loop)
            self._outboxes.append(box)
            return box

    def start(self, lane: ThreadLane) -> None:
        """Gets a thread for a lane that has become busy."""
        worker = lane.worker  # a pinned lane's own
        if worker is None:
            with self._lock:
                if self._idle:
                    worker = self._idle.pop()
                elif self._count >= self._threads_max:
                    self._waiting.append(lane)
                    return
                else:
                    self._count += 1
            if worker is None:
                try:
                    worker = _Worker(self)
                except RuntimeError as exc:  # the system gives no more threads
                    self.retire()
                    lane.refuse(exc)
                    return
            lane.worker = worker
        worker.hand(lane)

    def next_for(self, worker: _Worker) -> tuple[bool, ThreadLane | None]:
        """What a thread does next: another lane, or wait for one, or (False) end."""
        with self._lock:
            if self._waiting:
                lane = self._waiting.popleft()
                lane.worker = worker
                return True, lane
            if self._closed or len(self._idle) >= IDLE_THREADS_MAX:
                self._count -= 1
                return False, None
            self._idle.append(worker)
            return True, None

    def forget(self, lane: ThreadLane, idle_worker: _Worker | None) -> None:
        """A lane is closed; its own thread, if it has one that is idle, ends."""
        with self._lock:
            self._lanes.pop(lane, None)
        if idle_worker is not None:
            idle_worker.hand(None)
            self.retire()

    def retire(self) -> None:
        """A thread is no more: a lane that waits for one may have a new one."""
        with self._lock:
            self._count -= 1
            lane = self._waiting.popleft() if self._waiting else None
        if lane is not None:
            self.start(lane)


class InlineLane:
    """A lane of `InlineThreads`, which makes it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._closed = False

    def submit(
        self, fn: Callable[..., T], args: tuple[Any, ...] = (), context: Context | None = None
    ) -> asyncio.Future[T]:
        """See `Lane.submit`; the function has run when this returns."""
        if self._closed:
            raise RuntimeError(f"lane {self.name} is closed")
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        try:
            value = (copy_context() if context is None else context).run(fn, *args)
        except BaseException as exc:
            future.set_exception(bearable(exc))
        else:
            future.set_result(value)
        return future

    def close(self) -> None:
        """See `Lane.close`."""
        self._closed = True


class InlineThreads:
    """Runs each function at once where it is submitted: for tests, and for what must not hop."""

    def __init__(self) -> None:
        self._lanes: list[InlineLane] = []

    def lane(self, name: str, /, *, thread_affinity: bool = False) -> InlineLane:
        """See `Threads.lane`."""
        lane = InlineLane(name)
        self._lanes.append(lane)
        return lane

    def close(self) -> None:
        """See `Threads.close`."""
        for lane in self._lanes:
            lane.close()


__all__ = [
    "IDLE_THREADS_MAX",
    "THREADS_MAX",
    "InlineLane",
    "InlineThreads",
    "Lane",
    "Running",
    "ThreadLane",
    "ThreadLanes",
    "Threads",
]
