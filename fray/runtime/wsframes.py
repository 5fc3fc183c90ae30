"""RFC 6455 framing, without I/O: bytes in, frames out; frames in, bytes out.

This is the framing of an *established* websocket that speaks fray's sub-protocol; the HTTP upgrade
before it is not this room's business, nor are sockets, loops and what the messages mean.

The decoder owns the memory that the network writes into. It lends room to be filled
(`FrameDecoder.room`), is told how much arrived (`FrameDecoder.received`), and hands out every
frame that is then complete as a view into that same memory: no byte is copied or moved between the
kernel and the reader of a message, except for the few of a frame that is cut by the end of a read.

The sub-protocol is stricter than the RFC allows an endpoint to be in general, because both ends of
it are fray: a message is one binary frame (no text, no fragments, no extensions) of at most
`payload_bytes_max` bytes. Everything else is refused by a `FrameError` before it is buffered.
"""

from __future__ import annotations

import mmap
from enum import IntEnum
from struct import Struct
from typing import TYPE_CHECKING

from fray.errors import RemoteProtocolError
from fray.runtime.transport import MESSAGE_BYTES_MAX

if TYPE_CHECKING:
    from collections.abc import Iterator

READ_BYTES = 128 * 1024
"""How much one read may take where no long frame is expected: a few batches of small records."""

CONTROL_BYTES_MAX = 125
"""Of the payload of a close, ping or pong (RFC 6455, section 5.5)."""

CLOSE_REASON_BYTES_MAX = 120
"""Of the reason in a close frame; the RFC leaves 123 beside the code, the seam promises 120."""

_HEADER_BYTES_MAX = 14
_MOVED_BYTES_MAX = 2048  # a shorter rest is moved to the front: cheaper than a short read later
_MASK_STEP_BYTES = 64 * 1024
# Large allocations, which payloads are copied to, start a few dozen bytes into a page, and so would
# the payload of a long frame, a header behind the start of a mapping. Copies between addresses that
# are so alike in their last 12 bits crawl (measured on an AMD EPYC: 3 instead of 40 GB/s).
_SKEW_BYTES = 2048

_SHORT = Struct(">BB").pack
_MEDIUM = Struct(">BBH").pack
_LONG = Struct(">BBQ").pack
_U16 = Struct(">H")
_U32 = Struct(">I")
_U64 = Struct(">Q")

# Masking (RFC 6455, section 5.3) exists so that a script in a browser cannot choose the bytes that
# a naive proxy on the way sees and mistakes for HTTP. No browser ever writes our bytes (an Origin
# header is refused at the door), so the mask bit is set, as the RFC demands of a client, and the
# key is zero, which leaves the payload as it is and costs nothing at either end.
_ZERO_KEY = b"\0\0\0\0"


class Opcode(IntEnum):
    """What a frame is (RFC 6455, section 5.2)."""

    CONTINUATION = 0x0
    TEXT = 0x1
    BINARY = 0x2
    CLOSE = 0x8
    PING = 0x9
    PONG = 0xA


class CloseCode(IntEnum):
    """Why a side closes (RFC 6455, section 7.4.1); those that fray sends."""

    NORMAL = 1000
    GOING_AWAY = 1001
    PROTOCOL_ERROR = 1002
    UNSUPPORTED_DATA = 1003
    INVALID_PAYLOAD = 1007
    MESSAGE_TOO_BIG = 1009
    INTERNAL_ERROR = 1011


_BINARY = Opcode.BINARY
_CONTROL = {int(code): code for code in (Opcode.CLOSE, Opcode.PING, Opcode.PONG)}
# Codes that a peer may put on the wire below the ranges for libraries and applications (section
# 7.4; 1012-1014 are IANA's). 1005, 1006 and 1015 only ever describe a missing close frame.
_CLOSE_CODES = frozenset({1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014})


class FrameError(RemoteProtocolError):
    """The peer broke the framing; the connection cannot be used any more.

    Attributes:
        code: What the close frame that tells it so should carry.
    """

    def __init__(self, code: CloseCode, message: str) -> None:
        super().__init__(message)
        self.code = code

    def __reduce__(self) -> tuple[type[FrameError], tuple[CloseCode, str]]:
        return FrameError, (self.code, str(self))


def binary_header(payload_bytes: int, *, masked: bool) -> bytes:
    """What stands before a message's payload.

    Args:
        payload_bytes: Length of the payload, in bytes, below 2**63.
        masked: Whether the sender is the client (the side that dialled). The masking key is zero:
            the payload follows as it is.
    """
    mask = 0x80 if masked else 0
    if payload_bytes < 126:
        head = _SHORT(0x82, mask | payload_bytes)
    elif payload_bytes < 0x1_0000:
        head = _MEDIUM(0x82, mask | 126, payload_bytes)
    else:
        head = _LONG(0x82, mask | 127, payload_bytes)
    return head + _ZERO_KEY if masked else head


