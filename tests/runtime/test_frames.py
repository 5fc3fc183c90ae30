from __future__ import annotations

import itertools
import struct
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fray.errors import LocalProtocolError, RemoteProtocolError
from fray.runtime import frames
from fray.runtime.decoder import Aborted, Answer, Credited, Decoder, HelloRecord, Opened
from fray.runtime.encoder import Encoder, Table
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
from fray.runtime.frames import Limits
from fray.runtime.payload import Codec, Payload

BATCH = 1 << 20
U32 = st.integers(0, 2**32 - 1)
U64 = st.integers(0, 2**64 - 1)
NAMES = st.text(min_size=1, max_size=40).filter(lambda name: name.isprintable())
CODECS = st.sampled_from(Codec)
ANSWERS = {
    frames.RESULT: OutcomeKind.RESULT,
    frames.ERROR: OutcomeKind.ERROR,
    frames.FAILURE: OutcomeKind.FAILURE,
}
SIZES = st.integers(0, frames.SIZE_MASK)
TABLES = st.builds(
    Table,
    st.integers(1, 2**64 - 1),
    st.lists(
        st.builds(lambda n, ro: n | (frames.READ_ONLY if ro else 0), SIZES, st.booleans()),
        min_size=1,
        max_size=20,
    ),
    st.booleans(),
)


def batch(encoder: Encoder) -> bytes:
    raw = encoder.next_batch()
    assert raw is not None
    return bytes(raw)


# ---- each record, there and back


@given(
    call_id=U64,
    target=NAMES,
    method=NAMES,
    data=st.binary(max_size=100),
    codec=CODECS,
    timeout_s=st.none() | st.floats(0, 1e300),
    flags=st.sampled_from([CallFlags(bits) for bits in range(4)]),
    context=st.binary(max_size=100),
)
def test_a_call_means_the_same_on_both_sides(
    call_id: int,
    target: str,
    method: str,
    data: bytes,
    codec: Codec,
    timeout_s: float | None,
    flags: CallFlags,
    context: bytes,
) -> None:
    encoder = Encoder(BATCH)
    encoder.call(call_id, target, method, data, codec, timeout_s, flags, context)

    payload = Payload(data, codec=codec)
    call = IncomingCall(call_id, target, method, payload, timeout_s, flags, context)
    assert Decoder().decode(batch(encoder)) == [CallsReceived([call])]


@given(
    table=TABLES,
    data=st.binary(max_size=100),
    codec=CODECS,
    timeout_s=st.none() | st.just(1.5),
    context=st.binary(max_size=10),
)
def test_a_call_in_bulk_means_the_same_on_both_sides(
    table: Table, data: bytes, codec: Codec, timeout_s: float | None, context: bytes
) -> None:
    if table.data_in_bulk:
        data = b""
    encoder = Encoder(BATCH)
    encoder.call(7, "t", "m", data, codec, timeout_s, CallFlags.STREAM, context, table)

    payload = Payload(data, codec=codec)
    call = IncomingCall(7, "t", "m", payload, timeout_s, CallFlags.STREAM, context)
    assert Decoder().decode(batch(encoder)) == [
        Opened(table.transfer_id, call, tuple(table.parts), table.data_in_bulk)
    ]


@given(kind=st.sampled_from(sorted(ANSWERS)), call_id=U64, data=st.binary(), codec=CODECS)
def test_an_outcome_means_the_same_on_both_sides(
    kind: int, call_id: int, data: bytes, codec: Codec
) -> None:
    encoder = Encoder(BATCH)
    encoder.answer(kind, call_id, data, codec)

    payload = Payload(data, codec=codec)
    expected = OutcomesReceived([(call_id, ANSWERS[kind], payload)])
    assert Decoder().decode(batch(encoder)) == [expected]


@given(call_id=U64, data=st.binary(), codec=CODECS)
def test_an_item_means_the_same_on_both_sides(call_id: int, data: bytes, codec: Codec) -> None:
    encoder = Encoder(BATCH)
    encoder.answer(frames.ITEM, call_id, data, codec)

    expected = ItemsReceived([(call_id, Payload(data, codec=codec))])
    assert Decoder().decode(batch(encoder)) == [expected]


@given(kind=st.sampled_from([*sorted(ANSWERS), frames.ITEM]), call_id=U64, table=TABLES)
def test_an_answer_in_bulk_means_the_same_on_both_sides(
    kind: int, call_id: int, table: Table
) -> None:
    data = b"" if table.data_in_bulk else b"data"
    encoder = Encoder(BATCH)
    encoder.answer(kind, call_id, data, Codec.PICKLE, table)

    answer = Answer(kind, call_id, Payload(data))
    assert Decoder().decode(batch(encoder)) == [
        Opened(table.transfer_id, answer, tuple(table.parts), table.data_in_bulk)
    ]


