"""Two connections under random use, and one connection under random abuse."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fray.errors import RemoteProtocolError
from fray.runtime import frames
from fray.runtime.connection import Connection, ConnectionState, Limits, Role
from fray.runtime.events import (
    CallsReceived,
    CancelReceived,
    CreditGranted,
    Event,
    ItemsReceived,
    OutcomesReceived,
    StreamEnded,
)
from fray.runtime.payload import Codec, Payload

from .wired import EVERYTHING, SMALL, Wire, contents, hello, joined, receive

TARGETS = ("left", "right", "middle")
TERMINAL = ("RESULT", "ERROR", "FAILURE", "end")

LIMITS = st.sampled_from(
    [
        SMALL,
        replace(SMALL, transfers_max=1, batch_bytes=1),
        replace(SMALL, window_bytes=5000, payload_bytes_max=9000, announced_bytes_max=9000),
        replace(SMALL, inline_bytes_max=0, chunk_bytes=1000),
        replace(SMALL, transfer_window_bytes=1 << 20, chunk_bytes=100_000),
        Limits(),
    ]
)


@st.composite
def payloads(draw: st.DrawFn) -> Payload:
    content = random.Random(draw(st.integers(0, 1000)))
    sizes = draw(st.lists(st.tuples(st.integers(0, 2500), st.booleans()), max_size=3))
    buffers = [
        content.randbytes(n) if read_only else bytearray(content.randbytes(n))
        for n, read_only in sizes
    ]
    data = content.randbytes(draw(st.integers(0, 150)))
    return Payload(data, buffers, draw(st.sampled_from(Codec)))


SIDES = st.integers(0, 1)
PICK = st.integers(0, 1000)  # which of the possible ones, modulo their number
OPERATIONS = st.one_of(
    st.tuples(st.just("call"), SIDES, st.sampled_from(TARGETS), payloads()),
    st.tuples(st.sampled_from(["item", "RESULT", "ERROR", "FAILURE"]), SIDES, PICK, payloads()),
    st.tuples(st.sampled_from(["end", "cancel", "grant"]), SIDES, PICK, st.none()),
    st.tuples(st.just("pull"), SIDES, st.integers(1, 6000), st.none()),
    st.tuples(st.just("deliver"), SIDES, st.integers(1, 5), st.none()),
)


@dataclass
class Side:
    """What one side did, and what it saw, in the order in which it did."""

    connection: Connection
    made: dict[str, list[tuple[int, object]]] = field(default_factory=lambda: defaultdict(list))
    got: dict[str, list[tuple[int, object]]] = field(default_factory=lambda: defaultdict(list))
    said: dict[int, list[object]] = field(default_factory=lambda: defaultdict(list))
    heard: dict[int, list[object]] = field(default_factory=lambda: defaultdict(list))
    grants: dict[int, list[object]] = field(default_factory=lambda: defaultdict(list))
    granted: dict[int, list[object]] = field(default_factory=lambda: defaultdict(list))
    waiting: list[int] = field(default_factory=list[int])
    """Calls of ours without outcome."""
    serving: list[int] = field(default_factory=list[int])
    """Calls of the peer's that were delivered and have no outcome."""
    delivered: list[int] = field(default_factory=list[int])
    cancelled: list[int] = field(default_factory=list[int])
    withdrawn: list[int] = field(default_factory=list[int])
    told_cancelled: list[int] = field(default_factory=list[int])

    def see(self, events: Iterable[Event]) -> None:
        for event in events:
            if isinstance(event, CallsReceived):
                for call in event.calls:
                    assert call.method == f"method-{call.call_id % 3}"
                    assert call.timeout_s == (1.5 if call.call_id % 2 else None)
                    assert call.context == (b"context" if call.call_id % 5 == 0 else b"")
                    self.got[call.target].append((call.call_id, contents(call.payload)))
                    self.delivered.append(call.call_id)
                    self.serving.append(call.call_id)
            elif isinstance(event, OutcomesReceived):
                for call_id, kind, payload in event.outcomes:
                    self.hear(call_id, (kind.name, contents(payload)), is_last=True)
            elif isinstance(event, ItemsReceived):
                for call_id, payload in event.items:
                    self.hear(call_id, ("item", contents(payload)), is_last=False)
            elif isinstance(event, StreamEnded):
                self.hear(event.call_id, ("end", None), is_last=True)
            elif isinstance(event, CancelReceived):
                assert event.call_id in self.delivered
                self.told_cancelled.append(event.call_id)
            else:
                assert isinstance(event, CreditGranted), event
                assert event.call_id in self.delivered
                self.granted[event.call_id].append((event.items, event.nbytes))

    def hear(self, call_id: int, answer: object, *, is_last: bool) -> None:
        self.heard[call_id].append(answer)
        if is_last and call_id in self.waiting:
            self.waiting.remove(call_id)


