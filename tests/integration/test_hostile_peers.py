"""Peers that break the rules: each is refused with a reason, costs nothing, and disturbs nobody.

Everything here goes over raw sockets, byte by byte where that matters. Beside each attack a healthy
link stays open, and is used afterwards.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import logging
import struct
import sys
import textwrap
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
import uvloop

from fray.errors import RemoteProtocolError
from fray.runtime.auth import TokenAuthenticator
from fray.runtime.clock import SystemClock
from fray.runtime.transport import MESSAGE_BYTES_MAX
from fray.runtime.websocket import WebSocketTransport
from fray.runtime.wsgate import HANDSHAKE_BYTES_MAX
from fray.runtime.wslink import HIGH_WATER_BYTES, WebSocketLink
from tests.runtime.transport_conformance import Echo, Hall, Pair, Recorder, dial

ROOT = Path(__file__).resolve().parents[2]
TOKEN = "open-sesame"
STRANGERS_MAX = 100
MIB = 1 << 20
ZERO_KEY = b"\0\0\0\0"

pytestmark = [
    pytest.mark.integration,
    pytest.mark.filterwarnings("ignore:Overriding the .event_loop_policy."),
]


@pytest.fixture(params=["asyncio", "uvloop"])
def event_loop_policy(request: pytest.FixtureRequest) -> asyncio.AbstractEventLoopPolicy:
    if request.param == "uvloop":
        return uvloop.EventLoopPolicy()
    return asyncio.DefaultEventLoopPolicy()


def http(*headers: str, line: str = "GET /fray HTTP/1.1", token: str | None = TOKEN) -> bytes:
    lines = [line, "Host: x", *headers]
    if token is not None:
        lines.append(f"Authorization: Bearer {token}")
    return "\r\n".join([*lines, "", ""]).encode()


UPGRADE = (
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    f"Sec-WebSocket-Key: {base64.b64encode(bytes(16)).decode()}",
    "Sec-WebSocket-Protocol: fray.1",
)


class Raw:
    """A peer that sends whatever it likes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def connect(cls, address: str) -> Raw:
        host, _, port = address.rpartition(":")
        return cls(*await asyncio.open_connection(host, int(port)))

    async def send(self, data: bytes) -> None:
        """Sends, or finds out that nobody listens any more."""
        self._writer.write(data)
        await self._writer.drain()

    async def everything(self) -> bytes:
        """What comes until the connection is closed."""
        parts: list[bytes] = []
        async with asyncio.timeout(20):
            with contextlib.suppress(ConnectionError):
                while part := await self._reader.read(65536):
                    parts.append(part)
        return b"".join(parts)

    async def exactly(self, size: int) -> bytes:
        async with asyncio.timeout(20):
            return await self._reader.readexactly(size)

    async def close_frame(self) -> tuple[int, str]:
        """The code and reason of a close frame, which must come next."""
        first, size = await self.exactly(2)
        assert first == 0x88
        payload = await self.exactly(size)
        return struct.unpack_from(">H", payload)[0], payload[2:].decode()

    async def upgrade(self) -> None:
        await self.send(http(*UPGRADE))
        async with asyncio.timeout(20):
            head = await self._reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 ")

    def hang_up(self) -> None:
        self._writer.transport.abort()

    async def gone(self) -> None:
        self._writer.close()
        with contextlib.suppress(ConnectionError):
            await self._writer.wait_closed()


@dataclass
class Siege:
    """A door, a healthy link through it, and what the door has logged."""

    transport: WebSocketTransport
    hall: Hall
    address: str
    healthy: Recorder
    caplog: pytest.LogCaptureFixture
    raws: list[Raw]

    async def attacker(self) -> Raw:
        raw = await Raw.connect(self.address)
        self.raws.append(raw)
        return raw

    async def link(self) -> tuple[Raw, Recorder]:
        """An attacker who has got a token, and the recorder of its link."""
        count = len(self.hall.accepted)
        raw = await self.attacker()
        await raw.upgrade()
        return raw, await self.hall.arrival(count + 1)

    @property
    def log(self) -> str:
        return "\n".join(each.getMessage() for each in self.caplog.records)

    async def all_is_well(self) -> None:
        before = len(self.healthy.messages)
        self.healthy.link.send([b"are you there?"])
        await self.healthy.until(lambda: len(self.healthy.messages) > before)
        newcomer = await dial(self.transport, self.address)
        newcomer.link.close()
        await newcomer.until_lost()


