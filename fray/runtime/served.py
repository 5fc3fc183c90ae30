"""The calls that come in over a connection: to their actors, and their answers back.

They outlive a lost link: what serves them does not notice that another connection goes on for the
one over which they came (`ServedCalls.move`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fray.errors import ActorUnavailable, CallError, PayloadError, Started
from fray.runtime.builtin import RUNTIME
from fray.runtime.callcontext import CallContext
from fray.runtime.calls import Invocation
from fray.runtime.error_envelope import encode_error
from fray.runtime.frames import ERROR, RESULT

if TYPE_CHECKING:
    from fray.runtime.builtin import Builtin
    from fray.runtime.cell import Cell
    from fray.runtime.clock import Clock
    from fray.runtime.connection import Connection
    from fray.runtime.events import CallsReceived, CancelReceived, CreditGranted
    from fray.runtime.outflow import Outflow
    from fray.runtime.payload import Payload
    from fray.runtime.sentlog import Delivery
    from fray.runtime.transport import Principal


class ServedCalls:
    """A `ReplyTo`, and a `Served`.

    Args:
        connection: Over which they come.
        outflow: Is touched when an answer was said.
        principal: Who calls.
        clock: The process's clock.
        cells: The actors hosted here, by target.
        builtin: What the process answers for itself.

    Attributes:
        is_connected: Whether a link is open to whoever made them.
        is_over: Whether there will be none any more.
    """

    def __init__(
        self,
        connection: Connection,
        outflow: Outflow,
        principal: Principal,
        *,
        clock: Clock,
        cells: dict[str, Cell],
        builtin: Builtin,
    ) -> None:
        self._connection = connection
        self._outflow = outflow
        self._principal = principal
        self._clock = clock
        self._cells = cells
        self._builtin = builtin
        self.is_connected = True
        self.is_over = False
        self._incoming: dict[int, Invocation] = {}
        self._keyed: dict[int, tuple[Cell, bytes]] = {}

    def __len__(self) -> int:
        return len(self._incoming)

    @property
    def ids(self) -> list[int]:
        """The numbers of the calls that have no answer yet."""
        return list(self._incoming)

    def served(self, call_id: int) -> Invocation | None:
        """See `Served.served`."""
        return self._incoming.get(call_id)

    # ---- what the other side says

    def calls_received(self, event: CallsReceived) -> None:
        """Hands calls to their actors.

        Args:
            event: The calls.

        Raises:
            RemoteProtocolError: What a call says of itself makes no sense.
        """
        cells, incoming, principal = self._cells, self._incoming, self._principal
        for call in event.calls:
            deadline = None
            if call.timeout_s is not None:
                deadline = self._clock.monotonic() + call.timeout_s
            invocation = Invocation(
                call.call_id, call.method, call.payload, self, deadline=deadline, caller=principal
            )
            if call.context:
                invocation.context = CallContext.decode(call.context)
            invocation.target = call.target
            incoming[call.call_id] = invocation
            cell = cells.get(call.target)
            if cell is None and call.target == RUNTIME:
                self._builtin.answer(self, invocation)
            elif cell is None:
                self.failure(
                    invocation,
                    ActorUnavailable(
                        f"this process hosts no actor {call.target}: it has stopped or restarted",
                        started=Started.NO,
                    ),
                )
            elif invocation.context.key:
                self._keyed[call.call_id] = (cell, invocation.context.key)
                self._connection.on_acknowledged = self._answers_arrived
                cell.submit_repeatable(invocation)
            else:
                cell.submit(invocation)

    def cancel_received(self, event: CancelReceived) -> None:
        """Its caller does not wait any more.

        Args:
            event: Which call.
        """
        invocation = self._incoming.pop(event.call_id, None)
        self._keyed.pop(event.call_id, None)
        if invocation is not None:
            invocation.is_late = event.is_late
            cell = self._cells.get(invocation.target)
            if cell is not None:
                cell.cancel(invocation)

    def credit_granted(self, event: CreditGranted) -> None:
        """The reader of a stream accepts more.

        Args:
            event: Which call, and how much.
        """
        invocation = self._incoming.get(event.call_id)
        if invocation is not None:
            invocation.grant(event.items, event.nbytes)

    def _answers_arrived(self, deliveries: list[Delivery]) -> None:
        """What the other side has need not be kept for it."""
        for delivery in deliveries:
            if isinstance(delivery, int) or delivery[0] not in (RESULT, ERROR):
                continue
            keyed = self._keyed.pop(delivery[1], None)
            if keyed is not None:
                cell, key = keyed
                cell.repeats.forget(key)

    # ---- their connection

    def move(self, connection: Connection, outflow: Outflow) -> None:
        """Another connection goes on for the one over which they came.

        Args:
            connection: That.
            outflow: Its.
        """
        self._connection = connection
        self._outflow = outflow
        self.is_connected = True
        if self._keyed:
            connection.on_acknowledged = self._answers_arrived

    def lose(self) -> None:
        """Their connection has ended for good: nobody waits for them any more."""
        self.is_connected = False
        self.is_over = True
        for invocation in list(self._incoming.values()):
            cell = self._cells.get(invocation.target)
            if cell is not None:
                cell.lost(invocation)
        self._incoming.clear()

    def _may_answer(self) -> bool:
        return self._connection.conversation.is_open

    # ---- ReplyTo

    def result(self, invocation: Invocation, payload: Payload) -> None:
        """See `ReplyTo.result`."""
        if self._incoming.pop(invocation.call_id, None) is not None and self._may_answer():
            try:
                self._connection.result(invocation.call_id, payload)
            except PayloadError as exc:  # larger than the other side accepts
                self._connection.error(invocation.call_id, encode_error(exc))
            if invocation.more:
                self._outflow.touch_lazily()
            else:
                self._outflow.touch()

    def error(self, invocation: Invocation, payload: Payload) -> None:
        """See `ReplyTo.error`."""
        if self._incoming.pop(invocation.call_id, None) is not None and self._may_answer():
            self._connection.error(invocation.call_id, payload)
            self._outflow.touch()

    def failure(self, invocation: Invocation, exc: CallError) -> None:
        """See `ReplyTo.failure`."""
        self._keyed.pop(invocation.call_id, None)  # nothing is kept for a repetition
        if self._incoming.pop(invocation.call_id, None) is not None and self._may_answer():
            self._connection.failure(invocation.call_id, encode_error(exc))
            self._outflow.touch()

    def item(self, invocation: Invocation, payload: Payload) -> None:
        """See `ReplyTo.item`."""
        if invocation.call_id in self._incoming and self._may_answer():
            try:
                self._connection.item(invocation.call_id, payload)
            except PayloadError as exc:  # larger than the other side accepts: the stream ends so
                invocation.finished = True
                self.error(invocation, encode_error(exc))
            self._outflow.touch()

    def end(self, invocation: Invocation) -> None:
        """See `ReplyTo.end`."""
        self._keyed.pop(invocation.call_id, None)
        if self._incoming.pop(invocation.call_id, None) is not None and self._may_answer():
            self._connection.end(invocation.call_id)
            self._outflow.touch()


__all__ = ["ServedCalls"]
