"""The wire format: what stands where in a message, and how much of anything there may be.

Constants, struct layouts and limits only; `fray.runtime.encoder` writes them and
`fray.runtime.decoder` reads them. Version 1 of the protocol, all numbers little-endian.

A *message* (one binary websocket message, ≤ 1 MiB) is either one CHUNK record, whose data is the
rest of the message, or a batch of other records. Every record begins with its kind::

    kind u8 | flags u8 | method u16 | target u32 | call_id u64 | length u32        CALL, 20 bytes
    kind u8 | flags u8 | small u16  | length u32 | id u64                          others, 16 bytes

============  ======================================================================
HELLO         ``length`` bytes of JSON follow (`fray.runtime.hello`); always first
GOODBYE       ``length`` bytes of UTF-8 follow: the reason; always last
DEFINE        ``flags``: 0 target, 1 method; ``id`` means from now on the string that follows
CALL          options by flag bits, then ``length`` bytes of payload
CANCEL        the caller of ``id`` waits no more; ``length`` 1: since its time was up, else 0
GRANT         ``length`` more items of call ``id``, and as many bytes as the u64 that follows
RESULT        of call ``id``; options, then ``length`` bytes of payload; likewise ERROR and
              FAILURE (the three terminal outcomes) and ITEM (of a stream)
END           call ``id``, a stream, is exhausted: a terminal outcome
CHUNK         ``length`` bytes of transfer ``id``
ABORT         transfer ``id`` stops half way; the record that opened it never was
CREDIT        ``length`` more bytes may be sent in transfer ``id``, or, for 0, on the connection
ACK           ``id`` deliveries of the session have arrived (`fray.runtime.sentlog`)
============  ======================================================================

Options stand after the header in this order, each if its bit is set:

* TIMEOUT: f64, seconds; CALL only.
* CONTEXT: u16 and as many bytes; CALL only.
* BULK: the record opens a *transfer*: u64 transfer id, u32 number of parts, u32 DATA_IN_BULK or 0,
  then for each part a u64: its size, and in the highest bit whether it is read-only. The parts
  follow as one stream of CHUNKs, in order. With DATA_IN_BULK the first part is the payload's data,
  else the data is in the record and all parts are buffers.

Order is the sender's business. It keeps back what must not overtake an open transfer (later calls
to the same target; later answers to the same call), so that the receiver delivers everything the
moment it is whole, and holds nothing but the transfers themselves.
"""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct
from typing import Final

from fray.runtime.hello import WINDOW_BYTES_MIN, Allowance
from fray.runtime.transport import MESSAGE_BYTES_MAX

HELLO: Final = 1
GOODBYE: Final = 2
DEFINE: Final = 3
CALL: Final = 4
CANCEL: Final = 5
GRANT: Final = 6
RESULT: Final = 7
ERROR: Final = 8
FAILURE: Final = 9
ITEM: Final = 10
END: Final = 11
CHUNK: Final = 12
ABORT: Final = 13
CREDIT: Final = 14
ACK: Final = 15

CALL_HEAD: Final = Struct("<BBHIQI")
CALL_HEAD_TIMEOUT: Final = Struct("<BBHIQId")  # the commonest option, and the only one
HEAD: Final = Struct("<BBHIQ")
TIMEOUT_FIELD: Final = Struct("<d")
CONTEXT_FIELD: Final = Struct("<H")
TABLE_HEAD: Final = Struct("<QII")
GRANT_BYTES_FIELD: Final = Struct("<Q")

FLAG_TIMEOUT: Final = 1
FLAG_CONTEXT: Final = 2
FLAG_BULK: Final = 4
CODEC_SHIFT: Final = 3
CODEC_MASK: Final = 0b11
CALL_FLAGS_SHIFT: Final = 5

DATA_IN_BULK: Final = 1
READ_ONLY: Final = 1 << 63
SIZE_MASK: Final = READ_ONLY - 1

TARGET: Final = 0
METHOD: Final = 1

U64_MAX: Final = (1 << 64) - 1

NAME_BYTES_MAX: Final = 1024
"""Of a target or method name in UTF-8. Python's identifiers and fray's actor ids are far below."""

TARGETS_MAX: Final = 16384
"""Interned target names per direction: 16 MiB at worst. The sender redefines its oldest number when
they are used up, so it bounds memory and not how many actors a connection may ever address."""

METHODS_MAX: Final = 4096
"""Interned method names per direction: 4 MiB at worst. Used up in the same way."""

CONTEXT_BYTES_MAX: Final = 16 << 10
"""Of a call's context: room for a chain of some hundred calls, far above what anybody nests."""

PARTS_MAX: Final = 16384
"""Parts of one transfer, a table of 128 KiB. The largest models have some thousands of arrays."""

REASON_BYTES_MAX: Final = 1024
"""Of a GOODBYE's reason; the sender cuts longer ones."""

U32_MAX: Final = (1 << 32) - 1


