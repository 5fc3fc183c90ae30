"""The future of one call: awaitable from any loop, usable from any thread.

State changes happen on the system's loop only; everybody else looks, and registers callbacks. A
callback is taken from the deque by whoever runs it, and ``popleft`` is atomic, so each runs once.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from fray.errors import BlockingCallError, CallCancelled, DeadlineExceeded, FrayError, Started
from fray.runtime.blocking import wait
from fray.runtime.calls import STREAM_BYTES_WINDOW, STREAM_ITEMS_WINDOW, OutgoingCall
from fray.runtime.error_envelope import decode_error
from fray.runtime.serialization import loads

if TYPE_CHECKING:
    from fray.actor.route import Route
    from fray.runtime.payload import Payload

log = logging.getLogger("fray")

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


def refuse_to_block(what: str, instead: str) -> None:
    """Raises where blocking this thread would stop an event loop.

    A notebook's cell runs on its kernel's loop, where blocking is what the user expects; it is let
    through unless it is fray's own loop (`Process.run` refuses that).

    Args:
        what: What was called, for the message.
        instead: What to write instead.

    Raises:
        BlockingCallError: A loop runs on this thread.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    shell = sys.modules.get("IPython")
    if shell is not None and shell.get_ipython() is not None:
        return
    raise BlockingCallError(
        f"{what} would block the event loop that runs on this thread; write `{instead}` instead"
    )


