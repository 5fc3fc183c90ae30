"""RFC 6455 framing: what is encoded is decoded, however it is cut; what is wrong is refused."""

from __future__ import annotations

import contextlib
import pickle
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fray.runtime.wsframes import (
    CLOSE_REASON_BYTES_MAX,
    READ_BYTES,
    CloseCode,
    FrameDecoder,
    FrameError,
    Opcode,
    binary_header,
    close_frame,
    control_frame,
    parse_close,
)

MIB = 1 << 20
ZERO_KEY = b"\0\0\0\0"


def frame(
    payload: bytes, *, opcode: int = 0x2, fin: bool = True, rsv: int = 0, key: bytes | None = None
) -> bytes:
    """An independent, naive encoder."""
    first = (0x80 if fin else 0) | rsv << 4 | opcode
    mask_bit = 0x80 if key is not None else 0
    size = len(payload)
    if size < 126:
        head = bytes([first, mask_bit | size])
    elif size < 65536:
        head = bytes([first, mask_bit | 126]) + size.to_bytes(2, "big")
    else:
        head = bytes([first, mask_bit | 127]) + size.to_bytes(8, "big")
    if key is None:
        return head + payload
    masked = bytearray(payload)
    for at, octet in enumerate(key):
        masked[at::4] = masked[at::4].translate(bytes(byte ^ octet for byte in range(256)))
    return head + key + masked


def feed(decoder: FrameDecoder, data: bytes, cuts: list[int] | None = None):
    """Gives data to a decoder, at most as much at a time as it has room and as `cuts` say."""
    frames: list[tuple[Opcode, bytes]] = []
    pending = list(cuts or [])
    while data:
        room = decoder.room()
        assert len(room) > 0
        size = min(len(room), len(data), pending.pop(0) if pending else len(data))
        room[:size] = data[:size]
        data = data[size:]
        frames += [(opcode, bytes(payload)) for opcode, payload in decoder.received(size)]
    return frames


