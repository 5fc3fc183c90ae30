"""A serialized value: what the wire carries, whoever made it.

This room knows neither pickle nor the wire: `fray.runtime.serialization` makes and reads payloads,
`fray.runtime.connection` carries them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

from fray.runtime.transport import Buffer


class Codec(IntEnum):
    """How a payload's bytes are to be read. The numbers are part of the wire protocol."""

    PICKLE = 0
    """Pickle protocol 5, with out-of-band buffers."""
    JSON = 1
    """UTF-8 JSON without buffers: the control plane, and errors that anybody may read."""


@dataclass(slots=True)
class Payload:
    """A serialized value.

    Attributes:
        data: The value without its large buffers. A received one above the inline limit is a
            read-only memoryview (pickle and orjson read either), which saves copying it once more.
        buffers: The large buffers, in the order in which the value refers to them. Whoever sends
            a payload does not change them until it is sent; a received buffer that was writable
            at its origin is writable and belongs to the receiver alone.
        codec: How ``data`` is to be read.
    """

    data: bytes | memoryview
    buffers: Sequence[Buffer] = ()
    codec: Codec = Codec.PICKLE

    @property
    def nbytes(self) -> int:
        """Bytes of the data and of all buffers together."""
        total = len(self.data)
        for buffer in self.buffers:
            total += buffer.nbytes if isinstance(buffer, memoryview) else len(buffer)
        return total


__all__ = ["Codec", "Payload"]
