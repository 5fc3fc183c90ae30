from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace

import pytest

from fray.errors import LocalProtocolError, PayloadError, RemoteProtocolError
from fray.runtime import frames
from fray.runtime.connection import Connection, ConnectionState, Limits, Role
from fray.runtime.conversation import CONNECTION_STATES, PARTY_TRANSITIONS, Party, Saying
from fray.runtime.events import (
    CallFlags,
    CreditGranted,
    Goodbye,
    OutcomeKind,
    PeerHello,
    StreamEnded,
)
from fray.runtime.hello import encode_hello
from fray.runtime.payload import Codec, Payload

from .wired import (
    EVERYTHING,
    SMALL,
    Wire,
    calls,
    contents,
    hello,
    ids,
    items,
    joined,
    large,
    make,
    outcomes,
    receive,
    small,
)

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30


# ---- the tables, every cell


def in_state(us: Party, them: Party, role: Role) -> Connection | None:
    """A connection of which both sides are in the given states; None if there is none."""
    connection = make(role)
    raw = encode_hello(hello("peer"), Limits().allowance)
    their_hello = frames.HEAD.pack(frames.HELLO, 0, 0, len(raw), 0) + raw
    goodbye = frames.HEAD.pack(frames.GOODBYE, 0, 0, 0, 0)
    if role is Role.DIALER and us is not Party.SILENT:
        connection.start()
    if role is Role.DIALER and us is Party.SILENT and them is Party.TALKING:
        return None  # the acceptor must not speak first
    if role is Role.ACCEPTOR and (us is Party.TALKING) and them is Party.SILENT:
        return None  # the acceptor answers only
    if role is Role.ACCEPTOR and us is Party.SILENT and them is Party.TALKING:
        return None  # it answers at once
    if them is not Party.SILENT and us is not Party.SILENT:
        if us is Party.DONE and role is Role.ACCEPTOR:
            connection.goodbye("we go")
        receive(connection, their_hello)
    if us is Party.DONE and connection.conversation.us is not Party.DONE:
        connection.goodbye("we go")
    if them is Party.DONE:
        receive(connection, goodbye)
    assert (connection.conversation.us, connection.conversation.them) == (us, them)
    return connection


CELLS = list(itertools.product(Role, Party, Party))


@pytest.mark.parametrize(("role", "us", "them"), CELLS)
def test_the_state_follows_from_both_parties(role: Role, us: Party, them: Party) -> None:
    connection = in_state(us, them, role)
    if connection is not None:
        assert connection.state is CONNECTION_STATES[us, them]


OURS: dict[str, tuple[Saying, Callable[[Connection], object]]] = {
    "start": (Saying.HELLO, lambda c: c.start()),
    "call": (Saying.RECORD, lambda c: c.call(1, "t", "m", small())),
    "call in bulk": (Saying.RECORD, lambda c: c.call(1, "t", "m", large())),
    "cancel": (Saying.RECORD, lambda c: c.cancel(1)),
    "grant": (Saying.RECORD, lambda c: c.grant(1, 1, 1)),
    "result": (Saying.RECORD, lambda c: c.result(1, small())),
    "error": (Saying.RECORD, lambda c: c.error(1, small())),
    "failure": (Saying.RECORD, lambda c: c.failure(1, large())),
    "item": (Saying.RECORD, lambda c: c.item(1, small())),
    "end": (Saying.RECORD, lambda c: c.end(1)),
    "goodbye": (Saying.GOODBYE, lambda c: c.goodbye("bye")),
}


