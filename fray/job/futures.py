"""Futures of tasks: of one result, and of the items that a generator yields."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from fray.actor.blocking import refuse_to_block
from fray.errors import CallCancelled, ClusterClosed, ReferenceFreedError
from fray.job.base import check_futures, split_ready
from fray.job.threads import CURRENT_TURN, block
from fray.runtime.serialization import loads

if TYPE_CHECKING:
    from fray.runtime.payload import Payload

log = logging.getLogger("fray")

T_co = TypeVar("T_co", covariant=True)

ITEMS_AHEAD = 16
"""Items that a generator may be ahead of whoever takes them."""


class TaskFuture(Generic[T_co]):
    """The outcome of a task: block for it with `result`, or await it. Any thread.

    Args:
        label: What the task is called.
    """

    def __init__(self, label: str) -> None:
        self.label = label
        self.along: list[Any] = []  # what its pickle refers to in this process
        self._callbacks: deque[Callable[[Any], object]] = deque()
        self._settled = False
        self._payload: Payload | None = None
        self._error: BaseException | None = None
        self._looked_at = False

    def __repr__(self) -> str:
        state = "pending" if not self.done() else "failed" if self._error else "done"
        return f"<{type(self).__name__} {self.label} {state}>"

    def done(self) -> bool:
        """Whether the task has ended."""
        return self._settled

    def cancel(self) -> bool:
        """Keeps the task from running, if it has not begun. It ends with `CallCancelled` then.

        Returns:
            Whether it will not run. One that runs is not interrupted.
        """
        return False

    def result(self, timeout: float | None = None) -> T_co:
        """Blocks until the task has ended.

        Args:
            timeout: Seconds to wait; None for no limit. The task goes on when the time is up.

        Returns:
            What the function returned; each time a copy of its own.

        Raises:
            TimeoutError: The time is up.
            BaseException: What the function raised.
        """
        self._block(timeout)
        return self._value()

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Blocks until the task has ended, and gives what it raised.

        Args:
            timeout: Seconds to wait; None for no limit.

        Raises:
            TimeoutError: The time is up.
        """
        self._block(timeout)
        self._looked_at = True
        return self._error

    def add_done_callback(self, fn: Callable[[Any], object]) -> None:
        """Calls a function when the task has ended: by whichever thread settles it, or at once.

        Args:
            fn: Called with this future. What it raises is logged.
        """
        self._callbacks.append(fn)
        if self.done():
            self._run_callbacks()

    def remove_done_callback(self, fn: Callable[[Any], object]) -> None:
        """Forgets what `add_done_callback` was given.

        Args:
            fn: The function.
        """
        try:
            self._callbacks.remove(fn)
        except ValueError:  # it was called, or is being called
            return

    def __await__(self) -> Generator[Any, None, T_co]:
        yield from self._ready().__await__()
        return self._value()

    async def _ready(self) -> None:
        if self.done():
            return
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[None] = loop.create_future()

        def wake() -> None:
            if not waiter.done():
                waiter.set_result(None)

        self.add_done_callback(lambda _: loop.call_soon_threadsafe(wake))
        turn = CURRENT_TURN.get()
        with turn.lent() if turn is not None else contextlib.nullcontext():
            await waiter

    def _block(self, timeout: float | None) -> None:
        if self.done():
            return
        refuse_to_block(f"the result of {self.label}", "await the future")
        event = threading.Event()
        tell = _teller(event)
        self.add_done_callback(tell)
        try:
            if not block(event, timeout):
                raise TimeoutError(f"task {self.label} has not ended after {timeout} s")
        finally:
            self.remove_done_callback(tell)

    def _value(self) -> Any:
        self._looked_at = True
        if self._error is not None:
            raise self._error
        assert self._payload is not None
        return loads(self._payload, what=f"the result of {self.label}")

    def __del__(self) -> None:
        if self._error is not None and not self._looked_at:
            tell_of(self.label, self._error)

    # ---- whoever runs it

    def succeed(self, payload: Payload) -> None:
        """The function has returned.

        Args:
            payload: Its result.
        """
        self._payload = payload
        self._settle()

    def fail(self, error: BaseException) -> None:
        """The function has raised, or will not run.

        Args:
            error: What the future raises.
        """
        self._error = error
        self._settle()

    def _settle(self) -> None:
        self._settled = True
        self._run_callbacks()

    def _run_callbacks(self) -> None:
        while self._callbacks:
            try:
                callback = self._callbacks.popleft()
            except IndexError:  # another thread took it
                return
            try:
                callback(self)
            except Exception:  # the user's own matter: whoever else waits must be told
                log.exception("a callback of %s failed", self.label)


