"""A call, seen from both of its ends, and nothing of how it travels.

The caller's side is a `CallSink`: it is told the outcome. The actor's side is an `Invocation`: it
carries what was asked and where the answer goes. A peer (or, within one process, a direct hand
over) stands between them.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Protocol

from fray.errors import CallCancelled, DeadlineExceeded, Started
from fray.runtime.callcontext import NO_CONTEXT, CallContext

if TYPE_CHECKING:
    from fray.errors import CallError
    from fray.runtime.cycles import Probe
    from fray.runtime.payload import Payload
    from fray.runtime.repeats import Repeats
    from fray.runtime.transport import Principal
    from fray.runtime.waits import Awaited, Waiter

STREAM_ITEMS_WINDOW = 64
"""Items that a stream's producer may be ahead of its consumer."""

STREAM_BYTES_WINDOW = 8 << 20
"""Bytes that a stream's producer may be ahead; one item may overshoot it, however large."""


class CallSink(Protocol):
    """Who waits for a call: told exactly one terminal outcome, on the process's loop."""

    def on_result(self, payload: Payload) -> None:
        """Terminal: the method returned."""
        ...

    def on_error(self, payload: Payload) -> None:
        """Terminal: the method raised."""
        ...

    def on_failure(self, exc: BaseException) -> None:
        """Terminal: fray's own failure: refused, died, lost. A `CallError` where it is a peer's."""
        ...

    def on_item(self, payload: Payload) -> None:
        """The method yielded."""
        ...

    def on_end(self) -> None:
        """Terminal: the generator is exhausted."""
        ...


class OutgoingCall:
    """What a caller hands over.

    Attributes:
        method: Name of the method.
        payload: The arguments, already serialized.
        deadline: On the process's monotonic clock; None for none.
        repeatable: Whether the caller may send the payload again after it was received.
        context: What it says of itself to the runtime of the other side.
        sink: Who is told the outcome.
        carrier: Who carries it at present.
        sent: Whether bytes of it may have left: decides between ``started: no`` and ``unknown``.
        done: Whether it has its terminal outcome.
        is_late: Whether its time was up before it had one.
    """

    __slots__ = (
        "call_id",
        "carrier",
        "context",
        "deadline",
        "done",
        "is_late",
        "method",
        "payload",
        "repeatable",
        "sent",
        "sink",
        "target",
    )

    def __init__(
        self,
        method: str,
        payload: Payload,
        sink: CallSink,
        *,
        deadline: float | None = None,
        repeatable: bool = False,
        context: CallContext = NO_CONTEXT,
    ) -> None:
        self.method = method
        self.payload = payload
        self.sink = sink
        self.deadline = deadline
        self.repeatable = repeatable
        self.context = context
        self.target = ""
        self.call_id = 0
        self.carrier: Carrier | None = None
        self.sent = False
        self.done = False
        self.is_late = False

    def cancel(self) -> None:
        """Tells the actor that nobody waits any more. The sink hears nothing of it."""
        if self.carrier is not None and not self.done:
            self.carrier.cancel(self)

    def grant(self, items: int, nbytes: int) -> None:
        """Lets the producer of a stream go on.

        Args:
            items: How many more items it may send.
            nbytes: How many more bytes.
        """
        if self.carrier is not None and not self.done:
            self.carrier.grant(self, items, nbytes)


class Carrier(Protocol):
    """What stands between a call's two ends."""

    def cancel(self, call: OutgoingCall) -> None:
        """Tells the actor's side that nobody waits for this call."""
        ...

    def grant(self, call: OutgoingCall, items: int, nbytes: int) -> None:
        """Gives a stream's producer more credit."""
        ...

    def probe(self, call: OutgoingCall, probe: Probe) -> None:
        """Asks the actor's side what this call waits for; see `fray.runtime.cycles`."""
        ...

    def break_cycle(self, call: OutgoingCall, chain: str) -> None:
        """Has the actor's side take this call out of a cycle, unless it has begun."""
        ...


class ReplyTo(Protocol):
    """Where an invocation's answer goes."""

    def result(self, invocation: Invocation, payload: Payload) -> None:
        """The method returned."""
        ...

    def error(self, invocation: Invocation, payload: Payload) -> None:
        """The method raised."""
        ...

    def failure(self, invocation: Invocation, exc: CallError) -> None:
        """The call was refused, cancelled or cut off: told apart from what the method raises."""
        ...

    def item(self, invocation: Invocation, payload: Payload) -> None:
        """The method yielded."""
        ...

    def end(self, invocation: Invocation) -> None:
        """The generator is exhausted."""
        ...


