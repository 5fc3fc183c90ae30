"""Two connections, wired to each other in memory."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from fray.runtime.connection import Connection, ConnectionState, Limits, Role
from fray.runtime.events import (
    CallsReceived,
    Event,
    Hello,
    IncomingCall,
    ItemsReceived,
    OutcomeKind,
    OutcomesReceived,
)
from fray.runtime.frames import CHUNK
from fray.runtime.payload import Payload

if TYPE_CHECKING:
    from fray.runtime.transport import Buffer

EVERYTHING = 1 << 40
SMALL = Limits(
    payload_bytes_max=1 << 20,
    announced_bytes_max=1 << 20,
    inline_bytes_max=64,
    batch_bytes=256,
    chunk_bytes=512,
    transfers_max=3,
    window_bytes=4096,
    transfer_window_bytes=4096,
    calls_in_flight_max=1000,
)
"""So small that short tests reach every limit but those of size."""


def hello(name: str, **fields: Any) -> Hello:
    return Hello(process_id=f"process-{name}", boot_id=f"boot-{name}", **fields)


def make(role: Role, limits: Limits = Limits(), **fields: Any) -> Connection:  # noqa: B008
    return Connection(role, hello(role.value, **fields), limits)


def joined(message: list[Buffer]) -> bytes:
    return b"".join(message)


def receive(to: Connection, message: bytes) -> list[Event]:
    """Delivers a message in memory that is used again afterwards, as a link's is."""
    memory = bytearray(message)
    events = to.receive_message(memoryview(memory))
    memory[:] = b"\xee" * len(memory)
    return events


def contents(payload: Payload) -> tuple[bytes, list[tuple[bytes, bool]], int]:
    """A payload as something that can be compared: its data, buffers, and codec."""
    buffers = [memoryview(buffer) for buffer in payload.buffers]
    return bytes(payload.data), [(bytes(b), b.readonly) for b in buffers], payload.codec


class Wire:
    """A dialer and an acceptor, open unless told otherwise."""

    def __init__(
        self,
        dialer: Limits = Limits(),  # noqa: B008
        acceptor: Limits | None = None,
        *,
        shake: bool = True,
        **fields: Any,
    ) -> None:
        self.a = make(Role.DIALER, dialer, **fields)
        self.b = make(Role.ACCEPTOR, acceptor or dialer, **fields)
        self.messages: list[bytes] = []
        """All that was moved."""
        self._on_way: dict[Connection, deque[bytes]] = {self.a: deque(), self.b: deque()}
        if shake:
            self.a.start()
            self.pump()
            assert self.a.state is self.b.state is ConnectionState.OPEN

    @property
    def on_way(self) -> int:
        """Messages that were pulled and not delivered."""
        return sum(len(messages) for messages in self._on_way.values())

    def peer(self, of: Connection) -> Connection:
        return self.b if of is self.a else self.a

    def pull(self, sender: Connection, max_bytes: int = EVERYTHING) -> int:
        """Puts messages on their way; gives how many."""
        messages = sender.messages(max_bytes)
        self._on_way[sender].extend(joined(message) for message in messages)
        return len(messages)

    def deliver(self, sender: Connection, count: int | None = None) -> list[Event]:
        """Delivers messages that are on their way from a sender: the first ones, or all."""
        events: list[Event] = []
        on_way = self._on_way[sender]
        while on_way and count != 0:
            message = on_way.popleft()
            self.messages.append(message)
            events += receive(self.peer(sender), message)
            count = None if count is None else count - 1
        return events

    def move(self, sender: Connection, max_bytes: int = EVERYTHING) -> list[Event]:
        """Moves what a sender has now; gives the events at the other side."""
        self.pull(sender, max_bytes)
        return self.deliver(sender)

    def pump(self) -> tuple[list[Event], list[Event]]:
        """Moves everything until both are quiet; gives the events at the dialer and acceptor."""
        at_a: list[Event] = []
        at_b: list[Event] = []
        while self.a.has_output or self.b.has_output or self.on_way:
            at_b += self.move(self.a)
            at_a += self.move(self.b)
        return at_a, at_b


def calls(events: list[Event]) -> list[IncomingCall]:
    return [call for event in events if isinstance(event, CallsReceived) for call in event.calls]


def outcomes(events: list[Event]) -> list[tuple[int, OutcomeKind, Payload]]:
    return [o for event in events if isinstance(event, OutcomesReceived) for o in event.outcomes]


def items(events: list[Event]) -> list[tuple[int, Payload]]:
    return [item for event in events if isinstance(event, ItemsReceived) for item in event.items]


def is_chunk(message: bytes) -> bool:
    return message[0] == CHUNK


def small(text: str = "x") -> Payload:
    return Payload(text.encode())


def large(nbytes: int = 2000, fill: bytes = b"L") -> Payload:
    """In bulk under the limits `SMALL`."""
    return Payload(b"head", [bytearray(fill * nbytes)])


def ids(events: list[Event]) -> list[int]:
    return [call.call_id for call in calls(events)]
