"""One end of a simulated link: the in-memory counterpart of a websocket.

A `SimLink` is what `fray.runtime.transport.Link` asks for, and stricter than any real one where the
contract leaves room: it notices when a buffer is changed while it is under way, and what it gives a
handler is worthless after the call. Both are bugs that a real network shows only now and then.

It knows its peer and its process's lane. What a network does with what is sent, it leaves to the
`Carrier`.
"""

from __future__ import annotations

import zlib
from collections import deque
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple, Protocol

from fray.errors import LocalProtocolError
from fray.runtime.transport import MESSAGE_BYTES_MAX
from fray.testing.errors import SimulationError
from fray.testing.faults import PacketKind

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Sequence
    from contextvars import Context

    from fray.runtime.transport import Buffer, LinkHandler, Principal
    from fray.testing.lanes import Lane
    from fray.testing.loop import SimLoop

HIGH_WATER_BYTES = 1 << 20
"""With more under way than this, `SimLink.send` returns False."""

CLOSE_TIMEOUT_S = 10.0
"""How long the other side may take to agree to a close."""


class LinkState(StrEnum):
    """How far one end of a link is."""

    OPENING = "opening"
    OPEN = "open"
    CLOSING = "closing"
    """We asked for the end; the other side's agreement is awaited, nothing is received."""
    ENDED = "ended"
    """The handler has been told, or is about to be; or its process is dead."""


class Item(NamedTuple):
    """Something under way from one end to the other.

    Attributes:
        kind: What it does.
        data: The message.
        mutable: The parts of it that the sender could still change.
        refusal: Of an answer to CONNECT, why the link is refused.
    """

    kind: PacketKind
    data: bytes = b""
    mutable: tuple[Buffer, ...] = ()
    refusal: Exception | None = None


class Owner(Protocol):
    """Whose link end it is: the simulated process's transport."""

    @property
    def lane(self) -> Lane:
        """The lane of the process."""
        ...

    @property
    def host_name(self) -> str:
        """The host of the process."""
        ...

    @property
    def process_name(self) -> str:
        """The process, for people and rules."""
        ...

    def link_ended(self, link: SimLink) -> None:
        """The end is no longer in use."""
        ...


class Carrier(Protocol):
    """The network, as a link sees it."""

    loop: SimLoop

    def transmit(self, link: SimLink, item: Item) -> None:
        """Takes an item to the other end, behind all that went before."""
        ...

    def acknowledge(self, link: SimLink, nbytes: int) -> None:
        """Tells the other end that some of its bytes have arrived."""
        ...

    def note(self, event: str) -> None:
        """Writes a line into the trace."""
        ...


