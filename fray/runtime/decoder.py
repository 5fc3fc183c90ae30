"""Reads batches of records, from a peer that may send anything.

This room knows the wire format and the names that the peer defined, and nothing of order, windows
or state. Every length is checked against the rest of the message and every count against its
limit, so that whatever arrives either makes sense or raises `RemoteProtocolError`, at no more
memory than a small multiple of the message.

The hot path is, per call, one ``struct.unpack_from``, one slice of the message (which copies the
payload), and the two objects that are handed out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from struct import error as StructError  # noqa: N812 - it is a class
from struct import unpack_from
from typing import TYPE_CHECKING, NamedTuple, TypeAlias, cast

from fray.errors import RemoteProtocolError
from fray.runtime import frames
from fray.runtime.events import (
    CallFlags,
    CallsReceived,
    CancelReceived,
    CreditGranted,
    Goodbye,
    IncomingCall,
    ItemsReceived,
    OutcomeKind,
    OutcomesReceived,
    StreamEnded,
)
from fray.runtime.frames import (
    CALL,
    CALL_FLAGS_SHIFT,
    CALL_HEAD,
    CODEC_MASK,
    CODEC_SHIFT,
    CONTEXT_BYTES_MAX,
    CONTEXT_FIELD,
    ERROR,
    FAILURE,
    FLAG_BULK,
    FLAG_CONTEXT,
    FLAG_TIMEOUT,
    HEAD,
    ITEM,
    METHOD,
    METHODS_MAX,
    NAME_BYTES_MAX,
    PARTS_MAX,
    REASON_BYTES_MAX,
    RESULT,
    TABLE_HEAD,
    TARGET,
    TARGETS_MAX,
    TIMEOUT_FIELD,
)
from fray.runtime.hello import HELLO_BYTES_MAX
from fray.runtime.payload import Codec, Payload

if TYPE_CHECKING:
    from collections.abc import Callable


class Answer(NamedTuple):
    """An outcome or item whose payload is still to come."""

    kind: int
    call_id: int
    payload: Payload


@dataclass(frozen=True, slots=True)
class HelloRecord:
    """A HELLO; what it says is not read yet."""

    raw: bytes


@dataclass(frozen=True, slots=True)
class Opened:
    """A record whose payload follows in chunks.

    Attributes:
        transfer_id: The peer's number for the transfer.
        record: The record, with what there is of its payload.
        parts: Size of each part, with `frames.READ_ONLY` where it is read-only.
        data_in_bulk: Whether the first part is the payload's data.
    """

    transfer_id: int
    record: IncomingCall | Answer
    parts: tuple[int, ...]
    data_in_bulk: bool


@dataclass(frozen=True, slots=True)
class Aborted:
    """The peer stops a transfer half way."""

    transfer_id: int


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """So many deliveries of ours have arrived, in all of the session."""

    received: int


@dataclass(frozen=True, slots=True)
class Credited:
    """The peer has taken bulk of ours: of one transfer, or (id 0) on the connection."""

    transfer_id: int
    nbytes: int


Record: TypeAlias = (
    CallsReceived
    | OutcomesReceived
    | ItemsReceived
    | StreamEnded
    | CancelReceived
    | CreditGranted
    | Goodbye
    | HelloRecord
    | Opened
    | Aborted
    | Credited
    | Acknowledged
)

_new_call = cast(
    "Callable[[type[IncomingCall], tuple[object, ...]], IncomingCall]",
    tuple.__new__,  # pyright: ignore[reportUnknownMemberType]
)
"""A named tuple's own constructor is a Python function, and takes twice as long."""

_CODECS = tuple(Codec)
_CALL_FLAGS = tuple(CallFlags(bits) for bits in range(CallFlags.REPEATED << 1))
_OUTCOMES = {
    RESULT: OutcomeKind.RESULT,
    ERROR: OutcomeKind.ERROR,
    FAILURE: OutcomeKind.FAILURE,
}
_ANSWER_BITS = FLAG_BULK | CODEC_MASK << CODEC_SHIFT