def control_frame(opcode: Opcode, payload: bytes, *, masked: bool) -> bytes:
    """A whole close, ping or pong frame.

    Args:
        opcode: Which.
        payload: At most `CONTROL_BYTES_MAX` bytes.
        masked: Whether the sender is the client.
    """
    assert len(payload) <= CONTROL_BYTES_MAX, "a control frame's payload is bounded by the RFC"
    head = _SHORT(0x80 | opcode, (0x80 if masked else 0) | len(payload))
    return head + (_ZERO_KEY if masked else b"") + payload


def close_frame(code: CloseCode, reason: str, *, masked: bool) -> bytes:
    """A whole close frame.

    Args:
        code: Why, for programs.
        reason: Why, for people; cut to `CLOSE_REASON_BYTES_MAX` bytes, between characters.
        masked: Whether the sender is the client.
    """
    text = reason.encode("utf-8", "replace")[:CLOSE_REASON_BYTES_MAX]
    text = text.decode("utf-8", "ignore").encode()  # the cut may have split a character
    return control_frame(Opcode.CLOSE, _U16.pack(code) + text, masked=masked)


def parse_close(payload: bytes) -> tuple[int, str]:
    """What a close frame says.

    Args:
        payload: Of the frame.

    Returns:
        The code (`CloseCode.NORMAL` where the frame has none) and the reason.

    Raises:
        FrameError: The payload is not what RFC 6455, sections 5.5.1 and 7.4, allow.
    """
    if not payload:
        return CloseCode.NORMAL, ""
    if len(payload) == 1:
        raise FrameError(CloseCode.PROTOCOL_ERROR, "a close frame with half a code")
    code: int = _U16.unpack_from(payload)[0]
    if code not in _CLOSE_CODES and not 3000 <= code < 5000:
        raise FrameError(CloseCode.PROTOCOL_ERROR, f"a close frame with the code {code}")
    try:
        return code, payload[2:].decode()
    except UnicodeDecodeError:
        raise FrameError(CloseCode.INVALID_PAYLOAD, "a close reason that is not UTF-8") from None