class World:
    """Two sides, and what must be true of them."""

    def __init__(self, limits_a: Limits, limits_b: Limits) -> None:
        self.wire = Wire(limits_a, limits_b)
        self.sides = [Side(self.wire.a), Side(self.wire.b)]
        self.windows = [limits_b.window_bytes, limits_a.window_bytes]
        self.next_id = 1

    def do(self, operation: str, number: int, argument: object, payload: Payload | None) -> None:
        side, other = self.sides[number], self.sides[1 - number]
        if operation == "pull":
            assert isinstance(argument, int)
            self.wire.pull(side.connection, argument)
        elif operation == "deliver":
            assert isinstance(argument, int)
            other.see(self.wire.deliver(side.connection, argument))
        elif operation == "call":
            assert isinstance(argument, str)
            assert payload is not None
            self.call(side, argument, payload)
        elif operation in ("cancel", "grant"):
            if side.waiting:
                assert isinstance(argument, int)
                self.to_callee(side, operation, side.waiting[argument % len(side.waiting)])
        elif side.serving:
            assert isinstance(argument, int)
            self.answer(side, operation, side.serving[argument % len(side.serving)], payload)

    def call(self, side: Side, target: str, payload: Payload) -> None:
        call_id, self.next_id = self.next_id, self.next_id + 1
        side.connection.call(
            call_id,
            target,
            f"method-{call_id % 3}",
            payload,
            timeout_s=1.5 if call_id % 2 else None,
            context=b"context" if call_id % 5 == 0 else b"",
        )
        side.made[target].append((call_id, contents(payload)))
        side.waiting.append(call_id)

    def to_callee(self, side: Side, operation: str, call_id: int) -> None:
        if operation == "grant":
            grant = (call_id, len(side.grants[call_id]))
            side.connection.grant(call_id, *grant)
            side.grants[call_id].append(grant)
            return
        side.waiting.remove(call_id)
        if side.connection.cancel(call_id):
            side.withdrawn.append(call_id)
        else:
            side.cancelled.append(call_id)

    def answer(self, side: Side, operation: str, call_id: int, payload: Payload | None) -> None:
        if operation in TERMINAL:
            side.serving.remove(call_id)
        if payload is None:
            side.connection.end(call_id)
            side.said[call_id].append(("end", None))
        else:
            getattr(side.connection, operation.lower())(call_id, payload)
            side.said[call_id].append((operation, contents(payload)))

    def check_windows(self) -> None:
        for side, window in zip(self.sides, self.windows, strict=True):
            assert 0 <= side.connection.statistics().credit_bytes <= window

    def finish(self) -> None:
        a, b = self.sides
        while any(self.wire.pull(side.connection) for side in self.sides) or self.wire.on_way:
            b.see(self.wire.deliver(a.connection))
            a.see(self.wire.deliver(b.connection))
        for caller, callee, window in ((a, b, self.windows[0]), (b, a, self.windows[1])):
            self.check_calls(caller, callee)
            self.check_answers(caller, callee)
            ours, theirs = caller.connection.statistics(), callee.connection.statistics()
            assert ours.transfers_out == ours.transfers_waiting == ours.lanes == 0
            assert theirs.transfers_in == theirs.missing_bytes == 0
            assert ours.credit_bytes + theirs.credit_owed_bytes == window
            assert ours.calls_out == len(caller.waiting)
            assert ours.bytes_sent == theirs.bytes_received

    @staticmethod
    def check_calls(caller: Side, callee: Side) -> None:
        for target in TARGETS:
            expected = [call for call in caller.made[target] if call[0] not in caller.withdrawn]
            assert callee.got[target] == expected
        assert callee.told_cancelled == caller.cancelled
        for call_id, grants in caller.grants.items():
            assert callee.granted[call_id] == ([] if call_id in caller.withdrawn else grants)

    @staticmethod
    def check_answers(caller: Side, callee: Side) -> None:
        for call_id, said in callee.said.items():
            heard = caller.heard[call_id]
            if call_id in caller.cancelled:  # some are left out, and none changes its place
                rest = iter(said)
                assert all(answer in rest for answer in heard)
            else:
                assert heard == said


# Long lists find what depends on order, short ones are what they shrink to.
USES = st.lists(OPERATIONS, min_size=40, max_size=100) | st.lists(OPERATIONS, max_size=40)


@settings(max_examples=100)
@given(LIMITS, LIMITS, USES)
def test_everything_arrives_exactly_in_order_and_leaves_nothing_behind(
    limits_a: Limits,
    limits_b: Limits,
    operations: list[tuple[str, int, object, Payload | None]],
) -> None:
    world = World(limits_a, limits_b)
    for operation in operations:
        world.do(*operation)
        world.check_windows()
    world.finish()


