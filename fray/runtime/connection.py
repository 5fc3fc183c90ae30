"""The wire protocol as an object: messages in, events out; calls in, messages out. No I/O.

A `Connection` is one side of one conversation. It knows no socket, no loop, no clock and no
pickle. `fray.runtime.peer` feeds it what a link receives and sends what it gives; tests wire two of
them together in memory. It is put together from smaller rooms::

    hello, conversation      handshake, and the states as tables
    frames                   the wire format and its limits
    encoder, decoder         records <-> messages
    lanes, transfers_out     what leaves: order, and bulk with credit
    receiver, transfers_in   what arrives: checks, and bulk with credit
    sentlog                  what left and is not acknowledged

A call is *in flight* from `Connection.call` until its terminal outcome (RESULT, ERROR, FAILURE or
END) arrives, or until it is cancelled: for the connection, a cancel ends a call.

A connection may go on where another one of the same session stopped without a GOODBYE (`backlog`,
`resume`, `replay`): nothing is then delivered twice, and nothing is missing.

After GOODBYE nothing is sent, so drain first, then say goodbye. Answers that were on their way to
whom said it still arrive, but calls, which could not be answered, are dropped. A peer that breaks
the protocol, or speaks no version of it that we do, is told so by the connection's own GOODBYE.
"""

from __future__ import annotations

import math
import struct
from typing import TYPE_CHECKING, NoReturn, cast

from fray.errors import LocalProtocolError, RemoteProtocolError
from fray.runtime import frames
from fray.runtime.conversation import ConnectionState, Conversation, Party, Saying
from fray.runtime.encoder import Encoder, check_context, check_name
from fray.runtime.events import CallFlags, Event, Goodbye, PeerHello, Role
from fray.runtime.frames import REASON_BYTES_MAX, Limits
from fray.runtime.hello import (
    RESUME,
    Allowance,
    Hello,
    encode_hello,
    no_common_version,
)
from fray.runtime.lanes import AnswerEntry, CallEntry, EndEntry, Lanes
from fray.runtime.receiver import Receiver
from fray.runtime.sentlog import SentLog
from fray.runtime.statistics import ConnectionStatistics
from fray.runtime.transfers_in import Allocate, Incoming, allocate
from fray.runtime.transfers_out import Turns

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from fray.runtime.payload import Payload
    from fray.runtime.sentlog import Content, Delivery
    from fray.runtime.transport import Buffer

_FLAGS_END = CallFlags.REPEATED << 1

ACKNOWLEDGE_DELIVERIES = 64
ACKNOWLEDGE_BYTES = 256 << 10
"""Deliveries are acknowledged when there are so many, or when so much has come. The other side
keeps what is not: a few small answers, and no large one for longer than a round trip."""


