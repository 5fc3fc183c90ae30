"""The seam of the network: what the runtime needs from a transport, and nothing of how.

A `Transport` opens links: ordered, reliable, message-based, both ways. Production uses
`fray.runtime.websocket` (one aiohttp websocket per pair of processes); the simulator has its own
in memory. Both pass one conformance suite (`tests/runtime/transport_conformance.py`).

Contract of a link:

* Messages arrive whole, in order, at most once. `LinkHandler.message_received` gets a buffer that
  is valid only during the call; whoever wants to keep part of it copies that part.
* The dialling side speaks first.
* `Link.send` never blocks and never fails: after the link is lost it does nothing. It returns
  False while more than a high-water mark is unsent; `LinkHandler.writable` tells when it drained.
* `LinkHandler.link_lost` is called exactly once, last, however the link ends.
* All callbacks run on the loop that opened the link.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

Buffer: TypeAlias = "bytes | bytearray | memoryview"

MESSAGE_BYTES_MAX = 1 << 20
"""A transport refuses longer messages before it buffers them. Payloads are chunked well below."""


@dataclass(frozen=True, slots=True)
class Principal:
    """Who is at the other end, as established before the link existed.

    Two are equal if they are the same somebody, whatever token they have shown: a session goes on
    with a renewed one.

    Attributes:
        user: User name.
        role: ``admin``, ``user``, ``worker`` or ``job``.
        namespace: The one that it is confined to; empty for none.
        job_id: Of a job's process.
        attempt_id: Likewise.
        worker_id: Of a host's agent: the host; empty where it may be any.
        token_id: Of the token that was shown; empty for one without an id.
        issued_at: When that was made, in seconds since 1970.
        expires_at: Until when that is good, in seconds since 1970; None for ever.
        remote: From where they came, as ``host:port``; for people.
    """

    user: str = "local"
    role: str = "admin"
    namespace: str = ""
    job_id: str = ""
    attempt_id: str = ""
    worker_id: str = ""
    token_id: str = field(default="", compare=False)
    issued_at: float = field(default=0.0, compare=False)
    expires_at: float | None = field(default=None, compare=False)
    remote: str = field(default="", compare=False)

    def __str__(self) -> str:
        who = self.job_id or self.worker_id or self.user
        return f"{self.role} {who}"


class LinkHandler(Protocol):
    """Who is told what happens on a link."""

    def message_received(self, data: memoryview) -> None:
        """One whole message. It must not block.

        Args:
            data: The message; valid only during the call.
        """
        ...

    def writable(self) -> None:
        """The link has drained after a `Link.send` that returned False."""
        ...

    def link_lost(self, exc: Exception | None) -> None:
        """The link is gone. Called once, after all else.

        Args:
            exc: Why, or None after an orderly close by either side.
        """
        ...


class Link(Protocol):
    """One open connection."""

    @property
    def remote(self) -> str:
        """The other end, for people."""
        ...

    @property
    def principal(self) -> Principal:
        """Who is at the other end; of a dialled link, who we are there."""
        ...

    def send(self, parts: Sequence[Buffer]) -> bool:
        """Sends one message.

        Args:
            parts: The message in pieces that need not be joined; at most `MESSAGE_BYTES_MAX`
                together. Their contents must not change until the link has drained.

        Returns:
            Whether more may be sent at once; if False, wait for `LinkHandler.writable`.
        """
        ...

    def close(self, reason: str = "") -> None:
        """Sends what is unsent, then ends the link.

        Args:
            reason: Told to the other side; at most 120 bytes of it.
        """
        ...

    def abort(self) -> None:
        """Ends the link at once; what is unsent is dropped."""
        ...


class Listener(Protocol):
    """An open door."""

    @property
    def address(self) -> str:
        """``host:port``, with the real port where 0 was asked for."""
        ...

    async def close(self) -> None:
        """Accepts nothing any more. Open links stay."""
        ...


Accept: TypeAlias = Callable[[Link], LinkHandler]


class Transport(Protocol):
    """Opens links."""

    async def listen(self, host: str, port: int, accept: Accept) -> Listener:
        """Opens a door.

        Args:
            host: Address to bind.
            port: Port to bind, 0 for any.
            accept: Called with each authenticated link; gives its handler.

        Raises:
            OSError: The address cannot be bound.
        """
        ...

    async def dial(self, address: str, accept: Accept) -> Link:
        """Connects to a door.

        Args:
            address: ``host:port``.
            accept: Called once with the open link; gives its handler.

        Raises:
            ConnectionRefused: The other side does not let us in (bad token, not fray …).
            OSError: Nobody answers there.
        """
        ...

    async def close(self) -> None:
        """Aborts every link, closes every listener, frees what the transport holds."""
        ...


__all__ = [
    "MESSAGE_BYTES_MAX",
    "Accept",
    "Buffer",
    "Link",
    "LinkHandler",
    "Listener",
    "Principal",
    "Transport",
]