class FrameDecoder:
    """Takes frames out of a stream of bytes, in memory of a fixed size.

    The memory is one anonymous mapping: long enough for the longest frame behind one read of short
    ones, so that nothing ever has to be moved to make room, and resident only as far as it has been
    written to. Whatever a length field says, it does not grow.
    """

    __slots__ = ("_end", "_masked", "_memory", "_need", "_payload_bytes_max", "_start")

    def __init__(self, *, masked: bool, payload_bytes_max: int = MESSAGE_BYTES_MAX) -> None:
        """Makes one that has received nothing.

        Args:
            masked: Whether the frames come from a client and must be masked; those of a server
                must not be (RFC 6455, section 5.1).
            payload_bytes_max: Longer frames are refused; at least `CONTROL_BYTES_MAX`.
        """
        assert payload_bytes_max >= CONTROL_BYTES_MAX
        self._masked = masked
        self._payload_bytes_max = payload_bytes_max
        size = READ_BYTES + payload_bytes_max + _HEADER_BYTES_MAX
        self._memory = _untouched(_SKEW_BYTES + size)[_SKEW_BYTES:]
        self._start = 0  # of what is received and not yet handed out
        self._end = 0
        self._need = 0  # whole length of the frame at _start, once it is known to be cut

    def room(self) -> memoryview:
        """Where the next bytes are to be written; never empty.

        Within a long frame the room ends with the frame, so that the next frame starts at the
        front again and nothing is moved.
        """
        return self._memory[self._end : max(READ_BYTES, self._start + self._need)]

    def received(self, nbytes: int) -> Iterator[tuple[Opcode, memoryview]]:
        """Hands out the frames that are complete now.

        The iterator must be run to its end before `room` is asked for again, unless the connection
        is given up.

        Args:
            nbytes: How much of the `room` was filled.

        Yields:
            Binary, close, ping and pong frames: opcode and unmasked payload. The payload is a view
            into the decoder's memory, and valid until the next one is asked for.

        Raises:
            FrameError: The peer broke the protocol. Frames before the bad one were handed out.
        """
        memory = self._memory
        end = self._end = self._end + nbytes
        start = self._start
        mask_bit = 0x80 if self._masked else 0
        self._need = 0
        while end - start >= 2:
            first = memory[start]
            second = memory[start + 1]
            opcode = _BINARY if first == 0x82 else self._control_opcode(first, second)
            if second & 0x80 != mask_bit:
                raise FrameError(CloseCode.PROTOCOL_ERROR, _WRONG_MASK[self._masked])
            length = second & 0x7F
            body = start + 2
            if length >= 126:
                body += 2 if length == 126 else 8
                if end < body:
                    break
                length = self._long_length(start + 2, body)
            if mask_bit:
                body += 4
            if end < body + length:
                self._need = body + length - start
                break
            payload = memory[body : body + length]
            if mask_bit and _U32.unpack_from(memory, body - 4)[0]:
                _unmask(payload, bytes(memory[body - 4 : body]))
            start = self._start = body + length
            yield opcode, payload
        self._tidy()

    def discard(self) -> None:
        """Forgets everything received: for a connection whose framing is lost already."""
        self._start = self._end = self._need = 0

    def free(self) -> None:
        """Gives the memory back; nothing can be received any more."""
        self._memory = memoryview(b"")
        self.discard()

    def _control_opcode(self, first: int, second: int) -> Opcode:
        """Of a frame that is not an ordinary message.

        Raises:
            FrameError: It is not an ordinary control frame either.
        """
        if first & 0x70:
            problem = "a frame with reserved bits (extensions were not negotiated)"
            raise FrameError(CloseCode.PROTOCOL_ERROR, problem)
        opcode = first & 0x0F
        if opcode == Opcode.TEXT:
            raise FrameError(CloseCode.UNSUPPORTED_DATA, "a text message; fray's are binary")
        if opcode in (Opcode.BINARY, Opcode.CONTINUATION):
            raise FrameError(CloseCode.PROTOCOL_ERROR, "a fragmented message; fray's are whole")
        if opcode not in _CONTROL:
            raise FrameError(CloseCode.PROTOCOL_ERROR, f"a frame of unknown kind {opcode:#x}")
        if not first & 0x80:
            raise FrameError(CloseCode.PROTOCOL_ERROR, "a fragmented control frame")
        if second & 0x7F > CONTROL_BYTES_MAX:
            problem = f"a control frame of more than {CONTROL_BYTES_MAX} bytes"
            raise FrameError(CloseCode.PROTOCOL_ERROR, problem)
        return _CONTROL[opcode]

    def _long_length(self, at: int, body: int) -> int:
        """The extended length field between two offsets.

        Raises:
            FrameError: It breaks the RFC or is longer than allowed.
        """
        if body - at == 2:
            length: int = _U16.unpack_from(self._memory, at)[0]
            shortest = 126
        else:
            length = _U64.unpack_from(self._memory, at)[0]
            shortest = 0x1_0000
        if length < shortest:  # section 5.2: the minimal number of bytes MUST be used
            raise FrameError(CloseCode.PROTOCOL_ERROR, f"a length of {length} in too many bytes")
        if length > self._payload_bytes_max:
            problem = f"a message of {length} bytes; at most {self._payload_bytes_max} are taken"
            raise FrameError(CloseCode.MESSAGE_TOO_BIG, problem)
        return length

    def _tidy(self) -> None:
        rest = self._end - self._start
        # A header that is cut is always among the short ones: room() relies on it.
        if rest <= _MOVED_BYTES_MAX and self._start:
            if rest:
                self._memory[:rest] = self._memory[self._start : self._end]
            self._start, self._end = 0, rest


_WRONG_MASK = {
    True: "an unmasked frame from a client",
    False: "a masked frame from a server",
}


def _untouched(size: int) -> memoryview:
    """Fresh memory that is resident only where it has been written to."""
    if not hasattr(mmap, "MAP_PRIVATE"):  # Windows
        return memoryview(mmap.mmap(-1, size))
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_NOHUGEPAGE"):
        # Or one byte would make two megabytes resident, where the system likes huge pages.
        memory.madvise(mmap.MADV_NOHUGEPAGE)
    return memoryview(memory)


def _unmask(payload: memoryview, key: bytes) -> None:
    """Undoes the masking in place, in steps that keep the numbers short."""
    for at in range(0, len(payload), _MASK_STEP_BYTES):
        piece = payload[at : at + _MASK_STEP_BYTES]
        size = len(piece)
        mask = int.from_bytes((key * (size // 4 + 1))[:size], "little")
        piece[:] = (int.from_bytes(piece, "little") ^ mask).to_bytes(size, "little")


__all__ = [
    "CLOSE_REASON_BYTES_MAX",
    "CONTROL_BYTES_MAX",
    "READ_BYTES",
    "CloseCode",
    "FrameDecoder",
    "FrameError",
    "Opcode",
    "binary_header",
    "close_frame",
    "control_frame",
    "parse_close",
]