@given(number=U64, small=U32, nbytes=U64)
def test_records_without_payload_mean_the_same_on_both_sides(
    number: int, small: int, nbytes: int
) -> None:
    encoder = Encoder(BATCH)
    encoder.control(frames.CANCEL, number)
    encoder.control(frames.CANCEL, number, 1)
    encoder.control(frames.END, number)
    encoder.control(frames.ABORT, number)
    encoder.control(frames.CREDIT, number, small)
    encoder.grant(number, small, nbytes)

    assert Decoder().decode(batch(encoder)) == [
        CancelReceived(number),
        CancelReceived(number, is_late=True),
        StreamEnded(number),
        Aborted(number),
        Credited(number, small),
        CreditGranted(number, small, nbytes),
    ]


@given(raw=st.binary(max_size=200), reason=st.text(max_size=200))
def test_hello_and_goodbye_mean_the_same_on_both_sides(raw: bytes, reason: str) -> None:
    encoder = Encoder(BATCH)
    encoder.text(frames.HELLO, raw)
    encoder.text(frames.GOODBYE, reason.encode())

    assert Decoder().decode(batch(encoder)) == [HelloRecord(raw), Goodbye(reason)]


def test_the_layout_on_the_wire_is_the_documented_one() -> None:
    encoder = Encoder(BATCH)
    encoder.call(0x0102030405060708, "t", "mm", b"args", Codec.JSON, 2.0, CallFlags.REPEATED, b"cc")
    encoder.answer(frames.RESULT, 9, b"res")

    assert batch(encoder).hex(" ") == " ".join(
        [
            "03 00 00 00 01 00 00 00 00 00 00 00 00 00 00 00 74",  # DEFINE target 0 "t"
            "03 01 00 00 02 00 00 00 00 00 00 00 00 00 00 00 6d 6d",  # DEFINE method 0 "mm"
            "04 4b 00 00 00 00 00 00 08 07 06 05 04 03 02 01 04 00 00 00",  # CALL
            "00 00 00 00 00 00 00 40 02 00 63 63 61 72 67 73",  # timeout, context, "args"
            "07 00 00 00 03 00 00 00 09 00 00 00 00 00 00 00 72 65 73",  # RESULT "res"
        ]
    )


def test_neighbours_of_one_kind_make_one_event() -> None:
    encoder = Encoder(BATCH)
    for call_id in range(100):
        encoder.call(call_id, "t", "m", b"x")
    for call_id in range(100):
        encoder.answer(frames.RESULT, call_id, b"y")
        encoder.answer(frames.ERROR, call_id, b"z")

    records = Decoder().decode(batch(encoder))

    assert [type(record) for record in records] == [CallsReceived, OutcomesReceived]


# ---- names


def test_names_are_defined_once_and_then_numbered() -> None:
    encoder, decoder = Encoder(BATCH), Decoder()
    encoder.call(1, "actor", "method", b"")
    first = batch(encoder)
    encoder.call(2, "actor", "method", b"")
    second = batch(encoder)

    assert len(second) == frames.CALL_HEAD.size
    assert len(first) > len(second)
    for raw in (first, second):
        (record,) = decoder.decode(raw)
        assert isinstance(record, CallsReceived)
        assert (record.calls[0].target, record.calls[0].method) == ("actor", "method")


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=100))
def test_numbers_of_names_are_used_again_when_they_run_out(used: list[tuple[int, int]]) -> None:
    encoder = Encoder(BATCH, targets_max=3, methods_max=2)
    decoder = Decoder(targets_max=3, methods_max=2)
    expected = [(f"t{target}", f"m{method}") for target, method in used]
    for target, method in expected:
        encoder.call(1, target, method, b"")
    arrived: list[tuple[str, str]] = []
    if expected:
        for record in decoder.decode(batch(encoder)):
            assert isinstance(record, CallsReceived)
            arrived += [(call.target, call.method) for call in record.calls]

    assert arrived == expected
    assert encoder.names <= 5
    assert decoder.names <= 5


@pytest.mark.parametrize("name", ["", "é" * 513, "\ud800"])
def test_a_name_that_cannot_be_sent_is_refused_at_the_caller(name: str) -> None:
    encoder = Encoder(BATCH)
    with pytest.raises(LocalProtocolError, match="target"):
        encoder.call(1, name, "method", b"")
    with pytest.raises(LocalProtocolError, match="method"):
        encoder.call(1, "target", name, b"")


# ---- batches


@given(st.lists(st.integers(0, 300), max_size=60))
def test_batches_are_full_and_not_overfull(sizes: list[int]) -> None:
    encoder = Encoder(256)
    for number, size in enumerate(sizes):
        encoder.answer(frames.RESULT, number, b"x" * size)
    batches: list[bytes] = []
    while encoder.pending:
        batches.append(batch(encoder))

    decoder = Decoder()
    records = [record for raw in batches for record in decoder.decode(raw)]
    ids = [
        outcome[0]
        for record in records
        if isinstance(record, OutcomesReceived)
        for outcome in record.outcomes
    ]
    assert ids == list(range(len(sizes)))
    for raw in batches:
        assert len(raw) <= 256 or len(Decoder().decode(raw)) == 1
    for one, next_one in itertools.pairwise(batches):
        assert len(one) + len(next_one) > 256


# ---- what a decoder refuses


def head(kind: int, flags: int = 0, length: int = 0, number: int = 0, body: bytes = b"") -> bytes:
    return frames.HEAD.pack(kind, flags, 0, length, number) + body


