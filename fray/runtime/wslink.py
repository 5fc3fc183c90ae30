"""One open websocket as a `fray.runtime.transport.Link`: the protocol that takes a connection over.

aiohttp does the HTTP upgrade, on both sides; then a `WebSocketLink` takes its place as the
protocol of the asyncio transport. It is a `BufferedProtocol`, so that the kernel writes straight
into the decoder's memory and messages are delivered from within the read: no task, queue or copy
lies between a socket and a `LinkHandler`.

This room knows RFC 6455's opening and closing of a conversation, but neither HTTP nor aiohttp (only
that somebody else's protocol stood here before and must hear of the end), and nothing of what the
messages mean.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from enum import Enum, auto
from typing import TYPE_CHECKING

from fray.errors import LocalProtocolError
from fray.runtime.transport import MESSAGE_BYTES_MAX
from fray.runtime.wsframes import (
    CloseCode,
    FrameDecoder,
    FrameError,
    Opcode,
    binary_header,
    close_frame,
    control_frame,
    parse_close,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fray.runtime.transport import Buffer, LinkHandler, Principal

HIGH_WATER_BYTES = 1 << 20
"""Unsent bytes above which `WebSocketLink.send` returns False."""

LOW_WATER_BYTES = 256 << 10
"""Unsent bytes below which `LinkHandler.writable` is called again."""

CLOSE_TIMEOUT_S = 10.0
"""How long the other side may take to answer a close before the link is cut."""

REFUSAL_LINGER_S = 1.0
"""How long a peer that broke the protocol may take to read why before the link is cut."""

_JOIN_BYTES_MAX = 16 << 10  # shorter messages are joined: cheaper than a list of buffers
_KEEPALIVE_IDLE_S, _KEEPALIVE_INTERVAL_S, _KEEPALIVE_PROBES = 5, 5, 35

_BINARY = Opcode.BINARY

_log = logging.getLogger(__name__)


class LinkState(Enum):
    """How far a link is on its way."""

    OPEN = auto()
    CLOSING = auto()
    """We asked for the end; what is unsent goes out, and the other side's agreement is awaited."""
    REFUSING = auto()
    """The peer broke the protocol and was told so; whatever it still sends is thrown away."""
    ENDED = auto()
    """Nothing is sent or received any more; the loop is about to say that the socket is gone."""


_OPEN = LinkState.OPEN