class Invocation:
    """A call, at the actor's side.

    Attributes:
        call_id: The carrier's number for it.
        method: Name of the method.
        payload: The arguments; dropped once they are unpickled.
        owns_payload: Whether the payload's memory may become that of the arguments: not where the
            caller is in this process and may send it again.
        deadline: On this process's monotonic clock; None for none.
        caller: Who calls, as established before the connection existed; None within the process.
        context: What the call says of itself to the runtime.
        reply_to: Where the answer goes.
        cancelled: Whether the caller has gone; a synchronous method may look at it
            (`fray.cancelled()`).
        is_late: Whether that is since the call's time was up.
        target: Which actor; set by the carrier.
        repeats: Where its outcome is kept for whoever repeats it; None for most.
        more: Whether other calls wait at the actor when this one is answered: then its answer may
            wait a moment for theirs.
        task: What runs it, where that is a task or a thread's future.
        timer: Ends it when its time is up.
        thread: The thread that runs it, where one does; else 0.
        waiting: The calls of others that its code waits for; see `fray.runtime.waits`.
    """

    __slots__ = (
        "_credit",
        "_credit_bytes",
        "_credit_items",
        "_is_told",
        "_waiting",
        "call_id",
        "caller",
        "cancelled",
        "context",
        "deadline",
        "finished",
        "is_late",
        "method",
        "more",
        "owns_payload",
        "payload",
        "repeats",
        "reply_to",
        "started_at",
        "target",
        "task",
        "thread",
        "timer",
        "waiting",
    )

    def __init__(
        self,
        call_id: int,
        method: str,
        payload: Payload | None,
        reply_to: ReplyTo,
        *,
        deadline: float | None = None,
        caller: Principal | None = None,
        owns_payload: bool = True,
        context: CallContext = NO_CONTEXT,
    ) -> None:
        self.call_id = call_id
        self.owns_payload = owns_payload
        self.method = method
        self.payload = payload
        self.reply_to = reply_to
        self.deadline = deadline
        self.caller = caller
        self.context = context
        self.target = ""
        self.cancelled = False
        self.is_late = False
        self.finished = False
        self.repeats: Repeats | None = None
        self.more = False
        self.started_at = 0.0
        self.task: asyncio.Future[Any] | None = None
        self.thread = 0
        self.timer: asyncio.TimerHandle | None = None
        self.waiting: dict[Waiter, Awaited] | None = None
        self._credit_items = STREAM_ITEMS_WINDOW
        self._credit_bytes = STREAM_BYTES_WINDOW
        self._credit: asyncio.Future[None] | None = None
        self._waiting: tuple[threading.Event, ...] = ()  # what its threads block on
        self._is_told = False

    def interrupt(self) -> None:
        """The caller has gone: wakes the threads of the method that block on something of fray's.

        Each of `cancelled` and `blocking` is set before the other is looked at, by whoever sets it.
        """
        if not self.cancelled:
            self.cancelled = True
            with _WAITING_LOCK:
                waiting = self._waiting
            for event in waiting:
                event.set()

    @contextmanager
    def blocking(self, event: threading.Event) -> Generator[None]:
        """For the time in which a thread of the method blocks on an event.

        Args:
            event: Set when the caller goes meanwhile, and when what it stands for happens.

        Raises:
            CallCancelled: The caller has gone. Once, as asyncio has it: cleaning up may block.
            DeadlineExceeded: Likewise, since the time of the method's call is up.
        """
        with _WAITING_LOCK:
            self._waiting = (*self._waiting, event)
        try:
            self._check()
            yield
            self._check()
        finally:
            with _WAITING_LOCK:
                self._waiting = tuple(each for each in self._waiting if each is not event)

    def _check(self) -> None:
        if self.cancelled and not self._is_told:
            self._is_told = True
            if self.is_late:
                raise DeadlineExceeded(
                    f"the time of {self.method} was up while it waited", started=Started.UNKNOWN
                )
            raise CallCancelled(
                f"{self.method} was cancelled by its caller while it waited",
                started=Started.UNKNOWN,
            )

    def answer(self, ok: bool, payload: Payload) -> None:
        """Ends the call with its outcome; does nothing where it has ended.

        Args:
            ok: Whether the method returned; else it raised.
            payload: What.
        """
        if not self.finished:
            self.finished = True
            (self.reply_to.result if ok else self.reply_to.error)(self, payload)
            if self.repeats is not None:
                self.repeats.ended(self, ok, payload)

    def fail(self, exc: CallError) -> None:
        """Ends the call with a failure of fray's own; does nothing where it has ended.

        Args:
            exc: The failure.
        """
        if not self.finished:
            self.finished = True
            self.reply_to.failure(self, exc)
            if self.repeats is not None:
                self.repeats.failed(self, exc)

    def end(self) -> None:
        """Ends a stream; does nothing where it has ended."""
        if not self.finished:
            self.finished = True
            self.reply_to.end(self)

    def grant(self, items: int, nbytes: int) -> None:
        """The consumer of a stream took some.

        Args:
            items: How many more items it accepts.
            nbytes: How many more bytes.
        """
        self._credit_items += items
        self._credit_bytes += nbytes
        if self._has_credit() and self._credit is not None and not self._credit.done():
            self._credit.set_result(None)

    def _has_credit(self) -> bool:
        return self._credit_items > 0 and self._credit_bytes > 0

    async def credit(self, nbytes: int) -> None:
        """Waits until an item may be sent, and counts it as sent. On the loop only.

        Args:
            nbytes: Size of the item.
        """
        while not self._has_credit():
            self._credit = asyncio.get_running_loop().create_future()
            try:
                await self._credit
            finally:
                self._credit = None
        self._credit_items -= 1
        self._credit_bytes -= nbytes


_WAITING_LOCK = threading.Lock()
"""Guards which events threads of calls block on; held for moments only."""


CURRENT_INVOCATION: ContextVar[Invocation | None] = ContextVar(
    "fray_current_invocation", default=None
)
"""The call that the running code serves; None outside of actors' methods."""


__all__ = [
    "CURRENT_INVOCATION",
    "STREAM_BYTES_WINDOW",
    "STREAM_ITEMS_WINDOW",
    "CallSink",
    "Carrier",
    "Invocation",
    "OutgoingCall",
    "ReplyTo",
]
