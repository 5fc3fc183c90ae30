"""What a message means: records in, events out, after all that can be checked was checked.

The half of a `Connection` that listens. It knows which calls are in flight both ways, and passes
what concerns the other half on to it: credit and cancels to what leaves, HELLO to the handshake.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fray.errors import RemoteProtocolError
from fray.runtime import frames
from fray.runtime.conversation import Conversation, Party, Saying
from fray.runtime.decoder import (
    Aborted,
    Acknowledged,
    Credited,
    Decoder,
    HelloRecord,
    Opened,
    Record,
)
from fray.runtime.events import (
    CallsReceived,
    CancelReceived,
    CreditGranted,
    Event,
    Goodbye,
    IncomingCall,
    ItemsReceived,
    OutcomeKind,
    OutcomesReceived,
    StreamEnded,
)
from fray.runtime.frames import CHUNK, HEAD, Limits
from fray.runtime.transport import MESSAGE_BYTES_MAX

if TYPE_CHECKING:
    from collections.abc import Callable

    from fray.runtime.hello import Allowance
    from fray.runtime.lanes import Lanes
    from fray.runtime.transfers_in import Incoming, IncomingTransfer
    from fray.runtime.transfers_out import Turns

_OUTCOMES = {
    frames.RESULT: OutcomeKind.RESULT,
    frames.ERROR: OutcomeKind.ERROR,
    frames.FAILURE: OutcomeKind.FAILURE,
}


class Receiver:
    """Reads one peer's messages.

    Args:
        conversation: Where the two sides stand.
        limits: What is accepted.
        lanes: What we send, in order.
        turns: What we send in bulk.
        incoming: Bulk that arrives.
        answer_hello: Told what the peer accepts when it has introduced itself; gives the event, if
            there is one. After a Goodbye nothing more is read.
        acknowledged: Told how many deliveries of ours have arrived.

    Attributes:
        calls_out: Ids of calls of ours in flight.
        calls_in: Ids of calls of the peer's in flight, as far as delivered.
        calls_received: How many were delivered.
        received: How many deliveries of the session (`fray.runtime.sentlog`) have arrived.
    """

    def __init__(
        self,
        conversation: Conversation,
        limits: Limits,
        lanes: Lanes,
        turns: Turns,
        incoming: Incoming,
        answer_hello: Callable[[Allowance], Event | None],
        acknowledged: Callable[[int], None],
    ) -> None:
        self._conversation = conversation
        self._calls_in_max = limits.calls_in_flight_max
        self._lanes = lanes
        self._turns = turns
        self._incoming = incoming
        self._answer_hello = answer_hello
        self._acknowledged = acknowledged
        self._decoder = Decoder()
        self.calls_out: set[int] = set()
        self.calls_in: set[int] = set()
        self.calls_received = 0
        self.received = 0

    @property
    def names(self) -> int:
        """How many target and method names the peer has defined."""
        return self._decoder.names

    def receive(self, data: memoryview) -> list[Event]:
        """Takes one message.

        Args:
            data: Of any content and size; what is kept of it is copied.

        Raises:
            RemoteProtocolError: The peer broke the protocol.
        """
        conversation = self._conversation
        if not 0 < len(data) <= MESSAGE_BYTES_MAX:
            raise RemoteProtocolError(
                f"a message of {len(data)} bytes; 1 to {MESSAGE_BYTES_MAX} are accepted"
            )
        events: list[Event] = []
        if data[0] == CHUNK:
            conversation.they_say(Saying.RECORD)
            self._chunk(data, events)
            return events
        if conversation.them is Party.SILENT and data[0] not in (frames.HELLO, frames.GOODBYE):
            conversation.they_say(Saying.RECORD)  # refuses, before anything is read
        for record in self._decoder.decode(bytes(data)):
            if isinstance(record, HelloRecord):
                event = self._answer_hello(conversation.receive_hello(record.raw))
                if event is not None:
                    events.append(event)
                if isinstance(event, Goodbye):
                    break
            elif isinstance(record, Goodbye):
                conversation.they_say(Saying.GOODBYE)
                events.append(record)
            else:
                conversation.they_say(Saying.RECORD)
                self._record(record, events)
        return events

    def _record(self, record: Record, events: list[Event]) -> None:
        """Acts on what is said between HELLO and GOODBYE."""
        if isinstance(record, Opened):
            self._deliver(self._incoming.open(record), events)
        elif isinstance(record, Aborted):
            self._incoming.abort(record.transfer_id)
        elif self._conversation.us is not Party.DONE:
            self._event(record, events)
        elif isinstance(record, OutcomesReceived | ItemsReceived | StreamEnded):
            events.append(record)  # the last answers; all else can have no consequence any more

    def _event(self, record: Record, events: list[Event]) -> None:
        if isinstance(record, CallsReceived):
            self._calls(record)
        elif isinstance(record, OutcomesReceived):
            self.received += len(record.outcomes)
            self.calls_out.difference_update([outcome[0] for outcome in record.outcomes])
        elif isinstance(record, ItemsReceived):
            self.received += len(record.items)
        elif isinstance(record, Credited):
            self._turns.credited(record.transfer_id, record.nbytes)
            return
        elif isinstance(record, Acknowledged):
            self._acknowledged(record.received)
            return
        elif isinstance(record, StreamEnded | CancelReceived | CreditGranted):
            self.received += 1
            self._single(record)
        else:
            raise AssertionError(f"{record} is not for here")
        events.append(record)

    def _single(self, record: StreamEnded | CancelReceived | CreditGranted) -> None:
        if isinstance(record, StreamEnded):
            self.calls_out.discard(record.call_id)
        elif isinstance(record, CancelReceived):
            self.calls_in.discard(record.call_id)
            self._lanes.withdraw_answers(record.call_id)

    def _calls(self, record: CallsReceived) -> None:
        calls, calls_in = record.calls, self.calls_in
        before = len(calls_in)
        calls_in.update([call.call_id for call in calls])
        if len(calls_in) != before + len(calls):
            raise RemoteProtocolError("a call has the id of another one in flight")
        if len(calls_in) > self._calls_in_max:
            raise RemoteProtocolError(f"more than {self._calls_in_max} calls in flight")
        self.calls_received += len(calls)
        self.received += len(calls)

    def _chunk(self, data: memoryview, events: list[Event]) -> None:
        if len(data) < HEAD.size:
            raise RemoteProtocolError("a message ends within a record's header")
        _, _, _, nbytes, transfer_id = HEAD.unpack_from(data)
        chunk = data[HEAD.size :]
        if len(chunk) != nbytes:
            raise RemoteProtocolError(f"a chunk of {nbytes} bytes in a message of {len(data)}")
        self._deliver(self._incoming.chunk(transfer_id, chunk), events)

    def _deliver(self, transfer: IncomingTransfer | None, events: list[Event]) -> None:
        """Delivers a record whose payload is whole now."""
        if transfer is None:
            return
        record = transfer.record
        if isinstance(record, IncomingCall):
            whole = CallsReceived([record])
        elif (outcome := _OUTCOMES.get(record.kind)) is not None:
            whole = OutcomesReceived([(record.call_id, outcome, record.payload)])
        else:
            whole = ItemsReceived([(record.call_id, record.payload)])
        self._record(whole, events)


__all__ = ["Receiver"]
