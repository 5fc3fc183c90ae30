"""The websocket transport over real loopback sockets, on both event loops."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import signal
import socket
import struct
import subprocess
import sys
import textwrap
import warnings
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import uvloop

from fray.errors import ConnectionRefused
from fray.runtime.auth import TokenAuthenticator
from fray.runtime.clock import SystemClock
from fray.runtime.transport import Principal
from fray.runtime.websocket import WebSocketTransport
from fray.runtime.wslink import HIGH_WATER_BYTES, LinkState, WebSocketLink
from tests.runtime.transport_conformance import (
    Echo,
    Hall,
    Pair,
    Recorder,
    TransportConformance,
    connect,
    dial,
)

ROOT = Path(__file__).resolve().parents[2]
TOKEN = "open-sesame"
ALICE = Principal(user="Alice Ω/1", role="user")

pytestmark = pytest.mark.filterwarnings("ignore:Overriding the .event_loop_policy.")


@pytest.fixture(params=["asyncio", "uvloop"])
def event_loop_policy(request: pytest.FixtureRequest) -> asyncio.AbstractEventLoopPolicy:
    if request.param == "uvloop":
        return uvloop.EventLoopPolicy()
    return asyncio.DefaultEventLoopPolicy()


def transport(token: str = TOKEN, **options: float) -> WebSocketTransport:
    return WebSocketTransport(
        SystemClock(), authenticator=TokenAuthenticator(TOKEN, ALICE), token=token, **options
    )


@pytest.fixture
async def pair() -> AsyncIterator[Pair]:
    both = Pair(transport(), transport(), "127.0.0.1")
    yield both
    await both.dialler.close()
    await both.acceptor.close()
    assert len(asyncio.all_tasks()) == 1, "a task is left behind"


class TestConformance(TransportConformance):
    pass


# --- addresses


async def test_the_door_says_its_real_port(pair: Pair):
    hall = Hall()
    host, _, port = (await hall.open(pair)).rpartition(":")
    assert host == "127.0.0.1"
    assert int(port) > 0


async def test_an_ipv6_address_is_written_in_brackets():
    end = transport()
    hall = Hall(Echo)
    try:
        address = await hall.open(Pair(end, end, "::1"))
    except OSError:
        pytest.skip("no IPv6 here")
    assert address.startswith("[::1]:")
    near = await dial(end, address)
    near.link.send([b"x"])
    await near.until(lambda: near.messages)
    assert (await hall.arrival()).link.remote.startswith("[::1]:")
    await end.close()


async def test_a_port_in_use_is_an_os_error(pair: Pair):
    hall = Hall()
    port = int((await hall.open(pair)).rpartition(":")[2])
    with pytest.raises(OSError, match=r"(?i)address.*in use"):
        await pair.dialler.listen(pair.host, port, Recorder)


@pytest.mark.parametrize(
    "address",
    ["localhost", "a b:1", "user@host:1", "host/x:1", "host?:1", "::1:80", "h:0", "h:70000", "h:²"],
)
async def test_what_is_no_address_is_not_made_part_of_a_url(pair: Pair, address: str):
    with pytest.raises(OSError, match="not host:port"):
        await dial(pair.dialler, address)


async def test_a_name_that_does_not_resolve_is_an_os_error(pair: Pair):
    with pytest.raises(OSError, match=r"cannot reach no-such-host\.invalid:80"):
        await dial(pair.dialler, "no-such-host.invalid:80")


async def test_who_does_not_listen_is_named(pair: Pair):
    hall = Hall()
    address = await hall.open(pair)
    await hall.listener.close()
    with pytest.raises(ConnectionRefusedError, match=f"cannot reach {address}"):
        await dial(pair.dialler, address)


# --- principals and tokens


async def test_both_ends_know_who_the_dialler_is(pair: Pair):
    near, far = await connect(pair)
    assert near.link.principal == far.link.principal == ALICE


async def test_the_token_is_asked_for_at_each_dialling():
    tokens = iter(["wrong", TOKEN])
    dialler = WebSocketTransport(
        SystemClock(), authenticator=TokenAuthenticator(TOKEN), token=lambda _: next(tokens)
    )
    hall = Hall()
    acceptor = transport()
    address = await hall.open(Pair(acceptor, dialler, "127.0.0.1"))
    with pytest.raises(ConnectionRefused):
        await dial(dialler, address)
    await dial(dialler, address)
    await dialler.close()
    await acceptor.close()


async def test_a_wrong_token_is_explained(pair: Pair):
    hall = Hall()
    address = await hall.open(pair)
    stranger = WebSocketTransport(
        SystemClock(),
        authenticator=TokenAuthenticator(TOKEN),
        token="other",
        token_origin="the token in ~/.fray/clusters/test/token",
    )
    with pytest.raises(ConnectionRefused) as caught:
        await dial(stranger, address)
    assert caught.value.status == 401
    assert address in str(caught.value)
    assert "token is not valid here" in str(caught.value)
    assert "The token in ~/.fray/clusters/test/token is not this cluster's" in str(caught.value)
    assert hall.accepted == []
    await stranger.close()


async def test_a_token_that_no_header_can_carry_is_refused_before_it_is_sent(pair: Pair):
    address = await Hall().open(pair)
    stranger = transport(token="secret\n")
    with pytest.raises(ConnectionRefused, match="line end") as caught:
        await dial(stranger, address)
    assert "secret" not in str(caught.value)
    await stranger.close()


async def test_who_gives_up_before_the_answer_costs_a_line_and_no_traceback(
    pair: Pair, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.INFO, "fray")
    host, _, port = (await Hall().open(pair)).rpartition(":")
    asking = (
        f"GET /fray HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {TOKEN}\r\n"
        "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Protocol: fray.1\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    with socket.create_connection((host, int(port))) as impatient:  # the other side's loop stands
        impatient.sendall(asking.encode())
    async with asyncio.timeout(5):
        while "was gone before it was answered" not in caplog.text:
            await asyncio.sleep(0.01)
    assert not [each for each in caplog.records if each.levelno >= logging.ERROR]


# --- who answers is not fray


@contextlib.asynccontextmanager
async def answering(answer: bytes | None, asked: asyncio.Event | None = None) -> AsyncIterator[str]:
    """The address of a server that answers every request alike, or never."""
    served: list[asyncio.Task[None] | None] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        served.append(asyncio.current_task())
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            if asked is not None:
                asked.set()
            if answer is None:
                await reader.read()
            else:
                writer.write(answer)
                await writer.drain()
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    server.close()
    await asyncio.wait([task for task in served if task is not None])


UPGRADED = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"


@pytest.mark.parametrize(
    ("answer", "status", "words"),
    [
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", 404, "not fray"),
        (b"HTTP/1.1 403 Forbidden\r\nContent-Length: 3\r\n\r\nno!", 403, "no!"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", 200, "a fray process"),
        (b"HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n", 302, "302"),
        (b"SSH-2.0-OpenSSH_9.6\r\n", 0, "not HTTP"),
        (UPGRADED + b"\r\n", 0, "Sec-WebSocket-Accept"),
        (UPGRADED.replace(b"websocket", b"h2c") + b"\r\n", 0, "something else"),
    ],
)
async def test_a_server_that_is_not_fray_is_refused_with_advice(
    pair: Pair, answer: bytes, status: int, words: str
):
    async with answering(answer) as address:
        with pytest.raises(ConnectionRefused) as caught:
            await dial(pair.dialler, address)
    assert caught.value.status == status
    assert address in str(caught.value)
    assert words in str(caught.value)


async def test_a_server_that_hangs_up_is_an_os_error(pair: Pair):
    async with answering(b"") as address:
        with pytest.raises(ConnectionResetError, match=address):
            await dial(pair.dialler, address)


async def test_a_server_that_never_answers_is_given_up():
    impatient = transport(dial_timeout_s=0.05)
    async with answering(None) as address:
        with pytest.raises(TimeoutError, match=f"{address} did not open a link within 0.05 s"):
            await dial(impatient, address)
        await impatient.close()


async def test_closing_the_transport_ends_a_dialling_that_is_under_way(pair: Pair):
    asked = asyncio.Event()
    async with answering(None, asked) as address, asyncio.TaskGroup() as group:
        dialling = group.create_task(expect_os_error(dial(pair.dialler, address)))
        await asked.wait()
        await pair.dialler.close()
        await dialling


async def expect_os_error(awaitable) -> None:
    with pytest.raises(OSError):
        await awaitable


# --- the socket


async def test_keep_alive_is_on_at_both_ends_and_delays_are_off(pair: Pair):
    near, far = await connect(pair)
    for end in (near, far):
        assert isinstance(end.link, WebSocketLink)
        sock = end.link._transport.get_extra_info("socket")
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        idle_s, interval_s, probes = (
            sock.getsockopt(socket.IPPROTO_TCP, option)
            for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
        )
        assert idle_s == 5  # a peer that was started again says so at the next probe
        assert idle_s + interval_s * probes == 180  # one that is silent is given up then
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0


async def test_what_is_unsent_stays_near_the_high_water_mark(pair: Pair):
    near, far = await connect(pair)
    message = bytes(100_000)
    while near.link.send([message]):
        pass
    unsent = near.link._transport.get_write_buffer_size()
    assert HIGH_WATER_BYTES < unsent < HIGH_WATER_BYTES + 2 * len(message)
    assert f"{unsent} bytes unsent" in repr(near.link)
    await near.until(lambda: near.writables)
    near.link.close()
    assert await far.until_lost() is None


async def test_a_peer_that_does_not_answer_a_close_is_cut_off(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("fray.runtime.wslink.CLOSE_TIMEOUT_S", 0.05)
    near, far = await connect(pair)
    far.link._transport.pause_reading()
    near.link.close()
    exc = await near.until_lost()
    assert isinstance(exc, TimeoutError)
    assert "did not answer the close" in str(exc)
    far.link._transport.resume_reading()
    await far.until_lost()


async def test_a_reason_is_logged_at_the_other_end(pair: Pair, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.DEBUG, "fray.runtime.wslink")
    near, far = await connect(pair)
    near.link.close("going home")
    await far.until_lost()
    assert "going home" in caplog.text


async def test_a_failing_handler_is_logged_with_the_peers_address(
    pair: Pair, caplog: pytest.LogCaptureFixture
):
    class Broken(Recorder):
        def message_received(self, data: memoryview) -> None:
            raise ZeroDivisionError("a bug")

    near, far = await connect(pair, Broken)
    near.link.send([b"x"])
    await far.until_lost()
    assert far.link.remote in caplog.text
    assert "ZeroDivisionError" in caplog.text


async def test_a_link_that_is_gone_holds_no_memory(pair: Pair):
    near, _ = await connect(pair)
    near.link.abort()
    await near.until_lost()
    assert near.link.state is LinkState.ENDED
    assert len(near.link._decoder._memory) == 0


# --- processes

PEER = """
    import asyncio, sys
    from fray.runtime.auth import TokenAuthenticator
    from fray.runtime.clock import SystemClock
    from fray.runtime.websocket import WebSocketTransport

    class Quiet:
        def message_received(self, data): pass
        def writable(self): pass
        def link_lost(self, exc): print("lost", flush=True)

    async def main():
        end = WebSocketTransport(
            SystemClock(), authenticator=TokenAuthenticator("open-sesame"), token="open-sesame"
        )
        link = await end.dial(sys.argv[1], lambda link: Quiet())
        link.send([b"hello"])
        await asyncio.Event().wait()

    asyncio.run(main())