class ActorFuture(Generic[T_co]):
    """The outcome of a call that is on its way.

    Await it (from any event loop), or block for it with `result`. Cancelling the task that awaits
    it cancels the call. A failure that nobody ever looks at is logged once.

    For a generator method it is an iterator instead: ``async for`` (or ``for``) over it; leaving
    the loop closes the generator at the actor.
    """

    def __init__(self, route: Route, method: str, timeout_s: float | None, retries: int) -> None:
        self.call: OutgoingCall | None = None
        self.retries = retries
        self.timeout_s = timeout_s
        self.attempts = 0
        self._route = route
        self._method = method
        self._process = route.process
        self._callbacks: deque[Callable[[], None]] = deque()
        self._done = False
        self._payload: Payload | None = None
        self._error: Payload | None = None
        self._value: Any = None
        self._exception: BaseException | None = None
        self._is_decoded = False
        self._looked_at = False
        self._timer: asyncio.TimerHandle | None = None
        self._items: deque[Payload] | None = None
        self._consumed = (0, 0)
        self._decode_lock = threading.Lock()

    def __repr__(self) -> str:
        return f"<ActorFuture {self.describe()} {'done' if self._done else 'pending'}>"

    def describe(self) -> str:
        """Which method of which actor, for people."""
        return f"{self._route.label}.{self._method}"

    # ---- the user's side

    def done(self) -> bool:
        """Whether the call has its outcome. A stream is done when its last item has arrived."""
        return self._done

    def cancelled(self) -> bool:
        """Whether it was cancelled by `cancel`."""
        return self._done and isinstance(self._exception, CallCancelled)

    def result(self, timeout: float | None = None) -> T_co:
        """Blocks until the call has its outcome.

        Args:
            timeout: Seconds to wait; None for no limit. The call goes on when the time is up.

        Returns:
            What the method returned.

        Raises:
            TimeoutError: The time is up.
            BlockingCallError: An event loop runs on this thread.
            CallError: The call failed.
            BaseException: What the method raised.
        """
        self._block(timeout)
        return self._outcome()

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Blocks until the call has its outcome, and gives the exception if it failed.

        Args:
            timeout: Seconds to wait; None for no limit.

        Raises:
            TimeoutError: The time is up.
            BlockingCallError: An event loop runs on this thread.
        """
        self._block(timeout)
        self._decode()
        return self._exception

    def cancel(self) -> bool:
        """Cancels the call: a waiting one is dropped, a running async method is cancelled.

        A running plain method goes on, and can see it by ``fray.cancelled()``.

        Returns:
            False if the call had its outcome already.
        """
        if self._done:
            return False
        self._looked_at = True
        self._process.post(self._cancel)
        return True

    def add_done_callback(self, fn: Callable[[ActorFuture[T_co]], object]) -> None:
        """Calls a function when the outcome is there, at once if it is.

        Args:
            fn: Called with this future, on the system's loop or this thread; must not raise.
        """

        def call() -> None:
            fn(self)

        self._add_callback(call)

    def __await__(self) -> Generator[Any, None, T_co]:
        if not self._done:
            yield from self._wait().__await__()
        return self._outcome()

    def __aiter__(self) -> AsyncIterator[Any]:
        return Stream(self)

    def __iter__(self) -> Iterator[Any]:
        refuse_to_block(f"for … in {self.describe()}", "async for … in …")
        return Stream(self)

    def __del__(self) -> None:
        failed = self._error is not None or self._exception is not None
        if failed and not self._looked_at:
            try:
                self._decode()
            except Exception as exc:  # a destructor has nobody to raise to
                self._exception = exc
            log.error("a call failed and nobody looked: %s: %s", self.describe(), self._exception)

    # ---- waiting

    def _add_callback(self, callback: Callable[[], None]) -> None:
        self._callbacks.append(callback)
        if self._done:
            self._run_callbacks()

    def _run_callbacks(self) -> None:
        while self._callbacks:
            try:
                callback = self._callbacks.popleft()
            except IndexError:  # another thread took it
                return
            callback()

    async def _wait(self) -> None:
        while not self._done:
            try:
                await self._changed()
            except asyncio.CancelledError:
                self.cancel()
                raise
            self._refuse_stream()

    def _refuse_stream(self) -> None:
        """Awaiting a generator would wait for ever: nobody takes its items."""
        if self._items:
            self.cancel()
            raise TypeError(self._is_generator())

    def _is_generator(self) -> str:
        return (
            f"{self.describe()} is a generator: iterate over it "
            f"(async for x in {self.describe()}.remote(...))"
        )

    def _changed(self) -> asyncio.Future[None]:
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[None] = loop.create_future()

        def wake() -> None:
            if not waiter.done():
                waiter.set_result(None)

        if loop is self._process.loop:
            self._add_callback(wake)
        else:
            self._add_callback(lambda: _call_threadsafe(loop, wake))
        return waiter

    def _block(self, timeout: float | None) -> None:
        if self._done:
            return
        refuse_to_block(f"{self.describe()}(...)", f"await {self.describe()}.remote(...)")
        deadline = None if timeout is None else self._process.clock.monotonic() + timeout
        while not self._done:
            event = threading.Event()
            self._add_callback(event.set)
            left = None if deadline is None else deadline - self._process.clock.monotonic()
            if not wait(event, left) and not self._done:
                raise TimeoutError(f"{self.describe()} has no outcome after {timeout} s")
            self._refuse_stream()

    # ---- the outcome

    def _outcome(self) -> T_co:
        self._decode()
        if self._exception is not None:
            raise self._exception
        return self._value

    def _decode(self) -> None:
        self._looked_at = True
        with self._decode_lock:
            if self._is_decoded:
                return
            self._is_decoded = True
            try:
                if self._payload is not None:
                    self._value = self._route.decode(self._method, self._payload)
                elif self._error is not None:
                    self._exception = decode_error(
                        self._error, actor=self._route.label, unpickle=self._route.unpickles
                    )
                elif self._items is not None and self._exception is None:
                    self._exception = TypeError(self._is_generator())
            except FrayError as exc:
                self._exception = exc
            self._payload = self._error = None

    def _settle(self) -> None:
        """The terminal outcome is in place: tell everybody. On the loop."""
        self._done = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._route.settled(self)
        self._run_callbacks()

    # ---- the system's side, on the loop

    def begin(self) -> None:
        """Starts the clock of the call's time limit."""
        if self.timeout_s is not None:
            self._timer = self._process.loop.call_later(max(self.timeout_s, 0), self._too_late)

    def _too_late(self) -> None:
        if not self._done:
            sent = self.call is not None and self.call.sent
            self._drop()
            self.fail(
                DeadlineExceeded(
                    f"{self.describe()} had no outcome within {self.timeout_s:g} s; the call "
                    f"{'may have run' if sent else 'was not sent'}",
                    started=Started.UNKNOWN if sent else Started.NO,
                )
            )

    def _cancel(self) -> None:
        if not self._done:
            sent = self.call is not None and self.call.sent
            self._drop()
            self.fail(
                CallCancelled(
                    f"{self.describe()} was cancelled",
                    started=Started.UNKNOWN if sent else Started.NO,
                )
            )

    def _drop(self) -> None:
        if self.call is not None:
            self.call.cancel()

    def fail(self, exc: BaseException) -> None:
        """Settles with a failure of fray's own.

        Args:
            exc: What awaiting it raises.
        """
        if not self._done:
            self._exception = exc
            self._is_decoded = True
            self._settle()

    def succeed(self, value: Any) -> None:
        """Settles with a value that needs no unpickling.

        Args:
            value: What awaiting it gives.
        """
        if not self._done:
            self._value = value
            self._is_decoded = True
            self._settle()

    # ---- CallSink

    def on_result(self, payload: Payload) -> None:
        """See `CallSink.on_result`."""
        if not self._done:
            self._payload = payload
            self._settle()

    def on_error(self, payload: Payload) -> None:
        """See `CallSink.on_error`."""
        if not self._done:
            self._error = payload
            self._settle()

    def on_failure(self, exc: BaseException) -> None:
        """See `CallSink.on_failure`."""
        if not self._done:
            self._route.failed(self, exc)

    def on_item(self, payload: Payload) -> None:
        """See `CallSink.on_item`."""
        if self._items is None:
            self._items = deque()
        self._items.append(payload)
        self._run_callbacks()

    def on_end(self) -> None:
        """See `CallSink.on_end`."""
        if self._items is None:
            self._items = deque()
        if not self._done:
            self._settle()

    # ---- streams

    @property
    def has_begun(self) -> bool:
        """Whether anything was streamed: then the call is not repeated."""
        return self._items is not None

    @property
    def is_ready(self) -> bool:
        """Whether an item or the outcome is here."""
        return bool(self._items) or self._done

    def take_item(self) -> tuple[bool, Any]:
        """The next item of a stream, if it is here: ``(True, item)``, else ``(False, None)``."""
        if not self._items:
            return False, None
        payload = self._items.popleft()
        items, nbytes = self._consumed
        items, nbytes = items + 1, nbytes + payload.nbytes
        if items >= STREAM_ITEMS_WINDOW // 2 or nbytes >= STREAM_BYTES_WINDOW // 2:
            if self.call is not None and not self._done:
                self._process.post(self.call.grant, items, nbytes)
            items = nbytes = 0
        self._consumed = (items, nbytes)
        return True, loads(payload, what=f"an item of {self.describe()}", take=True)

    def stream_over(self) -> None:
        """Raises how a stream ended, once its items are taken."""
        self._looked_at = True
        if self._payload is not None:
            raise TypeError(f"{self.describe()} is not a generator: await it")
        if self._error is not None or self._exception is not None:
            self._decode()
            assert self._exception is not None
            raise self._exception

    def changed(self) -> asyncio.Future[None]:
        """Done when an item or the outcome arrives."""
        return self._changed()

    def wait_changed(self) -> None:
        """Blocks until an item or the outcome arrives."""
        event = threading.Event()
        self._add_callback(event.set)
        if not self.is_ready:
            wait(event)