def _codec(flags: int) -> Codec:
    number = flags >> CODEC_SHIFT & CODEC_MASK
    if number >= len(_CODECS):
        raise RemoteProtocolError(f"unknown payload codec {number}")
    return _CODECS[number]


def _cut_short(kind: int) -> RemoteProtocolError:
    return RemoteProtocolError(f"a record of kind {kind} is longer than the rest of its message")


def _timeout(raw: bytes, pos: int) -> float:
    timeout_s: float = TIMEOUT_FIELD.unpack_from(raw, pos)[0]
    if not (math.isfinite(timeout_s) and timeout_s >= 0):
        raise RemoteProtocolError(f"a call's timeout is {timeout_s}")
    return timeout_s


def _text(raw: bytes, what: str) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError as exc:
        raise RemoteProtocolError(f"{what} is not UTF-8: {exc}") from None


class Decoder:
    """Reads one peer's batches.

    Args:
        targets_max: Numbers of target names that may be defined.
        methods_max: Likewise of method names.
    """

    def __init__(self, *, targets_max: int = TARGETS_MAX, methods_max: int = METHODS_MAX) -> None:
        self._targets: dict[int, str] = {}
        self._methods: dict[int, str] = {}
        self._names = {TARGET: (self._targets, targets_max), METHOD: (self._methods, methods_max)}
        self._controls: dict[int, Callable[[bytes, int, list[Record]], int]] = {
            frames.HELLO: self._hello,
            frames.GOODBYE: self._goodbye,
            frames.DEFINE: self._define,
            frames.CANCEL: self._cancel,
            frames.GRANT: self._grant,
            frames.END: self._end,
            frames.ABORT: self._abort,
            frames.CREDIT: self._credit,
            frames.ACK: self._ack,
        }

    @property
    def names(self) -> int:
        """How many names the peer has defined."""
        return len(self._targets) + len(self._methods)

    def decode(self, raw: bytes) -> list[Record]:
        """Reads one batch.

        Args:
            raw: The message; at most `MESSAGE_BYTES_MAX`, of any content.

        Returns:
            What it says, in order; neighbours of one kind make one record.

        Raises:
            RemoteProtocolError: It does not follow the wire format.
        """
        records: list[Record] = []
        pos, end = 0, len(raw)
        try:
            while pos < end:
                kind = raw[pos]
                if kind == CALL:
                    pos = self._calls(raw, pos, records)
                elif kind in _OUTCOMES:
                    pos = self._outcomes(raw, pos, records)
                elif kind == ITEM:
                    pos = self._items(raw, pos, records)
                else:
                    control = self._controls.get(kind)
                    if control is None:
                        raise RemoteProtocolError(f"unknown kind of record in a batch: {kind}")
                    pos = control(raw, pos, records)
        except StructError:
            raise RemoteProtocolError("a message ends within a record's header") from None
        return records

    # ---- calls and answers. Each method reads a run of neighbours.

    def _calls(self, raw: bytes, pos: int, records: list[Record]) -> int:
        calls: list[IncomingCall] = []
        targets, methods, end = self._targets, self._methods, len(raw)
        unpack, no_flags = CALL_HEAD.unpack_from, CallFlags.NONE
        opened: Opened | None = None
        try:
            while opened is None and pos < end and raw[pos] == CALL:
                _, flags, method, target, call_id, length = unpack(raw, pos)
                if flags == 0:
                    timeout_s, begin = None, pos + 20
                elif flags == FLAG_TIMEOUT:
                    timeout_s, begin = _timeout(raw, pos + 20), pos + 28
                else:
                    pos, call, opened = self._call_with_options(raw, pos)
                    if opened is None:
                        calls.append(call)
                    continue
                pos = begin + length
                fields = (
                    call_id,
                    targets[target],
                    methods[method],
                    Payload(raw[begin:pos]),
                    timeout_s,
                    no_flags,
                    b"",
                )
                calls.append(_new_call(IncomingCall, fields))
        except KeyError as exc:
            raise RemoteProtocolError(f"a call uses the undefined name number {exc}") from None
        if pos > end:
            raise _cut_short(CALL)
        if calls:
            records.append(CallsReceived(calls))
        if opened is not None:
            records.append(opened)
        return pos

    def _call_with_options(self, raw: bytes, pos: int) -> tuple[int, IncomingCall, Opened | None]:
        _, flags, method, target, call_id, length = CALL_HEAD.unpack_from(raw, pos)
        pos += CALL_HEAD.size
        call_flags = flags >> CALL_FLAGS_SHIFT
        if call_flags >= len(_CALL_FLAGS):
            raise RemoteProtocolError(f"unknown call flags {call_flags}")
        timeout_s, context = None, b""
        if flags & FLAG_TIMEOUT:
            timeout_s = _timeout(raw, pos)
            pos += TIMEOUT_FIELD.size
        if flags & FLAG_CONTEXT:
            (nbytes,) = CONTEXT_FIELD.unpack_from(raw, pos)
            if nbytes > CONTEXT_BYTES_MAX:
                raise RemoteProtocolError(f"a call's context has {nbytes} bytes")
            pos += CONTEXT_FIELD.size
            context = raw[pos : pos + nbytes]
            pos += nbytes
        head, pos = self._table(raw, pos) if flags & FLAG_BULK else (None, pos)
        payload = Payload(raw[pos : pos + length], codec=_codec(flags))
        pos += length
        if pos > len(raw):
            raise _cut_short(CALL)
        call = IncomingCall(
            call_id,
            self._targets[target],
            self._methods[method],
            payload,
            timeout_s,
            _CALL_FLAGS[call_flags],
            context,
        )
        return pos, call, _opened(head, call)

    def _outcomes(self, raw: bytes, pos: int, records: list[Record]) -> int:
        outcomes: list[tuple[int, OutcomeKind, Payload]] = []
        kinds, unpack, end = _OUTCOMES, HEAD.unpack_from, len(raw)
        opened: Opened | None = None
        while opened is None and pos < end and (outcome := kinds.get(raw[pos])) is not None:
            _, flags, _, length, call_id = unpack(raw, pos)
            if flags:
                pos, answer, opened = self._answer_with_options(raw, pos)
                if opened is None:
                    outcomes.append((call_id, outcome, answer.payload))
                continue
            begin = pos + 16
            pos = begin + length
            outcomes.append((call_id, outcome, Payload(raw[begin:pos])))
        if pos > end:
            raise _cut_short(RESULT)
        if outcomes:
            records.append(OutcomesReceived(outcomes))
        if opened is not None:
            records.append(opened)
        return pos

    def _items(self, raw: bytes, pos: int, records: list[Record]) -> int:
        items: list[tuple[int, Payload]] = []
        opened: Opened | None = None
        while opened is None and pos < len(raw) and raw[pos] == ITEM:
            pos, answer, opened = self._answer_with_options(raw, pos)
            if opened is None:
                items.append((answer.call_id, answer.payload))
        if items:
            records.append(ItemsReceived(items))
        if opened is not None:
            records.append(opened)
        return pos

    def _answer_with_options(self, raw: bytes, pos: int) -> tuple[int, Answer, Opened | None]:
        kind, flags, _, length, call_id = HEAD.unpack_from(raw, pos)
        if flags & ~_ANSWER_BITS:
            raise RemoteProtocolError(f"unknown flags {flags} of a record of kind {kind}")
        pos += HEAD.size
        head, pos = self._table(raw, pos) if flags & FLAG_BULK else (None, pos)
        payload = Payload(raw[pos : pos + length], codec=_codec(flags))
        pos += length
        if pos > len(raw):
            raise _cut_short(kind)
        answer = Answer(kind, call_id, payload)
        return pos, answer, _opened(head, answer)

    def _table(self, raw: bytes, pos: int) -> tuple[tuple[int, bool, tuple[int, ...]], int]:
        transfer_id, count, where = TABLE_HEAD.unpack_from(raw, pos)
        pos += TABLE_HEAD.size
        if not 0 < count <= PARTS_MAX:
            raise RemoteProtocolError(f"a transfer of {count} parts; 1 to {PARTS_MAX} are accepted")
        if where not in (0, frames.DATA_IN_BULK):
            raise RemoteProtocolError(f"a transfer's table says {where}; 0 or 1 is known")
        if transfer_id == 0:
            raise RemoteProtocolError("a transfer has the number 0, which is the connection's")
        parts = unpack_from(f"<{count}Q", raw, pos)
        return (transfer_id, bool(where), parts), pos + 8 * count

    # ---- the rest, one record each

    def _body(self, raw: bytes, pos: int, limit: int) -> tuple[bytes, int, int, int]:
        """Reads a record with a text: the text, its flags, its id, and where it ends."""
        kind, flags, _, length, number = HEAD.unpack_from(raw, pos)
        if length > limit:
            raise RemoteProtocolError(
                f"a record of kind {kind} has {length} bytes; at most {limit} are accepted"
            )
        begin = pos + HEAD.size
        end = begin + length
        if end > len(raw):
            raise _cut_short(kind)
        return raw[begin:end], flags, number, end

    def _hello(self, raw: bytes, pos: int, records: list[Record]) -> int:
        body, _, _, end = self._body(raw, pos, HELLO_BYTES_MAX)
        records.append(HelloRecord(body))
        return end

    def _goodbye(self, raw: bytes, pos: int, records: list[Record]) -> int:
        body, _, _, end = self._body(raw, pos, REASON_BYTES_MAX)
        if end != len(raw):
            raise RemoteProtocolError("something follows a GOODBYE")
        records.append(Goodbye(_text(body, "a GOODBYE's reason")))
        return end

    def _define(self, raw: bytes, pos: int, _records: list[Record]) -> int:
        body, what, number, end = self._body(raw, pos, NAME_BYTES_MAX)
        names, count_max = self._names.get(what, (None, 0))
        if names is None:
            raise RemoteProtocolError(f"a DEFINE defines a thing of unknown sort {what}")
        if number >= count_max or not body:
            raise RemoteProtocolError(
                f"a DEFINE of number {number} as {body!r:.40}; numbers below {count_max} and "
                f"names of at least one byte are accepted"
            )
        names[number] = _text(body, "a name")
        return end

    def _cancel(self, raw: bytes, pos: int, records: list[Record]) -> int:
        _, _, _, late, call_id = HEAD.unpack_from(raw, pos)
        records.append(CancelReceived(call_id, is_late=late != 0))
        return pos + HEAD.size

    def _end(self, raw: bytes, pos: int, records: list[Record]) -> int:
        records.append(StreamEnded(HEAD.unpack_from(raw, pos)[4]))
        return pos + HEAD.size

    def _abort(self, raw: bytes, pos: int, records: list[Record]) -> int:
        records.append(Aborted(HEAD.unpack_from(raw, pos)[4]))
        return pos + HEAD.size

    def _credit(self, raw: bytes, pos: int, records: list[Record]) -> int:
        _, _, _, nbytes, number = HEAD.unpack_from(raw, pos)
        records.append(Credited(number, nbytes))
        return pos + HEAD.size

    def _ack(self, raw: bytes, pos: int, records: list[Record]) -> int:
        records.append(Acknowledged(HEAD.unpack_from(raw, pos)[4]))
        return pos + HEAD.size

    def _grant(self, raw: bytes, pos: int, records: list[Record]) -> int:
        _, _, _, items, call_id = HEAD.unpack_from(raw, pos)
        pos += HEAD.size
        (nbytes,) = frames.GRANT_BYTES_FIELD.unpack_from(raw, pos)
        records.append(CreditGranted(call_id, items, nbytes))
        return pos + frames.GRANT_BYTES_FIELD.size


def _opened(
    head: tuple[int, bool, tuple[int, ...]] | None, record: IncomingCall | Answer
) -> Opened | None:
    if head is None:
        return None
    transfer_id, data_in_bulk, parts = head
    if data_in_bulk and record.payload.data:
        raise RemoteProtocolError("a payload's data is in its record and in bulk")
    return Opened(transfer_id, record, parts, data_in_bulk)


__all__ = [
    "Aborted",
    "Acknowledged",
    "Answer",
    "Credited",
    "Decoder",
    "HelloRecord",
    "Opened",
    "Record",
]