"""


async def test_a_peer_process_that_is_killed_is_noticed(pair: Pair):
    hall = Hall()
    address = await hall.open(pair)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", textwrap.dedent(PEER), address, cwd=ROOT
    )
    try:
        far = await hall.arrival()
        await far.until(lambda: far.messages)
        process.send_signal(signal.SIGKILL)
        exc = await far.until_lost()
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    assert isinstance(exc, ConnectionResetError)
    assert far.lost == [exc]


def test_importing_the_transport_does_not_import_aiohttp():
    code = "import sys, fray.runtime.websocket; print('aiohttp' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "False", done.stderr


async def test_nothing_is_left_unclosed():
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        for _ in range(3):
            end = transport()
            hall = Hall(Echo)
            address = await hall.open(Pair(end, end, "127.0.0.1"))
            near = await dial(end, address)
            near.link.send([bytes(1 << 20)])
            await dial(end, address)
            await end.close()
            del near, hall, end
        gc.collect()
    assert [str(each.message) for each in seen if each.category is ResourceWarning] == []


async def test_many_transports_live_side_by_side():
    ends = [transport() for _ in range(10)]
    halls = [Hall(Echo) for _ in ends]
    addresses = [
        await hall.open(Pair(end, end, "127.0.0.1")) for end, hall in zip(ends, halls, strict=True)
    ]
    for end in ends:
        for near in await asyncio.gather(*(dial(end, address) for address in addresses)):
            near.link.send([b"x"])
            await near.until(lambda near=near: near.messages)
    await asyncio.gather(*(end.close() for end in ends))


async def test_a_link_survives_the_close_of_its_door_until_the_transport_closes(pair: Pair):
    hall = Hall(Echo)
    near = await dial(pair.dialler, await hall.open(pair))
    await hall.listener.close()
    near.link.send([b"x"])
    await near.until(lambda: near.messages)
    await pair.acceptor.close()
    assert isinstance(await near.until_lost(), ConnectionResetError)


async def test_nothing_is_written_after_a_write_has_failed(
    pair: Pair, caplog: pytest.LogCaptureFixture
):
    hall = Hall()
    near = await dial(pair.dialler, await hall.open(pair))
    far = await hall.arrival()
    raw = far.link._transport.get_extra_info("socket")
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    far.link.abort()
    await asyncio.sleep(0)  # the connection is reset now, and near's loop has not looked yet
    for _ in range(20):
        near.link.send([b"x"])
    await near.until(lambda: near.lost)
    assert "socket.send() raised exception" not in caplog.text