class SimLink:
    """One end; see `fray.runtime.transport.Link`.

    Attributes:
        number: The same at both ends; counts links from 1.
        owner: Its process's transport.
        state: How far it is.
        in_flight: Bytes sent that have not arrived.
        held: Items that the network holds back, oldest first; for the network.
        last_at: When the item sent last arrives; for the network.
        granted: What `principal` gives; for the transport.
        peer: The other end.
        context: In which this end's callbacks run.
    """

    peer: SimLink

    def __init__(
        self,
        carrier: Carrier,
        owner: Owner,
        *,
        number: int,
        remote: str,
        principal: Principal,
        context: Context,
        on_connect: Callable[[SimLink, Item], None],
    ) -> None:
        """Makes an end that waits to be opened.

        Args:
            carrier: The network.
            owner: Whose end it is.
            number: Of the link.
            remote: The other end, for people.
            principal: Who is there; of a dialled link, who we are there, as far as is known.
            context: In which its callbacks run.
            on_connect: Called when the request for the link, or the answer to it, arrives; and with
                a RESET if it ends before.
        """
        self.number = number
        self.owner = owner
        self.state = LinkState.OPENING
        self.in_flight = 0
        self.held: deque[Item] = deque()
        self.last_at = 0.0
        self.context = context
        self.granted = principal
        self._carrier = carrier
        self._remote = remote
        self._on_connect = on_connect
        self._handler: LinkHandler | None = None
        self._owes_writable = False
        self._deadline: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        return (
            f"<SimLink {self.number} {self.owner.process_name} to {self._remote} {self.state}, "
            f"{self.in_flight} bytes in flight>"
        )

    def open(self, accept: Callable[[SimLink], LinkHandler]) -> Exception | None:
        """Opens the link with the handler that is given for it.

        Args:
            accept: Gives the handler; it may already send, or end the link.

        Returns:
            What `accept` raised; the link is cut then.
        """
        self.state = LinkState.OPEN
        try:
            self._handler = accept(self)
        except Exception as exc:
            self.abort()
            return exc
        return None

    # ---- Link

    @property
    def remote(self) -> str:
        """See `Link.remote`."""
        return self._remote

    @property
    def principal(self) -> Principal:
        """See `Link.principal`."""
        return self.granted

    def send(self, parts: Sequence[Buffer]) -> bool:
        """See `Link.send`. After the link has ended (or `close`) it does nothing and says False.

        Raises:
            LocalProtocolError: The message is longer than `MESSAGE_BYTES_MAX`.
        """
        if self.state is not LinkState.OPEN:
            return False
        data = b"".join(parts)
        if len(data) > MESSAGE_BYTES_MAX:
            raise LocalProtocolError(f"a message of {len(data)} bytes; at most {MESSAGE_BYTES_MAX}")
        mutable: tuple[Buffer, ...] = ()
        for part in parts:
            if type(part) is not bytes:
                mutable = tuple(parts)
                break
        self.in_flight += len(data)
        self._carrier.transmit(self, Item(PacketKind.MESSAGE, data, mutable))
        if self.in_flight > HIGH_WATER_BYTES:
            self._owes_writable = True
            return False
        return True

    def close(self, reason: str = "") -> None:
        """See `Link.close`. Nothing is received after it; `CLOSE_TIMEOUT_S` bounds it."""
        if self.state is not LinkState.OPEN:
            return
        self.state = LinkState.CLOSING
        self._carrier.note(f"{self.label} closes{': ' if reason else ''}{reason[:120]}")
        self._carrier.transmit(self, Item(PacketKind.CLOSE))
        self._deadline = self._carrier.loop.call_later(
            CLOSE_TIMEOUT_S, self._unanswered, context=self.context
        )

    def abort(self) -> None:
        """See `Link.abort`. `LinkHandler.link_lost` follows in a later tick of the loop."""
        self.cut(ConnectionAbortedError(f"the link with {self._remote} was aborted here"))

    # ---- what the network tells

    @property
    def label(self) -> str:
        """The end, for the trace."""
        return f"link {self.number} of {self.owner.process_name}"

    def arrive(self, item: Item) -> None:
        """Something has come from the other end. Runs in this end's lane.

        Args:
            item: What.
        """
        if item.kind is PacketKind.MESSAGE:
            self._received(item)
        elif self.state is LinkState.ENDED:
            return
        elif item.kind is PacketKind.CONNECT:
            self._on_connect(self, item)
        elif item.kind is PacketKind.RESET:
            self.end(ConnectionResetError(f"the link with {self._remote} was reset"))
        else:
            if self.state is LinkState.OPEN:
                self._carrier.transmit(self, Item(PacketKind.CLOSE))
            self.end(None)

    def arrived(self, nbytes: int) -> None:
        """The other end has some of what was sent.

        Args:
            nbytes: How much of it.
        """
        self.in_flight -= nbytes
        if self._owes_writable and not self.in_flight and self.state is LinkState.OPEN:
            self._owes_writable = False
            self._carrier.loop.call_soon(self._drained, context=self.context)

    def cut(self, why: Exception) -> None:
        """Ends the link at once and tells the other end; the handler hears of it a tick later.

        Args:
            why: For the handler.
        """
        if self.state is LinkState.ENDED:
            return
        opening = self.state is LinkState.OPENING
        self.state = LinkState.ENDED
        self.held.clear()
        self._carrier.transmit(self, Item(PacketKind.RESET))
        self._carrier.loop.call_soon(self._over, why, opening, context=self.context)

    def end(self, why: Exception | None) -> None:
        """The link is over, and the handler is told now.

        Args:
            why: None after an orderly close.
        """
        if self.state is not LinkState.ENDED:
            opening = self.state is LinkState.OPENING
            self.state = LinkState.ENDED
            self._over(why, opening)

    def die(self) -> None:
        """The process is dead: nobody is told."""
        self.state = LinkState.ENDED
        self.held.clear()
        self._handler = None

    # ---- inside

    def _received(self, item: Item) -> None:
        carrier, nbytes = self._carrier, len(item.data)
        checksum = zlib.crc32(item.data)
        carrier.acknowledge(self, nbytes)
        if item.mutable and zlib.crc32(b"".join(item.mutable)) != checksum:
            carrier.loop.call_exception_handler(
                {
                    "message": f"a buffer given to send() was changed while it was under way on "
                    f"{self.peer.label}; over a real link part of the change would have been sent",
                    "exception": SimulationError("a buffer changed while it was being sent"),
                }
            )
        carrier.note(f"{self.label} receives {nbytes} B {checksum:08x}")
        if self.state is not LinkState.OPEN or self._handler is None:
            return
        buffer = bytearray(item.data)
        try:
            self._handler.message_received(memoryview(buffer))
        except Exception as exc:
            self._handler_failed("message_received", exc)
        # A real link reads the next message into the same memory. Whoever kept a view sees nothing.
        buffer[:] = bytes(nbytes)

    def _drained(self) -> None:
        if self.state is LinkState.OPEN and self._handler is not None:
            try:
                self._handler.writable()
            except Exception as exc:
                self._handler_failed("writable", exc)

    def _unanswered(self) -> None:
        self.cut(TimeoutError(f"{self._remote} did not answer the close"))

    def _over(self, why: Exception | None, opening: bool) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self.owner.link_ended(self)
        cause = f"{type(why).__name__}: {why}" if why is not None else "closed"
        self._carrier.note(f"{self.label} is over: {cause}")
        if opening:
            self._on_connect(self, Item(PacketKind.RESET, refusal=why))
        handler, self._handler = self._handler, None
        if handler is not None:
            try:
                handler.link_lost(why)
            except Exception as exc:
                self._report("link_lost", exc)

    def _handler_failed(self, where: str, exc: Exception) -> None:
        self._report(where, exc)
        self.cut(exc)

    def _report(self, where: str, exc: Exception) -> None:
        self._carrier.loop.call_exception_handler(
            {"message": f"the handler of {self.label} failed in {where}", "exception": exc}
        )


__all__ = [
    "CLOSE_TIMEOUT_S",
    "HIGH_WATER_BYTES",
    "Carrier",
    "Item",
    "LinkState",
    "Owner",
    "SimLink",
]
