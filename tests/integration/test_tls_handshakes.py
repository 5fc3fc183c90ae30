"""Connections that do not finish their TLS handshake: they are bounded, and disturb nobody.

Over real sockets. The certificates are made here, by the authority that clusters have.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import resource
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

import pytest
import uvloop

from fray.cluster.security.authority import Authority, new_authority
from fray.runtime.auth import TokenAuthenticator
from fray.runtime.clock import SystemClock
from fray.runtime.tls import Tls
from fray.runtime.websocket import WebSocketTransport
from tests.integration.test_hostile_peers import TOKEN, Raw, Siege
from tests.runtime.transport_conformance import Echo, Hall, Pair, dial

PENDING_MAX = 20

pytestmark = [
    pytest.mark.integration,
    pytest.mark.filterwarnings("ignore:Overriding the .event_loop_policy."),
]


@pytest.fixture(params=["asyncio", "uvloop"])
def event_loop_policy(request: pytest.FixtureRequest) -> asyncio.AbstractEventLoopPolicy:
    if request.param == "uvloop":
        return uvloop.EventLoopPolicy()
    return asyncio.DefaultEventLoopPolicy()


@pytest.fixture(params=[10.0])
async def siege(
    request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture
) -> AsyncIterator[Siege]:
    caplog.set_level(logging.WARNING)
    authority = Authority(*new_authority("test", SystemClock()), SystemClock())
    tls = Tls(authority.der, lambda address: "127.0.0.1")
    tls.show(*authority.issue("127.0.0.1"))
    transport = WebSocketTransport(
        SystemClock(),
        authenticator=TokenAuthenticator(TOKEN),
        token=TOKEN,
        handshake_timeout_s=request.param,
        strangers_max=PENDING_MAX,
        tls=tls,
    )
    hall = Hall(Echo)
    address = await hall.open(Pair(transport, transport, "127.0.0.1"))
    siege = Siege(transport, hall, address, await dial(transport, address), caplog, [])
    await hall.arrival()
    yield siege
    await siege.all_is_well()
    await transport.close()
    for raw in siege.raws:
        await raw.gone()
    assert len(asyncio.all_tasks()) == 1, "a task is left behind"


def hello() -> bytes:
    """The first flight of a client that means well."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    with pytest.raises(ssl.SSLWantReadError):
        context.wrap_bio(incoming, outgoing, server_hostname="x").do_handshake()
    return outgoing.read()


@pytest.mark.parametrize("siege", [0.3], indirect=True)
@pytest.mark.parametrize("sent", [b"", hello()[:7], hello()], ids=["silent", "half", "no finish"])
async def test_a_handshake_that_is_not_finished_is_cut_off(siege: Siege, sent: bytes):
    raw = await siege.attacker()
    await raw.send(sent)
    await raw.everything()  # which ends
    assert "no TLS handshake within 0.3 s" in siege.log


async def test_those_who_never_shake_hands_are_bounded_and_keep_nobody_out(siege: Siege):
    raws = [await siege.attacker() for _ in range(PENDING_MAX + 15)]
    newcomer = await dial(siege.transport, siege.address)
    newcomer.link.send([b"x"])
    await newcomer.until(lambda: newcomer.messages)
    for raw in raws[:15]:
        assert await raw.everything() == b""
    assert f"{PENDING_MAX} newer connections shake hands, too" in siege.log


async def test_a_flood_that_goes_on_keeps_nobody_out(siege: Siege):
    stop = asyncio.Event()

    async def flood() -> None:
        while not stop.is_set():
            await siege.attacker()

    flooding = [asyncio.create_task(flood()) for _ in range(4)]
    try:
        for _ in range(5):
            newcomer = await dial(siege.transport, siege.address)
            newcomer.link.send([b"x"])
            await newcomer.until(lambda newcomer=newcomer: newcomer.messages)
            newcomer.link.close()
            await newcomer.until_lost()
    finally:
        stop.set()
        await asyncio.gather(*flooding)


@contextmanager
def one_more_file() -> Iterator[None]:
    """This process can open one file more, and no second one."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(name) for name in os.listdir("/proc/self/fd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 3, before[1]))
    taken: list[int] = []
    try:
        with contextlib.suppress(OSError):
            while True:
                taken.append(os.open(os.devnull, os.O_RDONLY))
        os.close(taken.pop())
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
        for fd in taken:
            os.close(fd)


async def test_a_process_that_can_have_no_more_connections_drops_the_oldest(siege: Siege):
    raws = [await siege.attacker() for _ in range(3)]
    host, _, port = siege.address.rpartition(":")
    with one_more_file(), socket.create_connection((host, int(port))):
        assert await raws[0].everything() == b""
    assert "Too many open files" in siege.log
    assert "this process can have no more connections" in siege.log


async def test_plain_http_is_told_as_such(siege: Siege):
    raw = await siege.attacker()
    await raw.send(b"GET /fray HTTP/1.1\r\nHost: x\r\n\r\n")
    await raw.everything()
    assert "it spoke plain HTTP, and this port speaks TLS" in siege.log


async def test_a_door_that_closes_drops_those_that_shake_hands_and_frees_its_port(siege: Siege):
    hall = Hall()
    pair = Pair(siege.transport, siege.transport, "127.0.0.1")
    address = await hall.open(pair)
    raw = await Raw.connect(address)
    siege.raws.append(raw)
    await hall.listener.close()
    assert await raw.everything() == b""
    port = int(address.rpartition(":")[2])
    again = await siege.transport.listen("127.0.0.1", port, lambda link: Echo(link))
    await again.close()