class Connection:
    """One side of one conversation. Not thread-safe.

    Args:
        role: Whether this side opened the connection.
        hello: What this side says of itself.
        limits: What it sends at once, and accepts.
        allocate: Where the memory for received buffers comes from.
        greet: Told what the peer says of itself, before anything else of it counts; gives what this
            side says, where it has not said it yet.

    Attributes:
        conversation: Where the two sides stand: the peer's hello, the agreed version and features.
        log: What was sent and is not known to have arrived.
        on_acknowledged: Told what has arrived; None where nobody asks.

    Raises:
        LocalProtocolError: The hello cannot be sent.
    """

    def __init__(
        self,
        role: Role,
        hello: Hello,
        limits: Limits = Limits(),  # noqa: B008 - frozen
        *,
        allocate: Allocate = allocate,
        greet: Callable[[Hello], Hello] | None = None,
    ) -> None:
        self.conversation = Conversation(role, hello)
        self.log = SentLog()
        self.on_acknowledged: Callable[[list[Delivery]], None] | None = None
        self._greet = greet
        self._allowance = limits.allowance
        self._raw_hello = encode_hello(hello, limits.allowance)
        self._inline_bytes_max = limits.inline_bytes_max
        self._encoder = Encoder(limits.batch_bytes)
        self._turns = Turns(limits.chunk_bytes)
        self._lanes = Lanes(self._encoder, self._turns, self.log, limits.inline_bytes_max)
        self._entries = self._lanes.entries
        self._incoming = Incoming(limits, allocate)
        self._receiver = Receiver(
            self.conversation,
            limits,
            self._lanes,
            self._turns,
            self._incoming,
            self._answer_hello,
            self._acknowledged,
        )
        self._calls_out = self._receiver.calls_out
        self._calls_in = self._receiver.calls_in
        self._calls_out_max = 0
        self._calls_sent = 0
        self._messages_sent = self._messages_received = 0
        self._bytes_sent = self._bytes_received = 0
        self._received_told = self._bytes_told = 0

    def __repr__(self) -> str:
        s = self.statistics()
        return (
            f"<Connection {self.conversation.role.value} {self.state.value} "
            f"calls={s.calls_out} out, {s.calls_in} in "
            f"transfers={s.transfers_out}+{s.transfers_waiting} out, {s.transfers_in} in "
            f"credit={s.credit_bytes}>"
        )

    @property
    def state(self) -> ConnectionState:
        """What it can do now."""
        return self.conversation.state

    @property
    def call_slots_left(self) -> int:
        """How many more calls may be in flight: the peer accepts no more at once."""
        return self._calls_out_max - len(self._calls_out)

    def statistics(self) -> ConnectionStatistics:
        """The connection in numbers."""
        return ConnectionStatistics(
            calls_sent=self._calls_sent,
            calls_received=self._receiver.calls_received,
            messages_sent=self._messages_sent,
            messages_received=self._messages_received,
            bytes_sent=self._bytes_sent,
            bytes_received=self._bytes_received,
            calls_out=len(self._calls_out),
            calls_in=len(self._calls_in),
            transfers_out=self._turns.transfers,
            transfers_waiting=self._turns.waiting,
            transfers_in=self._incoming.transfers,
            lanes=len(self._entries),
            credit_bytes=self._turns.credit,
            credit_owed_bytes=self._incoming.owed,
            missing_bytes=self._incoming.missing,
            names=self._encoder.names + self._receiver.names,
        )

    # ---- what we say

    def start(self) -> None:
        """Says HELLO. The dialer's first act; the acceptor answers by itself.

        Raises:
            LocalProtocolError: This side did not dial, or has said it already.
        """
        if self.conversation.role is not Role.DIALER:
            raise LocalProtocolError("the acceptor does not start: it answers the dialer's HELLO")
        self.conversation.we_say(Saying.HELLO)
        self._encoder.text(frames.HELLO, self._raw_hello)

    def call(
        self,
        call_id: int,
        target: str,
        method: str,
        payload: Payload,
        *,
        timeout_s: float | None = None,
        flags: CallFlags = CallFlags.NONE,
        context: bytes = b"",
    ) -> None:
        """Makes a call. Calls to one target are delivered in the order in which they were made.

        Args:
            call_id: Below 2**64; not that of another call of ours in flight, and best never used
                twice: the outcome of a cancelled call may still be on its way.
            target: Which actor; 1 to 1,024 bytes of UTF-8.
            method: Which method; likewise.
            payload: The arguments. Its buffers must not change until they were sent.
            timeout_s: What is left of the time limit, finite; below 0 counts as 0. None for no
                limit.
            flags: See `CallFlags`.
            context: For the peer's runtime; at most 16 KiB.

        Raises:
            PayloadError: The payload is larger than the peer accepts.
            LocalProtocolError: The connection is not open, no slot is left (see
                `call_slots_left`), or an argument is out of its range.
        """
        calls_out = self._calls_out
        if (
            not self.conversation.is_open
            or call_id in calls_out
            or len(calls_out) >= self._calls_out_max
        ):
            self._refuse_call(call_id)
        if timeout_s is not None:
            if not math.isfinite(timeout_s):
                raise LocalProtocolError(f"a call's timeout is {timeout_s}")
            timeout_s = max(timeout_s, 0.0)
        if flags and not 0 < flags < _FLAGS_END:
            raise LocalProtocolError(f"unknown call flags {flags!r}")
        data, entries = payload.data, self._entries
        try:
            if (
                payload.buffers
                or len(data) > self._inline_bytes_max
                or (entries and target in entries)
            ):
                self._check_call(call_id, target, method, context)
                entry = CallEntry(call_id, target, method, payload, timeout_s, flags, context)
                self._lanes.add(target, entry)
            else:
                self._encoder.call(
                    call_id, target, method, data, payload.codec, timeout_s, flags, context
                )
                self.log.record(call_id)
        except struct.error as exc:
            raise LocalProtocolError(f"call {call_id} cannot be sent: {exc}") from exc
        calls_out.add(call_id)
        self._calls_sent += 1

    def cancel(self, call_id: int) -> bool:
        """Waits no more for a call; it is not in flight any more.

        Of a call that was withdrawn nothing will arrive; else an outcome may, since it was on its
        way, and is to be ignored.

        Args:
            call_id: Of ours; one that is not in flight does no harm.

        Returns:
            Whether the call was withdrawn before the peer had got it whole: it never ran.

        Raises:
            LocalProtocolError: The connection is not open.
        """
        self.conversation.we_say(Saying.RECORD)
        self._check_number(call_id)
        self._calls_out.discard(call_id)
        if self._lanes.withdraw_call(call_id):
            return True
        self._encoder.control(frames.CANCEL, call_id)
        self.log.record((frames.CANCEL, call_id, None))
        return False

    def grant(self, call_id: int, items: int, nbytes: int) -> None:
        """Lets the producer of a stream go on.

        Args:
            call_id: Of ours.
            items: How many more items it may send, below 2**32.
            nbytes: How many more bytes, below 2**64.

        Raises:
            LocalProtocolError: The connection is not open, or a number is out of its range.
        """
        self.conversation.we_say(Saying.RECORD)
        if not (0 <= items <= frames.U32_MAX and 0 <= nbytes <= frames.U64_MAX):
            raise LocalProtocolError(f"a grant of {items} items and {nbytes} bytes")
        self._check_number(call_id)
        if not self._lanes.add_grant(call_id, items, nbytes):
            self._encoder.grant(call_id, items, nbytes)
            self.log.record((frames.GRANT, call_id, (items, nbytes)))

    def result(self, call_id: int, payload: Payload) -> None:
        """Answers a call: the method returned. Terminal.

        Args:
            call_id: Of the peer's.
            payload: What it returned. Its buffers must not change until they were sent.

        Raises:
            PayloadError: The payload is larger than the peer accepts; nothing was said.
            LocalProtocolError: The connection is not open, or the id is out of its range.
        """
        self._answer(frames.RESULT, call_id, payload)
        self._calls_in.discard(call_id)

    def error(self, call_id: int, payload: Payload) -> None:
        """Answers a call: the method raised. Terminal. See `result`."""
        self._answer(frames.ERROR, call_id, payload)
        self._calls_in.discard(call_id)

    def failure(self, call_id: int, payload: Payload) -> None:
        """Answers a call: fray itself refused or stopped it. Terminal. See `result`."""
        self._answer(frames.FAILURE, call_id, payload)
        self._calls_in.discard(call_id)

    def item(self, call_id: int, payload: Payload) -> None:
        """Sends an item of a stream; before the later ones and the outcome. See `result`."""
        self._answer(frames.ITEM, call_id, payload)

    def end(self, call_id: int) -> None:
        """Answers a call: the stream is exhausted. Terminal. It arrives after the items.

        Args:
            call_id: Of the peer's.

        Raises:
            LocalProtocolError: The connection is not open, or the id is out of its range.
        """
        self.conversation.we_say(Saying.RECORD)
        self._check_number(call_id)
        if call_id in self._entries:
            self._lanes.add(call_id, EndEntry(call_id))
        else:
            self._encoder.control(frames.END, call_id)
            self.log.record((frames.END, call_id, None))
        self._calls_in.discard(call_id)

    def goodbye(self, reason: str) -> None:
        """Ends the conversation. What small records were said before still leave; bulk does not.

        Args:
            reason: Told to the other side; cut to 1,024 bytes of UTF-8.

        Raises:
            LocalProtocolError: It was said before.
        """
        self.conversation.we_say(Saying.GOODBYE)
        raw = reason.encode(errors="replace")[:REASON_BYTES_MAX]
        self._encoder.text(frames.GOODBYE, raw.decode(errors="ignore").encode())
        self._lanes.clear()

    # ---- a session that goes on

    @property
    def received(self) -> int:
        """How many deliveries of the session have arrived here."""
        return self._receiver.received

    def backlog(self, received: int) -> list[Delivery]:
        """What the peer lacks of all that was said here, in order within each lane.

        Args:
            received: How many deliveries of the session it has got.

        Raises:
            RemoteProtocolError: It cannot have got so many, or has said that it has more.
        """
        self._acknowledged(received)
        return [*self.log.entries, *self._lanes.waiting()]

    def resume(
        self, *, received: int, acknowledged: int, calls_out: Iterable[int], calls_in: Iterable[int]
    ) -> None:
        """Takes a session over, before anything but HELLO was said.

        Args:
            received: How many of its deliveries have arrived here.
            acknowledged: How many have arrived at the peer.
            calls_out: Calls of ours in flight that the peer has got.
            calls_in: Calls of the peer's in flight.
        """
        self._receiver.received = self._received_told = received
        self.log.acknowledged = acknowledged
        self._calls_out.update(calls_out)
        self._calls_in.update(calls_in)

    def replay(self, delivery: tuple[int, int, Content]) -> None:
        """Says again what the peer lacks; a call of ours is made again by `call`.

        Args:
            delivery: Out of the `backlog` of the connection that stopped.
        """
        kind, call_id, content = delivery
        if kind == frames.CANCEL:
            self.cancel(call_id)
        elif kind == frames.END:
            self.end(call_id)
        elif isinstance(content, tuple) and len(content) == 2:
            self.grant(call_id, *content)
        else:
            self._answer(kind, call_id, cast("Payload", content))
            if kind != frames.ITEM:
                self._calls_in.discard(call_id)

    # ---- messages out

    @property
    def has_output(self) -> bool:
        """Whether `messages` has something now."""
        return self._encoder.pending or self._turns.sendable

    def messages(self, max_bytes: int) -> list[list[Buffer]]:
        """Takes what is to be sent now: small records first, then chunks of bulk in turns.

        Args:
            max_bytes: Stops when the messages reach this together. At least one is given, if there
                is one and this is positive.

        Returns:
            Messages, each in parts to be sent one after the other. Parts of bulk are views of the
            payloads' buffers.
        """
        messages: list[list[Buffer]] = []
        self.log.check_size()
        if self.has_output:
            self._give_credit(all_of_it=True)
        left = max_bytes
        while left > 0:
            batch = self._encoder.next_batch()
            if batch is not None:
                messages.append([batch])
                left -= len(batch)
                continue
            chunk = self._lanes.next_chunk()
            if chunk is None:
                break
            messages.append(chunk)
            left -= sum([len(part) for part in chunk])
        self._messages_sent += len(messages)
        self._bytes_sent += max_bytes - left
        return messages

    # ---- messages in

    def receive_message(self, data: memoryview) -> list[Event]:
        """Takes one message from the peer.

        Args:
            data: The whole message, of any content; what is kept of it is copied.

        Returns:
            What it says, in order. A `Goodbye` is always the last; it is also given where the peer
            speaks no common version of the protocol.

        Raises:
            RemoteProtocolError: The peer broke the protocol. The connection has said GOODBYE with
                the reason: send its `messages` and close the link. What the message said before
                is lost.
        """
        self._messages_received += 1
        self._bytes_received += len(data)
        try:
            events = self._receiver.receive(data)
        except RemoteProtocolError as exc:
            self._conclude(f"protocol error: {exc}")
            raise
        if events and type(events[-1]) is Goodbye:
            self._drop_everything()
        else:
            self._give_credit(all_of_it=False)
            self._acknowledge()
        return events

    def _answer_hello(self, allowance: Allowance) -> Event | None:
        """Reacts to the peer's HELLO: agrees, or says goodbye."""
        conversation = self.conversation
        peer_hello = conversation.peer_hello
        if conversation.us is Party.DONE or peer_hello is None:
            return None
        if self._greet is not None:
            hello = self._greet(peer_hello)
            if conversation.us is Party.SILENT:
                conversation.hello = hello
                self._raw_hello = encode_hello(hello, self._allowance)
        if RESUME not in conversation.features:
            self.log.forget()
        if conversation.version is None:
            reason = no_common_version(conversation.hello, peer_hello)
            self._conclude(reason)
            return Goodbye(reason)
        if conversation.us is Party.SILENT:
            conversation.we_say(Saying.HELLO)
            self._encoder.text(frames.HELLO, self._raw_hello)
        self._turns.accept(allowance)
        self._calls_out_max = allowance.calls_in_flight_max
        return PeerHello(peer_hello)

    # ---- helpers

    def _answer(self, kind: int, call_id: int, payload: Payload) -> None:
        if not self.conversation.is_open:
            self.conversation.we_say(Saying.RECORD)  # refuses
        data, entries = payload.data, self._entries
        if (
            payload.buffers
            or len(data) > self._inline_bytes_max
            or (entries and call_id in entries)
        ):
            self._check_number(call_id)
            self._lanes.add(call_id, AnswerEntry(kind, call_id, payload))
            return
        try:
            self._encoder.answer(kind, call_id, data, payload.codec)
        except struct.error as exc:
            raise LocalProtocolError(f"call {call_id} cannot be answered: {exc}") from exc
        self.log.record((kind, call_id, payload))

    def _acknowledged(self, received: int) -> None:
        arrived = self.log.acknowledge(received)
        if self.on_acknowledged is not None:
            self.on_acknowledged(arrived)

    def _acknowledge(self) -> None:
        """Tells the peer what has arrived, if it is due."""
        received = self._receiver.received
        due = received - self._received_told
        if due and self.log.keeps and self.conversation.is_open:
            nbytes = self._bytes_received - self._bytes_told
            if due >= ACKNOWLEDGE_DELIVERIES or nbytes >= ACKNOWLEDGE_BYTES:
                self._encoder.control(frames.ACK, received)
                self._received_told, self._bytes_told = received, self._bytes_received

    def _give_credit(self, *, all_of_it: bool) -> None:
        if self.conversation.is_open:
            for transfer_id, nbytes in self._incoming.credit_due(all_of_it=all_of_it):
                self._encoder.control(frames.CREDIT, transfer_id, nbytes)

    def _drop_everything(self) -> None:
        """Drops what was to be sent and what was arriving: the peer takes no part any more."""
        if self.conversation.us is not Party.DONE:
            self._encoder.clear()
        self._lanes.clear()
        self._incoming.clear()

    def _conclude(self, reason: str) -> None:
        """Ends the conversation on our own account."""
        self.conversation.expel_peer()
        self._drop_everything()
        if self.conversation.us is not Party.DONE:
            self.goodbye(reason)

    def _refuse_call(self, call_id: int) -> NoReturn:
        self.conversation.we_say(Saying.RECORD)
        if call_id in self._calls_out:
            raise LocalProtocolError(f"a call with the id {call_id} is in flight")
        raise LocalProtocolError(f"{len(self._calls_out)} calls are in flight: no slot is left")

    def _check_call(self, call_id: int, target: str, method: str, context: bytes) -> None:
        """Checks what waits in a lane when it is made, since nobody is told when it is written."""
        self._check_number(call_id)
        check_name(target, "target")
        check_name(method, "method")
        check_context(context)

    @staticmethod
    def _check_number(call_id: int) -> None:
        if not 0 <= call_id <= frames.U64_MAX:
            raise LocalProtocolError(f"the call id {call_id} is out of range")


__all__ = ["Connection", "ConnectionState", "Limits", "Role"]
