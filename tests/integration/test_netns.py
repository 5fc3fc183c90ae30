"""The instruments of the tests over real networks do what they say."""

from __future__ import annotations

import asyncio
import signal
import socket
import subprocess
import sys
from collections.abc import Generator
from typing import TYPE_CHECKING

import pytest

from tests.integration import netns
from tests.integration.proxy import MARK, proxying
from tests.integration.real_cluster import is_gone

if TYPE_CHECKING:
    from tests.integration.netns import Network

pytestmark = [pytest.mark.integration, pytest.mark.timeout(60)]

PATIENCE_S = 0.5
"""Over a cable of the same machine everything that arrives has arrived by then."""

needs_namespaces = pytest.mark.skipif(
    (why := netns.unavailable()) is not None, reason=why or "there are network namespaces"
)


@pytest.fixture
def net() -> Generator[Network]:
    with netns.network("a", "b") as net:
        yield net


def connect(net: Network) -> tuple[socket.socket, socket.socket]:
    """A connection from a to b, and its other end."""
    with net["b"].entered():
        listener = socket.create_server((net["b"].address, 0))
    with listener, net["a"].entered():
        near = socket.create_connection(listener.getsockname(), timeout=5)
        far, _ = listener.accept()
    near.settimeout(PATIENCE_S)
    far.settimeout(PATIENCE_S)
    return near, far


def arrives(sender: socket.socket, receiver: socket.socket, data: bytes = b"x") -> bool:
    sender.sendall(data)
    try:
        return bool(receiver.recv(100))
    except TimeoutError:
        return False


@needs_namespaces
def test_a_partition_lets_nothing_through_until_it_heals(net: Network):
    near, far = connect(net)
    with near, far:
        assert arrives(near, far)
        with net.parted(net["a"], net["b"]):
            assert not arrives(near, far)
            assert not arrives(far, near)
        near.settimeout(10)  # until the kernel tries again
        far.settimeout(10)
        assert (near.recv(1), far.recv(1)) == (b"x", b"x")


@needs_namespaces
def test_a_one_way_partition_lets_the_other_way_through(net: Network):
    near, far = connect(net)
    with near, far, net.parted(net["a"], net["b"], one_way=True):
        assert arrives(far, near)
        assert not arrives(near, far)


@needs_namespaces
def test_a_reset_is_heard_at_both_ends(net: Network):
    near, far = connect(net)
    with near, far:
        assert net.connections(net["a"], net["b"]) == 1
        net.reset(net["a"], net["b"])
        assert net.connections(net["a"], net["b"]) == 0
        for end in (near, far):
            with pytest.raises(ConnectionError):
                end.recv(1)


@needs_namespaces
def test_what_a_killed_run_left_behind_is_removed_with_all_that_runs_there():
    code = (
        "import os, subprocess, sys\n"
        "from tests.integration.netns import Network\n"
        "net = Network(['a', 'b']); net.open()\n"
        "print(*[h.namespace for h in net.hosts.values()])\n"
        "child = subprocess.Popen([*net['a'].prefix, 'sleep', '3600'], stdout=subprocess.DEVNULL)\n"
        "print(child.pid, flush=True); os.kill(os.getpid(), 9)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, timeout=30, check=False
    )
    assert done.returncode == -signal.SIGKILL
    names, pid = done.stdout.splitlines()
    assert netns.present(*names.split()) == names.split()
    with netns.network("mine") as mine:
        assert netns.present(*names.split()) == []
        assert is_gone(int(pid))
        assert netns.present(mine["mine"].namespace)  # whose owner lives
    assert netns.present(mine["mine"].namespace) == []


# ---- the proxy


class Echo:
    """A server that sends back what it gets."""

    def __init__(self) -> None:
        self.resets = 0
        self.ends = 0

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(1 << 16):
                writer.write(data)
                await writer.drain()
            self.ends += 1
        except ConnectionError:
            self.resets += 1
        finally:
            writer.close()


async def gets(reader: asyncio.StreamReader, count: int) -> bytes | None:
    try:
        async with asyncio.timeout(PATIENCE_S):
            return await reader.readexactly(count)
    except TimeoutError:
        return None


async def test_a_proxy_delays_stalls_and_drops():
    echo = Echo()
    loop = asyncio.get_running_loop()
    async with (
        await asyncio.start_server(echo, "127.0.0.1", 0) as server,
        proxying("{}:{}".format(*server.sockets[0].getsockname())) as proxy,
    ):
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        writer.write(b"a")
        assert await gets(reader, 1) == b"a"
        proxy.up.delay_s, proxy.up.jitter_s = 0.1, 0.05
        begin = loop.time()
        for piece in (b"b", b"c", b"d"):
            writer.write(piece)
            await asyncio.sleep(0.001)
        assert await gets(reader, 3) == b"bcd"
        assert loop.time() - begin > 0.04
        proxy.up.delay_s = proxy.up.jitter_s = 0.0
        proxy.down.stall()
        writer.write(b"e")
        assert await gets(reader, 1) is None
        proxy.down.resume()
        assert await gets(reader, 1) == b"e"
        proxy.down.bytes_per_s = 1e6
        begin = loop.time()
        writer.write(bytes(300_000))
        await reader.readexactly(300_000)
        assert loop.time() - begin > 0.2
        proxy.drop_all(half_open=True)
        with pytest.raises(ConnectionError):
            await reader.readexactly(1)
        assert (echo.resets, echo.ends) == (0, 0)  # that side has heard nothing
        proxy.drop_all()
        async with asyncio.timeout(5):
            while not echo.resets:
                await asyncio.sleep(0.001)
        writer.close()


@needs_namespaces
async def test_a_detour_leads_through_the_proxy_to_where_it_was_meant_to_go(net: Network):
    with net["b"].entered():
        server = await asyncio.start_server(Echo(), net["b"].address, 0)
    port = server.sockets[0].getsockname()[1]
    with net["a"].entered():
        async with server, proxying(accepts=lambda number: number != 1) as proxy:
            there = f"{net['b'].address}:{port}"
            with net.detour(net["a"], there, proxy.port, mark=MARK):
                reader, writer = await asyncio.open_connection(net["b"].address, port)
                writer.write(b"x")
                assert await gets(reader, 1) == b"x"
                writer.close()
                with pytest.raises(ConnectionError):
                    refused, other = await asyncio.open_connection(net["b"].address, port)
                    try:
                        await refused.readexactly(1)
                    finally:
                        other.close()
            assert proxy.accepted == 2
            reader, writer = await asyncio.open_connection(net["b"].address, port)
            writer.write(b"y")
            assert await gets(reader, 1) == b"y"
            writer.close()
        assert proxy.accepted == 2
