"""One connection to one process: calls go out, calls come in, over one link.

The peer is the thin shell around a `Connection` (which knows the protocol and does no I/O) and a
`Link` (which moves messages and knows no protocol). It holds the calls in flight both ways.

The first call of a loop tick leaves at once, what follows in the same tick leaves together at its
end, and all answers that a received message causes leave together when the message is done
(`fray.runtime.outflow`). So a lone call pays no latency, and a thousand calls cost a few messages.
Calls that come in are those of `fray.runtime.served`.

A link that is lost without a goodbye *suspends* the peer: what is said meanwhile waits, and another
peer, on a new link, takes over everything (`fray.runtime.peers` says when). Callers and actors do
not notice; nothing runs twice, for both sides know what has arrived.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace
from math import inf
from typing import TYPE_CHECKING, Any, Protocol

from fray.errors import (
    ActorUnavailable,
    MailboxFull,
    PayloadError,
    RemoteProtocolError,
    Started,
)
from fray.runtime.activity import RUNTIME
from fray.runtime.builtin import question
from fray.runtime.callcontext import NO_CONTEXT
from fray.runtime.connection import Connection, ConnectionState
from fray.runtime.error_envelope import decode_error
from fray.runtime.events import (
    CallsReceived,
    CancelReceived,
    CreditGranted,
    Goodbye,
    ItemsReceived,
    OutcomeKind,
    OutcomesReceived,
    PeerHello,
    Role,
    StreamEnded,
)
from fray.runtime.outflow import Outflow
from fray.runtime.served import ServedCalls

if TYPE_CHECKING:
    from fray.runtime.builtin import Builtin
    from fray.runtime.calls import OutgoingCall
    from fray.runtime.cell import Cell
    from fray.runtime.clock import Clock
    from fray.runtime.cycles import Probe
    from fray.runtime.hello import Hello
    from fray.runtime.sentlog import Delivery
    from fray.runtime.statistics import ConnectionStatistics
    from fray.runtime.transport import Link, Principal

log = logging.getLogger(__name__)


class PeerOwner(Protocol):
    """Who holds a process's peers."""

    def predecessor(self, peer: Peer, remote: Hello) -> Peer | None:
        """Gives the peer whose session goes on with this one, if there is one."""
        ...

    def settle(self, peer: Peer) -> str | None:
        """The other side has said who it is: gives why it is refused, or None."""
        ...

    def stopped(self, peer: Peer) -> None:
        """Its link was lost, and it is suspended."""
        ...

    def lost(self, peer: Peer) -> None:
        """It is over. Told once, but not of one whose session goes on with another."""
        ...