@pytest.mark.parametrize("what", OURS)
@pytest.mark.parametrize(("role", "us", "them"), CELLS)
def test_we_can_say_what_the_tables_allow_and_nothing_else(
    role: Role, us: Party, them: Party, what: str
) -> None:
    connection = in_state(us, them, role)
    if connection is None:
        return
    saying, act = OURS[what]
    allowed = (us, saying) in PARTY_TRANSITIONS
    if saying is Saying.RECORD:
        allowed = CONNECTION_STATES[us, them] is ConnectionState.OPEN
    if saying is Saying.HELLO:
        allowed = allowed and role is Role.DIALER
    if allowed:
        act(connection)
        assert connection.has_output
        assert connection.conversation.us is PARTY_TRANSITIONS[us, saying]
    else:
        before = joined([part for message in connection.messages(EVERYTHING) for part in message])
        with pytest.raises(LocalProtocolError):
            act(connection)
        assert not connection.has_output, before
        assert (connection.conversation.us, connection.conversation.them) == (us, them)


def their_saying(saying: Saying) -> bytes:
    if saying is Saying.HELLO:
        raw = encode_hello(hello("peer"), Limits().allowance)
        return frames.HEAD.pack(frames.HELLO, 0, 0, len(raw), 0) + raw
    kind = frames.CANCEL if saying is Saying.RECORD else frames.GOODBYE
    return frames.HEAD.pack(kind, 0, 0, 0, 0)


@pytest.mark.parametrize("saying", Saying)
@pytest.mark.parametrize(("role", "us", "them"), CELLS)
def test_the_peer_can_say_what_the_tables_allow_and_nothing_else(
    role: Role, us: Party, them: Party, saying: Saying
) -> None:
    connection = in_state(us, them, role)
    if connection is None:
        return
    allowed = (them, saying) in PARTY_TRANSITIONS
    if saying is Saying.HELLO and role is Role.DIALER and us is Party.SILENT:
        allowed = False  # the dialer speaks first
    if allowed:
        receive(connection, their_saying(saying))
        assert connection.conversation.them is PARTY_TRANSITIONS[them, saying]
    else:
        with pytest.raises(RemoteProtocolError):
            receive(connection, their_saying(saying))
        assert connection.state is ConnectionState.CLOSED


# ---- handshake


def test_both_sides_learn_who_the_other_is() -> None:
    wire = Wire(shake=False)
    wire.a.start()

    at_a, at_b = wire.pump()

    assert at_b == [PeerHello(hello("dialer"))]
    assert at_a == [PeerHello(hello("acceptor"))]
    assert wire.a.conversation.peer_hello == hello("acceptor")
    assert wire.a.conversation.version == wire.b.conversation.version == frames_version()


def frames_version() -> int:
    return hello("x").protocol_max


def test_the_acceptor_may_call_in_the_same_message_as_its_hello() -> None:
    wire = Wire(shake=False)
    wire.a.start()
    wire.move(wire.a)
    wire.b.call(1, "t", "m", small())

    events = wire.move(wire.b)

    assert isinstance(events[0], PeerHello)
    assert ids(events) == [1]


def test_common_features_are_agreed_on() -> None:
    a = make(Role.DIALER, features=("shm", "zip"))
    b = make(Role.ACCEPTOR, features=("zip", "new"))
    a.start()
    (first,) = a.messages(EVERYTHING)
    receive(b, joined(first))
    (answer,) = b.messages(EVERYTHING)
    receive(a, joined(answer))

    assert a.conversation.features == b.conversation.features == ("zip",)


def test_without_a_common_version_the_acceptor_says_goodbye_with_the_reason() -> None:
    a = make(Role.DIALER, protocol_min=2, protocol_max=3, fray_version="9")
    b = make(Role.ACCEPTOR)
    a.start()
    (first,) = a.messages(EVERYTHING)

    (event,) = receive(b, joined(first))

    assert isinstance(event, Goodbye)
    assert "no common protocol version" in event.reason
    assert b.state is ConnectionState.CLOSED
    (answer,) = b.messages(EVERYTHING)
    assert receive(a, joined(answer)) == [event]
    assert a.state is ConnectionState.CLOSING
    with pytest.raises(LocalProtocolError):
        b.call(1, "t", "m", small())