class Stream(AsyncIterator[T], Iterator[T]):
    """Iterates over what a generator method yields.

    Items come in order; an error comes after the items before it. When the iterator is dropped,
    or its loop left, the generator at the actor is closed.
    """

    def __init__(self, future: ActorFuture[Any]) -> None:
        self._future = future
        self._over = False

    async def __anext__(self) -> T:
        while True:
            found, item = self._future.take_item()
            if found:
                return item
            if self._over or self._future.done():
                self._over = True
                self._future.stream_over()
                raise StopAsyncIteration
            changed = self._future.changed()
            if not self._future.is_ready:  # an item may have come between the two
                await changed

    def __next__(self) -> T:
        while True:
            found, item = self._future.take_item()
            if found:
                return item
            if self._over or self._future.done():
                self._over = True
                self._future.stream_over()
                raise StopIteration
            self._future.wait_changed()

    async def aclose(self) -> None:
        """Closes the generator at the actor."""
        self.close()

    def close(self) -> None:
        """Closes the generator at the actor."""
        self._over = True
        self._future.cancel()

    def __del__(self) -> None:
        if not self._over and not self._future.done():
            try:
                self._future.cancel()
            except RuntimeError:  # the system has shut down: nothing is left to close
                return


def _call_threadsafe(loop: asyncio.AbstractEventLoop, fn: Callable[[], None]) -> None:
    if not loop.is_closed():
        loop.call_soon_threadsafe(fn)


__all__ = ["ActorFuture", "Stream", "refuse_to_block"]