@pytest.fixture(params=[10.0])
async def siege(
    request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture
) -> AsyncIterator[Siege]:
    caplog.set_level(logging.WARNING)
    transport = WebSocketTransport(
        SystemClock(),
        authenticator=TokenAuthenticator(TOKEN),
        token=TOKEN,
        handshake_timeout_s=request.param,
        strangers_max=STRANGERS_MAX,
    )
    hall = Hall(Echo)
    address = await hall.open(Pair(transport, transport, "127.0.0.1"))
    siege = Siege(transport, hall, address, await dial(transport, address), caplog, [])
    await hall.arrival()
    yield siege
    await siege.all_is_well()
    assert TOKEN not in siege.log
    await transport.close()
    for raw in siege.raws:
        await raw.gone()
    assert len(asyncio.all_tasks()) == 1, "a task is left behind"


def frame(payload: bytes, first: int = 0x82, *, masked: bool = True) -> bytes:
    mask = 0x80 if masked else 0
    size = len(payload)
    if size < 126:
        head = bytes([first, mask | size])
    elif size < 65536:
        head = bytes([first, mask | 126]) + struct.pack(">H", size)
    else:
        head = bytes([first, mask | 127]) + struct.pack(">Q", size)
    return head + (ZERO_KEY if masked else b"") + payload


# --- before the token is shown


@pytest.mark.parametrize(
    ("sent", "status", "logged"),
    [
        (bytes(range(256)) * 4, 400, "not HTTP"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500), 400, "not HTTP"),
        (b"SSH-2.0-OpenSSH_9.6\r\n", 400, "not HTTP"),
        (http(f"X-Long: {'x' * 9000}"), 400, "not HTTP"),
        (http(*(f"X-{number}: y" for number in range(500))), 400, "refused"),
        (http(*UPGRADE, token=None), 401, "has no token"),
        (http(*UPGRADE, token="guess"), 401, "has a wrong token"),
        (http(*UPGRADE, "Origin: http://evil.example"), 403, "web page"),
        (http(line="GET /admin HTTP/1.1", token=None), 401, "has no token"),
        (http(line="GET /admin HTTP/1.1"), 404, "GET '/admin', which is not there"),
        (http("Content-Length: 99999999999", line="POST /fray HTTP/1.1"), 404, "POST '/fray'"),
    ],
)
async def test_a_bad_request_is_answered_once_and_logged(
    siege: Siege, sent: bytes, status: int, logged: str
):
    raw = await siege.attacker()
    with contextlib.suppress(ConnectionError):
        await raw.send(sent)
    answer = await raw.everything()
    assert answer.startswith(b"HTTP/1.1 %d " % status) or answer.startswith(
        b"HTTP/1.0 %d " % status
    )
    assert logged in siege.log
    assert "Traceback" not in siege.caplog.text


# Not shorter: on a busy machine those who mean well need some time, too.
impatient = pytest.mark.parametrize("siege", [0.5], indirect=True, ids=["impatient"])


@impatient
@pytest.mark.parametrize("sent", [b"", b"G", http(*UPGRADE)[:-2], http(token=None)[:-2]])
async def test_a_peer_that_does_not_finish_its_request_is_cut_off(siege: Siege, sent: bytes):
    raw = await siege.attacker()
    await raw.send(sent)
    assert await raw.everything() == b""
    assert "no complete request within 0.5 s" in siege.log


@impatient
async def test_a_peer_that_sends_its_request_one_byte_at_a_time_is_cut_off(siege: Siege):
    raw = await siege.attacker()

    async def drip() -> None:
        with contextlib.suppress(ConnectionError):
            for byte in http(*UPGRADE, "X: " + "y" * 1000):
                await raw.send(bytes([byte]))
                await asyncio.sleep(0.01)  # the attack itself, not a wait for something

    async with asyncio.TaskGroup() as group:
        dripping = group.create_task(drip())
        assert await raw.everything() == b""
        dripping.cancel()
    assert "no complete request within 0.5 s" in siege.log


async def test_headers_without_end_are_cut_off_at_a_few_kilobytes(siege: Siege):
    raw = await siege.attacker()
    line = b"X-Filler: " + b"y" * 1000 + b"\r\n"
    with contextlib.suppress(ConnectionError):
        await raw.send(b"GET /fray HTTP/1.1\r\n")
        for _ in range(1000):
            await raw.send(line)
    await raw.everything()
    assert f"sent more than {HANDSHAKE_BYTES_MAX} bytes without being let in" in siege.log


async def test_a_body_without_end_is_not_read(siege: Siege):
    raw = await siege.attacker()
    head = http("Content-Length: 10737418240", line="POST /fray HTTP/1.1", token=None)
    with contextlib.suppress(ConnectionError):
        await raw.send(head)
        for _ in range(1000):
            await raw.send(bytes(65536))
        raise AssertionError("64 MB of a body were taken")
    assert "has no token (401)" in siege.log or "without being let in" in siege.log


