"""What a peer can say, as plain data.

This room knows neither bytes nor connections: `fray.runtime.connection` makes these from messages,
`fray.runtime.peer` acts on them. Events of the hot path carry batches, so that a message of a
thousand calls makes one event; the calls themselves are tuples, the cheapest objects that have
names.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, IntEnum, IntFlag
from typing import NamedTuple, TypeAlias

from fray.runtime.hello import Hello
from fray.runtime.payload import Payload


class Role(Enum):
    """Who opened the connection. After the two HELLOs both sides may do the same."""

    DIALER = "dialer"
    """Opened it, and speaks first."""
    ACCEPTOR = "acceptor"


class CallFlags(IntFlag):
    """What a caller says of a call besides its arguments. Three bits travel."""

    NONE = 0
    STREAM = 1
    """The caller reads items, and grants credit for them."""
    REPEATED = 2
    """The call may have been sent before: a known id is answered with its first outcome."""


class OutcomeKind(IntEnum):
    """How a call ended."""

    RESULT = 0
    """The method returned."""
    ERROR = 1
    """The method raised; the payload is an error envelope."""
    FAILURE = 2
    """The method did not end: fray itself refused or stopped the call. The payload is an error
    envelope that is read without unpickling."""


class IncomingCall(NamedTuple):
    """One call, as it arrived.

    Attributes:
        call_id: The caller's number for it, below 2**64; unique among its calls in flight.
        target: Which actor.
        method: Which method.
        payload: The arguments.
        timeout_s: What was left of the caller's time limit when it sent the call, ≥ 0; None for
            no limit.
        flags: See `CallFlags`.
        context: Opaque bytes of the caller's runtime (the chain of calls it serves, and so on).
    """

    call_id: int
    target: str
    method: str
    payload: Payload
    timeout_s: float | None = None
    flags: CallFlags = CallFlags.NONE
    context: bytes = b""


@dataclass(frozen=True, slots=True)
class PeerHello:
    """The handshake is done; calls may be made."""

    hello: Hello


@dataclass(frozen=True, slots=True)
class CallsReceived:
    """Calls to serve. Those to one target are in the order in which they were made."""

    calls: list[IncomingCall]


@dataclass(frozen=True, slots=True)
class OutcomesReceived:
    """Calls of ours that ended: id, how, and with what. The items of a call came before."""

    outcomes: list[tuple[int, OutcomeKind, Payload]]


@dataclass(frozen=True, slots=True)
class ItemsReceived:
    """Items of streams that we read: id of the call, and the item; in order within each call."""

    items: list[tuple[int, Payload]]


@dataclass(frozen=True, slots=True)
class StreamEnded:
    """A stream that we read is exhausted: the call's terminal outcome."""

    call_id: int


@dataclass(frozen=True, slots=True)
class CancelReceived:
    """The caller of a delivered call does not wait any more. The call may have ended meanwhile.

    Attributes:
        call_id: Which.
        is_late: Whether its time was up; else its caller did not want it any more.
    """

    call_id: int
    is_late: bool = False


@dataclass(frozen=True, slots=True)
class CreditGranted:
    """The reader of a stream accepts this much more."""

    call_id: int
    items: int
    nbytes: int


@dataclass(frozen=True, slots=True)
class Goodbye:
    """The conversation is over, and nothing more can be sent. Always the last event."""

    reason: str


Event: TypeAlias = (
    PeerHello
    | CallsReceived
    | OutcomesReceived
    | ItemsReceived
    | StreamEnded
    | CancelReceived
    | CreditGranted
    | Goodbye
)


__all__ = [
    "CallFlags",
    "CallsReceived",
    "CancelReceived",
    "CreditGranted",
    "Event",
    "Goodbye",
    "Hello",
    "IncomingCall",
    "ItemsReceived",
    "OutcomeKind",
    "OutcomesReceived",
    "PeerHello",
    "Role",
    "StreamEnded",
]
