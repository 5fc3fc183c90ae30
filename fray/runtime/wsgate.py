"""What a connection must get past before it is an HTTP request: manners, a deadline and a bound.

A connection that has not yet proved who it is may be anything: a port scanner, a peer that sends
its request one byte a minute, ten thousand of either. A `Gate` stands between its socket and
aiohttp's protocol, and holds it to a number of bytes and to a moment by which it must have been let
in; a `WaitingRoom` bounds how many such strangers there are at once; `Refusals` keeps the log
readable.

This room knows asyncio's protocols and that HTTP is spoken behind it; it judges no request.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, TypeAlias, cast

if TYPE_CHECKING:
    from collections.abc import Callable

    from fray.runtime.transport import Principal

HANDSHAKE_BYTES_MAX = 16 * 1024
"""What a stranger may send before it is let in: a request with a token has about 600 bytes."""

STRANGERS_MAX = 1024
"""Connections that may be open without having proved who they are. After a restart all hosts of a
cluster may knock within one tick of the loop; each costs 5 KB, and what it sends, until then."""

_log = logging.getLogger(__name__)


OnRefused: TypeAlias = "Callable[[str, str], None]"
"""Told who was refused (``host:port``) and why."""


class Refusals:
    """Tells the log who was refused and why, and stays readable when there are thousands.

    At most `lines_max` lines are written in any `window_s` seconds; then one more with the number
    of those that were not. `on_refused` is told as often.
    """

    def __init__(
        self,
        lines_max: int = 10,
        window_s: float = 10.0,
        *,
        on_refused: OnRefused | None = None,
    ) -> None:
        self._on_refused = on_refused
        self._lines_max = lines_max
        self._window_s = window_s
        self._in_window = 0
        self._window: asyncio.TimerHandle | None = None

    def refused(self, peer: str, reason: str) -> None:
        """Reports one. Called on the loop.

        Args:
            peer: Its address.
            reason: Why, never with a token in it; what the peer chose itself is quoted.
        """
        self._in_window += 1
        if self._in_window <= self._lines_max:
            _log.warning("refused %s: %s", peer, reason)
            if self._on_refused is not None:
                self._on_refused(peer, reason)
        if self._window is None:
            loop = asyncio.get_running_loop()
            self._window = loop.call_later(self._window_s, self.flush)

    def flush(self) -> None:
        """Ends the window, and says how many were not reported in it."""
        if self._window is not None:
            self._window.cancel()
            self._window = None
        hidden, self._in_window = self._in_window - self._lines_max, 0
        if hidden > 0:
            _log.warning("refused %d more connections in the last %g s", hidden, self._window_s)


class HttpLog(logging.LoggerAdapter[logging.Logger]):
    """What aiohttp wants to log: one line and no traceback for what peers do.

    They may not speak HTTP, or be gone before they are answered.
    """

    def __init__(self, refusals: Refusals) -> None:
        super().__init__(_log)
        self._refusals = refusals

    def log(self, level: int, msg: object, *args: object, **kwargs: Any) -> None:
        """See `logging.LoggerAdapter.log`."""
        from aiohttp.http import HttpProcessingError

        problem = kwargs.get("exc_info")
        if isinstance(problem, HttpProcessingError):
            peer = str(args[0]) if args else "somebody"
            self._refusals.refused(peer, f"not HTTP: {problem.message[:120]!r}")
        elif isinstance(problem, ConnectionError):
            peer = str(args[0]) if args else "somebody"
            _log.info("%s was gone before it was answered: %s", peer, problem)
        else:
            super().log(level, msg, *args, **kwargs)


class Gate(asyncio.Protocol):
    """Stands between one connection and aiohttp's protocol for it, and minds its manners.

    Attributes:
        peer: The other end, for people.
        principal: Who it is, once that is known.
        transport: The connection.
    """

    transport: asyncio.Transport

    def __init__(self, room: WaitingRoom) -> None:
        self.peer = ""
        self.principal: Principal | None = None
        self._room = room
        self._inner: asyncio.Protocol | None = None
        self._nbytes = 0
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Somebody connects."""
        self.transport = cast(asyncio.Transport, transport)
        self.peer = format_address(transport.get_extra_info("peername"))
        self._inner = self._room.enter(self)
        if self._inner is None:
            self.transport.abort()
            return
        loop = asyncio.get_running_loop()
        self._deadline = loop.call_later(self._room.handshake_timeout_s, self._too_late)
        self._inner.connection_made(transport)

    def data_received(self, data: bytes) -> None:
        """It sends part of a request."""
        self._nbytes += len(data)
        if self.principal is None and self._nbytes > HANDSHAKE_BYTES_MAX:
            self.cut(f"sent more than {HANDSHAKE_BYTES_MAX} bytes without being let in")
        elif self._inner is not None:
            self._inner.data_received(data)

    def eof_received(self) -> bool | None:
        """It has nothing more to say."""
        return None if self._inner is None else self._inner.eof_received()

    def pause_writing(self) -> None:
        """It does not read our answer."""
        if self._inner is not None:
            self._inner.pause_writing()

    def resume_writing(self) -> None:
        """It reads our answer."""
        if self._inner is not None:
            self._inner.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is gone; also called by the link that took the connection over."""
        self._stop_deadline()
        self._room.leave(self)
        inner, self._inner = self._inner, None
        if inner is not None:
            inner.connection_lost(exc)

    def admit(self, principal: Principal) -> None:
        """The peer has proved who it is: it is no stranger any more."""
        self.principal = principal
        self._stop_deadline()
        self._room.leave(self)

    def cut(self, reason: str) -> None:
        """Drops the connection; what it still sends is not looked at."""
        self._room.refusals.refused(self.peer, reason)
        self.transport.abort()

    def _too_late(self) -> None:
        self.cut(f"no complete request within {self._room.handshake_timeout_s:g} s")

    def _stop_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


class WaitingRoom:
    """The connections that have not proved who they are, bounded in number.

    Attributes:
        refusals: Where those that are thrown out are reported.
        handshake_timeout_s: How long each may stay, in seconds.
    """

    def __init__(
        self,
        serve: Callable[[], asyncio.Protocol],
        refusals: Refusals,
        *,
        handshake_timeout_s: float,
        strangers_max: int,
    ) -> None:
        """Makes an empty one.

        Args:
            serve: Makes the HTTP protocol for one more connection.
            refusals: Where to report.
            handshake_timeout_s: Seconds from the connection to the end of its request.
            strangers_max: How many may be here at once.
        """
        self.refusals = refusals
        self.handshake_timeout_s = handshake_timeout_s
        self._serve = serve
        self._strangers_max = strangers_max
        self._strangers: dict[Gate, None] = {}  # in order of arrival
        self._closed = False

    def __len__(self) -> int:
        return len(self._strangers)

    def gate(self) -> Gate:
        """A gate for one more connection."""
        return Gate(self)

    def enter(self, gate: Gate) -> asyncio.Protocol | None:
        """Notes a stranger, and gives the HTTP protocol for it; None when nobody may come.

        Args:
            gate: Its gate.
        """
        if self._closed:
            return None
        if len(self._strangers) >= self._strangers_max:
            # The oldest goes: who means well is through in milliseconds, who fills the room waits.
            oldest = next(iter(self._strangers))
            oldest.cut(f"{self._strangers_max} newer connections have not said who they are either")
            self.leave(oldest)
        self._strangers[gate] = None
        return self._serve()

    def leave(self, gate: Gate) -> None:
        """A peer is no stranger any more, or is gone.

        Args:
            gate: Its gate.
        """
        self._strangers.pop(gate, None)

    def close(self) -> None:
        """Throws everybody out, and lets nobody in any more."""
        self._closed = True
        for gate in list(self._strangers):
            gate.transport.abort()


def format_address(name: Any) -> str:
    """``host:port``, or ``[host]:port``, of what a socket says of itself or its peer.

    Args:
        name: As from ``getsockname``; anything else is formatted as it is.
    """
    if isinstance(name, tuple):
        host, port = cast("tuple[Any, ...]", name)[:2]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return str(name) if name else "unknown"


__all__ = [
    "HANDSHAKE_BYTES_MAX",
    "STRANGERS_MAX",
    "Gate",
    "HttpLog",
    "OnRefused",
    "Refusals",
    "WaitingRoom",
    "format_address",
]
