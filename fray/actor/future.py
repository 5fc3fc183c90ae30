"""The future of one call: awaitable from any loop, usable from any thread.

State changes happen on the system's loop only; everybody else looks, and registers callbacks. A
callback is taken from its deque by whoever runs it, and ``popleft`` is atomic, so each runs once.
Users' callbacks wait for the outcome, and what they raise concerns nobody else; fray's own are told
of every change, the items of a stream included, and do not raise.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import sys
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from typing import TYPE_CHECKING, Any, Generic, NoReturn, TypeVar

from fray.actor.stream import Stream
from fray.errors import (
    ActorDied,
    BlockingCallError,
    CallCancelled,
    CallError,
    ClusterClosed,
    DeadlineExceeded,
    FrayError,
    PayloadError,
    Started,
)
from fray.runtime.blocking import wait
from fray.runtime.calls import (
    CURRENT_INVOCATION,
    STREAM_BYTES_WINDOW,
    STREAM_ITEMS_WINDOW,
    OutgoingCall,
)
from fray.runtime.error_envelope import decode_error
from fray.runtime.serialization import loads
from fray.runtime.waits import begin_wait, end_wait

if TYPE_CHECKING:
    from fray.actor.route import Route
    from fray.runtime.payload import Payload
    from fray.runtime.process import Process

log = logging.getLogger("fray")

T_co = TypeVar("T_co", covariant=True)


def refuse_to_block(what: str, instead: str, process: Process | None = None) -> None:
    """Raises where blocking this thread would stop an event loop.

    A notebook's cell runs on its kernel's loop, where blocking is what the user expects; it is let
    through unless what it waits for needs that very loop.

    Args:
        what: What was called, for the message.
        instead: What to write instead.
        process: Whose loop it is that has to go on; None where `Process.run` looks at that.

    Raises:
        BlockingCallError: A loop runs on this thread.
    """
    if process is not None:
        check_here(process)
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    shell = sys.modules.get("IPython")
    in_notebook = shell is not None and shell.get_ipython() is not None
    if in_notebook and (process is None or not process.on_loop):
        return
    raise BlockingCallError(
        f"{what} would block the event loop that runs on this thread; write `{instead}` instead"
    )


def check_here(process: Process) -> None:
    """Makes sure that what a call is waited for can come.

    Args:
        process: Whose loop settles the call.

    Raises:
        ClusterClosed: This operating-system process was forked from the one that made the call.
    """
    if not process.is_here:
        raise ClusterClosed(
            "this call was made by the process that this one was forked from, and only there has "
            "it an outcome"
        )


class ActorFuture(Generic[T_co]):
    """The outcome of a call that is on its way.

    Await it (from any event loop), or block for it with `result`. Cancelling the task that awaits
    it cancels the call. A failure that nobody ever looks at is logged once.

    For a generator method it is iterated over instead: ``async for`` (or ``for``); leaving the loop
    closes the generator at the actor. ``aiter(future)`` (or ``iter``) gives an iterator for
    ``anext`` (``next``); dropping that closes the generator.
    """

    def __init__(self, route: Route, method: str, timeout_s: float | None, retries: int) -> None:
        self.call: OutgoingCall | None = None
        self.retries = retries
        self.timeout_s = timeout_s
        self.attempts = 0
        self.may_have_run = False  # in an attempt whose fate is unknown
        self.number = 0  # the route counts its calls
        self._route = route
        self._method = method
        self._process = route.process
        self._callbacks: deque[Callable[[], None]] = deque()
        self._done_callbacks: deque[_DoneCallback] = deque()
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

    @property
    def process(self) -> Process:
        """The process whose loop settles it."""
        return self._process

    # ---- the user's side

    def done(self) -> bool:
        """Whether the call has its outcome. A stream is done when its last item has arrived."""
        return self._done

    def cancelled(self) -> bool:
        """Whether it was cancelled by `cancel`."""
        return self._done and isinstance(self._exception, CallCancelled)

    @property
    def failed(self) -> bool:
        """Whether it has an outcome, and that is not a result."""
        return self._done and (self._error is not None or self._exception is not None)

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
        call of its own, that raises `CallCancelled` in it.

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

    def call_when_done(
        self,
        fn: Callable[[ActorFuture[T_co]], object],
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        """See `add_done_callback`, with the loop given.

        Args:
            fn: Called with this future.
            loop: Where; None for the thread of the system's loop, or this one.
        """
        self._done_callbacks.append((fn, loop))
        if self._done:
            self._run_done_callbacks()

    def remove_done_callback(self, fn: Callable[[ActorFuture[T_co]], object]) -> int:
        """Forgets what `add_done_callback` was given.

        Args:
            fn: The function.

        Returns:
            How many times it was there, and had not been called.
        """
        entries = [entry for entry in self._done_callbacks.copy() if entry[0] == fn]
        return sum(_discard(self._done_callbacks, entry) for entry in entries)

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

    def __del__(self) -> None:
        if self.failed and not self._looked_at:
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

    def _run_done_callbacks(self) -> None:
        while self._done_callbacks:
            try:
                fn, loop = self._done_callbacks.popleft()
            except IndexError:  # another thread took it
                return
            if loop is not None:
                _call_threadsafe(loop, fn, self)
                continue
            try:
                fn(self)
            except Exception:  # the user's own matter: whoever else waits must be told
                log.exception("a callback of %s failed", self.describe())

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

    def _is_generator(self) -> str:
        return (
            f"{self.describe()} is a generator: iterate over it "
            f"(async for x in {self.describe()}.remote(...), or `for` in synchronous code)"
        )

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
            self._add_callback(functools.partial(_call_threadsafe, loop, wake))
        return waiter

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
        finally:  # who asks again and again leaves nothing behind
            _discard(self._callbacks, event.set)
            if invocation is not None:
                end_wait(invocation, event)

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
            except BaseException as exc:  # Ctrl-C: what is half unpickled is no outcome
                failure = PayloadError(f"reading the outcome of {self.describe()} was interrupted")
                failure.__cause__ = exc
                self._exception = failure
                raise
            finally:
                self._payload = self._error = None

    def _settle(self) -> None:
        """The terminal outcome is in place: tell everybody. On the loop."""
        self._done = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._route.settled(self)
        self._run_callbacks()
        self._run_done_callbacks()

    # ---- the system's side, on the loop

    def begin(self) -> None:
        """Starts the clock of the call's time limit."""
        if self.timeout_s is not None:
            self._timer = self._process.loop.call_later(max(self.timeout_s, 0), self._too_late)

    def _too_late(self) -> None:
        if not self._done:
            sent = self.call is not None and self.call.sent
            waits_for = self._route.waits_for
            why = f": {self._route.label} is not ready yet: {waits_for}" if waits_for else ""
            self._drop()
            self.fail(
                DeadlineExceeded(
                    f"{self.describe()} had no outcome within {self.timeout_s:g} s; the call "
                    f"{'may have run' if sent else f'was not sent{why}'}",
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

    def fail(self, exc: BaseException, *, expected: bool = False) -> None:
        """Settles with a failure of fray's own.

        Args:
            exc: What awaiting it raises.
            expected: Whether it is no news to whoever does not look, such as the end of everything.
        """
        if not self._done:
            if self.may_have_run:
                exc = _but_may_have_run(exc)
            self._exception = exc
            self._looked_at = self._looked_at or expected
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

    def wait_changed(self) -> None:
        """Blocks until an item or the outcome arrives."""
        event = threading.Event()
        self._add_callback(event.set)
        if self.is_ready:
            _discard(self._callbacks, event.set)
        else:
            self._wait_on_thread(event)


_DoneCallback = tuple[Callable[[ActorFuture[Any]], object], asyncio.AbstractEventLoop | None]
"""A user's callback, and the loop on which it is called."""


def _but_may_have_run(exc: BaseException) -> BaseException:
    """What is true of the last attempt of a call is not of those before."""
    if not isinstance(exc, CallError) or exc.started is not Started.NO:
        return exc
    if isinstance(exc, ActorDied):  # its message says it, too
        return ActorDied(exc.actor, exc.cause, started=Started.UNKNOWN)
    exc.started = Started.UNKNOWN
    exc.add_note("the call was repeated, and an earlier attempt may have run")
    return exc


def _call_threadsafe(
    loop: asyncio.AbstractEventLoop, fn: Callable[..., object], *args: object
) -> None:
    try:
        loop.call_soon_threadsafe(fn, *args)
    except RuntimeError:  # that loop has ended, and with it whoever waited there
        log.debug("%s is closed: nobody is told there", loop)


def _discard(entries: deque[Any], entry: object) -> bool:
    """Takes an entry out of a deque that other threads take from. Whether it was there."""
    try:
        entries.remove(entry)
    except (ValueError, IndexError):  # it is being run, or will be to no effect
        return False
    return True


__all__ = ["ActorFuture", "refuse_to_block"]