def test_without_a_common_version_the_dialer_says_goodbye_too() -> None:
    a = make(Role.DIALER)
    a.start()
    raw = encode_hello(hello("b", protocol_min=2, protocol_max=2), Limits().allowance)
    follows = frames.HEAD.pack(frames.CANCEL, 0, 0, 0, 1)

    events = receive(a, frames.HEAD.pack(frames.HELLO, 0, 0, len(raw), 0) + raw + follows)

    assert [type(event) for event in events] == [Goodbye]
    assert b"no common protocol version" in joined(a.messages(EVERYTHING)[-1])


# ---- small calls and their answers


def test_a_call_arrives_as_it_was_made() -> None:
    wire = Wire()
    wire.a.call(
        7,
        "actor-1",
        "add",
        Payload(b"[1]", codec=Codec.JSON),
        timeout_s=2.5,
        flags=CallFlags.STREAM | CallFlags.REPEATED,
        context=b"chain",
    )

    (call,) = calls(wire.move(wire.a))

    assert call.call_id == 7
    assert (call.target, call.method) == ("actor-1", "add")
    assert contents(call.payload) == (b"[1]", [], Codec.JSON)
    assert (call.timeout_s, call.context) == (2.5, b"chain")
    assert call.flags is CallFlags.STREAM | CallFlags.REPEATED


def test_a_timeout_that_is_over_already_arrives_as_zero() -> None:
    wire = Wire()
    wire.a.call(1, "t", "m", small(), timeout_s=-3.0)
    (call,) = calls(wire.move(wire.a))
    assert call.timeout_s == 0.0


def test_answers_arrive_as_they_were_given() -> None:
    wire = Wire()
    for call_id in range(5):
        wire.a.call(call_id, "t", "m", small())
    wire.move(wire.a)
    wire.b.result(0, Payload(b"r", codec=Codec.JSON))
    wire.b.error(1, small("e"))
    wire.b.failure(2, small("f"))
    wire.b.item(3, small("i"))
    wire.b.end(3)
    events = wire.move(wire.b)

    assert [(i, k, contents(p)) for i, k, p in outcomes(events)] == [
        (0, OutcomeKind.RESULT, (b"r", [], Codec.JSON)),
        (1, OutcomeKind.ERROR, (b"e", [], Codec.PICKLE)),
        (2, OutcomeKind.FAILURE, (b"f", [], Codec.PICKLE)),
    ]
    assert [(i, bytes(p.data)) for i, p in items(events)] == [(3, b"i")]
    assert events[-1] == StreamEnded(3)
    assert wire.a.statistics().calls_out == 1
    assert wire.b.statistics().calls_in == 1


def test_both_sides_call_each_other_with_the_same_numbers() -> None:
    wire = Wire()
    wire.a.call(1, "t", "m", small("from a"))
    wire.b.call(1, "t", "m", small("from b"))
    at_a, at_b = wire.pump()
    assert calls(at_a)[0].payload.data == b"from b"
    assert calls(at_b)[0].payload.data == b"from a"
    wire.a.result(1, small("of b's"))
    wire.b.result(1, small("of a's"))
    at_a, at_b = wire.pump()
    assert outcomes(at_a)[0][2].data == b"of a's"
    assert outcomes(at_b)[0][2].data == b"of b's"


def test_a_thousand_small_calls_leave_in_few_messages_and_arrive_in_one_event_each() -> None:
    wire = Wire()
    for call_id in range(1000):
        wire.a.call(call_id, "t", "m", Payload(b"x" * 40))
    messages = wire.pull(wire.a)
    events = wire.deliver(wire.a)
    assert messages == len(events) == 1
    assert ids(events) == list(range(1000))


def test_an_answer_to_an_unknown_call_is_delivered_and_nothing_else() -> None:
    wire = Wire()
    wire.b.result(99, small())
    assert [i for i, _, _ in outcomes(wire.move(wire.b))] == [99]


