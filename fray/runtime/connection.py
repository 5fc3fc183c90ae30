"""The wire protocol as an object: messages in, events out; calls in, messages out. No I/O.

A `Connection` is one side of one conversation. It knows no socket, no loop, no clock and no
pickle. `fray.runtime.peer` feeds it what a link receives and sends what it gives; tests wire two of
them together in memory. It is put together from smaller rooms::

    hello, conversation      handshake, and the states as tables
    frames                   the wire format and its limits
    encoder, decoder         records <-> messages
    speaker                  what we say, checked
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

from typing import TYPE_CHECKING

from fray.errors import RemoteProtocolError
from fray.runtime import frames
from fray.runtime.conversation import ConnectionState, Party, Saying
from fray.runtime.events import Event, Goodbye, PeerHello, Role
from fray.runtime.frames import Limits
from fray.runtime.hello import (
    RESUME,
    Allowance,
    Hello,
    encode_hello,
    no_common_version,
)
from fray.runtime.receiver import Receiver
from fray.runtime.speaker import Speaker
from fray.runtime.statistics import ConnectionStatistics
from fray.runtime.transfers_in import Allocate, Incoming, allocate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from fray.runtime.sentlog import Delivery
    from fray.runtime.transport import Buffer

ACKNOWLEDGE_DELIVERIES = 64
ACKNOWLEDGE_BYTES = 256 << 10
"""Deliveries are acknowledged when there are so many, or when so much has come. The other side
keeps what is not: a few small answers, and no large one for longer than a round trip."""


class Connection(Speaker):
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
        super().__init__(role, hello, limits)
        self.on_acknowledged: Callable[[list[Delivery]], None] | None = None
        self._greet = greet
        self._incoming = Incoming(limits, allocate)
        self._receiver = Receiver(
            self.conversation,
            limits,
            self._lanes,
            self._turns,
            self._incoming,
            self._answer_hello,
            self._acknowledged,
            calls_out=self._calls_out,
            calls_in=self._calls_in,
        )
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


__all__ = ["Connection", "ConnectionState", "Limits", "Role"]