class GeneratorFuture(TaskFuture[Any], Iterator[Any]):
    """What a generator yields, item by item, as it yields it.

    The generator is ahead of whoever takes the items by a bounded number of them. An error comes
    after the items before it. Dropping the future closes the generator. For `JobContext.wait` it is
    ready when the next item, or the end, can be taken; `JobContext.get` gives it back.

    Args:
        label: What the task is called.
        taken: Told, by the thread that takes it, of each item that was taken.
        close: Closes the generator; called at most once, and not after its end.
    """

    def __init__(
        self,
        label: str,
        taken: Callable[[], object] | None = None,
        close: Callable[[], object] | None = None,
    ) -> None:
        super().__init__(label)
        self._taken = taken
        self._close = close
        self._items: deque[Payload] = deque()

    def done(self) -> bool:
        """Whether the next item, or the end, can be taken without waiting."""
        return bool(self._items) or self._settled

    @property
    def over(self) -> bool:
        """Whether the generator has ended; items may be left."""
        return self._settled

    def __iter__(self) -> GeneratorFuture:
        return self

    def __next__(self) -> Any:
        self._block(None)
        if self._items:
            item = self._items.popleft()
            if self._taken is not None:
                self._taken()
            return loads(item, what=f"an item of {self.label}", take=True)
        self._looked_at = True
        if self._error is not None:
            error, self._error = self._error, None  # a generator that has raised is at its end
            raise error
        raise StopIteration

    def __aiter__(self) -> GeneratorFuture:
        return self

    async def __anext__(self) -> Any:
        await self._ready()
        try:
            return next(self)
        except StopIteration:
            raise StopAsyncIteration from None

    def result(self, timeout: float | None = None) -> Any:
        """Blocks until the next item, or the end, can be taken.

        Args:
            timeout: Seconds to wait; None for no limit.

        Returns:
            The generator itself: iterate over it.
        """
        self._block(timeout)
        return self

    def _value(self) -> Any:
        return self

    def close(self) -> None:
        """Closes the generator; what it yields after that is dropped."""
        close, self._close = self._close, None
        if close is not None and not self._settled:
            close()

    def cancel(self) -> bool:
        """Closes the generator. Returns False: it may have begun."""
        self.close()
        return False

    def __del__(self) -> None:
        self.close()
        super().__del__()

    # ---- whoever runs it

    def offer(self, item: Payload) -> None:
        """The generator has yielded.

        Args:
            item: What.
        """
        self._items.append(item)
        self._run_callbacks()

    def finish(self) -> None:
        """The generator has come to its end."""
        self._settle()


def tell_of(label: str, error: BaseException) -> None:
    """Logs that a task has failed, which nobody else will tell of.

    Args:
        label: What it is called.
        error: What it raised.
    """
    if not isinstance(error, CallCancelled | ClusterClosed | ReferenceFreedError):
        log.error("a task failed and nobody looked: %s: %s", label, error)


def wait_for(futures: list[Any], num_returns: int = 1) -> tuple[list[Any], list[Any]]:
    """Waits for futures of all kinds: of tasks, and of calls of actors. See `JobContext.wait`.

    Args:
        futures: Anything with ``done`` and ``add_done_callback``.
        num_returns: How many must be ready.

    Raises:
        ValueError: ``num_returns`` is out of bounds, or a future is given twice.
        BlockingCallError: An event loop runs on this thread.
    """
    given = check_futures(futures, num_returns)
    pending = [future for future in given if not future.done()]
    if pending and num_returns > len(given) - len(pending):
        refuse_to_block("ctx.wait(…)", "await one of the futures")
        event = threading.Event()
        look = _counter(event, num_returns - (len(given) - len(pending)))
        for future in pending:
            future.add_done_callback(look)
        try:
            block(event)
        finally:
            for future in pending:
                future.remove_done_callback(look)
    return split_ready(given, num_returns)


def _counter(event: threading.Event, needed: int) -> Callable[[Any], None]:
    told: set[int] = set()  # a generator may tell of several items
    lock = threading.Lock()

    def look(future: Any) -> None:
        with lock:
            told.add(id(future))
            if len(told) >= needed:
                event.set()

    return look


def _teller(event: threading.Event) -> Callable[[Any], None]:
    def tell(_: Any) -> None:
        event.set()

    return tell


__all__ = ["ITEMS_AHEAD", "GeneratorFuture", "TaskFuture", "tell_of", "wait_for"]