def test_credit_of_streams_is_transported() -> None:
    wire = Wire()
    wire.a.grant(3, 64, 8 << 20)
    assert wire.move(wire.a) == [CreditGranted(3, 64, 8 << 20)]


# ---- what we may not do


def test_a_value_that_the_peer_would_not_take_is_refused_at_the_caller() -> None:
    wire = Wire(Limits(), replace(SMALL, payload_bytes_max=10_000, announced_bytes_max=10_000))
    with pytest.raises(PayloadError, match="at most 10000 bytes"):
        wire.a.call(1, "t", "m", large(10_000))
    with pytest.raises(PayloadError, match="at most 10000 bytes"):
        wire.a.result(1, Payload(bytes(KIB * 100)))
    assert not wire.a.has_output
    assert wire.a.statistics().calls_out == 0
    wire.a.call(1, "t", "m", large(9_996))
    assert ids(wire.pump()[1]) == [1]


def test_a_call_needs_a_slot_and_a_fresh_number() -> None:
    wire = Wire(replace(SMALL, calls_in_flight_max=2))
    wire.a.call(1, "t", "m", small())
    with pytest.raises(LocalProtocolError, match="id 1 is in flight"):
        wire.a.call(1, "t", "m", small())
    wire.a.call(2, "t", "m", small())
    assert wire.a.call_slots_left == 0
    with pytest.raises(LocalProtocolError, match="no slot is left"):
        wire.a.call(3, "t", "m", small())
    wire.pump()
    wire.b.result(1, small())
    wire.pump()
    assert wire.a.call_slots_left == 1
    wire.a.call(3, "t", "m", small())


@pytest.mark.parametrize(
    "act",
    [
        lambda c, p: c.call(-1, "t", "m", p),
        lambda c, p: c.call(1 << 64, "t", "m", p),
        lambda c, p: c.call(1, "", "m", p),
        lambda c, p: c.call(1, "t", "", p),
        lambda c, p: c.call(1, "t" * 1025, "m", p),
        lambda c, p: c.call(1, "t", "\ud800", p),
        lambda c, p: c.call(1, "t", "m", p, timeout_s=float("nan")),
        lambda c, p: c.call(1, "t", "m", p, timeout_s=float("inf")),
        lambda c, p: c.call(1, "t", "m", p, flags=4),
        lambda c, p: c.call(1, "t", "m", p, context=bytes(16 * KIB + 1)),
        lambda c, p: c.result(-1, p),
        lambda c, p: c.item(1 << 64, p),
        lambda c, p: c.end(-1),
        lambda c, p: c.cancel(1 << 64),
        lambda c, p: c.grant(-1, 1, 1),
        lambda c, p: c.grant(1, -1, 1),
        lambda c, p: c.grant(1, 1 << 32, 1),
        lambda c, p: c.grant(1, 1, 1 << 64),
        lambda c, p: c.call(1, "t", "m", Payload(b"", [b""] * (frames.PARTS_MAX + 1))),
    ],
)
@pytest.mark.parametrize("payload", [small(), large()], ids=["small", "bulk"])
def test_arguments_out_of_range_are_our_own_error(
    act: Callable[[Connection, Payload], None], payload: Payload
) -> None:
    wire = Wire(SMALL)
    with pytest.raises(LocalProtocolError):
        act(wire.a, payload)
    assert wire.a.statistics().calls_out == 0
    wire.a.call(5, "t", "m", small())
    assert ids(wire.pump()[1]) == [5]


def test_the_acceptor_does_not_start() -> None:
    with pytest.raises(LocalProtocolError, match="acceptor"):
        make(Role.ACCEPTOR).start()


# ---- the end