async def test_strangers_cannot_keep_out_those_who_have_a_token(siege: Siege):
    raws = [await siege.attacker() for _ in range(STRANGERS_MAX + 20)]
    newcomer = await dial(siege.transport, siege.address)
    newcomer.link.send([b"x"])
    await newcomer.until(lambda: newcomer.messages)
    for raw in raws[:20]:
        assert await raw.everything() == b""
    assert f"{STRANGERS_MAX} newer connections" in siege.log


async def test_a_door_that_closes_throws_strangers_out(siege: Siege):
    hall = Hall()
    raw = await Raw.connect(await hall.open(Pair(siege.transport, siege.transport, "127.0.0.1")))
    siege.raws.append(raw)
    await raw.send(b"GET /fr")
    await hall.listener.close()
    assert await raw.everything() == b""


# --- after it


@pytest.mark.parametrize(
    ("sent", "code", "reason"),
    [
        (b"\x82\xff" + struct.pack(">Q", 10 << 30) + ZERO_KEY, 1009, "10737418240 bytes"),
        (b"\x82\xff" + struct.pack(">Q", MESSAGE_BYTES_MAX + 1) + ZERO_KEY, 1009, "bytes"),
        (b"\x82\xff" + b"\xff" * 8 + ZERO_KEY, 1009, "bytes"),
        (frame(b"hello", 0x81), 1003, "text"),
        (frame(b"hello", 0x02), 1002, "fragmented"),
        (frame(b"hello", 0x80), 1002, "fragmented"),
        (frame(b"hello", 0xC2), 1002, "reserved"),
        (frame(b"hello", 0x83), 1002, "unknown"),
        (frame(bytes(200), 0x89), 1002, "control"),
        (frame(b"hello", masked=False), 1002, "unmasked"),
        (frame(b"\x03", 0x88), 1002, "half a code"),
        (frame(b"\x03\xed", 0x88), 1002, "1005"),
        (b"\x00" * 64, 1002, "fragmented"),
    ],
)
async def test_a_broken_frame_ends_the_link_with_its_reason(
    siege: Siege, sent: bytes, code: int, reason: str
):
    raw, recorder = await siege.link()
    await raw.send(frame(b"a proper message") + sent)
    await raw.exactly(2 + len(b"a proper message"))
    got_code, got_reason = await raw.close_frame()
    await raw.gone()
    assert got_code == code
    assert reason in got_reason
    exc = await recorder.until_lost()
    assert isinstance(exc, RemoteProtocolError)
    assert reason in str(exc)
    assert f"{recorder.link.remote} broke the websocket protocol" in siege.log
    assert recorder.messages == [b"a proper message"]