class WebSocketLink(asyncio.BufferedProtocol):
    """See `fray.runtime.transport.Link`. Made and attached by the two sides of the transport.

    Attributes:
        state: How far it is; for people and tests.
        ended: Set when the link is gone and its handler has been told.
    """

    def __init__(
        self,
        transport: asyncio.Transport,
        *,
        dialled: bool,
        remote: str,
        principal: Principal,
        on_end: Callable[[WebSocketLink], None],
    ) -> None:
        """Takes a connection over; nothing is received before `start`.

        Args:
            transport: An upgraded connection on which nothing is unsent.
            dialled: Whether this side is the client.
            remote: The other end, for people.
            principal: Who is there; of a dialled link, who we are there.
            on_end: Called once, when the link is gone, before its handler is told.
        """
        self.state = LinkState.OPEN
        self.ended = asyncio.Event()
        self._remote = remote
        self._principal = principal
        self._masked = dialled
        self._on_end = on_end
        self._handler: LinkHandler | None = None
        self._decoder = FrameDecoder(masked=not dialled)
        self._paused = False
        self._owes_writable = False
        self._why: Exception | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._transport = transport
        # uvloop chooses its read callbacks when reading starts, hence the pause around the change.
        transport.pause_reading()
        self._before = transport.get_protocol()
        transport.set_protocol(self)
        transport.set_write_buffer_limits(high=HIGH_WATER_BYTES, low=LOW_WATER_BYTES)
        _keep_alive(transport)

    def __repr__(self) -> str:
        unsent = self._transport.get_write_buffer_size() if self.state is _OPEN else 0
        return f"<WebSocketLink {self._remote} {self.state.name.lower()}, {unsent} bytes unsent>"

    def start(self, handler: LinkHandler) -> None:
        """Starts to receive.

        Args:
            handler: Who is told from now on.
        """
        self._handler = handler
        _log.debug("link with %s is open", self._remote)
        self._transport.resume_reading()

    # --- Link

    @property
    def remote(self) -> str:
        """See `Link.remote`."""
        return self._remote

    @property
    def principal(self) -> Principal:
        """See `Link.principal`."""
        return self._principal

    def send(self, parts: Sequence[Buffer]) -> bool:
        """See `Link.send`. After the link has ended (or `close`) it does nothing and says False.

        Raises:
            LocalProtocolError: The message is longer than `MESSAGE_BYTES_MAX`.
        """
        if self.state is not _OPEN or self._transport.is_closing():  # the second: a write failed
            return False
        nbytes = 0
        for part in parts:
            nbytes += part.nbytes if type(part) is memoryview else len(part)
        head = binary_header(nbytes, masked=self._masked)
        if nbytes <= _JOIN_BYTES_MAX:
            self._transport.write(b"".join((head, *parts)))
        elif nbytes <= MESSAGE_BYTES_MAX:
            self._send_long(head, parts)
        else:
            raise LocalProtocolError(f"a message of {nbytes} bytes; at most {MESSAGE_BYTES_MAX}")
        if self._paused:
            self._owes_writable = True
            return False
        return True

    def close(self, reason: str = "") -> None:
        """See `Link.close`. Nothing is received after it; `CLOSE_TIMEOUT_S` bounds it."""
        if self.state is not _OPEN:
            return
        self.state = LinkState.CLOSING
        self._transport.write(close_frame(CloseCode.NORMAL, reason, masked=self._masked))
        self._limit(CLOSE_TIMEOUT_S, f"{self._remote} did not answer the close")

    def abort(self) -> None:
        """See `Link.abort`. `LinkHandler.link_lost` follows in a later tick of the loop."""
        self._cut(ConnectionAbortedError(f"the link with {self._remote} was aborted here"))
        self._transport.abort()  # also where an orderly end is still flushing

    # --- asyncio.BufferedProtocol

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where the loop shall write what it reads."""
        return self._decoder.room()

    def buffer_updated(self, nbytes: int) -> None:
        """The loop has read."""
        if self.state is LinkState.REFUSING or self.state is LinkState.ENDED:
            self._decoder.discard()
            return
        assert self._handler is not None
        try:
            for opcode, payload in self._decoder.received(nbytes):
                if opcode is not _BINARY:
                    self._control(opcode, bytes(payload))
                elif self.state is _OPEN:
                    self._handler.message_received(payload)
        except FrameError as exc:
            self._refuse(exc)
        except Exception as exc:
            self._handler_failed("message_received", exc)

    def eof_received(self) -> None:
        """The other side's socket is closed; the loop closes ours next."""
        if self.state is LinkState.CLOSING or self.state is _OPEN:
            self._why = ConnectionResetError(f"{self._remote} went away without closing the link")
            self.state = LinkState.ENDED

    def pause_writing(self) -> None:
        """More than the high-water mark is unsent."""
        self._paused = True

    def resume_writing(self) -> None:
        """Less than the low-water mark is unsent."""
        self._paused = False
        if not self._owes_writable or self.state is not _OPEN or self._handler is None:
            return
        self._owes_writable = False
        try:
            self._handler.writable()
        except Exception as exc:
            self._handler_failed("writable", exc)

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is gone."""
        if self.state is not LinkState.ENDED and self._why is None:
            self._why = exc or ConnectionResetError(f"the connection to {self._remote} was lost")
        self.state = LinkState.ENDED
        if self._deadline is not None:
            self._deadline.cancel()
        # aiohttp still counts the connection as its own: unless its protocol hears of the end,
        # ClientSession.close() and AppRunner.cleanup() wait for ever. Flow control it need not
        # hear of, since it has nothing to send any more.
        self._before.connection_lost(exc)
        self._on_end(self)
        self._decoder.free()
        handler, self._handler = self._handler, None
        _log.debug("link with %s is gone: %s", self._remote, self._why or "closed")
        try:
            if handler is not None:
                handler.link_lost(self._why)
        except Exception:
            _log.exception("the handler of the link with %s failed in link_lost", self._remote)
        finally:
            self.ended.set()

    # --- how a link ends

    def _send_long(self, head: bytes, parts: Sequence[Buffer]) -> None:
        transport = self._transport
        # CPython 3.12 counts the items of a view as if they were bytes, and never finishes with an
        # empty one.
        transport.writelines([head, *(memoryview(part).cast("B") for part in parts if part)])
        if not self._paused and transport.get_write_buffer_size() > HIGH_WATER_BYTES:
            # writelines() of CPython 3.12.0-3.12.8 and 3.13.0-3.13.1 forgets to look at the
            # high-water mark (CVE-2024-12254); setting the limits anew makes it look.
            transport.set_write_buffer_limits(high=HIGH_WATER_BYTES, low=LOW_WATER_BYTES)

    def _control(self, opcode: Opcode, payload: bytes) -> None:
        if opcode is Opcode.PING:
            # A peer that pings without reading gets no pongs: they would pile up here. Only the
            # latest ping needs an answer (RFC 6455, section 5.5.3).
            if self.state is _OPEN and not self._paused:
                self._transport.write(control_frame(Opcode.PONG, payload, masked=self._masked))
        elif opcode is Opcode.CLOSE and self.state is not LinkState.ENDED:
            self._peer_closes(*parse_close(payload))

    def _peer_closes(self, code: int, reason: str) -> None:
        if code not in (CloseCode.NORMAL, CloseCode.GOING_AWAY):
            because = f"{code} {reason!r}"
            self._why = ConnectionAbortedError(f"{self._remote} refused the link: {because}")
        elif reason:
            _log.debug("%s closes the link: %r", self._remote, reason)
        if self.state is _OPEN:
            answer = close_frame(CloseCode.NORMAL, "", masked=self._masked)
            self._transport.write(answer)
            self._limit(CLOSE_TIMEOUT_S, f"{self._remote} closes the link but does not read")
        self.state = LinkState.ENDED
        self._transport.close()

    def _refuse(self, error: FrameError) -> None:
        """The peer broke the protocol: tells it why, if it cares to read, and hangs up."""
        _log.warning("%s broke the websocket protocol: %s", self._remote, error)
        if self.state is not _OPEN:
            self._cut(error)
            return
        self._why = error
        self.state = LinkState.REFUSING
        self._decoder.discard()
        self._transport.write(close_frame(error.code, str(error), masked=self._masked))
        self._limit(REFUSAL_LINGER_S, "")

    def _handler_failed(self, where: str, exc: Exception) -> None:
        _log.error(
            "the handler of the link with %s failed in %s; the link is cut",
            self._remote,
            where,
            exc_info=exc,
        )
        self._cut(exc)

    def _limit(self, delay_s: float, problem: str) -> None:
        """Cuts the link unless it has ended by itself after a while."""

        def cut() -> None:
            self._why = self._why or (TimeoutError(problem) if problem else None)
            self.state = LinkState.ENDED
            self._transport.abort()

        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = asyncio.get_running_loop().call_later(delay_s, cut)

    def _cut(self, why: Exception) -> None:
        if self.state is LinkState.ENDED:
            return
        self.state = LinkState.ENDED
        self._why = self._why or why
        self._transport.abort()


def _keep_alive(transport: asyncio.Transport) -> None:
    """Lets the kernel find out that a host is gone, in about three minutes.

    No websocket ping of ours does it: a process that computes does not read, and is healthy.
    """
    sock = transport.get_extra_info("socket")
    if sock is None or sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (
        ("TCP_KEEPIDLE", _KEEPALIVE_IDLE_S),
        ("TCP_KEEPINTVL", _KEEPALIVE_INTERVAL_S),
        ("TCP_KEEPCNT", _KEEPALIVE_PROBES),
    ):
        if hasattr(socket, option):  # some are missing on macOS
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)


__all__ = [
    "CLOSE_TIMEOUT_S",
    "HIGH_WATER_BYTES",
    "LOW_WATER_BYTES",
    "REFUSAL_LINGER_S",
    "LinkState",
    "WebSocketLink",
]