def bulk(count: int, *parts: int, transfer_id: int = 1, where: int = 0) -> bytes:
    return frames.TABLE_HEAD.pack(transfer_id, count, where) + struct.pack(
        f"<{len(parts)}Q", *parts
    )


NAMED = head(frames.DEFINE, 0, 1, 0, b"t") + head(frames.DEFINE, 1, 1, 0, b"m")


def call(flags: int, body: bytes = b"", *, length: int = 0, target: int = 0) -> bytes:
    return NAMED + frames.CALL_HEAD.pack(frames.CALL, flags, 0, target, 1, length) + body


BULK, TIMEOUT, CONTEXT = frames.FLAG_BULK, frames.FLAG_TIMEOUT, frames.FLAG_CONTEXT


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"\x00", "unknown kind"),
        (b"\xff" * 40, "unknown kind"),
        (head(frames.CHUNK), "unknown kind"),  # a chunk is alone in its message
        (head(frames.CANCEL)[:-1], "header"),
        (head(frames.GRANT), "header"),
        (head(frames.RESULT, 0, 1), "longer than the rest"),
        (head(frames.RESULT, 0, 2**32 - 1), "longer than the rest"),
        (head(frames.ITEM, 0, 2**32 - 1), "longer than the rest"),
        (head(frames.RESULT, 0x80), "unknown flags"),
        (head(frames.ITEM, 0x01), "unknown flags"),
        (head(frames.RESULT, 2 << frames.CODEC_SHIFT), "codec"),
        (head(frames.RESULT, BULK), "header"),
        (head(frames.RESULT, BULK, body=bulk(0)), "0 parts"),
        (head(frames.RESULT, BULK, body=bulk(2, 5)), "header"),
        (head(frames.RESULT, BULK, body=bulk(2**32 - 1, 5)), "parts"),
        (head(frames.RESULT, BULK, body=bulk(1, 5, transfer_id=0)), "number 0"),
        (head(frames.RESULT, BULK, body=bulk(1, 5, where=2)), "table"),
        (
            head(frames.RESULT, BULK, 1, body=bulk(1, 5, where=1) + b"x"),
            "in its record and in bulk",
        ),
        (head(frames.DEFINE, 0, 0), "at least one byte"),
        (head(frames.DEFINE, 2, 1, 0, b"x"), "unknown sort"),
        (head(frames.DEFINE, 0, 1, frames.TARGETS_MAX, b"x"), "numbers below"),
        (head(frames.DEFINE, 1, 1, frames.METHODS_MAX, b"x"), "numbers below"),
        (head(frames.DEFINE, 0, 1, 0, b"\xff"), "UTF-8"),
        (head(frames.DEFINE, 0, 1025, 0, b"x" * 1025), "at most 1024"),
        (head(frames.DEFINE, 0, 9, 0, b"x"), "longer than the rest"),
        (head(frames.HELLO, 0, 4097, 0, b"x" * 4097), "at most 4096"),
        (head(frames.GOODBYE, 0, 1, 0, b"\xff"), "UTF-8"),
        (head(frames.GOODBYE) + head(frames.CANCEL), "follows a GOODBYE"),
        (call(0, target=1), "undefined name"),
        (call(BULK, bulk(1, 5), target=1), "undefined name"),
        (call(0, length=1), "longer than the rest"),
        (call(0, length=2**32 - 1), "longer than the rest"),
        (call(TIMEOUT), "header"),
        (call(TIMEOUT, struct.pack("<d", -1.0)), "timeout"),
        (call(TIMEOUT, struct.pack("<d", float("nan"))), "timeout"),
        (call(TIMEOUT | CONTEXT, struct.pack("<d", float("inf"))), "timeout"),
        (call(CONTEXT), "header"),
        (call(CONTEXT, struct.pack("<H", 5) + b"1234"), "longer than the rest"),
        (call(CONTEXT, struct.pack("<H", 20000) + b"1" * 20000), "context"),
        (call(4 << frames.CALL_FLAGS_SHIFT), "call flags"),
        (call(3 << frames.CODEC_SHIFT), "codec"),
    ],
)
def test_what_is_not_in_the_format_is_refused(raw: bytes, why: str) -> None:
    with pytest.raises(RemoteProtocolError, match=why):
        Decoder().decode(raw)


@given(st.binary(max_size=300))
def test_random_bytes_decode_or_are_refused(raw: bytes) -> None:
    try:
        Decoder().decode(raw)
    except RemoteProtocolError:
        pass


# ---- limits


@pytest.mark.parametrize(
    "changes",
    [
        {"payload_bytes_max": 0},
        {"announced_bytes_max": 1},
        {"inline_bytes_max": 1 << 20},
        {"chunk_bytes": 0},
        {"chunk_bytes": 1 << 20},
        {"batch_bytes": 0},
        {"transfers_max": 0},
        {"window_bytes": 4095},
        {"transfer_window_bytes": 2 << 30},
        {"calls_in_flight_max": 0},
    ],
)
def test_limits_out_of_range_are_refused(changes: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=next(iter(changes))):
        replace(Limits(), **changes)
