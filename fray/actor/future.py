"""The future of one call: awaitable from any loop, usable from any thread."""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from typing import Any, Generic, NoReturn, TypeVar

from fray.actor.blocking import check_here, refuse_to_block
from fray.actor.outcome import Outcome, call_threadsafe, discard
from fray.actor.stream import Stream
from fray.errors import CallCancelled, FrayError
from fray.runtime.blocking import wait
from fray.runtime.calls import CURRENT_INVOCATION
from fray.runtime.waits import begin_wait, end_wait

T_co = TypeVar("T_co", covariant=True)


class ActorFuture(Outcome, Generic[T_co]):
    """The outcome of a call that is on its way.

    Await it (from any event loop), or block for it with `result`. Cancelling the task that awaits
    it cancels the call. A failure that nobody ever looks at is logged once.

    For a generator method it is iterated over instead: ``async for`` (or ``for``); leaving the loop
    closes the generator at the actor. ``aiter(future)`` (or ``iter``) gives an iterator for
    ``anext`` (``next``); dropping that closes the generator.
    """

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

        A running plain method goes on, and can see it by ``fray.cancelled()``; where it blocks on a
        call of its own, that raises `CallCancelled` in it. What is cancelled for the time of the
        call in which it was made is up ends with `DeadlineExceeded`.

        Returns:
            False if the call had its outcome already.
        """
        if self._done:
            return False
        self._looked_at = True
        try:
            self._process.post(self._cancel)
        except RuntimeError:  # the system has shut down: nothing is left to cancel
            return False
        return True

    def add_done_callback(self, fn: Callable[[ActorFuture[T_co]], object]) -> None:
        """Calls a function when the outcome is there.

        Code on an event loop is called back on that loop, as by an `asyncio.Future`. Other code is
        called back on the system's loop, which must not be blocked, or at once if the outcome is
        there already. What the function raises is logged.

        Args:
            fn: Called with this future.
        """
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            loop = None
        self.call_when_done(fn, loop)

    def remove_done_callback(self, fn: Callable[[ActorFuture[T_co]], object]) -> int:
        """Forgets what `add_done_callback` was given.

        Args:
            fn: The function.

        Returns:
            How many times it was there, and had not been called.
        """
        entries = [entry for entry in self._done_callbacks.copy() if entry[0] == fn]
        return sum(discard(self._done_callbacks, entry) for entry in entries)

    def __await__(self) -> Generator[Any, None, T_co]:
        if not self._done:
            yield from self._wait().__await__()
        return self._outcome()

    def __aiter__(self) -> AsyncIterator[Any]:
        return Stream(self)

    def __iter__(self) -> Iterator[Any]:
        refuse_to_block(f"for … in {self.describe()}", "async for … in …", self._process)
        return Stream(self)

    def __anext__(self) -> NoReturn:
        raise TypeError(self._needs_iterator("aiter", "await anext"))

    def __next__(self) -> NoReturn:
        raise TypeError(self._needs_iterator("iter", "next"))

    def _needs_iterator(self, make: str, take: str) -> str:
        """The system keeps each future until its outcome: nobody could see that it was dropped."""
        what = self.describe()
        return (
            f"items are taken from an iterator: it = {make}({what}.remote(...)), then {take}(it); "
            "the generator is closed when that is dropped"
        )

    # ---- waiting

    async def _wait(self) -> None:
        check_here(self._process)
        while not self._done:
            try:
                await self.until_changed()
            except asyncio.CancelledError:
                self._looked_at = True  # also where the outcome came at the same moment
                self.cancel()
                raise
            self._refuse_stream()

    def _refuse_stream(self) -> None:
        """Awaiting a generator would wait for ever: nobody takes its items."""
        if self._items:
            self.cancel()
            raise TypeError(self._is_generator())

    async def until_changed(self) -> None:
        """Waits for the outcome or, of a stream, for an item; not at all where one is here."""
        waiter = self._changed()
        if self.is_ready:  # an item may have come between a look and this
            return
        invocation = CURRENT_INVOCATION.get()
        if invocation is None:
            await waiter
            return
        begin_wait(invocation, waiter, self)
        try:
            self._process.watch_waits()
            await waiter
        finally:
            end_wait(invocation, waiter)

    def _changed(self) -> asyncio.Future[None]:
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[None] = loop.create_future()

        def wake() -> None:
            if not waiter.done():
                waiter.set_result(None)

        if loop is self._process.loop:
            self._add_callback(wake)
        else:
            self._add_callback(functools.partial(call_threadsafe, loop, wake))
        return waiter

    def wait_changed(self) -> None:
        """Blocks until an item or the outcome arrives."""
        event = threading.Event()
        self._add_callback(event.set)
        if self.is_ready:
            discard(self._callbacks, event.set)
        else:
            self._wait_on_thread(event)

    def _block(self, timeout: float | None) -> None:
        if self._done:
            return
        what = self.describe()
        refuse_to_block(f"{what}(...)", f"await {what}.remote(...)", self._process)
        deadline = None if timeout is None else self._process.clock.monotonic() + timeout
        while not self._done:
            event = threading.Event()
            self._add_callback(event.set)
            left = None if deadline is None else deadline - self._process.clock.monotonic()
            in_time = self._wait_on_thread(event, left)
            if not in_time and not self._done:
                raise TimeoutError(f"{what} has no outcome after {timeout} s")
            self._refuse_stream()

    def _wait_on_thread(self, event: threading.Event, timeout_s: float | None = None) -> bool:
        """Blocks until the event is set, which is among the callbacks. False after the time."""
        invocation = CURRENT_INVOCATION.get()
        if invocation is not None:
            begin_wait(invocation, event, self)
        try:
            if invocation is not None:
                self._process.watch_waits()
            return wait(event, timeout_s)
        except FrayError:  # nobody waits any more; the outcome may have come at the same moment
            self._looked_at = True
            raise
        finally:  # who asks again and again leaves nothing behind
            discard(self._callbacks, event.set)
            if invocation is not None:
                end_wait(invocation, event)

    def _outcome(self) -> T_co:
        self._decode()
        if self._exception is not None:
            raise self._exception
        return self._value


__all__ = ["ActorFuture"]
