from __future__ import annotations

from dataclasses import replace

import pytest

from fray.errors import LocalProtocolError
from fray.runtime import frames
from fray.runtime.connection import Limits
from fray.runtime.events import (
    CancelReceived,
    CreditGranted,
    StreamEnded,
)
from fray.runtime.payload import Codec, Payload
from fray.runtime.transfers_in import MAPPED_BYTES_MIN

from .wired import (
    EVERYTHING,
    SMALL,
    Wire,
    calls,
    contents,
    ids,
    is_chunk,
    items,
    large,
    outcomes,
    small,
)

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30


# ---- bulk


def test_buffers_arrive_apart_writable_or_read_only_as_they_were() -> None:
    wire = Wire(SMALL)
    sent = Payload(b"head", [b"r" * 3000, bytearray(b"w" * 700), b"", bytearray(), b"x"])
    wire.a.call(1, "t", "m", sent)

    (call,) = calls(wire.pump()[1])

    assert contents(call.payload) == contents(sent)
    writable = call.payload.buffers[1]
    assert isinstance(writable, memoryview)
    writable[0] = 0
    assert sent.buffers[1][0] == ord("w")


def test_long_data_travels_in_chunks_too() -> None:
    wire = Wire(SMALL)
    data = bytes(range(256)) * 20
    wire.a.call(1, "t", "m", Payload(data, [b"buffer"], Codec.JSON))
    wire.b.call(1, "t", "m", Payload(data))

    at_a, at_b = wire.pump()

    assert contents(calls(at_b)[0].payload) == (data, [(b"buffer", True)], Codec.JSON)
    assert contents(calls(at_a)[0].payload) == (data, [], Codec.PICKLE)


def test_buffers_of_any_shape_and_format_are_sent_as_bytes() -> None:
    wire = Wire(SMALL)
    grid = memoryview(bytearray(range(240))).cast("H").cast("B").cast("I", (6, 10))
    wire.a.call(1, "t", "m", Payload(b"", [grid]))
    (call,) = calls(wire.pump()[1])
    assert bytes(call.payload.buffers[0]) == bytes(range(240))
    with pytest.raises(LocalProtocolError, match="buffer cannot be sent"):
        wire.a.call(2, "t", "m", Payload(b"", [memoryview(bytes(10))[::2]]))
    assert wire.a.statistics().calls_out == 1


def test_only_empty_buffers_are_a_transfer_that_is_done_at_once() -> None:
    wire = Wire(SMALL)
    for call_id in range(200):
        wire.a.call(call_id, "t", "m", Payload(b"d", [b"", bytearray()]))
    arrived = calls(wire.pump()[1])
    assert len(arrived) == 200
    assert contents(arrived[0].payload) == (b"d", [(b"", True), (b"", False)], Codec.PICKLE)
    assert wire.a.statistics().transfers_out == 0


def test_many_calls_without_bytes_wait_behind_a_transfer_without_recursion() -> None:
    wire = Wire(SMALL)
    wire.a.call(0, "t", "m", large())
    for call_id in range(1, 900):
        wire.a.call(call_id, "t", "m", Payload(b"d", [b""]))
    assert ids(wire.pump()[1]) == list(range(900))


def test_large_buffers_are_mapped_and_independent() -> None:
    wire = Wire()
    sent = Payload(b"", [bytearray(b"a" * (MAPPED_BYTES_MIN + 1)), bytearray(b"b" * MIB)])
    wire.a.call(1, "t", "m", sent)
    (call,) = calls(wire.pump()[1])
    assert contents(call.payload) == contents(sent)


def test_chunks_are_views_of_the_buffers_and_not_copies() -> None:
    wire = Wire()
    buffer = bytearray(MIB)
    wire.a.call(1, "t", "m", Payload(b"", [buffer]))
    parts = [part for message in wire.a.messages(EVERYTHING) for part in message]
    views = [part for part in parts if isinstance(part, memoryview)]
    assert sum(len(view) for view in views) == MIB
    assert all(view.obj is buffer for view in views)


# ---- order


def test_calls_to_one_target_keep_their_order_around_bulk() -> None:
    wire = Wire(SMALL)
    wire.a.call(1, "t", "m", small())
    wire.a.call(2, "t", "m", large())
    wire.a.call(3, "t", "m", small())
    wire.a.call(4, "t", "m", large())
    wire.a.call(5, "t", "m", small())
    assert ids(wire.pump()[1]) == [1, 2, 3, 4, 5]


def test_a_call_to_another_target_does_not_wait_for_bulk() -> None:
    wire = Wire(SMALL)
    wire.a.call(1, "busy", "m", large(100_000))
    wire.a.call(2, "busy", "m", small())
    wire.a.call(3, "free", "m", small())
    assert ids(wire.pump()[1]) == [3, 1, 2]