# ---- abuse


def listener(limits: Limits = SMALL) -> tuple[Connection, list[int]]:
    """A connection that has heard HELLO, and what it allocates."""
    allocated: list[int] = []

    def allocate(nbytes: int) -> memoryview:
        assert 0 < nbytes <= limits.payload_bytes_max
        allocated.append(nbytes)
        return memoryview(bytearray(nbytes))

    connection = Connection(Role.ACCEPTOR, hello("b"), limits, allocate=allocate)
    return connection, allocated


def greeting() -> bytes:
    a = Connection(Role.DIALER, hello("a"), SMALL)
    a.start()
    return joined(a.messages(EVERYTHING)[0])


GREETING = greeting()


def abuse(messages: list[bytes]) -> None:
    """Sends messages until one is refused; nothing but a refusal may happen."""
    connection, allocated = listener()
    for message in messages:
        try:
            receive(connection, message)
        except RemoteProtocolError:
            assert connection.state is ConnectionState.CLOSED
            break
        statistics = connection.statistics()
        assert statistics.missing_bytes <= SMALL.announced_bytes_max
        assert statistics.transfers_in <= SMALL.transfers_max
        assert statistics.calls_in <= SMALL.calls_in_flight_max
        connection.messages(EVERYTHING)
    # What is allocated begins to be filled: at most one piece beyond what arrived, per transfer.
    received_bytes = sum(len(message) for message in messages)
    assert sum(sorted(allocated)[: -SMALL.transfers_max]) <= received_bytes


@given(st.lists(st.binary(max_size=200), max_size=5), st.booleans())
def test_random_messages_are_refused_or_understood(messages: list[bytes], greets: bool) -> None:
    abuse([GREETING, *messages] if greets else messages)


HEADERS = st.builds(
    lambda kind, flags, small, length, number, rest: (
        frames.HEAD.pack(kind, flags, small, length, number) + rest
    ),
    st.integers(1, 14),
    st.sampled_from([0, 1, 2, 4, 8, 12, 255]),
    st.sampled_from([0, 1]),
    st.sampled_from([0, 1, 8, 100, 2**31, 2**32 - 1]),
    st.sampled_from([0, 1, 2, 2**63, 2**64 - 1]),
    st.binary(max_size=40) | st.just(bytes(40)),
)


@given(st.lists(st.lists(HEADERS, max_size=4).map(b"".join), max_size=5))
def test_plausible_headers_are_refused_or_understood(messages: list[bytes]) -> None:
    abuse([GREETING, *messages])


def conversation(operations: list[tuple[str, int, object, Payload | None]]) -> list[bytes]:
    """What the dialer says in a conversation."""
    world = World(SMALL, SMALL)
    messages: list[bytes] = []
    for operation in operations:
        world.do(*operation)
        messages += [joined(message) for message in world.wire.a.messages(EVERYTHING)]
    return [GREETING, *messages]


MUTATIONS = st.one_of(
    st.tuples(st.just("set"), PICK, PICK, st.integers(0, 255)),
    st.tuples(st.just("cut"), PICK, PICK, st.just(0)),
    st.tuples(st.just("insert"), PICK, PICK, st.integers(0, 255)),
    st.tuples(st.just("repeat"), PICK, PICK, st.just(0)),
    st.tuples(st.just("drop"), PICK, PICK, st.just(0)),
    st.tuples(st.just("number"), PICK, PICK, st.sampled_from([0, 10 << 30, 1 << 63, 2**64 - 1])),
)


def mutate(messages: list[bytes], what: str, which: int, where: int, value: int) -> None:
    which %= len(messages)
    message = messages[which]
    where %= max(len(message), 1)
    if what == "set":
        messages[which] = message[:where] + bytes([value]) + message[where + 1 :]
    elif what == "cut":
        messages[which] = message[:where]
    elif what == "insert":
        messages[which] = message[:where] + bytes([value]) + message[where:]
    elif what == "number":  # overwrites a length, a size or an id
        messages[which] = message[:where] + value.to_bytes(8, "little") + message[where + 8 :]
    elif what == "repeat":
        messages.insert(which, message)
    elif len(messages) > 1:
        del messages[which]


@settings(
    max_examples=300, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much]
)
@given(
    st.lists(OPERATIONS.filter(lambda o: o[0] in ("call", "cancel", "grant")), max_size=10),
    st.lists(MUTATIONS, min_size=1, max_size=5),
)
def test_mutilated_messages_are_refused_or_understood(
    operations: list[tuple[str, int, object, Payload | None]],
    mutations: list[tuple[str, int, int, int]],
) -> None:
    messages = conversation([(name, 0, *rest) for name, _, *rest in operations])
    for mutation in mutations:
        mutate(messages, *mutation)
    abuse(messages)
