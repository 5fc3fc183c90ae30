"""What was sent and not acknowledged."""

from __future__ import annotations

import pytest

from fray.errors import RemoteProtocolError
from fray.runtime import frames
from fray.runtime.connection import ACKNOWLEDGE_DELIVERIES
from fray.runtime.hello import RESUME, Hello, decode_hello, encode_hello
from fray.runtime.payload import Payload
from fray.runtime.sentlog import DELIVERIES_MAX, SentLog
from tests.runtime.wired import SMALL, Wire, calls, outcomes


def resumable() -> Wire:
    return Wire(SMALL, features=(RESUME,), session="s")


def test_what_is_acknowledged_is_forgotten_in_order():
    log = SentLog()
    for number in range(5):
        log.record(number)
    assert log.acknowledge(2) == [0, 1]
    assert log.acknowledge(2) == []
    assert list(log.entries) == [2, 3, 4]
    assert log.may_resume(5)
    assert not log.may_resume(6)
    assert not log.may_resume(1)


@pytest.mark.parametrize("received", [1, 4])
def test_an_acknowledgement_of_what_was_never_sent_is_refused(received: int):
    log = SentLog()
    for number in range(3):
        log.record(number)
    log.acknowledge(2)
    with pytest.raises(RemoteProtocolError, match=f"acknowledgement of {received} deliveries"):
        log.acknowledge(received)


def test_a_peer_that_never_acknowledges_costs_bounded_memory():
    log = SentLog()
    for number in range(DELIVERIES_MAX + 1):
        log.record(number)
    log.check_size()
    log.record(0)
    assert len(log.entries) == 0
    assert not log.keeps
    assert not log.may_resume(0)


def test_nothing_is_kept_for_a_peer_that_knows_no_sessions():
    wire = Wire()
    wire.a.call(1, "actor", "add", Payload(b"x"))
    assert len(wire.a.log.entries) == 0


def test_deliveries_are_acknowledged_now_and_then_and_bulk_at_once():
    wire = resumable()
    for call_id in range(ACKNOWLEDGE_DELIVERIES - 1):
        wire.a.call(call_id, "actor", "add", Payload(b"x"))
    wire.pump()
    assert len(wire.a.log.entries) == ACKNOWLEDGE_DELIVERIES - 1
    wire.a.call(1000, "actor", "add", Payload(b"x"))
    wire.pump()
    assert len(wire.a.log.entries) == 0
    wire.a.call(1001, "actor", "add", Payload(bytes(300_000)))
    wire.pump()
    assert len(wire.a.log.entries) == 0
    wire.b.result(1001, Payload(b"done"))
    wire.pump()
    assert list(wire.b.log.entries) == [(frames.RESULT, 1001, Payload(b"done"))]


def test_the_backlog_is_what_the_other_side_lacks():
    wire = resumable()
    wire.a.call(1, "actor", "add", Payload(b"small"))
    wire.pump()
    wire.a.call(2, "actor", "add", Payload(b"lost"))
    wire.a.call(3, "actor", "add", Payload(bytes(5_000)))  # in chunks, and half of it left
    wire.a.call(4, "actor", "add", Payload(b"behind it"))
    wire.a.cancel(1)
    assert wire.a.messages(1_000)
    assert wire.a.backlog(wire.b.received) == [2, (frames.CANCEL, 1, False), 3, 4]


def test_a_connection_goes_on_where_another_one_stopped():
    wire = resumable()
    wire.a.call(1, "actor", "add", Payload(b"one"))
    wire.a.call(2, "actor", "add", Payload(b"two"))
    wire.pump()
    wire.b.result(1, Payload(b"lost"))
    before_a, before_b = wire.a, wire.b
    again = resumable()
    again.a.resume(
        received=before_a.received, acknowledged=before_b.received, calls_out=[1, 2], calls_in=[]
    )
    again.b.resume(
        received=before_b.received, acknowledged=before_a.received, calls_out=[], calls_in=[1, 2]
    )
    for delivery in before_b.backlog(before_a.received):
        assert isinstance(delivery, tuple)
        again.b.replay(delivery)
    at_a, _ = again.pump()
    assert [(o[0], bytes(o[2].data)) for o in outcomes(at_a)] == [(1, b"lost")]
    again.a.call(3, "actor", "add", Payload(b"three"))
    _, at_b = again.pump()
    assert [c.call_id for c in calls(at_b)] == [3]


@pytest.mark.parametrize("resume", [None, 0, 12345])
def test_hello_says_where_a_session_goes_on(resume: int | None):
    hello = Hello("p", "b", session="s", resume=resume)
    assert decode_hello(encode_hello(hello, SMALL.allowance))[0] == hello


@pytest.mark.parametrize("resume", [b'"1"', b"-1", b"true", b"1.5", b"[]"])
def test_hello_with_a_resume_that_is_no_number_is_refused(resume: bytes):
    raw = encode_hello(Hello("p", "b"), SMALL.allowance)
    with pytest.raises(RemoteProtocolError, match="'resume' must be a number or null"):
        decode_hello(raw.replace(b'"resume":null', b'"resume":' + resume))