@dataclass(frozen=True, slots=True)
class Limits:
    """How much of everything one side sends at once, and accepts.

    What it accepts (`allowance`) is told to the peer in HELLO and is enforced: more is an error of
    the peer. The defaults bound what a hostile peer can make us hold without sending as much: names
    20 MiB, ids of calls in flight 20 MiB, tables of transfers 40 MiB, begun buffers 128 MiB (a huge
    page each).

    Attributes:
        payload_bytes_max: Of one payload, data and buffers together.
        announced_bytes_max: Of all transfers announced and not yet received. They cost nothing
            before they arrive, but what would never fit should be refused while it is small.
        inline_bytes_max: Longer payload data travels in chunks.
        batch_bytes: Small records are joined to messages of about this size.
        chunk_bytes: Of bulk in one message. Smaller ones cost headers, larger ones make small
            calls wait: 256 KiB take 0.2 ms at 10 Gbit/s.
        transfers_max: Transfers under way at once; more wait their turn. Each may hold one buffer
            that is allocated and not full.
        window_bytes: Bulk that may be on its way on the whole connection, unacknowledged: it
            bounds what lies in buffers of the network. 32 MiB fill 25 Gbit/s over 10 ms.
        transfer_window_bytes: Likewise in one transfer: one alone cannot use up the connection's.
        calls_in_flight_max: Calls without an outcome. Each costs the receiver some 80 bytes here.
    """

    payload_bytes_max: int = 8 << 30
    announced_bytes_max: int = 16 << 30
    inline_bytes_max: int = 64 << 10
    batch_bytes: int = 64 << 10
    chunk_bytes: int = 256 << 10
    transfers_max: int = 64
    window_bytes: int = 32 << 20
    transfer_window_bytes: int = 16 << 20
    calls_in_flight_max: int = 1 << 18

    def __post_init__(self) -> None:
        half = MESSAGE_BYTES_MAX // 2  # leaves room for headers, context and table
        _check("payload_bytes_max", self.payload_bytes_max, 1, SIZE_MASK)
        _check("announced_bytes_max", self.announced_bytes_max, self.payload_bytes_max, SIZE_MASK)
        _check("inline_bytes_max", self.inline_bytes_max, 0, half)
        _check("batch_bytes", self.batch_bytes, 1, half)
        _check("chunk_bytes", self.chunk_bytes, 1, half)
        _check("transfers_max", self.transfers_max, 1, 1 << 20)
        _check("window_bytes", self.window_bytes, WINDOW_BYTES_MIN, 1 << 30)
        _check("transfer_window_bytes", self.transfer_window_bytes, WINDOW_BYTES_MIN, 1 << 30)
        _check("calls_in_flight_max", self.calls_in_flight_max, 1, 1 << 24)

    @property
    def allowance(self) -> Allowance:
        """The part that the peer is told."""
        return Allowance(
            payload_bytes_max=self.payload_bytes_max,
            announced_bytes_max=self.announced_bytes_max,
            transfers_max=self.transfers_max,
            window_bytes=self.window_bytes,
            transfer_window_bytes=self.transfer_window_bytes,
            calls_in_flight_max=self.calls_in_flight_max,
        )


def _check(name: str, value: int, least: int, most: int) -> None:
    if not least <= value <= most:
        raise ValueError(f"{name} must be from {least} to {most}, not {value}")


def credit_threshold(window_bytes: int) -> int:
    """How much a receiver consumes before it returns credit.

    A quarter: so a sender always has three quarters of the window once nothing is on its way, and
    never waits for ever if its chunks are no larger than a quarter (`Outgoing` sees to that).

    Args:
        window_bytes: The window, ≥ `WINDOW_BYTES_MIN`.
    """
    return window_bytes // 4


__all__ = [
    "ABORT",
    "ACK",
    "CALL",
    "CALL_FLAGS_SHIFT",
    "CALL_HEAD",
    "CALL_HEAD_TIMEOUT",
    "CANCEL",
    "CHUNK",
    "CODEC_MASK",
    "CODEC_SHIFT",
    "CONTEXT_BYTES_MAX",
    "CONTEXT_FIELD",
    "CREDIT",
    "DATA_IN_BULK",
    "DEFINE",
    "END",
    "ERROR",
    "FAILURE",
    "FLAG_BULK",
    "FLAG_CONTEXT",
    "FLAG_TIMEOUT",
    "GOODBYE",
    "GRANT",
    "GRANT_BYTES_FIELD",
    "HEAD",
    "HELLO",
    "ITEM",
    "METHOD",
    "METHODS_MAX",
    "NAME_BYTES_MAX",
    "PARTS_MAX",
    "READ_ONLY",
    "REASON_BYTES_MAX",
    "RESULT",
    "SIZE_MASK",
    "TABLE_HEAD",
    "TARGET",
    "TARGETS_MAX",
    "TIMEOUT_FIELD",
    "U32_MAX",
    "U64_MAX",
    "Limits",
    "credit_threshold",
]
