"""Who may say what when: the states of a conversation, as tables, and its handshake.

The theory, after h11. Each of the two *parties* is in one of three states, and what it says moves
it on; whatever is not in the table is an error, of ours or of the peer's::

    SILENT --HELLO--> TALKING --RECORD--> TALKING --GOODBYE--> DONE
    SILENT --GOODBYE--> DONE                                        (refuses the other's HELLO)

What the connection can do follows from both states, by a second table. Besides there are two rules
on who begins: the dialer speaks first, and the acceptor says nothing but GOODBYE before it has
heard the dialer. After HELLO both sides may do the same.

GOODBYE ends the conversation both ways: who says it sends nothing more, not even credit, and who
hears it sends nothing but its own.
"""

from __future__ import annotations

from enum import Enum
from types import MappingProxyType
from typing import TYPE_CHECKING

from fray.errors import LocalProtocolError, RemoteProtocolError
from fray.runtime.events import Role
from fray.runtime.hello import (
    Allowance,
    Hello,
    common_features,
    common_version,
    decode_hello,
)

if TYPE_CHECKING:
    from collections.abc import Mapping


class Party(Enum):
    """How far one side of the conversation is."""

    SILENT = "silent"
    TALKING = "talking"
    DONE = "done"


class Saying(Enum):
    """What a side can say, as far as its state is concerned."""

    HELLO = "HELLO"
    RECORD = "a record"
    GOODBYE = "GOODBYE"


class ConnectionState(Enum):
    """What a connection can do."""

    CONNECTING = "connecting"
    """Not both have said HELLO."""
    OPEN = "open"
    """Calls can be made and answered."""
    CLOSING = "closing"
    """One side has said GOODBYE."""
    CLOSED = "closed"
    """Both have, or the peer broke the protocol and was told so."""


PARTY_TRANSITIONS: Mapping[tuple[Party, Saying], Party] = MappingProxyType(
    {
        (Party.SILENT, Saying.HELLO): Party.TALKING,
        (Party.SILENT, Saying.GOODBYE): Party.DONE,
        (Party.TALKING, Saying.RECORD): Party.TALKING,
        (Party.TALKING, Saying.GOODBYE): Party.DONE,
    }
)
"""The next state of a side that says something. What is not here must not be said."""

CONNECTION_STATES: Mapping[tuple[Party, Party], ConnectionState] = MappingProxyType(
    {
        (Party.SILENT, Party.SILENT): ConnectionState.CONNECTING,
        (Party.SILENT, Party.TALKING): ConnectionState.CONNECTING,
        (Party.SILENT, Party.DONE): ConnectionState.CLOSING,
        (Party.TALKING, Party.SILENT): ConnectionState.CONNECTING,
        (Party.TALKING, Party.TALKING): ConnectionState.OPEN,
        (Party.TALKING, Party.DONE): ConnectionState.CLOSING,
        (Party.DONE, Party.SILENT): ConnectionState.CLOSING,
        (Party.DONE, Party.TALKING): ConnectionState.CLOSING,
        (Party.DONE, Party.DONE): ConnectionState.CLOSED,
    }
)
"""The connection's state, from ours and the peer's."""


class Conversation:
    """Where the two sides stand.

    Args:
        role: Whether this side opened the connection.
        hello: What this side says of itself.

    Attributes:
        us: Our state.
        them: The peer's.
        is_open: Whether the state is OPEN; an attribute, since every call asks.
        peer_hello: What the peer said of itself, once it did.
        version: The agreed version of the protocol, once there is one.
        features: The features that both sides know, sorted.
    """

    def __init__(self, role: Role, hello: Hello) -> None:
        self.role = role
        self.hello = hello
        self.us = Party.SILENT
        self.them = Party.SILENT
        self.is_open = False
        self.peer_hello: Hello | None = None
        self.version: int | None = None
        self.features: tuple[str, ...] = ()

    @property
    def state(self) -> ConnectionState:
        """What the connection can do now."""
        return CONNECTION_STATES[self.us, self.them]

    def we_say(self, saying: Saying) -> None:
        """Moves us on.

        Args:
            saying: What we are about to say.

        Raises:
            LocalProtocolError: We must not say that now.
        """
        us = PARTY_TRANSITIONS.get((self.us, saying))
        if us is None or (saying is Saying.RECORD and not self.is_open):
            raise LocalProtocolError(
                f"{saying.value} cannot be sent: we are {self.us.value}, "
                f"the peer is {self.them.value}"
            )
        self.us = us
        self.is_open = self.state is ConnectionState.OPEN

    def they_say(self, saying: Saying) -> None:
        """Moves the peer on.

        Args:
            saying: What it said.

        Raises:
            RemoteProtocolError: It must not say that now.
        """
        them = PARTY_TRANSITIONS.get((self.them, saying))
        if them is None:
            raise RemoteProtocolError(f"{saying.value} from a peer that is {self.them.value}")
        if saying is Saying.HELLO and self.role is Role.DIALER and self.us is Party.SILENT:
            raise RemoteProtocolError("the acceptor spoke first")
        self.them = them
        self.is_open = self.state is ConnectionState.OPEN

    def receive_hello(self, raw: bytes) -> Allowance:
        """Takes the peer's HELLO.

        Args:
            raw: Its body, of any content.

        Returns:
            What the peer accepts. `version` is set if there is a common one.

        Raises:
            RemoteProtocolError: It is no HELLO, or the peer must not say it now.
        """
        self.they_say(Saying.HELLO)
        self.peer_hello, allowance = decode_hello(raw)
        self.version = common_version(self.hello, self.peer_hello)
        self.features = common_features(self.hello, self.peer_hello)
        return allowance

    def expel_peer(self) -> None:
        """Treats the peer as one that has said GOODBYE: nothing that it says counts any more."""
        self.them = Party.DONE
        self.is_open = False


__all__ = [
    "CONNECTION_STATES",
    "PARTY_TRANSITIONS",
    "ConnectionState",
    "Conversation",
    "Party",
    "Saying",
]
