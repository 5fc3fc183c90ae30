"""What a call says of itself to the runtime of the other side, besides its arguments.

Most calls say nothing, and then nothing travels: an empty context is ``b""``.

::

    context   key length (1 byte) · key · number of links (2 bytes) · links (8 bytes each)
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from fray.errors import LocalProtocolError, RemoteProtocolError

KEY_BYTES_MAX = 255
"""Of an idempotent call's id. Ours have some 20."""

CHAIN_MAX = 256
"""Links that travel. Of a longer chain the innermost do: they are the likely ones to be met."""

_LINK_MAX = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class CallContext:
    """What a call says of itself.

    Attributes:
        key: The id of an idempotent call, the same each time that it is sent; empty for others. At
            most `KEY_BYTES_MAX` bytes.
        chain: Numbers, below 2**64, of the calls that wait for this one, the outermost first. Only
            calls that re-entrant actors serve have one: they know what is called from inside.
    """

    key: bytes = b""
    chain: tuple[int, ...] = ()

    def encode(self) -> bytes:
        """As bytes; an empty context is none.

        Raises:
            LocalProtocolError: The key is too long, or a number out of its range.
        """
        if not self.key and not self.chain:
            return b""
        if len(self.key) > KEY_BYTES_MAX:
            raise LocalProtocolError(f"a call's key of {len(self.key)} bytes")
        chain = self.chain[-CHAIN_MAX:]
        if not all(0 <= link <= _LINK_MAX for link in chain):
            raise LocalProtocolError(f"a call's chain has a number out of range: {chain}")
        head = bytes((len(self.key),)) + self.key
        return head + struct.pack(f"<H{len(chain)}Q", len(chain), *chain)

    @classmethod
    def decode(cls, raw: bytes) -> CallContext:
        """Reads what `encode` wrote.

        Args:
            raw: Any bytes.

        Raises:
            RemoteProtocolError: Nobody who keeps to the protocol writes this.
        """
        if not raw:
            return NO_CONTEXT
        start = 1 + raw[0]
        try:
            (count,) = struct.unpack_from("<H", raw, start)
        except struct.error:
            raise RemoteProtocolError("a call's context is cut short") from None
        if count > CHAIN_MAX or len(raw) != start + 2 + 8 * count:
            raise RemoteProtocolError(
                f"a call's context of {len(raw)} bytes announces {count} links after a key of "
                f"{raw[0]} bytes"
            )
        context = cls(bytes(raw[1:start]), struct.unpack_from(f"<{count}Q", raw, start + 2))
        if context == NO_CONTEXT:
            raise RemoteProtocolError("a call's context says nothing")
        return context


NO_CONTEXT = CallContext()
"""That of most calls."""


__all__ = ["CHAIN_MAX", "KEY_BYTES_MAX", "NO_CONTEXT", "CallContext"]
