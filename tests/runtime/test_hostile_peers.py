from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from fray.errors import RemoteProtocolError
from fray.runtime import frames
from fray.runtime.connection import Connection, ConnectionState, Limits, Role
from fray.runtime.encoder import Encoder, Table
from fray.runtime.hello import encode_hello
from fray.runtime.payload import Payload

from .wired import (
    EVERYTHING,
    SMALL,
    Wire,
    calls,
    contents,
    hello,
    ids,
    joined,
    large,
    make,
    outcomes,
    receive,
)

if TYPE_CHECKING:
    from fray.runtime.events import (
        Event,
    )

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30


# ---- hostile peers


class Hostile:
    """A peer that sends what it likes, to a victim that is open."""

    def __init__(self, limits: Limits = Limits()) -> None:  # noqa: B008
        self.victim = make(Role.ACCEPTOR, limits)
        self.encoder = Encoder(MIB)
        raw = encode_hello(hello("evil"), limits.allowance)
        receive(self.victim, frames.HEAD.pack(frames.HELLO, 0, 0, len(raw), 0) + raw)
        self.victim.messages(EVERYTHING)

    def open(self, transfer_id: int, *parts: int, call_id: int | None = None) -> list[Event]:
        table = Table(transfer_id, list(parts), False)
        call_id = transfer_id if call_id is None else call_id
        self.encoder.call(call_id, "t", "m", b"", table=table)
        return self.flush()

    def flush(self) -> list[Event]:
        raw = self.encoder.next_batch()
        assert raw is not None
        return receive(self.victim, bytes(raw))

    def chunk(self, transfer_id: int, data: bytes) -> list[Event]:
        head = frames.HEAD.pack(frames.CHUNK, 0, 0, len(data), transfer_id)
        return receive(self.victim, head + data)


@pytest.mark.parametrize("nbytes", [8 * GIB + 1, 10 * GIB, 1 << 62, (1 << 63) - 1])
def test_a_payload_that_is_too_large_is_refused_when_it_is_announced(nbytes: int) -> None:
    with pytest.raises(RemoteProtocolError, match="a payload of"):
        Hostile().open(1, nbytes)
    with pytest.raises(RemoteProtocolError, match="a payload of"):
        Hostile().open(1, 5 * GIB, nbytes | frames.READ_ONLY)


def test_the_highest_bit_of_a_size_is_read_only_and_no_size() -> None:
    (call,) = calls(Hostile().open(1, 1 << 63))
    assert contents(call.payload)[1] == [(b"", True)]


def test_more_than_may_be_announced_at_once_is_refused() -> None:
    hostile = Hostile()
    hostile.open(1, 8 * GIB)
    hostile.open(2, 8 * GIB)
    with pytest.raises(RemoteProtocolError, match="announced at once"):
        hostile.open(3, 1)


def test_announcing_much_and_sending_little_costs_little() -> None:
    gc.collect()
    hostile = Hostile()
    tracemalloc.start()
    for transfer_id in range(1, 65):
        hostile.open(transfer_id, 256 * MIB - 64 * KIB, *[1] * 1000)
        hostile.chunk(transfer_id, b"x")
    used_bytes, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert hostile.victim.statistics().transfers_in == 64
    assert hostile.victim.statistics().missing_bytes > 15 * GIB
    assert resident_bytes_of_mappings(256 * MIB - 64 * KIB) < 256 * MIB
    assert used_bytes < 10 * MIB


def resident_bytes_of_mappings(nbytes: int) -> int:
    """Memory in use by the mappings of about this size."""
    resident, wanted = 0, False
    with open("/proc/self/smaps") as smaps:
        for line in smaps:
            first, _, rest = line.partition(" ")
            if not first.endswith(":"):
                begin, _, end = first.partition("-")
                wanted = int(end, 16) - int(begin, 16) >= nbytes
            elif wanted and first == "Rss:":
                resident += int(rest.split()[0]) * KIB
    return resident


def test_too_many_transfers_at_once_are_refused() -> None:
    hostile = Hostile(SMALL)
    for transfer_id in range(1, 4):
        hostile.open(transfer_id, 10)
    with pytest.raises(RemoteProtocolError, match="more than 3 transfers"):
        hostile.open(4, 10)