def test_answers_to_one_call_keep_their_order_around_bulk() -> None:
    wire = Wire(SMALL)
    wire.a.call(1, "t", "m", small())
    wire.move(wire.a)
    wire.b.item(1, small("0"))
    wire.b.item(1, large(fill=b"1"))
    wire.b.item(1, small("2"))
    wire.b.item(1, large(fill=b"3"))
    wire.b.end(1)
    wire.b.result(2, small())

    events = wire.pump()[0]

    assert [contents(p)[0:2] for _, p in items(events)] == [
        (b"0", []),
        (b"head", [(b"1" * 2000, False)]),
        (b"2", []),
        (b"head", [(b"3" * 2000, False)]),
    ]
    assert events[-1] == StreamEnded(1)
    assert [i for i, _, _ in outcomes(events[:2])] == [2]


def test_an_error_after_items_in_bulk_comes_after_them() -> None:
    wire = Wire(SMALL)
    wire.b.item(1, large())
    wire.b.error(1, small())
    events = wire.pump()[0]
    assert items(events[:1])
    assert outcomes(events[1:])


def test_a_small_call_overtakes_bulk_that_is_under_way() -> None:
    wire = Wire()
    for call_id in range(4):
        wire.a.call(call_id, f"t{call_id}", "m", Payload(b"", [bytes(4 * MIB)]))
    wire.move(wire.a, 1 * MIB)
    wire.a.call(9, "t9", "m", small())

    assert wire.pull(wire.a, 1) == 1
    assert ids(wire.deliver(wire.a)) == [9]


def test_open_transfers_take_turns() -> None:
    wire = Wire(SMALL)
    wire.a.call(1, "t1", "m", large(3 * 512))
    wire.a.call(2, "t2", "m", large(3 * 512))
    wire.pump()
    owners = [frames.HEAD.unpack_from(m)[4] for m in wire.messages if is_chunk(m)]
    assert owners == [1, 2, 1, 2, 1, 2]


def test_pulling_stops_after_the_asked_bytes() -> None:
    wire = Wire()
    wire.a.call(1, "t", "m", Payload(b"", [bytes(8 * MIB)]))
    messages = wire.a.messages(MIB)
    nbytes = sum(len(part) for message in messages for part in message)
    assert MIB <= nbytes <= MIB + 256 * KIB + 16
    assert wire.a.messages(0) == []
    assert wire.a.has_output


# ---- cancelling


def test_cancelling_a_delivered_call_tells_the_other_side() -> None:
    wire = Wire()
    wire.a.call(1, "t", "m", small())
    wire.move(wire.a)
    assert wire.a.cancel(1) is False
    assert wire.move(wire.a) == [CancelReceived(1)]
    assert wire.a.statistics().calls_out == wire.b.statistics().calls_in == 0


def test_a_cancel_never_overtakes_its_call() -> None:
    wire = Wire()
    wire.a.call(1, "t", "m", small())
    assert wire.a.cancel(1) is False
    events = wire.move(wire.a)
    assert ids(events[:1]) == [1]
    assert events[1:] == [CancelReceived(1)]


def test_cancelling_a_call_that_is_half_sent_stops_it_on_both_sides() -> None:
    wire = Wire(SMALL)
    wire.a.call(1, "t", "m", large(100_000))
    wire.a.call(2, "t", "m", small())
    wire.move(wire.a, 2000)
    assert wire.b.statistics().transfers_in == 1

    assert wire.a.cancel(1) is True

    assert ids(wire.pump()[1]) == [2]
    assert wire.b.statistics().transfers_in == wire.a.statistics().transfers_out == 0
    assert wire.b.statistics().missing_bytes == 0
    assert wire.a.statistics().calls_out == 1


def test_cancelling_a_call_whose_transfer_has_not_begun_sends_nothing_of_it() -> None:
    wire = Wire(SMALL)
    for call_id in range(5):  # three transfers may be open
        wire.a.call(call_id, f"t{call_id}", "m", large())
    assert wire.a.statistics().transfers_waiting == 2
    assert wire.a.cancel(4) is True
    assert sorted(ids(wire.pump()[1])) == [0, 1, 2, 3]


def test_cancelling_a_call_that_waits_behind_bulk_withdraws_it() -> None:
    wire = Wire(SMALL)
    wire.a.call(1, "t", "m", large())
    wire.a.call(2, "t", "m", small())
    wire.a.grant(2, 1, 1)
    wire.a.call(3, "t", "m", small())
    assert wire.a.cancel(2) is True
    at_b = wire.pump()[1]
    assert ids(at_b) == [1, 3]
    assert not [event for event in at_b if isinstance(event, CreditGranted)]


def test_a_call_does_not_inherit_the_grants_of_a_withdrawn_one_with_its_id() -> None:
    wire = Wire(SMALL)
    wire.a.call(1, "t", "m", large())
    wire.a.call(2, "t", "m", small())
    wire.a.grant(2, 1, 1)
    wire.a.cancel(2)
    wire.a.call(2, "t", "m", small())
    at_b = wire.pump()[1]
    assert ids(at_b) == [1, 2]
    assert not [event for event in at_b if isinstance(event, CreditGranted)]