def refusal(data: bytes, *, masked: bool = True, **options: int) -> FrameError:
    decoder = FrameDecoder(masked=masked, **options)
    with pytest.raises(FrameError) as caught:
        feed(decoder, data)
    return caught.value


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65535, 65536, READ_BYTES, MIB - 1, MIB])
def test_a_message_of_any_length_comes_out_as_it_went_in(size: int, masked: bool):
    payload = bytes(range(256)) * (size // 256) + bytes(size % 256)
    data = binary_header(size, masked=masked) + payload
    assert feed(FrameDecoder(masked=masked), data) == [(Opcode.BINARY, payload)]


@pytest.mark.parametrize("size", [0, 125, 126, 65535, 65536])
def test_headers_are_those_of_the_rfc(size: int):
    payload = bytes(size)
    assert binary_header(size, masked=False) + payload == frame(payload)
    assert binary_header(size, masked=True) + payload == frame(payload, key=ZERO_KEY)


def test_the_examples_of_rfc_6455_section_5_7_are_decoded():
    ping = bytes([0x89, 0x05, *b"Hello"])
    assert feed(FrameDecoder(masked=False), ping) == [(Opcode.PING, b"Hello")]
    pong = bytes([0x8A, 0x85, 0x37, 0xFA, 0x21, 0x3D, 0x7F, 0x9F, 0x4D, 0x51, 0x58])
    assert feed(FrameDecoder(masked=True), pong) == [(Opcode.PONG, b"Hello")]


messages = st.one_of(
    st.binary(max_size=300),
    st.integers(0, 3 * READ_BYTES).map(lambda size: (b"fray" * (size // 4 + 1))[:size]),
)


@given(
    st.lists(st.tuples(messages, st.none() | st.binary(min_size=4, max_size=4)), max_size=12),
    st.lists(st.integers(1, 4 * READ_BYTES), max_size=30),
)
def test_messages_survive_any_masking_and_any_cuts(
    sent: list[tuple[bytes, bytes | None]], cuts: list[int]
):
    data = b"".join(frame(payload, key=key or ZERO_KEY) for payload, key in sent)
    assert feed(FrameDecoder(masked=True), data, cuts) == [(Opcode.BINARY, p) for p, _ in sent]


@given(st.integers(1, 40))
def test_control_frames_between_messages_keep_their_place(step: int):
    data = b"".join(
        [
            frame(b"a" * 200),
            control_frame(Opcode.PING, b"x" * 125, masked=False),
            frame(b"b"),
            close_frame(CloseCode.NORMAL, "bye", masked=False),
        ]
    )
    got = feed(FrameDecoder(masked=False), data, [step] * len(data))
    assert [opcode for opcode, _ in got] == [2, Opcode.PING, 2, Opcode.CLOSE]
    assert parse_close(got[-1][1]) == (1000, "bye")


@given(st.binary(max_size=400), st.booleans())
def test_garbage_is_decoded_or_refused_and_never_anything_else(data: bytes, masked: bool):
    decoder = FrameDecoder(masked=masked, payload_bytes_max=1000)
    with contextlib.suppress(FrameError):
        for _, payload in feed(decoder, data):
            assert len(payload) <= len(data)


def test_many_messages_of_one_read_are_views_into_the_memory_they_were_read_into():
    decoder = FrameDecoder(masked=False)
    room = decoder.room()
    data = frame(b"one") + frame(b"two") + frame(b"three")
    room[: len(data)] = data
    views = [payload for _, payload in decoder.received(len(data))]
    assert [bytes(view) for view in views] == [b"one", b"two", b"three"]
    room[2:5] = b"ONE"
    assert bytes(views[0]) == b"ONE"


def test_the_room_within_a_long_message_ends_with_it_so_that_nothing_is_moved():
    decoder = FrameDecoder(masked=False)
    data = frame(bytes(MIB)) + frame(b"next")
    room = decoder.room()
    assert len(room) == READ_BYTES
    room[:] = data[:READ_BYTES]
    assert list(decoder.received(READ_BYTES)) == []
    assert len(decoder.room()) == MIB + 10 - READ_BYTES


@pytest.mark.parametrize("length", [MIB + 1, 10 << 30, (1 << 63) - 1, (1 << 64) - 1])
def test_a_message_that_is_too_long_is_refused_by_its_header_alone(length: int):
    refused = refusal(bytes([0x82, 0xFF]) + struct.pack(">Q", length))
    assert refused.code == CloseCode.MESSAGE_TOO_BIG
    assert str(length) in str(refused)


def test_memory_does_not_grow_whatever_is_announced():
    decoder = FrameDecoder(masked=False)
    before = len(decoder.room().obj)
    feed(decoder, bytes([0x82, 127]) + struct.pack(">Q", MIB) + bytes(1000))
    assert len(decoder.room().obj) == before
    assert before < MIB + 2 * READ_BYTES


@pytest.mark.parametrize(
    ("data", "code", "words"),
    [
        (frame(b"hi", opcode=0x1, key=ZERO_KEY), 1003, "text"),
        (frame(b"hi", fin=False, key=ZERO_KEY), 1002, "fragmented message"),
        (frame(b"hi", opcode=0x0, key=ZERO_KEY), 1002, "fragmented message"),
        (frame(b"hi", rsv=4, key=ZERO_KEY), 1002, "reserved"),
        (frame(b"hi", rsv=1, key=ZERO_KEY), 1002, "reserved"),
        (frame(b"hi", opcode=0x3, key=ZERO_KEY), 1002, "unknown"),
        (frame(b"hi", opcode=0xB, key=ZERO_KEY), 1002, "unknown"),
        (frame(b"hi", opcode=0x9, fin=False, key=ZERO_KEY), 1002, "fragmented control"),
        (frame(bytes(126), opcode=0x9, key=ZERO_KEY), 1002, "125"),
        (frame(bytes(70000), opcode=0x8, key=ZERO_KEY), 1002, "125"),
        (frame(b"hi"), 1002, "unmasked"),
        (bytes([0x82, 0xFE, 0, 125]), 1002, "too many bytes"),
        (bytes([0x82, 0xFF]) + struct.pack(">Q", 65535), 1002, "too many bytes"),
    ],
)
def test_what_a_fray_client_never_sends_is_refused(data: bytes, code: int, words: str):
    refused = refusal(data)
    assert refused.code == code
    assert words in str(refused)


def test_a_masked_frame_from_a_server_is_refused():
    assert refusal(frame(b"hi", key=b"abcd"), masked=False).code == CloseCode.PROTOCOL_ERROR


def test_messages_before_a_bad_frame_are_handed_out():
    decoder = FrameDecoder(masked=False)
    data = frame(b"good") + frame(b"bad", opcode=0x1)
    decoder.room()[: len(data)] = data
    frames = decoder.received(len(data))
    assert bytes(next(frames)[1]) == b"good"
    with pytest.raises(FrameError):
        next(frames)


def test_after_discard_the_decoder_has_all_its_room_again():
    decoder = FrameDecoder(masked=False)
    feed(decoder, frame(bytes(50_000))[:40_000])
    decoder.discard()
    assert len(decoder.room()) == READ_BYTES
    assert feed(decoder, frame(b"x")) == [(Opcode.BINARY, b"x")]


@given(st.sampled_from(list(CloseCode)), st.text(), st.booleans())
def test_a_close_says_its_reason_cut_between_characters(code: CloseCode, reason: str, masked: bool):
    data = close_frame(code, reason, masked=masked)
    ((opcode, payload),) = feed(FrameDecoder(masked=masked), data)
    assert opcode is Opcode.CLOSE
    got_code, got = parse_close(payload)
    assert got_code == code
    assert reason.encode("utf-8", "replace").decode().startswith(got)
    assert len(got.encode()) <= CLOSE_REASON_BYTES_MAX


@pytest.mark.parametrize(
    ("payload", "code"),
    [
        (b"\x03", 1002),
        (struct.pack(">H", 0), 1002),
        (struct.pack(">H", 999), 1002),
        (struct.pack(">H", 1005), 1002),
        (struct.pack(">H", 1006), 1002),
        (struct.pack(">H", 1015), 1002),
        (struct.pack(">H", 2999), 1002),
        (struct.pack(">H", 5000), 1002),
        (struct.pack(">H", 1000) + b"\xff", 1007),
    ],
)
def test_a_malformed_close_is_refused(payload: bytes, code: int):
    with pytest.raises(FrameError) as caught:
        parse_close(payload)
    assert caught.value.code == code


@pytest.mark.parametrize("code", [1000, 1001, 1011, 1012, 3000, 4999])
def test_a_close_with_a_proper_code_is_read(code: int):
    assert parse_close(struct.pack(">H", code) + "grüß dich".encode()) == (code, "grüß dich")


def test_a_close_without_a_code_is_a_normal_one():
    assert parse_close(b"") == (1000, "")


def test_a_refusal_survives_pickling():
    copy = pickle.loads(pickle.dumps(refusal(frame(b"hi"))))
    assert (copy.code, str(copy)) == (1002, "an unmasked frame from a client")