def test_goodbye_leaves_after_the_small_records_and_ends_the_bulk() -> None:
    wire = Wire(SMALL)
    wire.a.call(1, "t", "m", large(100_000))
    wire.a.call(2, "u", "m", small())
    wire.move(wire.a, 3000)
    wire.a.call(3, "u", "m", small())
    wire.a.goodbye("shutting down")
    assert wire.a.state is ConnectionState.CLOSING

    at_b = wire.move(wire.a)

    assert ids(at_b) == [3]
    assert at_b[-1] == Goodbye("shutting down")
    assert not wire.a.has_output
    assert wire.b.statistics().transfers_in == 0
    assert wire.b.state is ConnectionState.CLOSING
    wire.b.goodbye("you too")
    assert wire.move(wire.b) == [Goodbye("you too")]
    assert wire.a.state is wire.b.state is ConnectionState.CLOSED


def test_answers_on_their_way_arrive_after_our_goodbye_and_calls_do_not() -> None:
    wire = Wire(SMALL)
    wire.a.call(1, "t", "m", small())
    wire.a.call(2, "t", "m", small())
    wire.move(wire.a)
    wire.b.result(1, small())
    wire.b.item(2, small())
    wire.b.call(1, "t", "m", small())
    wire.b.call(2, "t2", "m", large(700))
    wire.b.item(2, large(700))
    wire.b.end(2)
    wire.a.goodbye("")
    wire.pull(wire.b)

    events = wire.deliver(wire.b)

    assert [i for i, _, _ in outcomes(events)] == [1]
    assert len(items(events)) == 2
    assert events[-1] == StreamEnded(2)
    assert calls(events) == []
    assert [type(e) for e in wire.move(wire.a)] == [Goodbye]
    assert wire.a.messages(EVERYTHING) == []


def test_what_was_to_be_sent_is_dropped_when_the_peer_says_goodbye() -> None:
    wire = Wire(SMALL)
    wire.a.call(1, "t", "m", large())
    wire.a.call(2, "t", "m", small())
    wire.a.call(3, "u", "m", small())
    wire.b.goodbye("no more")
    assert wire.move(wire.b) == [Goodbye("no more")]
    assert not wire.a.has_output
    assert wire.a.statistics().transfers_out == 0


def test_a_long_reason_is_cut_at_a_character() -> None:
    wire = Wire()
    wire.a.goodbye("é" * 1000 + "\ud800")
    (event,) = wire.move(wire.a)
    assert isinstance(event, Goodbye)
    assert event.reason == "é" * 512


def test_a_peer_that_breaks_the_protocol_is_told_why() -> None:
    wire = Wire(SMALL)
    wire.b.call(1, "t", "m", small())
    wire.b.call(2, "t", "m", large())
    with pytest.raises(RemoteProtocolError, match="unknown kind"):
        receive(wire.b, b"\xff")
    assert wire.b.state is ConnectionState.CLOSED
    (event,) = wire.move(wire.b)
    assert isinstance(event, Goodbye)
    assert event.reason.startswith("protocol error: unknown kind")
    with pytest.raises(LocalProtocolError):
        wire.b.call(3, "t", "m", small())


# ---- for people


def test_the_repr_tells_what_is_going_on() -> None:
    wire = Wire(SMALL)
    wire.a.call(1, "t", "m", large())
    wire.b.call(1, "t", "m", small())
    wire.move(wire.b)
    assert repr(wire.a) == (
        "<Connection dialer open calls=1 out, 1 in transfers=1+0 out, 0 in credit=4096>"
    )


def test_statistics_count_both_directions() -> None:
    wire = Wire(SMALL)
    wire.a.call(1, "t", "m", small())
    wire.a.call(2, "t", "m", large())
    wire.pump()
    a, b = wire.a.statistics(), wire.b.statistics()
    assert (a.calls_sent, b.calls_received) == (2, 2)
    assert a.bytes_sent == b.bytes_received
    assert b.bytes_sent == a.bytes_received
    assert a.messages_sent == b.messages_received
    assert a.bytes_sent + b.bytes_sent == sum(len(message) for message in wire.messages)
    assert (a.calls_out, b.calls_in, b.calls_out) == (2, 2, 0)
    assert a.names == b.names == 2