def test_a_grant_never_overtakes_its_call() -> None:
    wire = Wire(SMALL)
    wire.a.call(1, "t", "m", large())
    wire.a.call(2, "t", "m", small())
    wire.a.grant(2, 5, 6)
    wire.a.grant(1, 7, 8)
    wire.a.call(3, "t", "m", large())  # which the grants do not wait for
    at_b = wire.pump()[1]
    assert [event if isinstance(event, CreditGranted) else ids([event]) for event in at_b] == [
        [1],
        CreditGranted(1, 7, 8),
        [2],
        CreditGranted(2, 5, 6),
        [3],
    ]


def test_a_result_that_nobody_waits_for_stops_half_way() -> None:
    wire = Wire(SMALL)
    wire.a.call(1, "t", "m", small())
    wire.a.call(2, "t", "m", small())
    wire.move(wire.a)
    wire.b.item(1, large(100_000))
    wire.b.result(1, large())
    wire.b.result(2, large())
    wire.move(wire.b, 2000)

    wire.a.cancel(1)
    at_a, at_b = wire.pump()

    assert at_b == [CancelReceived(1)]
    assert [i for i, _, _ in outcomes(at_a)] == [2]
    assert items(at_a) == []
    assert wire.a.statistics().transfers_in == wire.b.statistics().transfers_out == 0
    assert sum(len(message) for message in wire.messages) < 10_000


def test_the_id_of_a_cancelled_call_can_be_used_again() -> None:
    wire = Wire()
    wire.a.call(1, "t", "m", small())
    wire.a.cancel(1)
    wire.a.call(1, "t", "m", small())
    assert ids(wire.move(wire.a)) == [1, 1]


# ---- credit


def test_a_sender_never_has_more_than_the_window_on_its_way() -> None:
    wire = Wire(replace(SMALL, transfer_window_bytes=4096, window_bytes=6000))
    for call_id in range(3):
        wire.a.call(call_id, f"t{call_id}", "m", large(50_000))
    wire.pull(wire.a)
    assert not wire.a.has_output
    assert 6000 - 512 < 6000 - wire.a.statistics().credit_bytes <= 6000
    assert sorted(ids(wire.pump()[1])) == [0, 1, 2]


def test_one_transfer_cannot_use_up_the_window_of_the_connection() -> None:
    wire = Wire(replace(SMALL, transfer_window_bytes=4096, window_bytes=100_000))
    wire.a.call(1, "t1", "m", large(50_000))
    wire.pull(wire.a)
    assert wire.a.statistics().credit_bytes == 100_000 - 4096
    wire.a.call(2, "t2", "m", large(500))
    assert ids(wire.move(wire.a)) == [2]


def test_small_calls_pass_when_credit_is_used_up() -> None:
    wire = Wire(SMALL)
    wire.a.call(1, "t1", "m", large(50_000))
    wire.pull(wire.a)
    wire.a.call(2, "t2", "m", small())
    assert wire.a.has_output
    assert ids(wire.move(wire.a)) == [2]


def test_credit_comes_back_by_itself_when_much_is_owed_and_with_other_messages_before() -> None:
    wire = Wire(SMALL)
    wire.a.call(1, "t", "m", large(900))
    wire.pull(wire.a)
    wire.deliver(wire.a)
    assert not wire.b.has_output  # not worth a message of its own
    assert wire.b.statistics().credit_owed_bytes == 900
    wire.b.result(1, small())
    wire.pump()
    assert wire.a.statistics().credit_bytes == 4096

    wire.a.call(2, "t", "m", large(1500))
    wire.move(wire.a)
    assert wire.b.has_output  # more than a quarter
    wire.pump()
    assert wire.a.statistics().credit_bytes == 4096


def test_transfers_beyond_what_the_peer_takes_at_once_wait_their_turn() -> None:
    wire = Wire(Limits(inline_bytes_max=64), SMALL)
    for call_id in range(50):
        wire.a.call(call_id, f"t{call_id}", "m", large(5000))
    assert wire.a.statistics().transfers_out == 3
    assert sorted(ids(wire.pump()[1])) == list(range(50))


def test_transfers_wait_until_what_was_announced_has_arrived() -> None:
    wire = Wire(replace(SMALL, payload_bytes_max=10_000, announced_bytes_max=15_000))
    wire.a.call(1, "t1", "m", large(9_000))
    wire.a.call(2, "t2", "m", large(9_000))
    wire.a.call(3, "t3", "m", large(100))  # first come, first served
    assert wire.a.statistics().transfers_out == 1
    assert sorted(ids(wire.pump()[1])) == [1, 2, 3]