@pytest.mark.parametrize(
    ("act", "why"),
    [
        (lambda h: h.open(1, 10, call_id=7), "open already"),
        (lambda h: h.chunk(2, b"x"), "not open"),
        (lambda h: h.chunk(1, b""), "a chunk of 0 bytes"),
        (lambda h: h.chunk(1, b"x" * 11), "misses 10"),
        (
            lambda h: receive(h.victim, frames.HEAD.pack(frames.CHUNK, 0, 0, 5, 1) + b"1234"),
            "chunk",
        ),
        (lambda h: receive(h.victim, bytes([frames.CHUNK, 0])), "header"),
        (lambda h: receive(h.victim, frames.HEAD.pack(frames.ABORT, 0, 0, 0, 2)), "not open"),
        (lambda h: receive(h.victim, frames.HEAD.pack(frames.CREDIT, 0, 0, 1, 0)), "credit"),
        (lambda h: receive(h.victim, b""), "message of 0 bytes"),
        (lambda h: receive(h.victim, bytes(MIB + 1)), "message of 1048577 bytes"),
    ],
)
def test_transfers_that_make_no_sense_are_refused(
    act: Callable[[Hostile], object], why: str
) -> None:
    hostile = Hostile(SMALL)
    hostile.open(1, 10)
    with pytest.raises(RemoteProtocolError, match=why):
        act(hostile)


def test_bulk_beyond_the_credit_is_refused() -> None:
    limits = replace(SMALL, window_bytes=6000, transfer_window_bytes=4096)
    hostile = Hostile(limits)
    hostile.open(1, 100_000)
    with pytest.raises(RemoteProtocolError, match="beyond its credit"):
        hostile.chunk(1, bytes(4097))

    hostile = Hostile(limits)
    hostile.open(1, 100_000)
    hostile.open(2, 100_000)
    hostile.chunk(1, bytes(4096))
    hostile.chunk(2, bytes(1000))
    # What was taken counts until the credit for it was queued.
    assert hostile.victim.statistics().credit_owed_bytes == 1000
    with pytest.raises(RemoteProtocolError, match="beyond its credit"):
        hostile.chunk(2, bytes(5001))


def test_credit_for_a_transfer_beyond_its_window_is_refused() -> None:
    hostile = Hostile(SMALL)
    hostile.victim.call(1, "t", "m", large(100_000))
    hostile.victim.messages(EVERYTHING)
    hostile.encoder.control(frames.CREDIT, 1, 1 << 31)
    with pytest.raises(RemoteProtocolError, match="in a transfer"):
        hostile.flush()


def test_credit_for_a_transfer_that_is_over_is_ignored() -> None:
    wire = Wire(SMALL)
    receive(wire.a, frames.HEAD.pack(frames.CREDIT, 0, 0, 5, 17))
    assert wire.a.state is ConnectionState.OPEN


def test_a_call_with_the_number_of_one_in_flight_is_refused() -> None:
    hostile = Hostile()
    hostile.encoder.call(1, "t", "m", b"")
    hostile.flush()
    hostile.encoder.call(1, "t", "m", b"")
    with pytest.raises(RemoteProtocolError, match="another one in flight"):
        hostile.flush()


def test_more_calls_in_flight_than_allowed_are_refused() -> None:
    hostile = Hostile(SMALL)
    for call_id in range(1001):
        hostile.encoder.call(call_id, "t", "m", b"")
    with pytest.raises(RemoteProtocolError, match="more than 1000 calls"):
        hostile.flush()


def test_a_buffer_for_which_there_is_no_memory_ends_the_connection() -> None:
    def no_memory(nbytes: int) -> memoryview:
        raise MemoryError

    a, b = make(Role.DIALER), Connection(Role.ACCEPTOR, hello("b"), allocate=no_memory)
    a.start()
    receive(b, joined(a.messages(EVERYTHING)[0]))
    receive(a, joined(b.messages(EVERYTHING)[0]))
    a.call(1, "t", "m", Payload(b"", [bytes(MIB)]))
    opening, chunk = (joined(message) for message in a.messages(256 * KIB)[:2])
    receive(b, opening)
    with pytest.raises(RemoteProtocolError, match="no memory for a buffer of 1048576 bytes"):
        receive(b, chunk)


def test_a_peer_that_accepts_next_to_nothing_still_gets_everything_in_the_end() -> None:
    tiny = Limits(
        payload_bytes_max=50_000,
        announced_bytes_max=50_000,
        transfers_max=1,
        window_bytes=4096,
        transfer_window_bytes=4096,
        calls_in_flight_max=1,
    )
    wire = Wire(Limits(), tiny)
    wire.a.call(1, "t", "m", large(50_000 - 4))
    assert ids(wire.pump()[1]) == [1]
    wire.b.result(1, Payload(bytes(70_000)))
    wire.b.call(1, "t", "m", Payload(bytes(5 * MIB)))
    at_a, _ = wire.pump()
    assert len(outcomes(at_a)) == len(calls(at_a)) == 1
