"""What becomes of one call: the system's side of its future.

State changes happen on the system's loop only; everybody else looks, and registers callbacks. A
callback is taken from its deque by whoever runs it, and ``popleft`` is atomic, so each runs once.
Users' callbacks wait for the outcome, and what they raise concerns nobody else; fray's own are told
of every change, the items of a stream included, and do not raise.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from fray.errors import (
    ActorDied,
    CallCancelled,
    CallError,
    DeadlineExceeded,
    FrayError,
    PayloadError,
    Started,
)
from fray.runtime.calls import STREAM_BYTES_WINDOW, STREAM_ITEMS_WINDOW, OutgoingCall
from fray.runtime.error_envelope import decode_error
from fray.runtime.serialization import loads

if TYPE_CHECKING:
    from fray.actor.route import Route
    from fray.runtime.calls import Invocation
    from fray.runtime.payload import Payload
    from fray.runtime.process import Process

log = logging.getLogger("fray")


class Outcome:
    """What becomes of a call; a `CallSink`. Users have it as an `ActorFuture`.

    Args:
        route: The way to the actor.
        method: What is called.
        timeout_s: Time limit in seconds; None for none.
        retries: How often it may be repeated where it may have run.
        within: The served call whose time limit this one has; None where it has its own.
    """

    def __init__(
        self,
        route: Route,
        method: str,
        timeout_s: float | None,
        retries: int,
        within: Invocation | None = None,
    ) -> None:
        self.call: OutgoingCall | None = None
        self.retries = retries
        self.timeout_s = timeout_s
        self.attempts = 0
        self.may_have_run = False  # in an attempt whose fate is unknown
        self.number = 0  # the route counts its calls
        self._route = route
        self._method = method
        self._within = within  # the served call whose time this one has
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

    def done(self) -> bool:
        """Whether the call has its outcome. A stream is done when its last item has arrived."""
        return self._done

    @property
    def failed(self) -> bool:
        """Whether it has an outcome, and that is not a result."""
        return self._done and (self._error is not None or self._exception is not None)

    def __del__(self) -> None:
        if self.failed and not self._looked_at:
            try:
                self._decode()
            except Exception as exc:  # a destructor has nobody to raise to
                self._exception = exc
            log.error("a call failed and nobody looked: %s: %s", self.describe(), self._exception)

    # ---- whoever waits

    def call_when_done(
        self,
        fn: Callable[[Any], object],
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
                call_threadsafe(loop, fn, self)
                continue
            try:
                fn(self)
            except Exception:  # the user's own matter: whoever else waits must be told
                log.exception("a callback of %s failed", self.describe())

    # ---- what the system does, on the loop

    def begin(self) -> None:
        """Starts the clock of the call's time limit."""
        if self.timeout_s is not None:
            self._timer = self._process.loop.call_later(max(self.timeout_s, 0), self._too_late)

    def _too_late(self) -> None:
        if not self._done:
            sent = self.call is not None and self.call.sent
            waits_for = self._route.waits_for
            why = f": {self._route.label} is not ready yet: {waits_for}" if waits_for else ""
            if self.call is not None:
                self.call.is_late = True
            self._drop()
            self.fail(
                DeadlineExceeded(
                    f"{self.describe()} had no outcome within {self.timeout_s:g} s; the call "
                    f"{'may have run' if sent else f'was not sent{why}'}",
                    started=Started.UNKNOWN if sent else Started.NO,
                )
            )

    def _cancel(self) -> None:
        if self._within is not None and self._within.is_late:
            self._too_late()
        elif not self._done:
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
            self._looked_at = self._looked_at or expected or self._is_told_by_another(exc)
            self._is_decoded = True
            self._settle()

    def _is_told_by_another(self, exc: BaseException) -> bool:
        """Whether the call in which this one was made ends for the same reason: it says so."""
        within = self._within
        if within is None or not isinstance(exc, DeadlineExceeded):
            return False
        return within.cancelled or not within.finished

    def succeed(self, value: Any) -> None:
        """Settles with a value that needs no unpickling.

        Args:
            value: What awaiting it gives.
        """
        if not self._done:
            self._value = value
            self._is_decoded = True
            self._settle()

    def _settle(self) -> None:
        """The terminal outcome is in place: tell everybody. On the loop."""
        self._done = True
        self._within = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._route.settled(self)
        self.call = None  # and its arguments, which may be large: outcomes are kept for long
        self._run_callbacks()
        self._run_done_callbacks()

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

    # ---- what came

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

    def _is_generator(self) -> str:
        return (
            f"{self.describe()} is a generator: iterate over it "
            f"(async for x in {self.describe()}.remote(...), or `for` in synchronous code)"
        )

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
            call = self.call  # the loop may settle this meanwhile
            if call is not None:
                self._process.post(call.grant, items, nbytes)
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


_DoneCallback = tuple[Callable[[Any], object], asyncio.AbstractEventLoop | None]
"""A user's callback, which is called with the future, and the loop on which that is done."""


def _but_may_have_run(exc: BaseException) -> BaseException:
    """What is true of the last attempt of a call is not of those before."""
    if not isinstance(exc, CallError) or exc.started is not Started.NO:
        return exc
    if isinstance(exc, ActorDied):  # its message says it, too
        return ActorDied(exc.actor, exc.cause, started=Started.UNKNOWN)
    exc.started = Started.UNKNOWN
    exc.add_note("the call was repeated, and an earlier attempt may have run")
    return exc


def call_threadsafe(
    loop: asyncio.AbstractEventLoop, fn: Callable[..., object], *args: object
) -> None:
    """Calls a function on another loop, if that has not ended.

    Args:
        loop: The loop.
        fn: The function.
        *args: What it is called with.
    """
    try:
        loop.call_soon_threadsafe(fn, *args)
    except RuntimeError:  # that loop has ended, and with it whoever waited there
        log.debug("%s is closed: nobody is told there", loop)


def discard(entries: deque[Any], entry: object) -> bool:
    """Takes an entry out of a deque that other threads take from. Whether it was there.

    Args:
        entries: The deque.
        entry: What to take out.
    """
    try:
        entries.remove(entry)
    except (ValueError, IndexError):  # it is being run, or will be to no effect
        return False
    return True


__all__ = ["Outcome", "call_threadsafe", "discard"]