async def test_a_peer_that_goes_on_after_its_refusal_is_cut_off(
    siege: Siege, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("fray.runtime.wslink.REFUSAL_LINGER_S", 0.1)
    raw, recorder = await siege.link()
    with pytest.raises(ConnectionError):
        while True:
            await raw.send(b"\x82\xff" + struct.pack(">Q", 10 << 30) + bytes(65536))
    assert isinstance(await recorder.until_lost(), RemoteProtocolError)
    assert recorder.messages == []


async def test_pings_are_answered_and_pongs_ignored(siege: Siege):
    raw, recorder = await siege.link()
    await raw.send(frame(b"unasked", 0x8A) + frame(b"are you there", 0x89))
    assert await raw.exactly(15) == b"\x8a\x0dare you there"
    assert recorder.messages == []


async def test_a_peer_that_pings_and_does_not_read_fills_no_memory(siege: Siege):
    raw, recorder = await siege.link()
    assert isinstance(recorder.link, WebSocketLink)
    pings = frame(bytes(125), 0x89) * 1000
    most = 0
    for _ in range(150):
        await raw.send(pings)
        most = max(most, recorder.link._transport.get_write_buffer_size())
    await raw.send(frame(b"the last word"))
    await recorder.until(lambda: recorder.messages)
    most = max(most, recorder.link._transport.get_write_buffer_size())
    assert HIGH_WATER_BYTES < most < HIGH_WATER_BYTES + 1024
    raw.hang_up()
    await recorder.until_lost()


async def test_a_peer_that_closes_but_does_not_read_is_cut_off(
    siege: Siege, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("fray.runtime.wslink.CLOSE_TIMEOUT_S", 0.05)
    raw, recorder = await siege.link()
    while recorder.link.send([bytes(MIB)]):
        pass
    await raw.send(frame(struct.pack(">H", 1000), 0x88))
    exc = await recorder.until_lost()
    assert isinstance(exc, TimeoutError)
    assert "closes the link but does not read" in str(exc)


async def test_a_masking_key_that_is_not_zero_is_undone(siege: Siege):
    raw, recorder = await siege.link()
    payload = bytes(range(256)) * 1000
    key = b"\x12\x34\x56\x78"
    masked = bytes(byte ^ key[at % 4] for at, byte in enumerate(payload))
    await raw.send(b"\x82\xff" + struct.pack(">Q", len(payload)) + key + masked)
    await recorder.until(lambda: recorder.messages)
    assert recorder.messages == [payload]


async def test_a_peer_that_vanishes_within_a_message_is_noticed(siege: Siege):
    raw, recorder = await siege.link()
    await raw.send(frame(bytes(MIB))[:500_000])
    raw.hang_up()
    assert isinstance(await recorder.until_lost(), ConnectionResetError)
    assert recorder.messages == []


async def test_a_peer_that_says_why_it_leaves_is_quoted(siege: Siege):
    raw, recorder = await siege.link()
    await raw.send(frame(struct.pack(">H", 1011) + b"my own bug", 0x88))
    assert (await raw.close_frame())[0] == 1000
    await raw.gone()
    exc = await recorder.until_lost()
    assert isinstance(exc, ConnectionAbortedError)
    assert "1011 'my own bug'" in str(exc)


async def test_an_orderly_close_is_answered_before_the_socket_is_closed(siege: Siege):
    raw, recorder = await siege.link()
    await raw.send(frame(struct.pack(">H", 1001) + b"going away", 0x88))
    assert await raw.close_frame() == (1000, "")
    assert await raw.everything() == b""
    assert await recorder.until_lost() is None


# --- memory

VICTIM = """
    import asyncio, logging, sys, uvloop
    from fray.runtime.auth import TokenAuthenticator
    from fray.runtime.clock import SystemClock
    from fray.runtime.websocket import WebSocketTransport

    logging.basicConfig()

    class Echo:
        def __init__(self, link):
            self.link = link
        def message_received(self, data): self.link.send([bytes(data)])
        def writable(self): pass
        def link_lost(self, exc): pass

    async def main():
        end = WebSocketTransport(
            SystemClock(), authenticator=TokenAuthenticator("open-sesame"), token="open-sesame"
        )
        print((await end.listen("127.0.0.1", 0, Echo)).address, flush=True)
        await asyncio.Event().wait()

    {"asyncio": asyncio, "uvloop": uvloop}[sys.argv[1]].run(main())
"""


async def attack(address: str) -> None:
    """Everything that could make a victim buffer, once."""
    head = b"\x82\xff" + struct.pack(">Q", 10 << 30) + ZERO_KEY
    floods = [
        (b"GET /fray HTTP/1.1\r\n", b"X-Filler: " + b"y" * 1000 + b"\r\n"),
        (http("Content-Length: 10737418240", line="POST /fray HTTP/1.1"), bytes(65536)),
        (http(*UPGRADE), head + bytes(65536)),
        (http(*UPGRADE), frame(bytes(125), 0x89) * 100),
        (bytes(65536), bytes(65536)),
    ]
    for start, more in floods:
        raw = await Raw.connect(address)
        with contextlib.suppress(ConnectionError, TimeoutError):
            await raw.send(start)
            async with asyncio.timeout(0.3):
                for _ in range(300):
                    await raw.send(more)
        raw.hang_up()


async def test_memory_stays_constant_under_attack(caplog: pytest.LogCaptureFixture):
    victim = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        textwrap.dedent(VICTIM),
        type(asyncio.get_running_loop()).__module__.partition(".")[0],
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    transport = WebSocketTransport(
        SystemClock(), authenticator=TokenAuthenticator(TOKEN), token=TOKEN
    )
    try:
        assert victim.stdout is not None
        address = (await victim.stdout.readline()).decode().strip()
        healthy = await dial(transport, address)
        healthy.link.send([bytes(MIB)])
        await healthy.until(lambda: len(healthy.messages) == 1)
        await attack(address)  # the first round also fills caches and pools
        before = psutil.Process(victim.pid).memory_info().rss
        for _ in range(4):
            await asyncio.gather(*(attack(address) for _ in range(5)))
        grown = psutil.Process(victim.pid).memory_info().rss - before
        healthy.link.send([bytes(MIB)])
        await healthy.until(lambda: len(healthy.messages) == 2)
        print("GROWN", grown)
        assert grown < 12 * MIB
    finally:
        await transport.close()
        victim.kill()
        await victim.wait()