class Peer:
    """One connection. A `LinkHandler` and a `Carrier`.

    Args:
        link: The open link.
        role: Whether this side dialled.
        hello: What this side says of itself.
        clock: The process's clock.
        cells: The actors hosted here, by target.
        builtin: What the process answers for itself.
        owner: Is told what becomes of it.

    Attributes:
        dialled: The address at which this side reached the other one; empty where it did not dial.
        settled: Done once the other side has said who it is, or the link was lost before.
        went_on: Whether it took over what another peer had begun.
        suspended: Whether its link was lost, and another one may go on for it.
    """

    def __init__(
        self,
        link: Link,
        role: Role,
        hello: Hello,
        *,
        clock: Clock,
        cells: dict[str, Cell],
        builtin: Builtin,
        owner: PeerOwner,
    ) -> None:
        self.link = link
        self.role = role
        self.remote: Hello | None = None
        self.lost: Exception | None = None
        self.is_open = False
        self.opened_at = 0.0
        self._hello = hello
        self._connection = Connection(role, hello, greet=self._greet)
        self._outflow = Outflow(self._connection, link)
        self._served = ServedCalls(
            self._connection,
            self._outflow,
            link.principal,
            clock=clock,
            cells=cells,
            builtin=builtin,
        )
        self._clock = clock
        self._owner = owner
        self.dialled = ""
        self.settled: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.went_on = False
        self.suspended = False
        self._backlog: list[Delivery] = []
        self._outgoing: dict[int, OutgoingCall] = {}
        self._next_id = 0
        self._left_id: float = inf
        self._over = False
        self._goodbye = ""
        self._handlers: dict[type, Callable[[Any], None]] = {
            CallsReceived: lambda event: self._served.calls_received(event),
            OutcomesReceived: self._outcomes_received,
            ItemsReceived: self._items_received,
            StreamEnded: self._stream_ended,
            CancelReceived: lambda event: self._served.cancel_received(event),
            CreditGranted: lambda event: self._served.credit_granted(event),
            PeerHello: self._peer_hello,
            Goodbye: self._goodbye_received,
        }
        if role is Role.DIALER:
            self._connection.start()
            self._outflow.touch()

    def __repr__(self) -> str:
        who = self.remote.process_id if self.remote else "?"
        state = "open" if self.is_open else "over" if self._over else "opening"
        state = "suspended" if self.suspended else state
        return (
            f"<Peer {who} at {self.link.remote} {state} out={len(self._outgoing)} "
            f"in={len(self._served)}>"
        )

    def statistics(self) -> ConnectionStatistics:
        """Its connection in numbers."""
        return self._connection.statistics()

    @property
    def process_id(self) -> str:
        """The other process's id; empty before it has said it."""
        return self.remote.process_id if self.remote else ""

    @property
    def goodbye(self) -> str:
        """Why the connection ends, as one of the sides said; empty where none did."""
        return self._goodbye

    @property
    def idle(self) -> bool:
        """Whether no call is in flight in either direction."""
        return not self._outgoing and not self._served

    def in_flight(self) -> tuple[int, int]:
        """How many calls are out, and how many are being served."""
        return len(self._outgoing), len(self._served)

    # ---- sessions

    @property
    def session(self) -> str:
        """What the two sides call their conversation; empty where it ends with the link."""
        said = self._hello if self.role is Role.DIALER else self.remote
        return said.session if said is not None else ""

    @property
    def received(self) -> int:
        """How many deliveries of the session have arrived here."""
        return self._connection.received

    def continues(self, remote: Hello, principal: Principal) -> bool:
        """Whether the session goes on with what somebody says on another link.

        Args:
            remote: What they say of themselves.
            principal: Who they are, as established before the link existed.
        """
        mine = self.remote
        return (
            not self._over
            and mine is not None
            and remote.resume is not None
            and bool(self.session)
            and (remote.session, remote.process_id, remote.boot_id)
            == (self.session, mine.process_id, mine.boot_id)
            and principal == self.link.principal
            and self._connection.log.may_resume(remote.resume)
        )

    def _greet(self, remote: Hello) -> Hello:
        old = self._owner.predecessor(self, remote)
        if old is None or remote.resume is None:
            return replace(self._hello, session=remote.session, resume=None)
        received = old.received
        self._take_over(old, remote.resume)
        return replace(self._hello, session=remote.session, resume=received)

    def _take_over(self, old: Peer, received: int) -> None:
        self.went_on = True
        self._next_id = old._next_id
        self._outgoing, self._served = old._outgoing, old._served
        self._backlog = old._connection.backlog(received)
        waiting = {delivery for delivery in self._backlog if isinstance(delivery, int)}
        self._connection.resume(
            received=old.received,
            acknowledged=received,
            calls_out=[call_id for call_id in self._outgoing if call_id not in waiting],
            calls_in=self._served.ids,
        )
        for call in self._outgoing.values():
            call.carrier = self
        self._served.move(self._connection, self._outflow)
        old._hand_over()

    def _hand_over(self) -> None:
        self._over = True
        self.is_open = self.suspended = False
        self._outgoing = {}
        self._outflow.stop()
        self.link.abort()

    def _replay(self) -> None:
        """Says again what the other side lacks, before anything new."""
        backlog, self._backlog = self._backlog, []
        for delivery in backlog:
            if not isinstance(delivery, int):
                self._connection.replay(delivery)
            elif (call := self._outgoing.get(delivery)) is not None:  # else it was cancelled
                self._say(call)

    def give_up(self, exc: Exception | None = None) -> None:
        """Ends whatever waits here: nothing goes on for it any more.

        Args:
            exc: Why.
        """
        if self._over:
            return
        self._over = True
        self.is_open = self.suspended = False
        self.lost = exc
        self._outflow.stop()
        self._served.lose()
        self._owner.lost(self)
        outgoing, self._outgoing = self._outgoing, {}
        for call in outgoing.values():
            call.done = True
            # What was made since the link was lost has left by none.
            started = Started.NO if call.call_id > self._left_id else Started.UNKNOWN
            call.sink.on_failure(self._lost_error(call, started))
        if not self.settled.done():
            self.settled.set_result(None)

    # ---- calls that go out

    def send(self, target: str, call: OutgoingCall) -> None:
        """Sends a call. Calls of one sender to one target arrive in this order.

        Args:
            target: Which actor.
            call: The call; its sink is told the outcome, also when the connection ends.
        """
        if not self.is_open:
            call.done = True
            call.sink.on_failure(self._lost_error(call, Started.NO))
            return
        if self._connection.call_slots_left <= 0:
            call.done = True
            call.sink.on_failure(
                MailboxFull(
                    f"{len(self._outgoing)} calls to {self.link.remote} are in flight already; "
                    "wait for some of them before you send more"
                )
            )
            return
        self._next_id = call_id = self._next_id + 1
        call.call_id = call_id
        call.target = target
        try:
            self._say(call)
        except PayloadError as exc:  # larger than the other side accepts
            call.done = True
            call.sink.on_failure(exc)
            return
        call.carrier = self
        call.sent = True
        self._outgoing[call_id] = call
        self._outflow.touch()

    def _say(self, call: OutgoingCall) -> None:
        timeout_s = None
        if call.deadline is not None:
            timeout_s = max(call.deadline - self._clock.monotonic(), 0.0)
        self._connection.call(
            call.call_id,
            call.target,
            call.method,
            call.payload,
            timeout_s=timeout_s,
            context=b"" if call.context is NO_CONTEXT else call.context.encode(),
        )

    def cancel(self, call: OutgoingCall) -> None:
        """See `Carrier.cancel`."""
        if self._outgoing.pop(call.call_id, None) is not None and self.is_open:
            call.done = True
            self._connection.cancel(call.call_id, is_late=call.is_late)
            self._outflow.touch()

    def grant(self, call: OutgoingCall, items: int, nbytes: int) -> None:
        """See `Carrier.grant`."""
        if call.call_id in self._outgoing and self.is_open:
            self._connection.grant(call.call_id, items, nbytes)
            self._outflow.touch()

    def probe(self, call: OutgoingCall, probe: Probe) -> None:
        """See `Carrier.probe`."""
        if call.call_id in self._outgoing:
            self.send(RUNTIME, question("probe", call.call_id, probe))

    def break_cycle(self, call: OutgoingCall, chain: str) -> None:
        """See `Carrier.break_cycle`."""
        if call.call_id in self._outgoing:
            self.send(RUNTIME, question("break_cycle", call.call_id, chain))

    # ---- LinkHandler

    def message_received(self, data: memoryview) -> None:
        """See `LinkHandler.message_received`."""
        if self._over:  # another link goes on for this one
            return
        self._outflow.receiving = True
        try:
            for event in self._connection.receive_message(data):
                self._handlers[type(event)](event)
        except RemoteProtocolError as exc:
            log.warning("%s broke the protocol: %s; closing its connection", self.link.remote, exc)
            self.close(f"protocol error: {exc}")
        finally:
            self._outflow.receiving = False
        self._outflow.flush()

    def writable(self) -> None:
        """See `LinkHandler.writable`."""
        self._outflow.writable()

    def link_lost(self, exc: Exception | None) -> None:
        """See `LinkHandler.link_lost`."""
        if self.is_open and not self._goodbye and self.session and self._connection.log.keeps:
            self.suspended = True
            self._served.is_connected = False
            self._left_id = self._next_id
            self._outflow.stop()
            self.lost = exc
            self._owner.stopped(self)
        else:
            self.give_up(exc)

    def _lost_error(self, call: OutgoingCall, started: Started) -> ActorUnavailable:
        why = self._goodbye or (str(self.lost) if self.lost else "") or "the connection was closed"
        return ActorUnavailable(
            f"the connection to {self.link.remote} ended while {call.method} was in flight: {why}",
            started=started,
        )

    def close(self, reason: str) -> None:
        """Says goodbye and ends the connection.

        Args:
            reason: Told to the other side.
        """
        if self._over:
            return
        if self._connection.state in (ConnectionState.OPEN, ConnectionState.CONNECTING):
            self._connection.goodbye(reason)
        self._outflow.say_last()
        self.is_open = False
        self._goodbye = self._goodbye or reason
        self.link.close(reason)
        if self.suspended:  # there is no link any more that would tell of its end
            self.give_up(self.lost)

    # ---- what the other side says

    def _peer_hello(self, event: PeerHello) -> None:
        self.remote = event.hello
        self.opened_at = self._clock.monotonic()
        refusal = self._owner.settle(self)
        if refusal:
            self.close(refusal)
        else:
            self.is_open = True
            self._replay()
        if not self.settled.done():
            self.settled.set_result(None)

    def _goodbye_received(self, event: Goodbye) -> None:
        self._goodbye = event.reason
        self._outflow.say_last()
        self.is_open = False
        self.link.close(event.reason)

    def _outcomes_received(self, event: OutcomesReceived) -> None:
        outgoing = self._outgoing
        for call_id, kind, payload in event.outcomes:
            call = outgoing.pop(call_id, None)
            if call is None:  # cancelled meanwhile
                continue
            call.done = True
            if kind is OutcomeKind.RESULT:
                call.sink.on_result(payload)
            elif kind is OutcomeKind.ERROR:
                call.sink.on_error(payload)
            else:
                call.sink.on_failure(decode_error(payload, unpickle=False))

    def _items_received(self, event: ItemsReceived) -> None:
        for call_id, payload in event.items:
            call = self._outgoing.get(call_id)
            if call is not None:
                call.sink.on_item(payload)

    def _stream_ended(self, event: StreamEnded) -> None:
        call = self._outgoing.pop(event.call_id, None)
        if call is not None:
            call.done = True
            call.sink.on_end()


__all__ = ["Peer", "PeerOwner"]
